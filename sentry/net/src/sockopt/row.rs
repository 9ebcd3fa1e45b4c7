//! What a row of the option tables is: an option's number, the layout of its value, how much of it is there, and what setting and
//! reading it does. setsockopt(2), getsockopt(2) and `docs/compat/sockopt.md` are made from the rows and from nothing else.

use bitflags::bitflags;
use netstack::socket::options::{Asks, DatagramOption, Level, OptionValue, Told};
use sentry_abi::Errno;
use sentry_abi::socket::SOL_IP;
use sentry_kernel::Result;
use sentry_kernel::cred::Credentials;

use super::common::Common;
use super::value;
use crate::inet::InetSocket;

bitflags! {
    /// Sorts of sockets.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Sorts: u16 {
        /// SOCK_STREAM of an internet family.
        const TCP = 1;
        /// SOCK_DGRAM with UDP.
        const UDP = 1 << 1;
        /// SOCK_DGRAM with ICMP or ICMPv6.
        const PING = 1 << 2;
        /// SOCK_RAW of an internet family.
        const RAW = 1 << 3;
        /// AF_UNIX.
        const UNIX = 1 << 4;
        /// AF_NETLINK.
        const NETLINK = 1 << 5;
        /// AF_PACKET.
        const PACKET = 1 << 6;
        /// The internet families' message sockets.
        const MESSAGES = Self::UDP.bits() | Self::PING.bits() | Self::RAW.bits();
        /// The internet families.
        const INET = Self::TCP.bits() | Self::MESSAGES.bits();
    }
}

/// How much of an option is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// As on Linux, as far as a program can tell.
    Full,
    /// A part; the note says what is missing.
    Partial,
    /// Answers an error that Linux would give; the note says why.
    Refused,
}

/// How the bytes that a program gives become a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// An int; EINVAL for fewer than four bytes.
    Int,
    /// An int, or a byte where there are fewer than four; zero for none (the rule of ip(7)).
    IntOrByte,
    /// The same, with EINVAL for none.
    SomeIntOrByte,
    /// An int; zero for fewer than four bytes.
    IntOrZero,
}

/// A socket as the tables see it.
pub trait Target {
    /// What is stored for it.
    fn options(&self) -> &Common;

    /// The internet socket, if it is one.
    fn inet(&self) -> Option<&InetSocket> {
        None
    }
}

/// One call of setsockopt(2) or getsockopt(2).
pub struct Call<'a> {
    /// The socket.
    pub socket: &'a dyn Target,
    /// Who asks; nobody in particular for a read.
    pub creds: Option<&'a Credentials>,
    /// SOL_*
    pub level: i32,
    /// The option's row.
    pub row: &'static Row,
    /// What the program's buffer holds: the value, or for a read what was there before, as long as there is room.
    pub bytes: &'a [u8],
}

/// Checks a number and gives what is kept of it.
pub type Take = fn(&Call<'_>, i32) -> Result<i64>;
/// Sets a value of its own layout.
pub type Set = fn(&Call<'_>) -> Result<()>;
/// Makes a value of its own layout.
pub type Get = fn(&Call<'_>) -> Result<Vec<u8>>;

/// A row.
pub struct Row {
    /// The name in the manual.
    pub name: &'static str,
    /// Its number at its level.
    pub number: i32,
    /// How much is there.
    pub support: Support,
    /// What is missing, or what is odd about it.
    pub note: &'static str,
    /// What the value looks like, for the page.
    pub layout: &'static str,
    /// The sockets that have it; others answer `elsewhere`.
    pub sorts: Sorts,
    /// What other sockets answer to setting and to reading it.
    pub elsewhere: (Errno, Errno),
    /// The sockets that can set it, where others can read it all the same, and what those answer.
    pub setters: (Sorts, Errno),
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    Number(Number),
    Own { set: Option<Set>, get: Option<Get> },
    Refused { set: Errno, get: Errno },
}

#[derive(Clone, Copy)]
struct Number {
    shape: Shape,
    take: Take,
    default: i64,
    live: Option<fn(&Call<'_>) -> Result<i64>>,
    tell: Option<fn(i64) -> OptionValue>,
    inert: Sorts,
    readable: bool,
}

/// An option whose value is a number that `take` checks.
pub const fn number(name: &'static str, number: i32, shape: Shape, take: Take) -> Row {
    let how = How::Number(Number {
        shape,
        take,
        default: 0,
        live: None,
        tell: None,
        inert: Sorts::empty(),
        readable: true,
    });
    Row::new(name, number, "int", how)
}

/// An option that is on or off: any number but zero is on.
pub const fn flag(name: &'static str, number: i32, shape: Shape) -> Row {
    let mut row = self::number(name, number, shape, |_, n| Ok(i64::from(n != 0)));
    row.layout = "flag";
    row
}

/// An option that is on or off: EINVAL for a number that is neither zero nor one.
pub const fn zero_or_one(name: &'static str, number: i32, shape: Shape) -> Row {
    let mut row = self::number(name, number, shape, |_, n| match n {
        0 | 1 => Ok(i64::from(n)),
        _ => Err(Errno::EINVAL.into()),
    });
    row.layout = "0 or 1";
    row
}

/// What the stack is told of an option that asks for something with each message.
pub fn told(level: Level, what: Asks, kept: i64) -> OptionValue {
    DatagramOption::Tell(Told { level, what, on: kept != 0 }).into()
}

/// A flag that asks for something to be told with each message; a stream keeps it and has no messages.
macro_rules! asks {
    ($number:ident, $shape:expr, $level:expr, $what:expr) => {
        $crate::sockopt::row::flag(stringify!($number), $number, $shape)
            .tells(|n| $crate::sockopt::row::told($level, $what, n))
            .inert($crate::sockopt::row::Sorts::TCP)
    };
}
pub(super) use asks;

/// A number that can only be read.
pub const fn shown(name: &'static str, number: i32, live: fn(&Call<'_>) -> Result<i64>) -> Row {
    let row = self::number(name, number, Shape::IntOrZero, |_, _| Err(Errno::ENOPROTOOPT.into()));
    row.live(live)
}

/// An option with a layout of its own; `None` answers ENOPROTOOPT.
pub const fn own(
    name: &'static str,
    number: i32,
    layout: &'static str,
    set: Option<Set>,
    get: Option<Get>,
) -> Row {
    Row::new(name, number, layout, How::Own { set, get })
}

/// An option that is not there: what Linux answers where its build, its hardware or the caller's rights lack it.
pub const fn refused(name: &'static str, number: i32, errno: Errno, note: &'static str) -> Row {
    let mut row = Row::new(name, number, "", How::Refused { set: errno, get: errno });
    row.support = Support::Refused;
    row.note = note;
    row
}

impl Row {
    const fn new(name: &'static str, number: i32, layout: &'static str, how: How) -> Row {
        Row {
            name,
            number,
            support: Support::Full,
            note: "",
            layout,
            sorts: Sorts::all(),
            elsewhere: (Errno::ENOPROTOOPT, Errno::ENOPROTOOPT),
            setters: (Sorts::all(), Errno::ENOPROTOOPT),
            how,
        }
    }

    const fn numeric(&self) -> Number {
        match self.how {
            How::Number(number) => number,
            _ => panic!("this row is no number"),
        }
    }

    /// The value before it is set.
    pub const fn default(mut self, default: i64) -> Row {
        self.how = How::Number(Number { default, ..self.numeric() });
        self
    }

    /// Where the value to read is not what was set.
    pub const fn live(mut self, live: fn(&Call<'_>) -> Result<i64>) -> Row {
        self.how = How::Number(Number { live: Some(live), ..self.numeric() });
        self
    }

    /// What of it the stack is told.
    pub const fn tells(mut self, tell: fn(i64) -> OptionValue) -> Row {
        self.how = How::Number(Number { tell: Some(tell), ..self.numeric() });
        self
    }

    /// The sockets for which Linux stores it and never looks at it again.
    pub const fn inert(mut self, inert: Sorts) -> Row {
        self.how = How::Number(Number { inert, ..self.numeric() });
        self
    }

    /// getsockopt(2) does not know it.
    pub const fn unreadable(mut self) -> Row {
        self.how = How::Number(Number { readable: false, ..self.numeric() });
        self
    }

    /// What reading a refused option answers, where that is another error.
    pub const fn reads(mut self, get: Errno) -> Row {
        if let How::Refused { set, .. } = self.how {
            self.how = How::Refused { set, get };
        }
        self
    }

    /// Only these sockets have it; what the others answer to setting and to reading it.
    pub const fn only(mut self, sorts: Sorts, set: Errno, get: Errno) -> Row {
        self.sorts = sorts;
        self.elsewhere = (set, get);
        self
    }

    /// Others can read it, but only these can set it.
    pub const fn only_set(mut self, sorts: Sorts, errno: Errno) -> Row {
        self.setters = (sorts, errno);
        self
    }

    /// What is odd about it.
    pub const fn note(mut self, note: &'static str) -> Row {
        self.note = note;
        self
    }

    /// What is missing.
    pub const fn partial(mut self, note: &'static str) -> Row {
        self.support = Support::Partial;
        self.note = note;
        self
    }
}

impl Call<'_> {
    /// The internet socket. Errors: ENOPROTOOPT for one of another family.
    pub fn inet(&self) -> Result<&InetSocket> {
        self.socket.inet().ok_or_else(|| Errno::ENOPROTOOPT.into())
    }

    /// What is stored for the option, or its default.
    pub fn stored(&self) -> i64 {
        let default = match self.row.how {
            How::Number(number) => number.default,
            _ => 0,
        };
        self.socket.options().number(self.level, self.row.number).unwrap_or(default)
    }

    /// Whether the caller has one of these rights.
    pub fn may(&self, any_of: &[sentry_kernel::cred::Capabilities]) -> bool {
        self.creds.is_some_and(|creds| any_of.iter().any(|cap| creds.has(*cap)))
    }

    fn sort(&self) -> Sorts {
        self.socket.options().sort()
    }
}

fn find(rows: &'static [Row], number: i32) -> Option<&'static Row> {
    rows.binary_search_by_key(&number, |row| row.number).ok().map(|at| &rows[at])
}

/// The number in a value.
fn read_number(shape: Shape, bytes: &[u8]) -> Result<i32> {
    match (shape, bytes) {
        (_, [_, _, _, _, ..]) => value::int(bytes),
        (Shape::Int, _) | (Shape::SomeIntOrByte, []) => Err(Errno::EINVAL.into()),
        (Shape::IntOrByte | Shape::SomeIntOrByte, [byte, ..]) => Ok(i32::from(*byte)),
        (Shape::IntOrByte, []) | (Shape::IntOrZero, _) => Ok(0),
    }
}

/// setsockopt(2) with one level's table. Errors: ENOPROTOOPT for a number without a row, and those of the option.
pub fn set(
    rows: &'static [Row],
    socket: &dyn Target,
    creds: &Credentials,
    (level, number): (i32, i32),
    bytes: &[u8],
) -> Result<()> {
    let row = find(rows, number).ok_or(Errno::ENOPROTOOPT)?;
    let call = Call { socket, creds: Some(creds), level, row, bytes };
    if !row.sorts.contains(call.sort()) {
        return Err(row.elsewhere.0.into());
    }
    if !row.setters.0.contains(call.sort()) {
        return Err(row.setters.1.into());
    }
    match row.how {
        How::Refused { set, .. } => Err(set.into()),
        How::Own { set: Some(set), .. } => set(&call),
        How::Own { set: None, .. } => Err(Errno::ENOPROTOOPT.into()),
        How::Number(how) => {
            let kept = (how.take)(&call, read_number(how.shape, bytes)?)?;
            if let (Some(tell), Some(inet)) = (how.tell, socket.inet())
                && !how.inert.contains(call.sort())
            {
                inet.tell(tell(kept))?;
            }
            socket.options().put(level, number, kept);
            Ok(())
        }
    }
}

/// getsockopt(2) with one level's table; `room` is what the caller's buffer holds. Errors: ENOPROTOOPT for a number without a row, and those of the option.
pub fn get(
    rows: &'static [Row],
    socket: &dyn Target,
    (level, number): (i32, i32),
    room: &[u8],
) -> Result<Vec<u8>> {
    let row = find(rows, number).ok_or(Errno::ENOPROTOOPT)?;
    let call = Call { socket, creds: None, level, row, bytes: room };
    if !row.sorts.contains(call.sort()) {
        return Err(row.elsewhere.1.into());
    }
    match row.how {
        How::Refused { get, .. } => Err(get.into()),
        How::Own { get: Some(get), .. } => get(&call),
        How::Own { get: None, .. } => Err(Errno::ENOPROTOOPT.into()),
        How::Number(how) if !how.readable => Err(Errno::ENOPROTOOPT.into()),
        How::Number(how) => {
            let number = how.live.map_or_else(|| Ok(call.stored()), |live| live(&call))?;
            Ok(match u8::try_from(number) {
                // ip(7)'s level gives a byte to who has room for no int.
                Ok(byte) if level == SOL_IP && (1..4).contains(&room.len()) => vec![byte],
                _ => value::from_int(number as i32),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_numbers_by_the_rule_of_their_level() {
        let one = 1i32.to_ne_bytes();
        for shape in [Shape::Int, Shape::IntOrByte, Shape::SomeIntOrByte, Shape::IntOrZero] {
            assert_eq!(read_number(shape, &one).unwrap(), 1);
            assert_eq!(read_number(shape, &[1, 0, 0, 0, 9]).unwrap(), 1);
        }
        assert!(read_number(Shape::Int, &[1, 0, 0]).unwrap_err().is(Errno::EINVAL));
        assert!(read_number(Shape::SomeIntOrByte, &[]).unwrap_err().is(Errno::EINVAL));
        assert_eq!(read_number(Shape::SomeIntOrByte, &[200, 1]).unwrap(), 200);
        assert_eq!(read_number(Shape::IntOrByte, &[]).unwrap(), 0);
        assert_eq!(read_number(Shape::IntOrZero, &[7, 7]).unwrap(), 0);
    }
}

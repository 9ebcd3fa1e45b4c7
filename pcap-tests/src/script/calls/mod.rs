//! System calls of a script: its descriptors, what the success of a call means, and values. Its files decode arguments, and compare
//! what was returned.

mod arguments;
mod compare;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::libc;

use super::kernel::{Handle, SystemCall};
use super::numbers;
use super::syntax::Expr;

pub use arguments::Arguments;
pub use compare::{compare, compare_waited};

/// Descriptors that a script may have open.
const MAX_DESCRIPTORS: usize = 4096;

/// What a descriptor of a script stands for.
#[derive(Clone, Debug)]
pub enum Descriptor {
    /// A socket.
    Socket(Socket),
    /// What epoll_create(2) gave: descriptors with their events and data.
    Epoll(Vec<(i64, i16, i64)>),
}

/// A socket.
#[derive(Clone, Debug)]
pub struct Socket {
    /// The kernel's.
    pub handle: Handle,
    /// SOCK_STREAM or SOCK_DGRAM.
    pub kind: i32,
    /// Bytes that were written.
    pub written: u64,
}

/// The descriptors of a script, by its numbers.
#[derive(Debug, Default)]
pub struct Descriptors {
    open: Vec<(i64, Descriptor)>,
    /// Whether some call wrote bytes of the script's own.
    pub own_bytes: bool,
}

impl Descriptors {
    /// Gives a number a meaning.
    pub fn put(&mut self, number: i64, descriptor: Descriptor) -> Result<(), String> {
        if self.get(number).is_some() {
            return Err(format!("descriptor {number} is open already"));
        }
        if self.open.len() == MAX_DESCRIPTORS {
            return Err(format!("more than {MAX_DESCRIPTORS} descriptors are open"));
        }
        self.open.push((number, descriptor));
        Ok(())
    }

    /// Forgets a number.
    pub fn remove(&mut self, number: i64) {
        self.open.retain(|(known, _)| *known != number);
    }

    /// What a number stands for.
    pub fn get(&self, number: i64) -> Option<&Descriptor> {
        self.open.iter().find(|(known, _)| *known == number).map(|(_, found)| found)
    }

    /// The socket of a number.
    pub fn socket(&self, number: i64) -> Option<&Socket> {
        match self.get(number) {
            Some(Descriptor::Socket(socket)) => Some(socket),
            _ => None,
        }
    }

    /// The same, to change.
    pub fn socket_mut(&mut self, number: i64) -> Option<&mut Socket> {
        let found = self.open.iter_mut().find(|(known, _)| *known == number);
        match found.map(|(_, found)| found) {
            Some(Descriptor::Socket(socket)) => Some(socket),
            _ => None,
        }
    }

    /// The list of an epoll descriptor.
    pub fn epoll(&mut self, number: i64) -> Option<&mut Vec<(i64, i16, i64)>> {
        let found = self.open.iter_mut().find(|(known, _)| *known == number);
        match found.map(|(_, found)| found) {
            Some(Descriptor::Epoll(list)) => Some(list),
            _ => None,
        }
    }

    /// The stream that was opened last, if any: whose TCP_INFO a script asks for.
    pub fn last_stream(&self) -> Option<Handle> {
        let streams = self.open.iter().rev().filter_map(|(_, found)| match found {
            Descriptor::Socket(socket) if socket.kind == libc::SOCK_STREAM => Some(socket.handle),
            _ => None,
        });
        streams.into_iter().next()
    }
}

/// A call ready to be made: with what is to be done by its result.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The call.
    pub call: SystemCall,
    /// The descriptor that it is about.
    pub fd: i64,
    /// What its success means.
    pub effect: Effect,
}

/// What the success of a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing but its value.
    None,
    /// The value is a socket of this type.
    NewSocket(i32),
    /// So many bytes were written.
    Written,
    /// The descriptor is no more.
    Closed,
    /// The events of a poll.
    Polled,
    /// The events of an epoll_wait, of so many at most.
    Waited(usize),
    /// A value of an option.
    Value,
    /// A number of an ioctl.
    Number,
}

type Told<T> = Result<T, String>;

/// A change of an epoll list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpollChange {
    /// A new one.
    Create,
    /// It is no more.
    Close,
    /// A descriptor with its events and data.
    Set(i64, i16, i64),
    /// A descriptor leaves it.
    Delete(i64),
}

/// The number of an expression.
pub fn value(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Number(number) => Some(*number),
        Expr::Names(names) if names[..] == ["NULL"] => Some(0),
        Expr::Names(names) => {
            names.iter().try_fold(0, |all, name| numbers::constant(name).map(|number| all | number))
        }
        _ => None,
    }
}

/// `{sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("192.0.2.1")}` and its like for IPv6.
pub fn address(expr: &Expr) -> Told<SocketAddr> {
    let what = || {
        "an address is {sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr(\"192.0.2.1\")}, or {sa_family = AF_INET6, \
         sin6_port = htons(80), inet_pton(AF_INET6, \"fd00::1\", &sin6_addr)}"
            .to_owned()
    };
    let Expr::Struct(members) = expr else { return Err(what()) };
    let (mut ip, mut port) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    for (name, value) in members {
        match (name.as_str(), value) {
            ("sin_port" | "sin6_port", Expr::Function(_, arguments)) => {
                let number = arguments.first().and_then(self::value);
                port = number.and_then(|port| u16::try_from(port).ok()).ok_or_else(what)?;
            }
            (_, Expr::Function(_, arguments)) => {
                let text = arguments.iter().find_map(|argument| match argument {
                    Expr::Text(text) => std::str::from_utf8(text).ok(),
                    _ => None,
                });
                ip = text.and_then(|text| text.parse().ok()).ok_or_else(what)?;
            }
            _ => {}
        }
    }
    Ok((ip, port).into())
}

/// The value of an option as bytes: numbers of the width that its length says, a struct's members, or a text.
fn option_bytes(expr: &Expr, len: usize) -> Told<Vec<u8>> {
    let number = |expr: &Expr, width: usize| {
        let number =
            value(expr).ok_or("an option's value is [1], {onoff=1, linger=0} or a text")?;
        Ok::<_, String>(number.to_ne_bytes()[..width].to_vec())
    };
    match expr {
        Expr::Text(text) => Ok(text[..text.len().min(len)].to_vec()),
        Expr::List(list) => {
            let width = len / list.len().max(1);
            if !matches!(width, 1 | 2 | 4 | 8) {
                return Err(format!("{} numbers do not fill {len} bytes", list.len()));
            }
            let mut bytes = Vec::new();
            for element in list {
                bytes.extend(number(element, width)?);
            }
            Ok(bytes)
        }
        Expr::Struct(members) => {
            let mut bytes = Vec::new();
            for (name, value) in members {
                // struct timeval has words of 64 bits, the others ints.
                bytes.extend(number(value, if name.starts_with("tv_") { 8 } else { 4 })?);
            }
            Ok(bytes)
        }
        _ => Err("an option's value is [1], {onoff=1, linger=0} or a text".into()),
    }
}

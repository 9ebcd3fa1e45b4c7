//! What a row of the table of settings is: a path below /proc/sys/net, how its value is read and written as text, and who keeps it.

use std::sync::Arc;

use netstack::ip::conf::ConfTarget;
use netstack::transport::Host;
use netstack::transport::tcp::TcpConfig;
use sentry_abi::Errno;
use sentry_kernel::Result;

use crate::netns::NetNamespace;
use crate::sockopt::row::Support;

/// Where a row's value is: in a namespace, and for what there is once for each interface, of which.
pub struct At<'a> {
    /// The namespace.
    pub net: &'a NetNamespace,
    /// The instance, where the path has a `*`.
    pub target: ConfTarget,
}

/// Reads one number.
pub type Get = fn(&At<'_>) -> Result<i64>;
/// Sets one number that is within the row's bounds.
pub type Set = fn(&At<'_>, i64) -> Result<()>;

/// A row.
pub struct Row {
    /// The path below /proc/sys/net; `*` stands for an interface, `default` and, under `conf`, `all`.
    pub path: &'static str,
    /// How much of it is there.
    pub support: Support,
    /// What is missing or odd.
    pub note: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// What the value looks like.
    pub value: Value,
}

/// The forms of values.
pub enum Value {
    /// A number with its bounds, both ends included.
    Number {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// Reads it.
        get: Get,
        /// Sets it.
        set: Set,
    },
    /// Several numbers between tabs; who writes fewer changes the first ones.
    Numbers {
        /// The bounds of each.
        bounds: (i64, i64),
        /// Reads them.
        get: fn(&At<'_>) -> Vec<i64>,
        /// Sets them, as many as there are.
        set: fn(&At<'_>, &[i64]) -> Result<()>,
    },
    /// Text of one line.
    Text {
        /// Reads it, without the line end.
        get: fn(&At<'_>) -> Result<String>,
        /// Sets it from the text without blanks around; `None` for what can only be read.
        set: Option<fn(&At<'_>, &str) -> Result<()>>,
    },
    /// Something to do with what is written.
    Flush(fn(&At<'_>, &[u8]) -> Result<()>),
}

const fn row(path: &'static str, mode: u32, value: Value) -> Row {
    Row { path, support: Support::Full, note: "", mode, value }
}

/// A number.
pub const fn number(path: &'static str, (min, max): (i64, i64), get: Get, set: Set) -> Row {
    row(path, 0o644, Value::Number { min, max, get, set })
}

/// Several numbers.
pub const fn numbers(
    path: &'static str,
    bounds: (i64, i64),
    get: fn(&At<'_>) -> Vec<i64>,
    set: fn(&At<'_>, &[i64]) -> Result<()>,
) -> Row {
    row(path, 0o644, Value::Numbers { bounds, get, set })
}

/// Text.
pub const fn text(
    path: &'static str,
    get: fn(&At<'_>) -> Result<String>,
    set: fn(&At<'_>, &str) -> Result<()>,
) -> Row {
    row(path, 0o644, Value::Text { get, set: Some(set) })
}

/// Text that can only be read.
pub const fn shown(path: &'static str, get: fn(&At<'_>) -> Result<String>) -> Row {
    row(path, 0o444, Value::Text { get, set: None })
}

/// What is done when anything is written; nobody can read it.
pub const fn flush(path: &'static str, flush: fn(&At<'_>, &[u8]) -> Result<()>) -> Row {
    row(path, 0o200, Value::Flush(flush))
}

impl Row {
    /// What is missing.
    pub const fn partial(mut self, note: &'static str) -> Row {
        self.support = Support::Partial;
        self.note = note;
        self
    }

    /// What is odd about it.
    pub const fn note(mut self, note: &'static str) -> Row {
        self.note = note;
        self
    }

    /// Only root may look at it.
    pub const fn private(mut self) -> Row {
        self.mode = 0o600;
        self
    }

    /// The value as a file shows it.
    pub fn read(&self, at: &At<'_>) -> Result<Vec<u8>> {
        let mut line = match &self.value {
            Value::Number { get, .. } => get(at)?.to_string(),
            Value::Numbers { get, .. } => {
                get(at).iter().map(i64::to_string).collect::<Vec<_>>().join("\t")
            }
            Value::Text { get, .. } => get(at)?,
            // Not even root may read what has no right to be read (test_perm).
            Value::Flush(_) => return Err(Errno::EACCES.into()),
        };
        line.push('\n');
        Ok(line.into_bytes())
    }

    /// Takes what a program wrote. Errors: EINVAL, EPERM for what can only be read.
    pub fn write(&self, at: &At<'_>, bytes: &[u8]) -> Result<()> {
        match &self.value {
            Value::Number { min, max, set, .. } => {
                let value = *parse(bytes, 1)?.first().ok_or(Errno::EINVAL)?;
                check(value, (*min, *max))?;
                set(at, value)
            }
            Value::Numbers { bounds, get, set } => {
                let mut all = get(at);
                let written = parse(bytes, all.len())?;
                if written.is_empty() {
                    return Err(Errno::EINVAL.into());
                }
                for (place, value) in all.iter_mut().zip(written) {
                    check(value, *bounds)?;
                    *place = value;
                }
                set(at, &all)
            }
            Value::Flush(flush) => flush(at, bytes),
            Value::Text { set, .. } => {
                let set = set.ok_or(Errno::EPERM)?;
                let line = bytes.split(|b| *b == b'\n' || *b == 0).next().unwrap_or_default();
                set(at, core::str::from_utf8(line).map_err(|_| Errno::EINVAL)?.trim())
            }
        }
    }
}

fn check(value: i64, (min, max): (i64, i64)) -> Result<()> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Errno::EINVAL.into()) }
}

/// Up to `most` numbers between blanks, each as Linux reads them: decimal, `0x` or a leading zero for octal. What follows the last
/// wanted one is not looked at. Errors: EINVAL.
pub fn parse(bytes: &[u8], most: usize) -> Result<Vec<i64>> {
    let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    text.split_ascii_whitespace().take(most).map(parse_one).collect()
}

fn parse_one(word: &str) -> Result<i64> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // No second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return Err(Errno::EINVAL.into());
    }
    let value = i64::from_str_radix(digits, radix).map_err(|_| Errno::EINVAL)?;
    Ok(if negative { -value } else { value })
}

/// Numbers that a configuration keeps in types of its own.
pub trait Number: Copy {
    /// As a file shows it.
    fn number(self) -> i64;
    /// From a number within the row's bounds.
    fn of(number: i64) -> Self;
}

macro_rules! numbers {
    ($($type:ty),*) => { $(
        impl Number for $type {
            fn number(self) -> i64 {
                i64::try_from(self).unwrap_or(i64::MAX)
            }
            fn of(number: i64) -> Self {
                // The row's bounds are those of the type.
                Self::try_from(number).unwrap_or_default()
            }
        }
    )* };
}
numbers!(u8, u32, i32, usize, u64);

impl Number for bool {
    fn number(self) -> i64 {
        i64::from(self)
    }

    fn of(number: i64) -> Self {
        number != 0
    }
}

impl At<'_> {
    /// The configuration of TCP.
    pub fn tcp(&self) -> Arc<TcpConfig> {
        self.net.stack().shared().tcp.config()
    }

    /// Changes the configuration of TCP.
    pub fn edit_tcp(&self, edit: impl FnOnce(&mut TcpConfig)) -> Result<()> {
        self.net.stack().edit_tcp_config(edit);
        Ok(())
    }
}

/// Sets of numbers as ranges: `1-3,7` (proc_do_large_bitmap).
pub mod ranges {
    use super::{Errno, Result};

    /// As text.
    pub fn show(ranges: &[(u16, u16)]) -> String {
        let one = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        ranges.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// From text. Errors: EINVAL for a number over `most`, a range that ends before it begins, and whatever is no number.
    pub fn read(text: &str, most: u16) -> Result<Vec<(u16, u16)>> {
        let number = |word: &str| -> Result<u16> {
            let value: u16 = word.trim().parse().map_err(|_| Errno::EINVAL)?;
            if value > most { Err(Errno::EINVAL.into()) } else { Ok(value) }
        };
        let words = text.split(',').filter(|word| !word.trim().is_empty());
        words
            .map(|word| {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                let (first, last) = (number(first)?, number(last)?);
                if first > last { Err(Errno::EINVAL.into()) } else { Ok((first, last)) }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_linux_reads_them() {
        for (text, read) in [("7\n", 7), (" -3 ", -3), ("0x10", 16), ("010", 8), ("0", 0)] {
            assert_eq!(parse(text.as_bytes(), 1).unwrap(), [read], "{text:?}");
        }
        assert_eq!(parse(b"1\t2 3 x", 3).unwrap(), [1, 2, 3]);
        for bad in ["x", "1x", "--1", "-", "0x", "99999999999999999999"] {
            assert!(parse(bad.as_bytes(), 1).unwrap_err().is(Errno::EINVAL), "{bad:?}");
        }
        assert!(parse(b" \n", 1).unwrap().is_empty());
    }

    #[test]
    fn ranges_go_to_text_and_back() {
        let ranges = ranges::read("80,8000-8005\n".trim(), u16::MAX).unwrap();
        assert_eq!(ranges, [(80, 80), (8000, 8005)]);
        assert_eq!(ranges::show(&ranges), "80,8000-8005");
        assert!(ranges::read("", 9).unwrap().is_empty());
        for bad in ["9-1", "10", "a", "1-"] {
            assert!(ranges::read(bad, 9).is_err(), "{bad}");
        }
    }
}

//! What is stored of a socket's options: numbers by level and option, none until one is set.

use core::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::cred::Credentials;
use sentry_kernel::sync::{Mutex, Rank};

use super::row::{self, Sorts, Target};
use super::socket;

/// net.core.wmem_default and rmem_default, in bytes.
pub const BUFFER_DEFAULT: usize = 212_992;

/// The last cookie that was given out (SO_COOKIE).
static COOKIES: AtomicU64 = AtomicU64::new(0);

/// Which times of arrival are wanted (SO_TIMESTAMP and its kin).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimeStamps {
    /// Any.
    pub wanted: bool,
    /// In nanoseconds.
    pub nanoseconds: bool,
    /// With the numbers of the 64-bit time options.
    pub new: bool,
}

/// The stored options of one socket.
#[derive(Debug)]
pub struct Common {
    sort: Sorts,
    numbers: Mutex<Vec<((i32, i32), i64)>>,
    cookie: AtomicU64,
}

impl Common {
    /// Nothing set, for a socket of a sort.
    pub fn new(sort: Sorts) -> Self {
        let numbers = Mutex::new(Rank::LEAF, Vec::new());
        Self { sort, numbers, cookie: AtomicU64::new(0) }
    }

    /// Options that start as another socket's (an accepted one inherits its listener's).
    pub fn inherit(other: &Common) -> Self {
        let numbers = Mutex::new(Rank::LEAF, other.numbers.lock().clone());
        Self { sort: other.sort, numbers, cookie: AtomicU64::new(0) }
    }

    /// The socket's sort.
    pub fn sort(&self) -> Sorts {
        self.sort
    }

    /// What was set.
    pub fn number(&self, level: i32, option: i32) -> Option<i64> {
        let numbers = self.numbers.lock();
        numbers.iter().find(|(key, _)| *key == (level, option)).map(|(_, value)| *value)
    }

    /// Whether an option is on.
    pub fn is_on(&self, level: i32, option: i32) -> bool {
        self.number(level, option).is_some_and(|value| value != 0)
    }

    /// Stores a value. There are at most as many as the tables have rows.
    pub fn put(&self, level: i32, option: i32, value: i64) {
        let mut numbers = self.numbers.lock();
        match numbers.iter_mut().find(|(key, _)| *key == (level, option)) {
            Some((_, old)) => *old = value,
            None => numbers.push(((level, option), value)),
        }
    }

    /// SO_SNDBUF in bytes.
    pub fn sndbuf(&self) -> usize {
        let set = self.number(SOL_SOCKET, SO_SNDBUF);
        set.map_or(BUFFER_DEFAULT, |bytes| usize::try_from(bytes).unwrap_or(BUFFER_DEFAULT))
    }

    /// SO_RCVBUF in bytes.
    pub fn rcvbuf(&self) -> usize {
        let set = self.number(SOL_SOCKET, SO_RCVBUF);
        set.map_or(BUFFER_DEFAULT, |bytes| usize::try_from(bytes).unwrap_or(BUFFER_DEFAULT))
    }

    /// SO_PASSCRED
    pub fn passes_credentials(&self) -> bool {
        self.is_on(SOL_SOCKET, SO_PASSCRED)
    }

    /// SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds.
    pub fn timeouts_ns(&self) -> (Option<u64>, Option<u64>) {
        let timeout = |option| match self.number(SOL_SOCKET, option) {
            None | Some(0) => None,
            // Linux: a negative time-out means not to wait at all.
            Some(ns) => Some(u64::try_from(ns).unwrap_or(0)),
        };
        (timeout(SO_RCVTIMEO_OLD), timeout(SO_SNDTIMEO_OLD))
    }

    /// SO_TIMESTAMP and its kin.
    pub fn time_stamps(&self) -> TimeStamps {
        let bits = self.number(SOL_SOCKET, SO_TIMESTAMP_OLD).unwrap_or(0);
        TimeStamps {
            wanted: bits & socket::STAMP != 0,
            nanoseconds: bits & socket::STAMP_NS != 0,
            new: bits & socket::STAMP_NEW != 0,
        }
    }

    /// SO_COOKIE: a number that no other socket has, given when it is first asked for.
    pub fn cookie(&self) -> u64 {
        let known = self.cookie.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let fresh = COOKIES.fetch_add(1, Ordering::Relaxed) + 1;
        let set = self.cookie.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
        set.map_or_else(|first| first, |_| fresh)
    }

    /// Sets an option of SOL_SOCKET, for a family that has nothing to add.
    pub fn set(&self, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
        socket::set(self, creds, name, bytes)
    }

    /// Reads an option of SOL_SOCKET, for a family that has nothing to add.
    pub fn option(&self, name: i32, room: &[u8]) -> Result<Vec<u8>> {
        row::get(socket::ROWS, self, (SOL_SOCKET, name), room)
    }
}

impl Target for Common {
    fn options(&self) -> &Common {
        self
    }
}

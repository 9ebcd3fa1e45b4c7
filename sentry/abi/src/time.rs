//! linux/time.h, linux/times.h: clocks and the structures of time calls.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::Errno;

/// CLOCK_REALTIME
pub const CLOCK_REALTIME: i32 = 0;
/// CLOCK_MONOTONIC
pub const CLOCK_MONOTONIC: i32 = 1;
/// CLOCK_PROCESS_CPUTIME_ID
pub const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
/// CLOCK_THREAD_CPUTIME_ID
pub const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
/// CLOCK_MONOTONIC_RAW
pub const CLOCK_MONOTONIC_RAW: i32 = 4;
/// CLOCK_REALTIME_COARSE
pub const CLOCK_REALTIME_COARSE: i32 = 5;
/// CLOCK_MONOTONIC_COARSE
pub const CLOCK_MONOTONIC_COARSE: i32 = 6;
/// CLOCK_BOOTTIME
pub const CLOCK_BOOTTIME: i32 = 7;
/// CLOCK_REALTIME_ALARM
pub const CLOCK_REALTIME_ALARM: i32 = 8;
/// CLOCK_BOOTTIME_ALARM
pub const CLOCK_BOOTTIME_ALARM: i32 = 9;
/// CLOCK_TAI
pub const CLOCK_TAI: i32 = 11;
/// TIMER_ABSTIME
pub const TIMER_ABSTIME: i32 = 1;
/// ITIMER_REAL
pub const ITIMER_REAL: i32 = 0;
/// ITIMER_VIRTUAL
pub const ITIMER_VIRTUAL: i32 = 1;
/// ITIMER_PROF
pub const ITIMER_PROF: i32 = 2;
/// Ticks per second of times(2) and /proc (USER_HZ).
pub const USER_HZ: u64 = 100;
/// Nanoseconds of a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;

/// `struct timespec`
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TimeSpec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999 where valid.
    pub nsec: i64,
}
const _: () = assert!(size_of::<TimeSpec>() == 16);

impl TimeSpec {
    /// From nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NSEC_PER_SEC) as i64, nsec: (ns % NSEC_PER_SEC) as i64 }
    }

    /// From signed nanoseconds (times before the epoch).
    pub const fn from_signed_ns(ns: i64) -> Self {
        let per = NSEC_PER_SEC as i64;
        Self { sec: ns.div_euclid(per), nsec: ns.rem_euclid(per) }
    }

    /// As nanoseconds, cut to the largest value. Errors: EINVAL for negative seconds or nanoseconds out of range.
    pub fn to_ns(self) -> Result<u64, Errno> {
        if self.sec < 0 || !(0..NSEC_PER_SEC as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64).saturating_mul(NSEC_PER_SEC).saturating_add(self.nsec as u64))
    }
}

/// `struct timeval`
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TimeVal {
    /// Seconds.
    pub sec: i64,
    /// Microseconds, 0 to 999,999 where valid.
    pub usec: i64,
}
const _: () = assert!(size_of::<TimeVal>() == 16);

impl TimeVal {
    /// From nanoseconds, rounded down.
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NSEC_PER_SEC) as i64, usec: (ns % NSEC_PER_SEC / 1000) as i64 }
    }

    /// As nanoseconds. Errors: EINVAL for negative seconds or microseconds out of range.
    pub fn to_ns(self) -> Result<u64, Errno> {
        if !(0..1_000_000).contains(&self.usec) {
            return Err(Errno::EINVAL);
        }
        TimeSpec { sec: self.sec, nsec: self.usec * 1000 }.to_ns()
    }
}

/// `struct itimerspec`
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ITimerSpec {
    /// Period; zero for once.
    pub interval: TimeSpec,
    /// First expiry; zero disarms.
    pub value: TimeSpec,
}

/// `struct itimerval`
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ITimerVal {
    /// Period; zero for once.
    pub interval: TimeVal,
    /// First expiry; zero disarms.
    pub value: TimeVal,
}

/// `struct tms`, in ticks of [`USER_HZ`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tms {
    /// User time.
    pub utime: u64,
    /// System time.
    pub stime: u64,
    /// User time of waited-for children.
    pub cutime: u64,
    /// System time of waited-for children.
    pub cstime: u64,
}

/// `struct timezone`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TimeZone {
    /// Minutes west of Greenwich.
    pub minutes_west: i32,
    /// Kind of daylight-saving time.
    pub dst_time: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_times_are_refused_and_huge_ones_are_cut() {
        assert_eq!(TimeSpec { sec: -1, nsec: 0 }.to_ns(), Err(Errno::EINVAL));
        assert_eq!(TimeSpec { sec: 0, nsec: 1_000_000_000 }.to_ns(), Err(Errno::EINVAL));
        assert_eq!(TimeSpec { sec: i64::MAX, nsec: 0 }.to_ns(), Ok(u64::MAX));
        assert_eq!(TimeSpec::from_signed_ns(-1), TimeSpec { sec: -1, nsec: 999_999_999 });
    }
}

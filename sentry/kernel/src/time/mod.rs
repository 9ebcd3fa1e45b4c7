//! Time: clocks as an argument of the kernel, timers on one thread, interval and POSIX timers. It must not read the host's clock but through [`Clock`].

pub mod posix;
pub mod timers;

use sentry_abi::Errno;
use sentry_abi::time::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE,
    CLOCK_MONOTONIC_RAW, CLOCK_REALTIME, CLOCK_REALTIME_ALARM, CLOCK_REALTIME_COARSE, CLOCK_TAI,
};

use crate::error::Result;

pub use timers::{TimerKey, TimerTarget, Timers};

/// A moment of the monotonic clock, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The moment `ns` nanoseconds later, cut to the last one.
    pub const fn after_ns(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds since `earlier`; 0 where it is later.
    pub const fn since_ns(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The clocks that the kernel shows to programs, given at its construction.
pub trait Clock: Send + Sync {
    /// CLOCK_MONOTONIC.
    fn monotonic(&self) -> Instant;

    /// CLOCK_REALTIME: nanoseconds since the epoch.
    fn realtime_ns(&self) -> i64;
}

/// The clocks that a call can name (clock_gettime(2)), without the CPU-time ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockKind {
    /// CLOCK_REALTIME and its coarse, alarm and TAI relatives.
    Realtime,
    /// CLOCK_MONOTONIC, its raw and coarse relatives, CLOCK_BOOTTIME (the sandbox never sleeps).
    Monotonic,
}

impl ClockKind {
    /// The clock of a number. Errors: EINVAL for a number that names none.
    pub fn from_id(id: i32) -> Result<Self> {
        match id {
            CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_REALTIME_ALARM | CLOCK_TAI => {
                Ok(Self::Realtime)
            }
            CLOCK_MONOTONIC
            | CLOCK_MONOTONIC_RAW
            | CLOCK_MONOTONIC_COARSE
            | CLOCK_BOOTTIME
            | CLOCK_BOOTTIME_ALARM => Ok(Self::Monotonic),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// What it shows now, in nanoseconds.
    pub fn now_ns(self, clock: &dyn Clock) -> i64 {
        match self {
            Self::Realtime => clock.realtime_ns(),
            Self::Monotonic => i64::try_from(clock.monotonic().0).unwrap_or(i64::MAX),
        }
    }

    /// The moment at which this clock shows `ns`.
    pub fn instant_at(self, ns: u64, clock: &dyn Clock) -> Instant {
        match self {
            Self::Monotonic => Instant(ns),
            Self::Realtime => {
                let now = u64::try_from(clock.realtime_ns()).unwrap_or(0);
                clock.monotonic().after_ns(ns.saturating_sub(now))
            }
        }
    }
}

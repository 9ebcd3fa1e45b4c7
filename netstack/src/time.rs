//! Instants of a caller's clock. The stack never reads a clock: every operation is told what time it is.

use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, AddAssign, Sub};

pub use core::time::Duration;

/// A point in time: nanoseconds since an origin that the caller chose (boot, or 0 in a simulation).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    // One more than the nanoseconds, so that an `Option` of it takes no more room: connections keep many.
    NonZeroU64,
);

impl Instant {
    /// The caller's origin.
    pub const ZERO: Instant = Instant(NonZeroU64::MIN);
    /// Later than every instant that a clock reaches; used as "never".
    pub const MAX: Instant = Instant(NonZeroU64::MAX);

    /// An instant from nanoseconds since the origin.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// An instant from microseconds since the origin (saturating).
    pub const fn from_micros(micros: u64) -> Instant {
        Instant::from_nanos(micros.saturating_mul(1_000))
    }

    /// An instant from milliseconds since the origin (saturating).
    pub const fn from_millis(millis: u64) -> Instant {
        Instant::from_nanos(millis.saturating_mul(1_000_000))
    }

    /// An instant from seconds since the origin (saturating).
    pub const fn from_secs(secs: u64) -> Instant {
        Instant::from_nanos(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole microseconds since the origin.
    pub const fn micros(self) -> u64 {
        self.nanos() / 1_000
    }

    /// Whole milliseconds since the origin.
    pub const fn millis(self) -> u64 {
        self.nanos() / 1_000_000
    }

    /// The time from `earlier` to here, zero when `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Instant {
    fn default() -> Instant {
        Instant::ZERO
    }
}

/// The nanoseconds of a duration, saturating at `u64::MAX` (584 years).
pub fn duration_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration as it is kept by the million: half as large as a [`Duration`], at most 584 years, and an `Option` of it takes no more room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(
    // One more than the nanoseconds.
    NonZeroU64,
);

impl Span {
    /// No time.
    pub const ZERO: Span = Span(NonZeroU64::MIN);

    /// As a duration of the library.
    pub const fn get(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Span {
        Span(NonZeroU64::MIN.saturating_add(duration_nanos(duration)))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(duration_nanos(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, duration: Duration) -> Instant {
        Instant::from_nanos(self.nanos().saturating_sub(duration_nanos(duration)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.nanos() / 1_000_000_000, self.nanos() % 1_000_000_000)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_may_be_missing_takes_no_more_room() {
        assert_eq!((size_of::<Option<Instant>>(), size_of::<Option<Span>>()), (8, 8));
        assert_eq!((Instant::ZERO.nanos(), Instant::from_nanos(7).nanos()), (0, 7));
        let second = Duration::from_secs(1);
        assert_eq!((Span::ZERO.get(), Span::from(second).get()), (Duration::ZERO, second));
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Instant::MAX + Duration::from_secs(1), Instant::MAX);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::from_secs(1) - Instant::from_secs(2), Duration::ZERO);
        assert_eq!(Instant::from_millis(1500) - Instant::from_secs(1), Duration::from_millis(500));
    }
}

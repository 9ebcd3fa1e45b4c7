//! The time stamp counter, by which stubs measure how long they spin: they have no clock.

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant};

/// Both clocks at one moment.
pub(super) struct Ticks {
    start: Instant,
    count: u64,
}

/// What the rate is taken for until enough time has gone by to measure it.
const GUESSED_PER_US: u64 = 2000;
/// So long it takes.
const MEASURED_AFTER: Duration = Duration::from_millis(2);

impl Ticks {
    pub(super) fn new() -> Ticks {
        Ticks { start: Instant::now(), count: counter() }
    }

    /// Ticks and nanoseconds since the start.
    fn elapsed(&self) -> (u64, u64) {
        let time = self.start.elapsed();
        if time < MEASURED_AFTER {
            return (GUESSED_PER_US, 1000);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        (counter().saturating_sub(self.count).max(1), nanoseconds)
    }

    /// So long in ticks.
    pub(super) fn of(&self, time: Duration) -> u64 {
        let (ticks, nanoseconds) = self.elapsed();
        scale(time.as_nanos() as u64, ticks, nanoseconds)
    }

    /// So many ticks in nanoseconds.
    pub(super) fn nanoseconds(&self, count: u64) -> u64 {
        let (ticks, nanoseconds) = self.elapsed();
        scale(count, nanoseconds, ticks)
    }
}

fn scale(value: u64, by: u64, of: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(by) / u128::from(of.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn counter() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor; Linux lets programs use it.
    unsafe { _rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_time_are_two_ways_to_say_the_same() {
        let ticks = Ticks::new();
        while ticks.start.elapsed() < 2 * MEASURED_AFTER {
            std::hint::spin_loop();
        }
        let second = ticks.of(Duration::from_secs(1));
        assert!(second > 100_000_000, "{second}");
        let back = ticks.nanoseconds(second);
        assert!(back.abs_diff(1_000_000_000) < 50_000_000, "{back}");
    }
}

//! The guest's clock: a line through the time stamp counter that follows the host's clocks.
//!
//! A refresh marks the parameters as being written, reads the counter, starts the new line where
//! the old one is at that moment, and gives it the slope that brings it back to CLOCK_MONOTONIC. So
//! time is continuous for every reader, in the guest and in the sentry.

use std::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use parking_lot::Mutex;

use super::code::params;
use crate::MemoryFile;
use crate::host::clock as host;

/// The clocks that are answered from the parameters. A sandbox never sleeps, so CLOCK_BOOTTIME is
/// CLOCK_MONOTONIC in it; so are the raw and the coarse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestClock {
    Monotonic,
    Realtime,
}

/// Whether the time stamp counter is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TscState {
    /// Programs read the clock without a system call.
    Used,
    /// It is good, but its rate is not known yet: refresh again.
    Measuring,
    /// The processor does not promise a constant rate, or the host does not trust it.
    Untrusted,
}

/// Less than this between two samples gives no useful rate.
const MEASURE_MIN_NS: u64 = 10_000_000;
/// A sample serves as the start of rate measurements this long.
const BASELINE_NS: u64 = 20_000_000_000;
/// The slope is changed by at most this part to catch up: 1/2000 is what NTP does.
const SLEW_PART: i64 = 2_000;
/// An error above this is not slewed away but jumped over, forwards only.
const JUMP_NS: i64 = 100_000_000;
/// Offsets between the host's clocks are measured with an error below this.
const OFFSET_NOISE_NS: u64 = 20_000;
/// How often to refresh in the steady state.
const INTERVAL: Duration = Duration::from_secs(1);

/// All clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    tsc: u64,
    monotonic: u64,
    realtime: u64,
}

/// What is known between refreshes; the line itself is in the page.
struct Rate {
    state: TscState,
    baseline: Sample,
    realtime_offset: i64,
}

/// The writer and reader of the parameter page.
pub(super) struct Clock {
    memory: Arc<MemoryFile>,
    page: u64,
    rate: Mutex<Rate>,
}

impl Clock {
    pub(super) fn new(memory: Arc<MemoryFile>, page: u64) -> Clock {
        let baseline = sample();
        let state = if tsc_is_trusted() { TscState::Measuring } else { TscState::Untrusted };
        let rate = Rate {
            state,
            baseline,
            realtime_offset: difference(baseline.realtime, baseline.monotonic),
        };
        Clock { memory, page, rate: Mutex::new(rate) }
    }

    pub(super) fn state(&self) -> TscState {
        self.rate.lock().state
    }

    pub(super) fn expose_host_cpu_numbers(&self) {
        self.store_u32(params::HOST_CPU, 1);
    }

    /// Reads as the guest does.
    pub(super) fn now_ns(&self, clock: GuestClock) -> u64 {
        let (base, host): (u64, fn() -> u64) = match clock {
            GuestClock::Monotonic => (params::MONOTONIC, host::monotonic_ns),
            GuestClock::Realtime => (params::REALTIME, host::realtime_ns),
        };
        loop {
            let sequence = self.load_u32(params::SEQUENCE);
            if sequence & 1 == 1 {
                // Being written: the lock is held for less than a microsecond.
                drop(self.rate.lock());
                continue;
            }
            let usable = self.load_u32(params::USABLE) == 1;
            let now = if usable { self.line_at(rdtsc(), base) } else { host() };
            fence(Ordering::SeqCst);
            if self.load_u32(params::SEQUENCE) == sequence {
                return now;
            }
        }
    }

    /// The value of the line at that count, with the words that are in the page now.
    fn line_at(&self, tsc: u64, base: u64) -> u64 {
        let ticks = tsc.saturating_sub(self.load_u64(params::TSC_BASE));
        let scaled = (u128::from(ticks) * u128::from(self.load_u64(params::SCALE))) >> 32;
        (scaled as u64).wrapping_add(self.load_u64(base))
    }

    pub(super) fn refresh(&self) -> Duration {
        let mut rate = self.rate.lock();
        if rate.state == TscState::Untrusted {
            return Duration::from_secs(3600);
        }
        let sequence = self.load_u32(params::SEQUENCE);
        self.store_u32(params::SEQUENCE, sequence | 1);
        fence(Ordering::SeqCst);
        // From here on every reader waits, so the line may bend at this count.
        let now = sample();
        let next = self.update(&mut rate, &now);
        fence(Ordering::SeqCst);
        self.store_u32(params::SEQUENCE, (sequence | 1).wrapping_add(1));
        next
    }

    fn update(&self, rate: &mut Rate, now: &Sample) -> Duration {
        let elapsed = now.monotonic.saturating_sub(rate.baseline.monotonic);
        let ticks = now.tsc.saturating_sub(rate.baseline.tsc);
        if elapsed < MEASURE_MIN_NS || ticks == 0 {
            return Duration::from_nanos(MEASURE_MIN_NS.saturating_sub(elapsed).max(1_000_000));
        }
        let scale = ((u128::from(elapsed) << 32) / u128::from(ticks)) as u64;
        let monotonic = match rate.state {
            TscState::Used => self.line_at(now.tsc, params::MONOTONIC),
            _ => now.monotonic,
        };
        let error = difference(now.monotonic, monotonic);
        let monotonic = if error > JUMP_NS { now.monotonic } else { monotonic };
        rate.follow_realtime(now);
        self.store_u64(params::TSC_BASE, now.tsc);
        self.store_u64(params::SCALE, slewed(scale, if error > JUMP_NS { 0 } else { error }));
        self.store_u64(params::MONOTONIC, monotonic);
        self.store_u64(params::REALTIME, monotonic.wrapping_add_signed(rate.realtime_offset));
        self.store_u32(params::USABLE, 1);
        rate.state = TscState::Used;
        if elapsed > BASELINE_NS {
            rate.baseline = *now;
            // Until the new baseline is long enough the slope stays as it is.
            return INTERVAL;
        }
        // The first rates are rough: improve them soon.
        INTERVAL.min(Duration::from_nanos(elapsed * 4))
    }

    // The page was allocated with these aligned offsets inside it, so the accesses cannot fail; a
    // zero would read as unusable parameters.
    fn load_u32(&self, offset: u64) -> u32 {
        self.memory.load_u32(self.page + offset).unwrap_or(0)
    }

    fn load_u64(&self, offset: u64) -> u64 {
        self.memory.atomic_u64(self.page + offset).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn store_u32(&self, offset: u64, value: u32) {
        let _ = self.memory.store_u32(self.page + offset, value);
    }

    fn store_u64(&self, offset: u64, value: u64) {
        if let Ok(word) = self.memory.atomic_u64(self.page + offset) {
            word.store(value, Ordering::SeqCst);
        }
    }
}

impl Rate {
    /// Takes over a step of the host's realtime clock, but not the noise of measuring it.
    fn follow_realtime(&mut self, now: &Sample) {
        let seen = difference(now.realtime, now.monotonic);
        if self.realtime_offset.abs_diff(seen) > OFFSET_NOISE_NS {
            self.realtime_offset = seen;
        }
    }
}

/// The slope that makes up for an error within the next interval, as far as it may.
fn slewed(scale: u64, error_ns: i64) -> u64 {
    let interval = INTERVAL.as_nanos() as i64;
    let part = error_ns.clamp(-interval / SLEW_PART, interval / SLEW_PART);
    let change = i128::from(scale) * i128::from(part) / i128::from(interval);
    scale.saturating_add_signed(change as i64)
}

fn difference(left: u64, right: u64) -> i64 {
    left.wrapping_sub(right) as i64
}

/// The clocks together with the count just before: read until nothing came between.
fn sample() -> Sample {
    let mut best: Option<(u64, Sample)> = None;
    for _ in 0..5 {
        let tsc = rdtsc();
        let monotonic = host::monotonic_ns();
        let width = rdtsc().saturating_sub(tsc);
        let realtime = host::realtime_ns();
        if best.is_none_or(|(narrowest, _)| width < narrowest) {
            best = Some((width, Sample { tsc, monotonic, realtime }));
        }
    }
    best.map_or(Sample { tsc: 0, monotonic: 0, realtime: 0 }, |(_, sample)| sample)
}

fn rdtsc() -> u64 {
    // SAFETY: both instructions exist on every x86-64 processor; Linux lets programs use RDTSC.
    unsafe {
        _mm_lfence();
        let count = _rdtsc();
        _mm_lfence();
        count
    }
}

/// A constant rate is the processor's promise (CPUID 0x80000007, invariant TSC); that all cores
/// agree is what the host found out when it chose its clock source.
fn tsc_is_trusted() -> bool {
    let invariant =
        __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0;
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    invariant && std::fs::read_to_string(source).is_ok_and(|name| name.trim() == "tsc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_catches_up_but_never_runs_wild() {
        let scale = 1 << 31;
        assert_eq!(slewed(scale, 0), scale);
        let faster = slewed(scale, 1_000);
        assert!(faster > scale && faster - scale < scale / 900_000);
        assert_eq!(slewed(scale, i64::MAX), scale + scale / 2_000);
        assert_eq!(slewed(scale, i64::MIN), scale - scale / 2_000);
    }
}

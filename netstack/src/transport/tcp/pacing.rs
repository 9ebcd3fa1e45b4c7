//! Pacing: a bound on how fast a connection sends, by SO_MAX_PACING_RATE or by a controller that asks for it. Nothing is
//! paced by default.

use crate::time::{Duration, Instant};

/// A piece that goes out at once lasts about this long at the rate (Linux's sk_pacing_shift of 10).
const PIECE: Duration = Duration::from_micros(1000);
/// Linux's tcp_pacing_ss_ratio and tcp_pacing_ca_ratio, in percent of the window a round trip.
const SLOW_START_PERCENT: u128 = 200;
const AVOIDANCE_PERCENT: u128 = 120;

/// When the next piece may go out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    next: Instant,
}

impl Pacer {
    /// Nothing was sent.
    pub const NEW: Pacer = Pacer { next: Instant::ZERO };

    /// When to go on, if not now.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        (self.next > now).then_some(self.next)
    }

    /// The most that goes out at once at `rate` bytes a second: a millisecond's worth, and two segments at least.
    pub fn piece(rate: u64, mss: usize) -> usize {
        let bytes = u128::from(rate) * PIECE.as_nanos() / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX).max(2 * mss)
    }

    /// `bytes` went out. Time in which nothing was to be sent is lost, but for half of what this piece lasts, as in
    /// Linux's tcp_update_skb_after_send.
    pub fn on_sent(&mut self, now: Instant, bytes: usize, rate: u64) {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(rate.max(1));
        let lasts = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let late = now.since(self.next).min(lasts / 2);
        self.next = self.next.max(now) + (lasts - late);
    }
}

/// The rate of a controller that names none: the window, with room to grow, in a round trip (Linux's
/// tcp_update_pacing_rate). None before the first sample.
pub fn rate_of_window(window: usize, ssthresh: usize, smoothed: Option<Duration>) -> Option<u64> {
    let nanos = smoothed.filter(|rtt| !rtt.is_zero())?.as_nanos();
    let percent = if window < ssthresh / 2 { SLOW_START_PERCENT } else { AVOIDANCE_PERCENT };
    let rate = window as u128 * percent * 10_000_000 / nanos;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_spaced_by_the_rate_and_idle_time_is_not_saved_up() {
        let mut pacer = Pacer::default();
        let mut now = Instant::from_secs(5);
        assert_eq!(pacer.wait_until(now), None);
        pacer.on_sent(now, 1000, 1_000_000);
        // The first comes after a long silence: half of its millisecond is forgiven.
        assert_eq!(pacer.wait_until(now), Some(now + Duration::from_micros(500)));
        now += Duration::from_micros(500);
        pacer.on_sent(now, 1000, 1_000_000);
        assert_eq!(pacer.wait_until(now), Some(now + Duration::from_millis(1)));
        assert_eq!(Pacer::piece(10_000_000, 1448), 10_000);
        assert_eq!(Pacer::piece(10, 1448), 2896);
    }

    #[test]
    fn the_rate_of_a_window_leaves_room_to_grow() {
        let rtt = Some(Duration::from_millis(10));
        assert_eq!(rate_of_window(10_000, usize::MAX, rtt), Some(2_000_000));
        assert_eq!(rate_of_window(10_000, 10_000, rtt), Some(1_200_000));
        assert_eq!(rate_of_window(10_000, 10_000, None), None);
    }
}

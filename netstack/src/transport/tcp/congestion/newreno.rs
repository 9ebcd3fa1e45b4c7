//! NewReno: slow start, congestion avoidance and the window's side of fast recovery (RFC 5681, RFC 6582),
//! counting bytes (RFC 3465) and starting with ten segments (RFC 6928).

use super::{AckSample, Congestion};
use crate::time::Instant;

const INITIAL_SEGMENTS: usize = 10;
/// No path needs more, and arithmetic on it cannot overflow.
const MAX_WINDOW: usize = 1 << 30;

/// The controller's state.
#[derive(Clone, Debug)]
pub struct NewReno {
    mss: usize,
    window: usize,
    ssthresh: usize,
    /// Bytes acknowledged in congestion avoidance since the window last grew.
    credit: usize,
}

impl NewReno {
    /// A controller before any acknowledgment.
    pub fn new(mss: usize) -> NewReno {
        NewReno { mss, window: INITIAL_SEGMENTS * mss, ssthresh: usize::MAX, credit: 0 }
    }

    fn half_of(&self, in_flight: usize) -> usize {
        // RFC 5681 equation (4): "ssthresh = max (FlightSize / 2, 2*SMSS)".
        (in_flight / 2).max(2 * self.mss)
    }
}

impl Congestion for NewReno {
    fn name(&self) -> &'static str {
        "reno"
    }

    fn window(&self) -> usize {
        self.window
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn set_mss(&mut self, mss: usize) {
        let mss = mss.max(1);
        if mss == self.mss {
            return;
        }
        // The window counts segments: a new size keeps their number, as Linux does.
        self.window = (self.window / self.mss).max(1) * mss;
        self.mss = mss;
    }

    fn on_ack(&mut self, sample: AckSample) {
        // RFC 7661's concern, in Linux's simple form: a window that was not used does not grow.
        let limit = if self.window < self.ssthresh { self.window / 2 } else { self.window };
        if sample.in_flight + self.mss <= limit {
            return;
        }
        let mut acked = sample.acked;
        if self.window < self.ssthresh {
            let grow = acked.min(self.ssthresh - self.window);
            self.window = (self.window + grow).min(MAX_WINDOW);
            acked -= grow;
        }
        if acked > 0 && self.window >= self.ssthresh {
            self.credit += acked;
            if self.credit >= self.window {
                self.credit -= self.window;
                self.window = (self.window + self.mss).min(MAX_WINDOW);
            }
        }
    }

    fn on_loss(&mut self, _now: Instant, in_flight: usize) {
        self.ssthresh = self.half_of(in_flight);
        self.window = self.ssthresh;
        self.credit = 0;
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.window = self.window.max(self.ssthresh.min(MAX_WINDOW));
    }

    fn on_timeout(&mut self, _now: Instant, in_flight: usize) {
        self.ssthresh = self.half_of(in_flight);
        // RFC 5681 section 3.1: "cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment".
        self.window = self.mss;
        self.credit = 0;
    }

    fn on_idle(&mut self, _now: Instant) {
        // RFC 5681 section 4.1: "set cwnd to no more than RW = min(IW, cwnd)".
        self.window = self.window.min(INITIAL_SEGMENTS * self.mss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(reno: &mut NewReno, acked: usize) {
        let in_flight = reno.window();
        reno.on_ack(AckSample { now: Instant::ZERO, acked, in_flight, rtt: None });
    }

    #[test]
    fn slow_start_doubles_and_avoidance_adds_a_segment_per_window() {
        let mut reno = NewReno::new(1000);
        assert_eq!(reno.window(), 10_000);
        ack(&mut reno, 10_000);
        assert_eq!(reno.window(), 20_000);
        reno.on_loss(Instant::ZERO, 20_000);
        assert_eq!((reno.window(), reno.ssthresh()), (10_000, 10_000));
        (0..10).for_each(|_| ack(&mut reno, 1000));
        assert_eq!(reno.window(), 11_000);
    }

    #[test]
    fn a_timeout_restarts_from_one_segment_and_an_unused_window_does_not_grow() {
        let mut reno = NewReno::new(1000);
        reno.on_timeout(Instant::ZERO, 10_000);
        assert_eq!((reno.window(), reno.ssthresh()), (1000, 5000));
        ack(&mut reno, 1000);
        assert_eq!(reno.window(), 2000);
        let mut idle = NewReno::new(1000);
        idle.on_ack(AckSample { now: Instant::ZERO, acked: 500, in_flight: 500, rtt: None });
        assert_eq!(idle.window(), 10_000);
    }
}

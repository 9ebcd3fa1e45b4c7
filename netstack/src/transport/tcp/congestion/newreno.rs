//! NewReno's window: slow start and congestion avoidance (RFC 5681), counting bytes (RFC 3465).

use super::{AckSample, Cause, Congestion, Window};
use crate::time::Instant;

/// The algorithm's state.
#[derive(Clone, Debug, Default)]
pub struct NewReno {
    /// Bytes acknowledged in congestion avoidance since the window last grew.
    credit: usize,
}

impl Congestion for NewReno {
    fn name(&self) -> &'static str {
        "reno"
    }

    fn is_fresh(&self) -> bool {
        self.credit == 0
    }

    fn on_ack(&mut self, window: &mut Window, sample: &AckSample) {
        if !sample.window_limited {
            return;
        }
        let mut acked = sample.acked;
        if window.is_slow_start() {
            acked = window.slow_start(acked);
        }
        // RFC 5681 section 3.1: "cwnd must not be increased by more than SMSS bytes per RTT".
        self.credit += acked;
        if self.credit >= window.size {
            self.credit -= window.size;
            window.grow(window.mss);
            self.credit = self.credit.min(window.size);
        }
    }

    fn reduce(&mut self, window: &Window, _now: Instant, _cause: Cause) -> usize {
        self.credit = 0;
        (window.size / 2).max(window.floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(reno: &mut NewReno, window: &mut Window, acked: usize) {
        reno.on_ack(window, &AckSample { acked, window_limited: true, ..AckSample::default() });
    }

    #[test]
    fn slow_start_doubles_and_avoidance_adds_a_segment_per_window() {
        let (mut reno, mut window) = (NewReno::default(), Window::new(1000));
        assert_eq!(window.size, 10_000);
        ack(&mut reno, &mut window, 10_000);
        assert_eq!(window.size, 20_000);
        assert_eq!(reno.reduce(&window, Instant::ZERO, Cause::Loss), 10_000);
        (window.size, window.ssthresh) = (10_000, 10_000);
        (0..10).for_each(|_| ack(&mut reno, &mut window, 1000));
        assert_eq!(window.size, 11_000);
    }

    #[test]
    fn a_window_that_held_nobody_back_does_not_grow() {
        let (mut reno, mut window) = (NewReno::default(), Window::new(1000));
        reno.on_ack(&mut window, &AckSample { acked: 5000, ..AckSample::default() });
        assert_eq!(window.size, 10_000);
    }
}

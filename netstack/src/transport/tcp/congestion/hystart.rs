//! HyStart++ (RFC 9406): leaves slow start before it overflows the path, when the least round-trip time of a
//! round has risen; and goes on if that rise was an accident.

use super::{AckSample, Window};
use crate::time::Duration;

/// RFC 9406 section 4.3: "MIN_RTT_THRESH = 4 ms".
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
/// "MAX_RTT_THRESH = 16 ms".
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
/// "MIN_RTT_DIVISOR = 8".
const MIN_RTT_DIVISOR: u32 = 8;
/// "N_RTT_SAMPLE = 8".
const RTT_SAMPLES: u32 = 8;
/// "CSS_GROWTH_DIVISOR = 4".
const CSS_GROWTH_DIVISOR: usize = 4;
/// "CSS_ROUNDS = 5".
const CSS_ROUNDS: u32 = 5;

/// Conservative slow start, while it lasts.
#[derive(Clone, Copy, Debug)]
struct Conservative {
    /// "cssBaselineMinRtt".
    baseline: Duration,
    /// Rounds begun in it.
    rounds: u32,
}

/// What is known of the present and the last round.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyStart {
    last_min: Option<Duration>,
    current_min: Option<Duration>,
    samples: u32,
    conservative: Option<Conservative>,
}

impl HyStart {
    /// An acknowledgment in the first slow start: returns by how many bytes the window may grow, or ends slow
    /// start by setting the threshold. The limit L of section 4.2 is infinite, as in Linux's slow start: one
    /// acknowledgment of a train that a device cut is the common case.
    pub fn on_ack(&mut self, window: &mut Window, sample: &AckSample) -> usize {
        if sample.round_started {
            self.start_round(window);
        }
        if let Some(rtt) = sample.rtt {
            self.current_min = Some(self.current_min.map_or(rtt, |min| min.min(rtt)));
            self.samples += 1;
        }
        self.judge();
        match self.conservative {
            Some(_) => sample.acked / CSS_GROWTH_DIVISOR,
            None => sample.acked,
        }
    }

    /// "lastRoundMinRTT = currentRoundMinRTT; currentRoundMinRTT = infinity; rttSampleCount = 0".
    fn start_round(&mut self, window: &mut Window) {
        self.last_min = self.current_min.take();
        self.samples = 0;
        if let Some(conservative) = &mut self.conservative {
            conservative.rounds += 1;
            // "If CSS_ROUNDS rounds are complete, enter congestion avoidance by setting ssthresh to cwnd".
            if conservative.rounds > CSS_ROUNDS {
                window.ssthresh = window.size;
            }
        }
    }

    fn judge(&mut self) {
        let (Some(last), Some(current)) = (self.last_min, self.current_min) else { return };
        if self.samples < RTT_SAMPLES {
            return;
        }
        match self.conservative {
            // "if (currentRoundMinRTT >= (lastRoundMinRTT + RttThresh)) cssBaselineMinRtt = currentRoundMinRTT,
            // exit slow start and enter CSS".
            None => {
                let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if current >= last + threshold {
                    self.conservative = Some(Conservative { baseline: current, rounds: 1 });
                }
            }
            // "if (currentRoundMinRTT < cssBaselineMinRtt) cssBaselineMinRtt = infinity, resume slow start".
            Some(conservative) if current < conservative.baseline => self.conservative = None,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of twenty acknowledgments with a round-trip time each, in milliseconds.
    fn run(rounds: &[u64]) -> Window {
        let (mut hystart, mut window) = (HyStart::default(), Window::new(1000));
        for rtt in rounds {
            for n in 0..20 {
                let rtt = Some(Duration::from_millis(*rtt));
                let round_started = n == 0;
                let sample = AckSample { acked: 100, rtt, round_started, ..AckSample::default() };
                let grown = hystart.on_ack(&mut window, &sample);
                window.grow(grown);
            }
        }
        window
    }

    #[test]
    fn a_rising_round_trip_ends_slow_start_after_five_conservative_rounds() {
        assert_eq!(run(&[40; 20]).ssthresh, usize::MAX);
        assert_eq!(run(&[40, 40, 46, 47, 48, 49, 50]).ssthresh, usize::MAX);
        let left = run(&[40, 40, 46, 47, 48, 49, 50, 51]);
        assert!(left.ssthresh <= left.size);
        // A rise below an eighth is none.
        assert_eq!(run(&[40, 40, 44, 44, 44, 44, 44, 44, 44]).ssthresh, usize::MAX);
    }

    #[test]
    fn slow_start_goes_on_when_the_rise_was_an_accident() {
        let calm = run(&[40, 40, 40, 40, 40, 40, 40, 40, 40, 40]);
        let accident = run(&[40, 40, 46, 40, 40, 40, 40, 40, 40, 40]);
        assert_eq!(accident.ssthresh, usize::MAX);
        assert!(accident.size < calm.size && accident.size + 3000 > calm.size);
    }
}

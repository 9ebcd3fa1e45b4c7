//! CUBIC (RFC 9438): the window as a cubic function of the time since congestion, so that it grows fast where it is
//! far from where it met congestion, and slowly near it. The first slow start is HyStart++'s.

use super::hystart::HyStart;
use super::{AckSample, Cause, Congestion, Window};
use crate::time::{Duration, Instant};

/// RFC 9438 section 4.5: "beta_cubic SHOULD be set to 0.7".
const BETA: f64 = 0.7;
/// Section 5: "C SHOULD be set to 0.4", in segments per cubic second.
const C: f64 = 0.4;
/// Section 4.3: "alpha_cubic = 3 * (1 - beta_cubic) / (1 + beta_cubic)".
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// A stage of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// Its beginning, less the time in which the window was not used.
    start: Instant,
    /// W_max in bytes: where the curve is flat.
    origin: f64,
    /// How long it takes to get there, in seconds.
    k: f64,
    /// What Reno's window would be.
    estimate: f64,
    /// When the last acknowledgment came.
    last: Instant,
}

/// What a spurious reduction must give back.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    epoch: Option<Epoch>,
    /// W_max in bytes of the last congestion; zero after a timeout and before any.
    max: f64,
    /// "cwnd_prior": the window at the last congestion.
    prior: f64,
}

/// The algorithm's state.
#[derive(Clone, Debug, Default)]
pub struct Cubic {
    shape: Shape,
    /// Before the last reduction.
    saved: Shape,
    hystart: HyStart,
    /// Growth below a byte.
    fraction: f64,
}

/// The cube root of what is not negative, by Newton's method: the same on every machine.
fn cube_root(x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    // A power of two near the root: each step then doubles the digits.
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    let mut root = f64::from_bits(((1023 + exponent / 3) as u64) << 52);
    for _ in 0..8 {
        root = (2.0 * root + x / (root * root)) / 3.0;
    }
    root
}

impl Epoch {
    fn begin(now: Instant, max: f64, window: &Window) -> Epoch {
        let (size, mss) = (window.size as f64, window.mss as f64);
        // Section 4.2: "K = cubic_root((W_max - cwnd_epoch) / C)". Where there is no larger W_max (the first stage, or
        // the first after a timeout: section 4.8), "K is set to 0 and W_max is set to cwnd".
        let (origin, k) = match max > size {
            true => (max, cube_root((max - size) / mss / C)),
            false => (size, 0.0),
        };
        Epoch { start: now, origin, k, estimate: size, last: now }
    }

    /// Figure 1: "W_cubic(t) = C * (t - K)^3 + W_max", in bytes.
    fn cubic(&self, t: Duration, mss: f64) -> f64 {
        let x = t.as_secs_f64() - self.k;
        self.origin + C * mss * x * x * x
    }
}

impl Cubic {
    fn avoid(&mut self, window: &mut Window, sample: &AckSample, acked: usize) {
        let max = self.shape.max;
        let epoch = self.shape.epoch.get_or_insert_with(|| Epoch::begin(sample.now, max, window));
        epoch.last = sample.now;
        let (size, mss, acked) = (window.size as f64, window.mss as f64, acked as f64);
        let t = sample.now.since(epoch.start);
        // Section 4.3, figure 4: "W_est = W_est + alpha_cubic * segments_acked / cwnd"; "once W_est has grown to
        // reach the cwnd at the time of most recently setting ssthresh, alpha_cubic SHOULD be set to 1".
        let alpha = if epoch.estimate < self.shape.prior { ALPHA } else { 1.0 };
        epoch.estimate += alpha * mss * acked / size;
        let grown = if epoch.cubic(t, mss) < epoch.estimate {
            (epoch.estimate - size).max(0.0)
        } else {
            // Section 4.2: the target is W_cubic(t + RTT), neither below the window nor above 1.5 of it; section 4.4:
            // "cwnd MUST be incremented by (target - cwnd) / cwnd for each received new ACK".
            let target = epoch.cubic(t + sample.smoothed, mss).clamp(size, 1.5 * size);
            (target - size) * acked / size
        };
        self.fraction += grown;
        let whole = self.fraction as usize;
        self.fraction -= whole as f64;
        window.grow(whole);
    }

    /// Section 5.8: time in which the program did not use the window does not count.
    fn pause(&mut self, now: Instant) {
        if let Some(epoch) = &mut self.shape.epoch {
            epoch.start += now.since(epoch.last);
            epoch.last = now;
        }
    }
}

impl Congestion for Cubic {
    fn name(&self) -> &'static str {
        "cubic"
    }

    fn is_fresh(&self) -> bool {
        // No congestion was met yet.
        self.shape.epoch.is_none() && self.shape.max == 0.0 && self.shape.prior == 0.0
    }

    fn on_ack(&mut self, window: &mut Window, sample: &AckSample) {
        if !sample.window_limited {
            self.pause(sample.now);
            return;
        }
        let mut acked = sample.acked;
        if window.is_slow_start() {
            if window.ssthresh == usize::MAX {
                let growth = self.hystart.on_ack(window, sample);
                window.grow(growth);
                return;
            }
            acked = window.slow_start(acked);
        }
        if acked > 0 {
            self.avoid(window, sample, acked);
        }
    }

    fn reduce(&mut self, window: &Window, _now: Instant, cause: Cause) -> usize {
        self.saved = self.shape;
        let size = window.size as f64;
        // Section 4.7, fast convergence: "if cwnd < W_max: W_max = cwnd * (1 + beta_cubic) / 2, else W_max = cwnd".
        let max = if size < self.shape.max { size * (1.0 + BETA) / 2.0 } else { size };
        let max = if cause == Cause::Timeout { 0.0 } else { max };
        self.shape = Shape { epoch: None, max, prior: size };
        self.fraction = 0.0;
        ((size * BETA) as usize).max(window.floor())
    }

    /// Section 4.9.1: "restores the original values of cwnd, cwnd_prior, ssthresh, W_max, K, t_epoch and W_est".
    fn undo(&mut self) {
        self.shape = self.saved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// Acknowledges a window in each of so many round trips; returns the windows in segments.
    fn rounds(
        cubic: &mut Cubic,
        window: &mut Window,
        now: &mut Instant,
        rtt: Duration,
        count: usize,
    ) -> Vec<usize> {
        let mut seen = Vec::new();
        for _ in 0..count {
            let acks = window.size / window.mss;
            for _ in 0..acks {
                *now += rtt / acks as u32;
                let sample = AckSample {
                    now: *now,
                    acked: window.mss,
                    smoothed: rtt,
                    window_limited: true,
                    ..AckSample::default()
                };
                cubic.on_ack(window, &sample);
            }
            seen.push(window.size / window.mss);
        }
        seen
    }

    fn congested(cubic: &mut Cubic, window: &mut Window, now: Instant, cause: Cause) {
        window.ssthresh = cubic.reduce(window, now, cause);
        window.size = window.ssthresh;
    }

    #[test]
    fn cube_roots_are_exact_enough() {
        for x in [1e-9, 0.3, 1.0, 27.0, 1000.0, 123_456_789.0, 1e18] {
            let root = cube_root(x);
            assert!((root * root * root / x - 1.0).abs() < 1e-12, "{x} {root}");
        }
        assert_eq!(cube_root(0.0), 0.0);
    }

    #[test]
    fn growth_is_concave_up_to_the_old_window_and_convex_beyond() {
        let (mut cubic, mut window, mut now) = (Cubic::default(), Window::new(1000), Instant::ZERO);
        window.size = 1_000_000;
        congested(&mut cubic, &mut window, now, Cause::Loss);
        assert_eq!(window.size, 700_000);
        // K = cbrt(300 / 0.4) = 9.1 s: about 91 round trips.
        let seen = rounds(&mut cubic, &mut window, &mut now, RTT, 150);
        let at = |round: usize| seen[round - 1] as i64;
        assert!(at(30) - at(1) > 3 * (at(90) - at(60)), "concave: {seen:?}");
        assert!((990..=1002).contains(&at(91)), "{}", at(91));
        assert!(at(150) - at(120) > 3 * (at(120) - at(95)), "convex: {seen:?}");
    }

    #[test]
    fn a_short_path_grows_as_reno_would() {
        let (mut cubic, mut window, mut now) = (Cubic::default(), Window::new(1000), Instant::ZERO);
        window.size = 100_000;
        congested(&mut cubic, &mut window, now, Cause::Loss);
        let rtt = Duration::from_millis(1);
        let seen = rounds(&mut cubic, &mut window, &mut now, rtt, 100);
        // From 70, 0.53 segments a round trip to 100, then one.
        assert!((97..=102).contains(&seen[56]), "{seen:?}");
        assert!((140..=145).contains(&seen[99]), "{seen:?}");
    }

    #[test]
    fn a_second_congestion_below_the_old_window_gives_room_to_others() {
        let (mut cubic, mut window, now) = (Cubic::default(), Window::new(1000), Instant::ZERO);
        window.size = 1_000_000;
        congested(&mut cubic, &mut window, now, Cause::Loss);
        congested(&mut cubic, &mut window, now, Cause::Loss);
        assert_eq!(cubic.shape.max, 595_000.0);
        congested(&mut cubic, &mut window, now, Cause::Timeout);
        assert_eq!(cubic.shape.max, 0.0);
    }

    #[test]
    fn undo_brings_the_curve_back() {
        let (mut cubic, mut window, mut now) = (Cubic::default(), Window::new(1000), Instant::ZERO);
        window.size = 1_000_000;
        congested(&mut cubic, &mut window, now, Cause::Loss);
        rounds(&mut cubic, &mut window, &mut now, RTT, 30);
        let (before, shape) = (window, cubic.shape);
        congested(&mut cubic, &mut window, now, Cause::Loss);
        assert!(cubic.shape.max < 1_000_000.0 && cubic.shape.epoch.is_none());
        cubic.undo();
        window = before;
        assert_eq!(cubic.shape.max, shape.max);
        let seen = rounds(&mut cubic, &mut window, &mut now, RTT, 61);
        assert!((985..=1002).contains(&seen[60]), "{seen:?}");
    }

    #[test]
    fn time_without_use_of_the_window_does_not_count() {
        let (mut cubic, mut window, mut now) = (Cubic::default(), Window::new(1000), Instant::ZERO);
        window.size = 1_000_000;
        congested(&mut cubic, &mut window, now, Cause::Loss);
        rounds(&mut cubic, &mut window, &mut now, RTT, 30);
        let before = window.size;
        now += Duration::from_secs(3600);
        let idle = AckSample { now, acked: 1000, smoothed: RTT, ..AckSample::default() };
        cubic.on_ack(&mut window, &idle);
        rounds(&mut cubic, &mut window, &mut now, RTT, 1);
        assert!(window.size < before + 20_000, "{} {before}", window.size);
    }
}

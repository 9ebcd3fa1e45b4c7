//! Round-trip time and the retransmission timeout (RFC 6298), with Linux's bounds.

use crate::time::{Duration, Instant, Span};

/// Linux's TCP_RTO_MIN.
pub const RTO_MIN: Duration = Duration::from_millis(200);
/// Linux's TCP_RTO_MAX.
pub const RTO_MAX: Duration = Duration::from_secs(120);
/// Linux's TCP_TIMEOUT_MIN where its clock ticks 250 times a second: two ticks.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(8);
/// Before any sample (RFC 6298 section 2.1).
pub const RTO_INITIAL: Duration = Duration::from_secs(1);
/// The clock's granularity G.
const GRANULARITY: Duration = Duration::from_millis(1);
/// How long a minimum holds, as Linux's tcp_min_rtt_wlen.
pub const MIN_RTT_WINDOW: Duration = Duration::from_secs(300);

/// What the estimator keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The least timeout (tcp_rto_min_us, TCP_RTO_MIN_US, a route's rto_min).
    pub least: Duration,
    /// The longest (tcp_rto_max_ms, TCP_RTO_MAX_MS).
    pub most: Duration,
    /// How long a minimum holds (tcp_min_rtt_wlen).
    pub window: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { least: RTO_MIN, most: RTO_MAX, window: MIN_RTT_WINDOW }
    }
}

/// The estimator of one connection.
#[derive(Clone, Debug)]
pub struct Rtt {
    least: Span,
    most: Span,
    window: Span,
    smoothed: Option<Span>,
    variation: Span,
    rto: Span,
    backoff: u32,
    min: Option<(Span, Instant)>,
}

impl Default for Rtt {
    fn default() -> Rtt {
        let Bounds { least, most, window } = Bounds::default();
        Rtt {
            least: least.into(),
            most: most.into(),
            window: window.into(),
            smoothed: None,
            variation: Span::ZERO,
            rto: RTO_INITIAL.into(),
            backoff: 0,
            min: None,
        }
    }
}

impl Rtt {
    /// Keeps to these bounds from the next sample on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.least = bounds.least.into();
        self.most = bounds.most.into();
        self.window = bounds.window.into();
    }

    /// What it keeps to.
    pub fn bounds(&self) -> Bounds {
        Bounds { least: self.least.get(), most: self.most.get(), window: self.window.get() }
    }

    /// Takes a measurement by our own clock and ends the backoff.
    pub fn sample(&mut self, now: Instant, rtt: Duration) {
        match self.min {
            Some((min, at)) if min.get() < rtt && now.since(at) < self.window.get() => {}
            _ => self.min = Some((rtt.into(), now)),
        }
        self.smooth(rtt);
    }

    /// Takes a measurement by echoed timestamps, which are too coarse for the minimum.
    pub fn sample_coarse(&mut self, rtt: Duration) {
        self.smooth(rtt.max(GRANULARITY));
    }

    fn smooth(&mut self, rtt: Duration) {
        self.backoff = 0;
        let (smoothed, variation) = match self.smoothed() {
            // (2.2) "SRTT <- R, RTTVAR <- R/2".
            None => (rtt, rtt / 2),
            // (2.3) "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|,
            // SRTT <- (1 - alpha) * SRTT + alpha * R'" with alpha 1/8 and beta 1/4.
            Some(smoothed) => {
                let deviation = smoothed.abs_diff(rtt);
                ((smoothed * 7 + rtt) / 8, (self.variation() * 3 + deviation) / 4)
            }
        };
        self.smoothed = Some(smoothed.into());
        self.variation = variation.into();
        // (2.3) "RTO <- SRTT + max (G, K*RTTVAR)", where Linux takes its least timeout for G.
        self.rto = (smoothed + (variation * 4).max(self.least.get())).into();
    }

    /// The timeout with its backoff.
    pub fn rto(&self) -> Duration {
        self.rto.get().saturating_mul(1 << self.backoff.min(10)).min(self.most.get())
    }

    /// (5.5) "RTO <- RTO * 2".
    pub fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The timeout is not doubled any more.
    pub fn reset_backoff(&mut self) {
        self.backoff = 0;
    }

    /// Doublings in force.
    pub fn backoff(&self) -> u32 {
        self.backoff
    }

    /// (5.7) Of a lost SYN: "the RTO MUST be re-initialized to 3 seconds when data transmission begins".
    pub fn syn_was_retransmitted(&mut self) {
        self.backoff = 0;
        if self.smoothed.is_none() {
            self.rto = Duration::from_secs(3).into();
        }
    }

    /// SRTT, once there is a sample.
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed.map(Span::get)
    }

    /// RTTVAR.
    pub fn variation(&self) -> Duration {
        self.variation.get()
    }

    /// The least sample of the last minutes.
    pub fn min(&self) -> Option<Duration> {
        self.min.map(|(rtt, _)| rtt.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_rfc_6298_within_linux_bounds() {
        let mut rtt = Rtt::default();
        let now = Instant::ZERO;
        assert_eq!(rtt.rto(), RTO_INITIAL);
        rtt.sample(now, Duration::from_millis(100));
        assert_eq!(rtt.rto(), Duration::from_millis(300));
        rtt.back_off();
        assert_eq!(rtt.rto(), Duration::from_millis(600));
        (0..40).for_each(|_| rtt.back_off());
        assert_eq!(rtt.rto(), RTO_MAX);
        rtt.sample(now, Duration::from_millis(100));
        assert_eq!(rtt.rto(), Duration::from_millis(300));
        let mut quick = Rtt::default();
        quick.sample(now, Duration::from_micros(20));
        assert_eq!(quick.rto(), RTO_MIN + Duration::from_micros(20));
        assert_eq!(quick.min(), Some(Duration::from_micros(20)));
    }
}

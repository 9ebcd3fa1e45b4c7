//! The frame around an algorithm: what every connection does to its window, whichever algorithm steers it.

use super::{AckSample, Cause, Congestion, Lost, Window, by_name, known};
use crate::time::{Duration, Instant};
use crate::transport::tcp::Seq;

/// A reduction under way: proportional rate reduction (RFC 6937 section 3), in bytes.
#[derive(Clone, Copy, Debug)]
struct Reduction {
    /// "RecoverFS", in Linux's form: the window when it began.
    prior: usize,
    /// "prr_delivered".
    delivered: usize,
    /// "prr_out".
    out: usize,
}

/// How much of the window was used lately (Linux's form of RFC 7661's validation).
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// Whether the window held the sender back within the last flight.
    limited: bool,
    /// The most that was in flight within it.
    peak: usize,
    /// Where that flight ends.
    until: Seq,
    /// The most that was used since the window was last full, and since when.
    used: usize,
    since: Instant,
}

/// A congestion controller of a connection. All amounts are bytes.
#[derive(Debug)]
pub struct Control {
    window: Window,
    name: &'static str,
    /// None until it is asked, and again where it has learned nothing.
    algorithm: Option<Box<dyn Congestion>>,
    reduction: Option<Box<Reduction>>,
    /// What an undo returns to; None once there is nothing to undo.
    prior: Option<Box<Window>>,
    usage: Usage,
}

impl Control {
    /// A controller of a new connection; an unknown name is Linux's default.
    pub fn new(now: Instant, name: &str, mss: usize, iss: Seq) -> Control {
        let name = known(name.as_bytes()).unwrap_or("cubic");
        let algorithm = if super::hears_before_it_acts(name) { None } else { by_name(name) };
        let usage = Usage { limited: false, peak: 0, until: iss, used: 0, since: now };
        Control { window: Window::new(mss), name, algorithm, reduction: None, prior: None, usage }
    }

    /// Another algorithm takes the window over as it is (TCP_CONGESTION).
    pub fn switch_to(&mut self, algorithm: Box<dyn Congestion>) {
        self.name = algorithm.name();
        self.algorithm = Some(algorithm);
        self.prior = None;
    }

    /// Linux's name of the algorithm.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn steers(&self) -> bool {
        self.algorithm.as_ref().is_some_and(|algorithm| algorithm.steers())
    }

    /// The algorithm and what it works on.
    fn parts(&mut self) -> (&mut dyn Congestion, &mut Window) {
        let name = self.name;
        let fresh = || by_name(name).unwrap_or_else(|| Box::new(super::Cubic::default()));
        (&mut **self.algorithm.get_or_insert_with(fresh), &mut self.window)
    }

    /// Nothing was sent for a while: an algorithm that has learned nothing is made anew when it is needed.
    pub fn rest(&mut self) {
        self.algorithm.take_if(|algorithm| algorithm.is_fresh());
    }

    /// How much may be in flight.
    pub fn window(&self) -> usize {
        self.window.size
    }

    /// Where slow start ends; `usize::MAX` while unknown.
    pub fn ssthresh(&self) -> usize {
        self.window.ssthresh
    }

    /// The segment size is known or changed.
    pub fn set_mss(&mut self, mss: usize) {
        self.window.set_mss(mss);
    }

    /// The route says how many segments a new connection may send at once (RTAX_INITCWND).
    pub fn set_first_window(&mut self, segments: u16) {
        self.window.set_first(segments);
    }

    /// The handshake needed several SYNs: "the initial window SHOULD be one segment" (RFC 5681 section 3.1, and
    /// Linux from the second retransmission on).
    pub fn start_small(&mut self) {
        self.window.size = self.window.mss;
    }

    /// Whether it must hear of every acknowledgment, not only of those that let a window grow.
    pub fn hears_all(&self) -> bool {
        self.reduction.is_some() || self.steers()
    }

    /// Bytes a second that the algorithm wants to send at most.
    pub fn pacing_rate(&self) -> Option<u64> {
        self.algorithm.as_ref()?.pacing_rate()
    }

    /// A piece was lost.
    pub fn on_lost(&mut self, lost: &Lost) {
        let (algorithm, window) = self.parts();
        algorithm.on_lost(window, lost);
    }

    /// Takes an acknowledgment: grows the window, or lets it shrink with what leaves the network.
    pub fn on_ack(&mut self, sample: &AckSample) {
        if self.reduction.is_some() {
            self.reduce_with(sample);
        } else if sample.acked > 0 || self.steers() {
            let limited = self.is_limited();
            let (algorithm, window) = self.parts();
            algorithm.on_ack(window, &AckSample { window_limited: limited, ..*sample });
        }
    }

    /// RFC 6937 section 3.1: what may be sent in answer to an acknowledgment during recovery.
    fn reduce_with(&mut self, sample: &AckSample) {
        let Some(reduction) = &mut self.reduction else { return };
        if sample.acked == 0 {
            return;
        }
        reduction.delivered += sample.acked;
        let target = self.window.ssthresh;
        let allowed = if sample.in_flight > target {
            // "Proportional Rate Reduction: sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out", of whole
            // segments, in which Linux counts.
            let segment = self.window.mss.max(1);
            let share = (reduction.delivered as u128 * target as u128)
                .div_ceil(reduction.prior.max(1) as u128 * segment as u128);
            (share as usize).saturating_mul(segment).saturating_sub(reduction.out)
        } else {
            // "PRR-SSRB: limit = MAX(prr_delivered - prr_out, DeliveredData) + MSS; attempt to catch up, as
            // permitted by limit"; Linux adds the segment only where the acknowledgment advanced without new losses.
            // A small segment counts as a whole one, so that its delivery always lets something go.
            let least = sample.acked.max(self.window.mss);
            let mut limit = reduction.delivered.saturating_sub(reduction.out).max(least);
            if sample.advanced && sample.lost == 0 {
                limit += self.window.mss;
            }
            limit.min(target - sample.in_flight)
        };
        // The first retransmission does not wait.
        let least = if reduction.out == 0 { self.window.mss } else { 0 };
        self.window.size = sample.in_flight + allowed.max(least);
    }

    /// Congestion: the window shall shrink to a threshold that the algorithm names, with what is delivered.
    pub fn begin_reduction(&mut self, now: Instant, cause: Cause) {
        if self.reduction.is_some() {
            return;
        }
        self.remember(cause);
        if !self.steers() {
            let reduction = Reduction { prior: self.window.size, delivered: 0, out: 0 };
            self.reduction = Some(Box::new(reduction));
        }
        let (algorithm, window) = self.parts();
        window.ssthresh = algorithm.reduce(window, now, cause);
    }

    fn remember(&mut self, cause: Cause) {
        let ssthresh = self.window.known_threshold();
        // A mark is no mistake.
        self.prior = (cause != Cause::Mark).then(|| Box::new(Window { ssthresh, ..self.window }));
    }

    /// All that was in flight when it began is acknowledged: the window is the threshold.
    pub fn end_reduction(&mut self) {
        if self.reduction.take().is_some() {
            self.window.size = self.window.ssthresh;
        }
        let (algorithm, window) = self.parts();
        algorithm.on_recovered(window);
    }

    /// Data went out.
    pub fn on_sent(&mut self, bytes: usize) {
        if let Some(reduction) = &mut self.reduction {
            reduction.out += bytes;
        }
    }

    /// The retransmission timer expired with `in_flight` still under way. Only the first of a series names a new
    /// threshold.
    pub fn on_timeout(&mut self, now: Instant, first: First) {
        self.reduction = None;
        if first == First::Yes {
            self.remember(Cause::Timeout);
            let (algorithm, window) = self.parts();
            window.ssthresh = algorithm.reduce(window, now, Cause::Timeout);
        }
    }

    /// RFC 5681 section 3.1: after a timeout "cwnd MUST be set to no more than the loss window, LW, which equals 1
    /// full-sized segment"; what is still in flight counts besides, as on Linux.
    pub fn restart(&mut self, in_flight: usize) {
        self.window.size = in_flight + self.window.mss;
    }

    /// The last reduction was a mistake: takes it back where it can be. The threshold, too, as Linux does.
    pub fn undo(&mut self) {
        self.reduction = None;
        if let Some(prior) = self.prior.take() {
            self.window.size = self.window.size.max(prior.size);
            self.window.ssthresh = self.window.ssthresh.max(prior.ssthresh);
            self.parts().0.undo();
        }
    }

    /// The congestion was real.
    pub fn forbid_undo(&mut self) {
        self.prior = None;
    }

    /// The connection sends again after `idle` without a segment: RFC 5681 section 4.1, decayed by half for each
    /// timeout that passed, as RFC 2861 and Linux do (tcp_slow_start_after_idle).
    pub fn on_idle(&mut self, now: Instant, idle: Duration, rto: Duration) {
        if self.steers() {
            return;
        }
        self.window.ssthresh = self.window.known_threshold();
        let least = self.window.initial().min(self.window.size);
        let mut left = idle;
        while left > rto && self.window.size > least {
            left -= rto;
            self.window.size /= 2;
        }
        self.window.size = self.window.size.max(least);
        (self.usage.used, self.usage.since) = (0, now);
    }

    /// Whether growth is due (Linux's tcp_is_cwnd_limited): in slow start also where half the window was used.
    fn is_limited(&self) -> bool {
        self.usage.limited || self.window.is_slow_start() && self.window.size < 2 * self.usage.peak
    }

    /// The connection sends again after it had nothing to send.
    pub fn on_restart(&mut self) {
        if let Some(algorithm) = &mut self.algorithm {
            algorithm.on_restart();
        }
    }

    /// After a burst: whether the window ended it, and how much is in flight (Linux's tcp_cwnd_validate).
    pub fn validate(&mut self, burst: &Burst) {
        let usage = &mut self.usage;
        let new_flight = burst.una >= usage.until;
        if new_flight || burst.limited || !usage.limited && burst.in_flight > usage.peak {
            usage.limited = burst.limited;
            usage.peak = burst.in_flight;
            usage.until = burst.nxt;
        }
        if self.is_limited() {
            (self.usage.used, self.usage.since) = (0, burst.now);
            return;
        }
        self.usage.used = self.usage.used.max(burst.in_flight);
        let decays = burst.may_decay && !self.steers();
        if burst.now.since(self.usage.since) >= burst.rto && decays {
            self.shrink_to_use(burst.now);
        }
    }

    /// RFC 7661 in Linux's form (tcp_cwnd_application_limited): a window that a whole timeout long was not full
    /// goes half the way to what was used of it.
    fn shrink_to_use(&mut self, now: Instant) {
        let used = self.usage.used.max(self.window.initial());
        if used < self.window.size {
            self.window.ssthresh = self.window.known_threshold();
            self.window.size = (self.window.size + used) / 2;
        }
        (self.usage.used, self.usage.since) = (0, now);
    }
}

/// Whether a timeout is the first of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// It begins an episode of congestion.
    Yes,
    /// It repeats one, or comes while one is being repaired.
    No,
}

/// How a burst of transmissions ended.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// When.
    pub now: Instant,
    /// SND.UNA and SND.NXT.
    pub una: Seq,
    /// SND.NXT.
    pub nxt: Seq,
    /// Whether the window ended it.
    pub limited: bool,
    /// Bytes outstanding.
    pub in_flight: usize,
    /// The retransmission timeout.
    pub rto: Duration,
    /// Whether a window that is not used may shrink (no recovery, tcp_slow_start_after_idle, the program has not
    /// filled the send buffer).
    pub may_decay: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn control() -> Control {
        let mut control = Control::new(Instant::ZERO, "reno", MSS, Seq(0));
        control.window.size = 20 * MSS;
        control
    }

    fn ack(control: &mut Control, in_flight: usize, lost: usize) -> usize {
        let (acked, advanced) = (MSS, false);
        control.on_ack(&AckSample { acked, lost, in_flight, advanced, ..AckSample::default() });
        let room = control.window().saturating_sub(in_flight) / MSS * MSS;
        control.on_sent(room);
        room
    }

    #[test]
    fn a_reduction_sends_in_proportion_to_what_is_delivered() {
        let mut control = control();
        control.begin_reduction(Instant::ZERO, Cause::Loss);
        assert_eq!(control.ssthresh(), 10 * MSS);
        // One of twenty was lost: every second delivery sends one, and the first retransmission goes at once.
        let (mut in_flight, mut sent) = (19 * MSS, 0);
        for n in 0..19 {
            in_flight -= MSS;
            let room = ack(&mut control, in_flight, if n == 0 { MSS } else { 0 });
            assert!(n > 0 || room == MSS);
            assert!(room <= MSS, "no burst");
            in_flight += room;
            sent += room;
        }
        assert!((9..=10).contains(&(sent / MSS)), "{sent}");
        control.end_reduction();
        assert_eq!(control.window(), 10 * MSS);
    }

    #[test]
    fn a_burst_of_losses_is_refilled_to_the_threshold_without_a_burst() {
        let mut control = control();
        control.begin_reduction(Instant::ZERO, Cause::Loss);
        // Fifteen of twenty were lost, so that five are in flight.
        let mut in_flight = 5 * MSS;
        for _ in 0..4 {
            in_flight -= MSS;
            let room = ack(&mut control, in_flight, 0);
            assert_eq!(room, MSS, "conserves packets");
            in_flight += room;
        }
    }

    #[test]
    fn an_undo_restores_window_and_threshold_but_not_after_a_mark() {
        let mut control = control();
        control.begin_reduction(Instant::ZERO, Cause::Loss);
        ack(&mut control, 5 * MSS, MSS);
        control.undo();
        assert_eq!((control.window(), control.ssthresh()), (20 * MSS, usize::MAX));
        control.begin_reduction(Instant::ZERO, Cause::Mark);
        control.end_reduction();
        control.undo();
        assert_eq!((control.window(), control.ssthresh()), (10 * MSS, 10 * MSS));
    }

    #[test]
    fn an_idle_connection_halves_its_window_for_each_timeout_down_to_the_initial_one() {
        let second = Duration::from_secs(1);
        for (idle, left) in [(1, 80), (2, 40), (3, 20), (4, 10), (400, 10)] {
            let mut control = control();
            control.window.size = 80 * MSS;
            control.on_idle(Instant::ZERO, second * idle, second);
            assert_eq!(control.window(), left * MSS, "{idle} s");
        }
    }
}

//! Tail loss probes (RFC 8985 section 7): the last segments of a flight have nothing behind them that would tell of
//! their loss, so one is sent again before the timeout does.

use super::congestion::Cause;
use super::recovery::Heard;
use super::rtt::Rtt;
use super::send::{LossProbe, Outgoing, Phase, Sender};
use super::seq::Seq;
use crate::time::{Duration, Instant};

/// Least slack of the probe timeout (Linux's TCP_TIMEOUT_MIN).
const PROBE_SLACK: Duration = Duration::from_millis(2);

impl Sender {
    /// RFC 8985 section 7.2: when there is an acknowledgment missing for two round trips.
    pub(super) fn schedule_loss_probe(&mut self, now: Instant, rtt: &Rtt) {
        self.probe_at = None;
        let calm = matches!(self.phase, Phase::Open | Phase::Cwr { .. });
        let allowed = self.sack
            && calm
            && !self.board.is_empty()
            && self.loss_probe.is_none()
            && self.board.sacked() == 0
            && rtt.backoff() == 0;
        let Some(smoothed) = rtt.smoothed().filter(|_| allowed) else { return };
        // The peer may delay the acknowledgment of a lone segment (RFC 8985 section 7.2): as Linux, the least timeout more.
        let lone = self.outstanding() <= self.mss;
        let slack = if lone { rtt.bounds().least } else { PROBE_SLACK };
        let at = now + smoothed * 2 + slack;
        // "If the RTO would fire earlier, probe then": the probe takes its place.
        self.probe_at = Some(self.rto_at.map_or(at, |rto_at| at.min(rto_at)));
    }

    /// The probe timer expired: one more segment shall go out whatever the window says.
    pub fn on_loss_probe(&mut self, now: Instant, rtt: &Rtt) {
        self.probe_at = None;
        if self.board.is_empty() {
            return;
        }
        self.counters.loss_probes += 1;
        self.loss_probe_due = true;
        self.rto_at = Some(now + rtt.rto());
    }

    /// New data where the peer's window has room, else the last segment again (section 7.3).
    pub(super) fn poll_loss_probe(&mut self, now: Instant) -> Option<Outgoing> {
        if !core::mem::take(&mut self.loss_probe_due) {
            return None;
        }
        let fresh = self.unsent().min(self.mss).min(self.usable_window());
        if fresh > 0 {
            let out = self.take_new(now, fresh);
            self.loss_probe = Some(LossProbe { end: self.nxt, retransmitted: false });
            return Some(out);
        }
        let last = self.board.last_unsacked()?;
        let len = last.len().min(self.mss);
        let start = last.end - len;
        self.board.retransmitted(now, start, len);
        self.note_retransmission(now, 1);
        self.loss_probe = Some(LossProbe { end: self.nxt, retransmitted: true });
        Some(self.outgoing(start, len, true))
    }

    /// Section 7.4: a probe that repaired a loss stands for one congestion signal.
    pub(super) fn settle_loss_probe(&mut self, now: Instant, ack: Seq, heard: &Heard) {
        let Some(probe) = self.loss_probe else { return };
        if ack < probe.end {
            return;
        }
        let reported = heard.report.is_some_and(|report| report.end == probe.end);
        // "1. the TLP was new data; 2. a D-SACK tells that the original and the probe arrived", or a pure duplicate does.
        let pure = heard.advanced == 0 && heard.duplicate && !heard.sacked;
        if !probe.retransmitted || reported || ack == probe.end && pure {
            self.loss_probe = None;
        } else if ack > probe.end {
            // Only the probe arrived: "invoke a congestion control response equivalent to a fast recovery".
            self.loss_probe = None;
            self.counters.loss_probe_recoveries += 1;
            self.congestion.begin_reduction(now, Cause::Loss);
            self.undo.marker = None;
            if self.phase == Phase::Open {
                self.congestion.end_reduction();
            }
        }
    }
}

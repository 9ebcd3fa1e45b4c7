//! The sending half hears back: acknowledgments, SACK, round-trip samples, and the repair of losses by duplicate
//! acknowledgments (RFC 6582), by time (RFC 8985) and by timeout (RFC 6298).

use super::congestion::AckSample;
use super::rtt::Rtt;
use super::sack::Delivery;
use super::send::{Ack, AckOutcome, Fin, Phase, Sender};
use super::seq::Seq;
use crate::time::{Duration, Instant};

/// Added to the probe timeout when one segment is out, whose acknowledgment the peer may delay.
const PEER_ACK_DELAY: Duration = Duration::from_millis(50);
/// Least slack of the probe timeout.
const PROBE_SLACK: Duration = Duration::from_millis(2);
const DUPLICATE_THRESHOLD: u32 = 3;

impl Sender {
    /// Takes an acknowledgment that is neither too old nor beyond what was sent.
    pub fn on_ack(&mut self, now: Instant, rtt: &mut Rtt, ack: &Ack<'_>) -> AckOutcome {
        let flight_before = self.in_flight();
        let advanced = ack.ack.since(self.una);
        // RFC 5681 section 2: a duplicate has outstanding data, no data, no SYN or FIN, and the same window.
        let duplicate = advanced == 0
            && ack.ack == self.una
            && ack.len == 0
            && !self.board.is_empty()
            && ack.window == self.window;
        // "If SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK), set SND.WND".
        if ack.ack >= self.una && (self.wl1 < ack.seq || self.wl1 == ack.seq && self.wl2 <= ack.ack)
        {
            self.set_window(ack.seq, ack.ack, ack.window);
        }
        self.probes = 0;
        if self.window > 0 {
            self.probe_backoff = 0;
        }
        let mut delivery = Delivery::default();
        let fin_acked = self.take_cumulative(ack.ack, &mut delivery);
        let reported = self.sack && self.take_sack(ack, &mut delivery);
        self.sample_rtt(now, rtt, ack, &delivery, advanced);
        self.rack.update(now, &delivery, rtt.min());
        if reported {
            self.counters.duplicates_reported += 1;
            self.rack.on_duplicate_report();
        }
        self.settle_loss_probe(now, flight_before, reported);
        self.leave_recovery(now);
        if self.sack {
            self.detect_losses(now, rtt);
        } else {
            self.count_duplicate(now, duplicate, advanced);
        }
        let repairing = matches!(self.phase, Phase::Recovery { .. });
        if delivery.bytes > 0 && !repairing {
            self.congestion.on_ack(AckSample {
                now,
                acked: delivery.bytes,
                in_flight: flight_before,
                rtt: delivery.rtt(now),
            });
        }
        if advanced > 0 {
            self.rearm_after_progress(now, rtt);
        } else if self.board.is_empty() {
            self.persist_at = None;
        }
        AckOutcome { advanced, fin_acked }
    }

    fn take_cumulative(&mut self, ack: Seq, delivery: &mut Delivery) -> bool {
        if ack > self.una {
            self.board.acknowledge(ack, delivery);
            let bytes = ack.min(self.queue_end()).since(self.queue_start);
            self.queue.advance(bytes);
            self.queue_start += bytes;
            self.counters.bytes_acked += bytes as u64;
            self.una = ack;
            self.retries = 0;
            self.stalled_since = None;
        }
        self.fin == Fin::Sent && self.una > self.queue_end()
    }

    /// Takes SACK blocks; returns whether the first is a D-SACK (RFC 2883).
    fn take_sack(&mut self, ack: &Ack<'_>, delivery: &mut Delivery) -> bool {
        let mut reported = false;
        let second = ack.sack.iter().nth(1);
        for (index, (left, right)) in ack.sack.iter().enumerate() {
            let (left, right) = (Seq(left), Seq(right));
            if left >= right || right > self.nxt {
                continue;
            }
            let inside_second = second
                .is_some_and(|(from, to)| left >= Seq(from) && right <= Seq(to) && right > ack.ack);
            if index == 0 && (right <= ack.ack || inside_second) {
                reported |= right.since(left) <= self.max_window.max(self.mss);
                continue;
            }
            if right > self.una {
                self.board.sack(left.max(self.una), right, self.mss, delivery);
            }
        }
        reported
    }

    fn sample_rtt(
        &mut self,
        now: Instant,
        rtt: &mut Rtt,
        ack: &Ack<'_>,
        delivery: &Delivery,
        advanced: usize,
    ) {
        // A millisecond says nothing about a path that is known to be shorter.
        let short = rtt.smoothed().is_some_and(|smoothed| smoothed < Duration::from_millis(1));
        if let Some(sample) = delivery.rtt(now) {
            rtt.sample(now, sample);
        } else if let Some(echo) = ack.echo_rtt.filter(|_| advanced > 0 && !short) {
            rtt.sample_coarse(echo);
        } else if advanced > 0 {
            rtt.reset_backoff();
        }
    }

    /// RFC 8985 section 7.4: a probe that repaired a loss stands for one congestion signal.
    fn settle_loss_probe(&mut self, now: Instant, flight: usize, reported: bool) {
        let Some(probe) = self.loss_probe else { return };
        if self.una < probe.end {
            return;
        }
        self.loss_probe = None;
        if probe.retransmitted && !reported && self.phase == Phase::Open {
            self.congestion.on_loss(now, flight);
            self.congestion.on_recovered(now);
        }
    }

    fn leave_recovery(&mut self, now: Instant) {
        match self.phase {
            Phase::Recovery { point } | Phase::Loss { point } if self.una >= point => {
                self.phase = Phase::Open;
                self.fast_due = false;
                self.duplicates = 0;
                self.rack.on_recovered();
                self.congestion.on_recovered(now);
            }
            _ => {}
        }
    }

    /// RACK's pass over the scoreboard, on an acknowledgment or by its timer.
    pub fn detect_losses(&mut self, now: Instant, rtt: &Rtt) {
        let min = rtt.min().unwrap_or_default();
        let smoothed = rtt.smoothed().unwrap_or(min);
        let recovering = self.phase != Phase::Open;
        let found = self.rack.detect(now, &mut self.board, recovering, min, smoothed);
        self.reorder_at = found.look_again_at;
        if found.lost > 0 && self.phase == Phase::Open {
            self.enter_recovery(now);
        }
    }

    /// RFC 6582, for a peer without SACK.
    fn count_duplicate(&mut self, now: Instant, duplicate: bool, advanced: usize) {
        if advanced > 0 {
            self.duplicates = 0;
            // "If this ACK does not acknowledge all of the data up to and including recover, then this is
            // a partial ACK. In this case, retransmit the first unacknowledged segment."
            if matches!(self.phase, Phase::Recovery { .. }) {
                self.board.mark_head_lost(self.mss);
                self.fast_due = true;
            }
        } else if duplicate {
            self.duplicates += 1;
            if self.duplicates == DUPLICATE_THRESHOLD && self.phase == Phase::Open {
                self.board.mark_head_lost(self.mss);
                self.enter_recovery(now);
            }
        }
    }

    fn enter_recovery(&mut self, now: Instant) {
        self.congestion.on_loss(now, self.outstanding());
        self.counters.recoveries += 1;
        self.phase = Phase::Recovery { point: self.nxt };
        self.fast_due = true;
        self.loss_probe = None;
        self.probe_at = None;
    }

    fn rearm_after_progress(&mut self, now: Instant, rtt: &Rtt) {
        self.persist_at = None;
        if self.board.is_empty() {
            self.rto_at = None;
            self.probe_at = None;
            self.reorder_at = None;
            return;
        }
        // (5.3) "When an ACK is received that acknowledges new data, restart the retransmission timer".
        self.rto_at = Some(now + rtt.rto());
        self.schedule_loss_probe(now, rtt);
    }

    /// RFC 8985 section 7.2.
    pub(super) fn schedule_loss_probe(&mut self, now: Instant, rtt: &Rtt) {
        self.probe_at = None;
        let allowed = self.sack
            && self.phase == Phase::Open
            && self.loss_probe.is_none()
            && self.board.sacked() == 0
            && rtt.backoff() == 0;
        let Some(smoothed) = rtt.smoothed().filter(|_| allowed) else { return };
        let mut timeout = smoothed * 2 + PROBE_SLACK;
        if self.board.in_flight() <= self.mss {
            timeout += PEER_ACK_DELAY;
        }
        let at = now + timeout;
        if self.rto_at.is_some_and(|rto_at| at < rto_at) {
            self.probe_at = Some(at);
        }
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

    /// The retransmission timer expired with data outstanding (RFC 6298 section 5.4 to 5.6).
    pub fn on_timeout(&mut self, now: Instant, rtt: &mut Rtt) {
        if !matches!(self.phase, Phase::Loss { .. }) {
            self.congestion.on_timeout(now, self.outstanding());
        }
        self.counters.timeouts += 1;
        self.phase = Phase::Loss { point: self.nxt };
        self.board.mark_all_lost();
        self.duplicates = 0;
        self.fast_due = true;
        self.loss_probe = None;
        self.loss_probe_due = false;
        self.probe_at = None;
        self.reorder_at = None;
        self.note_stall(now);
        self.retries += 1;
        rtt.back_off();
        self.rto_at = Some(now + rtt.rto());
    }

    /// A timer expired without an answer.
    pub fn note_stall(&mut self, now: Instant) {
        self.stalled_since.get_or_insert(now);
    }

    /// The path takes less than was sent in one piece: send it again, smaller, without calling it congestion.
    pub fn on_packet_too_big(&mut self) {
        self.board.mark_all_lost();
        self.fast_due = true;
    }
}

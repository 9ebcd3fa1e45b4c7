//! The sending half hears back: acknowledgments, SACK, round-trip samples, and the repair of losses by duplicate
//! acknowledgments (RFC 6582), by SACK and time (RFC 6675, RFC 8985) and by timeout (RFC 6298). The phases are those
//! of Linux's tcp_fastretrans_alert.

use super::congestion::{AckSample, Cause, First, Lost};
use super::rtt::Rtt;
use super::sack::Delivery;
use super::send::{Ack, AckOutcome, Fin, Phase, Sender};
use super::seq::Seq;
use super::undo::Frto;
use crate::time::{Duration, Instant};

const DUPLICATE_THRESHOLD: usize = 3;

/// A D-SACK (RFC 2883): the peer got this twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) end: Seq,
    pub(super) segments: usize,
}

/// What one acknowledgment told the phases.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Sequence numbers newly acknowledged.
    pub(super) advanced: usize,
    /// Whether it is a duplicate by RFC 5681.
    pub(super) duplicate: bool,
    /// Whether it newly delivered something by SACK.
    pub(super) sacked: bool,
    /// Its D-SACK.
    pub(super) report: Option<Report>,
    /// When what it answers was sent, by the echoed timestamp, in whole milliseconds.
    pub(super) echo_ms: Option<u64>,
    /// The lowest sequence number that it delivered and that was sent once only.
    pub(super) original: Option<Seq>,
}

impl Sender {
    /// Takes an acknowledgment that is neither too old nor beyond what was sent.
    pub fn on_ack(&mut self, now: Instant, rtt: &mut Rtt, ack: &Ack<'_>) -> AckOutcome {
        let advanced = ack.ack.since(self.una);
        // As Linux's tcp_may_update_window: what neither acknowledges nor follows cannot shrink the window, but it may close it.
        let updates = ack.ack >= self.una
            && (advanced > 0
                || self.wl1 < ack.seq
                || self.wl1 == ack.seq && (ack.window > self.window || ack.window == 0));
        // RFC 5681 section 2: a duplicate has outstanding data, no data, no SYN or FIN, and no news of the window.
        let duplicate = advanced == 0
            && ack.ack == self.una
            && ack.len == 0
            && !self.board.is_empty()
            && !updates;
        if updates {
            self.set_window(ack.seq, ack.window);
        }
        if self.expects_nothing(ack) {
            let fin_acked = self.is_fin_acked();
            return AckOutcome { fin_acked, ..AckOutcome::default() };
        }
        self.probes = 0;
        if self.window > 0 {
            self.probe_backoff = 0;
            if self.board.is_empty() {
                // It was a closed window that was waited for.
                self.stalled_since = None;
            }
        }
        if let Some(since) = self.stalled_since.filter(|_| advanced > 0 && self.retries > 0) {
            let lasted = u32::try_from(now.since(since).as_millis()).unwrap_or(u32::MAX);
            self.counters.timeout_time_ms = self.counters.timeout_time_ms.wrapping_add(lasted);
        }
        let mut delivery = Delivery::default();
        let fin_acked = self.take_cumulative(ack.ack, &mut delivery);
        let sacked_before = self.board.sacked();
        let report = if self.sack { self.take_sack(ack, &mut delivery) } else { None };
        self.sample_rtt(now, rtt, ack, &delivery, advanced);
        if !self.sack {
            self.count_duplicates(advanced, duplicate, &mut delivery);
        }
        let echo_ms = ack.echo_rtt.map(|echo| now.millis().saturating_sub(echo.as_millis() as u64));
        // Out of order the echo is that of what came before the hole (RFC 7323 section 4.3), and tells nothing.
        let answered = echo_ms.filter(|_| advanced > 0);
        let mss = self.mss;
        self.rack.update(now, &delivery, (rtt.min(), answered), mss);
        let heard = Heard {
            advanced,
            duplicate,
            sacked: self.board.sacked() > sacked_before,
            report,
            echo_ms,
            original: delivery.lowest_original,
        };
        if let Some(report) = report {
            self.on_duplicate_report(report);
        }
        self.settle_loss_probe(now, ack.ack, &heard);
        let lost = self.step_phase(now, rtt, &heard);
        self.rearm(now, rtt, &heard, &delivery);
        self.steer(now, rtt, &heard, &delivery, lost);
        AckOutcome { advanced, delivered: delivery.bytes, fin_acked }
    }

    fn take_cumulative(&mut self, ack: Seq, delivery: &mut Delivery) -> bool {
        if ack > self.una {
            self.board.acknowledge(ack, delivery);
            let bytes = ack.min(self.queue_end()).since(self.queue_start);
            self.queue.advance(bytes);
            self.queue_start += bytes;
            self.bytes_acked += bytes as u64;
            self.una = ack;
            self.retries = 0;
            self.stalled_since = None;
        }
        self.fin == Fin::Sent && self.una > self.queue_end()
    }

    /// Takes SACK blocks; returns what the first reports where it is a D-SACK (RFC 2883).
    fn take_sack(&mut self, ack: &Ack<'_>, delivery: &mut Delivery) -> Option<Report> {
        let mut report = None;
        let second = ack.sack.iter().nth(1);
        for (index, (left, right)) in ack.sack.iter().enumerate() {
            let (left, right) = (Seq(left), Seq(right));
            if left >= right || right > self.nxt {
                continue;
            }
            let inside_second = second
                .is_some_and(|(from, to)| left >= Seq(from) && right <= Seq(to) && right > ack.ack);
            if index == 0 && (right <= ack.ack || inside_second) {
                let len = right.since(left);
                if len <= self.max_window.max(self.mss) {
                    report = Some(Report { end: right, segments: len.div_ceil(self.mss) });
                }
                continue;
            }
            if right > self.una {
                self.flight.board.sack(left.max(self.una), right, self.mss, delivery);
            }
        }
        report
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
        }
        // RFC 6298 section 5: the backoff lasts until "a new RTT measurement is obtained (which can only happen when new data has been
        // sent and acknowledged)".
    }

    /// A peer without SACK: each duplicate acknowledgment tells of one segment that left the network, and the
    /// acknowledgment of a hole eats those that told of what followed it (Linux's tcp_remove_reno_sacks).
    fn count_duplicates(&mut self, advanced: usize, duplicate: bool, delivery: &mut Delivery) {
        let outstanding = self.outstanding().div_ceil(self.mss);
        if advanced > 0 && self.duplicates > 0 {
            let segments = advanced.div_ceil(self.mss);
            let fresh = segments.saturating_sub(self.duplicates).max(1) * self.mss;
            delivery.bytes = fresh.min(advanced);
            self.duplicates = self.duplicates.saturating_sub(segments - 1);
        } else if duplicate {
            delivery.bytes = self.mss;
            self.duplicates += 1;
        }
        let holes = self.board.lost().div_ceil(self.mss).max(1);
        self.duplicates = self.duplicates.min(outstanding.saturating_sub(holes));
    }

    /// Linux's tcp_fastretrans_alert: returns how many bytes were newly taken for lost.
    fn step_phase(&mut self, now: Instant, rtt: &Rtt, heard: &Heard) -> usize {
        self.holds = false;
        if self.phase == Phase::Open && self.board.retransmissions_out() == 0 {
            self.undo.first_at = None;
        }
        match self.phase {
            Phase::Cwr { point } if self.una > point => {
                self.congestion.end_reduction();
                self.phase = Phase::Open;
            }
            Phase::Recovery { point } if self.una >= point => self.leave_recovery(heard),
            _ => {}
        }
        match self.phase {
            Phase::Open | Phase::Cwr { .. } => {
                if self.phase == Phase::Open {
                    self.undo_by_report(heard);
                }
            }
            Phase::Recovery { .. } => {
                if heard.advanced > 0 && self.undo_partially(heard) {
                    return 0;
                }
                self.undo_by_report(heard);
            }
            Phase::Loss { point } => self.step_loss(point, heard),
        }
        self.detect_losses_after(now, rtt, heard.advanced)
    }

    fn leave_recovery(&mut self, heard: &Heard) {
        self.undo_whole(heard);
        self.congestion.end_reduction();
        self.phase = Phase::Open;
        self.fast_due = false;
    }

    /// RACK's pass over the scoreboard by its timer.
    pub fn detect_losses(&mut self, now: Instant, rtt: &Rtt) {
        self.detect_losses_after(now, rtt, 0);
    }

    fn detect_losses_after(&mut self, now: Instant, rtt: &Rtt, advanced: usize) -> usize {
        let mut again = 0;
        let lost = if self.sack {
            let min = rtt.min().unwrap_or_default();
            let smoothed = rtt.smoothed().unwrap_or(min);
            let recovering = matches!(self.phase, Phase::Recovery { .. } | Phase::Loss { .. });
            let (flight, congestion) = self.parts();
            let (rate, board) = (&mut flight.rate, &mut flight.board);
            let found = flight.rack.detect(now, board, recovering, min, smoothed, |sent| {
                rate.on_lost(sent.len());
                congestion.on_lost(&Lost::new(now, sent, rate));
            });
            self.reorder_at = found.look_again_at;
            again = found.retransmissions;
            self.counters.lost_retransmissions += again as u32;
            found.lost
        } else {
            self.mark_by_duplicates(advanced)
        };
        let enters = match self.phase {
            Phase::Open | Phase::Cwr { .. } => lost > 0,
            // A retransmission that is lost after a timeout begins a recovery of its own, as on Linux.
            Phase::Loss { .. } => again > 0,
            Phase::Recovery { .. } => false,
        };
        if enters && !self.lost_only_the_mtu_probe() {
            self.enter_recovery(now);
        }
        lost
    }

    /// RFC 6582 section 3.2, for a peer without SACK.
    fn mark_by_duplicates(&mut self, advanced: usize) -> usize {
        let loses = match self.phase {
            // "If the Cumulative Acknowledgment field covers more than recover", three duplicates mean loss.
            Phase::Open | Phase::Cwr { .. } => {
                self.duplicates >= DUPLICATE_THRESHOLD && self.una > self.recover
            }
            // "If this ACK does not acknowledge all of the data up to and including recover, then this is
            // a partial ACK. In this case, retransmit the first unacknowledged segment."
            Phase::Recovery { .. } => advanced > 0,
            Phase::Loss { .. } => false,
        };
        let lost = if loses { self.flight.board.mark_head_lost(self.mss) } else { 0 };
        self.rate.on_lost(lost);
        lost
    }

    /// The network says that it is congested (RFC 3168 section 6.1.2): "TCP should not react to congestion indications more
    /// than once every window of data". The caller has taken the acknowledgment that said so.
    pub fn on_congestion_mark(&mut self, now: Instant) {
        match self.phase {
            Phase::Open => {
                self.congestion.begin_reduction(now, Cause::Mark);
                self.undo.marker = None;
                self.reduced = true;
                self.phase = Phase::Cwr { point: self.nxt };
            }
            // What is being repaired was congestion after all.
            _ => self.congestion.forbid_undo(),
        }
    }

    fn enter_recovery(&mut self, now: Instant) {
        self.begin_undo();
        self.reduced = true;
        self.congestion.begin_reduction(now, Cause::Loss);
        match self.sack {
            true => self.counters.recoveries += 1,
            false => self.counters.reno_recoveries += 1,
        }
        self.phase = Phase::Recovery { point: self.nxt };
        self.recover = self.nxt;
        self.frto = Frto::Off;
        self.loss_probe = None;
        self.probe_at = None;
    }

    /// Whether the timers begin anew.
    fn rearm(&mut self, now: Instant, rtt: &Rtt, heard: &Heard, delivery: &Delivery) {
        if heard.advanced > 0 || self.board.is_empty() {
            self.persist_at = None;
        }
        if self.board.is_empty() {
            self.rto_at = None;
            self.probe_at = None;
            self.reorder_at = None;
            return;
        }
        // A SACK of what was sent before the first hole last was says that the path lives (as Linux).
        let head = self.board.head_sent_at().unwrap_or(now);
        let alive = heard.sacked && delivery.rtt(now).is_some_and(|rtt| rtt > now.since(head));
        if heard.advanced > 0 || alive {
            // (5.3) "When an ACK is received that acknowledges new data, restart the retransmission timer".
            self.rto_at = Some(now + rtt.rto());
            self.schedule_loss_probe(now, rtt);
        }
    }

    /// Tells the controller.
    fn steer(&mut self, now: Instant, rtt: &Rtt, heard: &Heard, delivery: &Delivery, lost: usize) {
        let round_started = heard.advanced > 0 && self.una >= self.round_end;
        if round_started {
            self.round_end = self.nxt;
        }
        let min = rtt.min().unwrap_or_default();
        let rate = self.rate.on_delivered(now, delivery.bytes, delivery.last.as_ref(), min);
        // Linux's tcp_may_raise_cwnd: SACK alone lets the window grow only where reordering is known.
        let progress = heard.advanced > 0 || heard.sacked && self.rack.reorderings() > 0;
        if !progress && !self.congestion.hears_all() {
            return;
        }
        self.congestion.on_ack(&AckSample {
            now,
            acked: delivery.bytes,
            lost,
            in_flight: self.in_flight(),
            rtt: delivery.rtt(now),
            smoothed: rtt.smoothed().unwrap_or_default(),
            advanced: heard.advanced > 0,
            round_started,
            window_limited: false,
            rate,
        });
    }

    /// The retransmission timer expired with data outstanding (RFC 6298 section 5.4 to 5.6).
    pub fn on_timeout(&mut self, now: Instant, rtt: &mut Rtt) {
        let repairing = matches!(self.phase, Phase::Recovery { .. } | Phase::Loss { .. });
        let first = match self.phase {
            Phase::Open => true,
            Phase::Loss { .. } if self.retries == 0 => true,
            Phase::Cwr { point } | Phase::Recovery { point } | Phase::Loss { point } => {
                point <= self.una
            }
        };
        if first {
            self.begin_undo();
        }
        self.congestion.on_timeout(now, if first { First::Yes } else { First::No });
        self.counters.timeouts += 1;
        self.counters.timeout_series += u32::from(self.retries == 0);
        self.reduced = true;
        // RFC 8985 section 6.3: besides the first, "segments that were sent recently" are not lost yet.
        let patience = self.rack.patience(&self.board, repairing, rtt);
        let lost = self.board.lost();
        self.flight.board.mark_timed_out(now, patience.filter(|_| self.sack));
        let newly = self.board.lost().saturating_sub(lost);
        self.rate.on_lost(newly);
        self.duplicates = 0;
        self.congestion.restart(self.in_flight());
        // RFC 5682 section 2.1 and Linux: not where the timeout interrupts another repair.
        let detects = self.detects_spurious_timeouts && (!repairing || self.retries > 0);
        self.frto = if detects { Frto::Retransmitted } else { Frto::Off };
        self.phase = Phase::Loss { point: self.nxt };
        self.recover = self.nxt;
        self.fast_due = true;
        self.head_due = true;
        self.holds = false;
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

//! Segments go out: one at a time, until there is no more to send for now.

use super::accounts::Waits;
use super::config::PathLimits;
use super::connection::Connection;
use super::ecn::Mode;
use super::receive::AckDue;
use super::segment::Segment;
use super::send::{Budget, Outgoing};
use super::state::{Origin, State, SynReceived};
use super::tcb::Pending;
use crate::buffer::Chain;
use crate::time::Instant;
use crate::wire::tcp::Flags;

impl Connection {
    /// The next segment to send. It may be larger than a segment on the wire (see [`Segment::mss`]). Call it
    /// until it gives None; then [`Connection::next_deadline`] tells when there may be more.
    pub fn poll_transmit(&mut self, now: Instant, limits: PathLimits) -> Option<Segment> {
        let next = self.next_segment(now, &limits);
        match &next {
            Some(segment) => self.tcb.accounts.sent(now, segment),
            None => self.note_wait(now),
        }
        next
    }

    /// Whether a look for segments would find none. Then it notes what the connection waits for, and the look can be spared, with
    /// all that has to be known of the way for it.
    pub fn has_nothing_to_send(&mut self, now: Instant) -> bool {
        let (tcb, state) = (&self.tcb, &self.state);
        let open = state.is_synchronized() && !matches!(state, State::TimeWait(_));
        let due = self.owes_ack() || tcb.pending != Pending::default() || tcb.mtu.is_enabled();
        let nothing = open && !due && tcb.send.has_nothing_due();
        if nothing {
            self.note_wait(now);
        }
        nothing
    }

    /// Whether its timer would send later what waits now. Of a connection that has ended only a reset or an acknowledgment is left, for
    /// which no timer runs.
    pub fn may_be_held_back(&self) -> bool {
        !matches!(self.state, State::Closed(_) | State::TimeWait(_))
    }

    /// The link has enough of what is sent: what there is waits until then.
    pub fn hold_back(&mut self, until: Instant) {
        let send = &mut self.tcb.send;
        send.pace_at = Some(send.pace_at.map_or(until, |at| at.max(until)));
    }

    /// All that may be sent is sent: what keeps the rest.
    pub(super) fn note_wait(&mut self, now: Instant) {
        let send = &self.tcb.send;
        let flying = send.outstanding();
        let room = send.congestion.window() > flying;
        let full = send.unsent() > 0 && room && flying + send.mss.min(send.unsent()) > send.window;
        let queued = send.queued();
        let spent = send.unsent() == 0 && queued > 0 && queued >= self.tcb.send_capacity();
        let waits = Waits { queued, window_is_full: full, buffer_is_full: spent && room };
        self.tcb.accounts.waits(now, waits);
    }

    fn next_segment(&mut self, now: Instant, limits: &PathLimits) -> Option<Segment> {
        if core::mem::take(&mut self.tcb.pending.reset) {
            return Some(self.tcb.build_reset(now));
        }
        if self.tcb.limits != *limits {
            self.tcb.apply_limits(*limits);
        }
        match self.state {
            State::Closed(_) => None,
            State::SynSent(_) if self.waits_for_data() => None,
            State::SynSent(_) => self.poll_syn(now, Flags::SYN),
            State::SynReceived(SynReceived { origin: Origin::FastOpen }) => {
                let syn_ack = self.poll_syn(now, Flags::SYN | Flags::ACK);
                syn_ack.or_else(|| self.poll_data(now, limits))
            }
            State::SynReceived(_) => {
                let syn_ack = self.poll_syn(now, Flags::SYN | Flags::ACK);
                syn_ack.or_else(|| self.poll_ack(now))
            }
            State::TimeWait(_) => self.poll_ack(now),
            _ => self.poll_data(now, limits),
        }
    }

    fn poll_syn(&mut self, now: Instant, flags: Flags) -> Option<Segment> {
        if !core::mem::take(&mut self.tcb.pending.syn) {
            return None;
        }
        if self.tcb.send.rto_at.is_none() {
            self.tcb.send.rto_at = Some(now + self.tcb.rtt.rto());
        }
        Some(self.tcb.build_syn(now, flags))
    }

    fn poll_ack(&mut self, now: Instant) -> Option<Segment> {
        if self.tcb.receive.ack_due != AckDue::Now {
            return None;
        }
        let seq = self.tcb.send.nxt;
        Some(self.tcb.build(now, seq, Chain::new(), Flags::empty()))
    }

    fn poll_data(&mut self, now: Instant, limits: &PathLimits) -> Option<Segment> {
        // SACK blocks find no room beside data, and the peer's recovery needs them.
        if self.tcb.receive.ack_due == AckDue::Now && self.tcb.receive.has_blocks() {
            return self.poll_ack(now);
        }
        // CWR is for one segment of the wire, not for a train.
        let most = if self.tells_reduced() { 0 } else { limits.gso_max };
        let budget =
            Budget { gso_max: most.max(self.tcb.send.mss), push: self.tcb.settings.push() };
        let probe = self.poll_mtu_probe(now);
        if probe.is_some() {
            return probe;
        }
        if let Some(out) = self.tcb.send.poll(now, &self.tcb.rtt, budget) {
            return Some(self.data_segment(now, out));
        }
        if core::mem::take(&mut self.tcb.pending.probe) {
            // As Linux does: a segment before the window makes the peer acknowledge, and so tell its window.
            let seq = self.tcb.send.una - 1usize;
            return Some(self.tcb.build(now, seq, Chain::new(), Flags::empty()));
        }
        let ack = self.poll_ack(now);
        if ack.is_none() {
            self.arm_persist(now);
        }
        ack
    }

    /// A segment that is larger than usual, to learn whether the path takes it.
    fn poll_mtu_probe(&mut self, now: Instant) -> Option<Segment> {
        let tcb = &mut self.tcb;
        if !tcb.mtu.is_enabled() {
            return None;
        }
        let supply = tcb.send.mtu_supply()?;
        let config = tcb.config.clone();
        let len = tcb.mtu.wanted(now, &config, &supply)?;
        tcb.mtu.sent(len);
        let out = tcb.send.poll_mtu_probe(now, &tcb.rtt, len);
        let mut segment = self.data_segment(now, out);
        segment.mss = len;
        Some(segment)
    }

    fn data_segment(&mut self, now: Instant, out: Outgoing) -> Segment {
        let mut flags = Flags::empty();
        // A train ends with PSH, too, as Linux's do: a receiver that joins segments need not wait for more.
        let is_train = !out.retransmission && out.payload.len() > self.tcb.send.mss;
        flags.set(Flags::PSH, out.push || is_train);
        flags.set(Flags::FIN, out.fin);
        let fresh = !out.retransmission && !out.payload.is_empty();
        if fresh && self.tells_reduced() {
            // RFC 3168 section 6.1.2: "the CWR flag in the TCP header of the first new data packet sent".
            flags |= Flags::CWR;
            self.tcb.send.reduced = false;
        }
        if !out.payload.is_empty() {
            self.tcb.receive.on_data_sent(now);
        }
        let mut segment = self.tcb.build(now, out.seq, out.payload, flags);
        segment.retransmission = out.retransmission;
        if fresh {
            segment.ecn = self.tcb.ecn.codepoint();
        }
        segment
    }

    /// Whether the next new data shall tell the peer that the window was reduced.
    pub(super) fn tells_reduced(&self) -> bool {
        self.tcb.send.reduced && self.tcb.ecn.mode() == Mode::Classic
    }

    /// The persist timer runs while something waits and nothing is outstanding (RFC 9293 section 3.8.6.1).
    fn arm_persist(&mut self, now: Instant) {
        if !self.tcb.send.is_stuck() {
            self.tcb.send.persist_at = None;
        } else if self.tcb.send.persist_at.is_none() {
            self.tcb.send.persist_at = Some(self.clamp(now, now + self.persist_interval()));
        }
    }
}

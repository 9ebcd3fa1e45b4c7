//! A segment arrives (RFC 9293 section 3.10.7).

use super::config::Error;
use super::connection::{Connection, Disposition, DropReason};
use super::ecn;
use super::receive::{AckDue, Text};
use super::segment::Segment;
use super::send::Ack;
use super::state::{Origin, OurFin, State, SynReceived, SynSentDisposition, TimeWait};
use super::time_wait::{Awaits, Remnant, RemnantDisposition};
use crate::time::Instant;
use crate::wire::tcp::Flags;

impl Connection {
    /// Takes a segment, with its payload. What it makes due comes out of [`Connection::poll_transmit`].
    pub fn on_segment(&mut self, now: Instant, segment: &mut Segment) -> Disposition {
        self.tcb.accounts.received(now, segment, self.tcb.receive.peer_mss);
        match self.state {
            State::Closed(state) => match state.on_segment(segment) {
                Some(reset) => Disposition::SendReset(Box::new(reset)),
                None => Disposition::Ignored(DropReason::NoUse),
            },
            State::SynSent(state) => match state.on_segment(&mut self.tcb, now, segment) {
                SynSentDisposition::Ignore => Disposition::Ignored(DropReason::NoUse),
                SynSentDisposition::SendReset(reset) => Disposition::SendReset(Box::new(reset)),
                SynSentDisposition::Foreign(reset) => {
                    self.tcb.receive.count_foreign_echo();
                    Disposition::SendReset(Box::new(reset))
                }
                SynSentDisposition::Fail(error) => self.ended(error),
                SynSentDisposition::Established(next) => {
                    self.state = State::Established(next);
                    Disposition::Established
                }
                SynSentDisposition::SynReceived(next) => {
                    self.state = State::SynReceived(next);
                    Disposition::Accepted
                }
            },
            State::TimeWait(state) => self.on_time_wait(now, state, segment),
            _ => self.on_synchronized(now, segment),
        }
    }

    fn ended(&mut self, error: Error) -> Disposition {
        self.end(Some(error));
        Disposition::Ended
    }

    fn on_time_wait(&mut self, now: Instant, state: TimeWait, segment: &Segment) -> Disposition {
        let mut remnant = Remnant::new(Awaits::Silence, state.expires, &self.tcb, None);
        let config = self.tcb.config.clone();
        let disposition = remnant.on_segment(now, segment, &config);
        self.state = State::TimeWait(TimeWait { expires: remnant.expires });
        match disposition {
            RemnantDisposition::Ignore => Disposition::Ignored(DropReason::NoUse),
            RemnantDisposition::Send(_) => {
                if segment.is_empty() || segment.syn() {
                    self.tcb.acknowledge_invalid(now);
                } else {
                    self.tcb.receive.ack_due = AckDue::Now;
                }
                Disposition::Ignored(DropReason::OutOfWindow)
            }
            RemnantDisposition::Ended | RemnantDisposition::Reset(_) => {
                self.end(None);
                Disposition::Ended
            }
            RemnantDisposition::Reopen => Disposition::Reopen,
        }
    }

    /// States with the peer's SYN, but TIME-WAIT.
    fn on_synchronized(&mut self, now: Instant, segment: &mut Segment) -> Disposition {
        if let Err(disposition) = self.check(now, segment) {
            return disposition;
        }
        let mut established = false;
        if let State::SynReceived(state) = self.state {
            // "If the segment acknowledgment is not acceptable, form a reset segment".
            if segment.ack > self.tcb.send.nxt || segment.ack <= self.tcb.send.una {
                return match segment.answer_with_reset() {
                    Some(reset) => Disposition::SendReset(Box::new(reset)),
                    None => Disposition::Ignored(DropReason::NoUse),
                };
            }
            let window = match segment.syn() {
                true => usize::from(segment.window),
                false => self.tcb.scaled_window(segment),
            };
            self.tcb.ecn.on_ack(segment.flags, None, 0, self.tcb.send.mss);
            self.tcb.complete_handshake(now, segment, window);
            self.state = State::Established(state.on_syn_acked());
            established = true;
            if self.tcb.send.is_finished() {
                // A fast open connection that was ended before its handshake was.
                self.state = self.state.on_close().unwrap_or(self.state);
            }
            if self.tcb.send.outstanding() > 0 {
                self.tcb.send.rto_at = Some(now + self.tcb.rtt.rto());
                if let Err(disposition) = self.take_ack(now, segment) {
                    return disposition;
                }
            }
        } else if let Err(disposition) = self.take_ack(now, segment) {
            return disposition;
        }
        self.tcb.note_timestamp(now, segment);
        self.note_codepoint(segment);
        self.tcb.heard(now);
        if matches!(self.state, State::Closed(_)) {
            return Disposition::Ended;
        }
        if segment.syn() {
            // The SYN of a simultaneous open came twice, and is acknowledged as anything that does.
            self.tcb.receive.report_duplicate(segment.seq, segment.seq + 1);
        } else {
            let disposition = self.take_text(now, segment);
            if !matches!(disposition, Disposition::Accepted) {
                return disposition;
            }
        }
        if established { Disposition::Established } else { Disposition::Accepted }
    }

    /// The checks before the acknowledgment: old duplicates, the window, RST, SYN.
    fn check(&mut self, now: Instant, segment: &Segment) -> Result<(), Disposition> {
        let ignored = |reason| Err(Disposition::Ignored(reason));
        if self.tcb.is_old_duplicate(now, segment) {
            // Acknowledgments overtake each other and are no sign of anything, as Linux has it since 6.14.
            if segment.is_empty() && segment.seq < self.tcb.receive.nxt {
                return ignored(DropReason::PawsOldAck);
            }
            self.acknowledge_again(now, segment);
            return ignored(DropReason::Paws);
        }
        if let State::SynReceived(state) = self.state
            && segment.syn()
        {
            return self.on_syn_again(now, state, segment);
        }
        if !self.tcb.receive.is_acceptable(segment) {
            // "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless
            // the RST bit is set)".
            if segment.rst() && self.is_reset_after_fin(segment) {
                return Err(self.on_reset(now, segment));
            }
            // RFC 5961 section 4.2: a SYN is challenged "irrespective of the sequence number".
            if segment.syn() && !segment.rst() {
                return ignored(DropReason::SynChallenged(self.tcb.challenge(now)));
            }
            if !segment.rst() {
                self.acknowledge_again(now, segment);
            }
            return ignored(DropReason::OutOfWindow);
        }
        if segment.rst() {
            return Err(self.on_reset(now, segment));
        }
        if segment.syn() {
            // RFC 5961 section 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send
            // an ACK (also referred to as challenge ACK) to the remote peer".
            return ignored(DropReason::SynChallenged(self.tcb.challenge(now)));
        }
        match segment.acknowledges() {
            Some(_) => Ok(()),
            None => ignored(DropReason::NoUse),
        }
    }

    fn acknowledge_again(&mut self, now: Instant, segment: &Segment) {
        if matches!(self.state, State::SynReceived(_)) {
            return;
        }
        if segment.is_empty() {
            self.tcb.acknowledge_invalid(now);
        } else {
            let end = segment.seq + segment.payload.len();
            self.tcb.receive.report_duplicate(segment.seq, end);
        }
    }

    /// A SYN in SYN-RECEIVED: the first one again, or the peer's half of a simultaneous open.
    fn on_syn_again(
        &mut self,
        now: Instant,
        state: SynReceived,
        segment: &Segment,
    ) -> Result<(), Disposition> {
        let same = segment.seq == self.tcb.receive.irs;
        if segment.rst() {
            return Err(Disposition::Ignored(DropReason::NoUse));
        }
        match segment.acknowledges() {
            Some(ack) if same && state.origin == Origin::Active && ack == self.tcb.send.nxt => {
                Ok(())
            }
            // Of a simultaneous open Linux challenges this one as any SYN; the timer repeats ours.
            None if same && state.origin != Origin::Active => {
                self.tcb.pending.syn = true;
                Err(Disposition::Ignored(DropReason::OutOfWindow))
            }
            _ => {
                let challenge = self.tcb.challenge(now);
                Err(Disposition::Ignored(DropReason::SynChallenged(challenge)))
            }
        }
    }

    /// As on Linux: a peer that is killed sends a FIN and then a reset with the same sequence number.
    fn is_reset_after_fin(&self, segment: &Segment) -> bool {
        let ended =
            matches!(self.state, State::CloseWait(_) | State::LastAck(_) | State::Closing(_));
        ended && segment.seq == self.tcb.receive.nxt - 1usize
    }

    /// RFC 5961 section 3.2: "If the RST bit is set and the sequence number exactly matches the next expected
    /// sequence number (RCV.NXT), then TCP MUST reset the connection"; otherwise a challenge ACK. Linux also takes one
    /// at the right edge of what SACK reported: the peer sent it after data that was lost.
    fn on_reset(&mut self, now: Instant, segment: &Segment) -> Disposition {
        let exact = segment.seq == self.tcb.receive.nxt
            || self.tcb.send.sack && self.tcb.receive.out_of_order_end() == Some(segment.seq)
            || self.is_reset_after_fin(segment);
        if !exact {
            return Disposition::Ignored(DropReason::Challenged(self.tcb.challenge(now)));
        }
        match self.state {
            State::CloseWait(_) => self.ended(Error::BrokenPipe),
            _ => self.ended(Error::Reset),
        }
    }

    /// What the network wrote on the packet.
    fn note_codepoint(&mut self, segment: &Segment) {
        if segment.syn() {
            return;
        }
        let len = segment.payload.len();
        let segments = len.div_ceil(self.tcb.receive.peer_mss.max(1)).max(1);
        if self.tcb.ecn.on_segment(segment.flags, segment.ecn, len, segments) {
            self.tcb.receive.ack_due = AckDue::Now;
        }
    }

    fn take_ack(&mut self, now: Instant, segment: &Segment) -> Result<(), Disposition> {
        let send = &self.tcb.send;
        // RFC 5961 section 5.2: "The ACK value is considered acceptable only if it is in the range of
        // ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT). All incoming segments whose ACK value doesn't
        // satisfy the above condition MUST be discarded and an ACK sent back."
        let acked = usize::try_from(send.bytes_acked).unwrap_or(usize::MAX);
        // As on Linux, no further back than was ever acknowledged.
        let oldest = send.una - send.max_window.min(acked);
        if segment.ack > send.nxt || segment.ack < oldest {
            let challenge = self.tcb.challenge(now);
            return Err(Disposition::Ignored(DropReason::BadAck(challenge)));
        }
        let ack = Ack {
            seq: segment.seq,
            ack: segment.ack,
            window: self.tcb.scaled_window(segment),
            sack: &segment.options.sack,
            len: segment.len(),
            echo_rtt: self.tcb.echo_rtt(now, segment),
        };
        let outcome = self.tcb.send.on_ack(now, &mut self.tcb.rtt, &ack);
        let (acked, option) = (outcome.advanced, segment.options.accurate_ecn.as_ref());
        let mss = self.tcb.send.mss;
        let marks = self.tcb.ecn.on_ack(segment.flags, option, acked.div_ceil(mss), mss);
        if marks > 0 {
            // RFC 3168 tells of one mark whatever their number: Linux counts all that came with it.
            let marks = match self.tcb.ecn.mode() {
                ecn::Mode::Classic => outcome.delivered.div_ceil(mss),
                _ => marks,
            };
            let counted = &mut self.tcb.send.counters.delivered_marked;
            *counted = counted.wrapping_add(marks as u32);
            self.tcb.send.on_congestion_mark(now);
        }
        if let Some(verdict) = self.tcb.send.take_mtu_verdict() {
            self.tcb.judge_mtu_probe(verdict);
        }
        if outcome.advanced > 0 {
            self.tcb.soft_error = None;
        }
        if outcome.fin_acked {
            self.state = self.state.on_fin_acked(now + self.tcb.config.time_wait);
            self.limit_orphan(now);
            match self.state {
                State::Closed(_) => self.tcb.stop(),
                State::TimeWait(_) => self.enter_time_wait(),
                _ => {}
            }
        }
        Ok(())
    }

    /// "Seventh, process the segment text" and "Eighth, check the FIN bit".
    fn take_text(&mut self, now: Instant, segment: &mut Segment) -> Disposition {
        if segment.flags.contains(Flags::URG) && self.state.may_receive() {
            let place = self.urgent_place();
            let (seq, pointer) = (segment.seq, segment.urgent);
            self.tcb.receive.announce_urgent(now, seq, pointer, place);
        }
        if segment.is_empty() {
            // A keepalive or window probe: an empty segment before what is expected.
            if segment.seq < self.tcb.receive.nxt {
                self.tcb.receive.ack_due = AckDue::Now;
            }
            return Disposition::Accepted;
        }
        if !self.state.may_receive() {
            // "This should not occur since a FIN has been received from the remote side. Ignore the segment
            // text." What came again is acknowledged again.
            let end = segment.seq + segment.payload.len();
            if segment.seq < self.tcb.receive.nxt {
                self.tcb.receive.report_duplicate(segment.seq, end);
            }
            return Disposition::Accepted;
        }
        let end = segment.seq + segment.payload.len();
        let gone = self.tcb.orphan || self.tcb.shut_read;
        let closing = matches!(self.state, State::FinWait1(_) | State::FinWait2(_));
        if gone && closing && end > self.tcb.receive.nxt {
            // RFC 1122 section 4.2.2.13: "If such a host issues a CLOSE call while received data is still
            // pending, or if new data is received after CLOSE is called, its TCP SHOULD send a RST".
            // Linux looks at urgent data before it refuses the text: `poll` tells of it.
            self.tcb.receive.find_urgent(segment.seq, &segment.payload);
            self.end(Some(Error::Reset));
            return match segment.answer_with_reset() {
                Some(reset) => Disposition::SendReset(Box::new(reset)),
                None => Disposition::Ended,
            };
        }
        self.note_pace(now, segment);
        let text = Text {
            seq: segment.seq,
            fin: segment.fin(),
            push: segment.flags.contains(Flags::PSH),
            data: core::mem::take(&mut segment.payload),
        };
        let pace = self.tcb.pace();
        let accepted = self.tcb.receive.accept(now, &pace, text);
        if accepted.out_of_order {
            self.tcb.accounts.out_of_order = self.tcb.accounts.out_of_order.wrapping_add(1);
        }
        if accepted.fin {
            if !matches!(self.state, State::Established(_)) {
                self.tcb.receive.ack_due = AckDue::Now;
            }
            let ours = match self.tcb.send.is_drained() {
                true => OurFin::Acked,
                false => OurFin::InFlight,
            };
            self.state = self.state.on_fin(ours, now + self.tcb.config.time_wait);
            if let State::TimeWait(_) = self.state {
                self.enter_time_wait();
            }
        }
        Disposition::Accepted
    }

    /// A full segment with the echo of a timestamp of ours measures the round trip for a side that sends nothing.
    fn note_pace(&mut self, now: Instant, segment: &Segment) {
        let full = segment.payload.len() >= self.tcb.receive.peer_mss;
        if let (Some(stamps), Some(age)) =
            (segment.options.timestamps, self.tcb.echo_rtt(now, segment))
            && full
        {
            self.tcb.receive.on_echo(stamps.echo, age);
        }
    }

    /// "Start the time-wait timer, turn off the other timers."
    fn enter_time_wait(&mut self) {
        let due = self.tcb.receive.ack_due;
        self.tcb.stop();
        self.tcb.receive.ack_due = due;
    }
}

//! SYN-SENT: we asked, and wait for the answer.

use super::super::config::Error;
use super::super::rtt::TIMEOUT_MIN;
use super::super::segment::Segment;
use super::super::tcb::Tcb;
use super::{Established, Origin, SynReceived};
use crate::time::Instant;

/// Waiting for a matching connection request after having sent one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynSent;

/// What an answer to our SYN does.
#[derive(Clone, Debug)]
pub enum SynSentDisposition {
    /// Nothing.
    Ignore,
    /// It acknowledges what we did not send.
    SendReset(Segment),
    /// It echoes a timestamp that we did not send: it answers another connection, and this reset answers it.
    Foreign(Segment),
    /// The peer refused.
    Fail(Error),
    /// The peer agreed.
    Established(Established),
    /// The peer asked at the same time (RFC 9293 section 3.5, simultaneous open).
    SynReceived(SynReceived),
}

impl SynSent {
    /// RFC 9293 section 3.10.7.3.
    pub fn on_segment(self, tcb: &mut Tcb, now: Instant, segment: &Segment) -> SynSentDisposition {
        if let Some(ack) = segment.acknowledges() {
            // "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set...)".
            if ack <= tcb.send.iss || ack > tcb.send.nxt + tcb.syn_data.sent {
                // As Linux does: the peer still had another connection, and is asked again as soon as it has ended that.
                if tcb.send.retries == 0 {
                    tcb.send.rto_at = Some(now + TIMEOUT_MIN);
                }
                return match segment.answer_with_reset() {
                    Some(reset) => SynSentDisposition::SendReset(reset),
                    None => SynSentDisposition::Ignore,
                };
            }
        }
        if segment.acknowledges().is_some() && tcb.is_foreign_echo(now, segment) {
            return match segment.answer_with_reset() {
                Some(reset) => SynSentDisposition::Foreign(reset),
                None => SynSentDisposition::Ignore,
            };
        }
        if segment.rst() {
            // "If the ACK was acceptable then signal to the user 'error: connection reset'".
            return match segment.acknowledges() {
                Some(_) => SynSentDisposition::Fail(Error::Refused),
                None => SynSentDisposition::Ignore,
            };
        }
        if !segment.syn() {
            return SynSentDisposition::Ignore;
        }
        tcb.take_syn(now, segment);
        if segment.acknowledges().is_none() {
            tcb.pending.syn = true;
            tcb.syn_transmissions = 0;
            return SynSentDisposition::SynReceived(SynReceived { origin: Origin::Active });
        }
        tcb.complete_handshake(now, segment, usize::from(segment.window));
        tcb.take_fast_open(segment);
        tcb.receive.ack_due = super::super::receive::AckDue::Now;
        SynSentDisposition::Established(Established)
    }
}

//! LISTEN: waits for a SYN.

use super::super::segment::Segment;

/// Waiting for a connection request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen;

/// What a listener does with a segment that belongs to no connection.
#[derive(Clone, Debug)]
pub enum ListenDisposition {
    /// Nothing.
    Ignore,
    /// It acknowledges what was never sent.
    SendReset(Segment),
    /// A connection request: make a connection in SYN-RECEIVED.
    Request,
}

impl Listen {
    /// RFC 9293 section 3.10.7.2.
    pub fn on_segment(self, segment: &Segment) -> ListenDisposition {
        // "First, check for a RST: An incoming RST segment could not be valid since it could not have been
        // sent in response to anything sent by this incarnation of the connection."
        if segment.rst() {
            return ListenDisposition::Ignore;
        }
        // "Second, check for an ACK: Any acknowledgment is bad if it arrives on a connection still in the
        // LISTEN state. An acceptable reset segment should be formed".
        if segment.acknowledges().is_some() {
            return match segment.answer_with_reset() {
                Some(reset) => ListenDisposition::SendReset(reset),
                None => ListenDisposition::Ignore,
            };
        }
        // "Third, check for a SYN". Linux drops one that also carries a FIN.
        match segment.syn() && !segment.fin() {
            true => ListenDisposition::Request,
            false => ListenDisposition::Ignore,
        }
    }
}

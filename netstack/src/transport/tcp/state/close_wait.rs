//! CLOSE-WAIT: the peer closed; the program has not yet.

use super::LastAck;

/// Waiting for the program to close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseWait;

impl CloseWait {
    /// RFC 9293 section 3.10.4: "Queue this request until all preceding SENDs have been segmentized; then send a
    /// FIN segment, enter LAST-ACK state."
    pub fn on_close(self) -> LastAck {
        LastAck
    }
}

//! LAST-ACK: the peer closed first, then we; our FIN is not acknowledged yet.

use super::Closed;

/// Waiting for the acknowledgment of our FIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastAck;

impl LastAck {
    /// "The only thing that can arrive in this state is an acknowledgment of our FIN. If our FIN is now
    /// acknowledged, delete the TCB, enter the CLOSED state, and return."
    pub fn on_fin_acked(self) -> Closed {
        Closed
    }
}

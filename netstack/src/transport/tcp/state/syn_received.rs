//! SYN-RECEIVED: both SYNs are sent, ours is not acknowledged yet.

use super::{CloseWait, Established, FinWait1, State};

/// How a connection came to have the peer's SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Through a listener.
    Passive,
    /// Through a simultaneous open.
    Active,
    /// Through a listener and a good cookie (RFC 7413): data flows both ways already.
    FastOpen,
}

/// Waiting for the acknowledgment of our SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynReceived {
    /// Who began.
    pub origin: Origin,
}

impl SynReceived {
    /// "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state".
    pub fn on_syn_acked(self) -> Established {
        Established
    }

    /// RFC 9293 section 3.10.4: "If no SENDs have been issued and there is no pending data to send, then form a
    /// FIN segment and send it, and enter FIN-WAIT-1 state".
    pub fn on_close(self) -> FinWait1 {
        FinWait1
    }

    /// "SYN-RECEIVED STATE, ESTABLISHED STATE: Enter the CLOSE-WAIT state."
    pub fn on_fin(self) -> State {
        State::CloseWait(CloseWait)
    }
}

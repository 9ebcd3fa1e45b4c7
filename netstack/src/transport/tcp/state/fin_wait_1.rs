//! FIN-WAIT-1: we closed; neither the acknowledgment nor the peer's FIN is here yet.

use super::{Closing, FinWait2, State, TimeWait};
use crate::time::Instant;

/// Waiting for the acknowledgment of our FIN, or for the peer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinWait1;

/// Whether the segment that brought the peer's FIN also acknowledged ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OurFin {
    /// It is acknowledged.
    Acked,
    /// It is under way.
    InFlight,
}

impl FinWait1 {
    /// "If the FIN segment is now acknowledged, then enter FIN-WAIT-2 and continue processing in that state."
    pub fn on_fin_acked(self) -> FinWait2 {
        FinWait2::default()
    }

    /// "If our FIN has been ACKed (perhaps in this segment), then enter TIME-WAIT, start the time-wait timer, turn
    /// off the other timers; otherwise, enter the CLOSING state."
    pub fn on_fin(self, ours: OurFin, expires: Instant) -> State {
        match ours {
            OurFin::Acked => State::TimeWait(TimeWait { expires }),
            OurFin::InFlight => State::Closing(Closing),
        }
    }
}

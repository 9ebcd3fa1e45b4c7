//! ESTABLISHED: data flows both ways.

use super::{CloseWait, FinWait1};

/// An open connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Established;

impl Established {
    /// RFC 9293 section 3.10.4: "Queue this until all preceding SENDs have been segmentized, then form a FIN
    /// segment and send it. In any case, enter FIN-WAIT-1 state."
    pub fn on_close(self) -> FinWait1 {
        FinWait1
    }

    /// RFC 9293 section 3.10.7.4, eighth: "Enter the CLOSE-WAIT state."
    pub fn on_fin(self) -> CloseWait {
        CloseWait
    }
}

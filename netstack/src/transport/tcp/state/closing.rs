//! CLOSING: both closed at once; our FIN is not acknowledged yet.

use super::TimeWait;
use crate::time::Instant;

/// Waiting for the acknowledgment of our FIN after the peer's came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing;

impl Closing {
    /// "If the ACK acknowledges our FIN, then enter the TIME-WAIT state; otherwise, ignore the segment."
    pub fn on_fin_acked(self, expires: Instant) -> TimeWait {
        TimeWait { expires }
    }
}

//! FIN-WAIT-2: our direction is closed and acknowledged; the peer may still send.

use super::TimeWait;
use crate::time::Instant;

/// Waiting for the peer's FIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinWait2 {
    /// Until when, once the program has closed the socket and can read no more (tcp_fin_timeout).
    pub deadline: Option<Instant>,
    /// Whether a remnant may wait in its place: the rest of the wait is no longer than TIME-WAIT.
    pub settled: bool,
}

impl FinWait2 {
    /// "Enter the TIME-WAIT state. Start the time-wait timer, turn off the other timers."
    pub fn on_fin(self, expires: Instant) -> TimeWait {
        TimeWait { expires }
    }
}

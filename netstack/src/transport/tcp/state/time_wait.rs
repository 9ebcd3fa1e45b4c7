//! TIME-WAIT: all is said; old duplicates must die before the four-tuple serves again. What segments do is the
//! business of the remnant that takes the connection's place.

use crate::time::Instant;

/// Waiting for old segments to disappear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWait {
    /// When the wait is over.
    pub expires: Instant,
}

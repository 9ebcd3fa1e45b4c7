//! TIME-WAIT: all is said; old duplicates must die before the four-tuple serves again.

use super::super::segment::Segment;
use super::super::seq::Seq;
use crate::time::{Duration, Instant};

/// Waiting for old segments to disappear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWait {
    /// When the wait is over.
    pub expires: Instant,
}

/// What a segment in TIME-WAIT does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitDisposition {
    /// Nothing.
    Ignore,
    /// It is to be acknowledged again.
    Acknowledge,
    /// The peer's FIN came again: acknowledge it and wait anew.
    Restart,
    /// A reset in order: the wait is over (Linux without tcp_rfc1337).
    Close,
    /// A new connection may take the four-tuple (RFC 6191).
    Reopen,
}

/// What TIME-WAIT remembers of the peer's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// RCV.NXT.
    pub receive_next: Seq,
    /// The peer's latest timestamp, if it used them.
    pub recent: Option<u32>,
}

impl TimeWait {
    /// RFC 9293 section 3.10.7.4 and RFC 6191.
    pub fn on_segment(self, peer: &Remembered, segment: &Segment) -> TimeWaitDisposition {
        let newer = match (peer.recent, segment.options.timestamps) {
            (Some(recent), Some(theirs)) => {
                Some((theirs.value.wrapping_sub(recent) as i32).signum())
            }
            _ => None,
        };
        if segment.rst() {
            return match segment.seq == peer.receive_next {
                true => TimeWaitDisposition::Close,
                false => TimeWaitDisposition::Ignore,
            };
        }
        // RFC 6191 section 2: a SYN with a later timestamp, or else with a later sequence number, opens anew.
        if segment.syn() && segment.acknowledges().is_none() {
            let later = match newer {
                Some(order) if order != 0 => order > 0,
                _ => segment.seq > peer.receive_next,
            };
            return match later {
                true => TimeWaitDisposition::Reopen,
                false => TimeWaitDisposition::Acknowledge,
            };
        }
        if segment.fin() && segment.end() == peer.receive_next {
            return TimeWaitDisposition::Restart;
        }
        match segment.is_empty() && segment.seq == peer.receive_next {
            true => TimeWaitDisposition::Ignore,
            false => TimeWaitDisposition::Acknowledge,
        }
    }

    /// The same wait from now.
    pub fn restarted(self, now: Instant, length: Duration) -> TimeWait {
        TimeWait { expires: now + length }
    }
}

//! What goes along with a packet through the stack and is none of its bytes.

use std::sync::Arc;

use super::PacketBuffer;
use crate::time::Instant;

/// How far a packet has come on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is about to be given to its link (SCM_TSTAMP_SCHED).
    Scheduled,
    /// The link has taken it (SCM_TSTAMP_SND).
    Sent,
}

/// Who wants to know when a packet leaves. Called without any lock of the stack held.
pub trait Departure: Send + Sync {
    /// The packet has come so far; `frame` begins at its Ethernet header, which loopback fills with zeros.
    fn departs(&self, now: Instant, step: Step, frame: &PacketBuffer);
}

/// What goes along with a packet.
#[derive(Clone, Default)]
pub struct Tags {
    /// SO_MARK of who sent it; it does not leave the host.
    pub mark: u32,
    /// SO_PRIORITY of who sent it; likewise.
    pub priority: u32,
    /// A number that the packets of one stream have in common, 0 for what is of none.
    pub stream: u32,
    /// The length of the largest fragment it came in, with its IP header; 0 for a packet that came whole.
    pub largest_fragment: u32,
    /// The IPv6 extension headers before the transport, each after a byte that tells its kind.
    pub extensions: Option<Arc<[u8]>>,
    /// Who wants to know when it leaves.
    pub departure: Option<Arc<dyn Departure>>,
}

impl Tags {
    /// The tags of the next piece of a packet that is cut up. As on Linux only the first tells when it leaves.
    pub fn of_piece(&mut self) -> Tags {
        Tags {
            mark: self.mark,
            priority: self.priority,
            stream: self.stream,
            departure: self.departure.take(),
            ..Tags::default()
        }
    }
}

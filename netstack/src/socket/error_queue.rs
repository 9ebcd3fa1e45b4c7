//! The error queue of a socket (MSG_ERRQUEUE of recv(2)): errors about earlier sends, completions of sends without a copy, and
//! the times at which sends left. It must not know which socket it belongs to.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

use super::SocketError;
use crate::link::NicId;
use crate::time::Instant;

pub use crate::wire::icmp_extensions::Extensions;

/// What a report costs of the receive buffer besides its bytes, about as on Linux.
const OVERHEAD: usize = 768;

/// Something that a socket has to tell of its earlier sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// A send failed.
    Error(ErrorReport),
    /// The memory of these sends is the program's again; it was copied (SO_EE_ORIGIN_ZEROCOPY, SO_EE_CODE_ZEROCOPY_COPIED).
    Copied {
        /// The number of the first send.
        first: u32,
        /// The number of the last one.
        last: u32,
    },
    /// A send has come so far (SO_EE_ORIGIN_TIMESTAMPING).
    Stamped(Stamp),
}

/// An error about an earlier send (IP_RECVERR, IPV6_RECVERR).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorReport {
    /// What happened.
    pub error: SocketError,
    /// The ICMP type and code; None when this host found out.
    pub icmp: Option<(u8, u8)>,
    /// Who says so.
    pub offender: IpAddr,
    /// Where the message went.
    pub destination: SocketAddr,
    /// The MTU, for messages that were too long.
    pub mtu: Option<u32>,
    /// Where the extensions of the ICMP message lie in `payload` (RFC 4884); None unless they were asked for.
    pub extensions: Option<Extensions>,
    /// The packet that brought it; None when this host found out.
    pub carrier: Option<Carrier>,
    /// The start of the message.
    pub payload: Vec<u8>,
}

/// The packet that brought an ICMP error, for what is told with it (IP_RECVTTL and its like).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carrier {
    /// To which address.
    pub dst: IpAddr,
    /// On which interface.
    pub nic: NicId,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Traffic class and flow label of IPv6, as in its header; 0 over IPv4.
    pub flow_info: u32,
}

/// When a send came how far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// How far.
    pub progress: Progress,
    /// Which send it was (SOF_TIMESTAMPING_OPT_ID); 0 where nobody asked.
    pub id: u32,
    /// When.
    pub at: Instant,
    /// The packet from its Ethernet header on; None where only the time was asked for (SOF_TIMESTAMPING_OPT_TSONLY).
    pub packet: Option<SentPacket>,
}

/// A packet that left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentPacket {
    /// Who sent it: an address of ours.
    pub src: IpAddr,
    /// All its bytes.
    pub bytes: Vec<u8>,
}

/// How far a send has come (SCM_TSTAMP_*).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Progress {
    /// Its link was about to take it.
    Scheduled,
    /// Its link had taken it.
    Sent,
    /// The peer had acknowledged it (streams).
    Acknowledged,
}

impl Report {
    fn cost(&self) -> usize {
        OVERHEAD
            + match self {
                Report::Error(report) => report.payload.len(),
                Report::Copied { .. } => 0,
                Report::Stamped(stamp) => {
                    stamp.packet.as_ref().map_or(0, |packet| packet.bytes.len())
                }
            }
    }

    /// The error of an ICMP message, which is the socket's pending error as long as it is the oldest report.
    fn icmp_error(&self) -> Option<SocketError> {
        match self {
            Report::Error(report) => report.icmp.map(|_| report.error),
            _ => None,
        }
    }
}

/// What taking a report makes of the socket's pending error (Linux's sock_dequeue_err_skb).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    /// It stays as it is.
    Stays,
    /// It is this one now, or none.
    Becomes(Option<SocketError>),
}

/// The queue.
#[derive(Debug, Default)]
pub struct ErrorQueue {
    reports: VecDeque<Report>,
    cost: usize,
    // The number of the next send without a copy.
    next_copy: u32,
}

impl ErrorQueue {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Queues a report; drops it where `room` bytes would be exceeded, as Linux does with the receive buffer.
    pub fn push(&mut self, report: Report, room: usize) {
        let cost = report.cost();
        if self.cost.saturating_add(cost) <= room {
            self.cost += cost;
            self.reports.push_back(report);
        }
    }

    /// Numbers `sends` that asked to be made without a copy and were copied at once; merges them with what waits, as Linux's
    /// skb_zerocopy_notify_extend does.
    pub fn copied(&mut self, sends: u32, room: usize) {
        let first = self.next_copy;
        let Some(more) = sends.checked_sub(1) else { return };
        let last = first.wrapping_add(more);
        self.next_copy = last.wrapping_add(1);
        match self.reports.back_mut() {
            Some(Report::Copied { last: before, .. }) if before.wrapping_add(1) == first => {
                *before = last;
            }
            _ => self.push(Report::Copied { first, last }, room),
        }
    }

    /// Takes the oldest report, and says what becomes of the pending error.
    pub fn pop(&mut self) -> Option<(Report, Pending)> {
        let report = self.reports.pop_front()?;
        self.cost = self.cost.saturating_sub(report.cost());
        let next = self.reports.front().and_then(Report::icmp_error);
        let pending = match (next, report.icmp_error()) {
            (Some(_), _) | (None, Some(_)) => Pending::Becomes(next),
            (None, None) => Pending::Stays,
        };
        Some((report, pending))
    }

    /// Forgets all reports (IP_RECVERR is off). The numbers of sends go on.
    pub fn clear(&mut self) {
        self.reports.clear();
        self.cost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100_000;

    fn error(error: SocketError, icmp: Option<(u8, u8)>) -> Report {
        let any = IpAddr::from([10, 0, 0, 1]);
        Report::Error(ErrorReport {
            error,
            icmp,
            offender: any,
            destination: SocketAddr::new(any, 9),
            mtu: None,
            extensions: None,
            carrier: None,
            payload: vec![0; 100],
        })
    }

    #[test]
    fn sends_that_were_copied_are_told_as_one_range_while_nobody_reads() {
        let mut queue = ErrorQueue::default();
        queue.copied(1, ROOM);
        queue.copied(2, ROOM);
        queue.copied(0, ROOM);
        let first = queue.pop();
        assert_eq!(first, Some((Report::Copied { first: 0, last: 2 }, Pending::Stays)));
        queue.copied(1, ROOM);
        queue.push(error(SocketError::HostUnreachable, None), ROOM);
        queue.copied(1, ROOM);
        assert_eq!(queue.pop().unwrap().0, Report::Copied { first: 3, last: 3 });
        queue.pop().unwrap();
        assert_eq!(queue.pop().unwrap().0, Report::Copied { first: 4, last: 4 });
        assert!(queue.pop().is_none());
    }

    #[test]
    fn the_pending_error_follows_the_icmp_errors_in_the_queue() {
        let mut queue = ErrorQueue::default();
        let refused = SocketError::ConnectionRefused;
        for report in
            [error(refused, Some((3, 3))), error(SocketError::HostUnreachable, Some((3, 1)))]
        {
            queue.push(report, ROOM);
        }
        queue.push(error(SocketError::MessageTooLong, None), ROOM);
        let pending: Vec<Pending> =
            core::iter::from_fn(|| queue.pop().map(|(_, pending)| pending)).collect();
        let next = Some(SocketError::HostUnreachable);
        assert_eq!(pending, [Pending::Becomes(next), Pending::Becomes(None), Pending::Stays]);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_room_comes_back() {
        let mut queue = ErrorQueue::default();
        let one = || error(SocketError::ConnectionRefused, Some((3, 3)));
        let room = 3 * one().cost();
        for _ in 0..10 {
            queue.push(one(), room);
        }
        assert_eq!(core::iter::from_fn(|| queue.pop()).count(), 3);
        queue.push(one(), room);
        assert!(!queue.is_empty());
        queue.clear();
        assert!(queue.is_empty());
    }
}

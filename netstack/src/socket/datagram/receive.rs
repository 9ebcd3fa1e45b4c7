//! Receiving messages, and what waits in the error queue.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::settings::AskedFor;
use super::{Datagram, Message, State};
use crate::buffer::Sink;
use crate::link::NicId;
use crate::socket::error_queue::Pending;
use crate::socket::{ErrorReport, RecvError, RecvFlags, Report, to_family};
use crate::time::Instant;
use crate::wire::ipv4_options::Options;

/// What a receive tells besides the bytes it wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes written to the sink.
    pub len: usize,
    /// Bytes of the message; more than `len` when it was truncated.
    pub full_len: usize,
    /// Who sent it; port 0 for raw and ping sockets.
    pub from: SocketAddr,
    /// To which address (IP_PKTINFO).
    pub dst: IpAddr,
    /// On which interface.
    pub nic: NicId,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// The options of its IPv4 header, with this host recorded (IP_RECVOPTS).
    pub options: Options,
    /// When it arrived.
    pub timestamp: Instant,
    /// Traffic class and flow label of IPv6, as in the first word of its header.
    pub flow_info: u32,
    /// Bytes of each datagram where the message is several (UDP_GRO).
    pub segment: Option<u16>,
    /// How many messages the socket lost before this one.
    pub drops: u32,
    /// The port it came to.
    pub local_port: u16,
    /// SO_MARK of a sender on this host.
    pub mark: u32,
    /// SO_PRIORITY of a sender on this host.
    pub priority: u32,
    /// The length of the largest fragment that it came in; 0 for a message that came whole.
    pub largest_fragment: u32,
    /// The IPv6 extension headers that stood before it, each after a byte that tells its kind.
    pub extensions: Option<Arc<[u8]>>,
    /// What the socket wants to be told.
    pub asks: AskedFor,
}

impl Datagram {
    /// Receives one message into a sink; what does not fit is lost, unless it is only looked at.
    pub fn recv_from(
        &self,
        _now: Instant,
        sink: &mut dyn Sink,
        flags: RecvFlags,
    ) -> Result<Received, RecvError> {
        let mut state = self.state.lock();
        if let Some(error) = state.error.take() {
            return Err(RecvError::Network(error));
        }
        let (message, skipped) =
            if flags.contains(RecvFlags::PEEK) { state.peek() } else { (state.pop(), 0) };
        let ended = state.shut_read;
        let (local, asks) = (state.local, state.settings.asks);
        let moves = state.settings.peek_offset.is_some();
        drop(state);
        let Some(mut message) = message else {
            return if ended { Ok(end_of(local)) } else { Err(RecvError::WouldBlock) };
        };
        message.payload.advance(skipped);
        let len = message.payload.write_to(sink)?;
        if moves {
            self.move_peek(flags, len, message.payload.len());
        }
        Ok(Received {
            len,
            full_len: message.payload.len(),
            flow_info: message.flow,
            segment: message.segment,
            drops: message.drops,
            local_port: local.port(),
            asks,
            from: to_family(self.family, message.from),
            dst: message.dst,
            nic: message.nic,
            ttl: message.ttl,
            tos: message.tos,
            options: message.options,
            timestamp: message.at,
            mark: message.mark,
            priority: message.priority,
            largest_fragment: message.largest_fragment,
            extensions: message.extensions,
        })
    }

    /// SO_PEEK_OFF: a peek moves the offset forward, a receive moves it back.
    fn move_peek(&self, flags: RecvFlags, taken: usize, len: usize) {
        let mut state = self.state.lock();
        let Some(offset) = state.settings.peek_offset else { return };
        let amount = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        state.settings.peek_offset = Some(match flags.contains(RecvFlags::PEEK) {
            true => offset.saturating_add(amount(taken)),
            false => offset.saturating_sub(amount(len)),
        });
    }

    /// Takes the oldest report of the error queue (MSG_ERRQUEUE).
    pub fn recv_report(&self) -> Option<Report> {
        let mut state = self.state.lock();
        let (report, pending) = state.reports.pop()?;
        if let Pending::Becomes(error) = pending {
            state.error = error;
        }
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
        Some(report)
    }

    /// As [`Datagram::recv_report`], where only errors are expected: others are passed over.
    pub fn recv_error(&self) -> Option<ErrorReport> {
        loop {
            if let Report::Error(report) = self.recv_report()? {
                return Some(report);
            }
        }
    }

    /// What is told with each message.
    pub fn asked_for(&self) -> AskedFor {
        self.state.lock().settings.asks
    }

    /// Takes the news of a path's MTU that a message did not fit (IPV6_RECVPATHMTU): where it went, and the MTU.
    pub fn take_path_mtu(&self) -> Option<(SocketAddr, u32)> {
        self.state.lock().path_mtu.take()
    }
}

/// What a receive gives on a socket whose receiving direction was closed.
fn end_of(local: SocketAddr) -> Received {
    Received {
        len: 0,
        full_len: 0,
        from: SocketAddr::new(crate::ip::Family::of(local.ip()).unspecified(), 0),
        dst: local.ip(),
        nic: NicId(0),
        ttl: 0,
        tos: 0,
        options: Options::NONE,
        timestamp: Instant::ZERO,
        flow_info: 0,
        segment: None,
        drops: 0,
        local_port: local.port(),
        mark: 0,
        priority: 0,
        largest_fragment: 0,
        extensions: None,
        asks: AskedFor::default(),
    }
}

impl State {
    /// The message that a peek looks at, and how many of its bytes were looked at before (SO_PEEK_OFF).
    fn peek(&self) -> (Option<Message>, usize) {
        let mut skip = self.settings.peek_offset.unwrap_or(0) as usize;
        for message in &self.queue {
            let len = message.payload.len();
            if skip == 0 || skip < len {
                return (Some(message.clone()), skip);
            }
            skip -= len;
        }
        (None, 0)
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.queued = self.queued.saturating_sub(super::inbound::cost(&message.payload));
        self.account.settle(self.queued);
        Some(message)
    }
}

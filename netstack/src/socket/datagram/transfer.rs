//! Sending and receiving messages.

use core::net::{IpAddr, SocketAddr};

use super::{Datagram, Kind, Message, State};
use crate::buffer::{Chain, ChecksumOffload, PacketBuffer, Sink, Source};
use crate::ip::{Cast, Fragment, IpError, IpMeta, PROTO_ICMPV6, RouteInfo, RouteQuery};
use crate::link::NicId;
use crate::socket::options::MtuDiscover;
use crate::socket::{RecvError, RecvFlags, SendError, SocketError, scope_of, to_family};
use crate::time::Instant;
use crate::transport::{icmp_echo, udp};
use crate::wire::checksum::Checksum;
use crate::wire::icmp::CHECKSUM_OFFSET;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv4_options::Options;

/// What a send says besides its bytes (control messages).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ancillary {
    /// The source address (IP_PKTINFO, IPV6_PKTINFO).
    pub src: Option<IpAddr>,
    /// The interface (likewise).
    pub nic: Option<NicId>,
    /// Time to live or hop limit (IP_TTL, IPV6_HOPLIMIT).
    pub ttl: Option<u8>,
    /// Type of service or traffic class (IP_TOS, IPV6_TCLASS).
    pub tos: Option<u8>,
    /// The options of the IPv4 header (IP_RETOPTS); None for those of the socket.
    pub options: Option<Options>,
}

/// What a receive tells besides the bytes it wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

/// An error about an earlier send (the error queue of IP_RECVERR).
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
    /// The start of the message.
    pub payload: Vec<u8>,
}

/// All that a send needs, read under the lock.
struct Plan {
    local: SocketAddr,
    remote: SocketAddr,
    query: RouteQuery,
    meta: IpMeta,
    broadcast: bool,
    sealing: udp::Sealing,
    header_included: bool,
    checksum_offset: Option<u16>,
    errors_matter: bool,
}

impl Datagram {
    /// Sends one message, to `to` or to the peer; returns its length. The source is read once.
    pub fn send_to(
        &self,
        now: Instant,
        source: &mut dyn Source,
        to: Option<SocketAddr>,
        ancillary: &Ancillary,
    ) -> Result<usize, SendError> {
        let mut state = self.state.lock();
        // As on Linux, a message without a destination is told of before what is wrong with the socket.
        let plan = self.plan(&mut state, to, ancillary)?;
        if let Some(error) = state.error.take() {
            return Err(SendError::Network(error));
        }
        if state.shut_write {
            return Err(SendError::Shutdown);
        }
        drop(state);
        let len = source.remaining();
        if len > self.max_payload(&plan) {
            return Err(SendError::MessageTooLong);
        }
        let payload = Chain::from_source(&self.host.shared().slabs, source, len)?;
        let len = payload.len();
        let route = self.host.route(now, &plan.query)?;
        if route.cast == Cast::Broadcast && !plan.broadcast {
            return Err(SendError::AccessDenied);
        }
        match self.emit(now, &plan, &route, payload) {
            // Linux tells of a full device queue only those who asked for errors.
            Err(SendError::Network(SocketError::NoBuffers)) if !plan.errors_matter => Ok(len),
            Err(SendError::MessageTooLong) if plan.errors_matter => {
                self.report_too_long(&plan, &route);
                Err(SendError::MessageTooLong)
            }
            sent => sent.map(|()| len),
        }
    }

    /// Tells in the error queue which MTU a message did not fit (ip(7), IP_RECVERR: "Locally generated errors").
    fn report_too_long(&self, plan: &Plan, route: &RouteInfo) {
        let probes = plan.header_included || plan.meta.fragment == Fragment::Probe;
        let mut state = self.state.lock();
        state.report(ErrorReport {
            error: SocketError::MessageTooLong,
            icmp: None,
            offender: route.src,
            destination: plan.remote,
            mtu: Some(if probes { route.link_mtu } else { route.mtu }),
            payload: Vec::new(),
        });
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
    }

    /// Sends one message to the peer.
    pub fn send(&self, now: Instant, source: &mut dyn Source) -> Result<usize, SendError> {
        self.send_to(now, source, None, &Ancillary::default())
    }

    fn max_payload(&self, plan: &Plan) -> usize {
        match (self.kind, plan.remote) {
            (Kind::Udp, SocketAddr::V4(_)) => udp::MAX_PAYLOAD_V4,
            (Kind::Udp, SocketAddr::V6(_)) => udp::MAX_PAYLOAD_V6,
            _ => 65_535,
        }
    }

    fn plan(
        &self,
        state: &mut State,
        to: Option<SocketAddr>,
        ancillary: &Ancillary,
    ) -> Result<Plan, SendError> {
        let (remote, scope) = match to {
            Some(to) => {
                let plain = self.accept_address(state, to).ok_or(SendError::Family)?;
                if self.kind == Kind::Udp && plain.port() == 0 {
                    return Err(SendError::Invalid);
                }
                (plain, scope_of(to))
            }
            None => (state.remote.ok_or(SendError::DestinationRequired)?, None),
        };
        self.auto_bind(state).map_err(|_| SendError::WouldBlock)?;
        let settings = &state.settings;
        let multicast = remote.ip().is_multicast();
        // A bind or a connect chose the source; a connected socket may still send elsewhere.
        let connected = state.remote.map(|_| state.local.ip());
        let bound = state.source().or(connected.filter(|_| state.can_send_from));
        let bound = bound.filter(|ip| ip.is_ipv4() == remote.is_ipv4());
        let multicast_nic = settings.multicast_nic.filter(|_| multicast);
        let nic = ancillary.nic.or(scope).or(settings.device).or(multicast_nic);
        let ttl = if multicast { Some(settings.multicast_ttl) } else { settings.ttl };
        let tos = if remote.is_ipv4() { settings.tos } else { settings.traffic_class };
        let meta = IpMeta {
            ttl: ancillary.ttl.or(ttl),
            tos: ancillary.tos.unwrap_or(tos),
            fragment: match settings.mtu_discover {
                MtuDiscover::Dont => Fragment::Anywhere,
                MtuDiscover::Want => Fragment::Allow,
                MtuDiscover::Do => Fragment::Never,
                MtuDiscover::Probe => Fragment::Probe,
            },
            multicast_loop: settings.multicast_loop,
            options: ancillary.options.unwrap_or(settings.header_options),
            ..IpMeta::new(self.protocol(remote.ip()))
        };
        let unsealed = settings.no_check && remote.is_ipv4();
        Ok(Plan {
            local: state.local,
            remote,
            query: RouteQuery { src: ancillary.src.or(bound), nic, ..RouteQuery::to(remote.ip()) },
            meta,
            broadcast: settings.broadcast,
            sealing: if unsealed { udp::Sealing::None } else { udp::Sealing::Checksum },
            header_included: settings.header_included,
            checksum_offset: settings.checksum_offset,
            errors_matter: settings.receive_errors,
        })
    }

    fn emit(
        &self,
        now: Instant,
        plan: &Plan,
        route: &RouteInfo,
        payload: Chain,
    ) -> Result<(), SendError> {
        let local = SocketAddr::new(route.src, plan.local.port());
        let remote = SocketAddr::new(route.dst, plan.remote.port());
        let packet = match self.kind {
            Kind::Udp => udp::encapsulate(local, remote, payload, plan.sealing),
            Kind::Ping => icmp_echo::echo_request(payload, local.port(), route.src, route.dst)
                .ok_or(SendError::Invalid)?,
            Kind::Raw(_) if plan.header_included && route.dst.is_ipv4() => {
                let packet = complete_header(route, payload).ok_or(SendError::Invalid)?;
                return Ok(self.host.send_with_header(now, route, packet)?);
            }
            Kind::Raw(_) => raw_packet(plan, route, payload).ok_or(SendError::Invalid)?,
        };
        let sent = self.host.send(now, route, &plan.meta, packet);
        if self.kind == Kind::Ping && sent.is_ok() {
            let stats = &self.host.shared().stats;
            let stats = if route.dst.is_ipv4() { &stats.icmp } else { &stats.icmp6 };
            stats.out_msgs.inc();
            stats.out_echos.inc();
        }
        if self.kind == Kind::Udp {
            let stats = &self.host.shared().stats;
            let stats = if route.dst.is_ipv4() { &stats.udp } else { &stats.udp6 };
            match sent {
                Ok(()) => stats.out_datagrams.inc(),
                Err(IpError::NoBuffers) => stats.sndbuf_errors.inc(),
                Err(_) => {}
            }
        }
        Ok(sent?)
    }

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
        let message = if flags.contains(RecvFlags::PEEK) {
            state.queue.front().cloned()
        } else {
            state.pop()
        };
        let ended = state.shut_read;
        let local = state.local;
        drop(state);
        let Some(message) = message else {
            return if ended { Ok(end_of(local)) } else { Err(RecvError::WouldBlock) };
        };
        let len = message.payload.write_to(sink)?;
        Ok(Received {
            len,
            full_len: message.payload.len(),
            from: to_family(self.family, message.from),
            dst: message.dst,
            nic: message.nic,
            ttl: message.ttl,
            tos: message.tos,
            options: message.options,
            timestamp: message.at,
        })
    }

    /// Takes the oldest report of an error, when ReceiveErrors is set (MSG_ERRQUEUE).
    pub fn recv_error(&self) -> Option<ErrorReport> {
        let mut state = self.state.lock();
        let report = state.reports.pop_front()?;
        if state.reports.is_empty() {
            state.error = None;
        }
        Some(report)
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
    }
}

impl State {
    fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.queued = self.queued.saturating_sub(super::inbound::cost(&message.payload));
        self.account.settle(self.queued);
        Some(message)
    }
}

/// The payload of a raw packet; ICMPv6 and those that ask for it get their checksum.
fn raw_packet(plan: &Plan, route: &RouteInfo, payload: Chain) -> Option<PacketBuffer> {
    let mut packet = PacketBuffer::new(payload);
    let offset = match (route.dst, plan.meta.protocol) {
        (IpAddr::V4(_), _) => return Some(packet),
        (IpAddr::V6(_), PROTO_ICMPV6) => Some(CHECKSUM_OFFSET),
        (IpAddr::V6(_), _) => plan.checksum_offset,
    };
    let Some(offset) = offset else { return Some(packet) };
    let at = usize::from(offset);
    if at + 2 > packet.len() {
        return None;
    }
    let len = packet.len();
    let pseudo = Checksum::pseudo_header(route.src, route.dst, plan.meta.protocol, len).partial();
    let mut bytes = packet.to_vec();
    bytes.get_mut(at..at + 2)?.copy_from_slice(&pseudo.to_be_bytes());
    packet = PacketBuffer::from_vec(bytes);
    packet.offload.checksum = ChecksumOffload::Partial { start: 0, offset };
    Some(packet)
}

/// Completes the IPv4 header that a program wrote: the lengths and the checksum always, the source when it is
/// zero (raw(7), IP_HDRINCL). Options are not kept.
fn complete_header(route: &RouteInfo, payload: Chain) -> Option<PacketBuffer> {
    let IpAddr::V4(src) = route.src else { return None };
    let mut packet = PacketBuffer::new(payload);
    let first = packet.peek::<1>()?[0];
    let header_len = Ipv4::header_len(first)?;
    let mut header = Ipv4::parse_quoted(packet.pull(header_len)?)?;
    packet.advance(header_len);
    header.header_len = ipv4::HEADER_LEN as u8;
    header.total_len = u16::try_from(packet.len() + ipv4::HEADER_LEN).ok()?;
    if header.src.is_unspecified() {
        header.src = src;
    }
    header.emit(packet.prepend());
    Some(packet)
}

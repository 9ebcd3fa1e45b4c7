//! Sending and receiving messages.

use core::net::{IpAddr, SocketAddr};

use bitflags::bitflags;

use super::settings::Settings;
use super::{Datagram, Kind, Message, State};
use crate::buffer::{Chain, ChecksumOffload, Gso, GsoKind, PacketBuffer, Sink, Source};
use crate::ip::{Cast, Flow, Fragment, IpError, IpMeta, PROTO_ICMPV6, RouteInfo, RouteQuery};
use crate::link::NicId;
use crate::socket::options::MtuDiscover;
use crate::socket::{RecvError, RecvFlags, SendError, SocketError, scope_of, to_family};
use crate::time::Instant;
use crate::transport::{icmp_echo, udp};
use crate::wire::checksum::Checksum;
use crate::wire::icmp::CHECKSUM_OFFSET;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6;

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
    /// Bytes of each datagram that the send is cut into (UDP_SEGMENT); None for those of the socket.
    pub segment: Option<u16>,
    /// Whether more follows for the same datagram (MSG_MORE).
    pub more: bool,
    /// The flow information of the destination (sin6_flowinfo, IPV6_FLOWINFO).
    pub flow_info: u32,
    /// Whether the packet may be cut (IPV6_DONTFRAG); None for what the socket says.
    pub dont_fragment: Option<bool>,
}

bitflags! {
    /// What a socket wants to be told with each message.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Asks: u16 {
        /// IP_PKTINFO, IPV6_RECVPKTINFO
        const PACKET_INFO = 1;
        /// IP_RECVTTL, IPV6_RECVHOPLIMIT
        const TTL = 1 << 1;
        /// IP_RECVTOS, IPV6_RECVTCLASS
        const TOS = 1 << 2;
        /// IP_RECVOPTS
        const OPTIONS = 1 << 3;
        /// IP_RETOPTS
        const RETURN_OPTIONS = 1 << 4;
        /// IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR
        const ORIGINAL = 1 << 5;
        /// SO_RXQ_OVFL
        const DROPS = 1 << 6;
        /// IPV6_FLOWINFO
        const FLOW = 1 << 7;
    }
}

/// A datagram that is being gathered.
pub(super) struct Pending {
    plan: Plan,
    payload: Chain,
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
    /// Traffic class and flow label of IPv6, as in the first word of its header.
    pub flow_info: u32,
    /// Bytes of each datagram where the message is several (UDP_GRO).
    pub segment: Option<u16>,
    /// How many messages the socket lost before this one.
    pub drops: u32,
    /// The port it came to.
    pub local_port: u16,
    /// What the socket wants to be told.
    pub asks: Asks,
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

/// The bits of flow information that are the label.
const LABEL: u32 = 0xf_ffff;

/// All that a send needs, read under the lock.
#[derive(Clone, Copy)]
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
    segment: u16,
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
        // What is gathered goes to where its first part was to go.
        let pending = state.pending.as_ref().map(|pending| pending.plan);
        let plan = match pending {
            Some(plan) => plan,
            None => self.plan(&mut state, to, ancillary)?,
        };
        let gathers = self.kind == Kind::Udp && (ancillary.more || state.settings.cork);
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
        if gathers || pending.is_some() {
            let len = payload.len();
            self.gather(plan, payload)?;
            return if gathers { Ok(len) } else { self.uncork(now).map(|()| len) };
        }
        self.dispatch(now, &plan, payload)
    }

    /// Adds to the datagram that is being gathered; one that grows too long is dropped.
    fn gather(&self, plan: Plan, payload: Chain) -> Result<(), SendError> {
        let mut state = self.state.lock();
        let pending = state.pending.get_or_insert_with(|| Pending { plan, payload: Chain::new() });
        if pending.payload.len() + payload.len() > self.max_payload(&pending.plan) {
            state.pending = None;
            return Err(SendError::MessageTooLong);
        }
        pending.payload.append(payload);
        Ok(())
    }

    /// Sends the datagram that was gathered, if there is one.
    pub(super) fn uncork(&self, now: Instant) -> Result<(), SendError> {
        let pending = self.state.lock().pending.take();
        match pending {
            Some(Pending { plan, payload }) => self.dispatch(now, &plan, payload).map(drop),
            None => Ok(()),
        }
    }

    /// Finds the way and sends a payload; gives its length.
    fn dispatch(&self, now: Instant, plan: &Plan, payload: Chain) -> Result<usize, SendError> {
        let len = payload.len();
        let route = self.host.route(now, &plan.query)?;
        if route.cast == Cast::Broadcast && !plan.broadcast {
            return Err(SendError::AccessDenied);
        }
        match self.emit(now, plan, &route, payload) {
            // Linux tells of a full device queue only those who asked for errors.
            Err(SendError::Network(SocketError::NoBuffers)) if !plan.errors_matter => Ok(len),
            Err(SendError::MessageTooLong) if plan.errors_matter => {
                self.report_too_long(plan, &route);
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
        let unicast_nic = settings.unicast_nic.filter(|_| !multicast);
        let nic = ancillary.nic.or(scope).or(settings.device).or(multicast_nic).or(unicast_nic);
        let ttl = if multicast { Some(settings.multicast_ttl) } else { settings.ttl };
        let tos = if remote.is_ipv4() { settings.tos } else { settings.traffic_class };
        let meta = IpMeta {
            ttl: ancillary.ttl.or(ttl),
            tos: ancillary.tos.unwrap_or(tos),
            fragment: match settings.mtu_discover {
                MtuDiscover::Dont => Fragment::Anywhere,
                MtuDiscover::Want => Fragment::Allow,
                MtuDiscover::Do => Fragment::Never,
                // Linux's ip_dont_fragment: neither forbids routers to cut.
                MtuDiscover::Interface | MtuDiscover::Omit => Fragment::Anywhere,
                MtuDiscover::Probe => Fragment::Probe,
            },
            flow_label: self.flow_label(settings, (state.local, remote), ancillary.flow_info),
            multicast_loop: settings.multicast_loop,
            options: ancillary.options.unwrap_or(settings.header_options),
            ..IpMeta::new(self.protocol(remote.ip()))
        };
        let mut meta = meta;
        let dont_fragment = (settings.dont_fragment && remote.is_ipv6()).then_some(true);
        match ancillary.dont_fragment.or(dont_fragment) {
            Some(true) => meta.fragment = Fragment::Never,
            Some(false) if meta.fragment == Fragment::Never => meta.fragment = Fragment::Allow,
            _ => {}
        }
        let unsealed = match remote {
            SocketAddr::V4(_) => settings.no_check,
            SocketAddr::V6(_) => settings.no_check6_send,
        };
        Ok(Plan {
            local: state.local,
            remote,
            query: self.query(state, (remote, ancillary.src.or(bound), nic), &meta, ancillary),
            meta,
            broadcast: settings.broadcast,
            sealing: if unsealed { udp::Sealing::None } else { udp::Sealing::Checksum },
            header_included: settings.header_included,
            checksum_offset: settings.checksum_offset,
            errors_matter: settings.receive_errors,
            segment: ancillary.segment.unwrap_or(settings.segment),
        })
    }

    /// The way of a message to a peer, from a source and over an interface where they are chosen.
    fn query(
        &self,
        state: &State,
        (remote, src, nic): (SocketAddr, Option<IpAddr>, Option<NicId>),
        meta: &IpMeta,
        ancillary: &Ancillary,
    ) -> RouteQuery {
        let label = if state.settings.send_flow { ancillary.flow_info & LABEL } else { 0 };
        let flow = Flow { tos: meta.tos, label, ..self.flow(state, remote) };
        RouteQuery { src, nic, flow, ..RouteQuery::to(remote.ip()) }
    }

    /// The flow label of a packet: what the program asks for, else one that keeps to the flow (RFC 6437 section 3).
    fn flow_label(
        &self,
        settings: &Settings,
        (local, remote): (SocketAddr, SocketAddr),
        flow_info: u32,
    ) -> u32 {
        let asked = flow_info & LABEL;
        if remote.is_ipv4() {
            0
        } else if settings.send_flow && asked != 0 {
            asked
        } else if settings.auto_flow_label {
            self.flow_key.hash_one((local, remote)) as u32 & LABEL
        } else {
            0
        }
    }

    /// The UDP packet of a payload; one that is to be cut says so.
    fn datagram(
        &self,
        plan: &Plan,
        route: &RouteInfo,
        payload: Chain,
    ) -> Result<PacketBuffer, SendError> {
        let local = SocketAddr::new(route.src, plan.local.port());
        let remote = SocketAddr::new(route.dst, plan.remote.port());
        let (len, size) = (payload.len(), usize::from(plan.segment));
        let mut packet = udp::encapsulate(local, remote, payload, plan.sealing);
        if size == 0 {
            return Ok(packet);
        }
        let header = udp::HEADER_LEN
            + match route.dst {
                IpAddr::V4(_) => ipv4::HEADER_LEN + plan.meta.options.len(),
                IpAddr::V6(_) => ipv6::HEADER_LEN,
            };
        // udp(7), UDP_SEGMENT: the datagrams must not be fragmented.
        if header + len.min(size) > route.mtu as usize {
            return Err(SendError::MessageTooLong);
        }
        if len > size * udp::MAX_SEGMENTS || plan.sealing == udp::Sealing::None {
            return Err(SendError::Invalid);
        }
        if len > size {
            packet.offload.gso = Some(Gso { kind: GsoKind::Udp, size: plan.segment });
        }
        Ok(packet)
    }

    fn emit(
        &self,
        now: Instant,
        plan: &Plan,
        route: &RouteInfo,
        payload: Chain,
    ) -> Result<(), SendError> {
        let ident = plan.local.port();
        let packet = match self.kind {
            Kind::Udp => self.datagram(plan, route, payload)?,
            Kind::Ping => icmp_echo::echo_request(payload, ident, route.src, route.dst)
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
        let (message, skipped) =
            if flags.contains(RecvFlags::PEEK) { state.peek() } else { (state.pop(), 0) };
        let ended = state.shut_read;
        let (local, asks) = (state.local, state.settings.asks());
        drop(state);
        let Some(mut message) = message else {
            return if ended { Ok(end_of(local)) } else { Err(RecvError::WouldBlock) };
        };
        message.payload.advance(skipped);
        let len = message.payload.write_to(sink)?;
        self.move_peek(flags, len, message.payload.len());
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
        flow_info: 0,
        segment: None,
        drops: 0,
        local_port: local.port(),
        asks: Asks::empty(),
    }
}

impl Settings {
    /// What the socket wants to be told with each message.
    fn asks(&self) -> Asks {
        let mut asks = Asks::empty();
        asks.set(Asks::PACKET_INFO, self.packet_info);
        asks.set(Asks::TTL, self.receive_ttl);
        asks.set(Asks::TOS, self.receive_tos);
        asks.set(Asks::OPTIONS, self.receive_options);
        asks.set(Asks::RETURN_OPTIONS, self.return_options);
        asks.set(Asks::ORIGINAL, self.receive_original);
        asks.set(Asks::DROPS, self.receive_drops);
        asks.set(Asks::FLOW, self.receive_flow);
        asks
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

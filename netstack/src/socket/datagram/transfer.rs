//! Sending messages.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::settings::Settings;
use super::stamps::Stamps;
use super::{Datagram, Kind, State};
use crate::buffer::{Chain, ChecksumOffload, Gso, GsoKind, PacketBuffer, Source};
use crate::ip::route::Scope;
use crate::ip::{
    Cast, Fragment, IpError, IpMeta, PROTO_ICMP, PROTO_ICMPV6, PROTO_RAW, RouteInfo, RouteQuery,
};
use crate::link::NicId;
use crate::socket::options::{Asks, MtuDiscover, Stamping};
use crate::socket::{ErrorReport, Report, SendError, SocketError, scope_of};
use crate::time::Instant;
use crate::transport::{icmp_echo, udp};
use crate::wire::checksum::{self, Checksum};
use crate::wire::icmp::CHECKSUM_OFFSET;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6::{self, NEXT_DESTINATION, NEXT_HOP_BY_HOP};

/// What a send says besides its bytes (control messages).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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
    /// Not through a gateway (MSG_DONTROUTE).
    pub dont_route: bool,
    /// Tell when the memory may be used again (MSG_ZEROCOPY with SO_ZEROCOPY).
    pub zerocopy: bool,
    /// The mark (SO_MARK); None for that of the socket.
    pub mark: Option<u32>,
    /// The priority (SO_PRIORITY); None for that of the socket.
    pub priority: Option<u32>,
    /// Which times are told (SO_TIMESTAMPING): SCHEDULED, SENT; None for those of the socket.
    pub stamping: Option<Stamping>,
    /// The number under which they are told (SCM_TS_OPT_ID); None for the next one.
    pub stamp_id: Option<u32>,
    /// IPv6 extension headers; None for those of the socket.
    pub headers: Option<Headers>,
}

/// IPv6 extension headers that are sent before a message (RFC 3542 section 6). Each is whole, but for its first byte, which says
/// what follows; its length is a multiple of 8.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers {
    /// Hop-by-hop options (IPV6_HOPOPTS).
    pub hop_by_hop: Option<Arc<[u8]>>,
    /// Options for the destination (IPV6_DSTOPTS).
    pub destination: Option<Arc<[u8]>>,
}

impl Headers {
    /// Bytes of all of them.
    pub fn len(&self) -> usize {
        [&self.hop_by_hop, &self.destination].into_iter().flatten().map(|bytes| bytes.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts them before a packet of `protocol`; gives what the IP header names then.
    fn put(&self, packet: &mut PacketBuffer, protocol: u8) -> u8 {
        let mut next = protocol;
        let each = [(&self.destination, NEXT_DESTINATION), (&self.hop_by_hop, NEXT_HOP_BY_HOP)];
        for (bytes, kind) in each {
            if let Some([_, rest @ ..]) = bytes.as_deref() {
                packet.prepend_slice(rest);
                *packet.prepend::<1>() = [next];
                next = kind;
            }
        }
        next
    }
}

/// A datagram that is being gathered.
pub(super) struct Pending {
    plan: Plan,
    payload: Chain,
    // How many of its sends want to know when their memory is free again.
    copies: u32,
}

/// The bits of flow information that are the label.
const LABEL: u32 = 0xf_ffff;
/// The longest message over IPv4 that Linux looks at.
const MAX_LENGTH_V4: usize = 0xffff;

/// All that a send needs, read under the lock.
#[derive(Clone)]
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
    largest_packet: Option<u32>,
    // Whether a message that does not fit its path is told of (IPV6_RECVPATHMTU).
    path_mtu_matters: bool,
    priority: u32,
    headers: Headers,
    stamps: Option<Stamps>,
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
        let pending = state.pending.as_ref().map(|pending| pending.plan.clone());
        let gathered = pending.is_some();
        let mut plan = match pending {
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
            // As on Linux, a length that IPv4 cannot say is refused before anybody asks for the way.
            if plan.remote.is_ipv6() || len <= MAX_LENGTH_V4 {
                self.report_too_long(&plan, &self.way(now, &plan)?);
            }
            return Err(SendError::MessageTooLong);
        }
        let payload = Chain::from_source(&self.host.shared().slabs, source, len)?;
        let copies = u32::from(ancillary.zerocopy);
        if gathers || gathered {
            let len = payload.len();
            self.gather(plan, payload, copies)?;
            return if gathers { Ok(len) } else { self.uncork(now).map(|()| len) };
        }
        self.dispatch(now, &mut plan, payload, copies)
    }

    /// Adds to the datagram that is being gathered; one that grows too long is dropped.
    fn gather(&self, plan: Plan, payload: Chain, copies: u32) -> Result<(), SendError> {
        let mut state = self.state.lock();
        let fresh = || Pending { plan, payload: Chain::new(), copies: 0 };
        let pending = state.pending.get_or_insert_with(fresh);
        if pending.payload.len() + payload.len() > self.max_payload(&pending.plan) {
            state.pending = None;
            return Err(SendError::MessageTooLong);
        }
        pending.payload.append(payload);
        pending.copies = pending.copies.saturating_add(copies);
        Ok(())
    }

    /// Sends the datagram that was gathered, if there is one.
    pub(super) fn uncork(&self, now: Instant) -> Result<(), SendError> {
        let pending = self.state.lock().pending.take();
        match pending {
            Some(Pending { mut plan, payload, copies }) => {
                self.dispatch(now, &mut plan, payload, copies).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Finds the way and sends a payload; gives its length.
    fn dispatch(
        &self,
        now: Instant,
        plan: &mut Plan,
        payload: Chain,
        copies: u32,
    ) -> Result<usize, SendError> {
        let len = payload.len();
        let route = self.way(now, plan)?;
        if route.cast == Cast::Broadcast && !plan.broadcast {
            return Err(SendError::AccessDenied);
        }
        self.number(plan);
        let sent = match self.emit(now, plan, &route, payload) {
            // Linux tells of a full device queue only those who asked for errors.
            Err(SendError::Network(SocketError::NoBuffers)) if !plan.errors_matter => Ok(len),
            Err(SendError::MessageTooLong) => {
                self.report_too_long(plan, &route);
                Err(SendError::MessageTooLong)
            }
            sent => sent.map(|()| len),
        };
        if copies > 0 && sent.is_ok() {
            self.report_with(|state, room| state.reports.copied(copies, room));
        }
        sent
    }

    /// The way of a send, with the MTU that the program bounds (IPV6_MTU).
    fn way(&self, now: Instant, plan: &Plan) -> Result<RouteInfo, SendError> {
        let mut route = self.host.route(now, &plan.query)?;
        route.mtu = plan.largest_packet.unwrap_or(u32::MAX).min(route.mtu);
        Ok(route)
    }

    /// Gives the stamps of a send their number (sk_tskey).
    fn number(&self, plan: &mut Plan) {
        let Some(stamps) = plan.stamps.as_mut().filter(|stamps| stamps.takes_number()) else {
            return;
        };
        let mut state = self.state.lock();
        stamps.id = state.next_stamp;
        state.next_stamp = state.next_stamp.wrapping_add(1);
    }

    /// Adds to the error queue, and wakes who waits for it.
    pub(super) fn report_with(&self, add: impl FnOnce(&mut State, usize)) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let room = state.settings.receive_buffer;
        add(&mut state, room);
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
    }

    /// Tells which MTU a message did not fit, those who asked for it: in the error queue (ip(7), IP_RECVERR: "Locally generated
    /// errors"), and with the next receive (RFC 3542 section 11.3).
    fn report_too_long(&self, plan: &Plan, route: &RouteInfo) {
        let probes = plan.header_included || plan.meta.fragment == Fragment::Probe;
        let mtu = if probes { route.link_mtu } else { route.mtu };
        if plan.path_mtu_matters {
            self.state.lock().path_mtu = Some((SocketAddr::new(plan.remote.ip(), 0), mtu));
        }
        if !plan.errors_matter {
            return;
        }
        self.report_with(|state, room| {
            let mut destination = plan.remote;
            if destination.is_ipv4() {
                // As on Linux the port is that of the peer, where there is one.
                destination.set_port(state.remote.map_or(0, |remote| remote.port()));
            }
            let report = ErrorReport {
                error: SocketError::MessageTooLong,
                icmp: None,
                offender: route.src,
                destination,
                mtu: Some(mtu),
                extensions: None,
                carrier: None,
                payload: Vec::new(),
            };
            state.reports.push(Report::Error(report), room);
        });
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
                if !self.may_name(plain) {
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
        let named = ancillary.nic.or(scope).or(settings.device).or(settings.message_nic);
        let nic = named.or(multicast_nic).or(unicast_nic);
        let meta = self.meta(state, remote, ancillary);
        let unsealed = match remote {
            SocketAddr::V4(_) => settings.no_check,
            SocketAddr::V6(_) => settings.no_check6_send,
        };
        let asks = settings.asks.of(remote.ip());
        let mut query = self.query(state, remote);
        query.flow.mark = ancillary.mark.unwrap_or(query.flow.mark);
        query.flow.tos = meta.tos;
        query.flow.label = if settings.send_flow { ancillary.flow_info & LABEL } else { 0 };
        if ancillary.dont_route {
            query.scope = Scope::LINK;
        }
        let headers = ancillary.headers.as_ref().unwrap_or(&state.headers);
        let headers = Some(headers).filter(|_| remote.is_ipv6()).cloned().unwrap_or_default();
        Ok(Plan {
            local: state.local,
            remote,
            query: RouteQuery { src: ancillary.src.or(bound), nic, ..query },
            meta,
            broadcast: settings.broadcast,
            sealing: if unsealed { udp::Sealing::None } else { udp::Sealing::Checksum },
            header_included: settings.header_included,
            checksum_offset: settings.checksum_offset,
            errors_matter: asks.contains(Asks::ERRORS),
            segment: ancillary.segment.unwrap_or(settings.segment),
            largest_packet: settings.largest_packet.filter(|_| remote.is_ipv6()),
            path_mtu_matters: remote.is_ipv6() && asks.contains(Asks::PATH_MTU),
            priority: ancillary.priority.unwrap_or(settings.priority),
            headers,
            stamps: Stamps::of(settings.stamping, ancillary),
        })
    }

    /// Whether a send may name a destination.
    fn may_name(&self, to: SocketAddr) -> bool {
        match (self.kind, to) {
            (Kind::Udp, to) => to.port() != 0,
            // As on Linux the port of a raw IPv6 destination is the protocol, where it is none at all.
            (Kind::Raw(own), SocketAddr::V6(to)) => {
                own == PROTO_RAW || [0, u16::from(own)].contains(&to.port())
            }
            _ => true,
        }
    }

    /// What the IP header of a send says.
    fn meta(&self, state: &State, remote: SocketAddr, ancillary: &Ancillary) -> IpMeta {
        let settings = &state.settings;
        let multicast = remote.ip().is_multicast();
        let ttl = if multicast { Some(settings.multicast_ttl) } else { settings.ttl };
        let tos = if remote.is_ipv4() { settings.tos } else { settings.traffic_class };
        let mut meta = IpMeta {
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
        let dont_fragment = (settings.dont_fragment && remote.is_ipv6()).then_some(true);
        match ancillary.dont_fragment.or(dont_fragment) {
            Some(true) => meta.fragment = Fragment::Never,
            Some(false) if meta.fragment == Fragment::Never => meta.fragment = Fragment::Allow,
            _ => {}
        }
        meta
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
            + plan.headers.len()
            + match route.dst {
                IpAddr::V4(_) => ipv4::HEADER_LEN + plan.meta.options.len(),
                IpAddr::V6(_) => ipv6::HEADER_LEN,
            };
        // udp(7), UDP_SEGMENT: the datagrams must not be fragmented.
        if header + len.min(size) > route.mtu as usize {
            return Err(SendError::MessageTooLong);
        }
        let cannot = plan.sealing == udp::Sealing::None || !plan.headers.is_empty();
        if len > size * udp::MAX_SEGMENTS || cannot {
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
        let mut packet = match self.kind {
            Kind::Udp => self.datagram(plan, route, payload)?,
            Kind::Ping => icmp_echo::echo_request(payload, ident, route.src, route.dst)
                .ok_or(SendError::Invalid)?,
            Kind::Raw(_) if plan.header_included && route.dst.is_ipv4() => {
                let mut packet = complete_header(route, payload).ok_or(SendError::Invalid)?;
                self.tag(plan, route, &mut packet);
                return Ok(self.host.send_with_header(now, route, packet)?);
            }
            Kind::Raw(_) if plan.header_included => {
                // ipv6(7), IPV6_HDRINCL: nothing of the header is changed.
                if payload.len() < ipv6::HEADER_LEN {
                    return Err(SendError::Invalid);
                }
                let mut packet = PacketBuffer::new(payload);
                self.tag(plan, route, &mut packet);
                return Ok(self.host.send_with_header(now, route, packet)?);
            }
            Kind::Raw(_) => raw_packet(plan, route, payload).ok_or(SendError::Invalid)?,
        };
        self.tag(plan, route, &mut packet);
        let icmp = icmp_type(plan, route, &mut packet);
        let protocol = plan.headers.put(&mut packet, plan.meta.protocol);
        let sent = self.host.send(now, route, &IpMeta { protocol, ..plan.meta }, packet);
        if let Some(kind) = icmp.filter(|_| sent.is_ok()) {
            let stats = &self.host.shared().stats;
            let stats = if route.dst.is_ipv4() { &stats.icmp } else { &stats.icmp6 };
            stats.went(kind);
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
}

/// The type of the ICMP message that a packet is.
fn icmp_type(plan: &Plan, route: &RouteInfo, packet: &mut PacketBuffer) -> Option<u8> {
    let own = if route.dst.is_ipv4() { PROTO_ICMP } else { PROTO_ICMPV6 };
    let [kind] = packet.peek::<1>().filter(|_| plan.meta.protocol == own)?;
    Some(kind)
}

impl Datagram {
    /// Sets the IPv6 extension headers of what is sent (RFC 3542 section 6, "sticky options").
    pub fn set_headers(&self, headers: Headers) {
        self.state.lock().headers = headers;
    }

    /// What goes along with a packet: mark, priority, and who wants to know when it leaves.
    fn tag(&self, plan: &Plan, route: &RouteInfo, packet: &mut PacketBuffer) {
        packet.tags.mark = plan.query.flow.mark;
        packet.tags.priority = plan.priority;
        packet.tags.departure = plan.stamps.map(|stamps| self.departure(stamps, route.src));
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
    // Other raw sockets of this host see it, too.
    packet.complete_checksum();
    Some(packet)
}

/// Completes the IPv4 header that a program wrote: the lengths and the checksum always, the source when it is
/// zero (raw(7), IP_HDRINCL).
fn complete_header(route: &RouteInfo, payload: Chain) -> Option<PacketBuffer> {
    let IpAddr::V4(src) = route.src else { return None };
    let mut packet = PacketBuffer::new(payload);
    let header_len = Ipv4::header_len(packet.peek::<1>()?[0])?;
    let mut header = packet.pull(header_len)?.to_vec();
    let total_len = u16::try_from(packet.len()).ok()?;
    packet.advance(header_len);
    header.get_mut(2..4)?.copy_from_slice(&total_len.to_be_bytes());
    let own = header.get_mut(12..16)?;
    if own == [0; 4] {
        own.copy_from_slice(&src.octets());
    }
    header.get_mut(10..12)?.fill(0);
    let sum = checksum::of(&header).to_be_bytes();
    header.get_mut(10..12)?.copy_from_slice(&sum);
    packet.prepend_slice(&header);
    Some(packet)
}

//! ICMP of both families: echo, errors that came in, and errors that we send.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Stack;
use super::limit::Verdict;
use super::receive::{Headers, Origin, Rx};
use crate::buffer::{Chain, PacketBuffer};
use crate::ip::fragment::Expired;
use crate::ip::tables::Lookup;
use crate::ip::{
    Cast, Fragment, IpInfo, IpMeta, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, RouteQuery,
};
use crate::link::NicId;
use crate::socket::SocketError;
use crate::socket::error_queue::Carrier;
use crate::stats::IcmpStats;
use crate::time::Instant;
use crate::transport::icmp_echo::{encapsulate, protocol_of};
use crate::transport::{IcmpError, Key, Severity};
use crate::wire::checksum::Checksum;
use crate::wire::group::mld;
use crate::wire::icmp::{self, HEADER_LEN, Icmp, v4, v6};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6::{self, FragmentHeader, Ipv6};

/// Precedence 6, internetwork control (RFC 791).
const PRECEDENCE_INTERNETWORK_CONTROL: u8 = 0xc0;
/// The type-of-service bits without precedence (RFC 1349).
const TOS_MASK: u8 = 0x1e;
/// How much of a packet an ICMPv4 error quotes so that it stays within 576 bytes (RFC 1812 section 4.3.2.3).
const QUOTE_V4: usize = 576 - 20 - HEADER_LEN;
/// As much as fits the minimum IPv6 MTU (RFC 4443 section 2.4 c).
const QUOTE_V6: usize = 1280 - 40 - HEADER_LEN;

impl Stack {
    pub(super) fn icmp_stats(&self, address: IpAddr) -> &IcmpStats {
        match address {
            IpAddr::V4(_) => &self.shared.stats.icmp,
            IpAddr::V6(_) => &self.shared.stats.icmp6,
        }
    }

    /// Handles an ICMPv4 message.
    pub(super) fn receive_icmp_v4(&self, rx: &Rx<'_>, info: &IpInfo, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.icmp;
        stats.in_msgs.inc();
        let Some(bytes) = packet.peek::<HEADER_LEN>() else { return stats.in_errors.inc() };
        if !packet.offload.rx_verified && packet.sum_from(0).finish() != 0 {
            stats.in_csum_errors.inc();
            return stats.in_errors.inc();
        }
        let message = Icmp::parse(&bytes);
        stats.came(message.kind);
        match message.kind {
            v4::ECHO => {
                let conf = &rx.topology.tunables().ip;
                // An answer to a broadcast only serves attacks.
                let alone = info.cast == Cast::Unicast || !conf.icmp_echo_ignore_broadcasts;
                if alone && !conf.icmp_echo_ignore_all {
                    self.echo(rx, info, packet, Icmp { kind: v4::ECHO_REPLY, ..message });
                }
            }
            v4::ECHO_REPLY => {
                self.deliver_echo_reply(rx, info, &message, packet);
            }
            v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM => {
                packet.advance(HEADER_LEN);
                let body = packet.to_vec_up_to(QUOTE_V4);
                self.error_came(rx.now, info, &message, &body);
            }
            v4::REDIRECT => {
                packet.advance(HEADER_LEN);
                let body = packet.to_vec_up_to(QUOTE_V4);
                // Network redirects are taken as host redirects (RFC 1122 section 3.2.2.2).
                match Ipv4::parse_quoted(&body).filter(|_| message.code <= 3) {
                    Some(quoted) => {
                        let gateway = Ipv4Addr::from(message.rest);
                        self.redirected_v4(rx, info, gateway, quoted.dst);
                    }
                    None => stats.in_errors.inc(),
                }
            }
            v4::TIMESTAMP => {
                let conf = &rx.topology.tunables().ip;
                if info.cast == Cast::Unicast || !conf.icmp_echo_ignore_broadcasts {
                    self.timestamp(rx, info, &message, packet);
                }
            }
            _ => {}
        }
    }

    /// Handles an ICMPv6 message.
    pub(super) fn receive_icmp_v6(&self, rx: &Rx<'_>, info: &IpInfo, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.icmp6;
        stats.in_msgs.inc();
        let Some(bytes) = packet.peek::<HEADER_LEN>() else { return stats.in_errors.inc() };
        let mut sum = packet.sum_from(0);
        sum.add(Checksum::pseudo_header(info.src, info.dst, PROTO_ICMPV6, packet.len()));
        if !packet.offload.rx_verified && sum.finish() != 0 {
            stats.in_csum_errors.inc();
            return stats.in_errors.inc();
        }
        let message = Icmp::parse(&bytes);
        stats.came(message.kind);
        match message.kind {
            v6::ECHO => {
                let conf = &rx.topology.tunables().ip;
                let groups = info.cast == Cast::Unicast || !conf.icmp6_echo_ignore_multicast;
                let anycast = conf.icmp6_echo_ignore_anycast && rx.topology.is_anycast(info.dst);
                if groups && !anycast && !conf.icmp6_echo_ignore_all {
                    self.echo(rx, info, packet, Icmp { kind: v6::ECHO_REPLY, ..message });
                }
            }
            v6::ECHO_REPLY => {
                self.deliver_echo_reply(rx, info, &message, packet);
            }
            kind if icmp::is_error_v6(kind) => {
                packet.advance(HEADER_LEN);
                let body = packet.to_vec_up_to(QUOTE_V6);
                self.error_came(rx.now, info, &message, &body);
            }
            mld::QUERY | mld::REPORT | mld::DONE | mld::REPORT_V2 => {
                packet.advance(4);
                let body = packet.to_vec_up_to(QUOTE_V6);
                if self.receive_mld(rx, info, message.kind, &body).is_none() {
                    stats.in_errors.inc();
                }
            }
            v6::ROUTER_SOLICIT..=v6::REDIRECT => {
                packet.advance(HEADER_LEN);
                self.receive_ndp(rx, info, &message, &packet);
            }
            _ => {}
        }
    }

    /// Answers an echo request with its own bytes.
    fn echo(&self, rx: &Rx<'_>, info: &IpInfo, mut packet: PacketBuffer, reply: Icmp) {
        packet.advance(HEADER_LEN);
        // An anycast address is no source (RFC 2526), unless a setting says so.
        let anycast = info.dst.is_ipv6()
            && !rx.topology.tunables().ip.anycast_src_echo_reply
            && rx.topology.is_anycast(info.dst);
        let own = info.cast == Cast::Unicast && !anycast;
        let src = own.then_some(info.dst);
        let query = RouteQuery { src, nic: scope(info), ..RouteQuery::to(info.src) };
        let Ok(route) = self.find_route(rx.now, rx.topology, &query) else { return };
        let stats = self.icmp_stats(info.dst);
        let answer = encapsulate(reply, route.src, route.dst, packet.into_chain());
        let protocol = protocol_of(info.dst);
        // RFC 1122 section 3.2.2.6: "If a Record Route and/or Time Stamp option is received in an ICMP Echo Request, this
        // option (these options) SHOULD be updated to include the current host and included in the IP header of the Echo
        // Reply message".
        let (tos, options) = (info.tos, info.options.echoed());
        let fragment = Fragment::Anywhere;
        let meta = IpMeta { tos, fragment, options, ..IpMeta::new(protocol) };
        if self.send_payload(rx.now, &route, &meta, answer).is_ok() {
            stats.went(reply.kind);
        }
    }

    /// Answers a timestamp request (RFC 792) with the time at which it came.
    fn timestamp(&self, rx: &Rx<'_>, info: &IpInfo, message: &Icmp, mut packet: PacketBuffer) {
        packet.advance(HEADER_LEN);
        let Some(originate) = packet.peek::<4>() else {
            return self.shared.stats.icmp.in_errors.inc();
        };
        let now = self.time_of_day(rx.now).to_be_bytes();
        let body = Chain::from([originate, now, now].concat());
        let src = if info.cast == Cast::Unicast { Some(info.dst) } else { None };
        let query = RouteQuery { src, ..RouteQuery::to(info.src) };
        let Ok(route) = self.find_route(rx.now, rx.topology, &query) else { return };
        let reply = Icmp::new(v4::TIMESTAMP_REPLY, 0, message.rest);
        let answer = encapsulate(reply, route.src, route.dst, body);
        let meta =
            IpMeta { tos: info.tos, fragment: Fragment::Anywhere, ..IpMeta::new(PROTO_ICMP) };
        if self.send_payload(rx.now, &route, &meta, answer).is_ok() {
            self.shared.stats.icmp.went(v4::TIMESTAMP_REPLY);
        }
    }

    /// Gives an echo reply to the ping socket whose identifier it carries.
    fn deliver_echo_reply(&self, rx: &Rx<'_>, info: &IpInfo, message: &Icmp, packet: PacketBuffer) {
        let local = SocketAddr::new(info.dst, message.ident());
        let remote = SocketAddr::new(info.src, 0);
        let protocol = protocol_of(info.dst);
        if let Some(endpoint) = self.shared.demux.listener(protocol, local, remote, info.nic) {
            endpoint.deliver(rx.now, info, packet);
        }
    }

    /// Takes an error about a packet that we are said to have sent.
    fn error_came(&self, now: Instant, info: &IpInfo, message: &Icmp, body: &[u8]) {
        let offender = info.src;
        let Some(quoted) = Quoted::parse(body) else {
            return self.icmp_stats(offender).in_errors.inc();
        };
        // Only a packet of ours can have caused it.
        if !self.topology().is_local(quoted.src) {
            return;
        }
        let mtu = match offender {
            IpAddr::V4(_)
                if (message.kind, message.code) == (v4::UNREACHABLE, v4::CODE_FRAGMENTATION) =>
            {
                let told = u32::from(u16::from_be_bytes([message.rest[2], message.rest[3]]));
                // RFC 1191 section 5: an old router tells nothing; guess from the packet's own length.
                Some(if told == 0 { plateau(quoted.total_len) } else { told })
            }
            IpAddr::V6(_) if message.kind == v6::TOO_BIG => Some(u32::from_be_bytes(message.rest)),
            _ => None,
        };
        let (error, severity) = match offender {
            IpAddr::V4(_) => meaning_v4(message),
            IpAddr::V6(_) => meaning_v6(message),
        };
        // ip_no_pmtu_disc: 2 believes nobody, 3 only where the transport proves that it sent the packet.
        let deaf = match self.topology().tunables().ip.ip_no_pmtu_disc {
            2 => true,
            3 => quoted.protocol != PROTO_TCP,
            _ => false,
        };
        if deaf && offender.is_ipv4() && mtu.is_some() {
            return;
        }
        let icmp = Some((message.kind, message.code));
        let carrier = Some(Carrier {
            dst: info.dst,
            nic: info.nic,
            ttl: info.ttl,
            tos: info.tos,
            flow_info: info.flow_info,
        });
        let quoted_len = quoted_len(offender, message);
        let told = Told { error, severity, offender, icmp, mtu, carrier, quoted_len };
        self.report(now, info.nic, told, &quoted);
    }

    /// Tells the sender of an IP packet that its neighbour does not answer.
    pub(super) fn report_unreachable(
        &self,
        now: Instant,
        nic: NicId,
        offender: IpAddr,
        packet: PacketBuffer,
    ) {
        let bytes = packet.to_vec_up_to(QUOTE_V6);
        let Some(quoted) = Quoted::parse(&bytes) else { return };
        let icmp = match offender {
            IpAddr::V4(_) => (v4::UNREACHABLE, v4::CODE_HOST),
            IpAddr::V6(_) => (v6::UNREACHABLE, v6::CODE_ADDRESS),
        };
        let error = SocketError::HostUnreachable;
        let told = Told {
            error,
            severity: Severity::Soft,
            offender,
            icmp: Some(icmp),
            mtu: None,
            carrier: None,
            quoted_len: 0,
        };
        self.report(now, nic, told, &quoted);
    }

    /// Gives an error to the endpoint that sent the packet in question, and lowers the path's MTU.
    fn report(&self, now: Instant, nic: NicId, told: Told, quoted: &Quoted<'_>) {
        let (local_port, remote_port) = quoted.ports();
        let local = SocketAddr::new(quoted.src, local_port);
        let remote = SocketAddr::new(quoted.dst, remote_port);
        let mut error = IcmpError {
            error: told.error,
            severity: told.severity,
            offender: told.offender,
            icmp: told.icmp,
            mtu: told.mtu,
            local,
            remote,
            quoted: quoted.transport.to_vec(),
            extensions_at: told.quoted_len.checked_sub(quoted.headers_len),
            carrier: told.carrier,
        };
        let demux = &self.shared.demux;
        let endpoint = match quoted.protocol {
            PROTO_TCP => demux.exact(&Key::connected(PROTO_TCP, local, remote), nic, 0),
            protocol => demux.lookup(protocol, local, remote, nic),
        };
        let any = SocketAddr::new(crate::ip::Family::of(quoted.src).unspecified(), 0);
        let mut believers = match self.shared.raw.is_empty() {
            true => Vec::new(),
            false => self.shared.raw.members(&Key::bound(quoted.protocol, any), nic),
        };
        believers.extend(endpoint);
        believers.retain(|endpoint| endpoint.vouches_for(&error));
        // An error about a packet that nobody here can have sent changes nothing.
        if believers.is_empty() {
            return;
        }
        let conf = self.tunables().ip;
        error.mtu = told.mtu.and_then(|mtu| self.path_mtus.lower(now, quoted.dst, mtu, &conf));
        if error.mtu.is_none() && told.mtu.is_some() {
            return;
        }
        for endpoint in believers {
            endpoint.icmp_error(now, &error);
        }
    }

    /// Sends an ICMP error about a packet, unless the rules forbid it. `despite_multicast` marks the two
    /// ICMPv6 errors that may answer a multicast.
    pub(super) fn send_error(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        headers: &Headers,
        packet: &PacketBuffer,
        (kind, code, rest): (u8, u8, [u8; 4]),
        despite_multicast: bool,
    ) {
        let to_one = info.cast == Cast::Unicast && rx.link_cast == Cast::Unicast;
        if !(to_one || despite_multicast) || !may_answer(info, packet) {
            return;
        }
        let stats = self.icmp_stats(info.dst);
        let conf = &rx.topology.tunables().ip;
        let wide = self.width_of_route(rx, info);
        // As in Linux's icmpv4_xrlim_allow: what stays within the host is not limited.
        let verdict = match rx.nic.is_loopback() {
            true => Verdict::Send,
            false => self.icmp_limit.lock().allow(rx.now, conf, (info.src, wide), (kind, code)),
        };
        match verdict {
            Verdict::Send => {}
            Verdict::GlobalLimit => return stats.out_rate_limit_global.inc(),
            Verdict::HostLimit => return stats.out_rate_limited.inc(),
        }
        // A router answers from its own address; which one, the route back says, or the interface the packet came on.
        let inbound = conf.icmp_errors_use_inbound_ifaddr && info.dst.is_ipv4();
        let src = match info.cast {
            Cast::Unicast if rx.topology.is_local(info.dst) => Some(info.dst),
            _ if inbound => rx.topology.select_v4(
                rx.nic.id,
                Ipv4Addr::UNSPECIFIED,
                crate::ip::route::Scope::LINK,
            ),
            _ => None,
        };
        let query = RouteQuery { src, nic: scope(info), ..RouteQuery::to(info.src) };
        let Ok(route) = self.find_route(rx.now, rx.topology, &query) else {
            return stats.out_errors.inc();
        };
        let bound = if info.dst.is_ipv4() { QUOTE_V4 } else { QUOTE_V6 };
        let quote = Chain::from(headers.quote(packet, bound));
        let message = encapsulate(Icmp::new(kind, code, rest), route.src, route.dst, quote);
        let mut meta = IpMeta::new(protocol_of(info.dst));
        if info.dst.is_ipv4() {
            // RFC 1812 section 4.3.2.5: "ICMP error messages SHOULD have their precedence set to 6 or 7"; the rest of the
            // type of service is the packet's. Routers may cut an error up, as on Linux.
            meta.tos = info.tos & TOS_MASK | PRECEDENCE_INTERNETWORK_CONTROL;
            meta.fragment = Fragment::Anywhere;
            // RFC 1812 section 4.3.2.6: options that record are returned with what they recorded (ip_options_echo).
            meta.options = info.options.echoed();
        }
        if self.send_payload(rx.now, &route, &meta, message).is_ok() {
            stats.went(kind);
        }
    }

    /// How many bits short of a host the route to the source of a packet is, in units of 32: Linux lets the hosts behind a
    /// wide IPv6 route have more errors.
    fn width_of_route(&self, rx: &Rx<'_>, info: &IpInfo) -> u32 {
        if info.src.is_ipv4() {
            return 0;
        }
        let ask = Lookup {
            src: None,
            dst: info.src,
            iif: None,
            oif: scope(info),
            scope: crate::ip::route::Scope::UNIVERSE,
            flow: crate::ip::Flow::default(),
            hash: 0,
        };
        let found = rx.topology.tables().lookup(&ask, rx.topology);
        found.map_or(0, |found| u32::from(128 - found.route.dst.prefix_len()) >> 5)
    }

    /// Gives up datagrams whose fragments did not all come, and tells their senders (RFC 1122 section 3.3.2).
    pub(super) fn expire_fragments(&self, now: Instant) {
        let mut table = self.reassembly.lock();
        let expired = table.expire(now);
        let deadline = table.next_deadline();
        drop(table);
        self.schedule(deadline);
        let topology = self.topology();
        for Expired { first, key } in expired {
            let stats = self.ip_stats(key.dst);
            stats.reasm_timeout.inc();
            stats.reasm_fails.inc();
            let (Some((header, start)), Some(nic)) = (first, topology.nic(key.nic)) else {
                continue;
            };
            let (link_cast, origin) = (Cast::Unicast, Origin::Wire);
            let rx = Rx { now, topology: &topology, nic, link_cast, origin };
            let cast = if key.dst.is_multicast() { Cast::Multicast } else { Cast::Unicast };
            let (ttl, tos, nic) = (0, 0, key.nic);
            let protocol = key.protocol;
            let (src, dst, options) = (key.src, key.dst, Options::NONE);
            let flow_info = 0;
            let info = IpInfo { src, dst, protocol, ttl, tos, flow_info, nic, cast, options };
            let kind = if key.dst.is_ipv4() { v4::TIME_EXCEEDED } else { v6::TIME_EXCEEDED };
            let message = (kind, v4::CODE_REASSEMBLY, [0; 4]);
            let packet = PacketBuffer::new(start);
            self.send_error(&rx, &info, &Headers::new(&header), &packet, message, false);
        }
    }
}

/// What an error said.
struct Told {
    error: SocketError,
    severity: Severity,
    offender: IpAddr,
    icmp: Option<(u8, u8)>,
    mtu: Option<u32>,
    carrier: Option<Carrier>,
    // Bytes of the quoted packet before the extensions; 0 without.
    quoted_len: usize,
}

/// The packet that an error quotes.
pub(super) struct Quoted<'a> {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    total_len: u32,
    // Bytes of its IP headers.
    headers_len: usize,
    transport: &'a [u8],
}

impl<'a> Quoted<'a> {
    /// Reads a quoted packet with at least 8 bytes of its transport header. Later fragments tell no ports.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Quoted<'a>> {
        if bytes.first()? >> 4 == 6 {
            return Quoted::parse_v6(bytes);
        }
        let header = Ipv4::parse_quoted(bytes)?;
        let transport = bytes.get(usize::from(header.header_len)..)?;
        let (src, dst) = (header.src.into(), header.dst.into());
        let total_len = u32::from(header.total_len);
        let headers_len = usize::from(header.header_len);
        let protocol = header.protocol;
        let quoted = Quoted { src, dst, protocol, total_len, headers_len, transport };
        (header.fragment_offset == 0 && transport.len() >= 8).then_some(quoted)
    }

    fn parse_v6(bytes: &'a [u8]) -> Option<Quoted<'a>> {
        let header = Ipv6::parse(bytes.first_chunk()?)?;
        let mut protocol = header.next_header;
        let mut transport = bytes.get(ipv6::HEADER_LEN..)?;
        for _ in 0..8 {
            let (next, len) = match protocol {
                ipv6::NEXT_FRAGMENT => {
                    let fragment = FragmentHeader::parse(transport.first_chunk()?);
                    if fragment.offset != 0 {
                        return None;
                    }
                    (fragment.next_header, ipv6::FRAGMENT_LEN)
                }
                ipv6::NEXT_HOP_BY_HOP | ipv6::NEXT_ROUTING | ipv6::NEXT_DESTINATION => {
                    let [next, len] = *transport.first_chunk::<2>()?;
                    (next, (usize::from(len) + 1) * 8)
                }
                _ => break,
            };
            protocol = next;
            transport = transport.get(len..)?;
        }
        let (src, dst) = (header.src.into(), header.dst.into());
        let total_len = u32::from(header.payload_len) + ipv6::HEADER_LEN as u32;
        let headers_len = bytes.len() - transport.len();
        let quoted = Quoted { src, dst, protocol, total_len, headers_len, transport };
        (transport.len() >= 8).then_some(quoted)
    }

    /// Our port and the peer's; the identifier of an echo request counts as ours.
    fn ports(&self) -> (u16, u16) {
        let word = |at: usize| crate::wire::be16(self.transport, at).unwrap_or(0);
        match self.protocol {
            PROTO_UDP | PROTO_TCP => (word(0), word(2)),
            PROTO_ICMP | PROTO_ICMPV6 => (word(4), 0),
            _ => (0, 0),
        }
    }
}

/// Whether an error may be sent about a packet (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
fn may_answer(info: &IpInfo, packet: &PacketBuffer) -> bool {
    let first = packet.iter_slices().next().and_then(|bytes| bytes.first().copied());
    let about_error = match info.protocol {
        PROTO_ICMP => first.is_none_or(icmp::is_error_v4),
        PROTO_ICMPV6 => first.is_none_or(icmp::is_error_v6),
        _ => false,
    };
    !about_error && !info.src.is_unspecified() && !info.src.is_multicast()
}

/// How many bytes of the packet an error says that it quotes before its extensions (RFC 4884 sections 3 to 5): "measured in 32-bit
/// words" in ICMP, in 64-bit words in ICMPv6. Less than 128 bytes are none.
fn quoted_len(offender: IpAddr, message: &Icmp) -> usize {
    const LEAST: usize = 128;
    let len = match (offender, message.kind) {
        (IpAddr::V4(_), v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM) => {
            usize::from(message.rest[1]) * 4
        }
        (IpAddr::V6(_), v6::UNREACHABLE | v6::TIME_EXCEEDED) => usize::from(message.rest[0]) * 8,
        _ => 0,
    };
    if len < LEAST { 0 } else { len }
}

/// What an ICMPv4 error means to a socket (RFC 1122 sections 3.2.2.1 and 4.2.3.9).
fn meaning_v4(message: &Icmp) -> (SocketError, Severity) {
    use SocketError as E;
    match (message.kind, message.code) {
        (v4::UNREACHABLE, 0 | 6 | 9 | 11) => {
            let hard = matches!(message.code, 6 | 9);
            (E::NetworkUnreachable, if hard { Severity::Hard } else { Severity::Soft })
        }
        (v4::UNREACHABLE, v4::CODE_PROTOCOL) => (E::ProtocolUnreachable, Severity::Hard),
        (v4::UNREACHABLE, v4::CODE_PORT) => (E::ConnectionRefused, Severity::Hard),
        (v4::UNREACHABLE, v4::CODE_FRAGMENTATION) => (E::MessageTooLong, Severity::Soft),
        (v4::UNREACHABLE, 7) => (E::HostDown, Severity::Hard),
        (v4::UNREACHABLE, 8 | 10 | 13 | 14 | 15) => (E::HostUnreachable, Severity::Hard),
        (v4::PARAMETER_PROBLEM, _) => (E::Protocol, Severity::Hard),
        _ => (E::HostUnreachable, Severity::Soft),
    }
}

/// What an ICMPv6 error means to a socket.
fn meaning_v6(message: &Icmp) -> (SocketError, Severity) {
    use SocketError as E;
    match (message.kind, message.code) {
        (v6::UNREACHABLE, 0) => (E::NetworkUnreachable, Severity::Soft),
        (v6::UNREACHABLE, 1 | 5 | 6) => (E::AccessDenied, Severity::Hard),
        (v6::UNREACHABLE, v6::CODE_PORT) => (E::ConnectionRefused, Severity::Hard),
        (v6::TOO_BIG, _) => (E::MessageTooLong, Severity::Soft),
        (v6::PARAMETER_PROBLEM, _) => (E::Protocol, Severity::Hard),
        _ => (E::HostUnreachable, Severity::Soft),
    }
}

/// The next lower MTU that links have, for a router that does not tell (RFC 1191 section 7.1).
fn plateau(len: u32) -> u32 {
    let plateaus = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296];
    plateaus.into_iter().find(|plateau| *plateau < len).unwrap_or(68)
}

/// The interface that an answer must take: the one the packet came on, when its source is link-local.
fn scope(info: &IpInfo) -> Option<NicId> {
    match info.src {
        IpAddr::V6(src) if src.is_unicast_link_local() => Some(info.nic),
        _ => None,
    }
}

//! Between segments and packets: the header is added or read, the checksum left to the device or checked.

use core::net::SocketAddr;

use crate::buffer::{Chain, ChecksumOffload, Gso, GsoKind, PacketBuffer};
use crate::ip::route::Scope;
use crate::ip::{
    Cast, Family, Fragment, IpError, IpInfo, IpMeta, PROTO_TCP, RouteInfo, RouteQuery,
    SourcePreference,
};
use crate::link::NicId;
use crate::socket::options::MtuDiscover;
use crate::time::{Duration, Instant};
use crate::transport::tcp::{Codepoint, PathLimits, Segment};
use crate::transport::{Host, Key};
use crate::wire::checksum::Checksum;
use crate::wire::tcp::{self, CHECKSUM_OFFSET, HEADER_LEN, Header, MAX_OPTIONS_LEN};

/// The two ends of a flow, ours first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

impl Flow {
    /// The same, as the other end sees it.
    pub(super) fn reversed(self) -> Flow {
        Flow { local: self.remote, remote: self.local }
    }

    /// What tells its packets from those of most other streams, for a link that shares itself among them.
    pub(super) fn number(self) -> u32 {
        u32::from(self.local.port()) << 16 | u32::from(self.remote.port())
    }

    /// What the demux finds a connection under.
    pub(super) fn connected(self) -> Key {
        Key::connected(PROTO_TCP, self.local, self.remote)
    }

    /// The flow of a received packet.
    fn of(info: &IpInfo, header: &Header) -> Flow {
        Flow {
            local: SocketAddr::new(info.dst, header.dst_port),
            remote: SocketAddr::new(info.src, header.src_port),
        }
    }
}

/// A received segment with the flow it belongs to.
pub(super) struct Arrived {
    pub flow: Flow,
    pub segment: Segment,
}

/// Reads a packet whose front is a TCP header, and leaves it as it is; counts it where it is broken.
pub(super) fn parse(host: &dyn Host, info: &IpInfo, packet: &mut PacketBuffer) -> Option<Arrived> {
    let stats = &host.shared().stats;
    if !packet.offload.rx_verified && !is_intact(info, packet) {
        stats.tcp.in_csum_errors.inc();
        stats.tcp.in_errs.inc();
        return None;
    }
    let parsed = packet
        .pull(HEADER_LEN)
        .and_then(|bytes| tcp::header_len(bytes).ok())
        .and_then(|len| Header::parse(packet.pull(len)?).ok());
    let Some(parsed) = parsed else {
        stats.tcp.in_errs.inc();
        return None;
    };
    let mut segment = Segment::from_wire(&parsed.header, packet.rest(parsed.header_len));
    segment.ecn = Codepoint::of_tos(info.tos);
    Some(Arrived { flow: Flow::of(info, &parsed.header), segment })
}

fn is_intact(info: &IpInfo, packet: &PacketBuffer) -> bool {
    if let ChecksumOffload::Partial { .. } = packet.offload.checksum {
        // It never left this machine: the sender's device would have filled the checksum in.
        return true;
    }
    let mut sum = Checksum::pseudo_header(info.src, info.dst, PROTO_TCP, packet.len());
    sum.add(packet.sum_from(0));
    sum.finish() == 0
}

/// What the path of a route allows.
pub(super) fn limits(route: &RouteInfo, ip: IpSettings) -> PathLimits {
    // The total length of IPv4 has 16 bits, one less than Linux's loopback takes.
    let (ip_header, most) = match Family::of(route.dst) {
        Family::V4 => (20, usize::from(u16::MAX)),
        Family::V6 => (40, usize::from(u16::MAX) + 40),
    };
    let mtu = if ignores_path(ip) { route.link_mtu } else { route.mtu };
    let mss = (mtu as usize).min(most).saturating_sub(ip_header + HEADER_LEN);
    // Headers and payload of one packet must fit the IP length, too.
    let gso_most = usize::from(u16::MAX) - ip_header - HEADER_LEN - MAX_OPTIONS_LEN;
    let metrics = &route.metrics;
    let told = |n: u32| (n > 0).then(|| u16::try_from(n).unwrap_or(u16::MAX));
    PathLimits {
        offered_mss: told(metrics.advmss),
        rto_min: (metrics.rto_min_ms > 0)
            .then(|| Duration::from_millis(u64::from(metrics.rto_min_ms)).into()),
        first_window: told(metrics.initcwnd),
        first_offer: told(metrics.initrwnd),
        most_offered: (metrics.window > 0).then_some(metrics.window),
        congestion: metrics.congctl,
        quick_ack: metrics.quickack,
        ..PathLimits::new(mss, (route.max_gso as usize).min(gso_most))
    }
}

/// What a socket asks of the IP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpSettings {
    pub ttl: Option<u8>,
    pub tos: u8,
    /// SO_MARK, by which rules choose routes.
    pub mark: u32,
    /// The user that owns the socket, likewise.
    pub uid: u32,
    /// Link for SO_DONTROUTE.
    pub scope: Scope,
    /// IP_MTU_DISCOVER.
    pub mtu_discover: MtuDiscover,
    /// IPV6_ADDR_PREFERENCES
    pub sources: SourcePreference,
}

impl IpSettings {
    /// Those of a fresh socket.
    pub(super) const DEFAULT: IpSettings = IpSettings {
        ttl: None,
        tos: 0,
        mark: 0,
        uid: 0,
        scope: Scope::UNIVERSE,
        mtu_discover: MtuDiscover::Want,
        sources: SourcePreference::Default,
    };

    /// The way of a connection that these settings ask for, over an interface where the socket is bound to one.
    pub(super) fn query(&self, flow: &Flow, nic: Option<NicId>) -> RouteQuery {
        let query = RouteQuery::to(flow.remote.ip());
        let told = crate::ip::Flow {
            mark: self.mark,
            tos: self.tos,
            protocol: PROTO_TCP,
            sport: flow.local.port(),
            dport: flow.remote.port(),
            uid: self.uid,
            ..query.flow
        };
        let (scope, prefer) = (self.scope, self.sources);
        RouteQuery { src: Some(flow.local.ip()), nic, flow: told, scope, prefer, ..query }
    }
}

/// Whether a socket does not even let others learn of it.
pub(super) fn is_deaf(ip: IpSettings) -> bool {
    matches!(ip.mtu_discover, MtuDiscover::Interface | MtuDiscover::Omit)
}

/// Whether a socket does not listen to what routers say of the path's MTU: then they may cut its packets.
pub(super) fn ignores_path(ip: IpSettings) -> bool {
    matches!(ip.mtu_discover, MtuDiscover::Dont | MtuDiscover::Interface | MtuDiscover::Omit)
}

/// Sends one segment over a route, and takes its payload. No lock of an endpoint may be held.
pub(super) fn emit(
    host: &dyn Host,
    now: Instant,
    route: &RouteInfo,
    flow: Flow,
    ip: &IpSettings,
    segment: &mut Segment,
) -> Result<(), IpError> {
    let stats = &host.shared().stats.tcp;
    let header = segment.to_header(flow.local.port(), flow.remote.port());
    let (payload_len, mss) = (segment.payload.len(), segment.mss);
    let tos = ip.tos | segment.ecn.bits();
    let pieces = if payload_len > mss { payload_len.div_ceil(mss) as u64 } else { 1 };
    // RFC 1213: tcpOutSegs leaves out "those containing only retransmitted octets".
    match segment.retransmission {
        true => stats.retrans_segs.add(pieces),
        false => stats.out_segs.add(pieces),
    }
    if segment.rst() {
        stats.out_rsts.inc();
    }
    let mut packet = pack(flow, header, core::mem::take(&mut segment.payload), mss);
    packet.tags.stream = flow.number();
    // Linux's ip_dont_fragment: a stream forbids routers to cut unless it was told otherwise.
    let fragment = match ip.mtu_discover {
        MtuDiscover::Want | MtuDiscover::Do => Fragment::Never,
        _ => Fragment::Anywhere,
    };
    let meta = IpMeta { ttl: ip.ttl, tos, fragment, ..IpMeta::new(PROTO_TCP) };
    host.send(now, route, &meta, packet)
}

fn pack(flow: Flow, mut header: Header, payload: Chain, mss: usize) -> PacketBuffer {
    let (header_len, payload_len) = (header.len(), payload.len());
    let sum = Checksum::pseudo_header(
        flow.local.ip(),
        flow.remote.ip(),
        PROTO_TCP,
        header_len + payload_len,
    );
    header.checksum = sum.partial();
    let mut bytes = [0; HEADER_LEN + MAX_OPTIONS_LEN];
    header.emit(&mut bytes);
    let mut packet = PacketBuffer::new(payload);
    packet.prepend_slice(&bytes[..header_len]);
    packet.offload.checksum = ChecksumOffload::Partial { start: 0, offset: CHECKSUM_OFFSET as u16 };
    if payload_len > mss {
        let kind = if flow.local.is_ipv4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
        packet.offload.gso = Some(Gso { kind, size: mss.min(usize::from(u16::MAX)) as u16 });
    }
    packet
}

/// Sends a segment that belongs to no connection: a reset, or the acknowledgment of a remnant.
pub(super) fn emit_stray(host: &dyn Host, now: Instant, flow: Flow, mut segment: Segment) {
    let query = IpSettings::DEFAULT.query(&flow, None);
    if let Ok(route) = host.route(now, &query) {
        // What cannot be sent is lost, as any segment may be.
        let _ = emit(host, now, &route, flow, &IpSettings::DEFAULT, &mut segment);
    }
}

/// Answers a packet that no endpoint wants by a reset (RFC 9293 section 3.10.7.1).
pub fn refuse(host: &dyn Host, now: Instant, info: &IpInfo, mut packet: PacketBuffer) {
    let Some(arrived) = parse(host, info, &mut packet) else { return };
    if info.cast != Cast::Unicast {
        return;
    }
    if let Some(reset) = arrived.segment.answer_with_reset() {
        emit_stray(host, now, arrived.flow, reset);
    }
}

//! Whether a packet that came in is for us, goes on, or is impossible: Linux's `ip_route_input_slow` and `ip6_route_input`.

use core::net::{IpAddr, Ipv4Addr};

use super::Stack;
use super::groups::PROTO_IGMP;
use super::receive::{Origin, Rx};
use super::topology::Topology;
use crate::buffer::PacketBuffer;
use crate::ip::route::{NextHop, RouteType, Scope};
use crate::ip::tables::{Lookup, Refusal};
use crate::ip::{Cast, Family, Flow, PROTO_TCP, PROTO_UDP};
use crate::link::NicId;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{Ipv6, NEXT_DESTINATION, NEXT_HOP_BY_HOP, NEXT_ROUTING};

/// How many headers are looked through for ports (Linux's MAX_FLOW_DISSECT_HDRS).
const DISSECTED_MAX: usize = 15;

/// What becomes of a packet that came in.
pub(super) enum Input {
    /// It is for us.
    Local(Cast),
    /// It goes on this way.
    Forward(Onward),
    /// A router refuses it and says so.
    Refused(Refusal),
    /// It is dropped in silence; the reason is counted.
    Dropped,
}

/// The way of a packet that goes on.
#[derive(Clone, Copy)]
pub(super) struct Onward {
    /// The interface.
    pub nic: NicId,
    /// The neighbour that takes it.
    pub next_hop: IpAddr,
    /// What the route says of its path.
    pub metrics: crate::ip::route::Metrics,
}

/// What is known of a source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Plausible,
    Martian,
    /// It is routed elsewhere (RFC 3704).
    Unrouted,
}

impl Stack {
    /// Judges an IPv4 packet.
    pub(super) fn input_v4(&self, rx: &Rx<'_>, header: &Ipv4, packet: &PacketBuffer) -> Input {
        let (src, dst) = (header.src, header.dst);
        let topology = rx.topology;
        if rx.origin == Origin::Own {
            return match topology.accepts_v4(rx.nic, dst) {
                Some(cast) => Input::Local(cast),
                None => self.unwanted(rx),
            };
        }
        if src.is_multicast() || src.is_broadcast() || topology.is_broadcast(rx.nic.id, src) {
            return self.martian_source();
        }
        let nowhere = src.is_unspecified();
        if dst.is_broadcast() || (nowhere && dst.is_unspecified()) {
            return self.checked(rx, (header, packet), Cast::Broadcast);
        }
        if dst.is_multicast() {
            // A host that has no address yet may only speak on its link.
            let local_group = dst.octets()[..3] == [224, 0, 0];
            if nowhere && !local_group && header.protocol != PROTO_IGMP {
                return self.martian_source();
            }
            // RFC 3376 section 3.1: what no member wants of this source is not for us. Group management is.
            let managed = header.protocol == PROTO_IGMP;
            let heard = managed || rx.nic.groups.lock().hears(dst.into(), src.into());
            return match topology.accepts_v4(rx.nic, dst).filter(|_| heard) {
                Some(cast) => self.checked(rx, (header, packet), cast),
                None => self.unwanted(rx),
            };
        }
        // RFC 1122 section 3.2.1.3: "Addresses of this form MUST NOT appear outside a host"; "this host on this network" is
        // no source but of who asks for an address.
        let localnet = || {
            topology.of_nic(rx.nic.id).ipv4.route_localnet
                || topology.tunables().ipv4_all.route_localnet
        };
        if src.octets()[0] == 0 || (src.is_loopback() && !localnet()) {
            return self.martian_source();
        }
        if dst.octets()[0] == 0 || (dst.is_loopback() && !localnet()) {
            self.shared.stats.rt_cache.in_martian_dst.inc();
            return Input::Dropped;
        }
        self.routed_v4(rx, header, packet)
    }

    /// Asks the routing tables about a unicast destination.
    fn routed_v4(&self, rx: &Rx<'_>, header: &Ipv4, packet: &PacketBuffer) -> Input {
        let topology = rx.topology;
        let (src, dst) = (IpAddr::V4(header.src), IpAddr::V4(header.dst));
        let plain = topology.tables().rules().ask_local_first(Family::V4);
        if plain && topology.is_local(dst) {
            return self.checked(rx, (header, packet), Cast::Unicast);
        }
        let found = match self.onward(rx, src, dst, flow_v4(header, packet)) {
            Ok(found) => found,
            Err(_) if !topology.forwards(rx.nic.id, Family::V4) => {
                return self.unwanted(rx);
            }
            Err(refusal) => return Input::Refused(refusal),
        };
        match found.kind {
            RouteType::Local => self.checked(rx, (header, packet), Cast::Unicast),
            RouteType::Broadcast if !topology.forwards_broadcasts(rx.nic.id) => {
                self.checked(rx, (header, packet), Cast::Broadcast)
            }
            RouteType::Unicast | RouteType::Broadcast
                if topology.forwards(rx.nic.id, Family::V4) =>
            {
                // A frame to everybody is nobody's to pass on.
                let source = self.checked(rx, (header, packet), Cast::Unicast);
                match (source, found.onward(header.dst.into())) {
                    (Input::Local(_), Some(onward)) if rx.link_cast == Cast::Unicast => {
                        Input::Forward(onward)
                    }
                    _ => Input::Dropped,
                }
            }
            RouteType::Unicast | RouteType::Broadcast => self.unwanted(rx),
            _ => {
                self.shared.stats.rt_cache.in_martian_dst.inc();
                Input::Dropped
            }
        }
    }

    /// Not for us, and we are no router.
    fn unwanted(&self, rx: &Rx<'_>) -> Input {
        if rx.link_cast == Cast::Unicast {
            self.shared.stats.ip.in_addr_errors.inc();
        }
        Input::Dropped
    }

    fn martian_source(&self) -> Input {
        self.shared.stats.rt_cache.in_martian_src.inc();
        Input::Dropped
    }

    /// Takes a packet for us when its source can be true.
    fn checked(&self, rx: &Rx<'_>, (header, packet): (&Ipv4, &PacketBuffer), cast: Cast) -> Input {
        if header.src.is_unspecified() {
            return Input::Local(cast);
        }
        match rx.topology.judge_source(rx, header, packet) {
            Source::Plausible => Input::Local(cast),
            Source::Martian => self.martian_source(),
            Source::Unrouted => {
                self.shared.stats.ip.reverse_path_filter.inc();
                Input::Dropped
            }
        }
    }

    /// The route of a packet that came in.
    fn onward(&self, rx: &Rx<'_>, src: IpAddr, dst: IpAddr, flow: Flow) -> Result<Judged, Refusal> {
        let iif = Some(rx.nic.id);
        let (oif, scope) = (None, Scope::UNIVERSE);
        let hash = self.flow_hash(rx.topology, (Some(src), dst), &flow);
        let ask = Lookup { src: Some(src), dst, iif, oif, scope, flow, hash };
        let found = rx.topology.tables().lookup(&ask, rx.topology)?;
        let (kind, metrics) = (found.route.kind, found.route.metrics);
        Ok(Judged { kind, hop: found.hop, metrics })
    }

    /// Judges an IPv6 packet.
    pub(super) fn input_v6(&self, rx: &Rx<'_>, header: &Ipv6, rest: &PacketBuffer) -> Input {
        let stats = &self.shared.stats.ip6;
        let (src, dst) = (header.src, header.dst);
        let topology = rx.topology;
        let wire = rx.origin == Origin::Wire;
        let mapped = src.to_ipv4_mapped().is_some() || dst.to_ipv4_mapped().is_some();
        // RFC 4291 section 2.5.3: the loopback address never appears outside a node; section 2.7.1: interface-local groups
        // do not cross a link, and scope 0 is reserved.
        let confined = dst.is_multicast() && dst.octets()[1] & 0x0f <= 1;
        let outside = wire && (src.is_loopback() || dst.is_loopback() || confined);
        if src.is_multicast() || mapped || outside || (wire && topology.is_local(src.into())) {
            stats.in_addr_errors.inc();
            return Input::Dropped;
        }
        let filtered = dst.is_multicast() && !rx.nic.groups.lock().hears(dst.into(), src.into());
        if let Some(cast) = topology.accepts_v6(rx.nic, dst).filter(|_| !filtered) {
            return Input::Local(cast);
        }
        let forwards = topology.forwards(rx.nic.id, Family::V6);
        if dst.is_multicast() || !wire || rx.link_cast != Cast::Unicast {
            stats.in_addr_errors.inc();
            return Input::Dropped;
        }
        match self.onward(rx, src.into(), dst.into(), flow_v6(header, rest)) {
            // A host, too, tells that it has no way on (ip6_pkt_discard); where it has one, it keeps still.
            Ok(found) => match (found.kind, found.onward(dst.into())) {
                (RouteType::Unicast, Some(onward)) if forwards => Input::Forward(onward),
                _ => {
                    stats.in_addr_errors.inc();
                    Input::Dropped
                }
            },
            Err(refusal) => Input::Refused(refusal),
        }
    }
}

/// What tells a packet apart; `packet` begins with its header. Of fragments Linux knows no ports.
fn flow_v4(header: &Ipv4, packet: &PacketBuffer) -> Flow {
    let at = usize::from(header.header_len);
    let whole = !header.more_fragments && header.fragment_offset == 0;
    let (sport, dport) = match whole {
        true => ports(packet, header.protocol, at),
        false => (0, 0),
    };
    Flow { tos: header.tos, protocol: header.protocol, sport, dport, ..Flow::default() }
}

/// The same of IPv6; `rest` begins behind the fixed header. Headers before the transport's are passed over.
fn flow_v6(header: &Ipv6, rest: &PacketBuffer) -> Flow {
    let (mut protocol, mut at) = (header.next_header, 0);
    for _ in 0..DISSECTED_MAX {
        let mut head = [0; 2];
        let passed = matches!(protocol, NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_DESTINATION);
        if !passed || !rest.copy_at(at, &mut head) {
            break;
        }
        (protocol, at) = (head[0], at + (usize::from(head[1]) + 1) * 8);
    }
    let (sport, dport) = ports(rest, protocol, at);
    let (tos, label) = (header.traffic_class, header.flow_label);
    Flow { tos, protocol, sport, dport, label, ..Flow::default() }
}

/// The ports of a transport header, with which DCCP, SCTP and UDP-Lite begin, too.
fn ports(packet: &PacketBuffer, protocol: u8, at: usize) -> (u16, u16) {
    let mut bytes = [0; 4];
    let has = matches!(protocol, PROTO_TCP | PROTO_UDP | 33 | 132 | 136);
    if !has || !packet.copy_at(at, &mut bytes) {
        return (0, 0);
    }
    let [a, b, c, d] = bytes;
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// The flow of an answer.
fn backwards(flow: Flow) -> Flow {
    Flow { sport: flow.dport, dport: flow.sport, ..flow }
}

/// What the tables say of a packet that came in.
struct Judged {
    kind: RouteType,
    hop: Option<NextHop>,
    metrics: crate::ip::route::Metrics,
}

impl Judged {
    fn onward(&self, dst: IpAddr) -> Option<Onward> {
        let hop = self.hop?;
        let (nic, next_hop) = (hop.nic, hop.via.unwrap_or(dst));
        Some(Onward { nic, next_hop, metrics: self.metrics })
    }
}

impl Topology {
    /// `bc_forwarding`, where "all" agrees (IN_DEV_BFORWARD).
    fn forwards_broadcasts(&self, nic: NicId) -> bool {
        self.tunables().ipv4_all.bc_forwarding && self.of_nic(nic).ipv4.bc_forwarding
    }

    /// Linux's `fib_validate_source`: our own address from outside is forged, and with `rp_filter` a source must be routed
    /// where it came from (1) or anywhere (2).
    fn judge_source(&self, rx: &Rx<'_>, header: &Ipv4, packet: &PacketBuffer) -> Source {
        let all = &self.tunables().ipv4_all;
        let own = &self.of_nic(rx.nic.id).ipv4;
        let filter = own.rp_filter.max(all.rp_filter);
        let src: IpAddr = header.src.into();
        if self.is_local(src) {
            let accepted = own.accept_local || all.accept_local;
            return if accepted { Source::Plausible } else { Source::Martian };
        }
        if filter == 0 {
            return Source::Plausible;
        }
        let ask = Lookup {
            src: Some(header.dst.into()).filter(|dst: &IpAddr| !dst.is_multicast()),
            dst: src,
            iif: None,
            oif: None,
            scope: Scope::UNIVERSE,
            flow: backwards(flow_v4(header, packet)),
            hash: 0,
        };
        let Ok(found) = self.tables().lookup(&ask, self) else { return Source::Unrouted };
        match found.route.kind {
            RouteType::Unicast if found.route.uses(rx.nic.id) || filter == 2 => Source::Plausible,
            RouteType::Unicast => Source::Unrouted,
            _ => Source::Martian,
        }
    }

    /// Whether an address is a direct neighbour on an interface: the best route to it has no gateway.
    pub(super) fn is_neighbour(&self, nic: NicId, address: IpAddr) -> bool {
        let (src, iif, oif, hash) = (None, None, Some(nic), 0);
        let (scope, flow) = (Scope::UNIVERSE, Flow::default());
        let ask = Lookup { src, dst: address, iif, oif, scope, flow, hash };
        let found = self.tables().lookup(&ask, self).ok().and_then(|found| found.hop);
        found.is_some_and(|hop| hop.nic == nic && hop.via.is_none())
    }

    /// Whether an IPv4 address lies in one of an interface's subnets together with another (`inet_addr_onlink`).
    pub(super) fn share_subnet(&self, nic: NicId, a: Ipv4Addr, b: Ipv4Addr) -> bool {
        let both = |own: &crate::ip::Address| {
            let prefix = own.prefix();
            prefix.contains(a.into()) && prefix.contains(b.into())
        };
        self.addresses(nic).iter().any(both)
    }
}

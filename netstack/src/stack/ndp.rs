//! Neighbour discovery on the stack's side (RFC 4861): solicitations and advertisements, in and out.

use core::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::receive::Rx;
use super::topology::{ALL_NODES, Topology, solicited_node};
use crate::buffer::{Chain, PacketBuffer};
use crate::ip::neigh::Claim;
use crate::ip::{Cast, Fragment, IpInfo, IpMeta, PROTO_ICMPV6, RouteInfo, SourcePreference};
use crate::link::MacAddr;
use crate::time::Instant;
use crate::transport::icmp_echo::encapsulate;
use crate::wire::icmp::{Icmp, v6};
use crate::wire::ndp::{NeighbourAdvert, NeighbourSolicit};

/// RFC 4861 section 6.1: a message that crossed a router is invalid, which the hop limit proves.
const HOP_LIMIT: u8 = 255;
/// A message of neighbour discovery is small; what lies beyond is not read.
const MAX_BODY: usize = 1500;

impl Stack {
    /// Handles a message of neighbour discovery; its ICMPv6 header is `message`.
    pub(super) fn receive_ndp(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        message: &Icmp,
        packet: &PacketBuffer,
    ) {
        let stats = &self.shared.stats.icmp6;
        if info.ttl != HOP_LIMIT || message.code != 0 || rx.nic.is_loopback() {
            return stats.in_errors.inc();
        }
        let body = packet.to_vec_up_to(MAX_BODY);
        let handled = match message.kind {
            v6::NEIGHBOUR_SOLICIT => {
                stats.in_neighbor_solicits.inc();
                self.solicited(rx, info, &body)
            }
            v6::NEIGHBOUR_ADVERT => {
                stats.in_neighbor_advertisements.inc();
                self.advertised(rx, info, message.rest, &body)
            }
            v6::ROUTER_ADVERT => {
                // Addresses and routes are configured here; advertisements are counted (accept_ra = 0).
                stats.in_router_advertisements.inc();
                Some(())
            }
            v6::REDIRECT => {
                stats.in_redirects.inc();
                self.redirected_v6(rx, info, &body)
            }
            _ => Some(()),
        };
        if handled.is_none() {
            stats.in_errors.inc();
        }
    }

    /// Answers a neighbour solicitation about an address of the interface.
    fn solicited(&self, rx: &Rx<'_>, info: &IpInfo, body: &[u8]) -> Option<()> {
        let solicit = NeighbourSolicit::parse(body)?;
        let target = IpAddr::V6(solicit.target);
        if rx.topology.address_of(rx.nic.id, target).is_none() {
            return Some(());
        }
        let probing = info.src.is_unspecified();
        if !probing && let Some(mac) = solicit.source.filter(|mac| mac.is_unicast()) {
            self.learn_neighbour(rx.now, rx.nic, info.src, mac);
        }
        let dst = match info.src {
            // RFC 4861 section 7.2.4: the answer to somebody without an address goes to all nodes.
            IpAddr::V6(src) if !probing => src,
            _ => ALL_NODES,
        };
        // Section 7.2.4: "If the solicitation's IP Destination Address is not a multicast address, the Target Link-Layer
        // Address option MAY be omitted": whoever asks by unicast knows the address, and is only told that it still holds.
        let by_multicast = info.cast != Cast::Unicast;
        let advert = NeighbourAdvert {
            router: false,
            solicited: !probing,
            override_cached: by_multicast,
            target: solicit.target,
            link_address: by_multicast.then_some(rx.nic.mac),
        };
        let header = Icmp::new(v6::NEIGHBOUR_ADVERT, 0, advert.rest());
        self.shared.stats.icmp6.out_neighbor_advertisements.inc();
        self.send_ndp(rx.now, rx.nic, (solicit.target, dst), None, (header, advert.body()));
        Some(())
    }

    /// Takes a neighbour advertisement.
    fn advertised(&self, rx: &Rx<'_>, info: &IpInfo, rest: [u8; 4], body: &[u8]) -> Option<()> {
        let advert = NeighbourAdvert::parse(rest, body)?;
        if advert.solicited && info.cast == Cast::Multicast {
            return None;
        }
        let target = IpAddr::V6(advert.target);
        // Somebody else claims our address: a conflict that only an administrator can end.
        if rx.topology.is_local(target) {
            return None;
        }
        if let Some(mac) = advert.link_address.filter(|mac| mac.is_unicast()) {
            let (solicited, override_cached) = (advert.solicited, advert.override_cached);
            let router = Some(advert.router);
            let claim = Claim { mac, solicited, override_cached, router };
            self.take_claim(rx.now, rx.nic, target, claim);
        } else if advert.solicited {
            rx.nic.neighbours.lock().confirm(rx.now, target);
        }
        Some(())
    }

    /// Asks who has an address: everybody with its last three bytes, or the one who had it.
    pub(super) fn solicit(
        &self,
        now: Instant,
        topology: &Topology,
        nic: &Arc<Nic>,
        target: Ipv6Addr,
        mac: Option<MacAddr>,
    ) {
        let Some(IpAddr::V6(src)) = topology.select_source(
            nic.id,
            target.into(),
            (target.into(), SourcePreference::Default),
        ) else {
            return;
        };
        let dst = if mac.is_some() { target } else { solicited_node(target) };
        let body = NeighbourSolicit { target, source: Some(nic.mac) }.body();
        let header = Icmp::new(v6::NEIGHBOUR_SOLICIT, 0, [0; 4]);
        self.shared.stats.icmp6.out_neighbor_solicits.inc();
        self.send_ndp(now, nic, (src, dst), mac, (header, body));
    }

    /// Sends a message of neighbour discovery, to a link-layer address when that is known.
    pub(super) fn send_ndp(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        (src, dst): (Ipv6Addr, Ipv6Addr),
        mac: Option<MacAddr>,
        (header, body): (Icmp, Vec<u8>),
    ) {
        let packet = encapsulate(header, src.into(), dst.into(), Chain::from(body));
        let cast = if dst.is_multicast() { Cast::Multicast } else { Cast::Unicast };
        let (mtu, max_gso) = (nic.mtu(), 0);
        let route = RouteInfo {
            src: src.into(),
            dst: dst.into(),
            next_hop: dst.into(),
            nic: nic.id,
            mtu,
            link_mtu: mtu,
            max_gso,
            cast,
            metrics: crate::ip::route::Metrics::default(),
        };
        let meta = IpMeta {
            ttl: Some(HOP_LIMIT),
            fragment: Fragment::Never,
            multicast_loop: false,
            ..IpMeta::new(PROTO_ICMPV6)
        };
        self.shared.stats.icmp6.out_msgs.inc();
        let packet = self.add_header(now, &route, &meta, packet);
        // A full or broken link drops it; discovery repeats itself.
        let _ = match mac {
            Some(mac) => self.transmit_ip(now, nic, mac, crate::ip::Family::V6, packet),
            None => self.emit(now, nic, &route, packet),
        };
    }
}

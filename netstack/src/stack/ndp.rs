//! Neighbour discovery on the stack's side (RFC 4861): solicitations and advertisements, in and out.

use core::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::receive::Rx;
use super::topology::{ALL_NODES, Topology, solicited_node};
use crate::buffer::{Chain, PacketBuffer};
use crate::ip::neigh::Claim;
use crate::ip::{
    AddressFlags, Cast, Fragment, IpInfo, IpMeta, PROTO_ICMPV6, RouteInfo, SourcePreference,
};
use crate::link::{MacAddr, NicId};
use crate::time::Instant;
use crate::transport::icmp_echo::encapsulate;
use crate::wire::icmp::{Icmp, v6};
use crate::wire::ndp::{NeighbourAdvert, NeighbourSolicit};

/// RFC 4861 section 6.1: a message that crossed a router is invalid, which the hop limit proves.
const HOP_LIMIT: u8 = 255;
/// A message of neighbour discovery is small; what lies beyond is not read.
const MAX_BODY: usize = 1500;

impl Topology {
    /// `force_tllao`
    fn forces_link_address(&self, nic: NicId) -> bool {
        self.of_nic(nic).ipv6.force_tllao || self.tunables().ipv6_all.force_tllao
    }

    /// `accept_untracked_na`: 1 from anybody, 2 only from one of the interface's prefixes.
    fn tracks_unknown(&self, nic: NicId, sender: IpAddr) -> bool {
        match self.of_nic(nic).ipv6.accept_untracked_na {
            0 => false,
            1 => true,
            _ => self.addresses(nic).iter().any(|own| own.prefix().contains(sender)),
        }
    }
}

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
            v6::NEIGHBOUR_SOLICIT => self.solicited(rx, info, &body),
            v6::NEIGHBOUR_ADVERT => self.advertised(rx, info, message.rest, &body),
            v6::ROUTER_ADVERT => self.router_advertised(rx, info, message.rest, &body),
            v6::REDIRECT => self.redirected_v6(rx, info, &body),
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
        let probing = info.src.is_unspecified();
        // RFC 4861 section 7.1.1: a probe goes to the solicited-node group and has no link-layer address.
        if probing
            && (info.dst != IpAddr::V6(solicited_node(solicit.target)) || solicit.source.is_some())
        {
            return None;
        }
        let own = rx.topology.address_of(rx.nic.id, target);
        match own {
            Some(own) if own.flags.contains(AddressFlags::TENTATIVE) => {
                // RFC 4862 section 5.4.3: another node probes for the same address; one that resolves it must wait.
                if probing && rx.nic.autoconf.lock().collides(solicit.target, solicit.nonce) {
                    self.duplicate(rx.nic, solicit.target);
                }
                if !own.flags.contains(AddressFlags::OPTIMISTIC) || probing {
                    return Some(());
                }
            }
            Some(own) if own.is_usable() => {}
            _ => {
                let conf = &rx.topology.of_nic(rx.nic.id).ipv6;
                let proxied = conf.proxy_ndp && rx.nic.neighbours.lock().is_proxied(target);
                if !proxied {
                    return Some(());
                }
            }
        }
        let firm = own.is_some_and(|own| !own.flags.contains(AddressFlags::OPTIMISTIC));
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
        let force = rx.topology.forces_link_address(rx.nic.id);
        let advert = NeighbourAdvert {
            router: rx.topology.of_nic(rx.nic.id).ipv6.forwarding,
            solicited: !probing,
            // Section 7.2.8 and RFC 4429 section 3.3: who answers for another, or is not sure, overrides nothing.
            override_cached: by_multicast && firm,
            target: solicit.target,
            link_address: (by_multicast || force).then_some(rx.nic.mac),
        };
        let header = Icmp::new(v6::NEIGHBOUR_ADVERT, 0, advert.rest());
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
        // Somebody else has an address that we probe for (RFC 4862 section 5.4.4); one that is in use stays in use: a conflict
        // that only an administrator can end.
        if rx.topology.address_of(rx.nic.id, target).is_some() {
            self.duplicate(rx.nic, advert.target);
            return Some(());
        }
        if rx.topology.is_local(target) {
            return None;
        }
        let conf = &rx.topology.of_nic(rx.nic.id).ipv6;
        if !advert.solicited && conf.drop_unsolicited_na {
            return Some(());
        }
        // Section 7.2.5: an answer without a link-layer address speaks of the one that is known.
        let known = || rx.nic.neighbours.lock().get(target).and_then(|known| known.mac);
        let known = if advert.solicited { known() } else { None };
        let told = advert.link_address.filter(|mac| mac.is_unicast());
        // RFC 9131: "When a valid Neighbor Advertisement is received ... and no entry exists, the router SHOULD create an entry for
        // the target ... set to STALE", where `accept_untracked_na` lets it.
        let untracked = conf.forwarding && rx.topology.tracks_unknown(rx.nic.id, info.src);
        let unknown = untracked && rx.nic.neighbours.lock().get(target).is_none();
        if let Some(mac) = told.filter(|_| unknown) {
            self.learn_neighbour(rx.now, rx.nic, target, mac);
            return Some(());
        }
        if let Some(mac) = told.or(known) {
            let (solicited, override_cached) = (advert.solicited, advert.override_cached);
            let (router, gratuitous) = (Some(advert.router), false);
            let claim = Claim { mac, solicited, override_cached, router, gratuitous };
            self.take_claim(rx.now, rx.nic, target, claim);
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
        let body = NeighbourSolicit { target, source: Some(nic.mac), nonce: None }.body();
        let header = Icmp::new(v6::NEIGHBOUR_SOLICIT, 0, [0; 4]);
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
        let mut packet = encapsulate(header, src.into(), dst.into(), Chain::from(body));
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
            holds_back: false,
            metrics: crate::ip::route::Metrics::default(),
        };
        let meta = IpMeta {
            ttl: Some(HOP_LIMIT),
            tos: self.topology().of_nic(nic.id).ipv6.ndisc_tclass,
            fragment: Fragment::Never,
            multicast_loop: false,
            ..IpMeta::new(PROTO_ICMPV6)
        };
        self.shared.stats.icmp6.went(header.kind);
        self.shared.stats.ip6.out_requests.inc();
        self.add_header(now, &self.topology(), (&route, &meta), &mut packet);
        // A full or broken link drops it; discovery repeats itself.
        let _ = match mac {
            Some(mac) => {
                self.shared.stats.ip6.count_departure(cast, packet.len());
                self.transmit_ip(now, nic, mac, crate::ip::Family::V6, &mut packet)
            }
            None => self.emit(now, nic, &route, packet),
        };
    }
}

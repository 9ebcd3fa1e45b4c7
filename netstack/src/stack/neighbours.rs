//! From next hops to link-layer addresses: ARP, the probes of both families, and what fails.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::observe::{Change, Presence};
use super::topology::Topology;
use crate::buffer::PacketBuffer;
use crate::ip::neigh::{Action, Claim, Claimed, Gone, Neighbour, Probe, Resolution};
use crate::ip::route::Scope;
use crate::ip::tables::Lookup;
use crate::ip::{Family, Flow, IpError, SourcePreference};
use crate::link::MacAddr;
use crate::time::{Duration, Instant};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::ethernet::TYPE_ARP;

/// The least time between two defences of an address (RFC 5227 section 1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

impl Topology {
    /// Whether an interface answers a question for an address: `arp_ignore`, `arp_filter`, `proxy_arp`.
    fn answers_arp(&self, nic: &Nic, sender: Ipv4Addr, target: Ipv4Addr) -> bool {
        let (all, own) = (&self.tunables().ipv4_all, &self.of_nic(nic.id).ipv4);
        if !self.is_local(target.into()) {
            let proxied = nic.neighbours.lock().is_proxied(target.into());
            let proxy = all.proxy_arp || own.proxy_arp;
            return proxied || (proxy && own.forwarding && self.leads_elsewhere(nic.id, target));
        }
        let here = self.address_of(nic.id, target.into());
        let heeded = match all.arp_ignore.max(own.arp_ignore) {
            0 => true,
            1 => here.is_some(),
            2 => here.is_some_and(|own| own.prefix().contains(sender.into())),
            3 => here.is_none_or(|own| own.scope < Scope::HOST),
            _ => false,
        };
        let filter = all.arp_filter || own.arp_filter;
        let routed_back = sender.is_unspecified() || !filter || self.leads_through(nic.id, sender);
        heeded && routed_back
    }

    /// The interface that the route to an address takes.
    fn way_to(&self, address: Ipv4Addr) -> Option<crate::link::NicId> {
        let (src, iif, oif, hash) = (None, None, None, 0);
        let (scope, flow) = (Scope::UNIVERSE, Flow::default());
        let ask = Lookup { src, dst: address.into(), iif, oif, scope, flow, hash };
        self.tables().lookup(&ask, self).ok()?.hop.map(|hop| hop.nic)
    }

    fn leads_through(&self, nic: crate::link::NicId, address: Ipv4Addr) -> bool {
        self.way_to(address) == Some(nic)
    }

    fn leads_elsewhere(&self, nic: crate::link::NicId, address: Ipv4Addr) -> bool {
        self.way_to(address).is_some_and(|way| way != nic)
    }
}

impl Stack {
    /// Sends an IP packet to a neighbour, or keeps it until the neighbour's address is known.
    pub(super) fn send_to_neighbour(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        next_hop: IpAddr,
        mut packet: PacketBuffer,
    ) -> Result<(), IpError> {
        let mut cache = nic.neighbours.lock();
        if let Some(mac) = cache.known(now, next_hop) {
            drop(cache);
            return self.transmit_ip(now, nic, mac, Family::of(next_hop), &mut packet);
        }
        let resolution = cache.resolve(now, next_hop, packet);
        let (deadline, events) = (cache.next_deadline(), cache.take_events());
        drop(cache);
        self.tell_neighbours(nic, events);
        match resolution {
            Resolution::Send(mac, mut packet) => {
                self.schedule(deadline);
                self.transmit_ip(now, nic, mac, Family::of(next_hop), &mut packet)
            }
            Resolution::Waiting(probe) => {
                self.schedule(deadline);
                if let Some(probe) = probe {
                    // Several ways: a neighbour that is not known may be passed over (`fib_multipath_use_neigh`).
                    self.routes.forget();
                    self.shared.stats.neigh.lookups.inc();
                    self.probe(now, nic, probe);
                }
                Ok(())
            }
            Resolution::Full(_) => {
                self.shared.stats.neigh.table_full.inc();
                Err(IpError::NoBuffers)
            }
        }
    }

    /// Asks for an address on the link.
    fn probe(&self, now: Instant, nic: &Arc<Nic>, probe: Probe) {
        let topology = self.topology();
        match probe.address {
            IpAddr::V4(target) => {
                // The source of the packet that waits, when that is ours (arp_announce = 0); else one of the interface.
                let announce = topology.of_nic(nic.id).ipv4.arp_announce;
                let announce = announce.max(topology.tunables().ipv4_all.arp_announce);
                let hint = probe.src.filter(|src| match (announce, src) {
                    (0, _) => topology.is_local(*src),
                    (1, IpAddr::V4(src)) => topology.share_subnet(nic.id, *src, target),
                    _ => false,
                });
                let src = hint.or_else(|| topology.select_v4(nic.id, target, Scope::LINK));
                let Some(IpAddr::V4(src)) = src else { return };
                let request = Arp {
                    operation: Operation::Request,
                    sender: (nic.mac, src),
                    target: (MacAddr::ZERO, target),
                };
                let dst = probe.mac.unwrap_or(MacAddr::BROADCAST);
                self.send_arp(now, nic, dst, &request);
            }
            IpAddr::V6(target) => self.solicit(now, &topology, nic, target, probe.mac),
        }
    }

    fn send_arp(&self, now: Instant, nic: &Arc<Nic>, dst: MacAddr, packet: &Arp) {
        self.shared.stats.neigh.arp_out.inc();
        let mut packet = PacketBuffer::from_slice(&packet.emit());
        // A full or broken link drops the probe; the next one comes in a second.
        let _ = self.transmit(now, nic, dst, TYPE_ARP, &mut packet);
    }

    /// Handles an ARP packet (RFC 826, "Packet Reception").
    pub(super) fn receive_arp(
        &self,
        now: Instant,
        topology: &Topology,
        nic: &Arc<Nic>,
        mut packet: PacketBuffer,
    ) {
        let stats = &self.shared.stats.neigh;
        stats.arp_in.inc();
        let Some(arp) = packet.pull(arp::LEN).and_then(Arp::parse) else {
            stats.arp_bad.inc();
            return;
        };
        let (mac, sender) = arp.sender;
        let target = arp.target.1;
        let usable = mac.is_unicast() && !sender.is_multicast() && !sender.is_broadcast();
        if !usable || mac == nic.mac || target.is_loopback() || target.is_multicast() {
            stats.arp_bad.inc();
            return;
        }
        if topology.is_local(sender.into()) {
            stats.arp_bad.inc();
            return self.defend(now, nic, topology, sender);
        }
        let conf = &topology.of_nic(nic.id).ipv4;
        let gratuitous = sender == target;
        if gratuitous && conf.drop_gratuitous_arp {
            return;
        }
        let ours = topology.is_local(target.into());
        match arp.operation {
            Operation::Request if topology.answers_arp(nic, sender, target) => {
                if !sender.is_unspecified() {
                    self.learn_neighbour(now, nic, sender.into(), mac);
                }
                let reply = Arp {
                    operation: Operation::Reply,
                    sender: (nic.mac, target),
                    target: (mac, sender),
                };
                self.send_arp(now, nic, mac, &reply);
            }
            Operation::Request | Operation::Reply => {
                let near = topology.share_subnet(nic.id, sender, target);
                let accept = conf.arp_accept.max(topology.tunables().ipv4_all.arp_accept);
                if gratuitous && (accept == 1 || (accept == 2 && near)) {
                    return self.learn_neighbour(now, nic, sender.into(), mac);
                }
                // A question to somebody else, or a gratuitous one, renews what we know and adds nothing.
                let solicited = ours && arp.operation == Operation::Reply;
                let claim =
                    Claim { mac, solicited, override_cached: true, router: None, gratuitous };
                self.take_claim(now, nic, sender.into(), claim);
            }
        }
    }

    /// Defends an address of ours that somebody else announces: RFC 5227 section 2.4 (c), "the host MAY elect to attempt to
    /// defend its address by ... broadcasting one single ARP Announcement", not more often than every 10 seconds.
    fn defend(&self, now: Instant, nic: &Arc<Nic>, topology: &Topology, address: Ipv4Addr) {
        if topology.address_of(nic.id, address.into()).is_none() {
            return;
        }
        let mut defended = nic.defended.lock();
        if defended.is_some_and(|at| now.since(at) < DEFEND_INTERVAL) {
            return;
        }
        *defended = Some(now);
        drop(defended);
        self.announce(now, nic.id, address);
    }

    /// Learns who asked us, and sends what waited for it.
    pub(super) fn learn_neighbour(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        address: IpAddr,
        mac: MacAddr,
    ) {
        let mut cache = nic.neighbours.lock();
        let waiting = cache.learn(now, address, mac);
        let events = cache.take_events();
        drop(cache);
        self.tell_neighbours(nic, events);
        self.release(now, nic, address, mac, waiting);
    }

    /// Takes an answer, and sends what waited for it.
    pub(super) fn take_claim(&self, now: Instant, nic: &Arc<Nic>, address: IpAddr, claim: Claim) {
        let mut cache = nic.neighbours.lock();
        let Claimed { mac, waiting, left_routing } = cache.claim(now, address, claim);
        let (deadline, events) = (cache.next_deadline(), cache.take_events());
        drop(cache);
        self.schedule(deadline);
        self.tell_neighbours(nic, events);
        if left_routing {
            self.forget_router(nic.id, address);
        }
        self.release(now, nic, address, mac, waiting);
    }

    /// Tells the observers what changed in a neighbour cache.
    pub(super) fn tell_neighbours(&self, nic: &Nic, events: Vec<(Gone, Neighbour)>) {
        for (gone, neighbour) in events {
            let presence = match gone {
                Gone::Yes => Presence::Deleted,
                Gone::No => Presence::New,
            };
            self.tell(&[Change::Neighbour(presence, nic.id, neighbour)]);
        }
    }

    pub(super) fn release(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        address: IpAddr,
        mac: MacAddr,
        waiting: Vec<PacketBuffer>,
    ) {
        if !waiting.is_empty() {
            // Who answers at last may be the better router.
            self.routes.forget();
        }
        for mut packet in waiting {
            // The sender of a packet that waited is gone: a link that drops it counts it.
            let _ = self.transmit_ip(now, nic, mac, Family::of(address), &mut packet);
        }
    }

    /// Probes what is due and tells the senders of packets whose neighbour does not answer.
    pub(super) fn age_neighbours(&self, now: Instant, topology: &Topology, nic: &Arc<Nic>) {
        let mut cache = nic.neighbours.lock();
        if cache.next_deadline().is_none_or(|deadline| deadline > now) {
            let deadline = cache.next_deadline();
            drop(cache);
            return self.schedule(deadline);
        }
        let actions = cache.on_timer(now);
        let (deadline, events) = (cache.next_deadline(), cache.take_events());
        drop(cache);
        self.tell_neighbours(nic, events);
        self.schedule(deadline);
        for action in actions {
            match action {
                Action::Probe(probe) => self.probe(now, nic, probe),
                Action::Failed(address, packets) => {
                    // Another router may be the better way now.
                    self.routes.forget();
                    self.shared.stats.neigh.resolve_failed.inc();
                    let offender = topology
                        .select_source(nic.id, address, (address, SourcePreference::Default))
                        .unwrap_or(Family::of(address).unspecified());
                    for packet in packets {
                        self.shared.stats.neigh.unresolved_discards.inc();
                        self.report_unreachable(now, nic.id, offender, packet);
                    }
                }
            }
        }
    }

    /// Announces an IPv4 address of an interface to the link (RFC 5227 section 2.3).
    pub fn announce(&self, now: Instant, nic: crate::link::NicId, address: Ipv4Addr) {
        let topology = self.topology();
        if let Some(nic) = topology.nic(nic).filter(|nic| !nic.is_loopback() && nic.is_up()) {
            let arp = Arp {
                operation: Operation::Request,
                sender: (nic.mac, address),
                target: (MacAddr::ZERO, address),
            };
            self.send_arp(now, nic, MacAddr::BROADCAST, &arp);
        }
    }
}

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
use crate::ip::{Family, IpError, SourcePreference};
use crate::link::MacAddr;
use crate::time::Instant;
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::ethernet::TYPE_ARP;

impl Stack {
    /// Sends an IP packet to a neighbour, or keeps it until the neighbour's address is known.
    pub(super) fn send_to_neighbour(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        next_hop: IpAddr,
        packet: PacketBuffer,
    ) -> Result<(), IpError> {
        let mut cache = nic.neighbours.lock();
        let resolution = cache.resolve(now, next_hop, packet);
        let (deadline, events) = (cache.next_deadline(), cache.take_events());
        drop(cache);
        self.tell_neighbours(nic, events);
        match resolution {
            Resolution::Send(mac, packet) => {
                self.schedule(deadline);
                self.transmit_ip(now, nic, mac, Family::of(next_hop), packet)
            }
            Resolution::Waiting(probe) => {
                self.schedule(deadline);
                if let Some(probe) = probe {
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
                let src = topology.select_v4(nic.id, target, Scope::LINK);
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
        let packet = PacketBuffer::from_slice(&packet.emit());
        // A full or broken link drops the probe; the next one comes in a second.
        let _ = self.transmit(now, nic, dst, TYPE_ARP, packet);
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
        let usable = mac.is_unicast() && !sender.is_multicast() && !sender.is_broadcast();
        if !usable || mac == nic.mac || topology.is_local(sender.into()) {
            stats.arp_bad.inc();
            return;
        }
        let ours = topology.is_local(arp.target.1.into());
        match arp.operation {
            Operation::Request if ours => {
                if !sender.is_unspecified() {
                    self.learn_neighbour(now, nic, sender.into(), mac);
                }
                let reply = Arp {
                    operation: Operation::Reply,
                    sender: (nic.mac, arp.target.1),
                    target: (mac, sender),
                };
                self.send_arp(now, nic, mac, &reply);
            }
            Operation::Request => {
                // A question to somebody else, or a gratuitous one, renews what we know and adds nothing.
                let claim = Claim { router: None, mac, solicited: false, override_cached: true };
                self.take_claim(now, nic, sender.into(), claim);
            }
            Operation::Reply => {
                let claim = Claim { router: None, mac, solicited: ours, override_cached: true };
                self.take_claim(now, nic, sender.into(), claim);
            }
        }
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
        let Claimed { mac, waiting, .. } = cache.claim(now, address, claim);
        let (deadline, events) = (cache.next_deadline(), cache.take_events());
        drop(cache);
        self.schedule(deadline);
        self.tell_neighbours(nic, events);
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
        for packet in waiting {
            // The sender of a packet that waited is gone: a link that drops it counts it.
            let _ = self.transmit_ip(now, nic, mac, Family::of(address), packet);
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

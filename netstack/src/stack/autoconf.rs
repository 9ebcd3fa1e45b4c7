//! Addresses that come, are probed, age and go by themselves.

use core::net::{IpAddr, Ipv6Addr};
use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::observe::{Change, Presence};
use super::redirect::link_local_of;
use super::topology::{ALL_NODES, ALL_ROUTERS, Topology, solicited_node};
use crate::ip::autoconf::Step;
use crate::ip::{Address, AddressFlags};
use crate::time::Instant;
use crate::wire::icmp::{Icmp, v6};
use crate::wire::ndp::{NeighbourAdvert, NeighbourSolicit, router_solicit_body};

impl Topology {
    /// An address that an interface is about to get: tentative, and its detection begun, unless none is wanted.
    pub(super) fn tentative(&self, nic: &Nic, mut own: Address) -> Address {
        let conf = &self.of_nic(nic.id).ipv6;
        let IpAddr::V6(ip) = own.ip() else { return own };
        let all = &self.tunables().ipv6_all;
        let wanted = conf.dad_transmits > 0 && conf.accept_dad.max(all.accept_dad.min(1)) > 0;
        if own.flags.contains(AddressFlags::NODAD) || nic.is_loopback() || !wanted {
            own.flags.remove(AddressFlags::OPTIMISTIC);
            if ip.is_unicast_link_local() {
                // Nothing to wait for: routers are asked for at once.
                self.ask_for_routers(nic, Instant::ZERO);
            }
            return own;
        }
        own.flags |= AddressFlags::TENTATIVE;
        nic.autoconf.lock().probe(ip, conf);
        own
    }

    pub(super) fn ask_for_routers(&self, nic: &Nic, now: Instant) {
        let conf = &self.of_nic(nic.id).ipv6;
        if conf.takes_adverts() && !nic.is_loopback() {
            nic.autoconf.lock().solicit(now, conf);
        }
    }
}

impl Stack {
    /// Sees to it that the timer runs when something about addresses, routes or groups is due.
    pub(super) fn schedule_autoconf(&self) {
        let topology = self.topology();
        let mut next = topology.next_expiry;
        for nic in topology.nics() {
            let autoconf = nic.autoconf.lock().next_deadline().filter(|_| nic.is_up());
            let groups = nic.groups.lock().next_deadline();
            let announce = nic.announce.load(Ordering::Relaxed).then_some(Instant::ZERO);
            next = [next, autoconf, groups, announce].into_iter().flatten().min();
        }
        self.schedule(next);
    }

    /// Does what an interface has to do by itself now.
    pub(super) fn autoconfigure(&self, now: Instant, topology: &Topology, nic: &Arc<Nic>) {
        if nic.announce.swap(false, Ordering::Relaxed) {
            self.announce_all(now, topology, nic);
        }
        let conf = topology.of_nic(nic.id);
        if nic.autoconf.lock().next_deadline().is_none_or(|at| at > now) || !nic.is_up() {
            return;
        }
        let retrans = conf.neigh_v6.retrans_time;
        let steps = nic.autoconf.lock().on_timer(now, &conf.ipv6, retrans);
        for step in steps {
            match step {
                Step::Probe(target, nonce) => {
                    let nonce = Some(nonce).filter(|_| conf.ipv6.enhanced_dad);
                    let body = NeighbourSolicit { target, source: None, nonce }.body();
                    let header = Icmp::new(v6::NEIGHBOUR_SOLICIT, 0, [0; 4]);
                    // RFC 4862 section 5.4.2: "The IP source is set to the unspecified address".
                    let way = (Ipv6Addr::UNSPECIFIED, solicited_node(target));
                    self.send_ndp(now, nic, way, None, (header, body));
                }
                Step::Unique(address) => self.unique(now, nic, address),
                Step::Solicit => self.solicit_routers(now, nic),
                Step::Renew(public) => self.renew_temporary(now, nic, public),
            }
        }
    }

    /// Nobody else has an address: it is used from now on.
    fn unique(&self, now: Instant, nic: &Arc<Nic>, address: Ipv6Addr) {
        let _ = self.change(|topology, changes| -> Result<(), ()> {
            topology.edit_addresses(nic, changes, |all| {
                for own in all.iter_mut().filter(|own| own.ip() == IpAddr::V6(address)) {
                    own.flags.remove(AddressFlags::TENTATIVE | AddressFlags::OPTIMISTIC);
                    own.updated = now;
                }
            });
            Ok(())
        });
        let topology = self.topology();
        if address.is_unicast_link_local() {
            topology.ask_for_routers(nic, now);
            // What was told from no address is told again from this one (RFC 3810 section 5.2.13).
            let conf = topology.group_conf(nic.id, crate::ip::Family::V6);
            nic.groups.lock().reannounce(crate::ip::Family::V6, &conf);
        }
        if topology.of_nic(nic.id).ipv6.ndisc_notify {
            self.announce_v6(now, &topology, nic, address);
        }
    }

    /// Asks for routers (RFC 4861 section 4.1).
    fn solicit_routers(&self, now: Instant, nic: &Arc<Nic>) {
        let topology = self.topology();
        let own = link_local_of(&topology, nic.id);
        // "MUST NOT be included if the Source Address is the unspecified address."
        let body = router_solicit_body(own.map(|_| nic.mac));
        let header = Icmp::new(v6::ROUTER_SOLICIT, 0, [0; 4]);
        let way = (own.unwrap_or(Ipv6Addr::UNSPECIFIED), ALL_ROUTERS);
        self.send_ndp(now, nic, way, None, (header, body));
    }

    /// Announces an IPv6 address to the link (RFC 4861 section 7.2.6).
    fn announce_v6(&self, now: Instant, topology: &Topology, nic: &Arc<Nic>, target: Ipv6Addr) {
        let advert = NeighbourAdvert {
            router: topology.of_nic(nic.id).ipv6.forwarding,
            solicited: false,
            override_cached: true,
            target,
            link_address: Some(nic.mac),
        };
        let header = Icmp::new(v6::NEIGHBOUR_ADVERT, 0, advert.rest());
        self.send_ndp(now, nic, (target, ALL_NODES), None, (header, advert.body()));
    }

    /// Announces every address of an interface that came up, where `arp_notify` and `ndisc_notify` want it.
    fn announce_all(&self, now: Instant, topology: &Topology, nic: &Arc<Nic>) {
        let conf = topology.of_nic(nic.id);
        let arp = conf.ipv4.arp_notify || topology.tunables().ipv4_all.arp_notify;
        for own in topology.addresses(nic.id).iter().filter(|own| own.is_usable()) {
            match own.ip() {
                IpAddr::V4(v4) if arp => self.announce(now, nic.id, v4),
                IpAddr::V6(v6) if conf.ipv6.ndisc_notify => {
                    self.announce_v6(now, topology, nic, v6);
                }
                _ => {}
            }
        }
    }

    /// Ends addresses and routes whose time is over, and deprecates addresses.
    pub(super) fn end_lifetimes(&self, now: Instant) {
        if self.topology().next_expiry.is_none_or(|at| at > now) {
            return;
        }
        let _ = self.change(|topology, changes| -> Result<(), ()> {
            for nic in topology.nics.values().cloned().collect::<Vec<_>>() {
                let over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
                let due = |own: &Address| own.next_deadline().is_some_and(|at| at <= now);
                if !topology.addresses(nic.id).iter().any(due) {
                    continue;
                }
                topology.edit_addresses(&nic, changes, |all| {
                    all.retain(|own| !over(own.valid_until));
                    for own in all.iter_mut().filter(|own| over(own.preferred_until)) {
                        own.flags |= AddressFlags::DEPRECATED;
                    }
                });
            }
            let gone = topology.tables.remove(|route| route.expires.is_some_and(|at| at <= now));
            changes.extend(gone.into_iter().map(|route| Change::Route(Presence::Deleted, route)));
            let addresses = topology.addresses.values().flatten();
            let mut next = addresses.filter_map(Address::next_deadline).min();
            topology.tables.for_each(|route| {
                next = [next, route.expires].into_iter().flatten().min();
            });
            topology.next_expiry = next;
            Ok(())
        });
    }
}

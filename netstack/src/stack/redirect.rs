//! Redirects of both families, sent and followed (RFC 1122 section 3.2.2.2, RFC 1812 section 5.2.7.2, RFC 4861 section 8).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::HashMap;

use parking_lot::Mutex;

use super::Stack;
use super::forward::Passing;
use super::input::Onward;
use super::receive::Rx;
use super::topology::Topology;
use crate::ip::route::{RouteType, Scope};
use crate::ip::tables::Lookup;
use crate::ip::{Family, Flow, IpInfo};
use crate::link::{MacAddr, NicId};
use crate::rng::KeyedState;
use crate::time::{Duration, Instant};
use crate::wire::icmp::{Icmp, v4, v6};
use crate::wire::ndp::Redirect;

/// How long a redirect holds (`gc_timeout` of IPv4 routes).
const LIFETIME: Duration = Duration::from_secs(300);
/// How many destinations are redirected at the most, and how many hosts remembered that were told.
const MOST: usize = 1024;
/// How often a host is told before it counts as deaf (`redirect_number`).
const TELLS: u32 = 9;
/// The first time between two redirects to one host; it doubles (`redirect_load`).
const LOAD: Duration = Duration::from_millis(20);
/// After so long without one a host is told again (`redirect_silence`).
const SILENCE: Duration = Duration::from_millis(20 << 10);
/// An ICMPv6 redirect quotes as much of the packet as fits 1280 bytes with its two addresses and two link-layer options.
const QUOTE_V6: usize = 1280 - 40 - 40 - 8 - 8;

/// Another first hop for one destination.
#[derive(Clone, Copy)]
struct Detour {
    /// The first hop that the routing table names: when it names another one, the redirect is void.
    instead_of: (NicId, IpAddr),
    next_hop: IpAddr,
    until: Instant,
}

/// What redirects taught, and whom we taught.
pub(super) struct Redirects {
    detours: Mutex<HashMap<IpAddr, Detour, KeyedState>>,
    // Read before the lock, so that a stack without redirects pays nothing.
    count: AtomicUsize,
    told: Mutex<HashMap<IpAddr, (u32, Instant), KeyedState>>,
}

impl Redirects {
    pub fn new(hasher: KeyedState) -> Redirects {
        Redirects {
            detours: Mutex::new(HashMap::with_hasher(hasher.clone())),
            count: AtomicUsize::new(0),
            told: Mutex::new(HashMap::with_hasher(hasher)),
        }
    }

    /// Whether none holds.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Forgets the redirects of a family.
    pub fn flush(&self, family: Family) {
        let mut detours = self.detours.lock();
        detours.retain(|dst, _| Family::of(*dst) != family);
        self.count.store(detours.len(), Ordering::Relaxed);
    }

    /// The first hop to a destination, when a redirect replaces the one that the routing table names.
    pub fn next_hop(&self, now: Instant, dst: IpAddr, routed: (NicId, IpAddr)) -> Option<IpAddr> {
        if self.is_empty() {
            return None;
        }
        let mut detours = self.detours.lock();
        let detour = *detours.get(&dst)?;
        if detour.instead_of != routed || detour.until <= now {
            detours.remove(&dst);
            self.count.store(detours.len(), Ordering::Relaxed);
            return None;
        }
        Some(detour.next_hop)
    }

    fn follow(&self, now: Instant, dst: IpAddr, instead_of: (NicId, IpAddr), next_hop: IpAddr) {
        let mut detours = self.detours.lock();
        if detours.len() >= MOST && !detours.contains_key(&dst) {
            let oldest = detours.iter().min_by_key(|(at, detour)| (detour.until, **at));
            if let Some(at) = oldest.map(|(at, _)| *at) {
                detours.remove(&at);
            }
        }
        detours.insert(dst, Detour { instead_of, next_hop, until: now + LIFETIME });
        self.count.store(detours.len(), Ordering::Relaxed);
    }

    /// Linux's `ip_rt_send_redirect`: fewer and fewer to a host that does not listen.
    fn may_tell(&self, now: Instant, host: IpAddr) -> bool {
        let mut told = self.told.lock();
        if told.len() >= MOST && !told.contains_key(&host) {
            let oldest = told.iter().min_by_key(|(address, (_, at))| (*at, **address));
            if let Some(address) = oldest.map(|(address, _)| *address) {
                told.remove(&address);
            }
        }
        let (count, at) = told.entry(host).or_insert((0, now));
        if now.since(*at) > SILENCE {
            *count = 0;
        }
        let wait = LOAD * (1 << (*count).min(TELLS));
        if *count >= TELLS || (*count > 0 && now.since(*at) <= wait) {
            return false;
        }
        (*count, *at) = (*count + 1, now);
        true
    }

    /// Forgets everything: interfaces went or routes changed as a whole.
    pub fn clear(&self) {
        self.detours.lock().clear();
        self.count.store(0, Ordering::Relaxed);
    }
}

impl Topology {
    /// The first hop that the routing table names for a destination over an interface.
    fn first_hop(&self, nic: NicId, dst: IpAddr) -> Option<IpAddr> {
        let (src, iif, oif, hash) = (None, None, Some(nic), 0);
        let (scope, flow) = (Scope::UNIVERSE, Flow::default());
        let ask = Lookup { src, dst, iif, oif, scope, flow, hash };
        let found = self.tables().lookup(&ask, self).ok()?;
        let hop = found.hop.filter(|hop| hop.nic == nic)?;
        (found.route.kind == RouteType::Unicast).then_some(hop.via.unwrap_or(dst))
    }
}

impl Stack {
    /// Tells a neighbour of ours that another one is nearer to its destination.
    pub(super) fn redirect_v4(&self, rx: &Rx<'_>, passing: &Passing<'_>, onward: &Onward) {
        let (IpAddr::V4(src), IpAddr::V4(gateway)) = (passing.info.src, onward.next_hop) else {
            return;
        };
        let (all, own) = (&rx.topology.tunables().ipv4_all, &rx.topology.of_nic(rx.nic.id).ipv4);
        let send = all.send_redirects || own.send_redirects;
        let shared = all.shared_media || own.shared_media;
        let near = rx.topology.is_neighbour(rx.nic.id, passing.info.src)
            && (shared || rx.topology.share_subnet(rx.nic.id, src, gateway));
        if !send || !near || !self.redirects.may_tell(rx.now, passing.info.src) {
            return;
        }
        // RFC 1812 section 5.2.7.2: "Routers MUST NOT generate a Redirect Message ... for network": code 1 is for the host.
        let message = (v4::REDIRECT, 1, gateway.octets());
        self.send_error(rx, passing.info, passing.headers, passing.rest, message, false);
    }

    /// The same for IPv6: the target is the better first hop, or the destination itself when that is a neighbour.
    pub(super) fn redirect_v6(&self, rx: &Rx<'_>, passing: &Passing<'_>, onward: &Onward) {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (passing.info.src, passing.info.dst) else {
            return;
        };
        let IpAddr::V6(target) = onward.next_hop else { return };
        let near = rx.topology.is_neighbour(rx.nic.id, src.into());
        let fits = target == dst || target.is_unicast_link_local();
        let Some(own) = link_local_of(rx.topology, rx.nic.id) else { return };
        if !near || !fits || !self.redirects.may_tell(rx.now, src.into()) {
            return;
        }
        let mac = rx.nic.neighbours.lock().get(target.into()).and_then(|known| known.mac);
        let quote = passing.headers.quote(passing.rest, QUOTE_V6);
        let body = Redirect { target, destination: dst, link_address: mac }.body(&quote);
        let header = Icmp::new(v6::REDIRECT, 0, [0; 4]);
        self.send_ndp(rx.now, rx.nic, (own, src), None, (header, body));
    }

    /// Follows an ICMPv4 redirect (RFC 1122 section 3.2.2.2): only from the first hop in use, only to a neighbour.
    pub(super) fn redirected_v4(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        gateway: Ipv4Addr,
        dst: Ipv4Addr,
    ) {
        let topology = rx.topology;
        let (all, own) = (&topology.tunables().ipv4_all, &topology.of_nic(rx.nic.id).ipv4);
        let accept = match own.forwarding {
            true => all.accept_redirects && own.accept_redirects,
            false => all.accept_redirects || own.accept_redirects,
        };
        let (IpAddr::V4(from), new) = (info.src, IpAddr::V4(gateway)) else { return };
        let wrong = gateway == from
            || gateway.is_multicast()
            || gateway.is_broadcast()
            || gateway.octets()[0] == 0;
        if !accept || wrong || topology.first_hop(rx.nic.id, dst.into()) != Some(info.src) {
            return;
        }
        let shared = all.shared_media || own.shared_media;
        let secure = all.secure_redirects || own.secure_redirects;
        let plausible = match shared {
            // "A Redirect message SHOULD be silently discarded if the new gateway address it specifies is not on the same
            // connected (sub-) net through which the Redirect arrived".
            false => {
                topology.share_subnet(rx.nic.id, gateway, from)
                    && (!secure || topology.is_default_gateway(rx.nic.id, new))
            }
            true => topology.is_neighbour(rx.nic.id, new) && !topology.is_local(new),
        };
        if plausible {
            self.redirects.follow(rx.now, dst.into(), (rx.nic.id, info.src), new);
        }
    }

    /// Follows an ICMPv6 redirect (RFC 4861 section 8.3).
    pub(super) fn redirected_v6(&self, rx: &Rx<'_>, info: &IpInfo, body: &[u8]) -> Option<()> {
        let redirect = Redirect::parse(body)?;
        let IpAddr::V6(from) = info.src else { return None };
        // Section 8.1: the source is link-local, the destination no group, the target a link-local address or the destination.
        let on_link = redirect.target == redirect.destination;
        let valid = from.is_unicast_link_local()
            && !redirect.destination.is_multicast()
            && (on_link || redirect.target.is_unicast_link_local());
        if !valid {
            return None;
        }
        let conf = &rx.topology.of_nic(rx.nic.id).ipv6;
        let dst = IpAddr::V6(redirect.destination);
        // "the IP source address of the Redirect is the same as the current first-hop router for the specified Destination".
        let current = rx.topology.first_hop(rx.nic.id, dst) == Some(info.src);
        if conf.forwarding || !conf.accept_redirects || !current {
            return Some(());
        }
        let target = IpAddr::V6(redirect.target);
        if let Some(mac) = redirect.link_address.filter(|mac: &MacAddr| mac.is_unicast()) {
            self.learn_neighbour(rx.now, rx.nic, target, mac);
        }
        if !on_link {
            // "If the Target Address is not the same as the Destination Address, the host MUST set IsRouter to TRUE".
            rx.nic.neighbours.lock().note_router(rx.now, target);
        }
        self.redirects.follow(rx.now, dst, (rx.nic.id, info.src), target);
        Some(())
    }
}

impl Topology {
    /// Whether a default route leads through a gateway (`ip_fib_check_default`).
    fn is_default_gateway(&self, nic: NicId, gateway: IpAddr) -> bool {
        let mut found = false;
        self.tables().for_each(|route| {
            let here = |hop: &crate::ip::route::NextHop| hop.nic == nic && hop.via == Some(gateway);
            found |= route.dst.prefix_len() == 0 && route.hops.iter().any(here);
        });
        found
    }
}

/// A usable link-local address of an interface.
pub(super) fn link_local_of(topology: &Topology, nic: NicId) -> Option<Ipv6Addr> {
    topology.addresses(nic).iter().find_map(|own| match own.ip() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() && own.is_usable() => Some(v6),
        _ => None,
    })
}

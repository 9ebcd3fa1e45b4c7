//! What a host learns of routers (RFC 4861 section 6.3, RFC 4862 section 5.5, RFC 4191, RFC 8981): default routes, prefixes,
//! addresses, hop limit, MTU and times.

use core::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::observe::{Change, Presence};
use super::receive::Rx;
use super::topology::Topology;
use crate::ip::conf::{Ipv6Conf, NicTunables};
use crate::ip::route::{METRIC_ADDRCONF, Placement, Preference, Protocol, Route, TABLE_MAIN};
use crate::ip::{Address, AddressFlags, IpCidr, IpInfo, stable};
use crate::link::NicId;
use crate::time::{Duration, Instant};
use crate::wire::ndp::{Prefix, RouterAdvert};

/// `IFAPROT_KERNEL_RA`: the address came from a router advertisement.
pub(super) const MADE_BY_RA: u8 = 2;
/// `IFAPROT_KERNEL_LL`: the link-local address that an interface gives itself.
pub(super) const MADE_BY_LINK: u8 = 3;
/// RFC 4862 section 5.5.3 e: what a forged advertisement cannot shorten a lifetime below.
const TWO_HOURS: Duration = Duration::from_secs(7200);
/// The smallest MTU of IPv6.
const MIN_MTU: u32 = 1280;
/// All lifetime bits set: without end (RFC 4861 section 4.6.2).
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How often another stable address is tried (`idgen_retries`).
const RETRIES: u8 = 3;

/// When something ends that lasts so long.
fn until(now: Instant, lasts: Duration) -> Option<Instant> {
    (lasts < FOREVER).then(|| now + lasts)
}

impl Topology {
    /// The identifier that an interface uses for a prefix of 64 bits: None where it makes no address.
    pub(super) fn identifier(
        &self,
        nic: &Nic,
        prefix: Ipv6Addr,
    ) -> Option<([u8; 8], AddressFlags)> {
        let own = &self.of_nic(nic.id).ipv6;
        let link_local = prefix.is_unicast_link_local();
        let secret = own.stable_secret.or(self.tunables().default.ipv6.stable_secret);
        match (own.addr_gen_mode, secret) {
            // A secret that is set chooses the mode, as on Linux.
            (0, None) => Some((stable::eui64(nic.mac), AddressFlags::empty())),
            (1, _) if link_local => None,
            (1, _) => Some((stable::eui64(nic.mac), AddressFlags::empty())),
            (3, None) => {
                let secret = Ipv6Addr::from(u128::from(nic.secret) << 64 | u128::from(!nic.secret));
                Some((self.stable(nic, prefix, secret), AddressFlags::STABLE_PRIVACY))
            }
            (_, Some(secret)) => {
                Some((self.stable(nic, prefix, secret), AddressFlags::STABLE_PRIVACY))
            }
            // Mode 2 without a secret makes none.
            (_, None) => None,
        }
    }

    fn stable(&self, nic: &Nic, prefix: Ipv6Addr, secret: Ipv6Addr) -> [u8; 8] {
        let count = nic.autoconf.lock().collisions(prefix);
        let mut identifiers =
            (0..8).map(|n| stable::stable(secret, prefix, nic.mac, count.saturating_add(n * 16)));
        let first = identifiers.next().unwrap_or_default();
        match stable::is_reserved(first) {
            true => identifiers.find(|other| !stable::is_reserved(*other)).unwrap_or(first),
            false => first,
        }
    }

    /// Adds, renews or ends a route that a router told of.
    fn learn_route(&mut self, route: Route, lasts: Duration, changes: &mut Vec<Change>) {
        let same = |old: &Route| {
            old.protocol == route.protocol && old.hops == route.hops && old.metric == route.metric
        };
        // The prefix of an address that was set by hand does not end by a router's word.
        let by_hand =
            |old: &Route| same(old) && old.protocol == Protocol::KERNEL && old.expires.is_none();
        let table = self.tables.table(TABLE_MAIN);
        if table.is_some_and(|table| table.of_prefix(&route.dst).iter().any(by_hand)) {
            return;
        }
        let old = self.tables.remove_first(TABLE_MAIN, &route.dst, same);
        if lasts.is_zero() {
            changes.extend(old.map(|old| Change::Route(Presence::Deleted, old)));
            return;
        }
        let expires = route.expires;
        let told = old.as_ref().is_none_or(|old| Route { expires, ..old.clone() } != route);
        self.tables.place(route.clone(), Placement::Append);
        self.note_expiry(expires);
        if told {
            changes.push(Change::Route(Presence::New, route));
        }
    }
}

impl Stack {
    /// Takes a router advertisement.
    pub(super) fn router_advertised(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        rest: [u8; 4],
        body: &[u8],
    ) -> Option<()> {
        let IpAddr::V6(router) = info.src else { return None };
        // RFC 4861 section 6.1.2: "IP Source Address is a link-local address".
        if !router.is_unicast_link_local() {
            return None;
        }
        let advert = RouterAdvert::parse(rest, body)?;
        let conf = rx.topology.of_nic(rx.nic.id).ipv6;
        let from_us = rx.topology.is_local(info.src) && !conf.accept_ra_from_local;
        if !conf.takes_adverts() || from_us {
            return Some(());
        }
        rx.nic.autoconf.lock().heard_router();
        let nic = rx.nic.clone();
        let _ = self.change(|topology, changes| -> Result<(), ()> {
            topology.learn_parameters(&nic, &advert, &conf);
            topology.learn_routes(rx.now, (&nic, router), &advert, (&conf, changes));
            for prefix in &advert.prefixes {
                topology.learn_prefix(rx.now, &nic, prefix, (&conf, changes));
            }
            Ok(())
        });
        if let Some(mac) = advert.source.filter(|mac| mac.is_unicast()) {
            self.learn_neighbour(rx.now, rx.nic, info.src, mac);
        }
        rx.nic.neighbours.lock().note_router(rx.now, info.src);
        self.schedule_autoconf();
        Some(())
    }

    /// A router said that it is none any more (RFC 4861 section 7.2.5).
    pub(super) fn forget_router(&self, nic: NicId, router: IpAddr) {
        let _ = self.change(|topology, changes| -> Result<(), ()> {
            let gone = topology.tables.remove(|route| {
                let through =
                    |hop: &crate::ip::route::NextHop| hop.nic == nic && hop.via == Some(router);
                route.protocol == Protocol::RA && route.hops.iter().any(through)
            });
            changes.extend(gone.into_iter().map(|route| Change::Route(Presence::Deleted, route)));
            Ok(())
        });
    }

    /// Somebody else has an address of ours that is being probed (RFC 4862 section 5.4.5).
    pub(super) fn duplicate(&self, nic: &Arc<Nic>, address: Ipv6Addr) {
        if !nic.autoconf.lock().stop_probing(address) {
            return;
        }
        let _ = self.change(|topology, changes| -> Result<(), ()> {
            let Some(own) = topology.address_of(nic.id, address.into()).cloned() else {
                return Ok(());
            };
            let tunables = *topology.of_nic(nic.id);
            let prefix = Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX));
            let stable = own.flags.contains(AddressFlags::STABLE_PRIVACY);
            let again = stable && nic.autoconf.lock().collided(prefix) <= RETRIES;
            // RFC 7217 section 6: another counter makes another address.
            let next = again.then(|| topology.identifier(nic, prefix)).flatten();
            let next = next.map(|(identifier, _)| {
                let ip = stable::join(prefix, identifier);
                let cidr = IpCidr::new(ip.into(), own.cidr.prefix_len());
                topology.tentative(nic, Address { cidr, ..own.clone() })
            });
            topology.edit_addresses(nic, changes, |all| match next {
                Some(next) => {
                    all.retain(|old| old.ip() != own.ip());
                    all.push(next);
                }
                None if own.flags.contains(AddressFlags::PERMANENT) => {
                    for old in all.iter_mut().filter(|old| old.ip() == own.ip()) {
                        old.flags |= AddressFlags::DADFAILED;
                    }
                }
                None => all.retain(|old| old.ip() != own.ip()),
            });
            let eui64 = stable::join(prefix, stable::eui64(nic.mac)) == address;
            if tunables.ipv6.accept_dad > 1 && eui64 && address.is_unicast_link_local() {
                // Another host with our link-layer address: IPv6 cannot work here.
                let disable = |own: &mut NicTunables| own.ipv6.disable_ipv6 = true;
                let _ = topology.edit_nic(nic.id, changes, disable);
            }
            Ok(())
        });
        self.schedule_autoconf();
    }

    /// Makes a temporary address beside a public one (RFC 8981 section 3.4).
    pub(super) fn renew_temporary(&self, now: Instant, nic: &Arc<Nic>, public: Ipv6Addr) {
        let _ = self.change(|topology, changes| -> Result<(), ()> {
            let conf = topology.of_nic(nic.id).ipv6;
            if let Some(own) = topology.address_of(nic.id, public.into()).cloned() {
                topology.add_temporary(now, nic, &own, (&conf, changes));
            }
            Ok(())
        });
        self.schedule_autoconf();
    }
}

impl Topology {
    fn learn_parameters(&mut self, nic: &Arc<Nic>, advert: &RouterAdvert, conf: &Ipv6Conf) {
        let mut tunables = *self.of_nic(nic.id);
        if advert.hop_limit != 0 && advert.hop_limit >= conf.accept_ra_min_hop_limit {
            tunables.ipv6.hop_limit = advert.hop_limit;
        }
        // RFC 4861 section 4.2: times of zero say nothing; Linux takes none beyond what its own counters hold.
        let told = |time: Duration| !time.is_zero() && time < Duration::from_secs(1_000_000);
        if told(advert.retrans) {
            tunables.neigh_v6.retrans_time = advert.retrans;
        }
        if told(advert.reachable) {
            tunables.neigh_v6.base_reachable_time = advert.reachable;
        }
        if let Some(mtu) = advert.mtu.filter(|_| conf.accept_ra_mtu)
            && (MIN_MTU..=nic.mtu()).contains(&mtu)
        {
            tunables.ipv6.mtu = mtu;
            nic.set_mtu_v6(mtu);
        }
        if tunables != *self.of_nic(nic.id) {
            nic.neighbours.lock().configure(&tunables);
            self.nic_tunables.insert(nic.id, Arc::new(tunables));
        }
    }

    fn learn_routes(
        &mut self,
        now: Instant,
        (nic, router): (&Arc<Nic>, Ipv6Addr),
        advert: &RouterAdvert,
        (conf, changes): (&Ipv6Conf, &mut Vec<Change>),
    ) {
        let all = IpCidr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
        let preference = |told: Preference| match conf.accept_ra_rtr_pref {
            true => told,
            false => Preference::Medium,
        };
        let route = |dst: IpCidr, told: Preference, lasts: Duration| Route {
            protocol: Protocol::RA,
            metric: conf.ra_defrtr_metric,
            preference: preference(told),
            expires: until(now, lasts),
            ..Route::new(dst, Some(router.into()), nic.id)
        };
        let long_enough = |lasts: Duration| {
            lasts.is_zero() || lasts.as_secs() >= u64::from(conf.accept_ra_min_lft)
        };
        if conf.accept_ra_defrtr && long_enough(advert.lifetime) {
            let default = route(all, advert.preference, advert.lifetime);
            self.learn_route(default, advert.lifetime, changes);
        }
        for told in advert.routes.iter().filter(|_| conf.accept_ra_rtr_pref) {
            let bounds = conf.accept_ra_rt_info_min_plen..=conf.accept_ra_rt_info_max_plen;
            let default = told.len == 0 && !conf.accept_ra_defrtr;
            if !bounds.contains(&told.len) || default || !long_enough(told.lifetime) {
                continue;
            }
            let Some(preference) = told.preference else { continue };
            let dst = IpCidr::new(told.prefix.into(), told.len).network();
            self.learn_route(route(dst, preference, told.lifetime), told.lifetime, changes);
        }
    }

    /// Linux's `addrconf_prefix_rcv`.
    fn learn_prefix(
        &mut self,
        now: Instant,
        nic: &Arc<Nic>,
        prefix: &Prefix,
        (conf, changes): (&Ipv6Conf, &mut Vec<Change>),
    ) {
        let at = prefix.prefix;
        let useless = at.is_multicast() || at.is_unicast_link_local();
        let short = prefix.valid.as_secs() < u64::from(conf.accept_ra_min_lft);
        // RFC 4862 section 5.5.3 c: "If the preferred lifetime is greater than the valid lifetime, silently ignore".
        if !conf.accept_ra_pinfo || useless || prefix.preferred > prefix.valid || short {
            return;
        }
        if prefix.on_link {
            let route = Route {
                protocol: Protocol::KERNEL,
                metric: METRIC_ADDRCONF,
                expires: until(now, prefix.valid),
                ..Route::new(IpCidr::new(at.into(), prefix.len), None, nic.id)
            };
            self.learn_route(route, prefix.valid, changes);
        }
        if !prefix.autonomous || !conf.autoconf || prefix.len != 64 {
            return;
        }
        let made = match conf.token.octets() {
            [.., a, b, c, d, e, f, g, h] if !conf.token.is_unspecified() => {
                Some(([a, b, c, d, e, f, g, h], AddressFlags::empty()))
            }
            _ => self.identifier(nic, at),
        };
        let Some((identifier, flags)) = made else { return };
        let ip = IpAddr::V6(stable::join(at, identifier));
        if self.address_of(nic.id, ip).is_some() {
            return self.renew(now, nic, (ip, prefix), changes);
        }
        let formed = self.addresses(nic.id).iter().filter(|own| own.made_by == MADE_BY_RA).count();
        let full = conf.max_addresses != 0 && formed >= conf.max_addresses as usize;
        if prefix.valid.is_zero() || full {
            return;
        }
        let mut flags = flags | AddressFlags::MANAGETEMPADDR;
        flags.set(AddressFlags::OPTIMISTIC, conf.optimistic_dad);
        let own = Address {
            flags,
            valid_until: until(now, prefix.valid),
            preferred_until: until(now, prefix.preferred),
            made_by: MADE_BY_RA,
            created: now,
            updated: now,
            ..Address::new(IpCidr::new(ip, 64))
        };
        let own = self.tentative(nic, own);
        self.edit_addresses(nic, changes, |all| all.push(own.clone()));
        if conf.use_tempaddr > 0 {
            self.add_temporary(now, nic, &own, (conf, changes));
        }
    }

    /// Gives an address that a prefix is told of again its new lifetimes.
    fn renew(
        &mut self,
        now: Instant,
        nic: &Nic,
        (ip, prefix): (IpAddr, &Prefix),
        changes: &mut Vec<Change>,
    ) {
        self.edit_addresses(nic, changes, |all| {
            let Some(own) = all.iter_mut().find(|own| own.ip() == ip) else { return };
            if own.flags.contains(AddressFlags::PERMANENT) {
                return;
            }
            let left = own.valid_until.map_or(FOREVER, |until| until.since(now));
            // RFC 4862 section 5.5.3 e, as Linux has it: an advertisement never leaves less than the smaller of what is left
            // and two hours.
            let valid = prefix.valid.max(left.min(TWO_HOURS));
            own.valid_until = until(now, valid);
            own.preferred_until = until(now, prefix.preferred);
            own.updated = now;
            own.flags.set(AddressFlags::DEPRECATED, prefix.preferred.is_zero());
        });
    }

    /// A temporary address beside a public one: random, and for a shorter time.
    fn add_temporary(
        &mut self,
        now: Instant,
        nic: &Arc<Nic>,
        public: &Address,
        (conf, changes): (&Ipv6Conf, &mut Vec<Change>),
    ) {
        let IpAddr::V6(public_ip) = public.ip() else { return };
        let mut autoconf = nic.autoconf.lock();
        let mut identifier = autoconf.random().to_be_bytes();
        while stable::is_reserved(identifier) {
            identifier = autoconf.random().to_be_bytes();
        }
        let desync = autoconf.random() % u64::from(conf.max_desync_factor.max(1));
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        let left = |until: Option<Instant>| until.map_or(FOREVER, |until| until.since(now));
        let valid = left(public.valid_until).min(seconds(conf.temp_valid_lft));
        let own = seconds(conf.temp_prefered_lft).saturating_sub(Duration::from_secs(desync));
        let preferred = left(public.preferred_until).min(own);
        // RFC 8981 section 3.4: "A temporary address is created only if this calculated preferred lifetime is greater than
        // REGEN_ADVANCE time units": 2 seconds and the time that its detection takes.
        let detection = self.of_nic(nic.id).neigh_v6.retrans_time * u32::from(conf.dad_transmits);
        let advance = seconds(conf.regen_min_advance) + detection * u32::from(conf.regen_max_retry);
        if preferred <= advance {
            return;
        }
        let ip = stable::join(public_ip, identifier);
        autoconf.note_temporary(ip, public_ip, Some(now + (preferred - advance)));
        drop(autoconf);
        let address = Address {
            flags: AddressFlags::TEMPORARY,
            valid_until: until(now, valid),
            preferred_until: until(now, preferred),
            made_by: MADE_BY_RA,
            created: now,
            updated: now,
            ..Address::new(IpCidr::new(ip.into(), 64))
        };
        let address = self.tentative(nic, address);
        self.edit_addresses(nic, changes, |all| all.push(address));
    }
}

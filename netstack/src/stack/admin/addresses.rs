//! Addresses of interfaces, and the routes that come with them.

use core::net::{IpAddr, Ipv6Addr};

use crate::ip::cidr::IpCidr;
use crate::ip::route::{
    METRIC_ADDRCONF, Placed, Placement, Protocol, Route, RouteType, Scope, TABLE_LOCAL, TABLE_MAIN,
};
use crate::ip::{Address, AddressFlags};
use crate::link::NicId;
use crate::stack::Stack;
use crate::stack::nic::Nic;
use crate::stack::observe::{Change, Presence};
use crate::stack::router::MADE_BY_RA;
use crate::stack::topology::Topology;

/// Why an address was not added, changed or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NoNic,
    /// The interface has the address (EEXIST).
    #[error("the address is assigned already")]
    Exists,
    /// The interface does not have it (EADDRNOTAVAIL).
    #[error("the interface does not have this address")]
    NotFound,
    /// Unspecified, multicast or broadcast (EINVAL).
    #[error("not an address that an interface can have")]
    Invalid,
    /// IPv6 is disabled on the interface (EACCES).
    #[error("IPv6 is disabled on the interface")]
    Disabled,
}

impl Topology {
    /// Changes the addresses of an interface: their routes follow, and the differences are noted.
    pub(in crate::stack) fn edit_addresses<R>(
        &mut self,
        nic: &Nic,
        changes: &mut Vec<Change>,
        edit: impl FnOnce(&mut Vec<Address>) -> R,
    ) -> R {
        let routes_before = self.own_routes(nic);
        let before = self.addresses(nic.id).to_vec();
        let answer = edit(self.addresses.entry(nic.id).or_default());
        let after = self.addresses(nic.id).to_vec();
        let gone = |old: &&Address| !after.iter().any(|new| new.cidr == old.cidr);
        for old in before.iter().filter(gone) {
            changes.push(Change::Address(Presence::Deleted, nic.id, old.clone()));
            self.forget_source(nic, old.ip(), changes);
        }
        for new in after.iter().filter(|new| !before.contains(new)) {
            changes.push(Change::Address(Presence::New, nic.id, new.clone()));
        }
        self.follow_addresses(nic, &before, &after);
        self.owners.clear();
        for (id, own) in &self.addresses {
            for address in own {
                self.owners.entry(address.ip()).or_default().push(*id);
            }
        }
        self.note_expiry(after.iter().filter_map(Address::next_deadline).min());
        let routes_after = self.own_routes(nic);
        self.replace_routes(&routes_before, &routes_after, changes);
        answer
    }

    /// Ends what leans on an address that is gone. IPv4: routes that prefer it as their source, and with the last address
    /// of the interface all its routes (`fib_sync_down_addr`, `fib_disable_ip`). IPv6: the preference alone.
    fn forget_source(&mut self, nic: &Nic, gone: IpAddr, changes: &mut Vec<Change>) {
        if self.addresses.values().flatten().any(|own| own.ip() == gone) {
            return;
        }
        for route in self
            .tables
            .remove(|route| route.pref_src == Some(gone) && route.protocol != Protocol::KERNEL)
        {
            if gone.is_ipv4() {
                changes.push(Change::Route(Presence::Deleted, route));
            } else {
                self.tables.place(Route { pref_src: None, ..route }, Placement::Append);
            }
        }
        if gone.is_ipv4() && !self.addresses(nic.id).iter().any(|own| own.ip().is_ipv4()) {
            let v4 =
                |route: &Route| route.dst.address().is_ipv4() && route.protocol != Protocol::KERNEL;
            self.withdraw_routes(nic.id, changes, v4);
        }
    }

    /// The routes that the addresses of an interface bring with them (`fib_add_ifaddr`, `addrconf.c`): none while it is down.
    pub(in crate::stack) fn own_routes(&self, nic: &Nic) -> Vec<Route> {
        if !nic.is_up() {
            return Vec::new();
        }
        let mut routes = Vec::new();
        for own in self.addresses(nic.id) {
            match own.ip() {
                IpAddr::V4(_) => routes_of_v4(nic, own, &mut routes),
                IpAddr::V6(_) => self.routes_of_v6(nic, own, &mut routes),
            }
        }
        if !nic.is_loopback() && !self.of_nic(nic.id).ipv6.disable_ipv6 {
            let groups = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
            let route = kernel(nic, IpCidr::new(groups.into(), 8));
            let metric = METRIC_ADDRCONF;
            routes.push(Route { table: TABLE_LOCAL, kind: RouteType::Multicast, metric, ..route });
        }
        routes
    }

    fn routes_of_v6(&self, nic: &Nic, own: &Address, routes: &mut Vec<Route>) {
        let prefix = own.prefix();
        let metric = if own.metric == 0 { METRIC_ADDRCONF } else { own.metric };
        if own.is_usable() {
            let local = kernel(nic, IpCidr::host(own.ip()));
            routes.push(Route { table: TABLE_LOCAL, kind: RouteType::Local, ..local });
            // RFC 4291 section 2.6.1: every router of a subnet has its subnet-router anycast address.
            if self.of_nic(nic.id).ipv6.forwarding
                && prefix.prefix_len() < 127
                && !nic.is_loopback()
            {
                let any = kernel(nic, IpCidr::host(prefix.address()));
                routes.push(Route { table: TABLE_LOCAL, kind: RouteType::Anycast, ..any });
            }
        }
        // The prefix of an address that a router told of is on the link only when the router says so.
        let told = own.made_by == MADE_BY_RA;
        // The loopback address has no prefix but itself.
        let alone = nic.is_loopback() && prefix.prefix_len() == 128;
        if !own.flags.contains(AddressFlags::NOPREFIXROUTE) && !told && !alone {
            routes.push(Route { metric, ..kernel(nic, prefix) });
        }
        if own.peer.is_some() {
            routes.push(Route { metric, ..kernel(nic, IpCidr::host(own.ip())) });
        }
    }

    /// Takes the routes of `before` that are not in `after` away, and adds those that are new.
    pub(in crate::stack) fn replace_routes(
        &mut self,
        before: &[Route],
        after: &[Route],
        changes: &mut Vec<Change>,
    ) {
        for old in before.iter().filter(|old| !after.contains(old)) {
            if let Some(gone) = self.tables.remove_first(old.table, &old.dst, |route| route == old)
            {
                changes.push(Change::Route(Presence::Deleted, gone));
            }
        }
        for new in after.iter().filter(|new| !before.contains(new)) {
            if self.tables.place(new.clone(), Placement::Append) == Placed::Added {
                changes.push(Change::Route(Presence::New, new.clone()));
            }
        }
    }
}

/// A route that the kernel makes: to a prefix on the link.
fn kernel(nic: &Nic, dst: IpCidr) -> Route {
    let v4 = dst.address().is_ipv4();
    Route {
        protocol: Protocol::KERNEL,
        metric: 0,
        table: TABLE_MAIN,
        scope: if v4 { Scope::LINK } else { Scope::UNIVERSE },
        ..Route::new(dst, None, nic.id)
    }
}

/// Linux's `fib_add_ifaddr`.
fn routes_of_v4(nic: &Nic, own: &Address, routes: &mut Vec<Route>) {
    let pref_src = Some(own.ip());
    let prefix = own.prefix();
    let route = |dst| Route { pref_src, ..kernel(nic, dst) };
    let local = |dst| Route {
        table: TABLE_LOCAL,
        kind: RouteType::Local,
        scope: Scope::HOST,
        ..route(dst)
    };
    routes.push(local(IpCidr::host(own.ip())));
    let broadcast = |at: IpAddr| Route {
        table: TABLE_LOCAL,
        kind: RouteType::Broadcast,
        ..route(IpCidr::host(at))
    };
    if let Some(at) = own.broadcast.filter(|at| !at.is_broadcast()) {
        routes.push(broadcast(at.into()));
    }
    let secondary = own.flags.contains(AddressFlags::SECONDARY);
    let alone = prefix.prefix_len() == 32 && prefix.address() == own.ip();
    if secondary || alone {
        return;
    }
    if !own.flags.contains(AddressFlags::NOPREFIXROUTE) {
        routes.push(match nic.is_loopback() {
            true => local(prefix),
            false => Route { metric: own.metric, ..route(prefix) },
        });
    }
    if let Some(at) = prefix.broadcast()
        && own.broadcast != Some(at)
    {
        routes.push(broadcast(at.into()));
    }
}

/// Whether two IPv4 addresses share their subnet: then the later one is secondary.
fn same_subnet(a: &Address, b: &Address) -> bool {
    a.ip().is_ipv4()
        && b.ip().is_ipv4()
        && a.cidr.prefix_len() == b.cidr.prefix_len()
        && a.prefix() == b.prefix()
}

impl Stack {
    /// Assigns an address that an operator chose to an interface, with a route to its prefix. It is used at once: no
    /// duplicate address detection, as `ip address add ... nodad`.
    pub fn add_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), AddressError> {
        let flags = AddressFlags::PERMANENT | AddressFlags::NODAD;
        self.assign_address(nic, Address { flags, ..Address::new(cidr) })
    }

    /// Assigns an address to an interface with all that belongs to it (`ip address add`).
    pub fn assign_address(&self, nic: NicId, address: Address) -> Result<(), AddressError> {
        check(&address)?;
        self.change(|topology, changes| {
            let nic = topology.nic(nic).cloned().ok_or(AddressError::NoNic)?;
            let v6 = address.ip().is_ipv6();
            if v6 && topology.of_nic(nic.id).ipv6.disable_ipv6 {
                return Err(AddressError::Disabled);
            }
            let mut address = if v6 { topology.tentative(&nic, address) } else { address };
            topology.edit_addresses(&nic, changes, |own| {
                // IPv4 may have one address with two prefixes, IPv6 may not.
                let twin = |old: &Address| match v6 {
                    true => old.ip() == address.ip(),
                    false => old.ip() == address.ip() && same_subnet(old, &address),
                };
                if own.iter().any(twin) {
                    return Err(AddressError::Exists);
                }
                let first = |old: &Address| {
                    !old.flags.contains(AddressFlags::SECONDARY) && same_subnet(old, &address)
                };
                if !v6 {
                    let secondary = own.iter().any(first);
                    address.flags.set(AddressFlags::SECONDARY, secondary);
                }
                own.push(address.clone());
                Ok(())
            })
        })
    }

    /// Gives an address that is there new lifetimes, flags or a new metric (`ip address change`). `edit` may not change the
    /// address itself.
    pub fn change_address(
        &self,
        nic: NicId,
        address: IpAddr,
        edit: impl FnOnce(&mut Address),
    ) -> Result<(), AddressError> {
        self.change(|topology, changes| {
            let nic = topology.nic(nic).cloned().ok_or(AddressError::NoNic)?;
            topology.edit_addresses(&nic, changes, |own| {
                let found = own.iter_mut().find(|own| own.ip() == address);
                let found = found.ok_or(AddressError::NotFound)?;
                let cidr = found.cidr;
                edit(found);
                found.cidr = cidr;
                Ok(())
            })
        })
    }

    /// Takes an address away, and the route to its prefix when no other address needs it. An IPv4 address takes the
    /// secondary ones of its subnet with it, unless `promote_secondaries` is set.
    pub fn remove_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), AddressError> {
        self.change(|topology, changes| {
            let nic = topology.nic(nic).cloned().ok_or(AddressError::NoNic)?;
            let all = &topology.tunables.ipv4_all;
            let promote =
                topology.of_nic(nic.id).ipv4.promote_secondaries || all.promote_secondaries;
            topology.edit_addresses(&nic, changes, |own| {
                let at =
                    own.iter().position(|old| old.cidr == cidr).ok_or(AddressError::NotFound)?;
                let gone = own.remove(at);
                if gone.ip().is_ipv6() || gone.flags.contains(AddressFlags::SECONDARY) {
                    return Ok(());
                }
                match own.iter_mut().find(|other| same_subnet(other, &gone)) {
                    Some(next) if promote => next.flags.remove(AddressFlags::SECONDARY),
                    _ => own.retain(|other| !same_subnet(other, &gone)),
                }
                Ok(())
            })
        })
    }

    /// The addresses of all interfaces, in the order they were added.
    pub fn addresses(&self) -> Vec<(NicId, Address)> {
        let topology = self.topology();
        let of = |nic: &std::sync::Arc<Nic>| {
            let id = nic.id;
            topology.addresses(id).iter().map(move |own| (id, own.clone())).collect::<Vec<_>>()
        };
        topology.nics().flat_map(of).collect()
    }
}

fn check(address: &Address) -> Result<(), AddressError> {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let mixed = address.peer.is_some_and(|peer| peer.is_ipv4() != ip.is_ipv4());
    let wrong = ip.is_unspecified() || ip.is_multicast() || broadcast || mixed;
    if wrong { Err(AddressError::Invalid) } else { Ok(()) }
}

//! The control plane: interfaces here; addresses, routes, rules, neighbours and tunables in the files beside.

mod addresses;
mod links;
mod neighbours;
mod routes;
mod tunables;

use core::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::{Nic, NicState};
use super::observe::{Change, Presence};
use super::router::MADE_BY_LINK;
use super::topology::Topology;
use crate::ip::cidr::IpCidr;
use crate::ip::{Address, AddressFlags, stable};
use crate::link::{Link, MacAddr, NicId, NicKind, NullLink};
use crate::rng::Rng;
use crate::stats::Snapshot;

pub use addresses::AddressError;
pub use links::{ListenError, TokenError};
pub use neighbours::NeighbourError;
pub use routes::{RouteError, RuleError};

/// The smallest MTU an interface may have (RFC 791: every host takes 576; every link carries 68).
const MIN_MTU: u32 = 68;
/// The largest: what the length field of IPv4 can say, and one more as Linux's loopback has.
const MAX_MTU: u32 = 65_536;

/// A new interface.
pub struct NicConfig {
    /// Its name: 1 to 15 bytes without slash or space, unique in the stack.
    pub name: String,
    /// What it carries. A loopback interface gets 127.0.0.1/8 and ::1/128, an Ethernet one its link-local address.
    pub kind: NicKind,
    /// Its link-layer address; ignored for loopback.
    pub mac: MacAddr,
    /// The largest IP packet it takes, 68 to 65,536 bytes.
    pub mtu: u32,
    /// Where its frames go; loopback packets never leave the stack.
    pub link: Arc<dyn Link>,
}

impl NicConfig {
    /// The loopback interface as Linux has it.
    pub fn loopback() -> NicConfig {
        NicConfig {
            name: "lo".into(),
            kind: NicKind::Loopback,
            mac: MacAddr::ZERO,
            mtu: MAX_MTU,
            link: Arc::new(NullLink),
        }
    }
}

/// Why an interface was not added or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NicError {
    /// The name is empty, too long, or has bytes that Linux refuses (EINVAL).
    #[error("not a valid interface name")]
    Name,
    /// Another interface has the name (EEXIST).
    #[error("the interface name is taken")]
    NameTaken,
    /// Another interface has the number, or it is 0 or the largest (EBUSY).
    #[error("the interface number is taken")]
    NumberTaken,
    /// There is a loopback interface already (EEXIST).
    #[error("there is a loopback interface already")]
    LoopbackTaken,
    /// The MTU is out of bounds (EINVAL).
    #[error("the MTU is out of bounds")]
    Mtu,
    /// The link-layer address is no unicast address (EADDRNOTAVAIL).
    #[error("not a unicast link-layer address")]
    Mac,
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NotFound,
}

/// An interface as a listing shows it.
#[derive(Clone, Debug)]
pub struct NicInfo {
    /// Its number (`ifindex`).
    pub id: NicId,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub kind: NicKind,
    /// Its link-layer address.
    pub mac: MacAddr,
    /// The largest IP packet it takes.
    pub mtu: u32,
    /// Up or down.
    pub state: NicState,
    /// Its addresses, in the order they were added.
    pub addresses: Vec<IpCidr>,
    /// Its counters.
    pub counters: Snapshot,
}

/// The IPv6 address that an interface has by itself when it comes up.
fn first_addresses(topology: &Topology, nic: &Nic) -> Vec<Address> {
    if topology.of_nic(nic.id).ipv6.disable_ipv6 {
        return Vec::new();
    }
    if nic.is_loopback() {
        let flags = AddressFlags::PERMANENT | AddressFlags::NODAD;
        return vec![Address { flags, ..Address::new(IpCidr::host(Ipv6Addr::LOCALHOST.into())) }];
    }
    let prefix = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
    let Some((identifier, flags)) = topology.identifier(nic, prefix) else { return Vec::new() };
    let mut own = Address::new(IpCidr::new(stable::join(prefix, identifier).into(), 64));
    own.flags |= flags;
    own.flags.set(AddressFlags::OPTIMISTIC, topology.of_nic(nic.id).ipv6.optimistic_dad);
    own.made_by = MADE_BY_LINK;
    vec![topology.tentative(nic, own)]
}

impl Stack {
    /// Makes a changed copy of the topology the current one, unless the change fails, and tells the observers what it notes.
    pub(super) fn change<T, E>(
        &self,
        change: impl FnOnce(&mut Topology, &mut Vec<Change>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut current = self.topology.write();
        let mut next = Topology::clone(&current);
        let mut changes = Vec::new();
        let answer = change(&mut next, &mut changes);
        if answer.is_ok() {
            *current = Arc::new(next);
        }
        // Also a change that fails may have touched an interface.
        self.routes.forget_and_ask_ports(current.asks_ports());
        drop(current);
        let answer = answer?;
        self.tell(&changes);
        self.schedule_autoconf();
        Ok(answer)
    }

    /// Adds an interface, up.
    pub fn add_nic(&self, config: NicConfig) -> Result<NicId, NicError> {
        self.add_nic_as(config, None)
    }

    /// Adds an interface, up, with a number of the caller's choice (`ip link add ... index`).
    pub fn add_numbered_nic(&self, id: NicId, config: NicConfig) -> Result<NicId, NicError> {
        self.add_nic_as(config, Some(id))
    }

    fn add_nic_as(&self, config: NicConfig, wanted: Option<NicId>) -> Result<NicId, NicError> {
        check_name(&config.name)?;
        if !(MIN_MTU..=MAX_MTU).contains(&config.mtu) {
            return Err(NicError::Mtu);
        }
        let loopback = config.kind == NicKind::Loopback;
        if !loopback && !config.mac.is_unicast() {
            return Err(NicError::Mac);
        }
        let mac = if loopback { MacAddr::ZERO } else { config.mac };
        self.change(|topology, changes| {
            if topology.nic_named(&config.name).is_some() {
                return Err(NicError::NameTaken);
            }
            if loopback && topology.loopback.is_some() {
                return Err(NicError::LoopbackTaken);
            }
            let id = wanted.unwrap_or(NicId(topology.next_id));
            if id == NicId(0) || topology.nic(id).is_some() {
                return Err(NicError::NumberTaken);
            }
            let next = id.0.checked_add(1).ok_or(NicError::NumberTaken)?;
            topology.next_id = topology.next_id.max(next);
            let rng = Rng::new(&self.shared.seed, 1000 + u64::from(id.0));
            let link = (config.link, self.hasher.clone(), rng);
            let nic = Arc::new(Nic::new(id, config.name, config.kind, mac, config.mtu, link));
            if self.is_observed() {
                nic.neighbours.lock().watch();
            }
            let (ip, default) = (&topology.tunables.ip, &topology.tunables.default);
            let mut neighbours = nic.neighbours.lock();
            neighbours.configure(default);
            neighbours.bound(ip.neigh_gc_v4, ip.neigh_gc_v6);
            drop(neighbours);
            topology.nics.insert(id, nic.clone());
            let mut own = topology.tunables.default;
            if loopback {
                // Nobody else is there to have its address, or to be hidden from (ipv6_add_dev).
                (own.ipv6.accept_dad, own.ipv6.use_tempaddr) = (-1, -1);
            }
            topology.nic_tunables.insert(id, Arc::new(own));
            topology.addresses.insert(id, Vec::new());
            // Those that come with the interface itself.
            let routes = topology.own_routes(&nic);
            topology.replace_routes(&[], &routes, changes);
            changes.push(Change::Link(Presence::New, info(topology, &nic)));
            topology.join_first_groups(&nic);
            if loopback {
                topology.loopback = Some(id);
                let v4 = Address::new(IpCidr::new(Ipv4Addr::LOCALHOST.into(), 8));
                topology.edit_addresses(&nic, changes, |addresses| addresses.push(v4));
            }
            let first = first_addresses(topology, &nic);
            topology.edit_addresses(&nic, changes, |addresses| addresses.extend(first));
            Ok(id)
        })
    }

    /// Removes an interface with its addresses and routes.
    pub fn remove_nic(&self, nic: NicId) -> Result<(), NicError> {
        self.change(|topology, changes| {
            let gone = topology.nic(nic).cloned().ok_or(NicError::NotFound)?;
            gone.set_state(NicState::Down);
            topology.edit_addresses(&gone, changes, Vec::clear);
            topology.withdraw_routes(nic, changes, |_| true);
            topology.nics.remove(&nic);
            topology.addresses.remove(&nic);
            topology.nic_tunables.remove(&nic);
            if topology.loopback == Some(nic) {
                topology.loopback = None;
            }
            changes.push(Change::Link(Presence::Deleted, info(topology, &gone)));
            Ok(())
        })
    }

    /// Asks the links what they lost before the stack saw it. To be called before somebody looks at the counters of [`Stack::nics`]: a
    /// link may have to ask the host.
    pub fn count_lost(&self) {
        self.topology().nics().for_each(|nic| nic.stats.rx_missed.set(nic.link.lost()));
    }

    /// All interfaces by number.
    pub fn nics(&self) -> Vec<NicInfo> {
        let topology = self.topology();
        topology.nics().map(|nic| info(&topology, nic)).collect()
    }

    /// Takes an interface up or down. Going down forgets its neighbours, its routes, and its IPv6 addresses unless
    /// `keep_addr_on_down` says otherwise; coming up brings back the routes of the addresses it has, and a link-local one.
    pub fn set_nic_state(&self, nic: NicId, state: NicState) -> Result<(), NicError> {
        self.redirects.clear();
        self.change(|topology, changes| {
            let nic = topology.nic(nic).cloned().ok_or(NicError::NotFound)?;
            if nic.is_up() == (state == NicState::Up) {
                return Ok(());
            }
            let keep = topology.of_nic(nic.id).ipv6.keep_addr_on_down;
            let before = topology.own_routes(&nic);
            nic.set_state(state);
            changes.push(Change::Link(Presence::New, info(topology, &nic)));
            topology.regroup(&nic, state);
            let after = topology.own_routes(&nic);
            topology.replace_routes(&before, &after, changes);
            match state {
                NicState::Down => {
                    let stays = |own: &Address| {
                        let permanent = own.flags.contains(AddressFlags::PERMANENT);
                        own.ip().is_ipv4()
                            || (keep && permanent && own.scope == crate::ip::route::Scope::UNIVERSE)
                    };
                    topology.edit_addresses(&nic, changes, |own| own.retain(stays));
                    topology.withdraw_routes(nic.id, changes, |_| true);
                    for gone in nic.neighbours.lock().flush() {
                        changes.push(Change::Neighbour(Presence::Deleted, nic.id, gone));
                    }
                }
                NicState::Up => {
                    let mut first = first_addresses(topology, &nic);
                    let known = |new: &Address| topology.address_of(nic.id, new.ip()).is_none();
                    first.retain(known);
                    topology.edit_addresses(&nic, changes, |own| own.extend(first));
                }
            }
            Ok(())
        })
    }

    /// Changes the MTU of an interface.
    pub fn set_nic_mtu(&self, nic: NicId, mtu: u32) -> Result<(), NicError> {
        if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
            return Err(NicError::Mtu);
        }
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(NicError::NotFound)?;
        nic.set_mtu(mtu);
        self.routes.forget();
        self.tell(&[Change::Link(Presence::New, info(&topology, nic))]);
        Ok(())
    }
}

/// An interface as a listing shows it.
fn info(topology: &Topology, nic: &Nic) -> NicInfo {
    NicInfo {
        id: nic.id,
        name: nic.name.clone(),
        kind: nic.kind,
        mac: nic.mac,
        mtu: nic.mtu(),
        state: if nic.is_up() { NicState::Up } else { NicState::Down },
        addresses: topology.addresses(nic.id).iter().map(|own| own.cidr).collect(),
        counters: nic.stats.snapshot(),
    }
}

/// Linux's `dev_valid_name`.
fn check_name(name: &str) -> Result<(), NicError> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    let valid =
        (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(bad);
    if valid { Ok(()) } else { Err(NicError::Name) }
}

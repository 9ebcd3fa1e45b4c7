//! The control plane: interfaces, addresses, routes and neighbours.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::{Nic, NicState};
use super::topology::Topology;
use crate::ip::cidr::IpCidr;
use crate::ip::neigh::Neighbour;
use crate::ip::route::{Protocol, Route};
use crate::link::{Link, MacAddr, NicId, NicKind};
use crate::stats::Snapshot;
use crate::time::Instant;

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

/// Why an interface was not added or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NicError {
    /// The name is empty, too long, or has bytes that Linux refuses (EINVAL).
    #[error("not a valid interface name")]
    Name,
    /// Another interface has the name (EEXIST).
    #[error("the interface name is taken")]
    NameTaken,
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

/// Why an address was not added or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NoNic,
    /// The stack has the address (EEXIST).
    #[error("the address is assigned already")]
    Exists,
    /// The interface does not have it (EADDRNOTAVAIL).
    #[error("the interface does not have this address")]
    NotFound,
    /// Unspecified, multicast or broadcast (EINVAL).
    #[error("not an address that an interface can have")]
    Invalid,
}

/// Why a route was not added or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NoNic,
    /// The same route is there (EEXIST).
    #[error("the route exists")]
    Exists,
    /// No such route (ESRCH).
    #[error("no such route")]
    NotFound,
    /// The gateway is of another family, or no neighbour can have its address (EINVAL).
    #[error("not a valid gateway")]
    Gateway,
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

impl Stack {
    /// Makes a changed copy of the topology the current one, unless the change fails.
    fn change<T, E>(&self, change: impl FnOnce(&mut Topology) -> Result<T, E>) -> Result<T, E> {
        let mut current = self.topology.write();
        let mut next = Topology::clone(&current);
        let answer = change(&mut next)?;
        *current = Arc::new(next);
        Ok(answer)
    }

    /// Adds an interface, up.
    pub fn add_nic(&self, config: NicConfig) -> Result<NicId, NicError> {
        check_name(&config.name)?;
        if !(MIN_MTU..=MAX_MTU).contains(&config.mtu) {
            return Err(NicError::Mtu);
        }
        let loopback = config.kind == NicKind::Loopback;
        if !loopback && !config.mac.is_unicast() {
            return Err(NicError::Mac);
        }
        let mac = if loopback { MacAddr::ZERO } else { config.mac };
        self.change(|topology| {
            if topology.nics.values().any(|nic| nic.name == config.name) {
                return Err(NicError::NameTaken);
            }
            if loopback && topology.loopback.is_some() {
                return Err(NicError::LoopbackTaken);
            }
            let id = NicId(topology.next_id);
            topology.next_id = topology.next_id.checked_add(1).ok_or(NicError::Name)?;
            let link = (config.link, self.hasher.clone());
            let nic = Nic::new(id, config.name, config.kind, mac, config.mtu, link);
            topology.nics.insert(id, Arc::new(nic));
            topology.addresses.insert(id, Vec::new());
            if loopback {
                topology.loopback = Some(id);
                assign(topology, id, IpCidr::new(Ipv4Addr::LOCALHOST.into(), 8));
                assign(topology, id, IpCidr::host(Ipv6Addr::LOCALHOST.into()));
            } else {
                assign(topology, id, IpCidr::new(link_local(mac).into(), 64));
            }
            Ok(id)
        })
    }

    /// Removes an interface with its addresses and routes.
    pub fn remove_nic(&self, nic: NicId) -> Result<(), NicError> {
        self.change(|topology| {
            topology.nics.remove(&nic).ok_or(NicError::NotFound)?;
            topology.addresses.remove(&nic);
            topology.local.retain(|_, owner| *owner != nic);
            topology.routes.remove(|route| route.nic == nic);
            if topology.loopback == Some(nic) {
                topology.loopback = None;
            }
            Ok(())
        })
    }

    /// All interfaces by number.
    pub fn nics(&self) -> Vec<NicInfo> {
        let topology = self.topology();
        let info = |nic: &Arc<Nic>| NicInfo {
            id: nic.id,
            name: nic.name.clone(),
            kind: nic.kind,
            mac: nic.mac,
            mtu: nic.mtu(),
            state: if nic.is_up() { NicState::Up } else { NicState::Down },
            addresses: topology.addresses(nic.id).to_vec(),
            counters: nic.stats.snapshot(),
        };
        topology.nics().map(info).collect()
    }

    /// Takes an interface up or down. Going down forgets its neighbours.
    pub fn set_nic_state(&self, nic: NicId, state: NicState) -> Result<(), NicError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(NicError::NotFound)?;
        nic.set_state(state);
        if state == NicState::Down {
            nic.neighbours.lock().flush();
        }
        Ok(())
    }

    /// Changes the MTU of an interface.
    pub fn set_nic_mtu(&self, nic: NicId, mtu: u32) -> Result<(), NicError> {
        if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
            return Err(NicError::Mtu);
        }
        let topology = self.topology();
        topology.nic(nic).ok_or(NicError::NotFound)?.set_mtu(mtu);
        Ok(())
    }

    /// Assigns an address to an interface, with a route to its prefix.
    pub fn add_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), AddressError> {
        let address = cidr.address();
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || broadcast {
            return Err(AddressError::Invalid);
        }
        self.change(|topology| {
            if !topology.nics.contains_key(&nic) {
                return Err(AddressError::NoNic);
            }
            if topology.local.contains_key(&address) {
                return Err(AddressError::Exists);
            }
            assign(topology, nic, cidr);
            Ok(())
        })
    }

    /// Takes an address away, and the route to its prefix when no other address needs it.
    pub fn remove_address(&self, nic: NicId, cidr: IpCidr) -> Result<(), AddressError> {
        self.change(|topology| {
            let own = topology.addresses.get_mut(&nic).ok_or(AddressError::NoNic)?;
            let at = own.iter().position(|old| *old == cidr).ok_or(AddressError::NotFound)?;
            own.remove(at);
            let needed = own.iter().any(|old| old.network() == cidr.network());
            topology.local.remove(&cidr.address());
            if !needed {
                topology.routes.remove(|route| {
                    route.nic == nic
                        && route.protocol == Protocol::Kernel
                        && route.dst == cidr.network()
                });
            }
            Ok(())
        })
    }

    /// Adds a route.
    pub fn add_route(&self, route: Route) -> Result<(), RouteError> {
        if let Some(via) = route.via
            && (via.is_ipv4() != route.dst.address().is_ipv4()
                || via.is_unspecified()
                || via.is_multicast())
        {
            return Err(RouteError::Gateway);
        }
        self.change(|topology| {
            if !topology.nics.contains_key(&route.nic) {
                return Err(RouteError::NoNic);
            }
            topology.routes.add(route).then_some(()).ok_or(RouteError::Exists)
        })
    }

    /// All routes, the longest prefixes first.
    pub fn routes(&self) -> Vec<Route> {
        self.topology().routes.iter().copied().collect()
    }

    /// Removes the routes to a prefix, of one gateway or interface when these are given.
    pub fn remove_route(
        &self,
        dst: IpCidr,
        via: Option<IpAddr>,
        nic: Option<NicId>,
    ) -> Result<(), RouteError> {
        self.change(|topology| {
            let count = topology.routes.remove(|route| {
                route.dst == dst.network()
                    && via.is_none_or(|via| route.via == Some(via))
                    && nic.is_none_or(|nic| route.nic == nic)
            });
            if count > 0 { Ok(()) } else { Err(RouteError::NotFound) }
        })
    }

    /// The neighbours of all interfaces.
    pub fn neighbours(&self) -> Vec<(NicId, Neighbour)> {
        let topology = self.topology();
        let of = |nic: &Arc<Nic>| {
            let all = nic.neighbours.lock().list();
            let id = nic.id;
            all.into_iter().map(move |neighbour| (id, neighbour))
        };
        topology.nics().flat_map(of).collect()
    }

    /// Sets a neighbour by hand.
    pub fn add_neighbour(
        &self,
        now: Instant,
        nic: NicId,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NicError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(NicError::NotFound)?;
        nic.neighbours.lock().set_permanent(now, address, mac);
        Ok(())
    }

    /// Forgets a neighbour; answers whether it was known.
    pub fn remove_neighbour(&self, nic: NicId, address: IpAddr) -> Result<bool, NicError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(NicError::NotFound)?;
        Ok(nic.neighbours.lock().remove(address))
    }
}

/// Linux's `dev_valid_name`.
fn check_name(name: &str) -> Result<(), NicError> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    let valid =
        (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(bad);
    if valid { Ok(()) } else { Err(NicError::Name) }
}

/// Gives an interface an address, with the route that comes with it.
fn assign(topology: &mut Topology, nic: NicId, cidr: IpCidr) {
    topology.addresses.entry(nic).or_default().push(cidr);
    topology.local.insert(cidr.address(), nic);
    let metric = if cidr.address().is_ipv6() { 256 } else { 0 };
    let protocol = Protocol::Kernel;
    topology.routes.add(Route { metric, protocol, ..Route::new(cidr.network(), None, nic) });
}

/// The link-local address of an interface (RFC 4291 appendix A, modified EUI-64).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

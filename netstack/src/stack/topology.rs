//! Interfaces, addresses, routes and tunables as one immutable value: packets look at a snapshot, changes make a new one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::nic::Nic;
use crate::ip::conf::{NicTunables, Tunables};
use crate::ip::neigh::State;
use crate::ip::route::RouteType;
use crate::ip::tables::{Links, Tables};
use crate::ip::{Address, Cast, Family};
use crate::link::NicId;
use crate::rng::KeyedState;
use crate::time::Instant;

/// What packets need to know of the control plane.
#[derive(Clone)]
pub struct Topology {
    pub(super) nics: BTreeMap<NicId, Arc<Nic>>,
    pub(super) addresses: BTreeMap<NicId, Vec<Address>>,
    pub(super) owners: HashMap<IpAddr, Vec<NicId>, KeyedState>,
    pub(super) tables: Tables,
    pub(super) loopback: Option<NicId>,
    pub(super) next_id: u32,
    /// No later than the first route or address that ends.
    pub(super) next_expiry: Option<Instant>,
    pub(super) tunables: Arc<Tunables>,
    pub(super) nic_tunables: BTreeMap<NicId, Arc<NicTunables>>,
}

impl Topology {
    pub(super) fn new(hasher: KeyedState, tunables: Tunables) -> Topology {
        Topology {
            nics: BTreeMap::new(),
            addresses: BTreeMap::new(),
            owners: HashMap::with_hasher(hasher),
            tables: Tables::default(),
            loopback: None,
            next_id: 1,
            next_expiry: None,
            tunables: Arc::new(tunables),
            nic_tunables: BTreeMap::new(),
        }
    }

    /// An interface.
    pub fn nic(&self, id: NicId) -> Option<&Arc<Nic>> {
        self.nics.get(&id)
    }

    /// The interface of a name.
    pub fn nic_named(&self, name: &str) -> Option<&Arc<Nic>> {
        self.nics.values().find(|nic| nic.name == name)
    }

    /// All interfaces by number.
    pub fn nics(&self) -> impl Iterator<Item = &Arc<Nic>> {
        self.nics.values()
    }

    /// The addresses of an interface, in the order they were added.
    pub fn addresses(&self, nic: NicId) -> &[Address] {
        self.addresses.get(&nic).map(Vec::as_slice).unwrap_or_default()
    }

    /// The routing tables and rules.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Whether the way of a packet may depend on its protocol or ports.
    pub(super) fn asks_ports(&self) -> bool {
        let by_ports = |family: Family| self.tables.rules().ask_ports(family);
        [Family::V4, Family::V6].into_iter().any(by_ports)
            || self.tunables.ip.fib_multipath_hash_policy != [0; 2]
    }

    /// The tunables of the stack.
    pub fn tunables(&self) -> &Tunables {
        &self.tunables
    }

    /// The tunables of an interface; those of a new one when it is gone.
    pub fn of_nic(&self, nic: NicId) -> &NicTunables {
        self.nic_tunables.get(&nic).map_or(&self.tunables.default, |own| own)
    }

    /// Whether an address is ours: what the table "local" says (an address that is still probed is not).
    pub fn is_local(&self, address: IpAddr) -> bool {
        matches!(self.tables.own_kind(address), Some(RouteType::Local))
    }

    /// The first interface that has an address.
    pub fn owner(&self, address: IpAddr) -> Option<NicId> {
        self.owners.get(&address).and_then(|owners| owners.first().copied())
    }

    /// An address of an interface, usable or not.
    pub fn address_of(&self, nic: NicId, address: IpAddr) -> Option<&Address> {
        let owners = self.owners.get(&address)?;
        let own = owners.contains(&nic).then(|| self.addresses(nic))?;
        own.iter().find(|own| own.ip() == address)
    }

    /// How an IPv4 destination is addressed from the view of an interface; None when it is not for us.
    pub(super) fn accepts_v4(&self, nic: &Nic, dst: Ipv4Addr) -> Option<Cast> {
        if dst.is_multicast() {
            return nic.is_member(dst.into()).then_some(Cast::Multicast);
        }
        match self.tables.own_kind(dst.into()) {
            Some(RouteType::Local) => Some(Cast::Unicast),
            _ => self.is_broadcast(nic.id, dst).then_some(Cast::Broadcast),
        }
    }

    /// Whether an address is an anycast address of ours.
    pub(super) fn is_anycast(&self, address: IpAddr) -> bool {
        self.tables.own_kind(address) == Some(RouteType::Anycast)
    }

    /// Whether an address is the broadcast of an interface's link, limited or directed.
    pub(super) fn is_broadcast(&self, nic: NicId, dst: Ipv4Addr) -> bool {
        let directed = |own: &Address| {
            own.broadcast == Some(dst) || (own.peer.is_none() && own.cidr.broadcast() == Some(dst))
        };
        dst.is_broadcast() || self.addresses(nic).iter().any(directed)
    }

    /// How an IPv6 destination is addressed; None when it is not for us.
    pub(super) fn accepts_v6(&self, nic: &Nic, dst: Ipv6Addr) -> Option<Cast> {
        if dst.is_multicast() {
            return nic.is_member(dst.into()).then_some(Cast::Multicast);
        }
        // A link-local address belongs to its own link only.
        let here = !dst.is_unicast_link_local()
            || nic.is_loopback()
            || self.address_of(nic.id, dst.into()).is_some();
        match self.tables.own_kind(dst.into()) {
            Some(RouteType::Local | RouteType::Anycast) if here => Some(Cast::Unicast),
            _ => None,
        }
    }

    /// Notes that something ends, perhaps earlier than all else.
    pub(super) fn note_expiry(&mut self, at: Option<Instant>) {
        self.next_expiry = [self.next_expiry, at].into_iter().flatten().min();
    }

    /// Whether packets that come in on an interface may go on to another.
    pub fn forwards(&self, nic: NicId, family: Family) -> bool {
        match family {
            Family::V4 => self.of_nic(nic).ipv4.forwarding,
            Family::V6 => self.of_nic(nic).ipv6.forwarding,
        }
    }
}

impl Links for Topology {
    fn name(&self, nic: NicId) -> Option<&str> {
        self.nics.get(&nic).map(|nic| nic.name.as_str())
    }

    fn is_up(&self, nic: NicId) -> bool {
        self.nics.get(&nic).is_some_and(|nic| nic.is_up())
    }

    fn may_be_reachable(&self, nic: NicId, neighbour: IpAddr) -> bool {
        self.nics.get(&nic).is_some_and(|nic| !nic.neighbours.lock().is_failed(neighbour))
    }

    fn is_known_silent(&self, nic: NicId, neighbour: IpAddr) -> bool {
        // Linux's fib_good_nh: an entry that is there and not valid; where there is none, nothing is known.
        let state = |nic: &Arc<Nic>| nic.neighbours.lock().get(neighbour).map(|entry| entry.state);
        self.tunables().ip.fib_multipath_use_neigh
            && self
                .nics
                .get(&nic)
                .and_then(state)
                .is_some_and(|state| matches!(state, State::Incomplete | State::Failed))
    }
}

/// All nodes on the link.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link.
pub(super) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All nodes on the interface.
pub(super) const ALL_NODES_LOCAL: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);

/// The solicited-node group of an address (RFC 4291 section 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from(b) << 8 | u16::from(c))
}

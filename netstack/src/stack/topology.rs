//! Interfaces, addresses and routes as one immutable value: packets look at a snapshot, changes make a new one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::nic::Nic;
use crate::ip::cidr::common_prefix;
use crate::ip::route::RouteTable;
use crate::ip::{Cast, IpCidr};
use crate::link::NicId;
use crate::rng::KeyedState;

/// What packets need to know of the control plane.
#[derive(Clone)]
pub struct Topology {
    pub(super) nics: BTreeMap<NicId, Arc<Nic>>,
    pub(super) addresses: BTreeMap<NicId, Vec<IpCidr>>,
    pub(super) local: HashMap<IpAddr, NicId, KeyedState>,
    pub(super) routes: RouteTable,
    pub(super) loopback: Option<NicId>,
    pub(super) next_id: u32,
}

impl Topology {
    pub(super) fn new(hasher: KeyedState) -> Topology {
        Topology {
            nics: BTreeMap::new(),
            addresses: BTreeMap::new(),
            local: HashMap::with_hasher(hasher),
            routes: RouteTable::default(),
            loopback: None,
            next_id: 1,
        }
    }

    /// An interface.
    pub fn nic(&self, id: NicId) -> Option<&Arc<Nic>> {
        self.nics.get(&id)
    }

    /// All interfaces by number.
    pub fn nics(&self) -> impl Iterator<Item = &Arc<Nic>> {
        self.nics.values()
    }

    /// The addresses of an interface, in the order they were added.
    pub fn addresses(&self, nic: NicId) -> &[IpCidr] {
        self.addresses.get(&nic).map(Vec::as_slice).unwrap_or_default()
    }

    /// The routing table.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// Whether an address is ours: assigned to an interface, or in 127.0.0.0/8 with a loopback interface.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.local.contains_key(&address)
            || (self.loopback.is_some() && matches!(address, IpAddr::V4(v4) if v4.is_loopback()))
    }

    /// The interface that has an address.
    pub fn owner(&self, address: IpAddr) -> Option<NicId> {
        self.local.get(&address).copied()
    }

    /// How an IPv4 destination is addressed from the view of an interface; None when it is not for us.
    pub(super) fn accepts_v4(&self, nic: &Nic, dst: Ipv4Addr) -> Option<Cast> {
        let address = IpAddr::V4(dst);
        if self.is_local(address) {
            Some(Cast::Unicast)
        } else if dst.is_multicast() {
            // Every host is a member of all-systems (RFC 1112 section 7.2).
            let member = dst == Ipv4Addr::new(224, 0, 0, 1) || nic.is_member(address);
            member.then_some(Cast::Multicast)
        } else {
            self.is_broadcast(nic.id, dst).then_some(Cast::Broadcast)
        }
    }

    /// Whether an address is the broadcast of an interface's link, limited or directed.
    pub(super) fn is_broadcast(&self, nic: NicId, dst: Ipv4Addr) -> bool {
        dst.is_broadcast() || self.addresses(nic).iter().any(|cidr| cidr.broadcast() == Some(dst))
    }

    /// How an IPv6 destination is addressed; None when it is not for us.
    pub(super) fn accepts_v6(&self, nic: &Nic, dst: Ipv6Addr) -> Option<Cast> {
        let address = IpAddr::V6(dst);
        if self.is_local(address) {
            return Some(Cast::Unicast);
        }
        if !dst.is_multicast() {
            return None;
        }
        let all_nodes = dst == ALL_NODES || dst == ALL_NODES_LOCAL;
        let solicited = || {
            self.addresses(nic.id).iter().any(|cidr| match cidr.address() {
                IpAddr::V6(own) => solicited_node(own) == dst,
                IpAddr::V4(_) => false,
            })
        };
        (all_nodes || nic.is_member(address) || solicited()).then_some(Cast::Multicast)
    }

    /// The source address for packets to `dst` over an interface.
    pub(super) fn select_source(
        &self,
        nic: NicId,
        dst: IpAddr,
        next_hop: IpAddr,
    ) -> Option<IpAddr> {
        match dst {
            IpAddr::V4(_) => self.select_v4(nic, next_hop),
            IpAddr::V6(dst) => self.select_v6(nic, dst),
        }
    }

    fn select_v4(&self, nic: NicId, next_hop: IpAddr) -> Option<IpAddr> {
        let v4 = |cidr: &&IpCidr| cidr.address().is_ipv4();
        let own = || self.addresses(nic).iter().filter(v4);
        let near = own().find(|cidr| cidr.contains(next_hop)).or_else(|| own().next());
        let any = || {
            let others = self.nics.values().filter(|other| other.is_up() && !other.is_loopback());
            others.flat_map(|other| self.addresses(other.id)).find(v4)
        };
        near.or_else(any).map(IpCidr::address)
    }

    /// RFC 6724 section 5, the rules that apply without deprecated, temporary and home addresses.
    fn select_v6(&self, nic: NicId, dst: Ipv6Addr) -> Option<IpAddr> {
        let mut best: Option<(Score, Ipv6Addr)> = None;
        for (owner, cidr) in
            self.addresses.iter().flat_map(|(id, all)| all.iter().map(|at| (*id, at)))
        {
            let IpAddr::V6(own) = cidr.address() else { continue };
            // A link-local source means nothing on another link.
            if owner != nic && (own.is_unicast_link_local() || scope(dst) <= 2) {
                continue;
            }
            if own.is_loopback() && !dst.is_loopback() {
                continue;
            }
            let same = own == dst; // Rule 1: prefer same address.
            // Rule 2: prefer appropriate scope: the smallest that reaches the destination's.
            let fits = match (scope(own), scope(dst)) {
                (own, dst) if own >= dst => -(own as i8),
                (own, _) => own as i8 - 32,
            };
            let outgoing = owner == nic; // Rule 5: prefer outgoing interface.
            let label = label(own) == label(dst); // Rule 6: prefer matching label.
            // Rule 8: use longest matching prefix, of at most the source's own prefix.
            let shared = common_prefix(own.into(), dst.into()).min(cidr.prefix_len());
            let score = (same, fits, outgoing, label, shared);
            if best.is_none_or(|(high, _)| score > high) {
                best = Some((score, own));
            }
        }
        best.map(|(_, own)| IpAddr::V6(own))
    }
}

/// How well a source fits, by the rules in their order.
type Score = (bool, i8, bool, bool, u8);

/// All nodes on the link.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All nodes on the interface.
const ALL_NODES_LOCAL: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);

/// The solicited-node group of an address (RFC 4291 section 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from(b) << 8 | u16::from(c))
}

/// The scope of an address as RFC 6724 section 3.1 compares it: 1 interface, 2 link, 5 site, 14 global.
fn scope(address: Ipv6Addr) -> u8 {
    if address.is_multicast() {
        address.octets()[1] & 0x0f
    } else if address.is_loopback() || address.is_unicast_link_local() {
        2
    } else {
        14
    }
}

/// The label of the default policy table (RFC 6724 section 2.1).
fn label(address: Ipv6Addr) -> u8 {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0x2002, ..] => 2,
        [0x2001, 0, ..] => 5,
        [first, ..] if first & 0xfe00 == 0xfc00 => 13,
        _ => 1,
    }
}

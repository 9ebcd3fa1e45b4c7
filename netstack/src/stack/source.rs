//! Which of our addresses a packet carries: RFC 6724 for IPv6, Linux's `inet_select_addr` for IPv4.

use core::cmp::Reverse;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::topology::Topology;
use crate::ip::cidr::common_prefix;
use crate::ip::route::Scope;
use crate::ip::{Address, AddressFlags, SourcePreference};
use crate::link::NicId;

impl Topology {
    /// The source address for packets to `dst` over an interface.
    pub(super) fn select_source(
        &self,
        nic: NicId,
        dst: IpAddr,
        (next_hop, prefer): (IpAddr, SourcePreference),
    ) -> Option<IpAddr> {
        match (dst, next_hop) {
            (IpAddr::V4(_), IpAddr::V4(next_hop)) => self.select_v4(nic, next_hop, Scope::UNIVERSE),
            (IpAddr::V6(dst), _) => self.select_v6(nic, dst, prefer),
            _ => None,
        }
    }

    /// The first primary address of the interface in the neighbour's subnet, else its first, else the first of another
    /// interface. Addresses of a nearer scope than `scope` do not count.
    pub(super) fn select_v4(&self, nic: NicId, near: Ipv4Addr, scope: Scope) -> Option<IpAddr> {
        let fits = |own: &&Address| {
            let secondary = own.flags.contains(AddressFlags::SECONDARY);
            own.ip().is_ipv4() && own.scope <= scope.max(Scope::LINK) && !secondary
        };
        let own = || self.addresses(nic).iter().filter(fits);
        let found = own().find(|own| own.prefix().contains(near.into())).or_else(|| own().next());
        let elsewhere = || {
            let others = self.nics.values().filter(|other| other.is_up());
            others.flat_map(|other| self.addresses(other.id)).filter(fits).find(|own| {
                // Only what means something beyond its link.
                own.scope == Scope::UNIVERSE
            })
        };
        // A loopback address serves the loopback interface only.
        let loopback = || self.addresses(nic).iter().find(|own| own.ip().is_ipv4());
        found.or_else(elsewhere).or_else(loopback).map(Address::ip)
    }

    /// RFC 6724 section 5. Home addresses (rule 4) do not exist here.
    fn select_v6(&self, nic: NicId, dst: Ipv6Addr, prefer: SourcePreference) -> Option<IpAddr> {
        let tunables = self.of_nic(nic).ipv6;
        let prefer_temporary = match prefer {
            SourcePreference::Default => tunables.use_tempaddr >= 2,
            SourcePreference::Temporary => true,
            SourcePreference::Public => false,
        };
        let use_optimistic = tunables.use_optimistic || self.tunables().ipv6_all.use_optimistic;
        let wanted = Wanted { nic, dst, prefer_temporary, use_optimistic };
        // Section 4: "for multicast and link-local destinations ... the set of candidate source addresses MUST only include
        // addresses assigned to interfaces belonging to the same link".
        let only_here = scope(dst) <= 2 || dst.is_multicast() || tunables.use_oif_addrs_only;
        let candidates = self.addresses.iter().flat_map(|(id, all)| all.iter().map(|at| (*id, at)));
        let mut best: Option<(Score, Ipv6Addr)> = None;
        for (owner, own) in candidates {
            let IpAddr::V6(address) = own.ip() else { continue };
            if owner != nic && (only_here || address.is_unicast_link_local()) {
                continue;
            }
            if !own.is_usable() || (address.is_loopback() && !dst.is_loopback()) {
                continue;
            }
            let score = wanted.score(owner, own, address);
            if best.as_ref().is_none_or(|(high, _)| score > *high) {
                best = Some((score, address));
            }
        }
        best.map(|(_, own)| IpAddr::V6(own))
    }
}

/// What a source is wanted for.
struct Wanted {
    nic: NicId,
    dst: Ipv6Addr,
    prefer_temporary: bool,
    use_optimistic: bool,
}

/// How well a source fits, by the rules in their order.
type Score = (bool, Reverse<u8>, bool, bool, bool, bool, bool, u8);

impl Wanted {
    fn score(&self, owner: NicId, own: &Address, address: Ipv6Addr) -> Score {
        let dst = self.dst;
        // Rule 1: prefer same address.
        let same = address == dst;
        // Rule 2: prefer appropriate scope: the smallest that reaches the destination's; one that does not reach it is worse
        // than all that do, and the larger the better.
        let unfit = match (scope(address), scope(dst)) {
            (own, dst) if own >= dst => own,
            (own, _) => 128 - own,
        };
        // Rule 3: avoid deprecated addresses. Linux puts optimistic ones with them (RFC 4429 section 3.3), unless told not to.
        let optimistic = own.flags.contains(AddressFlags::OPTIMISTIC);
        let fresh = !own.is_deprecated() && (!optimistic || self.use_optimistic);
        // Rule 5: prefer outgoing interface.
        let outgoing = owner == self.nic;
        // Rule 6: prefer matching label.
        let labelled = label(address) == label(dst);
        // Rule 7: prefer temporary addresses; by default Linux prefers them only with use_tempaddr = 2.
        let temporary = own.flags.contains(AddressFlags::TEMPORARY);
        let private = temporary == self.prefer_temporary;
        // Rule 8: use longest matching prefix, of at most the source's own prefix.
        let shared = common_prefix(address.into(), dst.into()).min(own.cidr.prefix_len());
        let not_optimistic = !optimistic;
        (same, Reverse(unfit), fresh, outgoing, labelled, private, not_optimistic, shared)
    }
}

/// The scope of an address as RFC 6724 section 3.1 compares it: 1 interface, 2 link, 5 site, 14 global.
pub(super) fn scope(address: Ipv6Addr) -> u8 {
    if address.is_multicast() {
        address.octets()[1] & 0x0f
    } else if address.is_loopback() || address.is_unicast_link_local() {
        2
    } else if address.segments()[0] & 0xffc0 == 0xfec0 {
        5
    } else {
        14
    }
}

/// The label of Linux's policy table (`net/ipv6/addrlabel.c`): that of RFC 6724 section 2.1.
fn label(address: Ipv6Addr) -> u8 {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 0,
        [0, 0, 0, 0, 0, 0xffff, ..] => 4,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2001, 0, ..] => 6,
        [0x2001, second, ..] if second & 0xfff0 == 0x0010 => 7,
        [0x2002, ..] => 2,
        [0x3ffe, ..] => 12,
        [first, ..] if first & 0xfe00 == 0xfc00 => 5,
        [first, ..] if first & 0xffc0 == 0xfec0 => 11,
        _ => 1,
    }
}

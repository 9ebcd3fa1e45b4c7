//! The routing table: longest prefix first, then the lowest metric.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::Family;
use super::cidr::{IpCidr, mask};
use crate::link::NicId;

/// Who made a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// It came with an address (RTPROT_KERNEL).
    Kernel,
    /// An administrator (RTPROT_BOOT, RTPROT_STATIC).
    #[default]
    Static,
    /// A router advertisement (RTPROT_RA).
    RouterAdvert,
}

/// A way to a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The prefix; its host bits are ignored.
    pub dst: IpCidr,
    /// The gateway; None when the prefix is on the link.
    pub via: Option<IpAddr>,
    /// The interface.
    pub nic: NicId,
    /// Among equals the lowest wins.
    pub metric: u32,
    /// Who made it.
    pub protocol: Protocol,
}

impl Route {
    /// A static route.
    pub fn new(dst: IpCidr, via: Option<IpAddr>, nic: NicId) -> Route {
        Route { dst: dst.network(), via, nic, metric: 0, protocol: Protocol::Static }
    }
}

/// Routes of one prefix length, by their network.
type Level = BTreeMap<IpAddr, Vec<Route>>;

/// The table. A lookup asks one map for each prefix length that is in use.
#[derive(Clone, Default)]
pub struct RouteTable {
    // Keyed by how short the prefix is, so that iteration gives the longest first.
    v4: BTreeMap<u8, Level>,
    v6: BTreeMap<u8, Level>,
}

impl RouteTable {
    fn family_mut(&mut self, address: IpAddr) -> &mut BTreeMap<u8, Level> {
        match Family::of(address) {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Adds a route. Answers whether it is new: one with the same prefix, gateway, interface and metric is not.
    pub fn add(&mut self, route: Route) -> bool {
        let route = Route { dst: route.dst.network(), ..route };
        let network = route.dst.address();
        let level = self.family_mut(network).entry(128 - route.dst.prefix_len()).or_default();
        let routes = level.entry(network).or_default();
        let same =
            |old: &Route| (old.via, old.nic, old.metric) == (route.via, route.nic, route.metric);
        if routes.iter().any(same) {
            return false;
        }
        let at = routes.partition_point(|old| old.metric <= route.metric);
        routes.insert(at, route);
        true
    }

    /// Removes the routes that `gone` picks; answers how many there were.
    pub fn remove(&mut self, mut gone: impl FnMut(&Route) -> bool) -> usize {
        let mut count = 0;
        for family in [&mut self.v4, &mut self.v6] {
            family.retain(|_, level| {
                level.retain(|_, routes| {
                    let before = routes.len();
                    routes.retain(|route| !gone(route));
                    count += before - routes.len();
                    !routes.is_empty()
                });
                !level.is_empty()
            });
        }
        count
    }

    /// The best route to a destination of those that `usable` allows.
    pub fn lookup(&self, dst: IpAddr, mut usable: impl FnMut(&Route) -> bool) -> Option<&Route> {
        let levels = match Family::of(dst) {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        for (short, level) in levels {
            let routes = level.get(&mask(dst, 128 - short));
            if let Some(route) = routes.into_iter().flatten().find(|route| usable(route)) {
                return Some(route);
            }
        }
        None
    }

    /// All routes, the longest prefixes first, IPv4 before IPv6.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.v4.values().chain(self.v6.values()).flat_map(BTreeMap::values).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, nic: u32, metric: u32) -> Route {
        Route { metric, ..Route::new(dst.parse().unwrap(), None, NicId(nic)) }
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let mut table = RouteTable::default();
        for new in [route("0.0.0.0/0", 1, 0), route("10.0.0.0/8", 2, 5), route("10.1.0.0/16", 3, 9)]
        {
            assert!(table.add(new));
        }
        assert!(table.add(route("10.0.0.0/8", 4, 1)));
        assert!(!table.add(route("10.9.9.9/8", 4, 1)), "host bits do not make a route new");
        let nic = |dst: &str| table.lookup(dst.parse().unwrap(), |_| true).map(|found| found.nic.0);
        assert_eq!(nic("10.1.2.3"), Some(3));
        assert_eq!(nic("10.2.2.3"), Some(4));
        assert_eq!(nic("11.0.0.1"), Some(1));
        assert_eq!(nic("fd00::1"), None);
        let without = |dst: &str| table.lookup(dst.parse().unwrap(), |found| found.nic.0 != 4);
        assert_eq!(without("10.2.2.3").map(|found| found.nic.0), Some(2));
        assert_eq!(table.iter().count(), 4);
    }

    #[test]
    fn removing_gives_the_shorter_prefix_back() {
        let mut table = RouteTable::default();
        table.add(route("::/0", 1, 0));
        table.add(route("fd00::/64", 2, 0));
        assert_eq!(table.remove(|old| old.nic == NicId(2)), 1);
        assert_eq!(table.lookup("fd00::5".parse().unwrap(), |_| true).unwrap().nic, NicId(1));
        assert_eq!(table.remove(|_| true), 1);
        assert!(table.lookup("fd00::5".parse().unwrap(), |_| true).is_none());
    }
}

//! Routes: what one says, and the table that finds the longest prefix, then the lowest metric.

use core::net::IpAddr;
use std::sync::Arc;

use super::Family;
use super::cidr::IpCidr;
use super::trie::Trie;
use crate::link::NicId;
use crate::time::Instant;

pub use crate::wire::ndp::Preference;

/// What a route is: an `RTN_` number of `linux/rtnetlink.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum RouteType {
    /// A gateway or a prefix on the link.
    #[default]
    Unicast = 1,
    /// An address of this host.
    Local = 2,
    /// Accepted as broadcast, sent as broadcast.
    Broadcast = 3,
    /// Accepted as one of ours, never a source.
    Anycast = 4,
    /// A multicast prefix.
    Multicast = 5,
    /// Dropped in silence (EINVAL to a sender).
    Blackhole = 6,
    /// Refused: host unreachable.
    Unreachable = 7,
    /// Refused: administratively prohibited (EACCES).
    Prohibit = 8,
    /// As if this table had no route.
    Throw = 9,
}

/// Who made a route: an `RTPROT_` number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Nobody in particular.
    pub const UNSPEC: Protocol = Protocol(0);
    /// An ICMP redirect.
    pub const REDIRECT: Protocol = Protocol(1);
    /// It came with an address.
    pub const KERNEL: Protocol = Protocol(2);
    /// An administrator, at boot.
    pub const BOOT: Protocol = Protocol(3);
    /// An administrator.
    pub const STATIC: Protocol = Protocol(4);
    /// A router advertisement.
    pub const RA: Protocol = Protocol(9);
}

/// How far a destination is: an `RT_SCOPE_` number; larger is nearer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Scope(pub u8);

impl Scope {
    /// Anywhere.
    pub const UNIVERSE: Scope = Scope(0);
    /// Within the site.
    pub const SITE: Scope = Scope(200);
    /// On the link.
    pub const LINK: Scope = Scope(253);
    /// On this host.
    pub const HOST: Scope = Scope(254);
    /// Nowhere.
    pub const NOWHERE: Scope = Scope(255);
}

/// The table of addresses of this host.
pub const TABLE_LOCAL: u32 = 255;
/// The table that `ip route` shows.
pub const TABLE_MAIN: u32 = 254;
/// The table that is asked last.
pub const TABLE_DEFAULT: u32 = 253;
/// The metric of an IPv6 route that an address brings with it (`IP6_RT_PRIO_ADDRCONF`).
pub const METRIC_ADDRCONF: u32 = 256;
/// The metric of an IPv6 route without one (`IP6_RT_PRIO_USER`), and of one from a router advertisement.
pub const METRIC_USER: u32 = 1024;

/// What a route tells of its path (`RTA_METRICS`); 0 is "not told".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Metrics {
    /// The largest packet (`RTAX_MTU`).
    pub mtu: u32,
    /// Whether ICMP may not lower it (`RTAX_LOCK`), and packets that exceed it may be cut by routers.
    pub mtu_locked: bool,
    /// The segment size to offer (`RTAX_ADVMSS`).
    pub advmss: u32,
    /// Time to live or hop limit (`RTAX_HOPLIMIT`).
    pub hop_limit: u8,
    /// The first congestion window, in segments (`RTAX_INITCWND`).
    pub initcwnd: u32,
    /// The first receive window, in segments (`RTAX_INITRWND`).
    pub initrwnd: u32,
    /// The least retransmission timeout (`RTAX_RTO_MIN`), in milliseconds.
    pub rto_min_ms: u32,
    /// The largest window to offer (`RTAX_WINDOW`).
    pub window: u32,
    /// The first round-trip time (`RTAX_RTT`), in eighths of a millisecond.
    pub rtt: u32,
    /// The first round-trip variance (`RTAX_RTTVAR`), in quarters of a millisecond.
    pub rttvar: u32,
    /// The first slow-start threshold, in segments (`RTAX_SSTHRESH`).
    pub ssthresh: u32,
    /// The most the congestion window grows to, in segments (`RTAX_CWND`).
    pub cwnd: u32,
    /// Whether acknowledgements are never delayed (`RTAX_QUICKACK`).
    pub quickack: bool,
    /// The congestion control of its connections (`RTAX_CC_ALGO`): a name of
    /// [`crate::transport::tcp::congestion::AVAILABLE`].
    pub congctl: Option<&'static str>,
}

/// One way of a route: a neighbour or a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NextHop {
    /// The gateway; None when the prefix is on the link.
    pub via: Option<IpAddr>,
    /// The interface.
    pub nic: NicId,
    /// How large its share is among several, 1 to 256.
    pub weight: u16,
    /// Whether the gateway is a neighbour although no route says so (`RTNH_F_ONLINK`).
    pub onlink: bool,
}

impl NextHop {
    /// The only way of a route.
    pub const fn new(via: Option<IpAddr>, nic: NicId) -> NextHop {
        NextHop { via, nic, weight: 1, onlink: false }
    }
}

/// A way to a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The prefix, host bits clear.
    pub dst: IpCidr,
    /// In which table.
    pub table: u32,
    /// What it is.
    pub kind: RouteType,
    /// How far the destination is. IPv6 has only universe.
    pub scope: Scope,
    /// Who made it.
    pub protocol: Protocol,
    /// Among equals the lowest wins.
    pub metric: u32,
    /// Only for this type of service (IPv4); 0 for any.
    pub tos: u8,
    /// The source address of packets that take it.
    pub pref_src: Option<IpAddr>,
    /// The ways it offers; none for those that refuse.
    pub hops: Vec<NextHop>,
    /// What is told of the path.
    pub metrics: Metrics,
    /// When it ends (IPv6).
    pub expires: Option<Instant>,
    /// How much its router wants to be used (IPv6).
    pub preference: Preference,
}

impl Route {
    /// A static route of the main table: through a gateway, or to a prefix on the link.
    pub fn new(dst: IpCidr, via: Option<IpAddr>, nic: NicId) -> Route {
        let near = via.is_none() && dst.address().is_ipv4();
        Route {
            dst: dst.network(),
            table: TABLE_MAIN,
            kind: RouteType::Unicast,
            scope: if near { Scope::LINK } else { Scope::UNIVERSE },
            protocol: Protocol::BOOT,
            metric: if dst.address().is_ipv6() { METRIC_USER } else { 0 },
            tos: 0,
            pref_src: None,
            hops: vec![NextHop::new(via, nic)],
            metrics: Metrics::default(),
            expires: None,
            preference: Preference::Medium,
        }
    }

    /// A route of the main table that refuses its prefix.
    pub fn refusing(dst: IpCidr, kind: RouteType) -> Route {
        let route = Route::new(dst, None, NicId(0));
        Route { kind, scope: Scope::UNIVERSE, hops: Vec::new(), ..route }
    }

    /// The gateway of its first way.
    pub fn via(&self) -> Option<IpAddr> {
        self.hops.first().and_then(|hop| hop.via)
    }

    /// The interface of its first way.
    pub fn nic(&self) -> Option<NicId> {
        self.hops.first().map(|hop| hop.nic)
    }

    /// Whether one of its ways takes an interface.
    pub fn uses(&self, nic: NicId) -> bool {
        self.hops.iter().any(|hop| hop.nic == nic)
    }

    /// What two routes of one prefix must differ in: Linux's key.
    fn rank(&self) -> (core::cmp::Reverse<u8>, u32) {
        (core::cmp::Reverse(self.tos), self.metric)
    }

    /// Whether two routes of one prefix and rank do the same.
    fn same(&self, other: &Route) -> bool {
        self.kind == other.kind
            && self.scope == other.scope
            && self.protocol == other.protocol
            && self.pref_src == other.pref_src
            && self.hops == other.hops
    }
}

/// Where a new route goes among those of its prefix, type of service and metric (`NLM_F_` flags of RTM_NEWROUTE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// There must be none (`ip route add`: CREATE and EXCL).
    Exclusive,
    /// Before them (`ip route prepend`: CREATE).
    Prepend,
    /// After them (`ip route append`: CREATE and APPEND).
    Append,
    /// Instead of the first, or alone (`ip route replace`: CREATE and REPLACE).
    Replace,
    /// Instead of the first, which must be there (`ip route change`: REPLACE).
    Change,
}

/// What became of a new route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Placed {
    /// It is there.
    Added,
    /// It is there, and this one no more.
    Replaced(Route),
    /// There is one already.
    Exists,
    /// There is none to change.
    NotFound,
}

/// The routes of one prefix: by falling type of service, then by rising metric.
type Alternatives = Arc<Vec<Route>>;

/// One table, for both families.
#[derive(Clone, Default)]
pub struct RouteTable {
    v4: Trie<Alternatives>,
    v6: Trie<Alternatives>,
}

impl RouteTable {
    fn family(&self, family: Family) -> &Trie<Alternatives> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn family_mut(&mut self, address: IpAddr) -> &mut Trie<Alternatives> {
        match Family::of(address) {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Whether it has no route.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Puts a route among those of its prefix.
    pub fn place(&mut self, route: Route, placement: Placement) -> Placed {
        let route = Route { dst: route.dst.network(), ..route };
        let dst = route.dst;
        self.family_mut(dst.address()).edit(&dst, |value| {
            let mut routes = value.as_deref().cloned().unwrap_or_default();
            let placed = place(&mut routes, route, placement);
            if !routes.is_empty() {
                *value = Some(Arc::new(routes));
            }
            placed
        })
    }

    /// The routes of exactly this prefix.
    pub fn of_prefix(&self, dst: &IpCidr) -> &[Route] {
        let routes = self.family(Family::of(dst.address())).get(dst);
        routes.map(|routes| routes.as_slice()).unwrap_or_default()
    }

    /// Removes the first route of a prefix that `gone` picks.
    pub fn remove_first(
        &mut self,
        dst: &IpCidr,
        gone: impl FnMut(&Route) -> bool,
    ) -> Option<Route> {
        self.family_mut(dst.address()).edit(dst, |value| {
            let mut routes = value.as_deref().cloned()?;
            let at = routes.iter().position(gone)?;
            let route = routes.remove(at);
            *value = if routes.is_empty() { None } else { Some(Arc::new(routes)) };
            Some(route)
        })
    }

    /// Removes the routes that `gone` picks and gives them.
    pub fn remove(&mut self, mut gone: impl FnMut(&Route) -> bool) -> Vec<Route> {
        let mut doomed = Vec::new();
        self.for_each(|route| {
            if gone(route) {
                doomed.push(route.clone());
            }
        });
        doomed.retain(|route| self.remove_first(&route.dst, |other| other == route).is_some());
        doomed
    }

    /// Shows the routes whose prefixes hold an address, the longest prefix first and all of a prefix at once, until one answers.
    pub fn find<'a, R>(
        &'a self,
        dst: IpAddr,
        mut judge: impl FnMut(&'a [Route]) -> Option<R>,
    ) -> Option<R> {
        self.family(Family::of(dst)).find(dst, |routes| judge(routes.as_slice()))
    }

    /// The first of the routes with the longest prefix that holds an address.
    pub fn first(&self, dst: IpAddr) -> Option<&Route> {
        self.family(Family::of(dst)).longest(dst)?.first()
    }

    /// Shows every route.
    pub fn for_each<'a>(&'a self, mut show: impl FnMut(&'a Route)) {
        self.v4.for_each(|routes| routes.iter().for_each(&mut show));
        self.v6.for_each(|routes| routes.iter().for_each(&mut show));
    }

    /// All routes in the order in which Linux lists them: IPv4 by network, within one the longest prefix first; IPv6 so
    /// that what lies within a prefix comes before it.
    pub fn list(&self) -> Vec<&Route> {
        let mut v4 = Vec::new();
        self.v4.for_each(|routes| v4.extend(routes.iter()));
        v4.sort_by_key(|route| (route.dst.address(), core::cmp::Reverse(route.dst.prefix_len())));
        let mut v6 = Vec::new();
        self.v6.for_each(|routes| v6.extend(routes.iter()));
        let last = |route: &Route| match route.dst.address() {
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(u32::from(route.dst.prefix_len())).unwrap_or(0);
                address.to_bits() | host
            }
            IpAddr::V4(_) => 0,
        };
        v6.sort_by_key(|route| (last(route), core::cmp::Reverse(route.dst.prefix_len())));
        v4.append(&mut v6);
        v4
    }
}

fn place(routes: &mut Vec<Route>, route: Route, placement: Placement) -> Placed {
    let rank = route.rank();
    let first = routes.partition_point(|old| old.rank() < rank);
    let after = routes.partition_point(|old| old.rank() <= rank);
    let equals = &routes[first..after];
    // Linux finds no two routes of a prefix alike, whatever the flags say.
    let twin = equals.iter().any(|old| old.same(&route));
    match placement {
        Placement::Exclusive if !equals.is_empty() => return Placed::Exists,
        Placement::Change if equals.is_empty() => return Placed::NotFound,
        Placement::Replace | Placement::Change if !equals.is_empty() => {
            let old = core::mem::replace(&mut routes[first], route);
            return Placed::Replaced(old);
        }
        Placement::Prepend | Placement::Append if twin => return Placed::Exists,
        Placement::Append => routes.insert(after, route),
        _ => routes.insert(first, route),
    }
    Placed::Added
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, nic: u32, metric: u32) -> Route {
        Route { metric, ..Route::new(dst.parse().unwrap(), None, NicId(nic)) }
    }

    fn nic(table: &RouteTable, dst: &str) -> Option<u32> {
        table.find(dst.parse().unwrap(), |routes| routes[0].nic()).map(|nic| nic.0)
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let mut table = RouteTable::default();
        for new in [route("0.0.0.0/0", 1, 0), route("10.0.0.0/8", 2, 5), route("10.1.0.0/16", 3, 9)]
        {
            assert_eq!(table.place(new, Placement::Exclusive), Placed::Added);
        }
        assert_eq!(table.place(route("10.0.0.0/8", 4, 1), Placement::Exclusive), Placed::Added);
        let again = table.place(route("10.9.9.9/8", 5, 1), Placement::Exclusive);
        assert_eq!(again, Placed::Exists, "host bits do not make a route new");
        assert_eq!(nic(&table, "10.1.2.3"), Some(3));
        assert_eq!(nic(&table, "10.2.2.3"), Some(4));
        assert_eq!(nic(&table, "11.0.0.1"), Some(1));
        assert_eq!(nic(&table, "fd00::1"), None);
        assert_eq!(table.list().len(), 4);
    }

    #[test]
    fn routes_of_one_rank_are_placed_as_the_flags_say() {
        let mut table = RouteTable::default();
        let to = "192.0.2.0/24";
        assert_eq!(table.place(route(to, 1, 0), Placement::Change), Placed::NotFound);
        assert_eq!(table.place(route(to, 1, 0), Placement::Append), Placed::Added);
        assert_eq!(table.place(route(to, 2, 0), Placement::Append), Placed::Added);
        assert_eq!(nic(&table, "192.0.2.1"), Some(1));
        assert_eq!(table.place(route(to, 2, 0), Placement::Append), Placed::Exists);
        assert_eq!(table.place(route(to, 3, 0), Placement::Prepend), Placed::Added);
        assert_eq!(nic(&table, "192.0.2.1"), Some(3));
        let replaced = table.place(route(to, 4, 0), Placement::Replace);
        assert_eq!(replaced, Placed::Replaced(route(to, 3, 0)));
        assert_eq!(nic(&table, "192.0.2.1"), Some(4));
        assert_eq!(table.list().len(), 3);
    }

    #[test]
    fn removing_gives_the_shorter_prefix_back() {
        let mut table = RouteTable::default();
        table.place(route("::/0", 1, 0), Placement::Exclusive);
        table.place(route("fd00::/64", 2, 0), Placement::Exclusive);
        assert_eq!(table.list()[0].nic(), Some(NicId(2)), "the default is listed last");
        assert_eq!(table.remove(|old| old.uses(NicId(2))).len(), 1);
        assert_eq!(nic(&table, "fd00::5"), Some(1));
        assert_eq!(table.remove(|_| true).len(), 1);
        assert!(table.is_empty());
    }
}

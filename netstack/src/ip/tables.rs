//! Routing as a whole: tables by number, the rules that choose among them, and the choice among the ways of a route.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::cidr::IpCidr;
use super::route::{NextHop, Placed, Placement, Route, RouteTable, RouteType, Scope, TABLE_LOCAL};
use super::rule::{Asked, RuleAction, Rules};
use super::{Family, Flow};
use crate::link::NicId;

/// What routing needs to know of interfaces and neighbours.
pub trait Links {
    /// The name of an interface.
    fn name(&self, nic: NicId) -> Option<&str>;
    /// Whether an interface is up.
    fn is_up(&self, nic: NicId) -> bool;
    /// Whether nothing is known against a neighbour (RFC 4861 section 6.3.6).
    fn may_be_reachable(&self, nic: NicId, neighbour: IpAddr) -> bool;
    /// Whether a neighbour was asked for and is not known, where that counts for the choice among ways
    /// (`fib_multipath_use_neigh`).
    fn is_known_silent(&self, nic: NicId, neighbour: IpAddr) -> bool;
}

/// A question to the tables.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// The source, when that is known.
    pub src: Option<IpAddr>,
    /// The destination.
    pub dst: IpAddr,
    /// On which interface the packet came; None when this host makes it.
    pub iif: Option<NicId>,
    /// Over which interface it must go.
    pub oif: Option<NicId>,
    /// Routes to farther destinations than this do not count: link for SO_DONTROUTE.
    pub scope: Scope,
    /// What else tells it apart.
    pub flow: Flow,
    /// Chooses among several ways: the same for all packets of a flow.
    pub hash: u32,
}

/// An answer: the route and the way.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The route.
    pub route: &'a Route,
    /// Which of its ways; None for a route to this host that names no interface.
    pub hop: Option<NextHop>,
}

/// Why there is no way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No rule or route fits (ENETUNREACH).
    NoRoute,
    /// A rule says so (ENETUNREACH).
    Unreachable,
    /// A route says so (EHOSTUNREACH).
    HostUnreachable,
    /// Dropped in silence (EINVAL).
    Blackhole,
    /// Forbidden (EACCES).
    Prohibited,
}

/// The tables and rules.
#[derive(Clone, Default)]
pub struct Tables {
    tables: BTreeMap<u32, RouteTable>,
    rules: Rules,
}

impl Tables {
    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rules, to change.
    pub fn rules_mut(&mut self) -> &mut Rules {
        &mut self.rules
    }

    /// A table, when it has routes.
    pub fn table(&self, number: u32) -> Option<&RouteTable> {
        self.tables.get(&number)
    }

    /// Puts a route into its table.
    pub fn place(&mut self, route: Route, placement: Placement) -> Placed {
        let number = route.table;
        let placed = self.tables.entry(number).or_default().place(route, placement);
        self.tidy(number);
        placed
    }

    /// Removes the first route to a prefix that `gone` picks from a table.
    pub fn remove_first(
        &mut self,
        table: u32,
        dst: &IpCidr,
        gone: impl FnMut(&Route) -> bool,
    ) -> Option<Route> {
        let route = self.tables.get_mut(&table)?.remove_first(dst, gone);
        self.tidy(table);
        route
    }

    /// Removes the routes that `gone` picks from all tables.
    pub fn remove(&mut self, mut gone: impl FnMut(&Route) -> bool) -> Vec<Route> {
        let mut removed = Vec::new();
        for table in self.tables.values_mut() {
            removed.append(&mut table.remove(&mut gone));
        }
        self.tables.retain(|_, table| !table.is_empty());
        removed
    }

    fn tidy(&mut self, number: u32) {
        if self.tables.get(&number).is_some_and(RouteTable::is_empty) {
            self.tables.remove(&number);
        }
    }

    /// All routes in the order in which Linux lists them: by family, table and place.
    pub fn list(&self) -> Vec<&Route> {
        let all = || self.tables.values().flat_map(|table| table.list());
        let is_v4 = |route: &&Route| route.dst.address().is_ipv4();
        all().filter(is_v4).chain(all().filter(|route| !is_v4(route))).collect()
    }

    /// Shows every route.
    pub fn for_each<'a>(&'a self, mut show: impl FnMut(&'a Route)) {
        self.tables.values().for_each(|table| table.for_each(&mut show));
    }

    /// What the table of this host's own addresses says of an address.
    pub fn own_kind(&self, address: IpAddr) -> Option<RouteType> {
        self.tables.get(&TABLE_LOCAL)?.first(address).map(|route| route.kind)
    }

    /// Finds the way for a packet: the first rule whose table has one.
    pub fn lookup<'a>(&'a self, ask: &Lookup, links: &impl Links) -> Result<Found<'a>, Refusal> {
        let name = |nic: NicId| links.name(nic).unwrap_or_default();
        let packet = Asked {
            src: ask.src,
            dst: ask.dst,
            iif: ask.iif.map_or("lo", name),
            oif: ask.oif.map(name),
            flow: ask.flow,
        };
        let answer = self.rules.walk(&packet, |rule| match rule.action {
            RuleAction::Lookup(number) => {
                let found = look_up(self.tables.get(&number)?, ask, links)?;
                let short = |found: &Found<'_>| {
                    let len = found.route.dst.prefix_len();
                    rule.suppress_prefixlength.is_some_and(|least| len <= least)
                };
                if found.as_ref().is_ok_and(short) { None } else { Some(found) }
            }
            RuleAction::Blackhole => Some(Err(Refusal::Blackhole)),
            RuleAction::Prohibit => Some(Err(Refusal::Prohibited)),
            RuleAction::Unreachable => Some(Err(Refusal::Unreachable)),
            RuleAction::Goto(_) | RuleAction::Nop => None,
        });
        answer.unwrap_or(Err(Refusal::NoRoute))
    }
}

/// Asks one table; None when the next rule is to be asked.
fn look_up<'a>(
    table: &'a RouteTable,
    ask: &Lookup,
    links: &impl Links,
) -> Option<Result<Found<'a>, Refusal>> {
    let answer = table.find(ask.dst, |routes| match Family::of(ask.dst) {
        Family::V4 => routes.iter().find_map(|route| judge(route, ask, links)),
        Family::V6 => by_metric(routes, ask, links),
    });
    answer.and_then(|answer| match answer {
        Answer::Found(found) => Some(Ok(found)),
        Answer::Refused(refusal) => Some(Err(refusal)),
        Answer::Thrown => None,
    })
}

/// What one route says.
#[derive(Clone, Copy)]
enum Answer<'a> {
    Found(Found<'a>),
    Refused(Refusal),
    Thrown,
}

/// What a route says of a packet; None when it is not for it.
fn judge<'a>(route: &'a Route, ask: &Lookup, links: &impl Links) -> Option<Answer<'a>> {
    if (route.tos != 0 && route.tos != ask.flow.tos & !3) || route.scope < ask.scope {
        return None;
    }
    match route.kind {
        RouteType::Blackhole => return Some(Answer::Refused(Refusal::Blackhole)),
        RouteType::Unreachable => return Some(Answer::Refused(Refusal::HostUnreachable)),
        RouteType::Prohibit => return Some(Answer::Refused(Refusal::Prohibited)),
        RouteType::Throw => return Some(Answer::Thrown),
        _ => {}
    }
    if route.hops.is_empty() {
        return Some(Answer::Found(Found { route, hop: None }));
    }
    let local = matches!(route.kind, RouteType::Local | RouteType::Anycast);
    let usable = |hop: &&NextHop| {
        let wanted = ask.oif.is_none_or(|oif| oif == hop.nic || local);
        wanted && links.is_up(hop.nic)
    };
    let hop = match route.hops.as_slice() {
        [only] => Some(only).filter(usable),
        several => {
            let answers = |hop: &&NextHop| {
                let via = hop.via.unwrap_or(ask.dst);
                !(via.is_ipv4() && links.is_known_silent(hop.nic, via))
            };
            let chosen = share(several.iter().filter(usable), ask.hash);
            match chosen.filter(|hop| !answers(hop)) {
                None => chosen,
                // The share of a silent one goes to the others; where all are silent, nothing is won.
                Some(_) => {
                    share(several.iter().filter(usable).filter(answers), ask.hash).or(chosen)
                }
            }
        }
    };
    hop.map(|hop| Answer::Found(Found { route, hop: Some(*hop) }))
}

/// The way whose share of the hash space a flow falls into.
fn share<'a>(hops: impl Iterator<Item = &'a NextHop> + Clone, hash: u32) -> Option<&'a NextHop> {
    let total: u64 = hops.clone().map(|hop| u64::from(hop.weight.max(1))).sum();
    let mut place = (u64::from(hash) * total) >> 32;
    for hop in hops {
        let weight = u64::from(hop.weight.max(1));
        if place < weight {
            return Some(hop);
        }
        place -= weight;
    }
    None
}

/// Among IPv6 routes of the lowest metric that has usable ones: those whose router is not known to be silent first, then
/// by the router's preference (RFC 4191 section 3.2).
fn by_metric<'a>(routes: &'a [Route], ask: &Lookup, links: &impl Links) -> Option<Answer<'a>> {
    if let [only] = routes {
        return judge(only, ask, links);
    }
    let mut best: Option<((bool, super::route::Preference), u32, Answer<'a>)> = None;
    for route in routes {
        if best.as_ref().is_some_and(|(_, metric, _)| route.metric > *metric) {
            break;
        }
        let Some(answer) = judge(route, ask, links) else { continue };
        let alive = match answer {
            Answer::Found(Found { hop: Some(NextHop { via: Some(via), nic, .. }), .. }) => {
                links.may_be_reachable(nic, via)
            }
            _ => true,
        };
        let score = (alive, route.preference);
        if best.as_ref().is_none_or(|(high, _, _)| score > *high) {
            best = Some((score, route.metric, answer));
        }
    }
    best.map(|(_, _, answer)| answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::route::{TABLE_DEFAULT, TABLE_MAIN};
    use crate::ip::rule::Rule;

    /// Interfaces 1 to 8, of which 9 and more are down; a neighbour that ends in 99 is silent.
    struct World;

    impl Links for World {
        fn name(&self, nic: NicId) -> Option<&str> {
            ["lo", "eth0", "eth1", "eth2"].get(nic.0 as usize - 1).copied()
        }
        fn is_up(&self, nic: NicId) -> bool {
            nic.0 < 9
        }
        fn may_be_reachable(&self, _nic: NicId, neighbour: IpAddr) -> bool {
            neighbour != "fe80::99".parse::<IpAddr>().unwrap()
        }
        fn is_known_silent(&self, _nic: NicId, neighbour: IpAddr) -> bool {
            neighbour == "10.0.0.99".parse::<IpAddr>().unwrap()
        }
    }

    fn route(dst: &str, nic: u32) -> Route {
        Route::new(dst.parse().unwrap(), None, NicId(nic))
    }

    fn ask(dst: &str) -> Lookup {
        let (src, iif, oif, scope) = (None, None, None, Scope::UNIVERSE);
        let (flow, hash) = (Flow::default(), 0);
        Lookup { src, dst: dst.parse().unwrap(), iif, oif, scope, flow, hash }
    }

    fn nic(tables: &Tables, ask: &Lookup) -> Result<u32, Refusal> {
        tables.lookup(ask, &World).map(|found| found.hop.unwrap().nic.0)
    }

    #[test]
    fn rules_choose_the_table_and_routes_may_throw_back() {
        let mut tables = Tables::default();
        let add = |tables: &mut Tables, route| tables.place(route, Placement::Exclusive);
        add(&mut tables, route("0.0.0.0/0", 2));
        add(&mut tables, Route { table: 100, ..route("0.0.0.0/0", 3) });
        add(
            &mut tables,
            Route {
                table: 100,
                ..Route::refusing("10.0.0.0/8".parse().unwrap(), RouteType::Throw)
            },
        );
        add(
            &mut tables,
            Route {
                table: 100,
                ..Route::refusing("10.9.0.0/16".parse().unwrap(), RouteType::Prohibit)
            },
        );
        add(&mut tables, Route { table: TABLE_DEFAULT, ..route("192.0.2.0/24", 4) });
        let marked = Rule { mark: Some((1, 1)), ..Rule::lookup(Family::V4, 500, 100) };
        tables.rules_mut().add(marked);
        let mark = |dst: &str| Lookup { flow: Flow { mark: 1, ..Flow::default() }, ..ask(dst) };
        assert_eq!(nic(&tables, &ask("192.0.2.1")), Ok(2));
        assert_eq!(nic(&tables, &mark("192.0.2.1")), Ok(3));
        assert_eq!(nic(&tables, &mark("10.1.0.1")), Ok(2), "thrown back to the main table");
        assert_eq!(nic(&tables, &mark("10.9.0.1")), Err(Refusal::Prohibited));
        assert!(tables.remove_first(TABLE_MAIN, &"0.0.0.0/0".parse().unwrap(), |_| true).is_some());
        assert_eq!(nic(&tables, &ask("192.0.2.1")), Ok(4), "the table default is asked last");
        assert_eq!(nic(&tables, &ask("192.0.3.1")), Err(Refusal::NoRoute));
    }

    #[test]
    fn a_rule_passes_over_routes_that_are_too_short() {
        let mut tables = Tables::default();
        tables.place(route("0.0.0.0/0", 2), Placement::Exclusive);
        tables.place(route("10.0.0.0/8", 3), Placement::Exclusive);
        tables.place(Route { table: 7, ..route("0.0.0.0/0", 4) }, Placement::Exclusive);
        let main = Rule::lookup(Family::V4, 10, TABLE_MAIN);
        tables.rules_mut().add(Rule { suppress_prefixlength: Some(0), ..main });
        tables.rules_mut().add(Rule::lookup(Family::V4, 20, 7));
        assert_eq!(nic(&tables, &ask("10.0.0.1")), Ok(3));
        assert_eq!(nic(&tables, &ask("11.0.0.1")), Ok(4));
    }

    #[test]
    fn what_is_down_or_not_asked_for_is_passed_over() {
        let mut tables = Tables::default();
        tables.place(route("10.0.0.0/8", 9), Placement::Exclusive);
        tables.place(Route { metric: 5, ..route("10.0.0.0/8", 3) }, Placement::Exclusive);
        tables.place(route("0.0.0.0/0", 2), Placement::Exclusive);
        assert_eq!(nic(&tables, &ask("10.0.0.1")), Ok(3));
        assert_eq!(nic(&tables, &Lookup { oif: Some(NicId(2)), ..ask("10.0.0.1") }), Ok(2));
        let near = Lookup { scope: Scope::LINK, ..ask("10.0.0.1") };
        assert_eq!(nic(&tables, &near), Ok(3));
        let via = Route::new(
            "198.51.100.0/24".parse().unwrap(),
            Some("10.0.0.9".parse().unwrap()),
            NicId(3),
        );
        tables.place(via, Placement::Exclusive);
        assert_eq!(nic(&tables, &Lookup { scope: Scope::LINK, ..ask("198.51.100.1") }), Ok(2));
    }

    #[test]
    fn several_ways_share_the_flows_by_weight() {
        let mut tables = Tables::default();
        let hops = vec![
            NextHop { weight: 3, ..NextHop::new(None, NicId(2)) },
            NextHop { weight: 1, ..NextHop::new(None, NicId(3)) },
            NextHop { weight: 9, ..NextHop::new(None, NicId(9)) },
        ];
        tables.place(Route { hops, ..route("0.0.0.0/0", 2) }, Placement::Exclusive);
        let step = u32::MAX / 1000;
        let at = |n: u32| nic(&tables, &Lookup { hash: n * step, ..ask("192.0.2.1") }).unwrap();
        let first = (0..1000).filter(|n| at(*n) == 2).count();
        assert!((749..=751).contains(&first), "{first}");
        assert_eq!(nic(&tables, &Lookup { hash: u32::MAX, ..ask("192.0.2.1") }), Ok(3));
    }

    #[test]
    fn a_silent_router_gives_way_and_preference_decides_among_others() {
        let mut tables = Tables::default();
        let via = |last: &str, nic| {
            Route::new("::/0".parse().unwrap(), Some(last.parse().unwrap()), NicId(nic))
        };
        let high = super::super::route::Preference::High;
        tables.place(via("fe80::1", 2), Placement::Append);
        tables.place(Route { preference: high, ..via("fe80::99", 3) }, Placement::Append);
        assert_eq!(nic(&tables, &ask("2001:db8::1")), Ok(2));
        tables.place(Route { preference: high, ..via("fe80::3", 4) }, Placement::Append);
        assert_eq!(nic(&tables, &ask("2001:db8::1")), Ok(4));
    }

    #[test]
    fn ten_thousand_routes_are_not_scanned() {
        let mut tables = Tables::default();
        for n in 0..10_000u32 {
            let dst = IpCidr::new(IpAddr::V4((0x0a00_0000 + (n << 8)).into()), 24);
            tables.place(Route::new(dst, None, NicId(1 + n % 4)), Placement::Exclusive);
        }
        let mut looked_at = 0;
        let table = tables.table(TABLE_MAIN).unwrap();
        table.find("10.1.2.3".parse().unwrap(), |routes| -> Option<()> {
            looked_at += routes.len();
            None
        });
        assert_eq!((looked_at, tables.list().len()), (1, 10_000));
    }
}

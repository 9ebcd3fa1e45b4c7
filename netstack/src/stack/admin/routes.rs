//! Routes and rules.

use core::net::IpAddr;

use crate::ip::cidr::IpCidr;
use crate::ip::route::{NextHop, Placed, Placement, Route, RouteType, Scope, TABLE_MAIN};
use crate::ip::tables::{Found, Lookup, Refusal};
use crate::ip::{Family, Flow, Rule};
use crate::link::NicId;
use crate::stack::Stack;
use crate::stack::observe::{Change, Presence};
use crate::stack::topology::Topology;

/// Why a route was not added or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// No such interface (ENODEV).
    #[error("no such interface")]
    NoNic,
    /// The interface is down (ENETDOWN).
    #[error("the interface is down")]
    Down,
    /// There is a route of this prefix, type of service and metric (EEXIST).
    #[error("the route exists")]
    Exists,
    /// No such route (ESRCH), or none to change (ENOENT).
    #[error("no such route")]
    NotFound,
    /// The gateway is of another family, or no neighbour can have its address (EINVAL).
    #[error("not a valid gateway")]
    Gateway,
    /// The gateway is on no link (ENETUNREACH for IPv4, EHOSTUNREACH for IPv6).
    #[error("no link leads to the gateway")]
    GatewayUnreachable,
    /// The preferred source is not ours, or a way is missing or too many (EINVAL).
    #[error("the route makes no sense")]
    Invalid,
}

/// Why a rule was not added or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// The same rule is there (EEXIST).
    #[error("the rule exists")]
    Exists,
    /// No such rule (ENOENT).
    #[error("no such rule")]
    NotFound,
}

impl Topology {
    /// Takes an interface out of the routes that `picked` names: a route whose last way it was goes.
    pub(in crate::stack) fn withdraw_routes(
        &mut self,
        nic: NicId,
        changes: &mut Vec<Change>,
        mut picked: impl FnMut(&Route) -> bool,
    ) {
        for route in self.tables.remove(|route| route.uses(nic) && picked(route)) {
            let mut left = route.clone();
            left.hops.retain(|hop| hop.nic != nic);
            if left.hops.is_empty() {
                changes.push(Change::Route(Presence::Deleted, route));
            } else {
                self.tables.place(left, Placement::Append);
            }
        }
    }

    /// The interface of a way: the one that is named, or the one on whose link the gateway is.
    fn check_hop(&self, family: Family, hop: &mut NextHop) -> Result<(), RouteError> {
        let named = hop.nic != NicId(0);
        if named {
            let nic = self.nic(hop.nic).ok_or(RouteError::NoNic)?;
            if !nic.is_up() {
                return Err(RouteError::Down);
            }
        }
        let Some(via) = hop.via else {
            return if named { Ok(()) } else { Err(RouteError::NoNic) };
        };
        if Family::of(via) != family || via.is_unspecified() || via.is_multicast() {
            return Err(RouteError::Gateway);
        }
        let link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if named && (hop.onlink || link_local) {
            return Ok(());
        }
        if self.is_local(via) {
            return Err(RouteError::Gateway);
        }
        let ask = Lookup {
            src: None,
            dst: via,
            iif: None,
            oif: Some(hop.nic).filter(|_| named),
            scope: if family == Family::V4 { Scope::LINK } else { Scope::UNIVERSE },
            flow: Flow::default(),
            hash: 0,
        };
        // IPv6 tells nearness by having no gateway.
        let found = self.tables.lookup(&ask, self).ok().and_then(|found| found.hop);
        let near = found.filter(|found| found.via.is_none());
        hop.nic = near.ok_or(RouteError::GatewayUnreachable)?.nic;
        Ok(())
    }

    fn check_route(&self, route: &mut Route) -> Result<(), RouteError> {
        let family = Family::of(route.dst.address());
        let refuses = matches!(
            route.kind,
            RouteType::Blackhole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw
        );
        if refuses {
            route.hops.clear();
        } else if route.hops.is_empty() || route.hops.len() > MAX_HOPS {
            return Err(RouteError::Invalid);
        }
        for hop in &mut route.hops {
            self.check_hop(family, hop)?;
        }
        let foreign = |src: IpAddr| Family::of(src) != family || !self.is_local(src);
        if route.pref_src.is_some_and(foreign) {
            return Err(RouteError::Invalid);
        }
        Ok(())
    }
}

/// How many ways a route may have.
const MAX_HOPS: usize = 256;

impl Stack {
    /// Adds a route (`ip route add`).
    pub fn add_route(&self, route: Route) -> Result<(), RouteError> {
        self.place_route(route, Placement::Exclusive).map(drop)
    }

    /// Adds, replaces or changes a route as the placement says; gives the one it replaced. A way without an interface
    /// (number 0) takes that of its gateway.
    pub fn place_route(
        &self,
        mut route: Route,
        placement: Placement,
    ) -> Result<Option<Route>, RouteError> {
        self.change(|topology, changes| {
            topology.check_route(&mut route)?;
            let replaced = match topology.tables.place(route.clone(), placement) {
                Placed::Added => None,
                Placed::Replaced(old) => Some(old),
                Placed::Exists => return Err(RouteError::Exists),
                Placed::NotFound => return Err(RouteError::NotFound),
            };
            topology.note_expiry(route.expires);
            changes.push(Change::Route(Presence::New, route));
            Ok(replaced)
        })
    }

    /// All routes of all tables, in the order in which Linux lists them.
    pub fn routes(&self) -> Vec<Route> {
        self.topology().tables.list().into_iter().cloned().collect()
    }

    /// The routes of the main table that lead over a link, as `route` shows them.
    pub fn main_routes(&self) -> Vec<Route> {
        let mut routes = self.routes();
        routes.retain(|route| route.table == TABLE_MAIN);
        routes
    }

    /// Removes the first route to a prefix that `picked` names from a table, and gives it.
    pub fn delete_route(
        &self,
        table: u32,
        dst: IpCidr,
        picked: impl FnMut(&Route) -> bool,
    ) -> Result<Route, RouteError> {
        self.change(|topology, changes| {
            let gone = topology.tables.remove_first(table, &dst.network(), picked);
            let gone = gone.ok_or(RouteError::NotFound)?;
            changes.push(Change::Route(Presence::Deleted, gone.clone()));
            Ok(gone)
        })
    }

    /// Removes the routes of the main table to a prefix, of one gateway or interface when these are given.
    pub fn remove_route(
        &self,
        dst: IpCidr,
        via: Option<IpAddr>,
        nic: Option<NicId>,
    ) -> Result<(), RouteError> {
        let picked = |route: &Route| {
            via.is_none_or(|via| route.via() == Some(via)) && nic.is_none_or(|nic| route.uses(nic))
        };
        self.delete_route(TABLE_MAIN, dst, picked)?;
        while self.delete_route(TABLE_MAIN, dst, picked).is_ok() {}
        Ok(())
    }

    /// Adds a rule (`ip rule add`).
    pub fn add_rule(&self, rule: Rule) -> Result<(), RuleError> {
        self.change(|topology, changes| {
            if !topology.tables.rules_mut().add(rule.clone()) {
                return Err(RuleError::Exists);
            }
            changes.push(Change::Rule(Presence::New, rule));
            Ok(())
        })
    }

    /// Removes the first rule of a family that `picked` names, and gives it.
    pub fn delete_rule(
        &self,
        family: Family,
        picked: impl FnMut(&Rule) -> bool,
    ) -> Result<Rule, RuleError> {
        self.change(|topology, changes| {
            let gone = topology.tables.rules_mut().remove_first(family, picked);
            let gone = gone.ok_or(RuleError::NotFound)?;
            changes.push(Change::Rule(Presence::Deleted, gone.clone()));
            Ok(gone)
        })
    }

    /// The rules of a family, as they are asked.
    pub fn rules(&self, family: Family) -> Vec<Rule> {
        self.topology().tables.rules().list(family).to_vec()
    }

    /// The route that a packet takes, with the way that is chosen, as `ip route get ... fibmatch` shows it.
    pub fn lookup_route(&self, ask: &Lookup) -> Result<(Route, Option<NextHop>), Refusal> {
        let topology = self.topology();
        let Found { route, hop } = topology.tables.lookup(ask, &*topology)?;
        Ok((route.clone(), hop))
    }
}

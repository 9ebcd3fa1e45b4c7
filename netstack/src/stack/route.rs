//! Finding the way to a destination: interface, next hop, source address, MTU.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::topology::Topology;
use crate::ip::route::{Metrics, Route, RouteType};
use crate::ip::tables::{Lookup, Refusal};
use crate::ip::{Cast, Family, Flow, IpError, KeptPath, Path, RouteInfo, RouteQuery};
use crate::time::Instant;

impl Stack {
    /// Answers a route query: from the cache where it knows the answer.
    pub(super) fn cached_route(
        &self,
        now: Instant,
        query: &RouteQuery,
    ) -> Result<RouteInfo, IpError> {
        // What a redirect teaches ends by itself, and takes part in the choice of the source.
        if !self.redirects.is_empty() {
            return self.find_route(now, &self.topology(), query);
        }
        self.known_path(now, query).map(|known| self.along(now, &known.path))
    }

    /// Answers a route query from what its asker keeps, where that still holds; renews it where not.
    pub(super) fn kept_route(
        &self,
        now: Instant,
        query: &RouteQuery,
        kept: &mut Option<Box<KeptPath>>,
    ) -> Result<RouteInfo, IpError> {
        if !self.redirects.is_empty() {
            return self.find_route(now, &self.topology(), query);
        }
        if let Some(kept) = kept
            && self.routes.holds(kept, query)
        {
            return Ok(self.along(now, &kept.path));
        }
        let fresh = self.known_path(now, query)?;
        let info = self.along(now, &fresh.path);
        *kept = Some(Box::new(fresh));
        Ok(info)
    }

    /// The way of a query from the cache, or from the tables; then the cache keeps it.
    fn known_path(&self, now: Instant, query: &RouteQuery) -> Result<KeptPath, IpError> {
        // An answer belongs to what held before its tables were read.
        let generation = self.routes.generation();
        let path = match self.routes.find(query) {
            Some(path) => path,
            None => {
                let path = self.find_path(now, &self.topology(), query)?;
                self.routes.keep(generation, query, path);
                path
            }
        };
        Ok(KeptPath { generation, query: *query, path })
    }

    /// Answers a route query from a topology.
    pub(super) fn find_route(
        &self,
        now: Instant,
        topology: &Topology,
        query: &RouteQuery,
    ) -> Result<RouteInfo, IpError> {
        self.find_path(now, topology, query).map(|path| self.along(now, &path))
    }

    /// What is known of a path's MTU at present.
    fn along(&self, now: Instant, path: &Path) -> RouteInfo {
        let info = path.info;
        let mtu = path.bound.map_or(info.mtu, |most| self.path_mtus.mtu(now, info.dst, most));
        RouteInfo { mtu, ..info }
    }

    fn find_path(
        &self,
        now: Instant,
        topology: &Topology,
        query: &RouteQuery,
    ) -> Result<Path, IpError> {
        let bound = query.src.filter(|src| !src.is_unspecified());
        // Linux takes the unspecified destination as this host.
        let dst = match query.dst {
            IpAddr::V4(dst) if dst.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(dst) if dst.is_unspecified() => IpAddr::V6(core::net::Ipv6Addr::LOCALHOST),
            dst => dst,
        };
        if let Some(src) = bound {
            if Family::of(src) != Family::of(dst) {
                return Err(IpError::Invalid);
            }
            if !topology.is_local(src) && !topology.is_anycast(src) {
                // As on Linux a foreign source of IPv4 is in no network (ip_route_output_key).
                return Err(match src {
                    IpAddr::V4(_) => IpError::NetworkUnreachable,
                    IpAddr::V6(_) => IpError::AddressNotAvailable,
                });
            }
        }
        let (nic, next_hop, route) = pick(self, topology, query, dst, bound)?;
        let Some(route) = route.filter(|route| is_own(route.kind)) else {
            let metrics = route.map(|route| route.metrics).unwrap_or_default();
            let pref_src = route.and_then(|route| route.pref_src);
            let way = Way { nic, next_hop, pref_src, metrics };
            return self.remote_route(now, topology, (query, bound, dst), &way);
        };
        self.local_route(topology, bound.or(route.pref_src), dst)
    }

    /// The way to somebody else.
    fn remote_route(
        &self,
        now: Instant,
        topology: &Topology,
        (query, bound, dst): (&RouteQuery, Option<IpAddr>, IpAddr),
        way: &Way<'_>,
    ) -> Result<Path, IpError> {
        let nic = way.nic;
        let cast = cast_of(topology, nic, dst);
        let next_hop = if cast == Cast::Unicast { way.next_hop } else { dst };
        let detour = self.redirects.next_hop(now, dst, (nic.id, next_hop));
        let next_hop = detour.unwrap_or(next_hop);
        let select = || topology.select_source(nic.id, dst, (next_hop, query.prefer));
        let src = match bound.or(way.pref_src) {
            Some(src) => src,
            None => select()
                .or_else(|| may_lack_source(dst, cast).then(|| Family::of(dst).unspecified()))
                .ok_or(IpError::AddressNotAvailable)?,
        };
        let link_mtu = match dst {
            IpAddr::V4(_) => nic.mtu(),
            IpAddr::V6(_) => nic.mtu_v6(),
        };
        let metrics = way.metrics;
        let mtu = if metrics.mtu == 0 { link_mtu } else { link_mtu.min(metrics.mtu) };
        let bound = (!metrics.mtu_locked).then_some(mtu);
        let info = RouteInfo {
            src,
            dst,
            next_hop,
            nic: nic.id,
            mtu,
            link_mtu,
            max_gso: nic.max_gso(),
            cast,
            holds_back: nic.capabilities.holds_back,
            metrics,
        };
        Ok(Path { info, bound })
    }

    /// The way to an address of our own leads over the loopback interface, whichever interface has it.
    fn local_route(
        &self,
        topology: &Topology,
        src: Option<IpAddr>,
        dst: IpAddr,
    ) -> Result<Path, IpError> {
        let loopback = topology.loopback.and_then(|id| topology.nic(id));
        let nic = loopback.filter(|nic| nic.is_up()).ok_or(IpError::NetworkUnreachable)?;
        let link_mtu = nic.mtu();
        let (mtu, max_gso) = (link_mtu, nic.capabilities.max_gso);
        let info = RouteInfo {
            src: src.unwrap_or(dst),
            dst,
            next_hop: dst,
            nic: nic.id,
            mtu,
            link_mtu,
            max_gso,
            cast: Cast::Unicast,
            holds_back: false,
            metrics: Metrics::default(),
        };
        Ok(Path { info, bound: None })
    }

    /// The number by which a flow chooses among several ways: the same for all its packets. Which fields count is
    /// `fib_multipath_hash_policy`.
    pub(super) fn flow_hash(
        &self,
        topology: &Topology,
        (src, dst): (Option<IpAddr>, IpAddr),
        flow: &Flow,
    ) -> u32 {
        let family = Family::of(dst);
        let ports = match topology.tunables().ip.fib_multipath_hash_policy[family as usize] {
            1 => Some((flow.protocol, flow.sport, flow.dport)),
            _ => None,
        };
        let label = if family == Family::V6 && ports.is_none() { flow.label } else { 0 };
        (self.multipath_key.hash_one((src, dst, ports, label)) >> 32) as u32
    }
}

/// Where a packet goes.
struct Way<'a> {
    nic: &'a Arc<Nic>,
    next_hop: IpAddr,
    pref_src: Option<IpAddr>,
    metrics: Metrics,
}

/// Whether a route leads to this host.
fn is_own(kind: RouteType) -> bool {
    matches!(kind, RouteType::Local | RouteType::Anycast)
}

/// The interface, the next hop, and the route that says so.
fn pick<'a>(
    stack: &Stack,
    topology: &'a Topology,
    query: &RouteQuery,
    dst: IpAddr,
    bound: Option<IpAddr>,
) -> Result<(&'a Arc<Nic>, IpAddr, Option<&'a Route>), IpError> {
    let oif = match query.nic {
        Some(only) => {
            let nic = topology.nic(only).ok_or(IpError::NoDevice)?;
            if !nic.is_up() {
                return Err(IpError::NetworkDown);
            }
            Some(nic)
        }
        // A multicast or link-local destination goes out where the source lives.
        None => bound
            .filter(|_| needs_home(dst))
            .and_then(|src| topology.nic(topology.owner(src)?))
            .filter(|nic| nic.is_up() && !nic.is_loopback()),
    };
    if let Some(nic) = oif
        && (dst.is_multicast() || matches!(dst, IpAddr::V4(v4) if v4.is_broadcast()))
    {
        return Ok((nic, dst, None));
    }
    let ask = Lookup {
        src: bound,
        dst,
        iif: None,
        oif: oif.map(|nic| nic.id),
        scope: query.scope,
        flow: query.flow,
        hash: stack.flow_hash(topology, (bound, dst), &query.flow),
    };
    let found = match topology.tables().lookup(&ask, topology) {
        Ok(found) => found,
        Err(refusal) => {
            return match oif {
                // Linux's ip_route_output_key_hash_rcu: "Apparently, routing tables are wrong. Assume, that the destination is
                // on link", where the interface is asked for by name. IPv6 has no such rule.
                Some(nic) if dst.is_ipv4() => Ok((nic, dst, None)),
                _ => Err(refusal.into()),
            };
        }
    };
    let nic = match found.hop {
        Some(hop) => topology.nic(hop.nic),
        None => topology.loopback.and_then(|id| topology.nic(id)),
    };
    let nic = nic.ok_or(IpError::NetworkUnreachable)?;
    let next_hop = found.hop.and_then(|hop| hop.via).unwrap_or(dst);
    Ok((nic, next_hop, Some(found.route)))
}

impl From<Refusal> for IpError {
    fn from(refusal: Refusal) -> IpError {
        match refusal {
            Refusal::NoRoute | Refusal::Unreachable => IpError::NetworkUnreachable,
            Refusal::HostUnreachable => IpError::HostUnreachable,
            Refusal::Blackhole => IpError::Invalid,
            Refusal::Prohibited => IpError::Prohibited,
        }
    }
}

/// Whether a destination means something only on one link.
fn needs_home(dst: IpAddr) -> bool {
    match dst {
        IpAddr::V4(dst) => dst.is_multicast() || dst.is_broadcast(),
        IpAddr::V6(dst) => dst.is_multicast() || dst.is_unicast_link_local(),
    }
}

/// How a destination is addressed on the link that leads there.
pub(super) fn cast_of(topology: &Topology, nic: &Nic, dst: IpAddr) -> Cast {
    match dst {
        _ if dst.is_multicast() => Cast::Multicast,
        IpAddr::V4(v4) if topology.is_broadcast(nic.id, v4) => Cast::Broadcast,
        _ => Cast::Unicast,
    }
}

/// DHCP and neighbour discovery send before there is an address.
fn may_lack_source(dst: IpAddr, cast: Cast) -> bool {
    cast == Cast::Broadcast || (cast == Cast::Multicast && dst.is_ipv6())
}

//! Finding the way to a destination: interface, next hop, source address, MTU.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::topology::Topology;
use crate::ip::{Cast, Family, IpError, RouteInfo, RouteQuery};
use crate::time::Instant;

impl Stack {
    /// Answers a route query from the current topology.
    pub(super) fn find_route(
        &self,
        now: Instant,
        topology: &Topology,
        query: &RouteQuery,
    ) -> Result<RouteInfo, IpError> {
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
            if !topology.is_local(src) {
                return Err(IpError::AddressNotAvailable);
            }
        }
        if topology.is_local(dst) {
            return self.local_route(topology, bound, dst);
        }
        let (nic, next_hop) = pick(topology, query, dst, bound)?;
        let cast = cast_of(topology, nic, dst);
        let next_hop = if cast == Cast::Unicast { next_hop } else { dst };
        let src = match bound {
            Some(src) => src,
            None => topology
                .select_source(nic.id, dst, next_hop)
                .or_else(|| may_lack_source(dst, cast).then(|| Family::of(dst).unspecified()))
                .ok_or(IpError::AddressNotAvailable)?,
        };
        let link_mtu = nic.mtu();
        Ok(RouteInfo {
            src,
            dst,
            next_hop,
            nic: nic.id,
            mtu: self.path_mtus.mtu(now, dst, link_mtu),
            link_mtu,
            max_gso: nic.capabilities.max_gso,
            cast,
        })
    }

    /// The way to an address of our own leads over the loopback interface, whichever interface has it.
    fn local_route(
        &self,
        topology: &Topology,
        bound: Option<IpAddr>,
        dst: IpAddr,
    ) -> Result<RouteInfo, IpError> {
        let loopback = topology.loopback.and_then(|id| topology.nic(id));
        let nic = loopback.filter(|nic| nic.is_up()).ok_or(IpError::NetworkUnreachable)?;
        let link_mtu = nic.mtu();
        // The whole of 127.0.0.0/8 is ours and answers from its first address.
        let src = bound.unwrap_or(match dst {
            IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            own => own,
        });
        let (mtu, max_gso) = (link_mtu, nic.capabilities.max_gso);
        Ok(RouteInfo {
            src,
            dst,
            next_hop: dst,
            nic: nic.id,
            mtu,
            link_mtu,
            max_gso,
            cast: Cast::Unicast,
        })
    }
}

/// The interface and the next hop.
fn pick<'a>(
    topology: &'a Topology,
    query: &RouteQuery,
    dst: IpAddr,
    bound: Option<IpAddr>,
) -> Result<(&'a Arc<Nic>, IpAddr), IpError> {
    let usable = |id| topology.nic(id).is_some_and(|nic| nic.is_up());
    if let Some(only) = query.nic {
        let nic = topology.nic(only).ok_or(IpError::NoDevice)?;
        if !nic.is_up() {
            return Err(IpError::NetworkDown);
        }
        let route = topology.routes.lookup(dst, |route| route.nic == only);
        // An interface that is asked for by name takes destinations without a route as neighbours.
        return Ok((nic, route.and_then(|route| route.via).unwrap_or(dst)));
    }
    // A multicast or link-local destination goes out where the source lives.
    let home = bound.and_then(|src| topology.owner(src));
    if needs_home(dst)
        && let Some(nic) = home.and_then(|id| topology.nic(id)).filter(|nic| nic.is_up())
        && !nic.is_loopback()
    {
        return Ok((nic, dst));
    }
    let route = topology.routes.lookup(dst, |route| usable(route.nic));
    if let Some(route) = route {
        let nic = topology.nic(route.nic).ok_or(IpError::NetworkUnreachable)?;
        return Ok((nic, route.via.unwrap_or(dst)));
    }
    // Multicast and the limited broadcast need no route: the first interface that can carry them does.
    let anywhere = dst.is_multicast() || matches!(dst, IpAddr::V4(v4) if v4.is_broadcast());
    let first = topology.nics().find(|nic| nic.is_up() && !nic.is_loopback());
    match first {
        Some(nic) if anywhere => Ok((nic, dst)),
        _ => Err(IpError::NetworkUnreachable),
    }
}

/// Whether a destination means something only on one link.
fn needs_home(dst: IpAddr) -> bool {
    match dst {
        IpAddr::V4(dst) => dst.is_multicast() || dst.is_broadcast(),
        IpAddr::V6(dst) => dst.is_multicast() || dst.is_unicast_link_local(),
    }
}

fn cast_of(topology: &Topology, nic: &Nic, dst: IpAddr) -> Cast {
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

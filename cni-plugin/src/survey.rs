//! What a container's network namespace says about an interface. It is the truth: results of plugins leave out what they did
//! (interfaces of addresses, gateways off the link, permanent neighbours).

use crate::error::{CniError, Code};
use crate::handoff;
use crate::netlink::{Address, Link, Neighbour, Route, Rtnl};
use crate::netns::Netns;

/// Number of the table of local addresses, which follow from addresses.
const LOCAL_TABLE: u32 = 255;

/// An interface and all that was set up on it.
pub(crate) struct Survey {
    pub(crate) link: Link,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) neighbours: Vec<Neighbour>,
}

impl Survey {
    /// Reads it. None where there is no such interface.
    pub(crate) fn of(netns: &Netns, ifname: &str) -> Result<Option<Self>, CniError> {
        let read = || {
            let mut rtnl = Rtnl::open()?;
            let unreadable = |e: crate::netlink::RtnlError| {
                e.doing(format!("read {ifname} in {}", netns.path()))
            };
            let Some(link) = rtnl.link(ifname).map_err(unreadable)? else { return Ok(None) };
            Ok(Some(Self {
                addresses: rtnl.addresses(link.index).map_err(unreadable)?,
                routes: rtnl.routes(link.index).map_err(unreadable)?,
                neighbours: rtnl.permanent_neighbours(link.index).map_err(unreadable)?,
                link,
            }))
        };
        netns.run(read)
    }

    /// The same, where the interface must be there.
    pub(crate) fn expect(netns: &Netns, ifname: &str) -> Result<Self, CniError> {
        Self::of(netns, ifname)?.ok_or_else(|| {
            let msg =
                format!("there is no interface {ifname} in the container's network namespace");
            CniError::new(Code::InvalidConfig, msg)
                .because(format!("{}: a plugin before this one makes it", netns.path()))
        })
    }

    /// The addresses for the hand-off file. The kernel makes link-local addresses of IPv6 itself.
    pub(crate) fn handoff_addresses(&self) -> Vec<handoff::Address> {
        let given = self.addresses.iter().filter(|a| !(a.link_local && a.address.addr().is_ipv6()));
        given
            .map(|a| handoff::Address {
                address: a.address,
                peer: a.peer,
                no_prefix_route: a.no_prefix_route,
            })
            .collect()
    }

    /// The routes for the hand-off file: those that somebody set.
    pub(crate) fn handoff_routes(&self) -> Vec<handoff::Route> {
        let set = self.routes.iter().filter(|r| !r.of_kernel && r.table != LOCAL_TABLE);
        set.map(|r| handoff::Route {
            dst: r.dst,
            gw: r.gw,
            src: r.src,
            onlink: r.onlink,
            table: r.table,
            priority: r.priority,
            scope: r.scope,
            mtu: r.mtu,
            advmss: r.advmss,
        })
        .collect()
    }

    /// The permanent neighbours for the hand-off file. Those of multicast and broadcast addresses have no state at all.
    pub(crate) fn handoff_neighbours(&self) -> Vec<handoff::Neighbour> {
        let each = self.neighbours.iter();
        each.map(|n| handoff::Neighbour { address: n.address, mac: n.mac.clone() }).collect()
    }
}

//! Routes through a link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Rtnl, RtnlError};

/// A unicast route through a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub(crate) dst: IpNet,
    pub(crate) gw: Option<IpAddr>,
    /// The source that it prefers.
    pub(crate) src: Option<IpAddr>,
    pub(crate) onlink: bool,
    /// Number of the table.
    pub(crate) table: u32,
    pub(crate) priority: Option<u32>,
    /// As rtnetlink(7) numbers it: 0 global, 253 link, 254 host.
    pub(crate) scope: u8,
    /// In bytes.
    pub(crate) mtu: Option<u32>,
    pub(crate) advmss: Option<u32>,
    /// The kernel made it, of an address.
    pub(crate) of_kernel: bool,
}

impl Route {
    /// The route of a message, with the link that it goes through.
    fn of_message(message: &RouteMessage) -> Option<(Self, u32)> {
        let header = &message.header;
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let mut route = Self {
            dst: IpNet::new(any, header.destination_prefix_length).ok()?,
            gw: None,
            src: None,
            onlink: header.flags.contains(RouteFlags::Onlink),
            table: header.table.into(),
            priority: None,
            scope: header.scope.into(),
            mtu: None,
            advmss: None,
            of_kernel: header.protocol == RouteProtocol::Kernel,
        };
        let mut link = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => {
                    route.dst = IpNet::new(ip(to)?, header.destination_prefix_length).ok()?;
                }
                RouteAttribute::Gateway(gw) => route.gw = ip(gw),
                RouteAttribute::PrefSource(src) => route.src = ip(src),
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Priority(priority) => route.priority = Some(*priority),
                RouteAttribute::Oif(index) => link = Some(*index),
                RouteAttribute::Metrics(metrics) => route.take_metrics(metrics),
                _ => {}
            }
        }
        // RTA_VIA: a gateway of the other family (RFC 5549).
        if let Some(via) = message.attributes.iter().find_map(via) {
            route.gw = Some(via);
        }
        Some((route, link?))
    }

    fn take_metrics(&mut self, metrics: &[RouteMetric]) {
        for metric in metrics {
            match metric {
                RouteMetric::Mtu(mtu) => self.mtu = Some(*mtu),
                RouteMetric::Advmss(advmss) => self.advmss = Some(*advmss),
                _ => {}
            }
        }
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn via(attribute: &RouteAttribute) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteVia;
    match attribute {
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

impl Rtnl {
    /// The unicast routes of both families through a link, in the order of the kernel.
    pub(crate) fn routes(&mut self, index: u32) -> Result<Vec<Route>, RtnlError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let dump = self.dump(RouteNetlinkMessage::GetRoute(query))?;
            for message in dump.complete()? {
                let RouteNetlinkMessage::NewRoute(message) = message else { continue };
                let unicast = message.header.kind == RouteType::Unicast;
                let cached = message.header.flags.contains(RouteFlags::Cloned);
                if let Some((route, link)) = Route::of_message(&message)
                    && link == index
                    && unicast
                    && !cached
                {
                    routes.push(route);
                }
            }
        }
        Ok(routes)
    }
}

//! Routes through a link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
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

/// The table that programs use where they say nothing.
pub(crate) const MAIN_TABLE: u32 = 254;
/// Scope of a route whose destinations are on the link.
pub(crate) const SCOPE_LINK: u8 = 253;

impl Route {
    /// A route in the main table without attributes. Without a gateway its destinations are on the link.
    pub(crate) fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self {
            dst: dst.trunc(),
            gw,
            src: None,
            onlink: false,
            table: MAIN_TABLE,
            priority: None,
            scope: if gw.is_none() { SCOPE_LINK } else { 0 },
            mtu: None,
            advmss: None,
            of_kernel: false,
        }
    }

    fn to_message(&self, link: u32) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = match self.dst {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        header.destination_prefix_length = self.dst.prefix_len();
        header.protocol = RouteProtocol::Boot;
        header.kind = RouteType::Unicast;
        header.scope = RouteScope::from(self.scope);
        header.flags.set(RouteFlags::Onlink, self.onlink);
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(self.table));
        attributes.push(RouteAttribute::Destination(self.dst.addr().into()));
        attributes.push(RouteAttribute::Oif(link));
        attributes.extend(self.gw.map(|gw| RouteAttribute::Gateway(gw.into())));
        attributes.extend(self.src.map(|src| RouteAttribute::PrefSource(src.into())));
        attributes.extend(self.priority.map(RouteAttribute::Priority));
        let mtu = self.mtu.map(RouteMetric::Mtu);
        let metrics: Vec<_> = mtu.into_iter().chain(self.advmss.map(RouteMetric::Advmss)).collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
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

    /// Adds a route through a link.
    pub(crate) fn add_route(&mut self, link: u32, route: &Route) -> Result<(), RtnlError> {
        let add = RouteNetlinkMessage::NewRoute(route.to_message(link));
        self.change(add, NLM_F_CREATE | NLM_F_EXCL)
    }
}

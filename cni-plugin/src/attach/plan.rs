//! Which addresses and routes follow from what IPAM gave.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::CniError;
use crate::netlink::{self, PrefixRoute, Rtnl};
use crate::netns::Netns;
use crate::result::{CniResult, IpConfig, Route};

use super::{invalid, refused};

/// What the container's end of a link gets.
pub(super) struct Plan {
    pub(super) addresses: Vec<(IpNet, PrefixRoute)>,
    /// In the order in which the kernel takes them: a gateway is on the link before a route leads to it.
    pub(super) routes: Vec<netlink::Route>,
}

impl Plan {
    /// On a link with all of the network: the prefix of an address leads to it.
    pub(super) fn on_network(result: &CniResult) -> Self {
        let addresses = result.ips.iter().map(|ip| (ip.address, PrefixRoute::Made)).collect();
        Self { addresses, routes: result.routes.iter().map(|r| route(r, result)).collect() }
    }

    /// On a link with the node alone, which is the gateway to the network itself, too.
    pub(super) fn point_to_point(result: &CniResult) -> Result<Self, CniError> {
        let mut plan = Self { addresses: Vec::new(), routes: Vec::new() };
        for ip in &result.ips {
            let gateway = expect_gateway(ip)?;
            plan.addresses.push((ip.address, PrefixRoute::None));
            let src = Some(ip.address.addr());
            let route = |dst, gw| netlink::Route { src, ..netlink::Route::new(dst, gw) };
            plan.routes.push(route(gateway.into(), None));
            if ip.address.prefix_len() < ip.address.max_prefix_len() {
                plan.routes.push(route(ip.address, Some(gateway)));
            }
        }
        plan.routes.extend(result.routes.iter().map(|r| route(r, result)));
        Ok(plan)
    }

    /// Sets the container's end up.
    pub(super) fn carry_out(&self, netns: &Netns, ifname: &str) -> Result<(), CniError> {
        netns.run(|| {
            let mut rtnl = Rtnl::open()?;
            let link = rtnl.link(ifname).map_err(refused("look for the new interface"))?;
            let link = link.ok_or_else(|| invalid(format!("the interface {ifname} vanished")))?;
            if self.addresses.iter().any(|(a, _)| a.addr().is_ipv6()) {
                sysctl(&format!("net/ipv6/conf/{ifname}/disable_ipv6"), "0")?;
            }
            for (address, prefix) in &self.addresses {
                let what = format!("give {ifname} the address {address}");
                rtnl.add_address(link.index, *address, *prefix).map_err(refused(&what))?;
            }
            // Neighbours may remember another pod that had the address: to come up tells them. Both are a help, not a need.
            let _ = sysctl(&format!("net/ipv4/conf/{ifname}/arp_notify"), "1");
            let _ = sysctl(&format!("net/ipv6/conf/{ifname}/ndisc_notify"), "1");
            rtnl.set_up(link.index).map_err(refused("bring the interface up"))?;
            for route in &self.routes {
                let what = format!("add the route to {} through {ifname}", route.dst);
                match rtnl.add_route(link.index, route) {
                    // "Since another network might have already configured the default route, the CNI plugin should be prepared
                    // to skip over its default route definition."
                    Err(error) if error.is(nix::errno::Errno::EEXIST) => {}
                    done => done.map_err(refused(&what))?,
                }
            }
            Ok(())
        })
    }
}

/// "If omitted, a default gateway is assumed (as determined by the CNI plugin)": that of the first address of the family.
fn route(route: &Route, result: &CniResult) -> netlink::Route {
    let same = |ip: &&IpConfig| ip.address.addr().is_ipv4() == route.dst.addr().is_ipv4();
    let default = result.ips.iter().filter(same).find_map(|ip| ip.gateway);
    let mut planned = netlink::Route::new(route.dst, route.gw.or(default));
    planned.scope = route.scope.unwrap_or(planned.scope);
    planned.table = route.table.unwrap_or(planned.table);
    (planned.mtu, planned.advmss) = (route.mtu, route.advmss);
    planned.priority = route.priority;
    planned
}

/// The gateway that IPAM names for an address.
pub(super) fn expect_gateway(ip: &IpConfig) -> Result<IpAddr, CniError> {
    ip.gateway.ok_or_else(|| invalid(format!("IPAM names no gateway for {}", ip.address)))
}

/// Names a gateway for each address: IPAM's, or the first address of the prefix. Adds the default routes that are missing.
pub(super) fn complete_gateways(result: &mut CniResult, default_gateway: DefaultGateway) {
    for ip in &mut result.ips {
        // The first address after the network's own, which IPv6 lists among the hosts (the subnet-router anycast address).
        let first = ip.address.hosts().find(|host| *host != ip.address.network());
        ip.gateway = ip.gateway.or(first);
    }
    if default_gateway == DefaultGateway::No {
        return;
    }
    for ip in &result.ips {
        let any: IpAddr = match ip.address {
            IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let default = IpNet::new(any, 0).unwrap_or(ip.address);
        if !result.routes.iter().any(|r| r.dst == default) {
            result.routes.push(Route::new(default, ip.gateway));
        }
    }
}

/// Whether the bridge is the pod's way to everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DefaultGateway {
    Yes,
    No,
}

/// Lets the node pass packets on, for each family among the addresses.
pub(super) fn enable_forwarding(result: &CniResult) -> Result<(), CniError> {
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv4()) {
        sysctl("net/ipv4/ip_forward", "1")?;
    }
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        sysctl("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Sets a setting of the thread's network namespace, where it is not so already: /proc/sys may be read-only.
fn sysctl(name: &str, value: &str) -> Result<(), CniError> {
    let path = format!("/proc/sys/{name}");
    let now = std::fs::read_to_string(&path);
    if now.is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|e| {
        CniError::new(crate::error::Code::Network, format!("cannot set {path} to {value}"))
            .because(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result() -> CniResult {
        CniResult::from_json(&json!({
            "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}, {"address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.2.0.5/16", "gw": "10.1.0.9", "priority": 3, "table": 7, "mtu": 1300}]}))
        .expect("a result")
    }

    #[test]
    fn gateways_are_completed_and_default_routes_added_once() {
        let mut result = result();
        complete_gateways(&mut result, DefaultGateway::Yes);
        assert_eq!(result.ips[1].gateway, "fd00::1".parse().ok());
        let to: Vec<_> = result.routes.iter().map(|r| r.dst.to_string()).collect();
        assert_eq!(to, ["0.0.0.0/0", "10.2.0.5/16", "::/0"]);
    }

    #[test]
    fn routes_take_the_gateway_of_their_family_and_keep_their_attributes() {
        let plan = Plan::on_network(&result());
        assert_eq!(plan.routes[0].gw, "10.1.0.1".parse().ok());
        let other = &plan.routes[1];
        assert_eq!(
            (other.dst.to_string(), other.gw),
            ("10.2.0.0/16".into(), "10.1.0.9".parse().ok())
        );
        assert_eq!((other.priority, other.table, other.mtu), (Some(3), 7, Some(1300)));
    }

    #[test]
    fn point_to_point_reaches_its_network_through_the_gateway() {
        assert!(Plan::point_to_point(&result()).is_err(), "an address without a gateway");
        let mut result = result();
        complete_gateways(&mut result, DefaultGateway::No);
        let plan = Plan::point_to_point(&result).expect("a plan");
        let routes: Vec<_> = plan.routes.iter().map(|r| format!("{} {:?}", r.dst, r.gw)).collect();
        let first = [
            "10.1.0.1/32 None",
            "10.1.0.0/24 Some(10.1.0.1)",
            "fd00::1/128 None",
            "fd00::/64 Some(fd00::1)",
        ];
        assert_eq!(routes[..4], first);
    }
}

//! Mode ptp: a pair of links with routes, and no bridge: the node is every pod's gateway.

use ipnet::IpNet;

use crate::call::Call;
use crate::error::CniError;
use crate::ipam::Ipam;
use crate::netlink::{PrefixRoute, Route, Rtnl};
use crate::netns::Netns;
use crate::result::CniResult;
use crate::survey::Survey;
use crate::undo::Undo;

use super::plan::{Plan, enable_forwarding, expect_gateway};
use super::{Made, changed, invalid, refused, take_addresses, veth};

/// Makes it all.
pub(super) fn make<'a>(
    call: &'a Call,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Made, CniError> {
    let ipam = Ipam::expect(call)?;
    ipam.program()?;
    if ipam.needs_interface() {
        let msg = "mode Ptp has no network that dhcp could ask";
        return Err(invalid(msg.into()));
    }
    let mut rtnl = Rtnl::open()?;
    let host = veth::make(call, netns, &mut rtnl, undo)?;
    let mut result = take_addresses(call, undo)?;
    Plan::point_to_point(&result)?.carry_out(netns, &call.ifname)?;
    for ip in &result.ips {
        // The node answers for the gateway on this link alone: no other address of it is anybody's.
        let gateway = IpNet::from(expect_gateway(ip)?);
        let what = format!("give {} the address {gateway}", host.name);
        rtnl.add_address(host.index, gateway, PrefixRoute::None).map_err(refused(&what))?;
        let what = format!("add the route to {} through {}", ip.address.addr(), host.name);
        rtnl.add_route(host.index, &Route::new(ip.address.addr().into(), None))
            .map_err(refused(&what))?;
    }
    enable_forwarding(&result)?;
    let survey = Survey::expect(netns, &call.ifname)?;
    let interfaces = veth::interfaces(call, &host, netns, &survey);
    result.set_interfaces(interfaces.into());
    Ok(Made { result, survey, tap: None })
}

/// Whether the node still has its end, and its routes to the pod.
pub(super) fn check(call: &Call, result: &CniResult) -> Result<(), CniError> {
    let mut rtnl = Rtnl::open()?;
    let host = veth::host_end(call, &mut rtnl)?;
    let routes = rtnl.routes(host.index).map_err(refused("read the node's routes"))?;
    for ip in result.addresses_of(&call.ifname) {
        if !routes.iter().any(|r| r.dst == IpNet::from(ip.address.addr())) {
            let (address, name) = (ip.address.addr(), &host.name);
            return Err(changed(format!("the node's route to {address} through {name} is gone")));
        }
    }
    Ok(())
}

//! Mode bridge: a pair of links, the host's end a port of a bridge that all pods of the network share.

use ipnet::IpNet;

use crate::call::Call;
use crate::error::{CniError, Code};
use crate::ipam::Ipam;
use crate::netlink::{Link, PrefixRoute, Rtnl};
use crate::netns::Netns;
use crate::result::{CniResult, Interface};
use crate::survey::Survey;
use crate::undo::Undo;

use super::plan::{DefaultGateway, Plan, complete_gateways, enable_forwarding};
use super::{Made, changed, folder, invalid, refused, take_addresses, veth};

/// Makes it all.
pub(super) fn make<'a>(
    call: &'a Call,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Made, CniError> {
    let ipam = Ipam::expect(call)?;
    ipam.program()?;
    let mut rtnl = Rtnl::open()?;
    let lock = folder(call).lock()?;
    let bridge = ensure(call, &mut rtnl, undo)?;
    let host = veth::make(call, netns, &mut rtnl, undo)?;
    join(call, &mut rtnl, &host, &bridge)?;
    drop(lock);
    if ipam.needs_interface() {
        Plan { addresses: Vec::new(), routes: Vec::new() }.carry_out(netns, &call.ifname)?;
    }
    let mut result = take_addresses(call, undo)?;
    complete(call, &mut result);
    Plan::on_network(&result).carry_out(netns, &call.ifname)?;
    let lock = folder(call).lock()?;
    serve(call, &mut rtnl, &bridge, &result, undo)?;
    drop(lock);
    let survey = Survey::expect(netns, &call.ifname)?;
    let [host, container] = veth::interfaces(call, &host, netns, &survey);
    result.set_interfaces(vec![as_interface(&bridge), host, container]);
    Ok(Made { result, survey, tap: None })
}

/// Whether the host's end is still a port of the bridge.
pub(super) fn check(call: &Call) -> Result<(), CniError> {
    let mut rtnl = Rtnl::open()?;
    let port = veth::host_end(call, &mut rtnl)?;
    check_port(call, &mut rtnl, &port)
}

/// Whether a link is a port of the bridge.
pub(super) fn check_port(call: &Call, rtnl: &mut Rtnl, port: &Link) -> Result<(), CniError> {
    let name = call.settings.bridge();
    let bridge = rtnl.link(name).map_err(refused("look for the bridge"))?;
    let bridge = bridge.ok_or_else(|| changed(format!("the bridge {name} is gone")))?;
    match port.controller == Some(bridge.index) {
        true => Ok(()),
        false => Err(changed(format!("{} is no port of {name} any more", port.name))),
    }
}

/// The bridge, made where it is absent. It stays when the last pod goes: others may just be coming.
pub(super) fn ensure<'a>(
    call: &'a Call,
    rtnl: &mut Rtnl,
    undo: &mut Undo<'a>,
) -> Result<Link, CniError> {
    let name = call.settings.bridge();
    if let Some(link) = rtnl.link(name).map_err(refused("look for the bridge"))? {
        if !link.is_bridge {
            return Err(invalid(format!("the link {name} is no bridge")));
        }
        rtnl.set_up(link.index).map_err(refused("bring the bridge up"))?;
        return Ok(link);
    }
    rtnl.add_bridge(name, call.settings.mtu).map_err(refused("make the bridge"))?;
    undo.push(move || remove_if_empty(call));
    let made = rtnl.link(name).map_err(refused("look for the bridge"))?;
    let made = made.ok_or_else(|| invalid(format!("the bridge {name} vanished")))?;
    // With the address that it has it keeps it, whatever ports come and go: neighbours remember it.
    if let Ok(mac) = made.mac.parse() {
        rtnl.set_mac(made.index, mac).map_err(refused("give the bridge its address"))?;
    }
    rtnl.set_up(made.index).map_err(refused("bring the bridge up"))?;
    Ok(made)
}

/// After a failure: a bridge that this call made goes, unless another pod has come meanwhile.
fn remove_if_empty(call: &Call) -> Result<(), CniError> {
    let _lock = folder(call).lock()?;
    let mut rtnl = Rtnl::open()?;
    let bridge = rtnl.link(call.settings.bridge()).map_err(refused("look for the bridge"))?;
    let Some(bridge) = bridge else { return Ok(()) };
    let links = rtnl.links().map_err(refused("list links"))?;
    if links.iter().any(|link| link.controller == Some(bridge.index)) {
        return Ok(());
    }
    rtnl.delete_link(bridge.index).map_err(refused("remove the bridge"))
}

/// Makes a link a port.
pub(super) fn join(
    call: &Call,
    rtnl: &mut Rtnl,
    port: &Link,
    bridge: &Link,
) -> Result<(), CniError> {
    rtnl.set_controller(port.index, bridge.index)
        .map_err(refused("make the link a port of the bridge"))?;
    if call.settings.hairpin_mode {
        rtnl.set_hairpin(port.index).map_err(refused("set hairpin mode"))?;
    }
    Ok(())
}

/// Gateways and default routes, where the bridge is one.
pub(super) fn complete(call: &Call, result: &mut CniResult) {
    let default = match call.settings.is_default_gateway {
        true => DefaultGateway::Yes,
        false => DefaultGateway::No,
    };
    if call.settings.is_gateway() {
        complete_gateways(result, default);
    }
}

/// Gives the bridge the gateways' addresses, and lets the node pass packets on.
pub(super) fn serve<'a>(
    call: &'a Call,
    rtnl: &mut Rtnl,
    bridge: &Link,
    result: &CniResult,
    undo: &mut Undo<'a>,
) -> Result<(), CniError> {
    if !call.settings.is_gateway() {
        return Ok(());
    }
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { continue };
        let address = IpNet::new(gateway, ip.address.prefix_len())
            .map_err(|e| CniError::new(Code::InvalidConfig, "an impossible gateway").because(e))?;
        let what = format!("give {} the address {address}", bridge.name);
        if rtnl.add_address(bridge.index, address, PrefixRoute::Made).map_err(refused(&what))? {
            let index = bridge.index;
            undo.push(move || {
                let gone = Rtnl::open()?.delete_address(index, address);
                gone.map_err(refused("take the gateway's address back"))
            });
        }
    }
    enable_forwarding(result)
}

/// The bridge as the result has it.
pub(super) fn as_interface(link: &Link) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.clone(),
        mtu: Some(link.mtu),
        ..Interface::default()
    }
}

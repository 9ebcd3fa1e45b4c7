//! Mode tap-bridge: a TAP device of the node that is a port of a bridge. The interface itself exists in the pod's stack alone,
//! so that pods of other runtimes cannot use such a network.

use std::io::Read;

use crate::call::Call;
use crate::error::{CniError, Code};
use crate::handoff::Tap;
use crate::ipam::Ipam;
use crate::netlink::{Address, Link, Mac, PrefixRoute, Rtnl};
use crate::netns::Netns;
use crate::result::{CniResult, Interface};
use crate::survey::Survey;
use crate::undo::Undo;

use super::plan::Plan;
use super::{
    Made, beside, bridge, changed, folder, invalid, refused, remove_links, take_addresses,
};

/// Makes it all.
pub(super) fn make<'a>(
    call: &'a Call,
    netns: &'a Netns,
    undo: &mut Undo<'a>,
) -> Result<Made, CniError> {
    let ipam = Ipam::expect(call)?;
    ipam.program()?;
    if ipam.needs_interface() {
        return Err(invalid("mode TapBridge has no interface over which dhcp could ask".into()));
    }
    if call.runtime.insists_on_packet() {
        return Err(invalid(
            "the pod's annotation wants packet, and mode TapBridge has a TAP device alone".into(),
        ));
    }
    let mut rtnl = Rtnl::open()?;
    let lock = folder(call).lock()?;
    let the_bridge = bridge::ensure(call, &mut rtnl, undo)?;
    let alias = call.key().alias(&call.container_id, &call.ifname);
    let tap = beside::make_device(&mut rtnl, &call.key().tap(), &alias, || {
        undo.push(move || remove_links(&call.key(), &call.container_id, &call.ifname));
    })?;
    let mtu = call.settings.mtu.unwrap_or(the_bridge.mtu);
    rtnl.set_mtu(tap.index, mtu).map_err(refused("set the MTU of the TAP device"))?;
    bridge::join(call, &mut rtnl, &tap, &the_bridge)?;
    rtnl.set_up(tap.index).map_err(refused("bring the TAP device up"))?;
    drop(lock);
    let mut result = take_addresses(call, undo)?;
    bridge::complete(call, &mut result);
    let lock = folder(call).lock()?;
    bridge::serve(call, &mut rtnl, &the_bridge, &result, undo)?;
    drop(lock);
    let mac = match call.runtime.mac() {
        Some(mac) => mac,
        None => random_mac()?,
    };
    let device = Interface {
        name: tap.name.clone(),
        mac: tap.mac.clone(),
        mtu: Some(mtu),
        ..Interface::default()
    };
    let container = Interface {
        name: call.ifname.clone(),
        mac: mac.to_string(),
        mtu: Some(mtu),
        sandbox: netns.path().to_owned(),
        ..Interface::default()
    };
    let survey = planned(&container, mtu, &result);
    result.set_interfaces(vec![bridge::as_interface(&the_bridge), device, container]);
    Ok(Made { result, survey, tap: Some(Tap { name: tap.name, netns: None }) })
}

/// Whether the device is still a port of the bridge. What the pod has is its stack's affair: it is taken from the result.
pub(super) fn check(call: &Call, result: &CniResult) -> Result<Survey, CniError> {
    let mut rtnl = Rtnl::open()?;
    let name = call.key().tap();
    let tap = rtnl.link(&name).map_err(refused("look for the TAP device"))?;
    let tap = tap.ok_or_else(|| changed(format!("the TAP device {name} is gone")))?;
    bridge::check_port(call, &mut rtnl, &tap)?;
    let container = result.interfaces.iter().find(|i| i.name == call.ifname);
    let container =
        container.ok_or_else(|| invalid("the result lists no such interface".into()))?;
    Ok(planned(container, tap.mtu, result))
}

/// What the pod's stack shall have.
fn planned(container: &Interface, mtu: u32, result: &CniResult) -> Survey {
    let plan = Plan::on_network(result);
    let address = |(address, _): &(ipnet::IpNet, PrefixRoute)| Address {
        address: *address,
        peer: None,
        no_prefix_route: false,
        link_local: false,
    };
    Survey {
        link: Link {
            index: 0,
            name: container.name.clone(),
            mac: container.mac.clone(),
            mtu,
            up: true,
            is_bridge: false,
            controller: None,
            alias: String::new(),
        },
        addresses: plan.addresses.iter().map(address).collect(),
        routes: plan.routes,
        neighbours: Vec::new(),
    }
}

fn random_mac() -> Result<Mac, CniError> {
    let mut bytes = [0; 6];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(|e| CniError::new(Code::Io, "cannot read /dev/urandom").because(e))?;
    Ok(Mac::of_random_bytes(bytes))
}

//! A pair of links: the host's end named after the attachment, the container's end as the runtime wants it.

use std::os::fd::AsFd;

use crate::call::Call;
use crate::error::CniError;
use crate::netlink::{Link, Rtnl, VethPeer};
use crate::netns::Netns;
use crate::result::Interface;
use crate::survey::Survey;
use crate::undo::Undo;

use super::{changed, invalid, refused, remove_links};

/// Makes it; the host's end is up. The container must not have such an interface.
pub(super) fn make<'a>(
    call: &'a Call,
    netns: &'a Netns,
    rtnl: &mut Rtnl,
    undo: &mut Undo<'a>,
) -> Result<Link, CniError> {
    if Survey::of(netns, &call.ifname)?.is_some() {
        return Err(invalid(format!("the container has an interface {} already", call.ifname))
            .because(netns.path()));
    }
    let key = call.key();
    let name = key.host_link();
    let peer = VethPeer {
        name: &call.ifname,
        netns: netns.as_fd(),
        mtu: call.settings.mtu,
        mac: call.runtime.mac(),
    };
    rtnl.add_veth(&name, &peer)
        .map_err(refused(&format!("make the pair of links {name} and {}", call.ifname)))?;
    undo.push(move || remove_links(&call.key(), &call.container_id, &call.ifname));
    let link = host_end(call, rtnl)?;
    let alias = key.alias(&call.container_id, &call.ifname);
    rtnl.set_alias(link.index, &alias).map_err(refused("name the new link's owner"))?;
    rtnl.set_up(link.index).map_err(refused("bring the host's end up"))?;
    Ok(link)
}

/// The host's end.
pub(super) fn host_end(call: &Call, rtnl: &mut Rtnl) -> Result<Link, CniError> {
    let name = call.key().host_link();
    let link = rtnl.link(&name).map_err(refused("look for the host's end"))?;
    link.ok_or_else(|| changed(format!("the host's end {name} is gone")))
}

/// Both ends as the result has them, after the container's end was set up.
pub(super) fn interfaces(
    call: &Call,
    host: &Link,
    netns: &Netns,
    survey: &Survey,
) -> [Interface; 2] {
    let host = Interface {
        name: host.name.clone(),
        mac: host.mac.clone(),
        mtu: Some(host.mtu),
        ..Interface::default()
    };
    let container = Interface {
        name: call.ifname.clone(),
        mac: survey.link.mac.clone(),
        mtu: Some(survey.link.mtu),
        sandbox: netns.path().to_owned(),
        ..Interface::default()
    };
    [host, container]
}

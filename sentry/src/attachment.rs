//! What was handed over about interfaces of a network namespace: compared with what stands there, and made where the interface
//! exists in the sandbox alone. It must not know who handed it over.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use netstack::ip::IpCidr;
use netstack::ip::route::{NextHop, Placement, Route, Scope};
use netstack::link::NicId;
use netstack::link::shaper::{Limits, Shaper};
use netstack::stack::{RouteError, Stack};
use netstack_host::device::Offloading;
use netstack_host::netns::{Namespace, Redirected};
use sentry_net::netns::{NetError, NetNamespace, NicLink, NicSetup};

use crate::boot::BootError;
use crate::config::{AttachedRoute, Attachment, Carrier, GatewayPlace};

/// The interfaces whose frames pass a TAP device beside them.
pub(crate) fn redirected(all: &[Attachment]) -> Vec<Redirected> {
    let one = |it: &Attachment| match &it.carrier {
        Carrier::Beside(tap) => Some(Redirected { name: it.name.clone(), tap: tap.clone() }),
        Carrier::Itself | Carrier::Elsewhere(..) => None,
    };
    all.iter().filter_map(one).collect()
}

/// How much may pass each interface.
pub(crate) fn limits(all: &[Attachment]) -> HashMap<String, Limits> {
    all.iter().map(|it| (it.name.clone(), it.limits)).collect()
}

/// A link with limits, where there are any.
pub(crate) fn limited(link: NicLink, limits: Limits) -> NicLink {
    if limits == Limits::default() {
        return link;
    }
    match link {
        NicLink::Device(device) => {
            NicLink::Wrapped(device.clone(), Arc::new(Shaper::new(device, limits)))
        }
        NicLink::Wrapped(device, link) => {
            NicLink::Wrapped(device, Arc::new(Shaper::new(link, limits)))
        }
        NicLink::Other(link) => NicLink::Other(Arc::new(Shaper::new(link, limits))),
    }
}

/// Compares what was handed over with what the stack has taken from the namespace; gives what is merely different now. Errors:
/// something that was promised is not there: the interface, its link-layer address, an address.
pub(crate) fn check(stack: &Stack, all: &[Attachment]) -> Result<Vec<String>, BootError> {
    let (nics, addresses) = (stack.nics(), stack.addresses());
    let mut differences = Vec::new();
    for it in all.iter().filter(|it| !matches!(it.carrier, Carrier::Elsewhere(..))) {
        let refuse = |why: String| Err(BootError::Handoff(it.source.clone(), why));
        let Some(nic) = nics.iter().find(|nic| nic.name == it.name) else {
            return refuse(format!("there is no interface {} in the network namespace", it.name));
        };
        if nic.mac != it.mac {
            let (has, said) = (nic.mac, it.mac);
            return refuse(format!("{} has the address {has}, and not {said}", it.name));
        }
        let own: Vec<IpCidr> =
            addresses.iter().filter(|(id, _)| *id == nic.id).map(|(_, own)| own.cidr).collect();
        let told: Vec<IpCidr> = it.addresses.iter().map(|(a, p)| IpCidr::new(*a, *p)).collect();
        if let Some(missing) = told.iter().find(|address| !own.contains(address)) {
            return refuse(format!("{} has no address {missing} (any more)", it.name));
        }
        let mut differs = |what: String| differences.push(format!("{}: {what}", it.source));
        if nic.mtu != it.mtu {
            differs(format!("the MTU of {} is {} by now, and not {}", it.name, nic.mtu, it.mtu));
        }
        let link_local =
            |cidr: &IpCidr| matches!(cidr.address(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        for more in own.iter().filter(|own| !told.contains(own) && !link_local(own)) {
            differs(format!("{} has the address {more} by now, too", it.name));
        }
    }
    Ok(differences)
}

/// Makes the interfaces that exist in the sandbox alone.
pub(crate) fn complete(net: &Arc<NetNamespace>, all: Vec<Attachment>) -> Result<(), BootError> {
    for it in all {
        let Carrier::Elsewhere(tap, namespace) = it.carrier else { continue };
        let device = Namespace::of(namespace).join_tap(&tap, it.mtu, Offloading::Full);
        let device = device.map_err(NetError::Host)?;
        let nic = net.add(NicSetup {
            name: it.name.clone(),
            link: limited(NicLink::Device(device), it.limits),
            mac: it.mac,
            addresses: it.addresses.iter().map(|(a, p)| IpCidr::new(*a, *p)).collect(),
            mtu: it.mtu,
        })?;
        for route in it.routes {
            let dst = IpCidr::new(route.dst.0, route.dst.1);
            match net.stack().place_route(of_attached(route, nic), Placement::Append) {
                Ok(_) | Err(RouteError::Exists) => {}
                Err(source) => return Err(NetError::Route { dst, source }.into()),
            }
        }
    }
    Ok(())
}

fn of_attached(told: AttachedRoute, nic: NicId) -> Route {
    let plain = Route::new(IpCidr::new(told.dst.0, told.dst.1), told.gateway, nic);
    let onlink = told.gateway_place == GatewayPlace::Link;
    let mut route = Route {
        table: told.table,
        scope: Scope(told.scope),
        pref_src: told.source,
        hops: vec![NextHop { onlink, ..NextHop::new(told.gateway, nic) }],
        ..plain
    };
    if let Some(metric) = told.metric {
        route.metric = metric;
    }
    route.metrics.mtu = told.mtu.unwrap_or(0);
    route.metrics.advmss = told.advmss.unwrap_or(0);
    route
}

//! Routes and neighbours through ioctl(2): SIOCADDRT, SIOCDELRT, SIOCSARP, SIOCGARP, SIOCDARP (route(8), arp(7)).

use core::net::{IpAddr, Ipv4Addr};

use netstack::ip::neigh::{Neighbour, State};
use netstack::ip::route::{NextHop, Placement, Protocol, Route, RouteType, Scope};
use netstack::ip::{IpCidr, IpOutput, RouteQuery};
use netstack::link::{MacAddr, NicId};
use netstack::stack::{NeighbourError, RouteError};
use sentry_abi::if_::*;
use sentry_abi::netlink::ARPHRD_ETHER;
use sentry_abi::socket::AF_INET;
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;

use super::netadmin::nic_of;
use crate::netns::NetNamespace;

const RTF_GATEWAY: u16 = 2;
const RTF_HOST: u16 = 4;
const RTF_MTU: u16 = 0x40;
const RTF_WINDOW: u16 = 0x80;
const RTF_IRTT: u16 = 0x100;
const RTF_REJECT: u16 = 0x200;
const ATF_COM: i32 = 2;
const ATF_PERM: i32 = 4;
const ATF_PUBL: i32 = 8;
const ATF_NETMASK: i32 = 0x20;
const ATF_DONTPUB: i32 = 0x40;

/// Family and IPv4 address of a struct sockaddr.
fn sockaddr(bytes: &[u8; 16]) -> (i32, Ipv4Addr) {
    let [f0, f1, _, _, a, b, c, d, ..] = *bytes;
    (i32::from(u16::from_ne_bytes([f0, f1])), Ipv4Addr::new(a, b, c, d))
}

/// The prefix length of a mask that fits an address (bad_mask). Errors: EINVAL.
fn mask_len(mask: Ipv4Addr, address: Ipv4Addr) -> Result<u8> {
    let bits = mask.to_bits();
    let holes = bits.checked_shl(bits.leading_ones()).unwrap_or(0) != 0;
    if holes || address.to_bits() & !bits != 0 {
        return Err(Errno::EINVAL.into());
    }
    Ok(bits.leading_ones() as u8)
}

/// A name in program memory, of at most 15 bytes.
fn read_name(task: &CurrentTask, at: u64) -> Result<String> {
    let mut name = String::new();
    for offset in 0..IFNAMSIZ as u64 - 1 {
        let at = at.checked_add(offset).ok_or(Errno::EFAULT)?;
        match task.mm().read_obj(UserPtr::<u8>::new(at))? {
            0 => break,
            byte => name.push(char::from(byte)),
        }
    }
    Ok(name)
}

/// rtentry_to_fib_config. Errors: EAFNOSUPPORT, EINVAL, ENODEV, EFAULT.
fn route_of(net: &NetNamespace, task: &CurrentTask, entry: &RtEntry) -> Result<Route> {
    let (family, dst) = sockaddr(&entry.dst);
    if family != AF_INET {
        return Err(Errno::EAFNOSUPPORT.into());
    }
    let len = match entry.flags & RTF_HOST {
        0 => {
            let (family, mask) = sockaddr(&entry.genmask);
            if family != AF_INET && (!mask.is_unspecified() || family != 0) {
                return Err(Errno::EAFNOSUPPORT.into());
            }
            mask_len(mask, dst)?
        }
        _ => 32,
    };
    let prefix = IpCidr::new(dst.into(), len);
    let metric = match entry.metric {
        0 => 0,
        metric => u32::try_from(i32::from(metric) - 1).map_err(|_| Errno::EINVAL)?,
    };
    if entry.flags & RTF_REJECT != 0 {
        let refusing = Route::refusing(prefix, RouteType::Unreachable);
        return Ok(Route { metric, scope: Scope::HOST, ..refusing });
    }
    let nic = match entry.dev {
        0 => NicId(0),
        at => nic_of(net.stack(), &read_name(task, at)?)?.id,
    };
    let (family, gateway) = sockaddr(&entry.gateway);
    let via = (family == AF_INET && !gateway.is_unspecified()).then_some(IpAddr::V4(gateway));
    let routed = entry.flags & RTF_GATEWAY != 0 && via.is_some();
    let hops = match (nic, via) {
        (NicId(0), None) => Vec::new(),
        _ => vec![NextHop::new(via, nic)],
    };
    let scope = if routed { Scope::UNIVERSE } else { Scope::LINK };
    let mut route =
        Route { metric, hops, scope, protocol: Protocol::BOOT, ..Route::new(prefix, via, nic) };
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    if entry.flags & RTF_MTU != 0 {
        route.metrics.advmss = small(entry.mtu).saturating_sub(40);
    }
    if entry.flags & RTF_WINDOW != 0 {
        route.metrics.window = small(entry.window);
    }
    if entry.flags & RTF_IRTT != 0 {
        route.metrics.rtt = u32::from(entry.irtt) << 3;
    }
    Ok(route)
}

fn errno_of(error: RouteError) -> Errno {
    match error {
        RouteError::NoNic => Errno::ENODEV,
        RouteError::Down => Errno::ENETDOWN,
        RouteError::Exists => Errno::EEXIST,
        RouteError::NotFound => Errno::ESRCH,
        RouteError::Gateway | RouteError::Invalid => Errno::EINVAL,
        RouteError::GatewayUnreachable => Errno::ENETUNREACH,
    }
}

/// SIOCADDRT and SIOCDELRT of IPv4; the caller is privileged.
pub fn change_route(
    net: &NetNamespace,
    task: &CurrentTask,
    request: u32,
    arg: UserAddr,
) -> Result<u64> {
    let entry = task.mm().read_obj(UserPtr::<RtEntry>::new(arg.0))?;
    let route = route_of(net, task, &entry)?;
    if request == SIOCADDRT {
        if entry.flags & RTF_GATEWAY != 0
            && route.kind == RouteType::Unicast
            && route.via().is_none()
        {
            return Err(Errno::EINVAL.into());
        }
        let placed = net.stack().place_route(route, Placement::Prepend);
        return placed.map(|_| 0).map_err(|error| errno_of(error).into());
    }
    let told = route.hops.first().copied();
    let picked = |own: &Route| {
        (entry.metric == 0 || own.metric == route.metric)
            && own.kind == route.kind
            && told.is_none_or(|told| {
                own.hops.iter().any(|own| {
                    (told.nic == NicId(0) || told.nic == own.nic)
                        && (told.via.is_none() || told.via == own.via)
                })
            })
    };
    let gone = net.stack().delete_route(route.table, route.dst, picked);
    gone.map(|_| 0).map_err(|error| errno_of(error).into())
}

/// The interface of an ARP request: the one that is named, or the one that leads to the address. Errors: ENODEV, ENETUNREACH.
fn arp_nic(net: &NetNamespace, arp: &ArpReq, address: Ipv4Addr) -> Result<NicId> {
    let name = arp.dev.split(|b| *b == 0).next().unwrap_or_default();
    if !name.is_empty() {
        return Ok(nic_of(net.stack(), &String::from_utf8_lossy(name))?.id);
    }
    let route = net.stack().route(net.now(), &RouteQuery::to(address.into()));
    Ok(route.map_err(|_| Errno::ENETUNREACH)?.nic)
}

/// SIOCSARP, SIOCGARP, SIOCDARP (arp_ioctl); the caller of the first and last is privileged.
/// Errors: EPFNOSUPPORT, EINVAL, ENXIO, ENODEV, ENETUNREACH.
pub fn arp(net: &NetNamespace, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
    let mut arp = task.mm().read_obj(UserPtr::<ArpReq>::new(arg.0))?;
    let (family, address) = sockaddr(&arp.pa);
    if family != AF_INET {
        return Err(Errno::EPFNOSUPPORT.into());
    }
    if arp.flags & ATF_PUBL == 0 && arp.flags & (ATF_NETMASK | ATF_DONTPUB) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let proxy = arp.flags & ATF_PUBL != 0;
    let nic = arp_nic(net, &arp, address)?;
    let ip = IpAddr::V4(address);
    match request {
        SIOCSARP => {
            let kind = u16::from_ne_bytes([arp.ha[0], arp.ha[1]]);
            if kind != 0 && kind != ARPHRD_ETHER {
                return Err(Errno::EINVAL.into());
            }
            let [_, _, a, b, c, d, e, f, ..] = arp.ha;
            let state = if arp.flags & ATF_PERM != 0 { State::Permanent } else { State::Stale };
            let mac = Some(MacAddr([a, b, c, d, e, f]));
            let neighbour = Neighbour { proxy, ..Neighbour::new(ip, mac, state) };
            let set = net.stack().set_neighbour(net.now(), nic, neighbour);
            set.map(|()| 0).map_err(|error| {
                match error {
                    NeighbourError::NoNic => Errno::ENODEV,
                    NeighbourError::Full => Errno::ENOBUFS,
                    NeighbourError::NotFound => Errno::ENXIO,
                }
                .into()
            })
        }
        SIOCDARP => {
            let gone = match proxy {
                true => net.stack().remove_proxy(nic, ip),
                false => net.stack().remove_neighbour(nic, ip),
            };
            match gone {
                Ok(true) => Ok(0),
                _ => Err(Errno::ENXIO.into()),
            }
        }
        _ => {
            let all = net.stack().neighbours();
            let found = all.iter().find(|(id, own)| *id == nic && own.address == ip && !own.proxy);
            let (_, own) = found.ok_or(Errno::ENXIO)?;
            let mac = own.mac.map_or([0; 6], |mac| mac.0);
            arp.ha = [0; 16];
            arp.ha[..2].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
            arp.ha[2..8].copy_from_slice(&mac);
            arp.flags = arp_flags(own);
            if let Some(nic) = net.stack().nics().iter().find(|info| info.id == nic) {
                arp.dev = super::netdev::name_bytes(&nic.name);
            }
            task.mm().write_obj(UserPtr::<ArpReq>::new(arg.0), &arp)?;
            Ok(0)
        }
    }
}

/// ATF_* of a neighbour (arp_state_to_flags).
pub fn arp_flags(own: &Neighbour) -> i32 {
    match own.state {
        _ if own.proxy => ATF_PUBL | ATF_PERM,
        State::Permanent => ATF_PERM | ATF_COM,
        State::Incomplete | State::Failed => 0,
        _ => ATF_COM,
    }
}

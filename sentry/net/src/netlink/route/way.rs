//! RTM_GETROUTE for one destination, as `ip route get` asks (net/ipv4/route.c, net/ipv6/route.c).

use core::net::IpAddr;

use netstack::ip::route::{RouteType, Scope};
use netstack::ip::tables::{Lookup, Refusal as NoWay};
use netstack::ip::{Family, Flow, IpOutput, PROTO_UDP, Route, RouteQuery, SourcePreference};
use netstack::link::NicId;
use netstack::socket::SocketError;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};

use super::super::build::Message;
use super::super::parse::{Attributes, Refusal, Request, Strictness};
use super::super::table::Context;
use super::routes::{POLICY, loopback, message, put_cache, put_metrics};
use super::{bytes_of, nic_by_index};

/// RTCF_LOCAL, RTCF_BROADCAST and RTCF_MULTICAST of linux/in_route.h.
const RTCF_LOCAL: u32 = 0x8000_0000;
const RTCF_BROADCAST: u32 = 0x1000_0000;
const RTCF_MULTICAST: u32 = 0x2000_0000;

/// The errno of a lookup that found nothing.
fn errno_of(refusal: NoWay) -> Errno {
    match refusal {
        NoWay::NoRoute | NoWay::Unreachable => Errno::ENETUNREACH,
        NoWay::HostUnreachable => Errno::EHOSTUNREACH,
        NoWay::Blackhole => Errno::EINVAL,
        NoWay::Prohibited => Errno::EACCES,
    }
}

/// What a request asks about.
struct Asked {
    dst: IpAddr,
    src: Option<IpAddr>,
    iif: Option<NicId>,
    oif: Option<NicId>,
    flow: Flow,
    tells_uid: bool,
}

fn asked(cx: &Context<'_>, fixed: &RtMsg, attributes: &Attributes<'_>) -> Result<Asked, Refusal> {
    let v4 = i32::from(fixed.family) == AF_INET;
    let bits = if v4 { 32 } else { 128 };
    if cx.strictness == Strictness::Strict && fixed.dst_len != 0 && fixed.dst_len != bits {
        let text = "ipv4: Invalid values in header for route get request";
        return Err(Refusal::new(Errno::EINVAL, text));
    }
    let of_family = |kind| -> Result<Option<IpAddr>, Refusal> {
        let found = attributes.address(kind)?;
        let wrong = found.is_some_and(|found: IpAddr| found.is_ipv4() != v4);
        if wrong { Err(Errno::EINVAL.into()) } else { Ok(found) }
    };
    let unspecified = if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0u8; 16]) };
    let nic = |kind| -> Result<Option<NicId>, Refusal> {
        match attributes.number(kind).filter(|index| *index != 0) {
            Some(index) => nic_by_index(cx, index).map(|nic| Some(nic.id)),
            None => Ok(None),
        }
    };
    let port = |kind| {
        let port = attributes.find(kind).and_then(|port| port.value.first_chunk::<2>());
        port.map_or(0, |port| u16::from_be_bytes(*port))
    };
    let iif = nic(RTA_IIF)?;
    let unnamed = if v4 { PROTO_UDP } else { 0 };
    let given = attributes.number(RTA_UID);
    let flow = Flow {
        mark: attributes.number(RTA_MARK).unwrap_or(0),
        tos: fixed.tos,
        // Who names none asks about UDP, of IPv4 (inet_rtm_getroute).
        protocol: attributes.number(RTA_IP_PROTO).map_or(unnamed, |protocol| protocol as u8),
        sport: port(RTA_SPORT),
        dport: port(RTA_DPORT),
        uid: given.unwrap_or(cx.creds.uid),
        label: 0,
    };
    Ok(Asked {
        dst: of_family(RTA_DST)?.unwrap_or(unspecified),
        src: of_family(RTA_SRC)?.filter(|src| !src.is_unspecified()),
        iif,
        oif: nic(RTA_OIF)?,
        flow,
        tells_uid: given.is_some() || iif.is_none(),
    })
}

/// The way to one destination. Errors: EINVAL, ENODEV, and what a send would get.
pub fn one(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let fixed: RtMsg = request.fixed()?;
    if !matches!(request.family(), AF_INET | AF_INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let attributes = request.attributes::<RtMsg>(POLICY, Strictness::Liberal)?;
    let asked = asked(cx, &fixed, &attributes)?;
    let Asked { dst, src, iif, oif, flow, .. } = asked;
    let ask = Lookup { src, dst, iif, oif, scope: Scope::UNIVERSE, flow, hash: 0 };
    let (route, hop) = cx.stack().lookup_route(&ask).map_err(errno_of)?;
    let (header, now) = (&request.header, cx.now);
    if fixed.flags & RTM_F_FIB_MATCH != 0 {
        return Ok(vec![message(now, header, RTM_NEWROUTE, &route, loopback(cx))]);
    }
    // A packet that comes in has its source; one that this host makes gets the one that a socket would get.
    let source = match iif {
        Some(_) => src.unwrap_or(dst),
        None => {
            let prefer = SourcePreference::Default;
            let query = RouteQuery { src, dst, nic: oif, flow, prefer, scope: Scope::UNIVERSE };
            let info = cx.stack().route(now, &query);
            info.map_err(|error| crate::errno::of_socket(SocketError::from(error)))?.src
        }
    };
    let mut route = Route { hops: hop.into_iter().collect(), ..route };
    if dst.is_multicast() && dst.is_ipv4() {
        // A group is on the link, whatever route leads there (ip_route_output_key_hash_rcu).
        route.kind = RouteType::Multicast;
        route.hops.iter_mut().for_each(|hop| hop.via = None);
    }
    Ok(vec![match dst {
        IpAddr::V4(_) => message_v4(cx, header, &fixed, &asked, (&route, source)),
        IpAddr::V6(_) => message_v6(cx, header, &asked, (&route, source)),
    }])
}

/// Whether this host hears a group on the link that leads there: of 224.0.0.1 every host is a member.
fn is_member(cx: &Context<'_>, route: &Route, group: IpAddr) -> bool {
    let topology = cx.stack().topology();
    let nic = route.nic().and_then(|nic| topology.nic(nic));
    group == IpAddr::from([224, 0, 0, 1]) || nic.is_some_and(|nic| nic.is_member(group))
}

/// rt_fill_info
fn message_v4(
    cx: &Context<'_>,
    header: &NlMsgHdr,
    request: &RtMsg,
    asked: &Asked,
    (route, source): (&Route, IpAddr),
) -> Message {
    // Until a rule is added, Linux keeps the tables local and main as one, which it calls main (fib_trie_unmerge).
    let local = u32::from(RT_TABLE_LOCAL);
    let merged = cx.stack().rules(Family::V4).len() == 3 && route.table == local;
    let table = match request.flags & RTM_F_LOOKUP_TABLE {
        0 => u32::from(RT_TABLE_MAIN),
        _ if merged => u32::from(RT_TABLE_MAIN),
        _ => route.table,
    };
    let cast = match route.kind as u8 {
        RTN_LOCAL => RTCF_LOCAL,
        RTN_BROADCAST => RTCF_BROADCAST | RTCF_LOCAL,
        RTN_MULTICAST if is_member(cx, route, asked.dst) => RTCF_MULTICAST | RTCF_LOCAL,
        RTN_MULTICAST => RTCF_MULTICAST,
        _ => 0,
    };
    let fixed = RtMsg {
        family: AF_INET as u8,
        dst_len: 32,
        src_len: if asked.src.is_some() { 32 } else { 0 },
        tos: asked.flow.tos,
        table: u8::try_from(table).unwrap_or(RT_TABLE_COMPAT),
        protocol: RTPROT_UNSPEC,
        scope: RT_SCOPE_UNIVERSE,
        kind: route.kind as u8,
        flags: RTM_F_CLONED | cast,
    };
    let mut message = Message::new(RTM_NEWROUTE, header, &fixed);
    message.number(RTA_TABLE, table);
    message.attribute(RTA_DST, &bytes_of(asked.dst));
    if let Some(src) = asked.src {
        message.attribute(RTA_SRC, &bytes_of(src));
    }
    let device = match route.kind as u8 {
        RTN_LOCAL => loopback(cx).or(route.nic()),
        _ => route.nic(),
    };
    if let Some(nic) = device {
        message.number(RTA_OIF, nic.0);
    }
    if asked.iif.is_none() && asked.src != Some(source) {
        message.attribute(RTA_PREFSRC, &bytes_of(source));
    }
    if let Some(via) = route.via() {
        message.attribute(RTA_GATEWAY, &bytes_of(via));
    }
    put_metrics(&mut message, &route.metrics);
    if asked.flow.mark != 0 {
        message.number(RTA_MARK, asked.flow.mark);
    }
    if asked.tells_uid {
        message.number(RTA_UID, asked.flow.uid);
    }
    if let Some(iif) = asked.iif {
        message.number(RTA_IIF, iif.0);
    }
    put_cache(&mut message, 0);
    message
}

/// rt6_fill_node with a destination
fn message_v6(
    cx: &Context<'_>,
    header: &NlMsgHdr,
    asked: &Asked,
    (route, source): (&Route, IpAddr),
) -> Message {
    let fixed = RtMsg {
        family: AF_INET6 as u8,
        dst_len: 128,
        src_len: 128,
        tos: 0,
        table: u8::try_from(route.table).unwrap_or(RT_TABLE_COMPAT),
        protocol: route.protocol.0,
        scope: RT_SCOPE_UNIVERSE,
        kind: route.kind as u8,
        flags: 0,
    };
    let mut message = Message::new(RTM_NEWROUTE, header, &fixed);
    message.attribute(RTA_DST, &bytes_of(asked.dst));
    let from = asked.src.unwrap_or(IpAddr::from([0u8; 16]));
    message.attribute(RTA_SRC, &bytes_of(from));
    if let Some(iif) = asked.iif {
        message.number(RTA_IIF, iif.0);
    }
    message.number(RTA_TABLE, route.table);
    if asked.iif.is_none() {
        message.attribute(RTA_PREFSRC, &bytes_of(source));
    }
    put_metrics(&mut message, &route.metrics);
    message.number(RTA_PRIORITY, route.metric);
    if let Some(via) = route.via() {
        message.attribute(RTA_GATEWAY, &bytes_of(via));
    }
    let device = match route.kind as u8 {
        RTN_LOCAL => loopback(cx).or(route.nic()),
        _ => route.nic(),
    };
    if let Some(nic) = device {
        message.number(RTA_OIF, nic.0);
    }
    put_cache(&mut message, 0);
    message.byte(RTA_PREF, 0);
    message
}

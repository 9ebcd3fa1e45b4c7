//! RTM_*ROUTE: routes as they are listed and changed (net/ipv4/fib_frontend.c, fib_semantics.c; net/ipv6/route.c).

use core::net::IpAddr;
use core::time::Duration;

use netstack::ip::IpCidr;
use netstack::ip::route::{
    Metrics, NextHop, Placement, Preference, Protocol, Route, RouteType, Scope,
};
use netstack::link::{NicId, NicKind};
use netstack::stack::{RouteError, Stack};
use netstack::time::Instant;
use netstack::transport::tcp::congestion;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6};
use zerocopy::{FromBytes, IntoBytes};

use super::super::build::Message;
use super::super::parse::{Attributes, Refusal, Request, Rule, Shape, Strictness, address};
use super::super::table::{Context, Dump};
use super::{asked, bytes_of, number_of};

/// What any route request may carry.
pub const POLICY: &[Rule] = &[
    (RTA_DST, Shape::Address),
    (RTA_SRC, Shape::Address),
    (RTA_IIF, Shape::Number(4)),
    (RTA_OIF, Shape::Number(4)),
    (RTA_GATEWAY, Shape::Address),
    (RTA_PRIORITY, Shape::Number(4)),
    (RTA_PREFSRC, Shape::Address),
    (RTA_METRICS, Shape::Nested),
    (RTA_MULTIPATH, Shape::AtLeast(8)),
    (RTA_TABLE, Shape::Number(4)),
    (RTA_MARK, Shape::Number(4)),
    (RTA_VIA, Shape::AtLeast(6)),
    (RTA_PREF, Shape::Number(1)),
    (RTA_EXPIRES, Shape::Number(4)),
    (RTA_UID, Shape::Number(4)),
    (RTA_IP_PROTO, Shape::Number(1)),
    (RTA_SPORT, Shape::Number(2)),
    (RTA_DPORT, Shape::Number(2)),
    (RTA_NH_ID, Shape::Number(4)),
];
const HOP: usize = size_of::<RtNextHop>();

/// RTA_METRICS as (number, value) pairs, without what is not told.
fn metric_rows(metrics: &Metrics) -> [(u16, u32); 12] {
    [
        (RTAX_LOCK, u32::from(metrics.mtu_locked) << RTAX_MTU),
        (RTAX_MTU, metrics.mtu),
        (RTAX_WINDOW, metrics.window),
        (RTAX_RTT, metrics.rtt),
        (RTAX_RTTVAR, metrics.rttvar),
        (RTAX_SSTHRESH, metrics.ssthresh),
        (RTAX_CWND, metrics.cwnd),
        (RTAX_ADVMSS, metrics.advmss),
        (RTAX_HOPLIMIT, u32::from(metrics.hop_limit)),
        (RTAX_INITCWND, metrics.initcwnd),
        (RTAX_RTO_MIN, metrics.rto_min_ms),
        (RTAX_INITRWND, metrics.initrwnd),
    ]
}

/// Adds RTA_METRICS where a route tells any.
pub fn put_metrics(message: &mut Message, metrics: &Metrics) {
    if *metrics == Metrics::default() {
        return;
    }
    // Without NLA_F_NESTED, as Linux sends it: older tools look for the bare number.
    let nest = message.nest(RTA_METRICS);
    for (kind, value) in metric_rows(metrics).into_iter().filter(|(_, value)| *value != 0) {
        message.number(kind, value);
    }
    if metrics.quickack {
        message.number(RTAX_QUICKACK, 1);
    }
    if let Some(name) = metrics.congctl {
        message.string(RTAX_CC_ALGO, name);
    }
    message.end(nest);
}

fn hop_flags(hop: &NextHop) -> u8 {
    if hop.onlink { RTNH_F_ONLINK as u8 } else { 0 }
}

/// Adds the way of a route, or RTA_MULTIPATH.
fn put_hops(message: &mut Message, hops: &[NextHop]) {
    match hops {
        [] => {}
        [hop] => {
            if let Some(via) = hop.via {
                message.attribute(RTA_GATEWAY, &bytes_of(via));
            }
            message.number(RTA_OIF, hop.nic.0);
        }
        _ => {
            let nest = message.nest(RTA_MULTIPATH);
            for hop in hops {
                let gateway = hop.via.map(bytes_of).unwrap_or_default();
                let extra =
                    if gateway.is_empty() { 0 } else { size_of::<RtAttr>() + gateway.len() };
                let weight = hop.weight.clamp(1, 256) - 1;
                let fixed = RtNextHop {
                    len: (HOP + extra) as u16,
                    flags: hop_flags(hop),
                    hops: weight as u8,
                    ifindex: hop.nic.0 as i32,
                };
                message.raw(fixed.as_bytes());
                if !gateway.is_empty() {
                    message.attribute(RTA_GATEWAY, &gateway);
                }
            }
            message.end(nest);
        }
    }
}

/// RTM_NEWROUTE or RTM_DELROUTE of a route (fib_dump_info, rt6_fill_node).
pub fn message(
    cx_now: Instant,
    header: &NlMsgHdr,
    kind: u16,
    route: &Route,
    loopback: Option<NicId>,
) -> Message {
    let address = route.dst.address();
    let v6 = address.is_ipv6();
    let flags = match route.hops.as_slice() {
        [hop] => u32::from(hop_flags(hop)),
        _ => 0,
    };
    let fixed = RtMsg {
        family: number_of(address) as u8,
        dst_len: route.dst.prefix_len(),
        src_len: 0,
        tos: route.tos,
        table: u8::try_from(route.table).unwrap_or(RT_TABLE_COMPAT),
        protocol: route.protocol.0,
        scope: route.scope.0,
        kind: route.kind as u8,
        flags,
    };
    let mut message = Message::new(kind, header, &fixed);
    message.number(RTA_TABLE, route.table);
    if route.dst.prefix_len() > 0 {
        message.attribute(RTA_DST, &bytes_of(address));
    }
    if v6 || route.metric != 0 {
        message.number(RTA_PRIORITY, route.metric);
    }
    put_metrics(&mut message, &route.metrics);
    if let Some(source) = route.pref_src {
        message.attribute(RTA_PREFSRC, &bytes_of(source));
    }
    put_hops(&mut message, &route.hops);
    if v6 {
        // What refuses hangs on the loopback interface.
        if route.hops.is_empty()
            && let Some(loopback) = loopback
        {
            message.number(RTA_OIF, loopback.0);
        }
        let expires = route.expires.map_or(0, |at| {
            let left = at.nanos().saturating_sub(cx_now.nanos()) / 10_000_000;
            u32::try_from(left).unwrap_or(u32::MAX)
        });
        put_cache(&mut message, expires);
        message.byte(RTA_PREF, preference_number(route.preference));
    }
    message
}

/// struct rta_cacheinfo with the hundredths of a second until the route ends.
pub fn put_cache(message: &mut Message, expires: u32) {
    message.object(RTA_CACHEINFO, &[0, 0, expires, 0, 0, 0, 0, 0u32]);
}

fn preference_number(preference: Preference) -> u8 {
    match preference {
        Preference::Medium => 0,
        Preference::High => 1,
        Preference::Low => 3,
    }
}

/// The loopback interface.
pub fn loopback(cx: &Context<'_>) -> Option<NicId> {
    loopback_of(cx.stack())
}

/// The loopback interface of a stack.
pub fn loopback_of(stack: &Stack) -> Option<NicId> {
    let nics = stack.nics();
    nics.iter().find(|nic| nic.kind == NicKind::Loopback).map(|nic| nic.id)
}

/// What a listing is narrowed to.
#[derive(Default)]
struct Filter {
    table: Option<u32>,
    protocol: Option<u8>,
    kind: Option<u8>,
    nic: Option<u32>,
}

/// ip_valid_fib_dump_req. Errors: EINVAL.
fn filter(cx: &Context<'_>, request: &Request<'_>) -> Result<Filter, Refusal> {
    if cx.strictness != Strictness::Strict {
        return Ok(Filter::default());
    }
    let fixed: RtMsg = request.fixed()?;
    if (fixed.dst_len, fixed.src_len, fixed.tos) != (0, 0, 0) {
        let text = "Invalid values in header for FIB dump request";
        return Err(Refusal::new(Errno::EINVAL, text));
    }
    if fixed.scope != 0 {
        let text = "Invalid values in header for FIB dump request";
        return Err(Refusal::new(Errno::EINVAL, text));
    }
    let attributes = request.attributes::<RtMsg>(POLICY, Strictness::Strict)?;
    for attribute in attributes.iter() {
        if !matches!(attribute.kind, RTA_TABLE | RTA_OIF) {
            let text = "Unsupported attribute in dump request";
            return Err(Refusal::new(Errno::EINVAL, text).at(attribute));
        }
    }
    let some = |number: u8| (number != 0).then_some(number);
    let table = attributes.number(RTA_TABLE).filter(|table| *table != 0);
    Ok(Filter {
        table: table.or(some(fixed.table).map(u32::from)),
        protocol: some(fixed.protocol),
        kind: some(fixed.kind),
        nic: attributes.number(RTA_OIF),
    })
}

/// All routes of all tables, or what a strict request narrows them to. Errors: EINVAL, ENODEV, ENOENT.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let filter = filter(cx, request)?;
    let family = request.family();
    // Cached routes (RTM_F_CLONED) are the exceptions of paths, which are not kept as routes here.
    if request.fixed::<RtMsg>().is_ok_and(|fixed| fixed.flags & RTM_F_CLONED != 0) {
        return Ok(());
    }
    if filter.nic.is_some_and(|index| !cx.stack().nics().iter().any(|nic| nic.id.0 == index)) {
        return Err(Errno::ENODEV.into());
    }
    let mut routes = cx.stack().routes();
    if let Some(table) = filter.table {
        dump.flags = NLM_F_DUMP_FILTERED;
        let own = |route: &Route| route.table == table && asked(family, route.dst.address());
        let known = table == u32::from(RT_TABLE_MAIN)
            || cx.net.netlink().knows_table(table)
            || routes.iter().any(own);
        match family {
            AF_INET if !known => {
                return Err(Refusal::new(Errno::ENOENT, "ipv4: FIB table does not exist"));
            }
            AF_INET6 if !known => {
                return Err(Refusal::new(Errno::ENOENT, "ipv6: FIB table does not exist"));
            }
            _ => {}
        }
    }
    let loopback = loopback(cx);
    routes.retain(|route| {
        asked(family, route.dst.address())
            && filter.table.is_none_or(|table| table == route.table)
            && filter.protocol.is_none_or(|protocol| protocol == route.protocol.0)
            && filter.kind.is_none_or(|kind| kind == route.kind as u8)
            && filter.nic.is_none_or(|nic| route.uses(NicId(nic)))
    });
    let rows = routes.iter();
    dump.messages
        .extend(rows.map(|route| message(cx.now, &request.header, RTM_NEWROUTE, route, loopback)));
    Ok(())
}

/// The family of a request that changes routes. Errors: EOPNOTSUPP.
fn check_family(request: &Request<'_>) -> Result<i32, Refusal> {
    match request.family() {
        family @ (AF_INET | AF_INET6) => Ok(family),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

fn route_type(number: u8) -> Result<RouteType, Refusal> {
    Ok(match number {
        RTN_UNSPEC | RTN_UNICAST => RouteType::Unicast,
        RTN_LOCAL => RouteType::Local,
        RTN_BROADCAST => RouteType::Broadcast,
        RTN_ANYCAST => RouteType::Anycast,
        RTN_MULTICAST => RouteType::Multicast,
        RTN_BLACKHOLE => RouteType::Blackhole,
        RTN_UNREACHABLE => RouteType::Unreachable,
        RTN_PROHIBIT => RouteType::Prohibit,
        RTN_THROW => RouteType::Throw,
        _ => return Err(Refusal::new(Errno::EINVAL, "Invalid route type")),
    })
}

/// RTA_VIA: a family number and an address. Only the route's own family is taken.
fn via(attributes: &Attributes<'_>, family: i32) -> Result<Option<IpAddr>, Refusal> {
    if let Some(gateway) = attributes.address(RTA_GATEWAY)? {
        return match number_of(gateway) == family {
            true => Ok(Some(gateway).filter(|gateway| !gateway.is_unspecified())),
            false => Err(Refusal::new(Errno::EINVAL, "Invalid gateway")),
        };
    }
    let Some(via) = attributes.find(RTA_VIA) else { return Ok(None) };
    match via.value.get(2..).and_then(address) {
        Some(gateway) if number_of(gateway) == family => Ok(Some(gateway)),
        // A gateway of the other family (RFC 8950) is no part of this stack's routes.
        Some(_) => Err(Refusal::new(Errno::EINVAL, "IPv6 routes do not support RTA_VIA attribute")),
        None => Err(Refusal::new(Errno::EINVAL, "Invalid attribute length for RTA_VIA")),
    }
}

/// RTA_MULTIPATH: ways behind one another, each with attributes of its own. Errors: EINVAL.
fn multipath(bytes: &[u8], offset: u32, family: i32) -> Result<Vec<NextHop>, Refusal> {
    let invalid = || {
        let text = "Invalid nexthop configuration - extra data after nexthops";
        Refusal::new(Errno::EINVAL, text)
    };
    let mut hops = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (fixed, _) = RtNextHop::read_from_prefix(rest).map_err(|_| invalid())?;
        let len = usize::from(fixed.len);
        let inside = rest.get(HOP..len).ok_or_else(invalid)?;
        let attributes = Attributes::parse(inside, offset, POLICY, Strictness::Liberal)?;
        if attributes.find(RTA_ENCAP).is_some() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        hops.push(NextHop {
            via: via(&attributes, family)?,
            nic: NicId(fixed.ifindex.max(0) as u32),
            weight: u16::from(fixed.hops) + 1,
            onlink: u32::from(fixed.flags) & RTNH_F_ONLINK != 0,
        });
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(hops)
}

/// RTA_METRICS. Errors: EINVAL for values out of bounds.
fn metrics(attributes: &Attributes<'_>) -> Result<Metrics, Refusal> {
    let mut metrics = Metrics::default();
    let Some(inside) = attributes.nested(RTA_METRICS, &[], Strictness::Liberal)? else {
        return Ok(metrics);
    };
    for attribute in inside.iter() {
        let number = attribute.number();
        match attribute.kind {
            RTAX_LOCK if number & (1 << RTAX_CC_ALGO) != 0 => {
                return Err(Refusal::new(Errno::EOPNOTSUPP, "Lock is not supported").at(attribute));
            }
            RTAX_LOCK => metrics.mtu_locked = number & (1 << RTAX_MTU) != 0,
            // fib_metrics.c: no more than a packet can have.
            RTAX_MTU => metrics.mtu = number.min(65_535 - 15),
            RTAX_ADVMSS => metrics.advmss = number.min(65_535 - 40),
            RTAX_HOPLIMIT => metrics.hop_limit = number.min(255) as u8,
            RTAX_INITCWND => metrics.initcwnd = number,
            RTAX_INITRWND => metrics.initrwnd = number,
            RTAX_RTO_MIN => metrics.rto_min_ms = number,
            RTAX_WINDOW => metrics.window = number,
            RTAX_RTT => metrics.rtt = number,
            RTAX_RTTVAR => metrics.rttvar = number,
            RTAX_SSTHRESH => metrics.ssthresh = number,
            RTAX_CWND => metrics.cwnd = number,
            RTAX_QUICKACK => metrics.quickack = number != 0,
            0 => {}
            RTAX_CC_ALGO => {
                let known = congestion::known(attribute.text());
                let unknown = || Refusal::new(Errno::EINVAL, "Unknown tcp congestion algorithm");
                metrics.congctl = Some(known.ok_or_else(unknown)?);
            }
            RTAX_REORDERING | RTAX_FEATURES => {
                return Err(
                    Refusal::new(Errno::EOPNOTSUPP, "Metric is not supported").at(attribute)
                );
            }
            _ => return Err(Refusal::new(Errno::EINVAL, "Invalid metric type").at(attribute)),
        }
    }
    Ok(metrics)
}

/// rtm_to_fib_config, rtm_to_fib6_config. Errors: EINVAL, EOPNOTSUPP, ENOENT.
pub fn route(cx: &Context<'_>, request: &Request<'_>, family: i32) -> Result<Route, Refusal> {
    let fixed: RtMsg = request.fixed()?;
    let attributes = request.attributes::<RtMsg>(POLICY, Strictness::Liberal)?;
    let bits = if family == AF_INET { 32 } else { 128 };
    if fixed.dst_len > bits {
        return Err(Refusal::new(Errno::EINVAL, "Invalid prefix length"));
    }
    if fixed.src_len != 0 {
        let text = "Specifying source address requires IPV6_SUBTREES to be enabled";
        return Err(Refusal::new(Errno::EINVAL, text));
    }
    if attributes.find(RTA_NH_ID).is_some() {
        return Err(Refusal::new(Errno::EINVAL, "Nexthop id does not exist"));
    }
    if attributes.find(RTA_ENCAP).is_some() {
        return Err(Refusal::new(Errno::EOPNOTSUPP, "Specified device for encap is not supported"));
    }
    let unspecified =
        if family == AF_INET { IpAddr::from([0; 4]) } else { IpAddr::from([0u8; 16]) };
    let dst = attributes.address(RTA_DST)?.unwrap_or(unspecified);
    if number_of(dst) != family {
        return Err(Refusal::new(Errno::EINVAL, "Invalid destination address length"));
    }
    let prefix = IpCidr::new(dst, fixed.dst_len);
    if family == AF_INET && prefix.network().address() != dst {
        return Err(Refusal::new(Errno::EINVAL, "Invalid prefix for given prefix length"));
    }
    let kind = route_type(fixed.kind)?;
    let nic = NicId(attributes.number(RTA_OIF).unwrap_or(0));
    let gateway = via(&attributes, family)?;
    let onlink = fixed.flags & RTNH_F_ONLINK != 0;
    let hops = match attributes.find(RTA_MULTIPATH) {
        Some(ways) => multipath(ways.value, ways.offset + 4, family)?,
        None if nic == NicId(0) && gateway.is_none() => Vec::new(),
        None => vec![NextHop { onlink, ..NextHop::new(gateway, nic) }],
    };
    let table = attributes.number(RTA_TABLE).unwrap_or(u32::from(fixed.table));
    let metric = attributes.number(RTA_PRIORITY).unwrap_or(0);
    let base = Route::new(prefix, gateway, nic);
    Ok(Route {
        table: if table == 0 { u32::from(RT_TABLE_MAIN) } else { table },
        kind,
        scope: if family == AF_INET { Scope(fixed.scope) } else { Scope::UNIVERSE },
        protocol: Protocol(fixed.protocol),
        metric: if metric == 0 && family == AF_INET6 { 1024 } else { metric },
        tos: fixed.tos,
        pref_src: attributes.address(RTA_PREFSRC)?,
        hops,
        metrics: metrics(&attributes)?,
        expires: attributes
            .number(RTA_EXPIRES)
            .map(|secs| cx.now + Duration::from_secs(u64::from(secs))),
        preference: match attributes.number(RTA_PREF) {
            Some(1) => Preference::High,
            Some(3) => Preference::Low,
            _ => Preference::Medium,
        },
        ..base
    })
}

fn refusal(error: RouteError, family: i32) -> Refusal {
    let v4 = family == AF_INET;
    match error {
        RouteError::NoNic => Errno::ENODEV.into(),
        RouteError::Down => Refusal::new(Errno::ENETDOWN, "Nexthop device is not up"),
        RouteError::Exists => Errno::EEXIST.into(),
        RouteError::NotFound => Errno::ENOENT.into(),
        RouteError::Gateway if v4 => Refusal::new(Errno::EINVAL, "Nexthop has invalid gateway"),
        RouteError::Gateway => Refusal::new(Errno::EINVAL, "Invalid gateway address"),
        RouteError::GatewayUnreachable if v4 => {
            Refusal::new(Errno::ENETUNREACH, "Nexthop has invalid gateway")
        }
        RouteError::GatewayUnreachable => Errno::EHOSTUNREACH.into(),
        RouteError::Invalid if v4 => Refusal::new(Errno::EINVAL, "Invalid prefsrc address"),
        RouteError::Invalid => Refusal::new(Errno::EINVAL, "Invalid source address"),
    }
}

/// RTM_NEWROUTE.
pub fn add(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let family = check_family(request)?;
    let route = route(cx, request, family)?;
    let flags = request.header.flags;
    let has = |flag: u16| flags & flag != 0;
    let placement = match () {
        () if has(NLM_F_EXCL) => Placement::Exclusive,
        () if has(NLM_F_REPLACE) && has(NLM_F_CREATE) => Placement::Replace,
        () if has(NLM_F_REPLACE) || !has(NLM_F_CREATE) => Placement::Change,
        () if has(NLM_F_APPEND) => Placement::Append,
        () => Placement::Prepend,
    };
    // A table is there from its first route on, also when that is gone.
    cx.net.netlink().note_table(route.table);
    let placed = cx.stack().place_route(route, placement);
    placed.map(|_| Vec::new()).map_err(|error| refusal(error, family))
}

/// RTM_DELROUTE: the first route that agrees with all that is told (fib_table_delete, ip6_route_del). Errors: ESRCH.
pub fn remove(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let family = check_family(request)?;
    let fixed: RtMsg = request.fixed()?;
    let wanted = route(cx, request, family)?;
    let attributes = request.attributes::<RtMsg>(POLICY, Strictness::Liberal)?;
    let metric = attributes.number(RTA_PRIORITY).filter(|metric| *metric != 0);
    let told = |hop: &NextHop, own: &NextHop| {
        (hop.nic == NicId(0) || hop.nic == own.nic) && (hop.via.is_none() || hop.via == own.via)
    };
    let picked = |own: &Route| {
        own.tos == wanted.tos
            && (fixed.kind == RTN_UNSPEC || own.kind == wanted.kind)
            && (family == AF_INET6 || fixed.scope == RT_SCOPE_NOWHERE || own.scope.0 == fixed.scope)
            && (fixed.protocol == RTPROT_UNSPEC || own.protocol == wanted.protocol)
            && metric.is_none_or(|metric| metric == own.metric)
            && wanted.pref_src.is_none_or(|source| own.pref_src == Some(source))
            && match wanted.hops.as_slice() {
                [] => true,
                [one] => own.hops.iter().any(|own| told(one, own)),
                many => {
                    many.len() == own.hops.len()
                        && many.iter().zip(&own.hops).all(|(hop, own)| told(hop, own))
                }
            }
    };
    match cx.stack().delete_route(wanted.table, wanted.dst, picked) {
        Ok(_) => Ok(Vec::new()),
        Err(RouteError::NotFound) => Err(Errno::ESRCH.into()),
        Err(error) => Err(refusal(error, family)),
    }
}

//! RTM_*ROUTE: routes, and the way to one destination (net/ipv4/fib_frontend.c, net/ipv4/route.c, net/ipv6/route.c).

use core::net::IpAddr;

use netstack::ip::route::Route;
use netstack::ip::{IpCidr, IpOutput, RouteQuery};
use sentry_abi::Errno;
use sentry_abi::netlink::*;

use super::super::build::Message;
use super::super::parse::{Refusal, Request, Rule, Shape, Strictness};
use super::super::table::{Context, Dump};
use super::{asked, bytes_of, number_of};

const POLICY: &[Rule] = &[
    (RTA_DST, Shape::Address),
    (RTA_SRC, Shape::Address),
    (RTA_IIF, Shape::Number(4)),
    (RTA_OIF, Shape::Number(4)),
    (RTA_MARK, Shape::Number(4)),
    (RTA_UID, Shape::Number(4)),
    (RTA_TABLE, Shape::Number(4)),
];

fn message(header: &NlMsgHdr, route: &Route, source: Option<IpAddr>) -> Message {
    let address = route.dst.address();
    let fixed = RtMsg {
        family: number_of(address) as u8,
        dst_len: route.dst.prefix_len(),
        src_len: 0,
        tos: 0,
        table: RT_TABLE_MAIN,
        protocol: route.protocol.0,
        scope: route.scope.0,
        kind: RTN_UNICAST,
        flags: 0,
    };
    let mut message = Message::new(RTM_NEWROUTE, header, &fixed);
    message.number(RTA_TABLE, u32::from(RT_TABLE_MAIN));
    if route.dst.prefix_len() > 0 {
        message.attribute(RTA_DST, &bytes_of(address));
    }
    if route.metric != 0 {
        message.number(RTA_PRIORITY, route.metric);
    }
    if let Some(source) = source {
        message.attribute(RTA_PREFSRC, &bytes_of(source));
    }
    if let Some(via) = route.via() {
        message.attribute(RTA_GATEWAY, &bytes_of(via));
    }
    if let Some(nic) = route.nic() {
        message.number(RTA_OIF, nic.0);
    }
    message
}

/// All routes.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let shown = cx.stack().main_routes().into_iter();
    let shown = shown.filter(|route| asked(request.family(), route.dst.address()));
    dump.messages.extend(shown.map(|route| message(&request.header, &route, route.pref_src)));
    Ok(())
}

/// The way to one destination (`ip route get`).
pub fn one(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let attributes = request.attributes::<RtMsg>(POLICY, Strictness::Liberal)?;
    let dst = attributes.address(RTA_DST)?.ok_or(Errno::EINVAL)?;
    let info = cx.stack().route(cx.now, &RouteQuery::to(dst)).map_err(|_| Errno::ENETUNREACH)?;
    let via = (info.next_hop != info.dst).then_some(info.next_hop);
    let route = Route::new(IpCidr::host(info.dst), via, info.nic);
    Ok(vec![message(&request.header, &route, Some(info.src))])
}

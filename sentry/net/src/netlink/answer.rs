//! The answers of the route family: what the stack's tables look like as netlink messages.

use core::net::IpAddr;

use netstack::ip::route::Route;
use netstack::ip::{IpCidr, IpOutput, RouteQuery};
use netstack::link::NicKind;
use netstack::stack::{NicInfo, NicState, Stack};
use netstack::time::Instant;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use sentry_kernel::cred::{Capabilities, Credentials};
use zerocopy::FromBytes;

use super::build::{Message, dump, error};
use crate::inet::netdev;

/// What one request is answered from.
pub struct Context<'a> {
    /// The tables.
    pub stack: &'a Stack,
    /// The stack's time.
    pub now: Instant,
    /// Who asks.
    pub creds: &'a Credentials,
}

/// Answers all messages of a datagram; the replies are datagrams too.
pub fn datagram(cx: &Context<'_>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut replies = Vec::new();
    let mut rest = bytes;
    while let Ok((header, _)) = NlMsgHdr::read_from_prefix(rest) {
        let len = header.len as usize;
        let Some(message) = rest.get(..len).filter(|m| m.len() >= size_of::<NlMsgHdr>()) else {
            break;
        };
        let body = message.get(size_of::<NlMsgHdr>()..).unwrap_or_default();
        // Control messages and what is no request are skipped.
        if header.flags & NLM_F_REQUEST != 0 && header.kind >= NLMSG_MIN_TYPE {
            match request(cx, &header, body) {
                Ok(answers) => {
                    let dumped = header.flags & NLM_F_DUMP == NLM_F_DUMP;
                    replies.extend(answers);
                    if header.flags & NLM_F_ACK != 0 && !dumped {
                        replies.push(error(&header, 0, message));
                    }
                }
                Err(errno) => replies.push(error(&header, errno.number(), message)),
            }
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    replies
}

fn request(cx: &Context<'_>, header: &NlMsgHdr, body: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let dumps = header.flags & NLM_F_DUMP == NLM_F_DUMP;
    let family = i32::from(body.first().copied().ok_or(Errno::EINVAL)?);
    match header.kind {
        RTM_GETLINK if dumps => Ok(dump(header, links(cx, header))),
        RTM_GETLINK => one_link(cx, header, body),
        RTM_GETADDR if dumps => Ok(dump(header, addresses(cx, header, family))),
        RTM_GETROUTE if dumps => Ok(dump(header, routes(cx, header, family))),
        RTM_GETROUTE => one_route(cx, header, body),
        RTM_GETNEIGH if dumps => Ok(dump(header, neighbours(cx, header, family))),
        kind if kind > RTM_MAX => Err(Errno::EOPNOTSUPP),
        // Of each four numbers of rtnetlink the third reads, the others change.
        kind if kind % 4 != 2 && !cx.creds.has(Capabilities::NET_ADMIN) => Err(Errno::EPERM),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn link(header: &NlMsgHdr, nic: &NicInfo) -> Message {
    let fixed = IfInfoMsg {
        family: AF_UNSPEC as u8,
        pad: 0,
        kind: netdev::hardware_type(nic),
        index: nic.id.0 as i32,
        flags: netdev::flags(nic),
        change: 0,
    };
    let mut message = Message::new(RTM_NEWLINK, header, &fixed);
    message.string(IFLA_IFNAME, &nic.name);
    message.number(IFLA_TXQLEN, 1000);
    let loopback = nic.kind == NicKind::Loopback;
    let state = match nic.state {
        _ if loopback => IF_OPER_UNKNOWN,
        NicState::Up => IF_OPER_UP,
        NicState::Down => IF_OPER_DOWN,
    };
    message.attribute(IFLA_OPERSTATE, &[state]);
    message.attribute(IFLA_LINKMODE, &[0]);
    message.number(IFLA_MTU, nic.mtu);
    message.number(IFLA_GROUP, 0);
    message.string(IFLA_QDISC, "noqueue");
    message.attribute(IFLA_ADDRESS, &nic.mac.0);
    message.attribute(IFLA_BROADCAST, &if loopback { [0; 6] } else { [0xff; 6] });
    message
}

fn links(cx: &Context<'_>, header: &NlMsgHdr) -> Vec<Message> {
    cx.stack.nics().iter().map(|nic| link(header, nic)).collect()
}

/// The attributes behind a fixed part of `fixed` bytes.
fn attributes(body: &[u8], fixed: usize) -> Vec<(u16, &[u8])> {
    let mut out = Vec::new();
    let mut rest = body.get(fixed..).unwrap_or_default();
    while let Ok((attr, _)) = RtAttr::read_from_prefix(rest) {
        let len = usize::from(attr.len);
        let Some(value) = rest.get(size_of::<RtAttr>()..len) else { break };
        // The two high bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        out.push((attr.kind & 0x3fff, value));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

fn one_link(cx: &Context<'_>, header: &NlMsgHdr, body: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let (fixed, _) = IfInfoMsg::read_from_prefix(body).map_err(|_| Errno::EINVAL)?;
    let attributes = attributes(body, size_of::<IfInfoMsg>());
    let name = attributes.iter().find(|(kind, _)| matches!(*kind, IFLA_IFNAME | IFLA_ALT_IFNAME));
    let name = name.map(|(_, value)| value.split(|b| *b == 0).next().unwrap_or_default());
    let nics = cx.stack.nics();
    let found = match (fixed.index, name) {
        (0, None) => return Err(Errno::EINVAL),
        (0, Some(name)) => nics.iter().find(|nic| nic.name.as_bytes() == name),
        (index, _) => nics.iter().find(|nic| nic.id.0 as i32 == index),
    };
    Ok(vec![link(header, found.ok_or(Errno::ENODEV)?).finish(0)])
}

fn number_of(address: IpAddr) -> i32 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn asked(family: i32, address: IpAddr) -> bool {
    family == AF_UNSPEC || family == number_of(address)
}

/// RT_SCOPE_* of an address.
fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => RT_SCOPE_LINK,
        _ if address.is_loopback() => RT_SCOPE_HOST,
        _ => RT_SCOPE_UNIVERSE,
    }
}

fn addresses(cx: &Context<'_>, header: &NlMsgHdr, family: i32) -> Vec<Message> {
    let mut out = Vec::new();
    for nic in cx.stack.nics() {
        let shown = nic.addresses.iter().filter(|cidr| asked(family, cidr.address()));
        out.extend(shown.map(|cidr| address(header, &nic, cidr)));
    }
    out
}

fn address(header: &NlMsgHdr, nic: &NicInfo, cidr: &IpCidr) -> Message {
    let address = cidr.address();
    let fixed = IfAddrMsg {
        family: number_of(address) as u8,
        prefixlen: cidr.prefix_len(),
        flags: IFA_F_PERMANENT,
        scope: scope(address),
        index: nic.id.0,
    };
    let mut message = Message::new(RTM_NEWADDR, header, &fixed);
    message.attribute(IFA_ADDRESS, &bytes_of(address));
    if address.is_ipv4() {
        message.attribute(IFA_LOCAL, &bytes_of(address));
        if let Some(broadcast) = cidr.broadcast()
            && nic.kind != NicKind::Loopback
        {
            message.attribute(IFA_BROADCAST, &broadcast.octets());
        }
        message.string(IFA_LABEL, &nic.name);
    }
    message.number(IFA_FLAGS, u32::from(IFA_F_PERMANENT));
    // struct ifa_cacheinfo: preferred and valid for ever.
    let mut cache = vec![0xff; 8];
    cache.extend_from_slice(&[0; 8]);
    message.attribute(IFA_CACHEINFO, &cache);
    message
}

fn route_message(header: &NlMsgHdr, route: &Route, source: Option<IpAddr>) -> Message {
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

fn routes(cx: &Context<'_>, header: &NlMsgHdr, family: i32) -> Vec<Message> {
    let shown = cx.stack.main_routes().into_iter();
    shown
        .filter(|route| asked(family, route.dst.address()))
        .map(|route| route_message(header, &route, route.pref_src))
        .collect()
}

/// RTM_GETROUTE for one destination (`ip route get`).
fn one_route(cx: &Context<'_>, header: &NlMsgHdr, body: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let attributes = attributes(body, size_of::<RtMsg>());
    let (_, dst) = attributes.iter().find(|(kind, _)| *kind == RTA_DST).ok_or(Errno::EINVAL)?;
    let dst = match (<[u8; 4]>::try_from(*dst), <[u8; 16]>::try_from(*dst)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(Errno::EINVAL),
    };
    let info = cx.stack.route(cx.now, &RouteQuery::to(dst)).map_err(|_| Errno::ENETUNREACH)?;
    let via = (info.next_hop != info.dst).then_some(info.next_hop);
    let route = Route::new(IpCidr::host(info.dst), via, info.nic);
    Ok(vec![route_message(header, &route, Some(info.src)).finish(0)])
}

fn neighbours(cx: &Context<'_>, header: &NlMsgHdr, family: i32) -> Vec<Message> {
    const NUD_REACHABLE: u16 = 2;
    let mut out = Vec::new();
    for (nic, neighbour) in cx.stack.neighbours() {
        let Some(mac) = neighbour.mac.filter(|_| asked(family, neighbour.address)) else {
            continue;
        };
        let fixed = NdMsg {
            family: number_of(neighbour.address) as u8,
            ifindex: nic.0 as i32,
            state: NUD_REACHABLE,
            kind: RTN_UNICAST,
            ..NdMsg::default()
        };
        let mut message = Message::new(RTM_NEWNEIGH, header, &fixed);
        message.attribute(NDA_DST, &bytes_of(neighbour.address));
        message.attribute(NDA_LLADDR, &mac.0);
        out.push(message);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::link::{MacAddr, NullLink};
    use netstack::stack::{Config, NicConfig};
    use std::sync::Arc;
    use zerocopy::IntoBytes;

    fn stack() -> Arc<Stack> {
        let stack = Stack::new(Config::new([3; 32]));
        for (name, kind) in [("lo", NicKind::Loopback), ("eth0", NicKind::Ethernet)] {
            let link = Arc::new(NullLink);
            let mac = MacAddr([2, 0, 0, 0, 0, 9]);
            let nic = NicConfig { name: name.into(), kind, mac, mtu: 1500, link };
            let id = stack.add_nic(nic).unwrap();
            if kind == NicKind::Ethernet {
                stack.add_address(id, "10.9.0.2/24".parse().unwrap()).unwrap();
            }
        }
        stack
    }

    fn ask(kind: u16, flags: u16, body: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let len = (16 + body.len()) as u32;
        let header = NlMsgHdr { len, kind, flags: flags | NLM_F_REQUEST, seq: 7, pid: 1 };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(body);
        let stack = stack();
        let creds = Credentials::user(1000, 1000, Arc::from([]));
        let cx = Context { stack: &stack, now: Instant::ZERO, creds: &creds };
        let mut out = Vec::new();
        for reply in datagram(&cx, &bytes) {
            let mut rest = reply.as_slice();
            while let Ok((header, _)) = NlMsgHdr::read_from_prefix(rest) {
                assert_eq!(header.seq, 7);
                out.push((header.kind, rest[16..header.len as usize].to_vec()));
                rest = &rest[(header.len as usize).next_multiple_of(4).min(rest.len())..];
            }
        }
        out
    }

    fn attribute(body: &[u8], fixed: usize, kind: u16) -> Option<Vec<u8>> {
        attributes(body, fixed).iter().find(|(k, _)| *k == kind).map(|(_, v)| v.to_vec())
    }

    #[test]
    fn dumps_list_links_addresses_and_routes_and_end_with_done() {
        let links = ask(RTM_GETLINK, NLM_F_DUMP, &[0; 16]);
        let kinds: Vec<_> = links.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [RTM_NEWLINK, RTM_NEWLINK, NLMSG_DONE]);
        assert_eq!(attribute(&links[1].1, 16, IFLA_IFNAME).unwrap(), b"eth0\0");
        let addresses = ask(RTM_GETADDR, NLM_F_DUMP, &[AF_INET as u8]);
        assert_eq!(addresses.len(), 3);
        assert_eq!(attribute(&addresses[1].1, 8, IFA_LOCAL).unwrap(), [10, 9, 0, 2]);
        let routes = ask(RTM_GETROUTE, NLM_F_DUMP, &[AF_INET as u8]);
        assert_eq!(routes.len(), 2);
        assert_eq!(attribute(&routes[0].1, 12, RTA_DST).unwrap(), [10, 9, 0, 0]);
        assert_eq!(attribute(&routes[0].1, 12, RTA_PREFSRC).unwrap(), [10, 9, 0, 2]);
    }

    #[test]
    fn one_link_by_name_and_errors_as_messages() {
        let mut body = vec![0; 16];
        body.extend_from_slice(&[9, 0, 3, 0]);
        body.extend_from_slice(b"eth0\0\0\0\0");
        let found = ask(RTM_GETLINK, NLM_F_ACK, &body);
        assert_eq!((found[0].0, found[1].0), (RTM_NEWLINK, NLMSG_ERROR));
        assert_eq!(found[1].1[..4], 0i32.to_ne_bytes());
        let error = |kind, body: &[u8]| {
            let answer = ask(kind, 0, body);
            assert_eq!(answer[0].0, NLMSG_ERROR);
            -i32::from_ne_bytes(answer[0].1[..4].try_into().unwrap())
        };
        body[20] = b'x';
        assert_eq!(error(RTM_GETLINK, &body), Errno::ENODEV.number());
        assert_eq!(error(RTM_NEWADDR, &[0; 8]), Errno::EPERM.number());
        assert_eq!(error(RTM_GETQDISC, &[0; 8]), Errno::EOPNOTSUPP.number());
        assert_eq!(error(RTM_GETLINK, &[]), Errno::EINVAL.number());
    }

    #[test]
    fn broken_datagrams_are_answered_by_nothing() {
        let stack = stack();
        let creds = Credentials::root();
        let cx = Context { stack: &stack, now: Instant::ZERO, creds: &creds };
        for bytes in [&[][..], &[0; 15], &[0; 16], &[255; 64]] {
            assert!(datagram(&cx, bytes).is_empty());
        }
    }
}

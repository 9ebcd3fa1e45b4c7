//! inet_diag: TCP, UDP and raw sockets of both families.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netstack::ip::Family;
use sentry_abi::Errno;
use sentry_abi::diag::*;
use sentry_abi::in_::*;
use sentry_abi::socket::*;
use sentry_abi::tcp::*;

use super::bytecode::{Bytecode, Subject};
use super::{check_cookie, halves};
use crate::inet::listing::{self, Listed, Table};
use crate::inet::tcp_info;
use crate::netlink::build::Message;
use crate::netlink::parse::{Refusal, Request, Rule, Shape, Strictness};
use crate::netlink::table::{Context, Dump};

const POLICY: &[Rule] =
    &[(INET_DIAG_REQ_BYTECODE, Shape::AtLeast(4)), (INET_DIAG_REQ_PROTOCOL, Shape::Number(4))];

/// The table of a protocol. Errors: ENOENT for one without a handler, such as DCCP.
fn table(request: &InetDiagReqV2, asked: Option<u32>) -> Result<Option<Table>, Refusal> {
    match asked.unwrap_or(u32::from(request.protocol)) as i32 {
        IPPROTO_TCP => Ok(Some(Table::Tcp)),
        IPPROTO_UDP => Ok(Some(Table::Udp)),
        // UDP-Lite has a handler, and never a socket here.
        IPPROTO_UDPLITE => Ok(None),
        IPPROTO_RAW => Ok(Some(Table::Raw)),
        _ => Err(Errno::ENOENT.into()),
    }
}

fn family(number: u8) -> Family {
    if i32::from(number) == AF_INET { Family::V4 } else { Family::V6 }
}

fn wants(ext: u8, attribute: u16) -> bool {
    u32::from(ext) & (1 << (attribute - 1)) != 0
}

/// All sockets that a request asks for (inet_diag_dump_icsk and its like).
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let fixed: InetDiagReqV2 = request.fixed()?;
    let attributes = request.attributes::<InetDiagReqV2>(POLICY, Strictness::Liberal)?;
    let code = attributes.find(INET_DIAG_REQ_BYTECODE);
    let code = code.map(|code| Bytecode::check(code.value, cx.is_admin())).transpose()?;
    let Some(table) = table(&fixed, attributes.number(INET_DIAG_REQ_PROTOCOL))? else {
        return Ok(());
    };
    let own = family(fixed.family);
    let ports = (u16::from_be_bytes(fixed.id.sport), u16::from_be_bytes(fixed.id.dport));
    let port_fits = |wanted: u16, port: u16| wanted == 0 || wanted == port;
    for listed in listing::list(cx.net, table) {
        let fits = listed.family == own
            && fixed.states & (1 << listed.state) != 0
            && port_fits(ports.0, listed.local.port())
            && port_fits(ports.1, listed.peer.port());
        if fits && code.as_ref().is_none_or(|code| code.accepts(&subject(&listed))) {
            dump.messages.push(message(cx, request, &listed, fixed.ext));
        }
    }
    Ok(())
}

fn subject(listed: &Listed) -> Subject {
    Subject {
        local: listed.local,
        peer: listed.peer,
        interface: listed.interface,
        mark: option(listed, SOL_SOCKET, SO_MARK),
        // Ports of listeners are chosen, those of connections are not, unless a bind said so, which Linux forgets as well
        // once the socket was accepted.
        user_locks: listed.state == TCP_LISTEN,
    }
}

fn bytes_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
    }
}

/// An option of the socket as a number; 0 where there is no socket or no such option.
fn option(listed: &Listed, level: i32, name: i32) -> u32 {
    let value = listed.socket.as_ref().and_then(|socket| socket.read_option(level, name).ok());
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(value.iter().flatten()) {
        *to = *from;
    }
    u32::from_ne_bytes(bytes)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// inet_sk_diag_fill
fn message(cx: &Context<'_>, request: &Request<'_>, listed: &Listed, ext: u8) -> Message {
    let fixed = InetDiagMsg {
        family: if listed.family == Family::V4 { AF_INET as u8 } else { AF_INET6 as u8 },
        state: listed.state,
        timer: listed.timer.kind,
        retrans: u8::try_from(listed.timer.retries).unwrap_or(u8::MAX),
        id: InetDiagSockId {
            sport: listed.local.port().to_be_bytes(),
            dport: listed.peer.port().to_be_bytes(),
            src: bytes_of(listed.local.ip()),
            dst: bytes_of(listed.peer.ip()),
            interface: listed.interface,
            cookie: halves(listed.cookie),
        },
        expires: listed.timer.expires_ms,
        rqueue: count(listed.unread),
        wqueue: count(listed.unsent),
        uid: listed.uid,
        inode: listed.inode,
    };
    let mut message = Message::new(SOCK_DIAG_BY_FAMILY, &request.header, &fixed);
    // TIME-WAIT and handshakes are no full sockets: Linux adds nothing to them.
    if !matches!(listed.state, TCP_TIME_WAIT | TCP_SYN_RECV) {
        describe(cx, &mut message, listed, ext);
    }
    message
}

/// inet_diag_msg_attrs_fill and what follows it.
fn describe(cx: &Context<'_>, message: &mut Message, listed: &Listed, ext: u8) {
    message.byte(INET_DIAG_SHUTDOWN, listed.shut);
    if wants(ext, INET_DIAG_TOS) {
        message.byte(INET_DIAG_TOS, option(listed, SOL_IP, IP_TOS) as u8);
    }
    if listed.family == Family::V6 {
        if wants(ext, INET_DIAG_TCLASS) {
            message.byte(INET_DIAG_TCLASS, option(listed, SOL_IPV6, IPV6_TCLASS) as u8);
        }
        if matches!(listed.state, TCP_LISTEN | TCP_CLOSE) {
            message.byte(INET_DIAG_SKV6ONLY, option(listed, SOL_IPV6, IPV6_V6ONLY) as u8);
        }
    }
    if cx.is_admin() {
        message.number(INET_DIAG_MARK, option(listed, SOL_SOCKET, SO_MARK));
    }
    if wants(ext, INET_DIAG_TCLASS) {
        message.number(INET_DIAG_CLASS_ID, option(listed, SOL_SOCKET, SO_PRIORITY));
    }
    message.attribute(INET_DIAG_SOCKOPT, &flags(listed));
    let (sndbuf, rcvbuf) = match &listed.info {
        Some(info) => (count(info.send_capacity), count(info.receive_capacity)),
        None => (option(listed, SOL_SOCKET, SO_SNDBUF), option(listed, SOL_SOCKET, SO_RCVBUF)),
    };
    let listens = listed.state == TCP_LISTEN;
    let (unread, unsent) =
        if listens { (0, 0) } else { (count(listed.unread), count(listed.unsent)) };
    if wants(ext, INET_DIAG_MEMINFO) {
        let info = InetDiagMemInfo { rmem: unread, wmem: unsent, fmem: 0, tmem: 0 };
        message.object(INET_DIAG_MEMINFO, &info);
    }
    if wants(ext, INET_DIAG_SKMEMINFO) {
        let drops = u32::try_from(listed.drops).unwrap_or(u32::MAX);
        let words = [unread, rcvbuf, 0, sndbuf, 0, unsent, 0, 0, drops];
        message.object(INET_DIAG_SKMEMINFO, &words);
    }
    let Some(socket) = &listed.socket else {
        return unheld_stream(cx, message, listed, ext);
    };
    match socket.table() {
        Table::Raw => message.byte(INET_DIAG_PROTOCOL, socket.protocol_number() as u8),
        Table::Tcp => stream(message, listed, ext),
        Table::Udp | Table::Ping => {}
    }
}

/// TCP_INFO and the congestion control.
fn stream(message: &mut Message, listed: &Listed, ext: u8) {
    let Some(socket) = &listed.socket else { return };
    if wants(ext, INET_DIAG_INFO)
        && let Ok(info) = socket.read_option(SOL_TCP, TCP_INFO)
    {
        message.attribute(INET_DIAG_INFO, &info);
    }
    let Ok(name) = socket.read_option(SOL_TCP, TCP_CONGESTION) else { return };
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    if wants(ext, INET_DIAG_CONG) {
        message.attribute(INET_DIAG_CONG, &[name, &[0]].concat());
    }
    if wants(ext, INET_DIAG_VEGASINFO)
        && name == b"bbr"
        && let Ok(info) = socket.read_option(SOL_TCP, TCP_CC_INFO)
    {
        message.attribute(INET_DIAG_BBRINFO, &info);
    }
}

/// The same of a connection that no program holds.
fn unheld_stream(cx: &Context<'_>, message: &mut Message, listed: &Listed, ext: u8) {
    let Some(info) = &listed.info else { return };
    if wants(ext, INET_DIAG_INFO) {
        let family = if tcp_info::is_mapped(listed.local) { Family::V4 } else { Family::V6 };
        message.object(INET_DIAG_INFO, &tcp_info::of_connection(info, family, cx.now));
    }
    if wants(ext, INET_DIAG_CONG) {
        message.attribute(INET_DIAG_CONG, &[info.congestion.as_bytes(), &[0]].concat());
    }
}

/// struct inet_diag_sockopt: a bit an option.
fn flags(listed: &Listed) -> [u8; 2] {
    let ip = |name| option(listed, SOL_IP, name) != 0;
    let is_raw = listed.socket.as_ref().is_some_and(|socket| socket.table() == Table::Raw);
    let stream = listed.socket.as_ref().is_none_or(|socket| socket.table() == Table::Tcp);
    let first = [
        ip(IP_RECVERR),
        stream,
        ip(IP_FREEBIND),
        is_raw && ip(IP_HDRINCL),
        // A stream has it from its birth (inet_create), whatever can be read of it.
        stream || ip(IP_MULTICAST_LOOP),
        ip(IP_TRANSPARENT),
        stream || ip(IP_MULTICAST_ALL),
        ip(IP_NODEFRAG),
    ];
    let second = [ip(IP_BIND_ADDRESS_NO_PORT), false, false];
    let bits = |all: &[bool]| {
        all.iter().enumerate().fold(0u8, |bits, (at, on)| bits | u8::from(*on) << at)
    };
    [bits(&first), bits(&second)]
}

/// Finds the socket of an exact request. Errors: ENOENT, ESTALE.
fn find(cx: &Context<'_>, fixed: &InetDiagReqV2, table: Table) -> Result<Listed, Refusal> {
    let address = |bytes: [u8; 16]| match family(fixed.family) {
        Family::V4 => {
            let [a, b, c, d, ..] = bytes;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    let end = |bytes, port| SocketAddr::new(address(bytes), u16::from_be_bytes(port));
    let (local, peer) = (end(fixed.id.src, fixed.id.sport), end(fixed.id.dst, fixed.id.dport));
    let all = listing::list(cx.net, table);
    let plain = |address: SocketAddr| netstack::socket::from_mapped(address);
    let same =
        |a: SocketAddr, b: SocketAddr| (plain(a).ip(), a.port()) == (plain(b).ip(), b.port());
    let connected = |listed: &&Listed| same(listed.local, local) && same(listed.peer, peer);
    // As a packet would find it: the connection, else who is bound to the port.
    let bound = |listed: &&Listed| {
        listed.peer.port() == 0
            && listed.local.port() == local.port()
            && (listed.local.ip().is_unspecified() || same(listed.local, local))
    };
    let found = all.iter().find(connected).or_else(|| all.iter().find(bound));
    let found = found.ok_or(Errno::ENOENT)?;
    check_cookie(fixed.id.cookie, found.cookie)?;
    Ok(found.clone())
}

fn exact(cx: &Context<'_>, request: &Request<'_>) -> Result<(Listed, InetDiagReqV2), Refusal> {
    let fixed: InetDiagReqV2 = request.fixed()?;
    let table = table(&fixed, None)?.ok_or(Errno::ENOENT)?;
    Ok((find(cx, &fixed, table)?, fixed))
}

/// One socket by its addresses. Errors: ENOENT, ESTALE.
pub fn one(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let (listed, fixed) = exact(cx, request)?;
    Ok(vec![message(cx, request, &listed, fixed.ext)])
}

/// Ends one socket. Errors: ENOENT, ESTALE, EPERM.
pub fn destroy(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let (listed, _) = exact(cx, request)?;
    if !cx.is_admin() {
        return Err(Errno::EPERM.into());
    }
    match &listed.socket {
        Some(socket) => socket.destroy(),
        None => {
            let plain = netstack::socket::from_mapped;
            let (local, peer) = (plain(listed.local), plain(listed.peer));
            if !cx.stack().destroy_connection(cx.now, local, peer) {
                return Err(Errno::ENOENT.into());
            }
        }
    }
    Ok(Vec::new())
}

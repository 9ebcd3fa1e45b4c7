//! netlink_diag: netlink sockets.

use sentry_abi::diag::*;
use sentry_abi::netlink::*;
use sentry_abi::socket::AF_NETLINK;

use super::halves;
use crate::netlink::build::Message;
use crate::netlink::parse::{Refusal, Request};
use crate::netlink::socket::NetlinkSocket;
use crate::netlink::table::{Context, Dump, PROTOCOLS};

/// The bound sockets of a protocol or of all. Errors: ENOENT for a protocol that is not there.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let fixed: NetlinkDiagReq = request.fixed()?;
    let every = fixed.protocol == NDIAG_PROTO_ALL;
    let wanted = i32::from(fixed.protocol);
    if !every && !PROTOCOLS.iter().any(|row| row.number == wanted) {
        return Err(sentry_abi::Errno::ENOENT.into());
    }
    let mut sockets = cx.net.netlink().all();
    sockets.retain(|socket| every || socket.protocol.number == wanted);
    sockets.sort_by_key(|socket| (socket.protocol.number, socket.state.lock().port));
    dump.messages.extend(sockets.iter().map(|socket| message(request, socket, fixed.show)));
    Ok(())
}

fn message(request: &Request<'_>, socket: &NetlinkSocket, show: u32) -> Message {
    let (rcvbuf, sndbuf) = (socket.options.rcvbuf(), socket.options.sndbuf());
    let state = socket.state.lock();
    let fixed = NetlinkDiagMsg {
        family: AF_NETLINK as u8,
        kind: socket.kind as u8,
        protocol: socket.protocol.number as u8,
        state: u8::from(state.peer != (0, 0)),
        portid: state.port,
        dst_portid: state.peer.0,
        dst_group: state.peer.1,
        ino: socket.inode.number(),
        cookie: halves(socket.options.cookie()),
    };
    let mut message = Message::new(SOCK_DIAG_BY_FAMILY, &request.header, &fixed);
    if show & NDIAG_SHOW_GROUPS != 0 && state.groups != 0 {
        let len = (socket.protocol.groups as usize).div_ceil(8).next_multiple_of(8);
        message.attribute(NETLINK_DIAG_GROUPS, &state.groups.to_ne_bytes()[..len.min(8)]);
    }
    if show & NDIAG_SHOW_MEMINFO != 0 {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (used, rcvbuf, sndbuf) = (count(state.cost), count(rcvbuf), count(sndbuf));
        message.object(NETLINK_DIAG_MEMINFO, &[used, rcvbuf, 0, sndbuf, 0, 0, 0, 0, state.drops]);
    }
    if show & NDIAG_SHOW_FLAGS != 0 {
        let rows = [
            (!state.dump.is_empty(), NDIAG_FLAG_CB_RUNNING),
            (socket.flags.has(NETLINK_PKTINFO), NDIAG_FLAG_PKTINFO),
            (socket.flags.has(NETLINK_BROADCAST_ERROR), NDIAG_FLAG_BROADCAST_ERROR),
            (socket.flags.has(NETLINK_NO_ENOBUFS), NDIAG_FLAG_NO_ENOBUFS),
            (socket.flags.has(NETLINK_CAP_ACK), NDIAG_FLAG_CAP_ACK),
        ];
        let flags = rows.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
        message.number(NETLINK_DIAG_FLAGS, flags);
    }
    message
}

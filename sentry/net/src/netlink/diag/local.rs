//! unix_diag: local sockets.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::diag::*;
use sentry_abi::socket::AF_UNIX;

use super::{check_cookie, halves};
use crate::netlink::build::Message;
use crate::netlink::parse::{Refusal, Request};
use crate::netlink::table::{Context, Dump};
use crate::unix::UnixSocket;
use crate::unix::address::Name;

/// The sockets in the states that a request asks for.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let fixed: UnixDiagReq = request.fixed()?;
    for socket in cx.net.local_sockets().all() {
        let listed = socket.listed();
        // As on Linux, what nobody has accepted yet is no file and is not shown.
        if listed.inode != 0 && fixed.states & (1 << listed.state) != 0 {
            dump.messages.push(message(request, &socket, fixed.show));
        }
    }
    Ok(())
}

/// One socket by its inode number. Errors: EINVAL, ENOENT, ESTALE.
pub fn one(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let fixed: UnixDiagReq = request.fixed()?;
    if fixed.ino == 0 {
        return Err(Errno::EINVAL.into());
    }
    let all = cx.net.local_sockets().all();
    let found = all.iter().find(|socket| socket.listed().inode == fixed.ino);
    let found = found.ok_or(Errno::ENOENT)?;
    check_cookie(fixed.cookie, found.listed().cookie)?;
    Ok(vec![message(request, found, fixed.show)])
}

/// sk_diag_fill of net/unix/diag.c
fn message(request: &Request<'_>, socket: &Arc<UnixSocket>, show: u32) -> Message {
    let listed = socket.listed();
    let fixed = UnixDiagMsg {
        family: AF_UNIX as u8,
        kind: listed.kind as u8,
        state: listed.state,
        pad: 0,
        ino: listed.inode,
        cookie: halves(listed.cookie),
    };
    let mut message = Message::new(SOCK_DIAG_BY_FAMILY, &request.header, &fixed);
    if show & UDIAG_SHOW_NAME != 0 && listed.name != Name::Unnamed {
        // Behind sun_family.
        let address = listed.name.encode();
        message.attribute(UNIX_DIAG_NAME, address.0.get(2..).unwrap_or_default());
    }
    if show & UDIAG_SHOW_VFS != 0
        && let Some((device, inode)) = listed.place
    {
        let words = [inode as u32, device as u32];
        message.object(UNIX_DIAG_VFS, &words);
    }
    if show & UDIAG_SHOW_PEER != 0
        && let Some(peer) = listed.peer
    {
        message.number(UNIX_DIAG_PEER, peer);
    }
    if show & UDIAG_SHOW_ICONS != 0
        && let Some(waiting) = &listed.waiting
    {
        let bytes: Vec<u8> = waiting.iter().flat_map(|inode| inode.to_ne_bytes()).collect();
        message.attribute(UNIX_DIAG_ICONS, &bytes);
    }
    if show & UDIAG_SHOW_RQLEN != 0 {
        message.object(UNIX_DIAG_RQLEN, &[listed.unread, listed.unsent]);
    }
    if show & UDIAG_SHOW_MEMINFO != 0 {
        let words = [listed.unread, listed.rcvbuf, listed.unsent, listed.sndbuf, 0, 0, 0, 0, 0u32];
        message.object(UNIX_DIAG_MEMINFO, &words);
    }
    message.byte(UNIX_DIAG_SHUTDOWN, listed.shut);
    if show & UDIAG_SHOW_UID != 0 {
        message.number(UNIX_DIAG_UID, listed.uid);
    }
    message
}

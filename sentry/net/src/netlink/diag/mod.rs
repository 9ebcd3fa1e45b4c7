//! sock_diag(7): what sockets there are, by family; and their end (SOCK_DESTROY).

mod bytecode;
mod inet;
mod local;
mod netlinks;

use sentry_abi::Errno;
use sentry_abi::diag::{INET_DIAG_NOCOOKIE, SOCK_DESTROY, SOCK_DIAG_BY_FAMILY};
use sentry_abi::netlink::NLM_F_DUMP;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_MAX, AF_NETLINK, AF_UNIX};

use super::build::{DumpEnd, Message};
use super::parse::{Refusal, Request};
use super::table::{Answer, Context, Dump, Protocol};

/// sock_diag_rcv_msg: EINVAL for other types; what a handler says against a dump is an error message, not the end of a dump.
pub fn dispatch(
    protocol: &Protocol,
    cx: &Context<'_>,
    request: &Request<'_>,
) -> Result<Answer, Refusal> {
    let row = protocol.row(request.header.kind).ok_or(Errno::EINVAL)?;
    // struct sock_diag_req: family and protocol.
    if request.body.len() < 2 {
        return Err(Errno::EINVAL.into());
    }
    let dumps =
        request.header.kind == SOCK_DIAG_BY_FAMILY && request.header.flags & NLM_F_DUMP != 0;
    match (dumps, row.doit, row.dumpit) {
        (true, _, Some(dumpit)) => {
            let mut dump = Dump::default();
            dumpit(cx, request, &mut dump)?;
            Ok(Answer::Dump(dump.messages, DumpEnd { flags: dump.flags, refusal: None }))
        }
        (false, Some(doit), _) => doit(cx, request).map(Answer::Messages),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// EINVAL for a number that is no family, ENOENT for a family without a module.
fn unknown(family: i32) -> Refusal {
    if family >= AF_MAX { Errno::EINVAL.into() } else { Errno::ENOENT.into() }
}

/// SOCK_DIAG_BY_FAMILY for one socket.
pub fn one(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    match request.family() {
        AF_INET | AF_INET6 => inet::one(cx, request),
        AF_UNIX => local::one(cx, request),
        // netlink_diag has dumps alone.
        AF_NETLINK => Err(Errno::EOPNOTSUPP.into()),
        family => Err(unknown(family)),
    }
}

/// SOCK_DIAG_BY_FAMILY for all.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    match request.family() {
        AF_INET | AF_INET6 => inet::all(cx, request, dump),
        AF_UNIX => local::all(cx, request, dump),
        AF_NETLINK => netlinks::all(cx, request, dump),
        family => Err(unknown(family)),
    }
}

/// SOCK_DESTROY. Errors: ENOENT, ESTALE, EPERM, EOPNOTSUPP.
pub fn destroy(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    debug_assert_eq!(request.header.kind, SOCK_DESTROY);
    match request.family() {
        AF_INET | AF_INET6 => inet::destroy(cx, request),
        AF_UNIX | AF_NETLINK => Err(Errno::EOPNOTSUPP.into()),
        family => Err(unknown(family)),
    }
}

/// A cookie as the two halves that messages carry.
fn halves(cookie: u64) -> [u32; 2] {
    [cookie as u32, (cookie >> 32) as u32]
}

/// sock_diag_check_cookie. Errors: ESTALE for another's.
fn check_cookie(wanted: [u32; 2], cookie: u64) -> Result<(), Refusal> {
    let any = wanted == [INET_DIAG_NOCOOKIE; 2];
    if any || wanted == halves(cookie) { Ok(()) } else { Err(Errno::ESTALE.into()) }
}

//! rtnetlink(7): links, addresses, routes, neighbours and what belongs to them.

pub mod addr;
pub mod link;
pub mod link_six;
pub mod neigh;
pub mod routes;
pub mod rule;
pub mod tables;
pub mod way;

use core::net::IpAddr;

use netstack::stack::NicInfo;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};

use super::build::DumpEnd;
use super::parse::{Refusal, Request};
use super::table::{Answer, Context, Dump, Protocol};

/// rtnetlink_rcv_msg: of each four numbers the third reads, the others need CAP_NET_ADMIN. What a dump says against its request
/// ends the dump; everything else is an error message.
pub fn dispatch(
    protocol: &Protocol,
    cx: &Context<'_>,
    request: &Request<'_>,
) -> Result<Answer, Refusal> {
    let header = &request.header;
    if header.kind > RTM_MAX {
        return Err(Errno::EOPNOTSUPP.into());
    }
    // "All the messages must have at least 1 byte length"; Linux acknowledges one without.
    if request.body.is_empty() {
        return Ok(Answer::Messages(Vec::new()));
    }
    let reads = header.kind % 4 == 2;
    if !reads && !cx.is_admin() {
        return Err(Errno::EPERM.into());
    }
    let row = protocol.row(header.kind).ok_or(Errno::EOPNOTSUPP)?;
    if reads && header.flags & NLM_F_DUMP != 0 {
        let dumpit = row.dumpit.ok_or(Errno::EOPNOTSUPP)?;
        let mut dump = Dump::default();
        let refusal = dumpit(cx, request, &mut dump).err();
        return Ok(Answer::Dump(dump.messages, DumpEnd { flags: dump.flags, refusal }));
    }
    let doit = row.doit.ok_or(Errno::EOPNOTSUPP)?;
    doit(cx, request).map(Answer::Messages)
}

/// AF_INET or AF_INET6.
fn number_of(address: IpAddr) -> i32 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn bytes_of(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Whether a request of a family asks for an address.
fn asked(family: i32, address: IpAddr) -> bool {
    family == AF_UNSPEC || family == number_of(address)
}

/// The interface of a number. Errors: ENODEV.
fn nic_by_index(cx: &Context<'_>, index: u32) -> Result<NicInfo, Refusal> {
    let found = cx.stack().nics().into_iter().find(|nic| nic.id.0 == index);
    found.ok_or_else(|| Errno::ENODEV.into())
}

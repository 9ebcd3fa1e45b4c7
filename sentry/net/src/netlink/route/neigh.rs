//! RTM_*NEIGH: neighbours (net/core/neighbour.c).

use sentry_abi::netlink::*;

use super::super::build::Message;
use super::super::parse::{Refusal, Request};
use super::super::table::{Context, Dump};
use super::{asked, bytes_of, number_of};

/// All neighbours.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    for (nic, neighbour) in cx.stack().neighbours() {
        let Some(mac) = neighbour.mac.filter(|_| asked(request.family(), neighbour.address)) else {
            continue;
        };
        let fixed = NdMsg {
            family: number_of(neighbour.address) as u8,
            ifindex: nic.0 as i32,
            state: NUD_REACHABLE,
            kind: RTN_UNICAST,
            ..NdMsg::default()
        };
        let mut message = Message::new(RTM_NEWNEIGH, &request.header, &fixed);
        message.attribute(NDA_DST, &bytes_of(neighbour.address));
        message.attribute(NDA_LLADDR, &mac.0);
        dump.messages.push(message);
    }
    Ok(())
}

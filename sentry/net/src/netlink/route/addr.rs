//! RTM_*ADDR: addresses (net/ipv4/devinet.c, net/ipv6/addrconf.c).

use core::net::IpAddr;

use netstack::ip::IpCidr;
use netstack::link::NicKind;
use netstack::stack::NicInfo;
use sentry_abi::Errno;
use sentry_abi::netlink::*;

use super::super::build::Message;
use super::super::parse::{Refusal, Request, Strictness};
use super::super::table::{Context, Dump};
use super::{asked, bytes_of, nic_by_index, number_of};

/// RT_SCOPE_* of an address.
fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => RT_SCOPE_LINK,
        _ if address.is_loopback() => RT_SCOPE_HOST,
        _ => RT_SCOPE_UNIVERSE,
    }
}

/// All addresses, or those of one interface where a strict request says so.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let mut only = 0;
    if cx.strictness == Strictness::Strict {
        let fixed: IfAddrMsg = request.fixed()?;
        if (fixed.prefixlen, fixed.flags, fixed.scope) != (0, 0, 0) {
            let text = "Invalid values in header for address dump request";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
        only = fixed.index;
        if only != 0 {
            dump.flags = NLM_F_DUMP_FILTERED;
            nic_by_index(cx, only)?;
        }
    }
    for nic in cx.stack().nics().iter().filter(|nic| only == 0 || nic.id.0 == only) {
        let shown = nic.addresses.iter().filter(|cidr| asked(request.family(), cidr.address()));
        dump.messages.extend(shown.map(|cidr| message(&request.header, nic, cidr)));
    }
    Ok(())
}

/// RTM_NEWADDR of an address.
pub fn message(header: &NlMsgHdr, nic: &NicInfo, cidr: &IpCidr) -> Message {
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
    message.object(IFA_CACHEINFO, &[u32::MAX, u32::MAX, 0, 0]);
    message
}

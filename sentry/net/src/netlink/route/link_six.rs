//! What IPv6 has of a link (net/ipv6/addrconf.c): its flags, the token of its addresses and how their identifiers are made.

use core::net::Ipv6Addr;

use netstack::ip::conf::ConfTarget;
use netstack::stack::{NicInfo, NicState, Stack, TokenError};
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET6, AF_UNSPEC};

use super::super::build::Message;
use super::super::parse::{Attribute, Attributes, Refusal, Request, Rule, Shape, Strictness};
use super::super::table::{Context, Dump};
use super::link::operstate;
use crate::inet::netdev;

/// IF_READY of net/if_inet6.h.
const IF_READY: u32 = 0x8000_0000;

const POLICY: &[Rule] =
    &[(IFLA_INET6_TOKEN, Shape::AtLeast(16)), (IFLA_INET6_ADDR_GEN_MODE, Shape::Number(1))];

/// How identifiers are made (IN6_ADDR_GEN_MODE_*).
const STABLE_PRIVACY: u8 = 2;
const LAST_MODE: u8 = 3;

/// The attributes of an interface in one of this number (inet6_fill_ifla6_attrs).
pub fn of_interface(stack: &Stack, message: &mut Message, kind: u16, nic: &NicInfo) {
    let Ok(conf) = stack.ipv6_conf(ConfTarget::Nic(nic.id)) else { return };
    let six = message.nest(kind);
    message.number(IFLA_INET6_FLAGS, if nic.state == NicState::Up { IF_READY } else { 0 });
    message.attribute(IFLA_INET6_TOKEN, &conf.token.octets());
    message.byte(IFLA_INET6_ADDR_GEN_MODE, conf.addr_gen_mode);
    message.end(six);
}

/// RTM_GETLINK of AF_INET6 (inet6_dump_ifinfo). Errors: EINVAL for what a strict request may not ask.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    if cx.strictness == Strictness::Strict {
        let fixed: IfInfoMsg = request.fixed()?;
        if (fixed.pad, fixed.kind, fixed.flags, fixed.change, fixed.index) != (0, 0, 0, 0, 0) {
            let text = "Invalid values in header for dump request";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
        if request.attributes::<IfInfoMsg>(&[], Strictness::Liberal)?.iter().next().is_some() {
            return Err(Refusal::new(Errno::EINVAL, "Invalid data after header"));
        }
    }
    for nic in cx.stack().nics() {
        let fixed = IfInfoMsg {
            family: AF_INET6 as u8,
            pad: 0,
            kind: nic.kind.hardware_type(),
            index: nic.id.0 as i32,
            flags: netdev::flags(&nic),
            change: 0,
        };
        let mut message = Message::new(RTM_NEWLINK, &request.header, &fixed);
        message.string(IFLA_IFNAME, &nic.name);
        message.attribute(IFLA_ADDRESS, &nic.mac.0);
        message.number(IFLA_MTU, nic.mtu);
        message.byte(IFLA_OPERSTATE, operstate(&nic));
        of_interface(cx.stack(), &mut message, IFLA_PROTINFO, &nic);
        dump.messages.push(message);
    }
    Ok(())
}

/// What IFLA_AF_SPEC asks to change. Errors: EAFNOSUPPORT for other families, EINVAL, EOPNOTSUPP for what is IPv4's.
pub fn set(cx: &Context<'_>, nic: &NicInfo, families: &Attribute<'_>) -> Result<(), Refusal> {
    let inside = |outer: &Attribute<'_>| outer.offset + size_of::<RtAttr>() as u32;
    let all = Attributes::parse(families.value, inside(families), &[], Strictness::Liberal)?;
    for family in all.iter() {
        match i32::from(family.kind) {
            AF_INET6 => {
                let how = Strictness::Liberal;
                let asked = Attributes::parse(family.value, inside(family), POLICY, how)?;
                set_six(cx, nic, &asked)?;
            }
            // rtnl_af_lookup: nobody else has anything to set. Of IPv4's settings /proc/sys is the way.
            AF_UNSPEC => return Err(Errno::EAFNOSUPPORT.into()),
            sentry_abi::socket::AF_INET => return Err(Refusal::from(Errno::EOPNOTSUPP).at(family)),
            _ => return Err(Errno::EAFNOSUPPORT.into()),
        }
    }
    Ok(())
}

/// inet6_validate_link_af and inet6_set_link_af.
fn set_six(cx: &Context<'_>, nic: &NicInfo, asked: &Attributes<'_>) -> Result<(), Refusal> {
    let (token, mode) = (asked.find(IFLA_INET6_TOKEN), asked.find(IFLA_INET6_ADDR_GEN_MODE));
    if token.is_none() && mode.is_none() {
        return Err(Errno::EINVAL.into());
    }
    let target = ConfTarget::Nic(nic.id);
    let mode = mode.map(|mode| mode.value.first().copied().unwrap_or_default());
    if mode.is_some_and(|mode| mode > LAST_MODE) {
        return Err(Errno::EINVAL.into());
    }
    if let Some(token) = token {
        let bytes = token.value.first_chunk::<16>().ok_or(Errno::EINVAL)?;
        cx.stack().set_token(cx.now, nic.id, Ipv6Addr::from(*bytes)).map_err(refusal)?;
    }
    if let Some(mode) = mode {
        let own = cx.stack().ipv6_conf(target).map_err(|_| Errno::ENODEV)?;
        let default = cx.stack().ipv6_conf(ConfTarget::Default).map_err(|_| Errno::ENODEV)?;
        // check_stable_privacy: there is a secret to make them of.
        let secret = own.stable_secret.or(default.stable_secret);
        if mode == STABLE_PRIVACY && secret.is_none() {
            return Err(Errno::EINVAL.into());
        }
        let edit = |conf: &mut netstack::ip::conf::Ipv6Conf| conf.addr_gen_mode = mode;
        cx.stack().edit_ipv6_conf(target, edit).map_err(|_| Errno::ENODEV)?;
    }
    Ok(())
}

/// Linux's words.
fn refusal(error: TokenError) -> Refusal {
    match error {
        TokenError::NoNic => Errno::ENODEV.into(),
        TokenError::Loopback => Refusal::new(Errno::EINVAL, "ipv6: Device is loopback"),
        TokenError::NoAdverts => {
            Refusal::new(Errno::EINVAL, "ipv6: Router advertisement is disabled on device")
        }
        TokenError::NoSolicits => {
            Refusal::new(Errno::EINVAL, "Router solicitation is disabled on device")
        }
    }
}

//! RTM_*LINK: interfaces (net/core/rtnetlink.c).

use netstack::link::NicKind;
use netstack::stack::{NicInfo, NicState};
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::AF_UNSPEC;

use super::super::build::Message;
use super::super::parse::{Refusal, Request, Rule, Shape, Strictness};
use super::super::table::{Context, Dump};
use crate::inet::netdev;

const POLICY: &[Rule] = &[
    (IFLA_ADDRESS, Shape::AtMost(32)),
    (IFLA_BROADCAST, Shape::AtMost(32)),
    (IFLA_IFNAME, Shape::Text(15)),
    (IFLA_ALT_IFNAME, Shape::Text(127)),
    (IFLA_MTU, Shape::Number(4)),
    (IFLA_TXQLEN, Shape::Number(4)),
    (IFLA_EXT_MASK, Shape::Number(4)),
    (IFLA_MASTER, Shape::Number(4)),
    (IFLA_LINKINFO, Shape::Nested),
];

/// IF_OPER_* of an interface.
pub fn operstate(nic: &NicInfo) -> u8 {
    match nic.state {
        NicState::Down => IF_OPER_DOWN,
        NicState::Up if nic.kind == NicKind::Loopback => IF_OPER_UNKNOWN,
        NicState::Up => IF_OPER_UP,
    }
}

/// struct rtnl_link_stats64 as 25 numbers.
fn statistics(nic: &NicInfo) -> [u64; 25] {
    let n = |name| nic.counters.value("Nic", name);
    let mut all = [0; 25];
    (all[0], all[1]) = (n("rx_packets"), n("tx_packets"));
    (all[2], all[3]) = (n("rx_bytes"), n("tx_bytes"));
    (all[4], all[5]) = (n("rx_errors"), n("tx_errors"));
    (all[6], all[7]) = (n("rx_dropped"), n("tx_dropped"));
    all
}

/// RTM_NEWLINK of an interface (rtnl_fill_ifinfo).
pub fn message(header: &NlMsgHdr, nic: &NicInfo, ext_mask: u32) -> Message {
    let fixed = IfInfoMsg {
        family: AF_UNSPEC as u8,
        pad: 0,
        kind: netdev::hardware_type(nic),
        index: nic.id.0 as i32,
        flags: netdev::flags(nic),
        change: 0,
    };
    let loopback = nic.kind == NicKind::Loopback;
    let up = nic.state == NicState::Up;
    let mut message = Message::new(RTM_NEWLINK, header, &fixed);
    message.string(IFLA_IFNAME, &nic.name);
    message.number(IFLA_TXQLEN, 1000);
    message.byte(IFLA_OPERSTATE, operstate(nic));
    message.byte(IFLA_LINKMODE, 0);
    message.number(IFLA_MTU, nic.mtu);
    message.number(IFLA_MIN_MTU, if loopback { 0 } else { 68 });
    message.number(IFLA_MAX_MTU, if loopback { 0 } else { 65_535 });
    message.number(IFLA_GROUP, 0);
    message.number(IFLA_PROMISCUITY, 0);
    message.number(IFLA_NUM_TX_QUEUES, 1);
    message.number(IFLA_GSO_MAX_SEGS, 65_535);
    message.number(IFLA_GSO_MAX_SIZE, 65_536);
    message.number(IFLA_NUM_RX_QUEUES, 1);
    message.byte(IFLA_CARRIER, u8::from(up || loopback));
    message.string(IFLA_QDISC, "noqueue");
    message.number(IFLA_CARRIER_CHANGES, 0);
    message.byte(IFLA_PROTO_DOWN, 0);
    message.number(IFLA_CARRIER_UP_COUNT, 0);
    message.number(IFLA_CARRIER_DOWN_COUNT, 0);
    message.attribute(IFLA_ADDRESS, &nic.mac.0);
    message.attribute(IFLA_BROADCAST, &if loopback { [0; 6] } else { [0xff; 6] });
    if ext_mask & RTEXT_FILTER_SKIP_STATS == 0 {
        let numbers = statistics(nic);
        message.object(IFLA_STATS64, &numbers);
        let small: Vec<u8> = numbers[..24].iter().flat_map(|n| (*n as u32).to_ne_bytes()).collect();
        message.attribute(IFLA_STATS, &small);
    }
    message
}

/// All interfaces. Errors: EINVAL for what a strict request may not ask.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    let strict = cx.strictness == Strictness::Strict;
    // Old tools send no more than a family (struct rtgenmsg).
    let whole = request.fixed::<IfInfoMsg>();
    if strict {
        let fixed = whole.as_ref().map_err(|refusal| refusal.clone())?;
        if (fixed.pad, fixed.kind, fixed.flags, fixed.change) != (0, 0, 0, 0) {
            let text = "Invalid values in header for link dump request";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
        if fixed.index != 0 {
            let text = "Filter by device index not supported for link dumps";
            return Err(Refusal::new(Errno::EINVAL, text));
        }
    }
    let mut ext_mask = 0;
    if whole.is_ok() {
        let attributes = request.attributes::<IfInfoMsg>(POLICY, Strictness::Liberal)?;
        for attribute in attributes.iter() {
            match attribute.kind {
                IFLA_EXT_MASK => ext_mask = attribute.number(),
                // No interface has a master or a kind that could be asked for.
                IFLA_MASTER | IFLA_LINKINFO => {
                    dump.flags = NLM_F_DUMP_FILTERED;
                    return Ok(());
                }
                _ if strict => {
                    let text = "Unsupported attribute in link dump request";
                    return Err(Refusal::new(Errno::EINVAL, text));
                }
                _ => {}
            }
        }
    }
    let nics = cx.stack().nics();
    dump.messages.extend(nics.iter().map(|nic| message(&request.header, nic, ext_mask)));
    Ok(())
}

/// The interface that a request names, by number or name. Errors: EINVAL for neither, ENODEV.
pub fn find(cx: &Context<'_>, request: &Request<'_>) -> Result<NicInfo, Refusal> {
    let fixed: IfInfoMsg = request.fixed()?;
    let attributes = request.attributes::<IfInfoMsg>(POLICY, Strictness::Liberal)?;
    let name = attributes.find(IFLA_IFNAME).or_else(|| attributes.find(IFLA_ALT_IFNAME));
    let mut nics = cx.stack().nics().into_iter();
    let found = match (fixed.index, name) {
        (0, None) => return Err(Errno::EINVAL.into()),
        (0, Some(name)) => nics.find(|nic| nic.name.as_bytes() == name.text()),
        (index, _) => nics.find(|nic| nic.id.0 as i32 == index),
    };
    found.ok_or_else(|| Errno::ENODEV.into())
}

/// One interface.
pub fn one(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let attributes = request.attributes::<IfInfoMsg>(POLICY, Strictness::Liberal)?;
    let ext_mask = attributes.number(IFLA_EXT_MASK).unwrap_or(0);
    let nic = find(cx, request)?;
    Ok(vec![message(&request.header, &nic, ext_mask)])
}

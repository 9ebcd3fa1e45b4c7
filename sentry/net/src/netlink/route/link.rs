//! RTM_*LINK: interfaces (net/core/rtnetlink.c).

use netstack::link::NicKind;
use netstack::stack::{NicInfo, NicState, Stack};
use sentry_abi::Errno;
use sentry_abi::if_::{IFF_ALLMULTI, IFF_NOARP, IFF_PROMISC, IFF_UP};
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET6, AF_UNSPEC};

use super::super::build::Message;
use super::super::parse::{Attributes, Refusal, Request, Rule, Shape, Strictness};
use super::super::table::{Context, Dump};
use super::link_six;
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

/// AF_BRIDGE of linux/socket.h, which no socket has.
const AF_BRIDGE: i32 = 7;

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
    all[15] = n("rx_missed_errors");
    (all[8], all[24]) = (n("multicast"), n("rx_otherhost_dropped"));
    all
}

/// RTM_NEWLINK of an interface (rtnl_fill_ifinfo).
pub fn message(
    stack: &Stack,
    header: &NlMsgHdr,
    message_kind: u16,
    nic: &NicInfo,
    ext_mask: u32,
) -> Message {
    let fixed = IfInfoMsg {
        family: AF_UNSPEC as u8,
        pad: 0,
        kind: nic.kind.hardware_type(),
        index: nic.id.0 as i32,
        flags: netdev::flags(nic),
        change: 0,
    };
    let loopback = nic.kind == NicKind::Loopback;
    let up = nic.state == NicState::Up;
    let mut message = Message::new(message_kind, header, &fixed);
    message.string(IFLA_IFNAME, &nic.name);
    message.number(IFLA_TXQLEN, 1000);
    message.byte(IFLA_OPERSTATE, operstate(nic));
    message.byte(IFLA_LINKMODE, 0);
    message.number(IFLA_MTU, nic.mtu);
    message.number(IFLA_MIN_MTU, if loopback { 0 } else { 68 });
    message.number(IFLA_MAX_MTU, if loopback { 0 } else { 65_535 });
    message.number(IFLA_GROUP, 0);
    message.number(IFLA_PROMISCUITY, 0);
    message.number(IFLA_ALLMULTI, 0);
    message.number(IFLA_NUM_TX_QUEUES, 1);
    message.number(IFLA_GSO_MAX_SEGS, 65_535);
    message.number(IFLA_GSO_MAX_SIZE, 65_536);
    message.number(IFLA_GRO_MAX_SIZE, 65_536);
    // TSO_MAX_SIZE for loopback, TSO_LEGACY_MAX_SIZE for a device that says nothing of it.
    message.number(IFLA_TSO_MAX_SIZE, if loopback { 524_280 } else { 65_536 });
    message.number(IFLA_TSO_MAX_SEGS, 65_535);
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
    if ext_mask & RTEXT_FILTER_SKIP_STATS == 0 {
        let all = message.nest(IFLA_AF_SPEC);
        link_six::of_interface(stack, &mut message, AF_INET6 as u16, nic);
        message.end(all);
    }
    message
}

/// All interfaces. Errors: EINVAL for what a strict request may not ask.
pub fn all(cx: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    // No interface is a port of a bridge (rtnl_bridge_getlink).
    if request.family() == AF_BRIDGE {
        return Ok(());
    }
    if request.family() == AF_INET6 {
        return link_six::all(cx, request, dump);
    }
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
    cx.stack().count_lost();
    let nics = cx.stack().nics();
    dump.messages.extend(
        nics.iter().map(|nic| message(cx.stack(), &request.header, RTM_NEWLINK, nic, ext_mask)),
    );
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
    cx.stack().count_lost();
    let nic = find(cx, request)?;
    Ok(vec![message(cx.stack(), &request.header, RTM_NEWLINK, &nic, ext_mask)])
}

/// Names an attribute that a request may not carry. The interfaces belong to who started the sandbox: their address, name,
/// queue and master are fixed, as those of a driver that cannot change them.
fn check_changes(attributes: &Attributes<'_>) -> Result<(), Refusal> {
    const TAKEN: &[u16] =
        &[IFLA_IFNAME, IFLA_ALT_IFNAME, IFLA_MTU, IFLA_EXT_MASK, IFLA_LINKINFO, IFLA_AF_SPEC];
    match attributes.iter().find(|attribute| !TAKEN.contains(&attribute.kind)) {
        Some(attribute) => Err(Refusal::from(Errno::EOPNOTSUPP).at(attribute)),
        None => Ok(()),
    }
}

/// RTM_SETLINK, and RTM_NEWLINK of an interface that is there: up, down, MTU (do_setlink). Errors: EINVAL, ENODEV, EOPNOTSUPP.
pub fn set(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let fixed: IfInfoMsg = request.fixed()?;
    let attributes = request.attributes::<IfInfoMsg>(POLICY, Strictness::Liberal)?;
    let nic = find(cx, request)?;
    check_changes(&attributes)?;
    if fixed.index > 0
        && let Some(name) = attributes.find(IFLA_IFNAME)
        && name.text() != nic.name.as_bytes()
    {
        return Err(Refusal::from(Errno::EOPNOTSUPP).at(name));
    }
    if let Some(mtu) = attributes.find(IFLA_MTU) {
        change_mtu(cx.stack(), &nic, mtu.number()).map_err(|refusal| refusal.at(mtu))?;
    }
    if let Some(families) = attributes.find(IFLA_AF_SPEC) {
        link_six::set(cx, &nic, families)?;
    }
    // rtnl_dev_combine_flags: an older tool says nothing of what changes, and means all.
    let now = netdev::flags(&nic);
    let wanted = match (fixed.flags, fixed.change) {
        (0, 0) => now,
        (flags, 0) => flags,
        (flags, change) => now & !change | flags & change,
    };
    change_flags(cx.stack(), &nic, wanted)?;
    Ok(Vec::new())
}

/// dev_set_mtu with its words. Errors: EINVAL.
pub fn change_mtu(stack: &Stack, nic: &NicInfo, mtu: u32) -> Result<(), Refusal> {
    let loopback = nic.kind == NicKind::Loopback;
    let (least, most) = if loopback { (0, u32::MAX) } else { (68, 65_535) };
    if mtu < least {
        return Err(Refusal::new(Errno::EINVAL, "mtu less than device minimum"));
    }
    if mtu > most {
        return Err(Refusal::new(Errno::EINVAL, "mtu greater than device maximum"));
    }
    stack.set_nic_mtu(nic.id, mtu).map_err(|_| Errno::EINVAL.into())
}

/// dev_change_flags: IFF_UP; the other flags of a link cannot be changed here. Errors: EOPNOTSUPP.
pub fn change_flags(stack: &Stack, nic: &NicInfo, wanted: u32) -> Result<(), Refusal> {
    const CHANGEABLE: u32 = IFF_PROMISC | IFF_ALLMULTI | IFF_NOARP;
    let now = netdev::flags(nic);
    if (now ^ wanted) & CHANGEABLE != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if (now ^ wanted) & IFF_UP == 0 {
        return Ok(());
    }
    let state = if wanted & IFF_UP != 0 { NicState::Up } else { NicState::Down };
    stack.set_nic_state(nic.id, state).map_err(|_| Errno::ENODEV.into())
}

/// RTM_NEWLINK: changes what is there; kinds that could be made there are none (rtnl_newlink). Errors: EEXIST, EOPNOTSUPP, ENODEV.
pub fn add(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let flags = request.header.flags;
    match find(cx, request) {
        Ok(_) if flags & NLM_F_EXCL != 0 => Err(Errno::EEXIST.into()),
        Ok(_) if flags & NLM_F_REPLACE != 0 => Err(Errno::EOPNOTSUPP.into()),
        Ok(_) => set(cx, request),
        Err(_) if flags & NLM_F_CREATE != 0 => {
            Err(Refusal::new(Errno::EOPNOTSUPP, "Unknown device type"))
        }
        // Also where nothing is named: by that tools tell a kernel that knows this message.
        Err(_) => Err(Errno::ENODEV.into()),
    }
}

/// RTM_DELLINK: no interface was made by a program, so none can be taken away by one. Errors: ENODEV, EOPNOTSUPP.
pub fn remove(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    find(cx, request)?;
    Err(Errno::EOPNOTSUPP.into())
}

//! What rtnetlink shows of parameters: neighbour tables, per-interface configuration, queueing disciplines, namespace ids and
//! address labels (net/core/neighbour.c, net/ipv4/devinet.c, net/ipv6/addrconf.c, net/sched/sch_api.c, net/ipv6/addrlabel.c).

use core::net::Ipv6Addr;
use core::time::Duration;

use netstack::ip::Family;
use netstack::ip::conf::{ConfTarget, NeighConf, NeighGc};
use netstack::link::NicId;
use sentry_abi::Errno;
use sentry_abi::netlink::*;
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};

use super::super::build::Message;
use super::super::parse::{Attributes, Refusal, Request, Rule, Shape, Strictness};
use super::super::table::{Context, Dump};

const FAMILIES: [(Family, i32, &str); 2] =
    [(Family::V4, AF_INET, "arp_cache"), (Family::V6, AF_INET6, "ndisc_cache")];
/// What a packet costs in the queue of a neighbour, as Linux counts to tell a length in packets (SKB_TRUESIZE of a full frame).
pub const PACKET_COST: u32 = 2304 - 204;

fn families(asked: i32) -> impl Iterator<Item = (Family, i32, &'static str)> {
    FAMILIES.into_iter().filter(move |(_, number, _)| asked == AF_UNSPEC || asked == *number)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn wide(message: &mut Message, kind: u16, value: u64) {
    message.attribute(kind, &value.to_ne_bytes());
}

/// NDTA_PARMS (neightbl_fill_parms)
fn parameters(message: &mut Message, conf: &NeighConf, nic: Option<NicId>) {
    let nest = message.nest(NDTA_PARMS);
    if let Some(nic) = nic {
        message.number(NDTPA_IFINDEX, nic.0);
    }
    message.number(NDTPA_REFCNT, 1);
    let bytes = u32::try_from(conf.unres_qlen_bytes).unwrap_or(u32::MAX);
    message.number(NDTPA_QUEUE_LENBYTES, bytes);
    message.number(NDTPA_QUEUE_LEN, bytes / PACKET_COST);
    message.number(NDTPA_PROXY_QLEN, 64);
    message.number(NDTPA_APP_PROBES, 0);
    message.number(NDTPA_UCAST_PROBES, conf.ucast_solicit);
    message.number(NDTPA_MCAST_PROBES, conf.mcast_solicit);
    // The time in use is drawn anew around the base; its mean is shown.
    wide(message, NDTPA_REACHABLE_TIME, millis(conf.base_reachable_time));
    wide(message, NDTPA_BASE_REACHABLE_TIME, millis(conf.base_reachable_time));
    wide(message, NDTPA_GC_STALETIME, millis(conf.gc_stale_time));
    wide(message, NDTPA_DELAY_PROBE_TIME, millis(conf.delay_first_probe_time));
    wide(message, NDTPA_RETRANS_TIME, millis(conf.retrans_time));
    wide(message, NDTPA_ANYCAST_DELAY, 1000);
    wide(message, NDTPA_PROXY_DELAY, millis(conf.proxy_delay));
    wide(message, NDTPA_LOCKTIME, millis(conf.locktime));
    message.end(nest);
}

/// RTM_GETNEIGHTBL: the defaults of each family with its bounds, then the parameters of each interface.
pub fn neighbour_tables(
    cx: &Context<'_>,
    request: &Request<'_>,
    dump: &mut Dump,
) -> Result<(), Refusal> {
    for (family, number, name) in families(request.family()) {
        let fixed = NdtMsg { family: number as u8, ..NdtMsg::default() };
        let new = || {
            let mut message = Message::new(RTM_NEWNEIGHTBL, &request.header, &fixed);
            message.string(NDTA_NAME, name);
            message
        };
        let tunables = cx.stack().tunables();
        let gc: NeighGc = match family {
            Family::V4 => tunables.ip.neigh_gc_v4,
            Family::V6 => tunables.ip.neigh_gc_v6,
        };
        let mut message = new();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        wide(&mut message, NDTA_GC_INTERVAL, millis(gc.gc_interval));
        message.number(NDTA_THRESH1, count(gc.gc_thresh1));
        message.number(NDTA_THRESH2, count(gc.gc_thresh2));
        message.number(NDTA_THRESH3, count(gc.gc_thresh3));
        let entries = cx.stack().neighbours();
        let own = entries.iter().filter(|(_, entry)| Family::of(entry.address) == family);
        // struct ndt_config: lengths of key and entry in one word, entries, times since flushes, hash, proxies.
        let key = if family == Family::V4 { 4 } else { 16 };
        message.object(NDTA_CONFIG, &[key, count(own.count()), 0, 0, 0, 0, 0, 0u32]);
        parameters(&mut message, tunables.default.neigh(family), None);
        dump.messages.push(message);
        for nic in cx.stack().nics() {
            let Ok(conf) = cx.stack().neigh_conf(ConfTarget::Nic(nic.id), family) else { continue };
            let mut message = new();
            parameters(&mut message, &conf, Some(nic.id));
            dump.messages.push(message);
        }
    }
    Ok(())
}

const TABLE_POLICY: &[Rule] = &[(NDTA_NAME, Shape::Text(32)), (NDTA_PARMS, Shape::Nested)];

/// A time in milliseconds, of 64 bits.
fn time(attributes: &Attributes<'_>, kind: u16) -> Option<Duration> {
    let bytes = attributes.find(kind)?.value.first_chunk::<8>()?;
    Some(Duration::from_millis(u64::from_ne_bytes(*bytes)))
}

/// RTM_SETNEIGHTBL: new parameters of an interface or of the defaults. Errors: EINVAL, ENOENT, EOPNOTSUPP for the bounds.
pub fn set_neighbour_table(
    cx: &Context<'_>,
    request: &Request<'_>,
) -> Result<Vec<Message>, Refusal> {
    let attributes = request.attributes::<NdtMsg>(TABLE_POLICY, Strictness::Liberal)?;
    let name = attributes.find(NDTA_NAME).ok_or(Errno::EINVAL)?;
    let found = families(request.family()).find(|(_, _, own)| own.as_bytes() == name.text());
    let (family, ..) = found.ok_or(Errno::ENOENT)?;
    let bounds = [NDTA_THRESH1, NDTA_THRESH2, NDTA_THRESH3, NDTA_GC_INTERVAL];
    if bounds.iter().any(|kind| attributes.find(*kind).is_some()) {
        // They are set through /proc/sys/net/ipv4/neigh/default.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let Some(inside) = attributes.nested(NDTA_PARMS, &[], Strictness::Liberal)? else {
        return Ok(Vec::new());
    };
    if inside.number(NDTPA_APP_PROBES).is_some_and(|probes| probes != 0) {
        // No daemon is asked.
        return Err(Errno::EOPNOTSUPP.into());
    }
    let target = match inside.number(NDTPA_IFINDEX).unwrap_or(0) {
        0 => ConfTarget::Default,
        index => ConfTarget::Nic(NicId(index)),
    };
    let edit = |conf: &mut NeighConf| {
        let set = |at: &mut Duration, kind| *at = time(&inside, kind).unwrap_or(*at);
        let count = |at: &mut u32, kind| *at = inside.number(kind).unwrap_or(*at);
        set(&mut conf.base_reachable_time, NDTPA_BASE_REACHABLE_TIME);
        set(&mut conf.gc_stale_time, NDTPA_GC_STALETIME);
        set(&mut conf.delay_first_probe_time, NDTPA_DELAY_PROBE_TIME);
        set(&mut conf.retrans_time, NDTPA_RETRANS_TIME);
        set(&mut conf.proxy_delay, NDTPA_PROXY_DELAY);
        set(&mut conf.locktime, NDTPA_LOCKTIME);
        count(&mut conf.ucast_solicit, NDTPA_UCAST_PROBES);
        count(&mut conf.mcast_solicit, NDTPA_MCAST_PROBES);
        if let Some(bytes) = inside.number(NDTPA_QUEUE_LENBYTES) {
            conf.unres_qlen_bytes = bytes as usize;
        }
    };
    cx.stack().edit_neigh_conf(target, family, edit).map_err(|_| Errno::ENOENT)?;
    Ok(Vec::new())
}

/// NETCONFA_IFINDEX of "all" and "default".
const ALL: i32 = -1;
const DEFAULT: i32 = -2;

fn target(index: i32) -> ConfTarget {
    match index {
        ALL => ConfTarget::All,
        DEFAULT => ConfTarget::Default,
        index => ConfTarget::Nic(NicId(index.max(0) as u32)),
    }
}

/// RTM_NEWNETCONF of one instance (inet_netconf_fill_devconf, inet6_netconf_fill_devconf). None where there is no such.
pub fn configuration(
    stack: &netstack::stack::Stack,
    header: &NlMsgHdr,
    family: i32,
    index: i32,
) -> Option<Message> {
    let fixed = [family as u8, 0, 0, 0];
    let mut message = Message::new(RTM_NEWNETCONF, header, &fixed);
    message.number(NETCONFA_IFINDEX, index as u32);
    let put = |message: &mut Message, rows: &[(u16, u32)]| {
        rows.iter().for_each(|(kind, value)| message.number(*kind, *value));
    };
    if family == AF_INET {
        let conf = stack.ipv4_conf(target(index)).ok()?;
        put(
            &mut message,
            &[
                (NETCONFA_FORWARDING, conf.forwarding.into()),
                (NETCONFA_RP_FILTER, conf.rp_filter.into()),
                (NETCONFA_MC_FORWARDING, 0),
                (NETCONFA_BC_FORWARDING, conf.bc_forwarding.into()),
                (NETCONFA_PROXY_NEIGH, conf.proxy_arp.into()),
                (NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, 0),
            ],
        );
    } else {
        let conf = stack.ipv6_conf(target(index)).ok()?;
        put(
            &mut message,
            &[
                (NETCONFA_FORWARDING, conf.forwarding.into()),
                (NETCONFA_MC_FORWARDING, 0),
                (NETCONFA_PROXY_NEIGH, conf.proxy_ndp.into()),
                (NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, 0),
            ],
        );
    }
    Some(message)
}

/// RTM_GETNETCONF of all instances.
pub fn configurations(
    cx: &Context<'_>,
    request: &Request<'_>,
    dump: &mut Dump,
) -> Result<(), Refusal> {
    let nics = cx.stack().nics();
    for (_, family, _) in families(request.family()) {
        let indices = nics.iter().map(|nic| nic.id.0 as i32).chain([ALL, DEFAULT]);
        let rows =
            indices.filter_map(|index| configuration(cx.stack(), &request.header, family, index));
        dump.messages.extend(rows);
    }
    Ok(())
}

/// RTM_GETNETCONF of one instance. Errors: EINVAL, ENODEV.
pub fn one_configuration(cx: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let policy = &[(NETCONFA_IFINDEX, Shape::Number(4))];
    let attributes = request.attributes::<[u8; 4]>(policy, Strictness::Liberal)?;
    let index = attributes.number(NETCONFA_IFINDEX).ok_or(Errno::EINVAL)? as i32;
    let family = request.family();
    if !matches!(family, AF_INET | AF_INET6) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let found = configuration(cx.stack(), &request.header, family, index);
    Ok(vec![found.ok_or(Errno::EINVAL)?])
}

/// RTM_GETQDISC: every interface sends at once, which Linux calls noqueue.
pub fn disciplines(
    cx: &Context<'_>,
    request: &Request<'_>,
    dump: &mut Dump,
) -> Result<(), Refusal> {
    const TC_H_ROOT: u32 = u32::MAX;
    let only = request.fixed::<TcMsg>().map_or(0, |fixed| fixed.ifindex);
    for nic in cx.stack().nics().iter().filter(|nic| only == 0 || only == nic.id.0 as i32) {
        let fixed =
            TcMsg { ifindex: nic.id.0 as i32, parent: TC_H_ROOT, info: 2, ..TcMsg::default() };
        let mut message = Message::new(RTM_NEWQDISC, &request.header, &fixed);
        message.string(TCA_KIND, "noqueue");
        dump.messages.push(message);
    }
    Ok(())
}

/// RTM_GETNSID of one namespace: there is but one, which has no id in itself (NETNSA_NSID_NOT_ASSIGNED).
pub fn namespace_id(_: &Context<'_>, request: &Request<'_>) -> Result<Vec<Message>, Refusal> {
    let attributes = request.attributes::<[u8; 4]>(&[], Strictness::Liberal)?;
    let named = [NETNSA_PID, NETNSA_FD, NETNSA_NSID].iter().find_map(|kind| attributes.find(*kind));
    if named.is_none() {
        return Err(Refusal::new(Errno::EINVAL, "Peer netns reference is missing"));
    }
    let mut message = Message::new(RTM_NEWNSID, &request.header, &[0u8; 4]);
    message.number(NETNSA_NSID, u32::MAX);
    Ok(vec![message])
}

/// A listing of what there is none of: namespaces with an id, next-hop objects, classes and filters of queues.
pub fn none(_: &Context<'_>, _: &Request<'_>, _: &mut Dump) -> Result<(), Refusal> {
    Ok(())
}

/// The policy table of source address selection, as Linux begins with it (net/ipv6/addrlabel.c): prefix, length, label.
const LABELS: [(Ipv6Addr, u8, u32); 10] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 1), 128, 0),
    (Ipv6Addr::UNSPECIFIED, 96, 3),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 4),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 6),
    (Ipv6Addr::new(0x2001, 0x10, 0, 0, 0, 0, 0, 0), 28, 7),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, 12),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 2),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 11),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 5),
    (Ipv6Addr::UNSPECIFIED, 0, 1),
];

/// RTM_GETADDRLABEL
pub fn labels(_: &Context<'_>, request: &Request<'_>, dump: &mut Dump) -> Result<(), Refusal> {
    if !matches!(request.family(), AF_INET6 | AF_UNSPEC) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    for (address, prefixlen, label) in LABELS {
        let fixed = IfAddrLblMsg { family: AF_INET6 as u8, prefixlen, ..IfAddrLblMsg::default() };
        let mut message = Message::new(RTM_NEWADDRLABEL, &request.header, &fixed);
        message.attribute(IFAL_ADDRESS, &address.octets());
        message.number(IFAL_LABEL, label);
        dump.messages.push(message);
    }
    Ok(())
}

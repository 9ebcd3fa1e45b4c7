//! Level IPPROTO_IPV6 (ipv6(7), RFC 3493, RFC 3542).

use core::net::{IpAddr, Ipv6Addr};

use netstack::ip::SourcePreference;
use netstack::link::NicId;
use netstack::socket::datagram::SourceChange;
use netstack::socket::options::{Asks, IpOption, IpOptionKind, Level, Membership};
use netstack::socket::{DatagramOption, OptionValue, SocketOption, SocketOptionKind};
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_kernel::Result;

use super::datagram;
use super::ip::{self, NO_POLICIES, no_policy};
use super::row::{Call, Row, Shape, Sorts, asks, flag, number, own, refused, told, zero_or_one};
use super::{headers, value};
use crate::errno;

const INT: Shape = Shape::Int;
const STREAM: Sorts = Sorts::TCP;
const NOT_YET: &str = "not yet";
const OLD: &str = "of RFC 2292; RFC 3542 has the same by other numbers";
const NEVER: &str = "not in Linux";

/// The rows, by number.
pub const ROWS: &[Row] = &[
    own("IPV6_ADDRFORM", IPV6_ADDRFORM, "int", Some(|_| Err(Errno::EINVAL.into())), Some(no_form))
        .partial("a socket stays of its family"),
    asks!(IPV6_2292PKTINFO, INT, Level::Ipv6, Asks::OLD_PACKET_INFO),
    asks!(IPV6_2292HOPOPTS, INT, Level::Ipv6, Asks::OLD_HOP_OPTIONS),
    asks!(IPV6_2292DSTOPTS, INT, Level::Ipv6, Asks::OLD_DESTINATION_OPTIONS),
    asks!(IPV6_2292RTHDR, INT, Level::Ipv6, Asks::OLD_ROUTING),
    refused("IPV6_2292PKTOPTIONS", IPV6_2292PKTOPTIONS, Errno::ENOPROTOOPT, OLD),
    number("IPV6_CHECKSUM", IPV6_CHECKSUM, INT, checksum)
        .live(|call| {
            match call.inet()?.ask(IpOptionKind::ChecksumOffset.into()).map_err(errno::of_option)? {
                _ if call.inet()?.protocol == IPPROTO_ICMPV6 => Ok(2),
                OptionValue::IpOption(IpOption::ChecksumOffset(Some(_))) => Ok(call.stored()),
                _ => Ok(-1),
            }
        })
        // What lies beyond every packet fits none.
        .tells(|n| {
            let offset = n.min(i64::from(u16::MAX));
            IpOption::ChecksumOffset(u16::try_from(offset).ok()).into()
        })
        .only(Sorts::RAW, Errno::ENOPROTOOPT, Errno::ENOPROTOOPT),
    asks!(IPV6_2292HOPLIMIT, INT, Level::Ipv6, Asks::OLD_TTL),
    refused("IPV6_NEXTHOP", IPV6_NEXTHOP, Errno::ENOPROTOOPT, NEVER),
    refused("IPV6_AUTHHDR", IPV6_AUTHHDR, Errno::ENOPROTOOPT, NEVER),
    asks!(IPV6_FLOWINFO, INT, Level::Ipv6, Asks::FLOW),
    number("IPV6_UNICAST_HOPS", IPV6_UNICAST_HOPS, INT, |_, n| ip::hops(n, 0))
        .default(-1)
        .live(|call| match call.stored() {
            -1 => Ok(i64::from(call.inet()?.net.default_ttl())),
            hops => Ok(hops),
        })
        .tells(|n| IpOption::Ttl(u8::try_from(n).ok()).into()),
    number("IPV6_MULTICAST_IF", IPV6_MULTICAST_IF, INT, |call, n| {
        let wanted = u32::try_from(n).map_err(|_| Errno::ENODEV)?;
        match wanted == 0
            || call.inet()?.net.stack().nics().iter().any(|nic| nic.id == NicId(wanted))
        {
            true => Ok(i64::from(n)),
            false => Err(Errno::ENODEV.into()),
        }
    })
    .tells(|n| {
        IpOption::MulticastInterface(u32::try_from(n).ok().filter(|n| *n != 0).map(NicId)).into()
    })
    .only_set(Sorts::MESSAGES, Errno::ENOPROTOOPT),
    number("IPV6_MULTICAST_HOPS", IPV6_MULTICAST_HOPS, INT, |_, n| {
        ip::hops(n, 0).map(|hops| if hops == -1 { 1 } else { hops })
    })
    .default(1)
    .tells(|n| IpOption::MulticastTtl(n as u8).into())
    .only_set(Sorts::MESSAGES, Errno::ENOPROTOOPT),
    zero_or_one("IPV6_MULTICAST_LOOP", IPV6_MULTICAST_LOOP, INT)
        .default(1)
        .tells(|n| IpOption::MulticastLoop(n != 0).into())
        .inert(STREAM),
    own(
        "IPV6_ADD_MEMBERSHIP",
        IPV6_ADD_MEMBERSHIP,
        "struct ipv6_mreq",
        Some(|call| join_or_leave(call, IpOption::JoinGroup)),
        None,
    ),
    own(
        "IPV6_DROP_MEMBERSHIP",
        IPV6_DROP_MEMBERSHIP,
        "struct ipv6_mreq",
        Some(|call| join_or_leave(call, IpOption::LeaveGroup)),
        None,
    ),
    refused("IPV6_ROUTER_ALERT", IPV6_ROUTER_ALERT, Errno::ENOPROTOOPT, NOT_YET),
    number("IPV6_MTU_DISCOVER", IPV6_MTU_DISCOVER, INT, |_, n| ip::mtu_discover(n))
        .default(1)
        .tells(|n| IpOption::MtuDiscover(ip::mtu_discover_of(n)).into()),
    number("IPV6_MTU", IPV6_MTU, INT, |_, n| match n {
        0 | 1280.. => Ok(i64::from(n)),
        _ => Err(Errno::EINVAL.into()),
    })
    .live(ip::path_mtu)
    .tells(|n| DatagramOption::LargestPacket(u32::try_from(n).ok().filter(|n| *n != 0)).into())
    .inert(STREAM),
    asks!(IPV6_RECVERR, INT, Level::Ipv6, Asks::ERRORS),
    flag("IPV6_V6ONLY", IPV6_V6ONLY, INT)
        .live(v6_only)
        .tells(|n| IpOption::V6Only(n != 0).into())
        .only_set(Sorts::INET.difference(Sorts::RAW), Errno::EINVAL),
    refused(
        "IPV6_JOIN_ANYCAST",
        IPV6_JOIN_ANYCAST,
        Errno::ENOPROTOOPT,
        "as in a kernel without anycast",
    ),
    refused(
        "IPV6_LEAVE_ANYCAST",
        IPV6_LEAVE_ANYCAST,
        Errno::ENOPROTOOPT,
        "as in a kernel without anycast",
    ),
    flag("IPV6_MULTICAST_ALL", IPV6_MULTICAST_ALL, INT)
        .default(1)
        .tells(|n| DatagramOption::MulticastAll(n != 0).into())
        .inert(STREAM),
    refused("IPV6_ROUTER_ALERT_ISOLATE", IPV6_ROUTER_ALERT_ISOLATE, Errno::ENOPROTOOPT, NOT_YET),
    zero_or_one("IPV6_RECVERR_RFC4884", IPV6_RECVERR_RFC4884, INT)
        .tells(|n| told(Level::Ipv6, Asks::ERROR_EXTENSIONS, n))
        .inert(STREAM),
    refused(
        "IPV6_FLOWLABEL_MGR",
        IPV6_FLOWLABEL_MGR,
        Errno::ENOPROTOOPT,
        "flow labels are not leased",
    ),
    flag("IPV6_FLOWINFO_SEND", IPV6_FLOWINFO_SEND, INT)
        .tells(|n| DatagramOption::SendFlow(n != 0).into())
        .inert(STREAM),
    own(
        "IPV6_IPSEC_POLICY",
        IPV6_IPSEC_POLICY,
        "struct xfrm_userpolicy_info",
        Some(no_policy),
        None,
    )
    .partial(NO_POLICIES),
    own("IPV6_XFRM_POLICY", IPV6_XFRM_POLICY, "struct xfrm_userpolicy_info", Some(no_policy), None)
        .partial(NO_POLICIES),
    flag("IPV6_HDRINCL", IPV6_HDRINCL, INT)
        .live(ip::header_included)
        .tells(|n| IpOption::HeaderIncluded(n != 0).into())
        .only(Sorts::RAW, Errno::ENOPROTOOPT, Errno::ENOPROTOOPT),
    own(
        "MCAST_JOIN_GROUP",
        MCAST_JOIN_GROUP,
        "struct group_req",
        Some(|call| group(call, IpOption::JoinGroup)),
        None,
    ),
    own(
        "MCAST_BLOCK_SOURCE",
        MCAST_BLOCK_SOURCE,
        "struct group_source_req",
        Some(|call| datagram::source(call, SourceChange::Block)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "MCAST_UNBLOCK_SOURCE",
        MCAST_UNBLOCK_SOURCE,
        "struct group_source_req",
        Some(|call| datagram::source(call, SourceChange::Unblock)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "MCAST_LEAVE_GROUP",
        MCAST_LEAVE_GROUP,
        "struct group_req",
        Some(|call| group(call, IpOption::LeaveGroup)),
        None,
    ),
    own(
        "MCAST_JOIN_SOURCE_GROUP",
        MCAST_JOIN_SOURCE_GROUP,
        "struct group_source_req",
        Some(|call| datagram::source(call, SourceChange::Join)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "MCAST_LEAVE_SOURCE_GROUP",
        MCAST_LEAVE_SOURCE_GROUP,
        "struct group_source_req",
        Some(|call| datagram::source(call, SourceChange::Leave)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "MCAST_MSFILTER",
        MCAST_MSFILTER,
        "struct group_filter",
        Some(datagram::set_sources),
        Some(datagram::sources),
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::EINVAL),
    asks!(IPV6_RECVPKTINFO, INT, Level::Ipv6, Asks::PACKET_INFO),
    own("IPV6_PKTINFO", IPV6_PKTINFO, "struct in6_pktinfo", Some(set_message_nic), None)
        .note("as on Linux its interface alone; streams only take it"),
    asks!(IPV6_RECVHOPLIMIT, INT, Level::Ipv6, Asks::TTL),
    refused("IPV6_HOPLIMIT", IPV6_HOPLIMIT, Errno::ENOPROTOOPT, "on Linux too for messages only"),
    asks!(IPV6_RECVHOPOPTS, INT, Level::Ipv6, Asks::HOP_OPTIONS),
    own(
        "IPV6_HOPOPTS",
        IPV6_HOPOPTS,
        "an extension header",
        Some(headers::set),
        Some(headers::get),
    )
    .note("streams keep it and do not send it"),
    own(
        "IPV6_RTHDRDSTOPTS",
        IPV6_RTHDRDSTOPTS,
        "an extension header",
        Some(headers::set),
        Some(headers::get),
    )
    .note("kept; as on Linux it is sent only before a routing header, and none is sent"),
    asks!(IPV6_RECVRTHDR, INT, Level::Ipv6, Asks::ROUTING),
    own(
        "IPV6_RTHDR",
        IPV6_RTHDR,
        "an extension header",
        Some(headers::set_routing),
        Some(|_| Ok(Vec::new())),
    )
    .note("EINVAL for any but none, as in a kernel without mobility and segment routing"),
    asks!(IPV6_RECVDSTOPTS, INT, Level::Ipv6, Asks::DESTINATION_OPTIONS),
    own(
        "IPV6_DSTOPTS",
        IPV6_DSTOPTS,
        "an extension header",
        Some(headers::set),
        Some(headers::get),
    )
    .note("streams keep it and do not send it"),
    asks!(IPV6_RECVPATHMTU, INT, Level::Ipv6, Asks::PATH_MTU),
    own("IPV6_PATHMTU", IPV6_PATHMTU, "struct ip6_mtuinfo", None, Some(path_mtu_info)),
    flag("IPV6_DONTFRAG", IPV6_DONTFRAG, Shape::IntOrZero)
        .tells(|n| DatagramOption::DontFragment(n != 0).into())
        .inert(STREAM),
    refused("IPV6_USE_MIN_MTU", IPV6_USE_MIN_MTU, Errno::ENOPROTOOPT, NEVER),
    asks!(IPV6_RECVTCLASS, INT, Level::Ipv6, Asks::TOS),
    number("IPV6_TCLASS", IPV6_TCLASS, INT, |call, n| {
        let class = match n {
            -1 => 0,
            class => i64::from(u8::try_from(class).map_err(|_| Errno::EINVAL)?),
        };
        // The ECN bits of a stream are TCP's.
        Ok(if call.socket.options().sort() == STREAM {
            class & !3 | call.stored() & 3
        } else {
            class
        })
    })
    .tells(|n| IpOption::TrafficClass(n as u8).into()),
    flag("IPV6_AUTOFLOWLABEL", IPV6_AUTOFLOWLABEL, Shape::IntOrZero)
        .default(1)
        .tells(|n| DatagramOption::AutoFlowLabel(n != 0).into())
        .inert(STREAM),
    number("IPV6_ADDR_PREFERENCES", IPV6_ADDR_PREFERENCES, INT, preferences)
        .live(|call| {
            let home = if call.stored() & PREFER_COA == 0 { PREFER_HOME } else { PREFER_COA };
            Ok(home
                | match call.stored() & (PREFER_TMP | PREFER_PUBLIC) {
                    0 => PREFER_DEFAULT,
                    chosen => chosen,
                })
        })
        .tells(|n| {
            IpOption::Sources(match n & (PREFER_TMP | PREFER_PUBLIC) {
                PREFER_TMP => SourcePreference::Temporary,
                PREFER_PUBLIC => SourcePreference::Public,
                _ => SourcePreference::Default,
            })
            .into()
        })
        .note("temporary and public addresses; without mobility every address is at home"),
    number("IPV6_MINHOPCOUNT", IPV6_MINHOPCOUNT, INT, |_, n| ip::least_hops(n))
        .tells(|n| IpOption::MinHops(n as u8).into())
        .inert(Sorts::MESSAGES)
        .note("as on Linux only streams look at it"),
    asks!(IPV6_RECVORIGDSTADDR, INT, Level::Ipv6, Asks::ORIGINAL),
    refused(
        "IPV6_TRANSPARENT",
        IPV6_TRANSPARENT,
        Errno::EPERM,
        "no packets of foreign addresses: as for a caller without CAP_NET_RAW",
    )
    .reads(Errno::ENOPROTOOPT),
    own(
        "IPV6_UNICAST_IF",
        IPV6_UNICAST_IF,
        "an interface's index in network order",
        Some(datagram::set_unicast_nic),
        Some(datagram::unicast_nic),
    )
    .partial("streams only store it"),
    flag("IPV6_RECVFRAGSIZE", IPV6_RECVFRAGSIZE, Shape::IntOrZero)
        .tells(|n| told(Level::Ipv6, Asks::FRAGMENT, n))
        .inert(STREAM),
    flag("IPV6_FREEBIND", IPV6_FREEBIND, INT).tells(|n| IpOption::FreeBind(n != 0).into()),
];

/// IPV6_PREFER_SRC_*: of two addresses of a pair one, or neither.
const PREFER_TMP: i64 = 1;
const PREFER_PUBLIC: i64 = 2;
const PREFER_COA: i64 = 4;
const PREFER_CGA: i64 = 8;
const PREFER_DEFAULT: i64 = 0x100;
const PREFER_HOME: i64 = 0x400;
const PREFER_NON_CGA: i64 = 0x800;

/// Which addresses a socket would rather send from (RFC 5014). Errors: EINVAL for a pair of which both are wanted.
fn preferences(call: &Call<'_>, number: i32) -> Result<i64> {
    let asked = i64::from(number);
    let one_of = |mask: i64| (asked & mask).count_ones() <= 1;
    let kinds = PREFER_PUBLIC | PREFER_TMP | PREFER_DEFAULT;
    if !one_of(kinds) || !one_of(PREFER_HOME | PREFER_COA) || !one_of(PREFER_CGA | PREFER_NON_CGA) {
        return Err(Errno::EINVAL.into());
    }
    let mut kept = call.stored();
    if asked & kinds != 0 {
        kept = kept & !(PREFER_PUBLIC | PREFER_TMP) | asked & (PREFER_PUBLIC | PREFER_TMP);
    }
    match asked & (PREFER_HOME | PREFER_COA) {
        PREFER_HOME => kept &= !PREFER_COA,
        PREFER_COA => kept |= PREFER_COA,
        _ => {}
    }
    Ok(kept)
}

/// The interface of messages that name none. Errors: EINVAL.
fn set_message_nic(call: &Call<'_>) -> Result<()> {
    let info: In6PktInfo = value::object(call.bytes)?;
    let nic = u32::try_from(info.ifindex).ok().filter(|index| *index != 0).map(NicId);
    let inet = call.inet()?;
    let bound = inet.ask(SocketOptionKind::BindToDevice.into());
    // Linux's sk_dev_equal_l3scope: a socket of a device stays with it.
    if let (Ok(OptionValue::SocketOption(SocketOption::BindToDevice(Some(device)))), Some(nic)) =
        (bound, nic)
        && device != nic
    {
        return Err(Errno::EINVAL.into());
    }
    match inet.endpoint.datagram() {
        Some(_) => inet.tell(DatagramOption::MessageInterface(nic).into()),
        None => Ok(()),
    }
}

/// Whether a socket is of IPv6 alone: also, as on Linux, once it is bound to an IPv6 address, and a ping socket from the start.
fn v6_only(call: &Call<'_>) -> Result<i64> {
    let inet = call.inet()?;
    let bound = match inet.endpoint.local_addr() {
        core::net::SocketAddr::V6(local) => {
            let any = local.ip().is_unspecified();
            !any && local.ip().to_ipv4_mapped().is_none() && inet.endpoint.peer_addr().is_none()
        }
        core::net::SocketAddr::V4(_) => false,
    };
    match call.socket.options().sort() {
        Sorts::PING => Ok(call.socket.options().number(call.level, IPV6_V6ONLY).unwrap_or(1)),
        Sorts::RAW => Ok(0),
        _ if bound => Ok(1),
        _ => match inet.ask(IpOptionKind::V6Only.into()).map_err(errno::of_option)? {
            OptionValue::IpOption(IpOption::V6Only(on)) => Ok(i64::from(on)),
            _ => Ok(0),
        },
    }
}

/// To read it is to ask whether the socket may change: one without ports never may, another is not connected over IPv4.
fn no_form(call: &Call<'_>) -> Result<Vec<u8>> {
    let has_ports = (Sorts::TCP | Sorts::UDP).contains(call.socket.options().sort());
    Err(if has_ports { Errno::ENOTCONN } else { Errno::ENOPROTOOPT }.into())
}

/// The offset of a raw socket's checksum; ICMPv6's is the stack's own.
fn checksum(call: &Call<'_>, number: i32) -> Result<i64> {
    if call.inet()?.protocol == IPPROTO_ICMPV6 {
        return Err(Errno::EINVAL.into());
    }
    match number {
        // "You may get strange result with a positive odd offset".
        offset if offset > 0 && offset & 1 != 0 => Err(Errno::EINVAL.into()),
        0.. => Ok(i64::from(number)),
        ..0 => Ok(-1),
    }
}

fn join_or_leave(call: &Call<'_>, option: fn(Membership) -> IpOption) -> Result<()> {
    let request: Ipv6Mreq = value::object(call.bytes)?;
    if call.socket.options().sort() == STREAM {
        return Err(Errno::EPROTO.into());
    }
    let group = Ipv6Addr::from(request.multiaddr);
    if !group.is_multicast() {
        return Err(Errno::EINVAL.into());
    }
    let nic = ip::nic(request.ifindex)?;
    call.inet()?.tell(option(Membership { group: group.into(), nic }).into())
}

fn group(call: &Call<'_>, option: fn(Membership) -> IpOption) -> Result<()> {
    let (nic, group) = ip::group_request(call.bytes)?;
    match group {
        IpAddr::V6(v6) if v6.is_multicast() => {
            call.inet()?.tell(option(Membership { group, nic }).into())
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// struct ip6_mtuinfo: the peer's address and the path's MTU.
fn path_mtu_info(call: &Call<'_>) -> Result<Vec<u8>> {
    const LEN: usize = size_of::<SockAddrIn6>() + 4;
    if call.bytes.len() < LEN {
        return Err(Errno::EINVAL.into());
    }
    let mtu = ip::path_mtu(call)?;
    // Linux fills in the MTU alone.
    let mut out = vec![0; LEN - 4];
    out.extend_from_slice(&(mtu as u32).to_ne_bytes());
    Ok(out)
}

//! Level IPPROTO_IPV6 (ipv6(7), RFC 3493, RFC 3542).

use core::net::{IpAddr, Ipv6Addr};

use netstack::link::NicId;
use netstack::socket::datagram::SourceChange;
use netstack::socket::options::{IpOption, IpOptionKind, Membership};
use netstack::socket::{DatagramOption, OptionValue};
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_kernel::Result;

use super::datagram;
use super::ip::{self, NO_POLICIES, no_policy};
use super::row::{Call, Row, Shape, Sorts, flag, number, own, refused, shown, zero_or_one};
use super::value;
use crate::errno;

const INT: Shape = Shape::Int;
const STREAM: Sorts = Sorts::TCP;
const NOT_YET: &str = "not yet";
const OLD: &str = "of RFC 2292; RFC 3542 has the same by other numbers";
const NEVER: &str = "not in Linux";
const NO_EXTENSIONS: &str = "extension headers are not sent";

/// The rows, by number.
pub const ROWS: &[Row] = &[
    own("IPV6_ADDRFORM", IPV6_ADDRFORM, "int", Some(|_| Err(Errno::EINVAL.into())), Some(no_form))
        .partial("a socket stays of its family"),
    refused("IPV6_2292PKTINFO", IPV6_2292PKTINFO, Errno::ENOPROTOOPT, OLD),
    refused("IPV6_2292HOPOPTS", IPV6_2292HOPOPTS, Errno::ENOPROTOOPT, OLD),
    refused("IPV6_2292DSTOPTS", IPV6_2292DSTOPTS, Errno::ENOPROTOOPT, OLD),
    refused("IPV6_2292RTHDR", IPV6_2292RTHDR, Errno::ENOPROTOOPT, OLD),
    refused("IPV6_2292PKTOPTIONS", IPV6_2292PKTOPTIONS, Errno::ENOPROTOOPT, OLD),
    number("IPV6_CHECKSUM", IPV6_CHECKSUM, INT, checksum)
        .live(|call| {
            match call.inet()?.ask(IpOptionKind::ChecksumOffset.into()).map_err(errno::of_option)? {
                _ if call.inet()?.protocol == IPPROTO_ICMPV6 => Ok(2),
                OptionValue::IpOption(IpOption::ChecksumOffset(offset)) => {
                    Ok(offset.map_or(-1, i64::from))
                }
                _ => Ok(-1),
            }
        })
        .tells(|n| IpOption::ChecksumOffset(u16::try_from(n).ok()).into())
        .only(Sorts::RAW, Errno::ENOPROTOOPT, Errno::ENOPROTOOPT),
    refused("IPV6_2292HOPLIMIT", IPV6_2292HOPLIMIT, Errno::ENOPROTOOPT, OLD),
    refused("IPV6_NEXTHOP", IPV6_NEXTHOP, Errno::ENOPROTOOPT, NEVER),
    refused("IPV6_AUTHHDR", IPV6_AUTHHDR, Errno::ENOPROTOOPT, NEVER),
    flag("IPV6_FLOWINFO", IPV6_FLOWINFO, INT)
        .tells(|n| DatagramOption::ReceiveFlow(n != 0).into())
        .inert(STREAM),
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
        .tells(|n| IpOption::MtuDiscover(ip::mtu_discover_of(n)).into())
        .partial("IPV6_PMTUDISC_INTERFACE and IPV6_PMTUDISC_OMIT are refused with EINVAL"),
    shown("IPV6_MTU", IPV6_MTU, ip::path_mtu)
        .partial("read only: the least size of fragments cannot be set"),
    flag("IPV6_RECVERR", IPV6_RECVERR, INT)
        .tells(|n| IpOption::ReceiveErrors(n != 0).into())
        .inert(STREAM),
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
    refused("IPV6_RECVERR_RFC4884", IPV6_RECVERR_RFC4884, Errno::ENOPROTOOPT, NOT_YET),
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
    refused("IPV6_HDRINCL", IPV6_HDRINCL, Errno::ENOPROTOOPT, NOT_YET),
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
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    flag("IPV6_RECVPKTINFO", IPV6_RECVPKTINFO, INT)
        .tells(|n| IpOption::PacketInfo(n != 0).into())
        .inert(STREAM),
    refused(
        "IPV6_PKTINFO",
        IPV6_PKTINFO,
        Errno::EINVAL,
        "for a single message only, with sendmsg(2)",
    )
    .reads(Errno::ENOPROTOOPT),
    flag("IPV6_RECVHOPLIMIT", IPV6_RECVHOPLIMIT, INT)
        .tells(|n| IpOption::ReceiveTtl(n != 0).into())
        .inert(STREAM),
    refused("IPV6_HOPLIMIT", IPV6_HOPLIMIT, Errno::ENOPROTOOPT, "on Linux too for messages only"),
    refused("IPV6_RECVHOPOPTS", IPV6_RECVHOPOPTS, Errno::ENOPROTOOPT, NOT_YET),
    refused("IPV6_HOPOPTS", IPV6_HOPOPTS, Errno::EPERM, NO_EXTENSIONS).reads(Errno::ENOPROTOOPT),
    refused("IPV6_RTHDRDSTOPTS", IPV6_RTHDRDSTOPTS, Errno::EPERM, NO_EXTENSIONS)
        .reads(Errno::ENOPROTOOPT),
    refused("IPV6_RECVRTHDR", IPV6_RECVRTHDR, Errno::ENOPROTOOPT, NOT_YET),
    refused("IPV6_RTHDR", IPV6_RTHDR, Errno::EINVAL, NO_EXTENSIONS).reads(Errno::ENOPROTOOPT),
    refused("IPV6_RECVDSTOPTS", IPV6_RECVDSTOPTS, Errno::ENOPROTOOPT, NOT_YET),
    refused("IPV6_DSTOPTS", IPV6_DSTOPTS, Errno::EPERM, NO_EXTENSIONS).reads(Errno::ENOPROTOOPT),
    refused("IPV6_RECVPATHMTU", IPV6_RECVPATHMTU, Errno::ENOPROTOOPT, NOT_YET),
    own("IPV6_PATHMTU", IPV6_PATHMTU, "struct ip6_mtuinfo", None, Some(path_mtu_info)),
    flag("IPV6_DONTFRAG", IPV6_DONTFRAG, INT)
        .tells(|n| DatagramOption::DontFragment(n != 0).into())
        .inert(STREAM),
    refused("IPV6_USE_MIN_MTU", IPV6_USE_MIN_MTU, Errno::ENOPROTOOPT, NEVER),
    flag("IPV6_RECVTCLASS", IPV6_RECVTCLASS, INT)
        .tells(|n| IpOption::ReceiveTos(n != 0).into())
        .inert(STREAM),
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
    flag("IPV6_AUTOFLOWLABEL", IPV6_AUTOFLOWLABEL, INT)
        .default(1)
        .tells(|n| DatagramOption::AutoFlowLabel(n != 0).into())
        .inert(STREAM),
    refused("IPV6_ADDR_PREFERENCES", IPV6_ADDR_PREFERENCES, Errno::ENOPROTOOPT, NOT_YET),
    refused("IPV6_MINHOPCOUNT", IPV6_MINHOPCOUNT, Errno::ENOPROTOOPT, NOT_YET),
    flag("IPV6_RECVORIGDSTADDR", IPV6_RECVORIGDSTADDR, INT)
        .tells(|n| DatagramOption::ReceiveOriginal(n != 0).into())
        .inert(STREAM),
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
    refused("IPV6_RECVFRAGSIZE", IPV6_RECVFRAGSIZE, Errno::ENOPROTOOPT, NOT_YET),
    flag("IPV6_FREEBIND", IPV6_FREEBIND, INT).tells(|n| IpOption::FreeBind(n != 0).into()),
];

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
        0..=0xffff => Ok(i64::from(number)),
        ..0 => Ok(-1),
        _ => Err(Errno::EINVAL.into()),
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

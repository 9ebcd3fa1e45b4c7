//! Level IPPROTO_IP (ip(7)).

use core::net::{IpAddr, Ipv4Addr};

use netstack::ip::Family;
use netstack::link::NicId;
use netstack::socket::datagram::SourceChange;
use netstack::socket::options::{Asks, IpOption, IpOptionKind, Level, Membership, MtuDiscover};
use netstack::socket::{DatagramOption, OptionValue, SocketOption};
use netstack::wire::ipv4_options::Options;
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::{SO_PRIORITY, SOL_SOCKET};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;

use super::datagram;
use super::row::{
    Call, Row, Shape, Sorts, asks, flag, number, own, refused, shown, told, zero_or_one,
};
use super::value;
use crate::errno;

const INT: Shape = Shape::IntOrByte;
const SOME: Shape = Shape::SomeIntOrByte;
const STREAM: Sorts = Sorts::TCP;
const RAW: Sorts = Sorts::RAW;
const NOT_YET: &str = "not yet";
pub(super) const NO_POLICIES: &str =
    "there is no IPsec: ENOPROTOOPT with CAP_NET_ADMIN, as in a kernel without it";

/// The rows, by number.
pub const ROWS: &[Row] = &[
    number("IP_TOS", IP_TOS, INT, tos).tells(|n| IpOption::Tos(n as u8).into()),
    number("IP_TTL", IP_TTL, SOME, |_, n| hops(n, 1))
        .default(-1)
        .live(|call| match call.stored() {
            -1 => Ok(i64::from(call.inet()?.net.default_ttl())),
            ttl => Ok(ttl),
        })
        .tells(|n| IpOption::Ttl(u8::try_from(n).ok()).into()),
    flag("IP_HDRINCL", IP_HDRINCL, INT)
        .live(header_included)
        .tells(|n| IpOption::HeaderIncluded(n != 0).into())
        .only_set(RAW, Errno::ENOPROTOOPT),
    own(
        "IP_OPTIONS",
        IP_OPTIONS,
        "options of the header, at most 40 bytes",
        Some(set_options),
        Some(options),
    )
    .partial("streams refuse any but none with ENOPROTOOPT"),
    refused("IP_ROUTER_ALERT", IP_ROUTER_ALERT, Errno::ENOPROTOOPT, NOT_YET),
    asks!(IP_RECVOPTS, INT, Level::Ip, Asks::OPTIONS),
    asks!(IP_RETOPTS, INT, Level::Ip, Asks::RETURN_OPTIONS),
    asks!(IP_PKTINFO, INT, Level::Ip, Asks::PACKET_INFO),
    own("IP_PKTOPTIONS", IP_PKTOPTIONS, "control messages", None, Some(|_| Ok(Vec::new())))
        .only(STREAM, Errno::ENOPROTOOPT, Errno::ENOPROTOOPT)
        .partial("nothing of the last segment's header is kept for it"),
    number("IP_MTU_DISCOVER", IP_MTU_DISCOVER, INT, |_, n| mtu_discover(n))
        .default(1)
        .tells(|n| IpOption::MtuDiscover(mtu_discover_of(n)).into()),
    asks!(IP_RECVERR, INT, Level::Ip, Asks::ERRORS),
    asks!(IP_RECVTTL, INT, Level::Ip, Asks::TTL),
    asks!(IP_RECVTOS, INT, Level::Ip, Asks::TOS),
    shown("IP_MTU", IP_MTU, path_mtu),
    flag("IP_FREEBIND", IP_FREEBIND, SOME).tells(|n| IpOption::FreeBind(n != 0).into()),
    own("IP_IPSEC_POLICY", IP_IPSEC_POLICY, "struct xfrm_userpolicy_info", Some(no_policy), None)
        .partial(NO_POLICIES),
    own("IP_XFRM_POLICY", IP_XFRM_POLICY, "struct xfrm_userpolicy_info", Some(no_policy), None)
        .partial(NO_POLICIES),
    flag("IP_PASSSEC", IP_PASSSEC, INT)
        .note("stored; as on Linux without a security module no label comes"),
    refused(
        "IP_TRANSPARENT",
        IP_TRANSPARENT,
        Errno::EPERM,
        "no packets of foreign addresses: as for a caller without CAP_NET_RAW",
    )
    .reads(Errno::ENOPROTOOPT),
    asks!(IP_RECVORIGDSTADDR, INT, Level::Ip, Asks::ORIGINAL),
    number("IP_MINTTL", IP_MINTTL, SOME, |_, n| least_hops(n))
        .tells(|n| IpOption::MinTtl(n as u8).into())
        .inert(Sorts::MESSAGES)
        .note("as on Linux only streams look at it"),
    flag("IP_NODEFRAG", IP_NODEFRAG, INT)
        .only_set(RAW, Errno::ENOPROTOOPT)
        .note("stored; as on Linux it matters only to connection tracking"),
    flag("IP_CHECKSUM", IP_CHECKSUM, INT)
        .note("stored; as on Linux nothing is told where no device sums whole packets"),
    flag("IP_BIND_ADDRESS_NO_PORT", IP_BIND_ADDRESS_NO_PORT, INT)
        .tells(|n| IpOption::BindAddressNoPort(n != 0).into()),
    asks!(IP_RECVFRAGSIZE, INT, Level::Ip, Asks::FRAGMENT).only_set(Sorts::MESSAGES, Errno::EINVAL),
    zero_or_one("IP_RECVERR_RFC4884", IP_RECVERR_RFC4884, INT)
        .tells(|n| told(Level::Ip, Asks::ERROR_EXTENSIONS, n))
        .inert(STREAM),
    own(
        "IP_MULTICAST_IF",
        IP_MULTICAST_IF,
        "struct in_addr, ip_mreq or ip_mreqn",
        Some(set_multicast_interface),
        Some(multicast_interface),
    ),
    number("IP_MULTICAST_TTL", IP_MULTICAST_TTL, SOME, |call, n| {
        match call.socket.options().sort() {
            Sorts::TCP => Err(Errno::EINVAL.into()),
            _ => hops(n, 0).map(|ttl| if ttl == -1 { 1 } else { ttl }),
        }
    })
    .default(1)
    .tells(|n| IpOption::MulticastTtl(n as u8).into()),
    flag("IP_MULTICAST_LOOP", IP_MULTICAST_LOOP, SOME)
        .default(1)
        .tells(|n| IpOption::MulticastLoop(n != 0).into())
        .inert(STREAM),
    own(
        "IP_ADD_MEMBERSHIP",
        IP_ADD_MEMBERSHIP,
        "struct ip_mreq or ip_mreqn",
        Some(|call| join_or_leave(call, IpOption::JoinGroup)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EPROTO, Errno::ENOPROTOOPT),
    own(
        "IP_DROP_MEMBERSHIP",
        IP_DROP_MEMBERSHIP,
        "struct ip_mreq or ip_mreqn",
        Some(|call| join_or_leave(call, IpOption::LeaveGroup)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EPROTO, Errno::ENOPROTOOPT),
    own(
        "IP_UNBLOCK_SOURCE",
        IP_UNBLOCK_SOURCE,
        "struct ip_mreq_source",
        Some(|call| datagram::source(call, SourceChange::Unblock)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "IP_BLOCK_SOURCE",
        IP_BLOCK_SOURCE,
        "struct ip_mreq_source",
        Some(|call| datagram::source(call, SourceChange::Block)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "IP_ADD_SOURCE_MEMBERSHIP",
        IP_ADD_SOURCE_MEMBERSHIP,
        "struct ip_mreq_source",
        Some(|call| datagram::source(call, SourceChange::Join)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "IP_DROP_SOURCE_MEMBERSHIP",
        IP_DROP_SOURCE_MEMBERSHIP,
        "struct ip_mreq_source",
        Some(|call| datagram::source(call, SourceChange::Leave)),
        None,
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::ENOPROTOOPT),
    own(
        "IP_MSFILTER",
        IP_MSFILTER,
        "struct ip_msfilter",
        Some(datagram::set_sources),
        Some(datagram::sources),
    )
    .only(Sorts::MESSAGES, Errno::EINVAL, Errno::EINVAL),
    own(
        "MCAST_JOIN_GROUP",
        MCAST_JOIN_GROUP,
        "struct group_req",
        Some(|call| group(call, IpOption::JoinGroup)),
        None,
    )
    .partial("streams, to which no such packet can come, refuse it"),
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
    zero_or_one("IP_MULTICAST_ALL", IP_MULTICAST_ALL, SOME)
        .live(|call| {
            // IPv6 sockets begin without (inet6_create).
            let stored = call.socket.options().number(call.level, IP_MULTICAST_ALL);
            Ok(stored.unwrap_or(i64::from(call.inet()?.family() == Family::V4)))
        })
        .tells(|n| DatagramOption::MulticastAll(n != 0).into())
        .inert(STREAM),
    own(
        "IP_UNICAST_IF",
        IP_UNICAST_IF,
        "an interface's index in network order",
        Some(datagram::set_unicast_nic),
        Some(datagram::unicast_nic),
    )
    .partial("streams only store it"),
    // The first port in the low half, the last one in the high half; 0 stands for the stack's.
    number("IP_LOCAL_PORT_RANGE", IP_LOCAL_PORT_RANGE, Shape::Int, |call, n| {
        if call.bytes.len() != 4 {
            return Err(Errno::EINVAL.into());
        }
        match (n as u32 & 0xffff, n as u32 >> 16) {
            (first, last) if first != 0 && last != 0 && first > last => Err(Errno::EINVAL.into()),
            _ => Ok(i64::from(n)),
        }
    })
    .tells(|n| IpOption::LocalPortRange((n as u16, (n as u32 >> 16) as u16)).into()),
    shown("IP_PROTOCOL", IP_PROTOCOL, |call| Ok(i64::from(call.inet()?.own_number()))),
];

/// A hop count: -1 for the default, else `min` to 255. Errors: EINVAL.
pub(super) fn hops(number: i32, min: u8) -> Result<i64> {
    match u8::try_from(number) {
        Ok(hops) if hops >= min => Ok(i64::from(hops)),
        _ if number == -1 => Ok(-1),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Whether a raw socket writes its own headers; of IPPROTO_RAW it does from the start.
pub(super) fn header_included(call: &Call<'_>) -> Result<i64> {
    match call.inet()?.ask(IpOptionKind::HeaderIncluded.into()) {
        Ok(OptionValue::IpOption(IpOption::HeaderIncluded(on))) => Ok(i64::from(on)),
        _ => Ok(0),
    }
}

/// The least hops that are taken: 0 to 255. Errors: EINVAL.
pub(super) fn least_hops(number: i32) -> Result<i64> {
    Ok(i64::from(u8::try_from(number).map_err(|_| Errno::EINVAL)?))
}

/// The type of service; the ECN bits of a stream are TCP's. It sets the priority, too (rt_tos2priority).
fn tos(call: &Call<'_>, number: i32) -> Result<i64> {
    /// Linux's ip_tos2prio, by the four bits of RFC 1349.
    const PRIORITIES: [i64; 16] = [0, 1, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4];
    let asked = i64::from(number as u8);
    let tos = match call.socket.options().sort() {
        Sorts::TCP => asked & !3 | call.stored() & 3,
        _ => asked,
    };
    if tos != call.stored() {
        let priority = PRIORITIES[(tos as usize & 0x1e) >> 1];
        call.socket.options().put(SOL_SOCKET, SO_PRIORITY, priority);
        if call.socket.options().sort() != Sorts::TCP {
            call.inet()?.tell(SocketOption::Priority(priority as u32).into())?;
        }
    }
    Ok(tos)
}

/// IP_PMTUDISC_*. Errors: EINVAL.
pub(super) fn mtu_discover(number: i32) -> Result<i64> {
    match number {
        IP_PMTUDISC_DONT..=IP_PMTUDISC_OMIT => Ok(i64::from(number)),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn mtu_discover_of(kept: i64) -> MtuDiscover {
    match kept as i32 {
        IP_PMTUDISC_DONT => MtuDiscover::Dont,
        IP_PMTUDISC_DO => MtuDiscover::Do,
        IP_PMTUDISC_PROBE => MtuDiscover::Probe,
        IP_PMTUDISC_INTERFACE => MtuDiscover::Interface,
        IP_PMTUDISC_OMIT => MtuDiscover::Omit,
        _ => MtuDiscover::Want,
    }
}

/// The MTU of a connected socket's path. Errors: ENOTCONN.
pub(super) fn path_mtu(call: &Call<'_>) -> Result<i64> {
    match call.inet()?.ask(IpOptionKind::Mtu.into()).map_err(errno::of_option)? {
        OptionValue::IpOption(IpOption::Mtu(mtu)) => Ok(i64::from(mtu)),
        _ => Err(Errno::ENOTCONN.into()),
    }
}

/// A policy of IPsec. Errors: EPERM without CAP_NET_ADMIN.
pub(super) fn no_policy(call: &Call<'_>) -> Result<()> {
    Err(if call.may(&[Capabilities::NET_ADMIN]) { Errno::ENOPROTOOPT } else { Errno::EPERM }.into())
}

fn set_options(call: &Call<'_>) -> Result<()> {
    // Linux refuses what it cannot send as well; source routes are refused too.
    let options = Options::parse(call.bytes).ok_or(Errno::EINVAL)?;
    call.inet()?.tell(IpOption::HeaderOptions(options).into())
}

fn options(call: &Call<'_>) -> Result<Vec<u8>> {
    match call.inet()?.ask(IpOptionKind::HeaderOptions.into()).map_err(errno::of_option)? {
        OptionValue::IpOption(IpOption::HeaderOptions(options)) => Ok(options.as_slice().to_vec()),
        _ => Ok(Vec::new()),
    }
}

/// The interface of an index; 0 is none. Errors: EINVAL for a negative one.
pub fn nic(index: i32) -> Result<Option<NicId>> {
    let index = u32::try_from(index).map_err(|_| Errno::EINVAL)?;
    Ok((index != 0).then_some(NicId(index)))
}

/// struct ip_mreqn, or one of its shorter fronts.
fn request(bytes: &[u8]) -> Result<IpMreqn> {
    let mut whole = [0; size_of::<IpMreqn>()];
    let n = bytes.len().min(whole.len());
    whole[..n].copy_from_slice(&bytes[..n]);
    value::object(&whole)
}

fn nic_of_request(call: &Call<'_>, request: &IpMreqn) -> Result<Option<NicId>> {
    let address = Ipv4Addr::from(request.address);
    match nic(request.ifindex)? {
        None if address.is_unspecified() => Ok(None),
        None => call.inet()?.nic_of(address.into()).map(Some).ok_or_else(|| Errno::ENODEV.into()),
        named => Ok(named),
    }
}

fn join_or_leave(call: &Call<'_>, option: fn(Membership) -> IpOption) -> Result<()> {
    if call.bytes.len() < 8 {
        return Err(Errno::EINVAL.into());
    }
    let request = request(call.bytes)?;
    let group = Ipv4Addr::from(request.multiaddr);
    if !group.is_multicast() {
        // Who leaves is asked first whether there is such an interface and membership.
        return Err(if call.row.number == IP_DROP_MEMBERSHIP {
            not_joined(call, &request)
        } else {
            Errno::EINVAL
        }
        .into());
    }
    let nic = nic_of_request(call, &request)?;
    call.inet()?.tell(option(Membership { group: group.into(), nic }).into())
}

/// Why nobody can leave what is no group: without a known interface ENODEV, else EADDRNOTAVAIL.
fn not_joined(call: &Call<'_>, request: &IpMreqn) -> Errno {
    let any = request.ifindex == 0 && request.address == [0; 4];
    match nic_of_request(call, request) {
        Ok(_) if !any => Errno::EADDRNOTAVAIL,
        _ => Errno::ENODEV,
    }
}

/// struct group_req: an interface's index and, eight bytes on, a socket address.
pub(super) fn group_request(bytes: &[u8]) -> Result<(Option<NicId>, IpAddr)> {
    const LEN: usize = 8 + sentry_abi::socket::SOCKADDR_MAX;
    if bytes.len() < LEN {
        return Err(Errno::EINVAL.into());
    }
    let index = value::int(bytes)?;
    let address = sentry_kernel::socket::SockAddr(bytes[8..LEN].to_vec());
    let family = i32::from(address.family()?);
    let group = match family {
        sentry_abi::socket::AF_INET => {
            let raw: SockAddrIn = value::object(&address.0)?;
            IpAddr::V4(raw.addr.into())
        }
        sentry_abi::socket::AF_INET6 => {
            let raw: SockAddrIn6 = value::object(&address.0)?;
            IpAddr::V6(raw.addr.into())
        }
        _ => return Err(Errno::EADDRNOTAVAIL.into()),
    };
    Ok((nic(index)?, group))
}

fn group(call: &Call<'_>, option: fn(Membership) -> IpOption) -> Result<()> {
    let (nic, group) = group_request(call.bytes)?;
    match group {
        IpAddr::V4(v4) if v4.is_multicast() => {}
        IpAddr::V4(_) if call.row.number == MCAST_LEAVE_GROUP => {
            return Err(Errno::EADDRNOTAVAIL.into());
        }
        _ => return Err(Errno::EINVAL.into()),
    }
    call.inet()?.tell(option(Membership { group, nic }).into())
}

fn set_multicast_interface(call: &Call<'_>) -> Result<()> {
    if call.socket.options().sort() == Sorts::TCP || call.bytes.len() < 4 {
        return Err(Errno::EINVAL.into());
    }
    let request = match call.bytes.len() {
        // struct in_addr alone.
        4..8 => IpMreqn { address: value::object(call.bytes)?, ..IpMreqn::default() },
        _ => request(call.bytes)?,
    };
    // Here, unlike for a membership, an address that nobody has, and an index, is EADDRNOTAVAIL.
    let nic = match nic_of_request(call, &request) {
        Err(error) if error.is(Errno::ENODEV) => return Err(Errno::EADDRNOTAVAIL.into()),
        other => other?,
    };
    let inet = call.inet()?;
    if nic.is_some_and(|nic| !inet.net.stack().nics().iter().any(|info| info.id == nic)) {
        return Err(Errno::EADDRNOTAVAIL.into());
    }
    inet.tell(IpOption::MulticastInterface(nic).into())?;
    // The address is told as it was given; an index alone is told as none.
    call.socket.options().put(
        call.level,
        IP_MULTICAST_IF,
        i64::from(i32::from_ne_bytes(request.address)),
    );
    Ok(())
}

fn multicast_interface(call: &Call<'_>) -> Result<Vec<u8>> {
    Ok(value::from_int(call.stored() as i32))
}

//! Level IPPROTO_IPV6: numbers, layouts and the stack's variants (ipv6(7)).

use core::net::Ipv6Addr;

use netstack::socket::options::{IpOption, IpOptionKind, Membership};
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_kernel::Result;

use super::{ip, value};

fn membership(bytes: &[u8]) -> Result<Membership> {
    let request: Ipv6Mreq = value::object(bytes)?;
    let group = Ipv6Addr::from(request.multiaddr);
    if !group.is_multicast() {
        return Err(Errno::EINVAL.into());
    }
    Ok(Membership { group: group.into(), nic: ip::nic(request.ifindex)? })
}

/// A value that setsockopt(2) gives. Errors: EINVAL, ENOPROTOOPT for an option that the stack does not have.
// tidy: table
pub fn decode(name: i32, bytes: &[u8]) -> Result<IpOption> {
    let number = value::int(bytes);
    let flag = number.as_ref().is_ok_and(|n| *n != 0);
    Ok(match name {
        IPV6_UNICAST_HOPS => IpOption::Ttl(ip::hops(number?, 0)?),
        IPV6_MULTICAST_HOPS => IpOption::MulticastTtl(ip::hops(number?, 0)?.unwrap_or(1)),
        IPV6_MULTICAST_IF => IpOption::MulticastInterface(ip::nic(number?)?),
        IPV6_MULTICAST_LOOP => IpOption::MulticastLoop(number.map(|_| flag)?),
        IPV6_ADD_MEMBERSHIP => IpOption::JoinGroup(membership(bytes)?),
        IPV6_DROP_MEMBERSHIP => IpOption::LeaveGroup(membership(bytes)?),
        IPV6_MTU_DISCOVER => IpOption::MtuDiscover(ip::mtu_discover(number?)?),
        IPV6_RECVERR => IpOption::ReceiveErrors(number.map(|_| flag)?),
        IPV6_V6ONLY => IpOption::V6Only(number.map(|_| flag)?),
        IPV6_RECVPKTINFO => IpOption::PacketInfo(number.map(|_| flag)?),
        IPV6_RECVHOPLIMIT => IpOption::ReceiveTtl(number.map(|_| flag)?),
        IPV6_RECVTCLASS => IpOption::ReceiveTos(number.map(|_| flag)?),
        IPV6_TCLASS => match number? {
            -1 => IpOption::TrafficClass(0),
            class => IpOption::TrafficClass(u8::try_from(class).map_err(|_| Errno::EINVAL)?),
        },
        IPV6_FREEBIND => IpOption::FreeBind(number.map(|_| flag)?),
        IPV6_CHECKSUM => match number? {
            -1 => IpOption::ChecksumOffset(None),
            offset if offset % 2 == 0 => {
                IpOption::ChecksumOffset(Some(u16::try_from(offset).map_err(|_| Errno::EINVAL)?))
            }
            _ => return Err(Errno::EINVAL.into()),
        },
        _ => return Err(Errno::ENOPROTOOPT.into()),
    })
}

/// What getsockopt(2) asks for. Errors: ENOPROTOOPT.
// tidy: table
pub fn kind(name: i32) -> Result<IpOptionKind> {
    Ok(match name {
        IPV6_UNICAST_HOPS => IpOptionKind::Ttl,
        IPV6_MULTICAST_HOPS => IpOptionKind::MulticastTtl,
        IPV6_MULTICAST_IF => IpOptionKind::MulticastInterface,
        IPV6_MULTICAST_LOOP => IpOptionKind::MulticastLoop,
        IPV6_MTU_DISCOVER => IpOptionKind::MtuDiscover,
        IPV6_MTU => IpOptionKind::Mtu,
        IPV6_RECVERR => IpOptionKind::ReceiveErrors,
        IPV6_V6ONLY => IpOptionKind::V6Only,
        IPV6_RECVPKTINFO => IpOptionKind::PacketInfo,
        IPV6_RECVHOPLIMIT => IpOptionKind::ReceiveTtl,
        IPV6_RECVTCLASS => IpOptionKind::ReceiveTos,
        IPV6_TCLASS => IpOptionKind::TrafficClass,
        IPV6_FREEBIND => IpOptionKind::FreeBind,
        IPV6_CHECKSUM => IpOptionKind::ChecksumOffset,
        _ => return Err(Errno::ENOPROTOOPT.into()),
    })
}

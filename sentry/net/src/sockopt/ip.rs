//! Level IPPROTO_IP: numbers, layouts and the stack's variants (ip(7)).

use core::net::{IpAddr, Ipv4Addr};

use netstack::link::NicId;
use netstack::socket::options::{IpOption, IpOptionKind, Membership, MtuDiscover};
use netstack::wire::ipv4_options::Options;
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_kernel::Result;

use super::value;

/// Finds the interface that has an address.
pub type NicOf<'a> = &'a dyn Fn(IpAddr) -> Option<NicId>;

/// A hop count: -1 for the default, else `min` to 255. Errors: EINVAL.
pub(super) fn hops(number: i32, min: u8) -> Result<Option<u8>> {
    match u8::try_from(number) {
        Ok(hops) if hops >= min => Ok(Some(hops)),
        _ if number == -1 => Ok(None),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// IP_PMTUDISC_*. Errors: EINVAL.
pub(super) fn mtu_discover(number: i32) -> Result<MtuDiscover> {
    Ok(match number {
        IP_PMTUDISC_DONT => MtuDiscover::Dont,
        IP_PMTUDISC_WANT => MtuDiscover::Want,
        IP_PMTUDISC_DO => MtuDiscover::Do,
        IP_PMTUDISC_PROBE => MtuDiscover::Probe,
        _ => return Err(Errno::EINVAL.into()),
    })
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

fn nic_of_request(request: &IpMreqn, nic_of: NicOf<'_>) -> Result<Option<NicId>> {
    let address = Ipv4Addr::from(request.address);
    match nic(request.ifindex)? {
        None if address.is_unspecified() => Ok(None),
        None => nic_of(address.into()).map(Some).ok_or_else(|| Errno::ENODEV.into()),
        named => Ok(named),
    }
}

fn membership(bytes: &[u8], nic_of: NicOf<'_>) -> Result<Membership> {
    if bytes.len() < 8 {
        return Err(Errno::EINVAL.into());
    }
    let request = request(bytes)?;
    let group = Ipv4Addr::from(request.multiaddr);
    if !group.is_multicast() {
        return Err(Errno::EINVAL.into());
    }
    Ok(Membership { group: group.into(), nic: nic_of_request(&request, nic_of)? })
}

fn multicast_interface(bytes: &[u8], nic_of: NicOf<'_>) -> Result<Option<NicId>> {
    match bytes.len() {
        0..4 => Err(Errno::EINVAL.into()),
        // struct in_addr alone.
        4..8 => {
            let address: [u8; 4] = value::object(bytes)?;
            nic_of_request(&IpMreqn { address, ..IpMreqn::default() }, nic_of)
        }
        _ => nic_of_request(&request(bytes)?, nic_of),
    }
    // Here, unlike for a membership, an address that nobody has is no device's.
    .map_err(|error| if error.is(Errno::ENODEV) { Errno::EADDRNOTAVAIL.into() } else { error })
}

/// A value that setsockopt(2) gives. Errors: EINVAL, ENODEV, ENOPROTOOPT for an option that the stack does not have.
// tidy: table
pub fn decode(name: i32, bytes: &[u8], nic_of: NicOf<'_>) -> Result<IpOption> {
    let number = value::int_or_byte(bytes);
    let flag = number.as_ref().is_ok_and(|n| *n != 0);
    Ok(match name {
        IP_TOS => IpOption::Tos(number? as u8),
        IP_TTL => IpOption::Ttl(hops(number?, 1)?),
        IP_HDRINCL => IpOption::HeaderIncluded(number.map(|_| flag)?),
        IP_MTU_DISCOVER => IpOption::MtuDiscover(mtu_discover(number?)?),
        IP_RECVERR => IpOption::ReceiveErrors(number.map(|_| flag)?),
        // Linux refuses what it cannot send as well; source routes are refused too.
        IP_OPTIONS => IpOption::HeaderOptions(Options::parse(bytes).ok_or(Errno::EINVAL)?),
        IP_RECVOPTS => IpOption::ReceiveOptions(number.map(|_| flag)?),
        IP_RETOPTS => IpOption::ReturnOptions(number.map(|_| flag)?),
        IP_PKTINFO => IpOption::PacketInfo(number.map(|_| flag)?),
        IP_RECVTTL => IpOption::ReceiveTtl(number.map(|_| flag)?),
        IP_RECVTOS => IpOption::ReceiveTos(number.map(|_| flag)?),
        IP_MULTICAST_TTL => IpOption::MulticastTtl(hops(number?, 0)?.unwrap_or(1)),
        IP_MULTICAST_LOOP => IpOption::MulticastLoop(number.map(|_| flag)?),
        IP_MULTICAST_IF => IpOption::MulticastInterface(multicast_interface(bytes, nic_of)?),
        IP_ADD_MEMBERSHIP => IpOption::JoinGroup(membership(bytes, nic_of)?),
        IP_DROP_MEMBERSHIP => IpOption::LeaveGroup(membership(bytes, nic_of)?),
        IP_BIND_ADDRESS_NO_PORT => IpOption::BindAddressNoPort(number.map(|_| flag)?),
        IP_FREEBIND => IpOption::FreeBind(number.map(|_| flag)?),
        _ => return Err(Errno::ENOPROTOOPT.into()),
    })
}

/// What getsockopt(2) asks for. Errors: ENOPROTOOPT.
// tidy: table
pub fn kind(name: i32) -> Result<IpOptionKind> {
    Ok(match name {
        IP_TOS => IpOptionKind::Tos,
        IP_TTL => IpOptionKind::Ttl,
        IP_HDRINCL => IpOptionKind::HeaderIncluded,
        IP_MTU_DISCOVER => IpOptionKind::MtuDiscover,
        IP_MTU => IpOptionKind::Mtu,
        IP_RECVERR => IpOptionKind::ReceiveErrors,
        IP_OPTIONS => IpOptionKind::HeaderOptions,
        IP_RECVOPTS => IpOptionKind::ReceiveOptions,
        IP_RETOPTS => IpOptionKind::ReturnOptions,
        IP_PKTINFO => IpOptionKind::PacketInfo,
        IP_RECVTTL => IpOptionKind::ReceiveTtl,
        IP_RECVTOS => IpOptionKind::ReceiveTos,
        IP_MULTICAST_TTL => IpOptionKind::MulticastTtl,
        IP_MULTICAST_LOOP => IpOptionKind::MulticastLoop,
        IP_MULTICAST_IF => IpOptionKind::MulticastInterface,
        IP_BIND_ADDRESS_NO_PORT => IpOptionKind::BindAddressNoPort,
        IP_FREEBIND => IpOptionKind::FreeBind,
        _ => return Err(Errno::ENOPROTOOPT.into()),
    })
}

/// The layout of a value for either IP level.
// tidy: table
pub fn encode(option: &IpOption) -> Vec<u8> {
    /// ip_default_ttl
    const DEFAULT_TTL: u8 = 64;
    value::from_int(match option {
        IpOption::Ttl(ttl) => i32::from(ttl.unwrap_or(DEFAULT_TTL)),
        IpOption::Tos(tos) | IpOption::TrafficClass(tos) => i32::from(*tos),
        IpOption::MtuDiscover(how) => match how {
            MtuDiscover::Dont => IP_PMTUDISC_DONT,
            MtuDiscover::Want => IP_PMTUDISC_WANT,
            MtuDiscover::Do => IP_PMTUDISC_DO,
            MtuDiscover::Probe => IP_PMTUDISC_PROBE,
        },
        IpOption::Mtu(mtu) => i32::try_from(*mtu).unwrap_or(i32::MAX),
        IpOption::MulticastTtl(ttl) => i32::from(*ttl),
        IpOption::MulticastInterface(nic) => nic.map_or(0, |nic| nic.0 as i32),
        IpOption::ChecksumOffset(offset) => offset.map_or(-1, i32::from),
        IpOption::IcmpFilter(bits) => *bits as i32,
        IpOption::V6Only(on)
        | IpOption::HeaderIncluded(on)
        | IpOption::ReceiveErrors(on)
        | IpOption::ReceiveOptions(on)
        | IpOption::ReturnOptions(on)
        | IpOption::PacketInfo(on)
        | IpOption::ReceiveTtl(on)
        | IpOption::ReceiveTos(on)
        | IpOption::MulticastLoop(on)
        | IpOption::BindAddressNoPort(on)
        | IpOption::FreeBind(on) => i32::from(*on),
        IpOption::HeaderOptions(options) => return options.as_slice().to_vec(),
        IpOption::JoinGroup(_) | IpOption::LeaveGroup(_) => 0,
    })
}

//! The options that only message sockets have: UDP's, sources of multicast groups, filters, and what is told with a message
//! (udp(7), ip(7), ipv6(7), raw(7), socket(7)). The rows of the tables call them.

use core::net::IpAddr;

use netstack::ip::Family;
use netstack::link::NicId;
use netstack::socket::datagram::{Datagram, FilterMode, SourceChange};
use netstack::socket::options::{DatagramOption, DatagramOptionKind, Membership, OptionValue};
use sentry_abi::Errno;
use sentry_abi::in_::*;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::socket::SockAddr;

use super::row::Call;
use super::value;
use crate::errno;
use crate::inet::InetSocket;

/// Bytes of struct sockaddr_storage.
const STORAGE: usize = SOCKADDR_MAX;
/// Where the group stands in struct group_req and its relatives, and where what follows it.
const GROUP_AT: usize = 8;
const AFTER_GROUP: usize = GROUP_AT + STORAGE;
/// MCAST_EXCLUDE and MCAST_INCLUDE.
const EXCLUDE: u32 = 0;
const INCLUDE: u32 = 1;

/// A change of a group's sources, as the program gives it.
struct Sources {
    membership: Membership,
    source: IpAddr,
}

fn socket<'a>(call: &'a Call<'_>) -> Result<(&'a InetSocket, &'a Datagram)> {
    let inet = call.inet()?;
    Ok((inet, inet.endpoint.datagram().ok_or(Errno::ENOPROTOOPT)?))
}

/// The index stands in network order. Errors: EINVAL, EADDRNOTAVAIL for an interface that is not there.
pub fn set_unicast_nic(call: &Call<'_>) -> Result<()> {
    if call.bytes.len() != 4 {
        return Err(Errno::EINVAL.into());
    }
    let index = u32::from_be(value::int(call.bytes)? as u32);
    let nic = (index != 0).then_some(NicId(index));
    let inet = call.inet()?;
    let known = |nic: NicId| inet.net.stack().nics().iter().any(|info| info.id == nic);
    if nic.is_some_and(|nic| !known(nic)) {
        return Err(Errno::EADDRNOTAVAIL.into());
    }
    if inet.endpoint.datagram().is_some() {
        inet.tell(DatagramOption::UnicastInterface(nic).into())?;
    }
    call.socket.options().put(call.level, call.row.number, i64::from(index));
    Ok(())
}

/// The interface for unicast, in network order.
pub fn unicast_nic(call: &Call<'_>) -> Result<Vec<u8>> {
    let shown = (call.stored() as u32).to_be();
    match u8::try_from(shown) {
        // As for any number of ip(7)'s level: a byte to who has no room for an int.
        Ok(byte) if call.level == SOL_IP && (1..4).contains(&call.bytes.len()) => Ok(vec![byte]),
        _ => Ok(value::from_int(shown as i32)),
    }
}

/// The words of ICMPV6_FILTER. Errors: ENOPROTOOPT for another protocol.
fn icmp6_words(call: &Call<'_>) -> Result<[u32; 8]> {
    let inet = call.inet()?;
    if inet.protocol != IPPROTO_ICMPV6 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    match inet.ask(DatagramOptionKind::Icmp6Filter.into()).map_err(errno::of_option)? {
        OptionValue::DatagramOption(DatagramOption::Icmp6Filter(words)) => Ok(words),
        _ => Err(Errno::ENOPROTOOPT.into()),
    }
}

/// ICMPV6_FILTER
pub fn icmp6_filter(call: &Call<'_>) -> Result<Vec<u8>> {
    Ok(icmp6_words(call)?.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

/// A short value sets the front of the filter.
pub fn set_icmp6_filter(call: &Call<'_>) -> Result<()> {
    let mut words = icmp6_words(call)?;
    let mut all: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let n = call.bytes.len().min(all.len());
    all[..n].copy_from_slice(&call.bytes[..n]);
    for (word, bytes) in words.iter_mut().zip(all.chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    call.inet()?.tell(DatagramOption::Icmp6Filter(words).into())
}

fn family_of_level(level: i32) -> Family {
    if level == SOL_IP { Family::V4 } else { Family::V6 }
}

/// The address in a struct sockaddr_storage. Errors: EADDRNOTAVAIL for another family than the level's.
fn stored_address(level: i32, bytes: &[u8]) -> Result<IpAddr> {
    let address = SockAddr(bytes.to_vec());
    match (family_of_level(level), i32::from(address.family()?)) {
        (Family::V4, AF_INET) => {
            let raw: SockAddrIn = value::object(bytes)?;
            Ok(IpAddr::V4(raw.addr.into()))
        }
        (Family::V6, AF_INET6) => {
            let raw: SockAddrIn6 = value::object(bytes)?;
            Ok(IpAddr::V6(raw.addr.into()))
        }
        _ => Err(Errno::EADDRNOTAVAIL.into()),
    }
}

/// The interface with an address; None for the unspecified one. Errors: ENODEV.
fn nic_with(inet: &InetSocket, address: [u8; 4]) -> Result<Option<NicId>> {
    match address {
        [0, 0, 0, 0] => Ok(None),
        address => inet.nic_of(IpAddr::from(address)).map(Some).ok_or_else(|| Errno::ENODEV.into()),
    }
}

/// struct group_req at the front of a value. Errors: EINVAL, EADDRNOTAVAIL.
fn group_of(level: i32, bytes: &[u8]) -> Result<Membership> {
    let index = value::int(bytes)? as u32;
    let storage = bytes.get(GROUP_AT..AFTER_GROUP).ok_or(Errno::EINVAL)?;
    let group = stored_address(level, storage)?;
    if !group.is_multicast() {
        return Err(Errno::EINVAL.into());
    }
    Ok(Membership { group, nic: (index != 0).then_some(NicId(index)) })
}

/// struct ip_mreq_source or struct group_source_req.
fn source_of(inet: &InetSocket, level: i32, name: i32, bytes: &[u8]) -> Result<Sources> {
    if name < MCAST_JOIN_GROUP {
        let [group, interface, source]: [[u8; 4]; 3] = value::object(bytes)?;
        let (group, source) = (IpAddr::from(group), IpAddr::from(source));
        if bytes.len() != 12 || !group.is_multicast() {
            return Err(Errno::EINVAL.into());
        }
        let membership = Membership { group, nic: nic_with(inet, interface)? };
        return Ok(Sources { membership, source });
    }
    if bytes.len() != AFTER_GROUP + STORAGE {
        return Err(Errno::EINVAL.into());
    }
    let membership = group_of(level, bytes)?;
    let source = stored_address(level, &bytes[AFTER_GROUP..])?;
    Ok(Sources { membership, source })
}

/// struct ip_msfilter (fewer than [`AFTER_GROUP`] bytes before its sources) or struct group_filter: the group, and where mode,
/// number and sources stand, with the bytes of a source.
fn filter_of(inet: &InetSocket, level: i32, bytes: &[u8]) -> Result<(Membership, usize, usize)> {
    if level == SOL_IP && bytes.len() < AFTER_GROUP {
        let [group, interface]: [[u8; 4]; 2] = value::object(bytes)?;
        let group = IpAddr::from(group);
        let nic = nic_with(inet, interface)?;
        return Ok((Membership { group, nic }, 8, 4));
    }
    Ok((group_of(level, bytes)?, AFTER_GROUP, STORAGE))
}

/// Sets the whole filter of a group. Errors: EINVAL, ENOBUFS, EADDRNOTAVAIL, ENODEV.
pub fn set_sources(call: &Call<'_>) -> Result<()> {
    let ((inet, socket), level, bytes) = (socket(call)?, call.level, call.bytes);
    let (membership, at, size) = filter_of(inet, level, bytes)?;
    let [mode, count]: [u32; 2] = value::object(bytes.get(at..).ok_or(Errno::EINVAL)?)?;
    let most = if level == SOL_IP { 10 } else { 64 };
    if count > most {
        return Err(Errno::ENOBUFS.into());
    }
    let listed = bytes.get(at + 8..).unwrap_or_default();
    if listed.len() < count as usize * size {
        return Err(Errno::EINVAL.into());
    }
    let mode = match mode {
        INCLUDE => FilterMode::Include,
        EXCLUDE => FilterMode::Exclude,
        _ => return Err(Errno::EINVAL.into()),
    };
    let mut sources = Vec::new();
    for source in listed.chunks_exact(size).take(count as usize) {
        sources.push(match size {
            4 => IpAddr::from([source[0], source[1], source[2], source[3]]),
            _ => stored_address(level, source)?,
        });
    }
    let set = socket.set_sources(inet.net.now(), membership, mode, sources);
    set.map_err(errno::of_option)
}

/// The filter of a group.
pub fn sources(call: &Call<'_>) -> Result<Vec<u8>> {
    let ((inet, socket), level, room) = (socket(call)?, call.level, call.bytes);
    let (membership, at, size) = filter_of(inet, level, room)?;
    let [_, count]: [u32; 2] = value::object(room.get(at..).ok_or(Errno::EINVAL)?)?;
    let (mode, sources) = socket.sources(membership).map_err(errno::of_option)?;
    let mode = if mode == FilterMode::Include { INCLUDE } else { EXCLUDE };
    let mut out = room.get(..at).unwrap_or_default().to_vec();
    out.extend(mode.to_ne_bytes());
    out.extend((sources.len() as u32).to_ne_bytes());
    for source in sources.iter().take(count as usize) {
        match size {
            4 => out.extend(crate::inet::sockaddr::octets4(*source)),
            _ => {
                let family = family_of_level(level);
                let address = core::net::SocketAddr::new(*source, 0);
                let mut storage = crate::inet::sockaddr::encode(family, address).0;
                storage.resize(STORAGE, 0);
                out.extend(storage);
            }
        }
    }
    Ok(out)
}

/// Changes one source of a group. Errors: EINVAL, EADDRNOTAVAIL, ENOBUFS, ENODEV.
pub fn source(call: &Call<'_>, change: SourceChange) -> Result<()> {
    let (inet, socket) = socket(call)?;
    let Sources { membership, source } = source_of(inet, call.level, call.row.number, call.bytes)?;
    socket.change_source(inet.net.now(), membership, source, change).map_err(errno::of_option)
}

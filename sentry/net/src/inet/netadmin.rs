//! What ioctl(2) on a socket changes of interfaces and their IPv4 addresses (netdevice(7); net/core/dev_ioctl.c, net/ipv4/devinet.c).

use core::net::{IpAddr, Ipv4Addr};

use netstack::ip::route::Scope;
use netstack::ip::{Address, IpCidr};
use netstack::link::{MacAddr, NicKind};
use netstack::stack::{AddressError, ListenError, NicInfo, Stack};
use sentry_abi::Errno;
use sentry_abi::if_::*;
use sentry_abi::socket::AF_INET;
use sentry_kernel::Result;

use super::netdev;
use crate::netlink::{change_link_flags, change_link_mtu};

/// The interface of a name, an alias (eth0:1) being its interface. Errors: ENODEV.
pub fn nic_of(stack: &Stack, name: &str) -> Result<NicInfo> {
    let base = name.split(':').next().unwrap_or_default();
    let found = stack.nics().into_iter().find(|nic| nic.name == base);
    found.ok_or_else(|| Errno::ENODEV.into())
}

/// The IPv4 address of a label: with `wanted`, that one of them (as a program names one of several).
pub fn address_of(
    stack: &Stack,
    nic: &NicInfo,
    name: &str,
    wanted: Option<Ipv4Addr>,
) -> Option<Address> {
    let all = stack.addresses();
    let of_label = |own: &&Address| own.label.as_deref().unwrap_or(&nic.name) == name;
    let own = || all.iter().filter(|(id, _)| *id == nic.id).map(|(_, own)| own);
    let v4 = || own().filter(|own| own.ip().is_ipv4()).filter(of_label);
    let exact = v4().find(|own| wanted.is_some_and(|wanted| own.ip() == IpAddr::V4(wanted)));
    exact.or_else(|| v4().next()).cloned()
}

/// The IPv4 address in a struct sockaddr. Errors: EINVAL for another family.
fn sockaddr_v4(data: &[u8]) -> Result<Ipv4Addr> {
    match data {
        [f0, f1, _, _, a, b, c, d, ..] if i32::from(u16::from_ne_bytes([*f0, *f1])) == AF_INET => {
            Ok(Ipv4Addr::new(*a, *b, *c, *d))
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

/// The link-layer address in a struct sockaddr. Errors: EINVAL for another family than AF_UNSPEC.
fn link_address(data: &[u8]) -> Result<MacAddr> {
    match data {
        [0, 0, a, b, c, d, e, f, ..] => Ok(MacAddr([*a, *b, *c, *d, *e, *f])),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// The prefix that an address has by its class (inet_abc_len). Errors: EINVAL for what has none.
fn class_len(address: Ipv4Addr) -> Result<u8> {
    match address.octets()[0] {
        0 if address.is_unspecified() => Ok(0),
        0..=127 => Ok(8),
        128..=191 => Ok(16),
        192..=223 => Ok(24),
        240..=255 => Ok(32),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn broadcast_of(nic: &NicInfo, cidr: &IpCidr) -> Option<Ipv4Addr> {
    if nic.kind == NicKind::Loopback { None } else { cidr.broadcast() }
}

fn errno_of(error: AddressError) -> Errno {
    match error {
        AddressError::NoNic => Errno::ENODEV,
        AddressError::Exists => Errno::EEXIST,
        AddressError::NotFound => Errno::EADDRNOTAVAIL,
        AddressError::Invalid => Errno::EINVAL,
        AddressError::Disabled => Errno::EACCES,
    }
}

/// Puts a changed address in the place of the old one.
fn replace(stack: &Stack, nic: &NicInfo, old: Option<&Address>, new: Address) -> Result<()> {
    if let Some(old) = old {
        stack.remove_address(nic.id, old.cidr).map_err(errno_of)?;
    }
    // inet_insert_ifa: the unspecified address takes the old one away and leaves none.
    if new.ip().is_unspecified() {
        return Ok(());
    }
    stack.assign_address(nic.id, new).map_err(|error| errno_of(error).into())
}

/// SIOCSIFADDR: a new address with the prefix of its class.
fn set_address(stack: &Stack, nic: &NicInfo, name: &str, to: Ipv4Addr) -> Result<()> {
    let old = address_of(stack, nic, name, None);
    if old.as_ref().is_some_and(|old| old.ip() == IpAddr::V4(to)) {
        return Ok(());
    }
    let cidr = IpCidr::new(to.into(), class_len(to)?);
    let mut new = Address::new(cidr);
    new.label = Some(name.to_owned()).filter(|label| *label != nic.name);
    new.broadcast = broadcast_of(nic, &cidr);
    if nic.kind != NicKind::Loopback {
        new.scope = Scope::UNIVERSE;
    }
    replace(stack, nic, old.as_ref(), new)
}

/// SIOCSIFNETMASK. Errors: EINVAL for a mask with holes.
fn set_mask(stack: &Stack, nic: &NicInfo, old: &Address, mask: Ipv4Addr) -> Result<()> {
    let bits = mask.to_bits();
    if bits.leading_ones() + bits.trailing_zeros().min(32) < 32 {
        return Err(Errno::EINVAL.into());
    }
    let cidr = IpCidr::new(old.ip(), bits.leading_ones() as u8);
    if cidr == old.cidr {
        return Ok(());
    }
    // "See if current broadcast address matches with current netmask, then recalculate the broadcast address."
    let broadcast = match old.broadcast == old.cidr.broadcast() {
        true => broadcast_of(nic, &cidr),
        false => old.broadcast,
    };
    replace(stack, nic, Some(old), Address { cidr, broadcast, ..old.clone() })
}

/// A change that a request with struct ifreq asks for; the caller is privileged.
/// Errors: ENODEV, EADDRNOTAVAIL, EINVAL, EEXIST, EOPNOTSUPP.
pub fn change(stack: &Stack, request: u32, ifreq: &IfReq) -> Result<()> {
    let name = ifreq.name.split(|b| *b == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let nic = nic_of(stack, &name)?;
    let number = ifreq.data.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    let address = || address_of(stack, &nic, &name, None).ok_or(Errno::EADDRNOTAVAIL);
    match request {
        SIOCSIFFLAGS if name.contains(':') => {
            // An alias that goes down is an address that goes away.
            let own = address()?;
            if number as u32 & IFF_UP == 0 {
                stack.remove_address(nic.id, own.cidr).map_err(errno_of)?;
            }
            Ok(())
        }
        SIOCSIFFLAGS => {
            // The 16 bits that fit; the rest is the kernel's.
            let wanted = netdev::flags(&nic) & !0xffff | number as u32 & 0xffff;
            change_link_flags(stack, &nic, wanted)
        }
        SIOCSIFMTU => {
            change_link_mtu(stack, &nic, u32::try_from(number).map_err(|_| Errno::EINVAL)?)
        }
        SIOCSIFADDR => set_address(stack, &nic, &name, sockaddr_v4(&ifreq.data)?),
        SIOCSIFNETMASK => set_mask(stack, &nic, &address()?, sockaddr_v4(&ifreq.data)?),
        SIOCSIFBRDADDR => {
            let (own, to) = (address()?, sockaddr_v4(&ifreq.data)?);
            if own.broadcast == Some(to) {
                return Ok(());
            }
            replace(stack, &nic, Some(&own), Address { broadcast: Some(to), ..own.clone() })
        }
        SIOCSIFDSTADDR => {
            let (own, to) = (address()?, IpAddr::V4(sockaddr_v4(&ifreq.data)?));
            let peer = Some(to).filter(|to| *to != own.ip());
            replace(stack, &nic, Some(&own), Address { peer, ..own.clone() })
        }
        // A loopback device listens to nothing.
        SIOCADDMULTI | SIOCDELMULTI if nic.kind == NicKind::Loopback => Err(Errno::EINVAL.into()),
        SIOCADDMULTI | SIOCDELMULTI => {
            let mac = link_address(&ifreq.data)?;
            let changed = match request {
                SIOCADDMULTI => stack.listen_to(nic.id, mac),
                _ => stack.stop_listening_to(nic.id, mac),
            };
            changed.map_err(|error| match error {
                ListenError::NoNic => Errno::ENODEV.into(),
                ListenError::NotFound => Errno::ENOENT.into(),
                ListenError::Full => Errno::ENOMEM.into(),
            })
        }
        // The interfaces belong to who started the sandbox, as with a driver that cannot change these.
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}

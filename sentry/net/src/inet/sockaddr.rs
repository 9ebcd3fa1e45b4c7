//! struct sockaddr_in and sockaddr_in6, with Linux's errors for the wrong ones.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use netstack::ip::Family;
use sentry_abi::Errno;
use sentry_abi::in_::{SockAddrIn, SockAddrIn6};
use sentry_abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use sentry_kernel::Result;
use sentry_kernel::socket::SockAddr;
use zerocopy::{FromBytes, IntoBytes};

/// The length of struct sockaddr_in6 before the scope id was added; Linux still takes it.
const IN6_LEN_RFC2133: usize = 24;

/// The family number of an address; an address too short to have one is EINVAL.
fn family(addr: &SockAddr) -> Result<i32> {
    addr.family().map(i32::from)
}

/// True for an address of AF_UNSPEC, with which connect(2) dissolves an association.
pub fn is_unspec(addr: &SockAddr) -> bool {
    family(addr).is_ok_and(|family| family == AF_UNSPEC)
}

fn v4(addr: &SockAddr) -> Result<SocketAddr> {
    let (raw, _) = SockAddrIn::read_from_prefix(&addr.0).map_err(|_| Errno::EINVAL)?;
    let ip = Ipv4Addr::from(raw.addr);
    Ok(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be_bytes(raw.port))))
}

fn v6(addr: &SockAddr) -> Result<SocketAddr> {
    if addr.0.len() < IN6_LEN_RFC2133 {
        return Err(Errno::EINVAL.into());
    }
    let mut whole = [0; size_of::<SockAddrIn6>()];
    let n = addr.0.len().min(whole.len());
    whole[..n].copy_from_slice(&addr.0[..n]);
    let raw = SockAddrIn6::read_from_bytes(&whole).map_err(|_| Errno::EINVAL)?;
    let flow = u32::from_be_bytes(raw.flowinfo);
    let ip = Ipv6Addr::from(raw.addr);
    let port = u16::from_be_bytes(raw.port);
    Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, raw.scope_id)))
}

/// The address of a connect(2) or bind(2). Errors: EINVAL for a short one, EAFNOSUPPORT for another family.
pub fn decode(own: Family, addr: &SockAddr) -> Result<SocketAddr> {
    match own {
        Family::V4 => {
            if addr.0.len() < size_of::<SockAddrIn>() {
                return Err(Errno::EINVAL.into());
            }
            let parsed = v4(addr)?;
            match family(addr)? {
                AF_INET => Ok(parsed),
                // Old programs leave the family out when they bind to any address (Linux takes that).
                AF_UNSPEC if parsed.ip().is_unspecified() => Ok(parsed),
                _ => Err(Errno::EAFNOSUPPORT.into()),
            }
        }
        Family::V6 => {
            if addr.0.len() < IN6_LEN_RFC2133 {
                return Err(Errno::EINVAL.into());
            }
            if family(addr)? != AF_INET6 {
                return Err(Errno::EAFNOSUPPORT.into());
            }
            v6(addr)
        }
    }
}

/// The destination of a sendto(2): an AF_INET6 socket takes AF_INET too.
pub fn decode_destination(own: Family, addr: &SockAddr) -> Result<SocketAddr> {
    match (own, family(addr)?) {
        (Family::V6, AF_INET) => Ok(netstack::socket::to_family(own, v4(addr)?)),
        (Family::V4, AF_INET | AF_UNSPEC) => v4(addr),
        (Family::V6, AF_INET6) => v6(addr),
        (Family::V4, _) if addr.0.len() < size_of::<SockAddrIn>() => Err(Errno::EINVAL.into()),
        _ => Err(Errno::EAFNOSUPPORT.into()),
    }
}

/// An address as a socket of this family shows it; an IPv6 socket shows IPv4 as mapped.
pub fn encode(own: Family, address: SocketAddr) -> SockAddr {
    match netstack::socket::to_family(own, address) {
        SocketAddr::V4(v4) => {
            let raw = SockAddrIn {
                family: AF_INET as u16,
                port: v4.port().to_be_bytes(),
                addr: v4.ip().octets(),
                zero: [0; 8],
            };
            SockAddr(raw.as_bytes().to_vec())
        }
        SocketAddr::V6(v6) => {
            let raw = SockAddrIn6 {
                family: AF_INET6 as u16,
                port: v6.port().to_be_bytes(),
                flowinfo: v6.flowinfo().to_be_bytes(),
                addr: v6.ip().octets(),
                scope_id: v6.scope_id(),
            };
            SockAddr(raw.as_bytes().to_vec())
        }
    }
}

/// The address of a socket that has none.
pub fn unspecified(own: Family) -> SocketAddr {
    SocketAddr::new(own.unspecified(), 0)
}

/// The bytes of an IPv4 address inside an address of any family; zeros for IPv6.
pub fn octets4(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or([0; 4], |v4| v4.octets()),
    }
}

/// The bytes of an IPv6 address; IPv4 is mapped.
pub fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in4(text: &str) -> SockAddr {
        encode(Family::V4, text.parse().unwrap())
    }

    #[test]
    fn addresses_round_trip_and_wrong_ones_get_linux_errors() {
        let v4: SocketAddr = "10.1.2.3:80".parse().unwrap();
        let v6: SocketAddr = "[fd00::1]:443".parse().unwrap();
        assert_eq!(decode(Family::V4, &in4("10.1.2.3:80")).unwrap(), v4);
        assert_eq!(decode(Family::V6, &encode(Family::V6, v6)).unwrap(), v6);
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:80".parse().unwrap();
        assert_eq!(decode(Family::V6, &encode(Family::V6, v4)).unwrap(), mapped);
        assert_eq!(decode_destination(Family::V6, &in4("10.1.2.3:80")).unwrap(), mapped);

        let short = SockAddr(in4("10.1.2.3:80").0[..15].to_vec());
        assert!(decode(Family::V4, &short).unwrap_err().is(Errno::EINVAL));
        let foreign = decode(Family::V4, &encode(Family::V6, v6)).unwrap_err();
        assert!(foreign.is(Errno::EAFNOSUPPORT));
        assert!(decode(Family::V6, &in4("10.1.2.3:80")).unwrap_err().is(Errno::EINVAL));
        let mut unspec = in4("0.0.0.0:5");
        unspec.0[0] = 0;
        assert!(is_unspec(&unspec) && decode(Family::V4, &unspec).is_ok());
        let mut unspec = in4("1.0.0.0:5");
        unspec.0[0] = 0;
        assert!(decode(Family::V4, &unspec).unwrap_err().is(Errno::EAFNOSUPPORT));
    }
}

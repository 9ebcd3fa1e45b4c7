//! Prefixes: an address with how many of its leading bits name the network.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// An address and a prefix length, such as 10.0.0.1/24 or fd00::1/64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpCidr {
    address: IpAddr,
    prefix_len: u8,
}

/// Not a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an address with a prefix length, such as 10.0.0.1/24")]
pub struct CidrError;

impl IpCidr {
    /// A prefix; the length is clamped to the bits of the family.
    pub fn new(address: IpAddr, prefix_len: u8) -> IpCidr {
        IpCidr { address, prefix_len: prefix_len.min(bits(address)) }
    }

    /// The prefix of one address alone.
    pub fn host(address: IpAddr) -> IpCidr {
        IpCidr { address, prefix_len: bits(address) }
    }

    /// The address as given, host bits included.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits name the network.
    pub const fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// The same prefix with the host bits cleared.
    pub fn network(&self) -> IpCidr {
        IpCidr { address: mask(self.address, self.prefix_len), prefix_len: self.prefix_len }
    }

    /// Whether an address lies in the prefix.
    pub fn contains(&self, address: IpAddr) -> bool {
        crate::ip::Family::of(address) == crate::ip::Family::of(self.address)
            && mask(address, self.prefix_len) == mask(self.address, self.prefix_len)
    }

    /// The directed broadcast address of an IPv4 prefix of at most 30 bits (RFC 3021 has none for 31).
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix_len <= 30 => {
                let host = u32::MAX.checked_shr(u32::from(self.prefix_len)).unwrap_or(0);
                Some(Ipv4Addr::from_bits(address.to_bits() | host))
            }
            _ => None,
        }
    }
}

/// How many bits an address has.
fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// An address with only its first `prefix_len` bits kept.
pub fn mask(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & !host))
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host))
        }
    }
}

/// How many leading bits two addresses share; 0 across families.
pub fn common_prefix(a: IpAddr, b: IpAddr) -> u8 {
    let shared = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    shared as u8
}

impl FromStr for IpCidr {
    type Err = CidrError;

    /// Reads `ADDRESS/LENGTH`, or `ADDRESS` alone for a host prefix.
    fn from_str(text: &str) -> Result<IpCidr, CidrError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError)?;
        let len = match len {
            Some(len) => len.parse::<u8>().map_err(|_| CidrError)?,
            None => bits(address),
        };
        if len > bits(address) {
            return Err(CidrError);
        }
        Ok(IpCidr { address, prefix_len: len })
    }
}

impl fmt::Display for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Debug for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_contain_mask_and_broadcast() {
        let cidr: IpCidr = "10.1.2.3/20".parse().unwrap();
        assert_eq!(cidr.network().to_string(), "10.1.0.0/20");
        assert!(cidr.contains("10.1.15.255".parse().unwrap()));
        assert!(!cidr.contains("10.1.16.0".parse().unwrap()));
        assert!(!cidr.contains("::1".parse().unwrap()));
        assert_eq!(cidr.broadcast(), Some(Ipv4Addr::new(10, 1, 15, 255)));
        let all: IpCidr = "::/0".parse().unwrap();
        assert!(all.contains("fe80::1".parse().unwrap()));
        assert_eq!("fd00::1".parse::<IpCidr>().unwrap().prefix_len(), 128);
        assert_eq!("10.0.0.1/33".parse::<IpCidr>(), Err(CidrError));
        assert_eq!("10.0.0.1/31".parse::<IpCidr>().unwrap().broadcast(), None);
    }
}

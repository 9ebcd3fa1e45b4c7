//! Formats on the wire: views and plain values, parse and emit, without state. It imports no other layer.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod group;
pub mod icmp;
pub mod icmp_extensions;
pub mod ipv4;
pub mod ipv4_options;
pub mod ipv6;
pub mod ndp;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod udp;

/// Two bytes at an offset, in network order; None past the end.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair))
}

/// Four bytes at an offset, in network order; None past the end.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

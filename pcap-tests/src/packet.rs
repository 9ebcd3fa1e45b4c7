//! One Ethernet frame taken apart as far as TCP and UDP, with every length and checksum checked. Written apart from the stack, so that it can judge it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A TCP segment.
    Tcp(Tcp),
    /// Another protocol over IP: its number.
    Ip(u8),
    /// A fragment other than the whole.
    Fragment,
    /// Another Ethernet type, such as ARP.
    Other(u16),
}

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Sender.
    pub src: (IpAddr, u16),
    /// Receiver.
    pub dst: (IpAddr, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flag bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32.
    pub flags: u8,
    /// Window as on the wire.
    pub window: u16,
    /// Bytes of payload.
    pub payload_len: u32,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The frame ends before a header or its stated length.
    #[error("truncated {0}")]
    Truncated(&'static str),
    /// A header contradicts itself.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A checksum is wrong.
    #[error("bad {0} checksum")]
    Checksum(&'static str),
}

const IPV6_FRAGMENT: u8 = 44;

/// Takes an Ethernet frame apart.
pub fn dissect(frame: &[u8]) -> Result<Packet, Fault> {
    let (header, payload) = split(frame, 14, "Ethernet header")?;
    match u16::from_be_bytes([header[12], header[13]]) {
        0x0800 => ipv4(payload),
        0x86dd => ipv6(payload),
        other => Ok(Packet::Other(other)),
    }
}

fn split<'a>(
    bytes: &'a [u8],
    at: usize,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), Fault> {
    bytes.split_at_checked(at).ok_or(Fault::Truncated(what))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn ipv4(packet: &[u8]) -> Result<Packet, Fault> {
    let (fixed, _) = split(packet, 20, "IPv4 header")?;
    let header_len = usize::from(fixed[0] & 15) * 4;
    let total_len = usize::from(be16(fixed, 2));
    if fixed[0] >> 4 != 4 || header_len < 20 || total_len < header_len {
        return Err(Fault::Malformed("IPv4 header"));
    }
    let (packet, _) = split(packet, total_len, "IPv4 packet")?;
    let (header, payload) = split(packet, header_len, "IPv4 header")?;
    if sum(header, 0) != 0xffff {
        return Err(Fault::Checksum("IPv4"));
    }
    if be16(header, 6) & 0x3fff != 0 {
        return Ok(Packet::Fragment);
    }
    let src = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let dst = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    transport(header[9], &header[12..20], src.into(), dst.into(), payload)
}

fn ipv6(packet: &[u8]) -> Result<Packet, Fault> {
    let (header, rest) = split(packet, 40, "IPv6 header")?;
    if header[0] >> 4 != 6 {
        return Err(Fault::Malformed("IPv6 header"));
    }
    let (mut payload, _) = split(rest, usize::from(be16(header, 4)), "IPv6 packet")?;
    let mut next = header[6];
    // Hop-by-hop, routing and destination options may stand before the transport.
    while matches!(next, 0 | 43 | 60) {
        let (start, _) = split(payload, 2, "IPv6 extension")?;
        let len = (usize::from(start[1]) + 1) * 8;
        let (extension, rest) = split(payload, len, "IPv6 extension")?;
        next = extension[0];
        payload = rest;
    }
    if next == IPV6_FRAGMENT {
        return Ok(Packet::Fragment);
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        IpAddr::from(Ipv6Addr::from(octets))
    };
    transport(next, &header[8..40], address(8), address(24), payload)
}

fn transport(
    protocol: u8,
    addresses: &[u8],
    src: IpAddr,
    dst: IpAddr,
    payload: &[u8],
) -> Result<Packet, Fault> {
    let pseudo = sum(addresses, u32::from(protocol) + payload.len() as u32);
    match protocol {
        6 => tcp(src, dst, pseudo, payload),
        17 => {
            let (header, _) = split(payload, 8, "UDP header")?;
            if usize::from(be16(header, 4)) != payload.len() {
                return Err(Fault::Malformed("UDP length"));
            }
            let absent = be16(header, 6) == 0 && src.is_ipv4();
            if absent || fold(pseudo + sum(payload, 0)) == 0xffff {
                Ok(Packet::Ip(17))
            } else {
                Err(Fault::Checksum("UDP"))
            }
        }
        1 if sum(payload, 0) != 0xffff => Err(Fault::Checksum("ICMP")),
        58 if fold(pseudo + sum(payload, 0)) != 0xffff => Err(Fault::Checksum("ICMPv6")),
        other => Ok(Packet::Ip(other)),
    }
}

fn tcp(src: IpAddr, dst: IpAddr, pseudo: u32, segment: &[u8]) -> Result<Packet, Fault> {
    let (header, _) = split(segment, 20, "TCP header")?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 {
        return Err(Fault::Malformed("TCP header"));
    }
    let (_, payload) = split(segment, header_len, "TCP options")?;
    if fold(pseudo + sum(segment, 0)) != 0xffff {
        return Err(Fault::Checksum("TCP"));
    }
    Ok(Packet::Tcp(Tcp {
        src: (src, be16(header, 0)),
        dst: (dst, be16(header, 2)),
        seq: be32(header, 4),
        ack: be32(header, 8),
        flags: header[13],
        window: be16(header, 14),
        payload_len: payload.len() as u32,
    }))
}

/// The one's complement sum of RFC 1071 over `bytes` and a start, folded to 16 bits.
fn sum(bytes: &[u8], start: u32) -> u32 {
    let mut total = u64::from(start);
    for pair in bytes.chunks(2) {
        total += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u32
}

fn fold(mut total: u32) -> u32 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let check = !(sum(&ip, 0) as u16);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        let mut tcp = vec![0, 80, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0];
        let check = !(fold(sum(&ip[12..20], 6 + 20) + sum(&tcp, 0)) as u16);
        tcp[16..18].copy_from_slice(&check.to_be_bytes());
        frame.extend(ip);
        frame.extend(tcp);
        frame
    }

    #[test]
    fn a_segment_is_read_and_a_flipped_bit_is_found() {
        let Ok(Packet::Tcp(tcp)) = dissect(&syn()) else { panic!("no TCP") };
        assert_eq!((tcp.src.1, tcp.dst.1, tcp.seq, tcp.flags), (80, 256, 9, 2));
        for bit in 0..syn().len() * 8 {
            let mut frame = syn();
            frame[bit / 8] ^= 1 << (bit % 8);
            // Bits of the Ethernet header change who it is for, or what it carries, and no checksum.
            if bit >= 14 * 8 {
                assert!(
                    !matches!(dissect(&frame), Ok(Packet::Tcp(_))),
                    "bit {bit} was not noticed"
                );
            }
        }
    }

    #[test]
    fn any_truncation_is_an_error() {
        let frame = syn();
        for len in 0..frame.len() {
            assert!(dissect(&frame[..len]).is_err(), "{len} bytes were accepted");
        }
    }
}

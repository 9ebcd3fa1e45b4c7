//! Link types of captures: what stands before the network layer, VLAN tags included.

use crate::packet::Fault;

/// What a frame starts with. Numbers are LINKTYPE_ values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkType {
    /// 1: Ethernet.
    Ethernet,
    /// 0: a protocol family in the byte order of the capturing host (BSD loopback).
    Null,
    /// 108: the same in network byte order (OpenBSD loopback).
    Loop,
    /// 101, 228, 229 (and 12, 14 of older files): an IP header at once.
    RawIp,
    /// 113: Linux "cooked" capture.
    LinuxSll,
    /// 276: Linux "cooked" capture, version 2.
    LinuxSll2,
    /// Another one, which is not read.
    Other(u32),
}

/// What follows a link header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// EtherType of `bytes`; below 1536 it is a length (IEEE 802.3) and what follows is not read.
    pub ether_type: u16,
    /// VLAN tags passed over.
    pub vlan_tags: u8,
    /// Bytes of header before the network layer.
    pub header_len: usize,
    /// The network layer.
    pub bytes: &'a [u8],
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// More tags than this on one frame are not read.
const MAX_TAGS: u8 = 4;

impl LinkType {
    /// The type of a LINKTYPE_ number.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            other => Self::Other(other),
        }
    }

    /// Takes the link header off.
    #[inline]
    pub fn strip<'a>(self, frame: &'a [u8]) -> Result<Payload<'a>, Fault> {
        let (ether_type, header_len) = match self {
            Self::Ethernet => (be16(frame, 12, "Ethernet header")?, 14),
            Self::LinuxSll => (be16(frame, 14, "cooked header")?, 16),
            Self::LinuxSll2 => {
                let ether_type = be16(frame, 0, "cooked header")?;
                // The header is 20 bytes long; the protocol stands first.
                be16(frame, 18, "cooked header")?;
                (ether_type, 20)
            }
            Self::Null | Self::Loop => {
                let family: [u8; 4] =
                    frame.first_chunk().copied().ok_or(Fault::Truncated("loopback header"))?;
                (family_type(family)?, 4)
            }
            Self::RawIp => match frame.first().ok_or(Fault::Truncated("IP header"))? >> 4 {
                4 => (IPV4, 0),
                6 => (IPV6, 0),
                _ => return Err(Fault::Malformed("IP version")),
            },
            Self::Other(number) => return Err(Fault::LinkType(number)),
        };
        let mut payload =
            Payload { ether_type, vlan_tags: 0, header_len, bytes: &frame[header_len..] };
        // 802.1Q and 802.1ad, and the older numbers of double tags.
        while matches!(payload.ether_type, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
            if payload.vlan_tags == MAX_TAGS {
                return Err(Fault::Malformed("VLAN tags (too many)"));
            }
            payload.ether_type = be16(payload.bytes, 2, "VLAN tag")?;
            payload.bytes = &payload.bytes[4..];
            payload.vlan_tags += 1;
            payload.header_len += 4;
        }
        Ok(payload)
    }
}

/// The address family of BSD's loopback header, in whichever byte order.
fn family_type(family: [u8; 4]) -> Result<u16, Fault> {
    let number = match u32::from_be_bytes(family) {
        big @ 0..=0xffff => big,
        _ => u32::from_le_bytes(family),
    };
    match number {
        2 => Ok(IPV4),
        // NetBSD and OpenBSD, FreeBSD, Darwin; Linux.
        24 | 28 | 30 | 10 => Ok(IPV6),
        _ => Err(Fault::Malformed("address family")),
    }
}

fn be16(bytes: &[u8], at: usize, what: &'static str) -> Result<u16, Fault> {
    let pair = bytes.get(at..at + 2).ok_or(Fault::Truncated(what))?;
    Ok(u16::from_be_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_leads_to_the_network_layer() {
        let rest = [0x45, 1, 2, 3];
        let with = |header: &[u8]| [header, &rest].concat();
        let ethernet = with(&[[0; 12].as_slice(), &[8, 0]].concat());
        let tagged = with(&[[0; 12].as_slice(), &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]].concat());
        let sll = with(&[[0; 14].as_slice(), &[8, 0]].concat());
        let sll2 = with(&[[8, 0].as_slice(), &[0; 18]].concat());
        let cases = [
            (1, ethernet, 0),
            (1, tagged, 2),
            (113, sll, 0),
            (276, sll2, 0),
            (0, with(&[2, 0, 0, 0]), 0),
            (108, with(&[0, 0, 0, 2]), 0),
            (101, rest.to_vec(), 0),
        ];
        for (number, frame, tags) in cases {
            let link = LinkType::from_number(number);
            let payload = link.strip(&frame).expect("a header");
            assert_eq!((payload.ether_type, payload.bytes), (IPV4, &rest[..]), "{link:?}");
            assert_eq!((payload.vlan_tags, frame.len() - 4), (tags, payload.header_len));
            for len in 0..payload.header_len {
                assert!(link.strip(&frame[..len]).is_err(), "{link:?} of {len} bytes");
            }
        }
        assert_eq!(LinkType::from_number(127).strip(&rest), Err(Fault::LinkType(127)));
    }
}

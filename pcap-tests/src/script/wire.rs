//! Packets of scripts as bytes, and bytes as packets: IP headers and what they carry, without a link layer.

use std::net::IpAddr;

use super::syntax::{Cookie, TcpOption};
use crate::capture::LinkType;
use crate::packet::{self, Body, Ip};

/// The experimental option of fast open (RFC 4727), and the first bytes of its value.
const EXPERIMENT: u8 = 254;
const FAST_OPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

/// The fields of an IP header that scripts speak of.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Source.
    pub from: IpAddr,
    /// Destination, of the same family.
    pub to: IpAddr,
    /// TOS or traffic class.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// The numbers of a TCP header on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment<'a> {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u16,
    /// Window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, whole words.
    pub options: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// The bytes that options take.
pub fn options_len(options: &[TcpOption]) -> usize {
    options.iter().map(|option| encoded(option).len()).sum()
}

/// An option as bytes. A cookie with a name has none: it must have been replaced by its bytes.
fn encoded(option: &TcpOption) -> Vec<u8> {
    let with = |kind: u8, value: &[u8]| {
        let len = u8::try_from(value.len() + 2).unwrap_or(u8::MAX);
        [&[kind, len], value].concat()
    };
    match option {
        TcpOption::End => vec![0],
        TcpOption::Nop => vec![1],
        TcpOption::Mss(mss) => with(2, &mss.to_be_bytes()),
        TcpOption::WindowScale(shift) => with(3, &[*shift]),
        TcpOption::SackPermitted => with(4, &[]),
        TcpOption::Sack(blocks) => {
            let edges = blocks.iter().flat_map(|(from, to)| [from.to_be_bytes(), to.to_be_bytes()]);
            with(5, &edges.flatten().collect::<Vec<u8>>())
        }
        TcpOption::Timestamps { val, ecr } => {
            with(8, &[val.to_be_bytes(), ecr.to_be_bytes()].concat())
        }
        TcpOption::FastOpen(cookie) => with(34, cookie_bytes(cookie)),
        TcpOption::FastOpenExperimental(cookie) => {
            with(EXPERIMENT, &[&FAST_OPEN_MAGIC, cookie_bytes(cookie)].concat())
        }
        TcpOption::Other(kind, value) => with(*kind, value),
    }
}

fn cookie_bytes(cookie: &Cookie) -> &[u8] {
    match cookie {
        Cookie::Bytes(bytes) => bytes,
        Cookie::Named(_) => &[],
    }
}

/// Options as bytes, filled up to whole words.
pub fn options(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes: Vec<u8> = options.iter().flat_map(encoded).collect();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The options in the bytes of a header. What contradicts its length ends them as an option of kind 255.
pub fn read_options(mut bytes: &[u8]) -> Vec<TcpOption> {
    let mut options = Vec::new();
    while let [kind, rest @ ..] = bytes {
        if *kind < 2 {
            options.push(if *kind == 0 { TcpOption::End } else { TcpOption::Nop });
            bytes = rest;
            continue;
        }
        let len = rest.first().map_or(0, |len| usize::from(*len));
        let Some((option, rest)) = bytes.split_at_checked(len).filter(|_| len >= 2) else {
            options.push(TcpOption::Other(255, bytes.to_vec()));
            break;
        };
        options.push(read_option(*kind, &option[2..]));
        bytes = rest;
    }
    options
}

fn read_option(kind: u8, value: &[u8]) -> TcpOption {
    let word =
        |at: usize| u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    match (kind, value) {
        (2, [high, low]) => TcpOption::Mss(u16::from_be_bytes([*high, *low])),
        (3, [shift]) => TcpOption::WindowScale(*shift),
        (4, []) => TcpOption::SackPermitted,
        (5, _) if !value.is_empty() && value.len().is_multiple_of(8) => {
            let edges = (0..value.len()).step_by(8).map(|at| (word(at), word(at + 4)));
            TcpOption::Sack(edges.collect())
        }
        (8, [_, _, _, _, _, _, _, _]) => TcpOption::Timestamps { val: word(0), ecr: word(4) },
        (34, cookie) => TcpOption::FastOpen(Cookie::Bytes(cookie.to_vec())),
        (EXPERIMENT, [a, b, cookie @ ..]) if [*a, *b] == FAST_OPEN_MAGIC => {
            TcpOption::FastOpenExperimental(Cookie::Bytes(cookie.to_vec()))
        }
        (kind, value) => TcpOption::Other(kind, value.to_vec()),
    }
}

/// A TCP segment as a packet.
pub fn tcp(header: Header, segment: Segment<'_>) -> Vec<u8> {
    let first = ((20 + segment.options.len()) / 4) as u16;
    let mut bytes = ports(segment.from, segment.to);
    bytes.extend(segment.seq.to_be_bytes());
    bytes.extend(segment.ack.to_be_bytes());
    bytes.extend((first << 12 | segment.flags).to_be_bytes());
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(segment.urgent.to_be_bytes());
    bytes.extend(segment.options);
    bytes.extend(segment.payload);
    checked(header, 6, &mut bytes, 16);
    ip(header, 6, &bytes)
}

/// A UDP datagram as a packet.
pub fn udp(header: Header, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ports(from, to);
    bytes.extend(((8 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    checked(header, 17, &mut bytes, 6);
    ip(header, 17, &bytes)
}

/// An ICMP or ICMPv6 message as a packet: type and code, the second word, and what stands behind.
pub fn icmp(header: Header, kind: (u8, u8), word: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind.0, kind.1, 0, 0];
    bytes.extend(word.to_be_bytes());
    bytes.extend(payload);
    match header.from {
        IpAddr::V4(_) => {
            let check = !(packet::sum(&bytes, 0) as u16);
            bytes[2..4].copy_from_slice(&check.to_be_bytes());
            ip(header, 1, &bytes)
        }
        IpAddr::V6(_) => {
            checked(header, 58, &mut bytes, 2);
            ip(header, 58, &bytes)
        }
    }
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

/// Fills in the checksum over the pseudo-header.
fn checked(header: Header, protocol: u8, bytes: &mut [u8], at: usize) {
    let addresses = match (header.from, header.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (from, to) => [v6_octets(from), v6_octets(to)].concat(),
    };
    let pseudo = packet::sum(&addresses, u32::from(protocol) + bytes.len() as u32);
    let check = match !(packet::sum(bytes, pseudo) as u16) {
        // RFC 768: "If the computed checksum is zero, it is transmitted as all ones".
        0 if protocol == 17 => 0xffff,
        check => check,
    };
    bytes[at..at + 2].copy_from_slice(&check.to_be_bytes());
}

fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn ip(header: Header, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (header.from, header.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0x45, header.tos];
            bytes.extend(((20 + payload.len()) as u16).to_be_bytes());
            // No identification, not to be cut.
            bytes.extend([0, 0, 0x40, 0, header.ttl, protocol, 0, 0]);
            bytes.extend([from.octets(), to.octets()].concat());
            let check = !(packet::sum(&bytes, 0) as u16);
            bytes[10..12].copy_from_slice(&check.to_be_bytes());
            bytes.extend(payload);
            bytes
        }
        (from, to) => {
            let mut bytes = vec![0x60 | header.tos >> 4, header.tos << 4, 0, 0];
            bytes.extend((payload.len() as u16).to_be_bytes());
            bytes.extend([protocol, header.ttl]);
            bytes.extend(v6_octets(from));
            bytes.extend(v6_octets(to));
            bytes.extend(payload);
            bytes
        }
    }
}

/// A packet that the kernel sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its IP header.
    pub ip: Ip,
    /// What it carries.
    pub body: SentBody,
}

/// What such a packet carries.
#[derive(Clone, Debug)]
pub enum SentBody {
    /// TCP
    Tcp(SentTcp),
    /// UDP: ports and bytes of payload.
    Udp(u16, u16, u32),
    /// ICMP: type, code, second word, and the first bytes of what it is about.
    Icmp((u8, u8), u32, Vec<u8>),
}

/// A TCP segment with the numbers of the wire.
#[derive(Clone, Debug)]
pub struct SentTcp {
    /// Source port.
    pub from: u16,
    /// Destination port.
    pub to: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u16,
    /// Window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Vec<TcpOption>,
    /// Payload.
    pub payload: Vec<u8>,
}

/// What scripts do not speak of: neighbour discovery, reports of groups, and echoes.
fn is_background(kind: u8, v6: bool) -> bool {
    if v6 { kind >= 128 } else { matches!(kind, 0 | 8..=10) }
}

/// Takes a packet of the kernel apart. `None` for what scripts do not speak of. Errors: what is wrong with it, in words.
pub fn read(bytes: &[u8]) -> Result<Option<Sent>, String> {
    let packet = packet::dissect(LinkType::RawIp, bytes, bytes.len());
    let packet = packet.map_err(|fault| format!("a packet that is wrong: {fault}"))?;
    let Some(ip) = packet.ip else { return Ok(None) };
    if let Some(layer) = packet.bad_checksum {
        return Err(format!("a packet whose checksum of {layer} is wrong"));
    }
    let body = match packet.body {
        Body::Tcp(found) => {
            let start = bytes.len() - ip.payload_len as usize;
            let header = usize::from(bytes[start + 12] >> 4) * 4;
            SentBody::Tcp(SentTcp {
                from: found.src.1,
                to: found.dst.1,
                seq: found.seq,
                ack: found.ack,
                flags: found.flags,
                window: found.window,
                urgent: found.urgent,
                options: read_options(&bytes[start + 20..start + header]),
                payload: found.payload.to_vec(),
            })
        }
        Body::Udp(found) => SentBody::Udp(found.src.1, found.dst.1, found.payload_len),
        Body::Icmp(found) if !is_background(found.kind, found.v6) => {
            SentBody::Icmp((found.kind, found.code), found.word, found.payload.to_vec())
        }
        _ => return Ok(None),
    };
    Ok(Some(Sent { ip, body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(v6: bool) -> Header {
        let [from, to]: [IpAddr; 2] = match v6 {
            true => [[1u16; 8].into(), [2u16; 8].into()],
            false => [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
        };
        Header { from, to, tos: 2, ttl: 64 }
    }

    #[test]
    fn what_is_built_is_read_again() {
        let all = [
            TcpOption::Mss(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { val: 7, ecr: 9 },
            TcpOption::Nop,
            TcpOption::WindowScale(7),
            TcpOption::FastOpen(Cookie::Bytes(vec![1, 2, 3, 4])),
            TcpOption::FastOpenExperimental(Cookie::Bytes(vec![])),
            TcpOption::Sack(vec![(1, 2)]),
        ];
        for v6 in [false, true] {
            for some in all.chunks(4) {
                let options = options(some);
                let segment = Segment {
                    from: 1,
                    to: 2,
                    seq: 3,
                    ack: 4,
                    flags: 0x118,
                    window: 5,
                    urgent: 6,
                    options: &options,
                    payload: b"odd",
                };
                let bytes = tcp(header(v6), segment);
                let sent = read(&bytes).expect("right").expect("a packet");
                assert_eq!((sent.ip.tos, sent.ip.ttl), (2, 64));
                let SentBody::Tcp(found) = sent.body else { panic!("no TCP") };
                assert_eq!((found.from, found.to, found.seq, found.ack), (1, 2, 3, 4));
                assert_eq!((found.flags, found.window, found.urgent), (0x118, 5, 6));
                assert_eq!(&found.options[..some.len()], some);
                assert_eq!(found.payload, b"odd");
            }
            let sent = read(&udp(header(v6), 5, 6, b"x")).expect("right").expect("a packet");
            assert!(matches!(sent.body, SentBody::Udp(5, 6, 1)));
            let kind = if v6 { (1, 4) } else { (3, 3) };
            let sent = read(&icmp(header(v6), kind, 9, b"quoted")).expect("right").expect("it");
            assert!(matches!(sent.body, SentBody::Icmp(found, 9, _) if found == kind));
        }
    }

    #[test]
    fn broken_options_and_sums_are_told() {
        assert_eq!(read_options(&[2, 9, 1]), [TcpOption::Other(255, vec![2, 9, 1])]);
        assert_eq!(read_options(&[5, 3, 1]), [TcpOption::Other(5, vec![1])]);
        let mut bytes = tcp(header(false), Segment::default());
        *bytes.last_mut().expect("a byte") ^= 1;
        assert!(read(&bytes).is_err_and(|why| why.contains("checksum of TCP")));
    }
}

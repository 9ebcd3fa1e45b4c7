//! One frame taken apart as far as TCP, UDP and ICMP, with every length and checksum checked. Written apart from the stack, so that it can judge it.

mod options;
mod tcp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::capture::{Frame, LinkType, Payload};

pub use options::TcpOptions;

/// FIN of [`Tcp::flags`].
pub const FIN: u16 = 1;
/// SYN of [`Tcp::flags`].
pub const SYN: u16 = 2;
/// RST of [`Tcp::flags`].
pub const RST: u16 = 4;
/// PSH of [`Tcp::flags`].
pub const PSH: u16 = 8;
/// ACK of [`Tcp::flags`].
pub const ACK: u16 = 16;
/// URG of [`Tcp::flags`].
pub const URG: u16 = 32;
/// ECE of [`Tcp::flags`].
pub const ECE: u16 = 64;
/// CWR of [`Tcp::flags`].
pub const CWR: u16 = 128;

/// The sequence numbers that SYN and FIN take.
pub fn controls(flags: u16) -> u32 {
    u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0)
}

/// An address and a port.
pub type Endpoint = (IpAddr, u16);

/// A frame taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// EtherType behind all tags.
    pub ether_type: u16,
    /// VLAN tags.
    pub vlan_tags: u8,
    /// The innermost IP header, where there is one.
    pub ip: Option<Ip>,
    /// IP headers before that one (tunnels of IP in IP).
    pub tunnels: u8,
    /// What IP carries.
    pub body: Body<'a>,
    /// The layer whose checksum is wrong. A capture made on the sender may hold sums that its device filled in later.
    pub bad_checksum: Option<&'static str>,
    /// Whether the snapshot length cut bytes that belong to the packet.
    pub cut: bool,
    /// Whether checksums were looked at.
    pub sums: Sums,
}

/// Whether anybody looks at checksums, of frames that are taken apart or made. It costs a pass over every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// Which is wrong is told; those that are made are right.
    Checked,
    /// Nobody does.
    Ignored,
}

/// What an IP header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Protocol number behind extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class; the lower two bits are ECN.
    pub tos: u8,
    /// IPv4: identification. IPv6: that of a fragment header, or 0.
    pub id: u32,
    /// IPv4: whether it may not be fragmented. IPv6: always.
    pub dont_fragment: bool,
    /// Offset in bytes and whether more follow, where it is a fragment.
    pub fragment: Option<(u32, bool)>,
    /// Bytes behind the headers.
    pub payload_len: u32,
}

/// What IP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A TCP segment.
    Tcp(Tcp<'a>),
    /// A UDP datagram.
    Udp(Udp<'a>),
    /// An ICMP or ICMPv6 message.
    Icmp(Icmp<'a>),
    /// A piece of a packet.
    Fragment,
    /// Another protocol over IP.
    Ip,
    /// No IP: ARP, for one.
    Other,
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flag bits, [`FIN`] to [`CWR`], and AE at 256.
    pub flags: u16,
    /// Window as on the wire.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: TcpOptions,
    /// Bytes of payload on the wire.
    pub payload_len: u32,
    /// Payload as far as it was captured.
    pub payload: &'a [u8],
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// Bytes of payload on the wire.
    pub payload_len: u32,
    /// Payload as far as it was captured.
    pub payload: &'a [u8],
}

/// An ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The second word: identifier and sequence, MTU, gateway.
    pub word: u32,
    /// What stands behind the first eight bytes: of an error, the packet that it is about.
    pub payload: &'a [u8],
    /// ICMPv6.
    pub v6: bool,
}

/// What is wrong with a frame, so that it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The frame ends before a header or its stated length.
    #[error("truncated {0}")]
    Truncated(&'static str),
    /// A header contradicts itself.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A link type that is not read.
    #[error("link type {0} is not read")]
    LinkType(u32),
}

/// More IP headers than this within each other are not read.
const MAX_TUNNELS: u8 = 4;
const IPV6_FRAGMENT: u8 = 44;

/// Bytes of a layer: what was captured, and how long it was on the wire.
#[derive(Clone, Copy)]
struct Layer<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Layer<'a> {
    /// Cuts a header off.
    fn split(self, at: usize, what: &'static str) -> Result<(&'a [u8], Layer<'a>), Fault> {
        let (header, bytes) = self.bytes.split_at_checked(at).ok_or(Fault::Truncated(what))?;
        Ok((header, Layer { bytes, len: self.len - at }))
    }

    /// Keeps a stated length; what follows is padding.
    fn limit(self, len: usize, what: &'static str) -> Result<Layer<'a>, Fault> {
        if len > self.len {
            return Err(Fault::Truncated(what));
        }
        Ok(Layer { bytes: &self.bytes[..len.min(self.bytes.len())], len })
    }

    fn is_cut(self) -> bool {
        self.bytes.len() < self.len
    }
}

impl<'a> Packet<'a> {
    /// Takes a captured frame apart.
    pub fn of(frame: &Frame<'a>) -> Result<Self, Fault> {
        Self::with(Sums::Checked, frame)
    }

    /// The same, with or without a look at checksums.
    pub fn with(sums: Sums, frame: &Frame<'a>) -> Result<Self, Fault> {
        read(sums, frame.link, frame.bytes, frame.wire_len as usize)
    }
}

/// Takes apart a frame that was `wire_len` bytes long and of which `bytes` were captured.
pub fn dissect(link: LinkType, bytes: &[u8], wire_len: usize) -> Result<Packet<'_>, Fault> {
    read(Sums::Checked, link, bytes, wire_len)
}

/// The same, with or without a look at checksums.
pub fn read(
    sums: Sums,
    link: LinkType,
    bytes: &[u8],
    wire_len: usize,
) -> Result<Packet<'_>, Fault> {
    match link.strip(bytes) {
        Ok(payload) => inner(sums, payload, bytes.len(), wire_len),
        Err(fault) => Err(fault),
    }
}

/// What follows a link header. Large: it is made where it stays, and so is what is in it.
fn inner(
    sums: Sums,
    payload: Payload<'_>,
    captured: usize,
    wire_len: usize,
) -> Result<Packet<'_>, Fault> {
    let Payload { ether_type, vlan_tags, header_len, bytes } = payload;
    let mut read = Ok(Packet {
        ether_type,
        vlan_tags,
        ip: None,
        tunnels: 0,
        body: Body::Other,
        bad_checksum: None,
        cut: captured < wire_len,
        sums,
    });
    let layer = Layer { bytes, len: wire_len.max(captured) - header_len };
    if let Ok(packet) = &mut read
        && let Err(fault) = network(packet, layer)
    {
        read = Err(fault);
    }
    read
}

fn network<'a>(packet: &mut Packet<'a>, layer: Layer<'a>) -> Result<(), Fault> {
    match packet.ether_type {
        0x0800 => ipv4(packet, layer),
        0x86dd => ipv6(packet, layer),
        _ => Ok(()),
    }
}

/// The packet within an ICMP error: an IP header and at least the ports, without checksums and stated lengths.
pub fn quoted(bytes: &[u8]) -> Option<(Ip, Endpoint, Endpoint)> {
    let (ip, header_len) = match bytes.first()? >> 4 {
        4 => ipv4_header(Layer { bytes, len: usize::MAX }).ok()?,
        6 => {
            let header = bytes.get(..40)?;
            (ipv6_header(header), 40)
        }
        _ => return None,
    };
    let ports = bytes.get(header_len..header_len + 4)?;
    if ip.fragment.is_some_and(|(offset, _)| offset != 0) || !matches!(ip.protocol, 6 | 17) {
        return None;
    }
    Some((ip, (ip.src, be16(ports, 0)), (ip.dst, be16(ports, 2))))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The header's fields and its length.
#[inline]
fn ipv4_header(layer: Layer<'_>) -> Result<(Ip, usize), Fault> {
    let fixed = layer.bytes.first_chunk::<20>().ok_or(Fault::Truncated("IPv4 header"))?;
    let header_len = usize::from(fixed[0] & 15) * 4;
    let total_len = usize::from(be16(fixed, 2));
    // A device that cuts segments later is handed packets without a length.
    let total_len = if total_len == 0 { layer.len } else { total_len };
    if fixed[0] >> 4 != 4 || header_len < 20 || total_len < header_len {
        return Err(Fault::Malformed("IPv4 header"));
    }
    if layer.bytes.len() < header_len {
        return Err(Fault::Truncated("IPv4 header"));
    }
    let pieces = be16(fixed, 6);
    let (offset, more) = (u32::from(pieces & 0x1fff) * 8, pieces & 0x2000 != 0);
    let address = |at: usize| Ipv4Addr::from(be32(fixed, at)).into();
    let ip = Ip {
        src: address(12),
        dst: address(16),
        protocol: fixed[9],
        ttl: fixed[8],
        tos: fixed[1],
        id: u32::from(be16(fixed, 4)),
        dont_fragment: pieces & 0x4000 != 0,
        fragment: (offset != 0 || more).then_some((offset, more)),
        payload_len: u32::try_from(total_len - header_len).unwrap_or(u32::MAX),
    };
    Ok((ip, header_len))
}

fn ipv4<'a>(packet: &mut Packet<'a>, layer: Layer<'a>) -> Result<(), Fault> {
    let (ip, header_len) = ipv4_header(layer)?;
    let layer = layer.limit(header_len + ip.payload_len as usize, "IPv4 packet")?;
    let (header, payload) = layer.split(header_len, "IPv4 header")?;
    if packet.sums == Sums::Checked && sum(header, 0) != 0xffff {
        packet.bad_checksum = Some("IPv4");
    }
    packet.ip = Some(ip);
    if ip.fragment.is_some() {
        packet.body = Body::Fragment;
        return Ok(());
    }
    transport(packet, &ip, &header[12..20], payload)
}

fn ipv6_header(header: &[u8]) -> Ip {
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        IpAddr::from(Ipv6Addr::from(octets))
    };
    Ip {
        src: address(8),
        dst: address(24),
        protocol: header[6],
        ttl: header[7],
        tos: (be16(header, 0) >> 4) as u8,
        id: 0,
        dont_fragment: true,
        fragment: None,
        payload_len: u32::from(be16(header, 4)),
    }
}

fn ipv6<'a>(packet: &mut Packet<'a>, layer: Layer<'a>) -> Result<(), Fault> {
    let (header, rest) = layer.split(40, "IPv6 header")?;
    if header[0] >> 4 != 6 {
        return Err(Fault::Malformed("IPv6 header"));
    }
    let mut ip = ipv6_header(header);
    // A jumbogram, or a packet for a device that cuts it later.
    let len = if ip.payload_len == 0 { rest.len } else { ip.payload_len as usize };
    let mut payload = rest.limit(len, "IPv6 packet")?;
    // Hop-by-hop, routing and destination options may stand before the transport.
    while matches!(ip.protocol, 0 | 43 | 60) {
        let (start, _) = payload.split(2, "IPv6 extension")?;
        let len = (usize::from(start[1]) + 1) * 8;
        let (extension, rest) = payload.split(len, "IPv6 extension")?;
        ip.protocol = extension[0];
        payload = rest;
    }
    if ip.protocol == IPV6_FRAGMENT {
        let (fragment, rest) = payload.split(8, "IPv6 fragment header")?;
        let pieces = be16(fragment, 2);
        ip.protocol = fragment[0];
        ip.id = be32(fragment, 4);
        ip.dont_fragment = false;
        ip.fragment = Some((u32::from(pieces & 0xfff8), pieces & 1 != 0));
        payload = rest;
    }
    ip.payload_len = u32::try_from(payload.len).unwrap_or(u32::MAX);
    packet.ip = Some(ip);
    // RFC 6946: an atomic fragment is a whole packet.
    if ip.fragment.is_some_and(|piece| piece != (0, false)) {
        packet.body = Body::Fragment;
        return Ok(());
    }
    transport(packet, &ip, &header[8..40], payload)
}

#[inline]
fn transport<'a>(
    packet: &mut Packet<'a>,
    ip: &Ip,
    addresses: &[u8],
    payload: Layer<'a>,
) -> Result<(), Fault> {
    // What was cut cannot be summed.
    let is_summed = packet.sums == Sums::Checked && !payload.is_cut();
    let wrong = |start| is_summed && sum(payload.bytes, start) != 0xffff;
    let is_wrong =
        || is_summed && wrong(sum(addresses, u32::from(ip.protocol) + payload.len as u32));
    let bad = match ip.protocol {
        4 | 41 if packet.tunnels < MAX_TUNNELS => {
            packet.tunnels += 1;
            return match ip.protocol {
                4 => ipv4(packet, payload),
                _ => ipv6(packet, payload),
            };
        }
        6 => {
            let (fixed, options, payload) = tcp::header(payload)?;
            packet.body = Body::Tcp(tcp::segment(ip, fixed, payload));
            if let Body::Tcp(tcp) = &mut packet.body {
                tcp.options.read(options);
            }
            is_wrong().then_some("TCP")
        }
        17 => {
            let (udp, has_sum) = udp(ip, payload)?;
            packet.body = Body::Udp(udp);
            (has_sum && is_wrong()).then_some("UDP")
        }
        1 if ip.src.is_ipv4() => {
            packet.body = Body::Icmp(icmp(payload, "ICMP header")?);
            wrong(0).then_some("ICMP")
        }
        58 if ip.src.is_ipv6() => {
            packet.body = Body::Icmp(Icmp { v6: true, ..icmp(payload, "ICMPv6 header")? });
            is_wrong().then_some("ICMPv6")
        }
        _ => {
            packet.body = Body::Ip;
            None
        }
    };
    packet.bad_checksum = packet.bad_checksum.or(bad);
    Ok(())
}

/// The datagram, and whether it has a checksum.
fn udp<'a>(ip: &Ip, datagram: Layer<'a>) -> Result<(Udp<'a>, bool), Fault> {
    let (header, payload) = datagram.split(8, "UDP header")?;
    let len = usize::from(be16(header, 4));
    // Datagrams for a device that cuts them later are longer than they say.
    if len != datagram.len && len != 0 {
        return Err(Fault::Malformed("UDP length"));
    }
    let udp = Udp {
        src: (ip.src, be16(header, 0)),
        dst: (ip.dst, be16(header, 2)),
        payload_len: u32::try_from(payload.len).unwrap_or(u32::MAX),
        payload: payload.bytes,
    };
    Ok((udp, be16(header, 6) != 0 || ip.src.is_ipv6()))
}

fn icmp<'a>(message: Layer<'a>, what: &'static str) -> Result<Icmp<'a>, Fault> {
    let (header, payload) = message.split(8, what)?;
    let (kind, code) = (header[0], header[1]);
    Ok(Icmp { kind, code, word: be32(header, 4), payload: payload.bytes, v6: false })
}

/// The one's complement sum of RFC 1071 over `bytes` and a start, folded to 16 bits.
pub(crate) fn sum(bytes: &[u8], start: u32) -> u32 {
    // The sum does not depend on the byte order, but that its bytes are swapped (RFC 1071, 2 B); halves of words add up apart.
    let (words, rest) = bytes.as_chunks::<8>();
    let (mut low, mut high) = (0_u64, 0_u64);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    let native = fold(fold_words(low) + fold_words(high));
    let mut total = u64::from(start) + u64::from(u16::from_be(native as u16));
    for pair in rest.chunks(2) {
        total += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    fold(total) as u32
}

/// Two halves of 32 bits, added.
fn fold_words(total: u64) -> u64 {
    (total & 0xffff_ffff) + (total >> 32)
}

/// Down to 16 bits, with all carries.
fn fold(mut total: u64) -> u64 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

#[cfg(test)]
mod tests;

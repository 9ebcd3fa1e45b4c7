//! Frames made by hand, and answers described with what must differ blanked.

/// The peer under test.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Whoever sends the probes.
pub const FROM_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Addresses of both.
pub const US4: [u8; 4] = [10, 9, 0, 1];
/// Address of the peer.
pub const PEER4: [u8; 4] = [10, 9, 0, 2];
/// fd09::1
pub const US6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// fd09::2
pub const PEER6: [u8; 16] = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// A port with a TCP listener and an IPv4 UDP socket.
pub const OPEN_PORT: u16 = 7080;
/// A port with nothing.
pub const CLOSED_PORT: u16 = 7099;
/// Identifier of the echo requests that end a probe.
const SENTINEL: u16 = 0x5e47;

/// The one's complement sum of RFC 1071.
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut total = start;
    for pair in bytes.chunks(2) {
        total += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// An Ethernet frame to the peer.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&MAC[..], &FROM_MAC, &ethertype.to_be_bytes(), payload].concat()
}

/// What an IPv4 header says besides the usual.
#[derive(Clone)]
pub struct V4 {
    /// Type of service.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Destination.
    pub to: [u8; 4],
    /// Options, whole words.
    pub options: Vec<u8>,
}

impl Default for V4 {
    fn default() -> Self {
        Self { tos: 0, id: 77, fragment: 0x4000, ttl: 64, to: PEER4, options: Vec::new() }
    }
}

/// An IPv4 frame.
pub fn ipv4(header: &V4, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + header.options.len();
    let mut packet = vec![0x40 | (header_len / 4) as u8, header.tos];
    packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
    packet.extend(header.id.to_be_bytes());
    packet.extend(header.fragment.to_be_bytes());
    packet.extend([header.ttl, protocol, 0, 0]);
    packet.extend(US4);
    packet.extend(header.to);
    packet.extend(&header.options);
    let check = !sum(&packet, 0);
    put16(&mut packet, 10, check);
    packet.extend(payload);
    ethernet(0x0800, &packet)
}

/// An IPv6 frame.
pub fn ipv6(next: u8, hop_limit: u8, to: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(US6);
    packet.extend(to);
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

/// A payload with its checksum at `at`, over the pseudo-header of these addresses.
pub fn checked(mut payload: Vec<u8>, at: usize, protocol: u8, from: &[u8], to: &[u8]) -> Vec<u8> {
    let start = u32::from(sum(from, 0))
        + u32::from(sum(to, 0))
        + u32::from(protocol)
        + payload.len() as u32;
    let check = !sum(&payload, start);
    put16(&mut payload, at, check);
    payload
}

/// An ICMPv4 message with its checksum.
pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let check = !sum(&message, 0);
    put16(&mut message, 2, check);
    message
}

/// An ICMPv6 message with its checksum.
pub fn icmp6(kind: u8, code: u8, rest: &[u8], to: [u8; 16]) -> Vec<u8> {
    checked([&[kind, code, 0, 0][..], rest].concat(), 2, 58, &US6, &to)
}

/// A TCP segment without its checksum.
pub fn tcp(port: u16, seq: u32, ack: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = 4000u16.to_be_bytes().to_vec();
    segment.extend(port.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([((20 + options.len()) / 4 * 16) as u8, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend(options);
    segment.extend(payload);
    segment
}

/// A UDP datagram without its checksum.
pub fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = 4000u16.to_be_bytes().to_vec();
    datagram.extend(port.to_be_bytes());
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// The echo request that ends a probe.
pub fn sentinel(number: u16) -> Vec<u8> {
    let rest = [SENTINEL.to_be_bytes(), number.to_be_bytes()].concat();
    ipv4(&V4::default(), 1, &icmp(8, 0, &rest))
}

/// True for the reply to that.
pub fn is_answer_to_sentinel(frame: &[u8], number: u16) -> bool {
    let expected = [&SENTINEL.to_be_bytes()[..], &number.to_be_bytes()].concat();
    frame.len() >= 42 && frame[23] == 1 && frame[34] == 0 && frame[38..42] == expected
}

/// An answer in words, or `None` for what is no answer: requests of the peer's own (ARP, solicitations, reports).
pub fn describe(frame: &[u8]) -> Option<String> {
    let payload = &frame[14..];
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0806 if payload[7] == 2 => {
            Some(format!("arp reply to {:?} {:02x?}", &frame[..6], &payload[..28]))
        }
        0x0800 => Some(describe4(payload)),
        0x86dd => describe6(payload),
        _ => None,
    }
}

fn describe4(packet: &[u8]) -> String {
    let header_len = usize::from(packet[0] & 15) * 4;
    let mut header = packet[..header_len].to_vec();
    let id = if header[4..6] == [0, 0] { "0" } else { "some" };
    header[4..6].fill(0);
    header[10..12].fill(0);
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    format!(
        "ipv4 id {id} {header:02x?} {}",
        describe_transport(packet[9], &packet[header_len..total])
    )
}

fn describe6(packet: &[u8]) -> Option<String> {
    let payload = &packet[40..];
    // Solicitations, advertisements of routers, and multicast reports are not asked for.
    if packet[6] == 0 || (packet[6] == 58 && matches!(payload[0], 133 | 135 | 143)) {
        return None;
    }
    let mut header = packet[..40].to_vec();
    // The flow label is the sender's to choose (RFC 6437).
    header[1..4].fill(0);
    Some(format!("ipv6 {header:02x?} {}", describe_transport(packet[6], payload)))
}

fn describe_transport(protocol: u8, payload: &[u8]) -> String {
    match protocol {
        6 => describe_tcp(payload),
        1 | 58 => {
            let mut message = payload.to_vec();
            message[2..4].fill(0);
            format!("icmp {message:02x?}")
        }
        _ => format!("protocol {protocol} {payload:02x?}"),
    }
}

fn describe_tcp(segment: &[u8]) -> String {
    let flags = segment[13];
    let number = |at: usize| {
        u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]])
    };
    // An initial sequence number is the sender's to choose; a reset's is not.
    let seq = if flags & 2 != 0 { "its own".to_owned() } else { number(4).to_string() };
    // The window is a matter of memory, but a reset's is 0.
    let window = if flags & 4 != 0 { format!("{:?}", &segment[14..16]) } else { "some".to_owned() };
    let header_len = usize::from(segment[12] >> 4) * 4;
    let mut options = segment[20..header_len].to_vec();
    // Timestamps show a clock; window scales follow buffer sizes.
    let mut at = 0;
    while at < options.len() && options[at] != 0 {
        let len = if options[at] == 1 { 1 } else { usize::from(options[at + 1]) };
        match options[at] {
            8 => options[at + 2..at + 6].fill(0xee),
            3 => options[at + 2] = 0xee,
            _ => {}
        }
        at += len.max(1);
    }
    format!(
        "tcp flags {flags:#x} seq {seq} ack {} window {window} options {options:02x?} data {}",
        number(8),
        segment.len() - header_len
    )
}

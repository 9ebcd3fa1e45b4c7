//! Recorded segments made anew for a stack whose sequence numbers and timestamps are others.

use crate::capture::{Frame, LinkType};
use crate::device::{OURS, THEIRS};
use crate::packet::{self, ACK, Body, Fault, Ip, Packet, SYN, Sums, Tcp, TcpOptions};

const ETHERNET: usize = 14;
const TCP_HEADER: usize = 20;
/// Where a segment has its checksum.
const CHECK: usize = 16;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// What to put in place of what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// To be added to acknowledgment numbers and SACK edges.
    pub shift: u32,
    /// The highest number that may be acknowledged; SACK blocks beyond it are left out.
    pub limit: Option<u32>,
    /// The echoed timestamp.
    pub echo: Option<u32>,
    /// Whether the checksum matters.
    pub sums: Sums,
}

impl Mapping {
    fn is_beyond(&self, mapped: u32) -> bool {
        self.limit.is_some_and(|limit| (mapped.wrapping_sub(limit) as i32) > 0)
    }

    fn ack(&self, recorded: u32) -> u32 {
        let mapped = recorded.wrapping_add(self.shift);
        self.limit.filter(|_| self.is_beyond(mapped)).unwrap_or(mapped)
    }
}

/// A recorded packet behind a fresh Ethernet header.
#[derive(Clone)]
struct Copied {
    bytes: Vec<u8>,
    /// Where the payload of IP begins.
    begin: usize,
}

impl Copied {
    /// What the snapshot length cut is zeros. None where lengths do not allow it.
    fn of(frame: &Frame<'_>, ip: &Ip) -> Option<Self> {
        Self::into(frame, ip, Vec::with_capacity)
    }

    /// The same into memory with room for so many bytes.
    fn into(frame: &Frame<'_>, ip: &Ip, memory: impl FnOnce(usize) -> Vec<u8>) -> Option<Self> {
        let payload = frame.link.strip(frame.bytes).ok()?;
        let len = ip.payload_len as usize;
        let header_len = match payload.bytes.first()? >> 4 {
            4 => usize::from(payload.bytes[0] & 15) * 4,
            6 => {
                let all = payload.bytes.get(4..6)?;
                (40 + usize::from(u16::from_be_bytes([all[0], all[1]]))).checked_sub(len)?
            }
            _ => return None,
        };
        let total = header_len + len;
        // A packet that a device was to cut later may not say its length.
        if total > usize::from(u16::MAX) || header_len > payload.bytes.len() {
            return None;
        }
        let mut bytes = memory(ETHERNET + total);
        bytes.extend(OURS);
        bytes.extend(THEIRS);
        bytes.extend(payload.ether_type.to_be_bytes());
        bytes.extend(&payload.bytes[..total.min(payload.bytes.len())]);
        bytes.resize(ETHERNET + total, 0);
        let mut copied = Self { bytes, begin: ETHERNET + header_len };
        copied.set_len();
        Some(copied)
    }

    /// Gives the IP header its total length, and a checksum that is right.
    fn set_len(&mut self) {
        let total = self.bytes.len() - ETHERNET;
        let header = &mut self.bytes[ETHERNET..self.begin];
        if header[0] >> 4 == 6 {
            header[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
            return;
        }
        header[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        header[10..12].fill(0);
        let check = !(packet::sum(header, 0) as u16);
        header[10..12].copy_from_slice(&check.to_be_bytes());
    }

    fn body(&mut self) -> &mut [u8] {
        &mut self.bytes[self.begin..]
    }

    /// Fills in the checksum `at` in the payload of IP, over its first `len` bytes; with the pseudo-header of a protocol, where there is one.
    fn check(&mut self, at: usize, len: usize, protocol: Option<u8>) -> Option<u16> {
        let (head, body) = self.bytes.split_at_mut(self.begin);
        body.get_mut(at..at + 2)?.fill(0);
        let addresses = match head[ETHERNET] >> 4 {
            4 => &head[ETHERNET + 12..ETHERNET + 20],
            _ => &head[ETHERNET + 8..ETHERNET + 40],
        };
        let pseudo =
            protocol.map_or(0, |protocol| packet::sum(addresses, u32::from(protocol) + len as u32));
        let check = !(packet::sum(body.get(..len)?, pseudo) as u16);
        body[at..at + 2].copy_from_slice(&check.to_be_bytes());
        Some(check)
    }
}

/// What a segment says whose options nobody looks at: what would be found by taking its frame apart once more.
#[derive(Clone, Copy)]
struct Plain {
    ip: Ip,
    ports: [u16; 2],
    seq: u32,
    ack: u32,
    flags: u16,
    window: u16,
    urgent: u16,
}

impl Plain {
    fn of(ip: &Ip, tcp: &Tcp<'_>) -> Option<Self> {
        let is_plain = tcp.flags & SYN == 0 && tcp.options.is_quiet();
        is_plain.then_some(Self {
            ip: *ip,
            ports: [tcp.src.1, tcp.dst.1],
            seq: tcp.seq,
            ack: tcp.ack,
            flags: tcp.flags,
            window: tcp.window,
            urgent: tcp.urgent,
        })
    }

    fn packet<'a>(&self, payload: &'a [u8]) -> Packet<'a> {
        let Self { ip, ports: [from, to], seq, ack, flags, window, urgent } = *self;
        let tcp = Tcp {
            src: (ip.src, from),
            dst: (ip.dst, to),
            seq,
            ack,
            flags,
            window,
            urgent,
            options: TcpOptions::default(),
            payload_len: payload.len() as u32,
            payload,
        };
        Packet {
            ether_type: if ip.src.is_ipv4() { 0x0800 } else { 0x86dd },
            vlan_tags: 0,
            ip: Some(ip),
            tunnels: 0,
            body: Body::Tcp(tcp),
            bad_checksum: None,
            cut: false,
            sums: Sums::Ignored,
        }
    }
}

/// An Ethernet frame to be fed.
pub struct Fed {
    /// The frame.
    pub bytes: Vec<u8>,
    /// What it says where that is known, and where its payload begins.
    plain: Option<(Plain, usize)>,
}

impl Fed {
    /// The frame taken apart; without options where nobody looks at them.
    pub fn packet(&self) -> Result<Packet<'_>, Fault> {
        match &self.plain {
            Some((plain, begin)) => Ok(plain.packet(self.bytes.get(*begin..).unwrap_or_default())),
            None => packet::read(Sums::Ignored, LinkType::Ethernet, &self.bytes, self.bytes.len()),
        }
    }
}

impl From<Vec<u8>> for Fed {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, plain: None }
    }
}

/// A recorded segment in an Ethernet frame, until it is known which numbers of the stack stand for those of the record.
#[derive(Clone)]
pub struct Segment {
    copied: Copied,
    header_len: usize,
    ack: Option<u32>,
    echo: Option<u32>,
    plain: Option<Plain>,
}

impl Segment {
    /// In memory with room for so many bytes. None where lengths do not allow it.
    pub fn of(
        (frame, ip, tcp): (&Frame<'_>, &Ip, &Tcp<'_>),
        memory: impl FnOnce(usize) -> Vec<u8>,
    ) -> Option<Self> {
        let copied = Copied::into(frame, ip, memory)?;
        let header_len = ip.payload_len.checked_sub(tcp.payload_len)? as usize;
        let is_whole = header_len >= TCP_HEADER && copied.begin + header_len <= copied.bytes.len();
        is_whole.then_some(Self {
            copied,
            header_len,
            ack: (tcp.flags & ACK != 0).then_some(tcp.ack),
            echo: tcp.options.timestamps.map(|(_, echo)| echo),
            plain: Plain::of(ip, tcp),
        })
    }

    /// The echoed timestamp.
    pub fn echo(&self) -> Option<u32> {
        self.echo
    }

    /// Its acknowledgment alone: no payload, no flag but ACK.
    pub fn bare(mut self) -> Self {
        self.copied.bytes.truncate(self.copied.begin + self.header_len);
        self.copied.set_len();
        self.copied.body()[13] &= ACK as u8;
        self.plain = None;
        self
    }

    /// The frame: acknowledgment, SACK blocks and echo mapped, and the checksum right where anybody looks at it. Bytes that the
    /// snapshot length cut are zeros.
    pub fn mapped(mut self, mapping: Mapping) -> Option<Fed> {
        let ack = self.ack.map(|recorded| mapping.ack(recorded));
        let header = self.copied.body().get_mut(..self.header_len)?;
        if let Some(ack) = ack {
            header[8..12].copy_from_slice(&ack.to_be_bytes());
        }
        map_options(&mut header[TCP_HEADER..], mapping);
        if mapping.sums == Sums::Checked {
            let len = self.copied.body().len();
            self.copied.check(CHECK, len, Some(TCP))?;
        }
        let begin = self.copied.begin + self.header_len;
        let plain =
            self.plain.map(|plain| (Plain { ack: ack.unwrap_or(plain.ack), ..plain }, begin));
        Some(Fed { bytes: self.copied.bytes, plain })
    }
}

/// An Ethernet frame with the recorded datagram. A checksum that was there is right.
pub fn datagram(frame: &Frame<'_>, ip: &Ip) -> Option<Vec<u8>> {
    let mut copied = Copied::of(frame, ip)?;
    let header = copied.body().get(..8)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // RFC 768: an all zero transmitted checksum value means that the transmitter generated no checksum.
    if header[6..8] != [0, 0] && copied.check(6, len, Some(17))? == 0 {
        copied.body()[6..8].fill(0xff);
    }
    Some(copied.bytes)
}

/// A recorded ICMP message in an Ethernet frame.
#[derive(Clone)]
pub struct Message {
    copied: Copied,
    protocol: u8,
}

impl Message {
    /// None where lengths do not allow it.
    pub fn of(frame: &Frame<'_>, ip: &Ip) -> Option<Self> {
        Some(Self { copied: Copied::of(frame, ip)?, protocol: ip.protocol })
    }

    /// The frame. In an error about a segment, `shift` is added to the quoted sequence number.
    pub fn mapped(mut self, shift: Option<u32>) -> Option<Vec<u8>> {
        if let Some(shift) = shift {
            let quoted = self.copied.body().get_mut(8..)?;
            let mapped = quoted_seq(quoted)?.wrapping_add(shift);
            let at = seq_at(quoted)?;
            quoted.get_mut(at..at + 4)?.copy_from_slice(&mapped.to_be_bytes());
        }
        let len = self.copied.body().len();
        self.copied.check(2, len, (self.protocol == ICMPV6).then_some(ICMPV6))?;
        Some(self.copied.bytes)
    }
}

/// Where a quoted packet has the sequence number of TCP.
fn seq_at(quoted: &[u8]) -> Option<usize> {
    let header_len = match quoted.first()? >> 4 {
        4 => usize::from(quoted[0] & 15) * 4,
        _ => 40,
    };
    Some(header_len + 4)
}

/// The sequence number that an ICMP error quotes.
pub fn quoted_seq(quoted: &[u8]) -> Option<u32> {
    let at = seq_at(quoted)?;
    let seq = quoted.get(at..at + 4)?;
    Some(u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]))
}

fn map_options(mut options: &mut [u8], mapping: Mapping) {
    while let [kind, rest @ ..] = options {
        let len = match (*kind, rest.first()) {
            (0, _) | (2.., None) => return,
            (1, _) => 1,
            (_, Some(len)) if usize::from(*len) < 2 || usize::from(*len) > rest.len() + 1 => return,
            (_, Some(len)) => usize::from(*len),
        };
        let (option, after) = options.split_at_mut(len);
        match (option[0], mapping.echo) {
            (8, Some(echo)) if len == 10 => option[6..10].copy_from_slice(&echo.to_be_bytes()),
            (5, _) => {
                let mut beyond = false;
                for edge in option[2..].chunks_exact_mut(4) {
                    let old = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
                    let mapped = old.wrapping_add(mapping.shift);
                    beyond |= mapping.is_beyond(mapped);
                    edge.copy_from_slice(&mapped.to_be_bytes());
                }
                if beyond {
                    option.fill(1);
                }
            }
            _ => {}
        }
        options = after;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::capture::LinkType;
    use crate::packet::{Body, Packet, dissect};
    use crate::testing::{bytes, segment};

    #[test]
    fn numbers_are_mapped_and_the_checksum_is_right() {
        let mut recorded = segment(false, ACK, 500, 1000, 8);
        recorded.options =
            &[1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6, 1, 1, 5, 10, 0, 0, 4, 0, 0, 0, 5, 0];
        let bytes = bytes(&recorded);
        let frame = |link, bytes| Frame {
            number: 1,
            time: Duration::ZERO,
            interface: 0,
            link,
            wire_len: u32::try_from(<[u8]>::len(bytes)).expect("a short frame"),
            bytes,
        };
        let read = |frame: &Frame<'_>| {
            let packet = Packet::of(frame).expect("a packet");
            let (Some(ip), Body::Tcp(tcp)) = (packet.ip, packet.body) else { panic!("no TCP") };
            Segment::of((frame, &ip, &tcp), Vec::with_capacity).expect("a segment")
        };
        let same = Mapping { shift: 0, limit: None, echo: None, sums: Sums::Checked };
        let bytes = read(&frame(LinkType::RawIp, &bytes)).mapped(same).expect("a frame").bytes;
        let made = || read(&frame(LinkType::Ethernet, &bytes));
        let Ok(Packet { body: Body::Tcp(tcp), bad_checksum: None, .. }) =
            dissect(LinkType::Ethernet, &bytes, bytes.len())
        else {
            panic!("no TCP, or a checksum is wrong")
        };
        let mapping = Mapping { shift: 7000, echo: Some(99), ..same };
        let out = made().mapped(mapping).expect("a frame").bytes;
        let again = dissect(LinkType::Ethernet, &out, out.len()).expect("a packet");
        let Body::Tcp(mapped) = again.body else { panic!("no TCP") };
        assert_eq!((mapped.seq, mapped.ack, mapped.payload), (500, 8000, tcp.payload));
        assert_eq!(mapped.options.timestamps, Some((5, 99)));
        assert_eq!(mapped.options.sack(), [(0x400 + 7000, 0x500 + 7000)]);
        let limited = Mapping { limit: Some(7900), ..mapping };
        let out = made().mapped(limited).expect("a frame").bytes;
        let Ok(Packet { body: Body::Tcp(mapped), .. }) =
            dissect(LinkType::Ethernet, &out, out.len())
        else {
            panic!("no TCP")
        };
        assert_eq!((mapped.ack, mapped.options.sack()), (7900, &[][..]));
        assert!(!mapped.options.malformed);
        let out = made().bare().mapped(mapping).expect("a frame").bytes;
        let Ok(Packet { body: Body::Tcp(mapped), bad_checksum: None, .. }) =
            dissect(LinkType::Ethernet, &out, out.len())
        else {
            panic!("no TCP, or a checksum is wrong")
        };
        assert_eq!((mapped.ack, mapped.payload_len), (8000, 0));
        assert_eq!(again.bad_checksum, None);
    }

    #[test]
    fn what_is_known_of_a_fed_segment_is_what_its_frame_says() {
        for options in [
            &[][..],
            &[1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6],
            &[5, 10, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0],
        ] {
            for flags in [ACK, ACK | packet::FIN, packet::RST, SYN] {
                let mut recorded = segment(false, flags, 500, 1000, 8);
                recorded.options = options;
                let bytes = bytes(&recorded);
                let wire_len = bytes.len() as u32;
                let (number, time, link) = (1, Duration::ZERO, LinkType::RawIp);
                let frame = Frame { number, time, interface: 0, link, wire_len, bytes: &bytes };
                let packet = Packet::of(&frame).expect("a packet");
                let (Some(ip), Body::Tcp(tcp)) = (packet.ip, packet.body) else { panic!("no TCP") };
                let made = Segment::of((&frame, &ip, &tcp), Vec::with_capacity).expect("a segment");
                let is_known = made.plain.is_some();
                assert_eq!(is_known, flags != SYN && tcp.options.sack().is_empty());
                let sums = Sums::Ignored;
                let mapping = Mapping { shift: 7000, limit: None, echo: Some(99), sums };
                let fed = made.mapped(mapping).expect("a frame");
                let mut read = packet::read(sums, LinkType::Ethernet, &fed.bytes, fed.bytes.len());
                if let (true, Ok(Packet { body: Body::Tcp(tcp), .. })) = (is_known, &mut read) {
                    tcp.options = TcpOptions::default();
                }
                assert_eq!(fed.packet(), read);
            }
        }
    }
}

//! A train of segments under one header becomes a packet for each, as late as can be: right before the device.

use super::{Headers, TCP_FLAGS};
use crate::buffer::{Chain, ChecksumOffload, CwrOf, Gso, GsoKind, PacketBuffer, Tags};
use crate::ip::{PROTO_TCP, PROTO_UDP};
use crate::wire::tcp::{self, Flags};
use crate::wire::udp;

/// The largest TCP payload of a train for a device that cuts none: what an IPv4 packet holds with the longest headers.
pub(in crate::stack) const SOFTWARE_MAX: u32 = 65_535 - 60 - 60;
/// Don't Fragment, in the byte with the flags of an IPv4 header.
const DONT_FRAGMENT: u8 = 0x40;

/// The packets of a train, with partial checksums.
pub(in crate::stack) struct Segments {
    headers: Headers,
    gso: Gso,
    cwr: CwrOf,
    tags: Tags,
    rest: Chain,
    /// How many packets and payload bytes went before.
    count: u16,
    offset: u32,
}

impl Segments {
    /// Takes a train apart whose IP header begins at `network`. None where its headers are none, or too long.
    pub fn of(mut train: PacketBuffer, network: usize) -> Option<Segments> {
        let gso = train.offload.gso?;
        let ChecksumOffload::Partial { start, .. } = train.offload.checksum else { return None };
        let transport = usize::from(start);
        let len = match gso.kind {
            GsoKind::Udp => udp::HEADER_LEN,
            GsoKind::Tcp4 | GsoKind::Tcp6 => {
                let fixed = train.pull(transport + tcp::HEADER_LEN)?.get(transport..)?;
                tcp::header_len(fixed).ok()?
            }
        };
        let headers = Headers::new(train.pull(transport + len)?, network, transport)?;
        train.advance(headers.len);
        let (cwr, tags) = (train.offload.cwr, core::mem::take(&mut train.tags));
        Some(Segments { headers, gso, cwr, tags, rest: train.into_chain(), count: 0, offset: 0 })
    }

    /// The headers of the next packet.
    fn next_headers(&self, payload: usize) -> Headers {
        let mut headers = self.headers.clone();
        let (network, transport) = (headers.network, headers.transport);
        if headers.is_v4() {
            let first = u16::from_be_bytes(headers.get(network + 4));
            let atomic = headers.byte(network + 6) & DONT_FRAGMENT != 0 && first == 0;
            // RFC 6864 section 4.1: "The IPv4 ID field MUST NOT be used for purposes other than fragmentation and reassembly";
            // that of a packet that nobody may cut can stay what it is.
            let ident = if atomic { first } else { first.wrapping_add(self.count) };
            headers.put(network + 4, ident.to_be_bytes());
        }
        headers.fit(payload);
        match self.gso.kind {
            GsoKind::Udp => {
                let len = (udp::HEADER_LEN + payload) as u16;
                headers.put(transport + 4, len.to_be_bytes());
            }
            GsoKind::Tcp4 | GsoKind::Tcp6 => {
                let seq = u32::from_be_bytes(headers.get(transport + 4)).wrapping_add(self.offset);
                headers.put(transport + 4, seq.to_be_bytes());
                let flags = headers.byte(transport + TCP_FLAGS) & !self.hidden().bits() as u8;
                headers.put(transport + TCP_FLAGS, [flags]);
            }
        }
        let sum = headers.pseudo_sum(self.protocol(), payload).partial();
        headers.put(transport + self.checksum_offset(), sum.to_be_bytes());
        headers
    }

    /// The flags of the train that the next packet does not have.
    fn hidden(&self) -> Flags {
        let mut hidden = Flags::empty();
        // The end of the stream, and the end of what was pushed, is the end of the train.
        hidden.set(Flags::FIN | Flags::PSH, !self.rest.is_empty());
        // RFC 3168 section 6.1.2: CWR is set "in the TCP header of the first new data packet sent after the window reduction".
        hidden.set(Flags::CWR, self.count > 0 && self.cwr == CwrOf::First);
        hidden
    }

    fn protocol(&self) -> u8 {
        if self.gso.kind == GsoKind::Udp { PROTO_UDP } else { PROTO_TCP }
    }

    fn checksum_offset(&self) -> usize {
        match self.gso.kind {
            GsoKind::Udp => usize::from(udp::CHECKSUM_OFFSET),
            GsoKind::Tcp4 | GsoKind::Tcp6 => tcp::CHECKSUM_OFFSET,
        }
    }
}

impl Iterator for Segments {
    type Item = PacketBuffer;

    fn next(&mut self) -> Option<PacketBuffer> {
        if self.rest.is_empty() {
            return None;
        }
        let part = self.rest.split_to(usize::from(self.gso.size.max(1)));
        let len = part.len();
        let headers = self.next_headers(len);
        let mut packet = PacketBuffer::from_parts(headers.all(), part);
        packet.offload.checksum = ChecksumOffload::Partial {
            start: headers.transport as u16,
            offset: self.checksum_offset() as u16,
        };
        packet.tags = self.tags.of_piece();
        self.count = self.count.wrapping_add(1);
        self.offset = self.offset.wrapping_add(len as u32);
        Some(packet)
    }
}

/// The longest packet that a train becomes, from its IP header on: what must fit the next link. None for what is no train,
/// and for one whose headers are none.
pub(in crate::stack) fn longest(train: &mut PacketBuffer, network: usize) -> Option<usize> {
    let gso = train.offload.gso?;
    let ChecksumOffload::Partial { start, .. } = train.offload.checksum else { return None };
    let transport = usize::from(start);
    let header_len = match gso.kind {
        GsoKind::Udp => udp::HEADER_LEN,
        GsoKind::Tcp4 | GsoKind::Tcp6 => {
            tcp::header_len(train.pull(transport + tcp::HEADER_LEN)?.get(transport..)?).ok()?
        }
    };
    (transport + header_len + usize::from(gso.size)).checked_sub(network)
}

//! Segments of a stream that came at once become one packet, by the rules of Linux's GRO (`tcp_gro_receive`,
//! `inet_gro_receive`, `ipv6_gro_receive`): what it was made of can be cut from it again, but for
//! the identifications of packets that nobody may cut.

use super::{Headers, TCP_FLAGS};
use crate::buffer::{Chain, ChecksumOffload, CwrOf, Gso, GsoKind, Offload, PacketBuffer};
use crate::ip::PROTO_TCP;
use crate::wire::checksum::{self, Checksum};
use crate::wire::ethernet::{self, Ethernet, TYPE_IPV4, TYPE_IPV6};
use crate::wire::tcp::{self, CHECKSUM_OFFSET, Flags};
use crate::wire::{ipv4, ipv6};

/// Trains that are gathered at once (MAX_GRO_SKBS).
const TRAINS: usize = 8;
/// What follows the first byte of the longest IP packet.
const IP_MAX: usize = 65_535;
/// The control bits after which nothing is joined.
const FINAL: u8 = (Flags::FIN.bits() | Flags::SYN.bits() | Flags::RST.bits()) as u8
    | (Flags::PSH.bits() | Flags::URG.bits()) as u8;
/// The control bits that a later segment adds to its train.
const ADDED: u8 = (Flags::FIN.bits() | Flags::PSH.bits()) as u8;

/// The trains of one burst.
#[derive(Default)]
pub(in crate::stack) struct Gro {
    held: Vec<Train>,
}

impl Gro {
    /// Takes a frame with its Ethernet header; calls `deliver` for what goes on now. Frames of one stream keep their order.
    pub fn receive(&mut self, mut frame: PacketBuffer, deliver: &mut dyn FnMut(PacketBuffer)) {
        let Some(segment) = Segment::read(&mut frame) else { return deliver(frame) };
        let same = self.held.iter().position(|train| train.segment.is_of_stream(&segment));
        if let Some(at) = same {
            let mut train = self.held.remove(at);
            if let Some(idents) = train.takes(&segment, &frame) {
                let ends = segment.is_final() || segment.payload < train.segment.payload;
                train.join(&segment, frame, idents);
                return match ends {
                    true => deliver(train.into_packet()),
                    false => self.held.insert(at, train),
                };
            }
            deliver(train.into_packet());
        }
        self.begin(segment, frame, deliver);
    }

    fn begin(
        &mut self,
        segment: Segment,
        frame: PacketBuffer,
        deliver: &mut dyn FnMut(PacketBuffer),
    ) {
        if !segment.joinable || segment.is_final() {
            return deliver(frame);
        }
        if self.held.len() >= TRAINS {
            deliver(self.held.remove(0).into_packet());
        }
        self.held.push(Train::new(segment, frame));
    }

    /// The end of the burst: everything goes on.
    pub fn flush(&mut self, deliver: &mut dyn FnMut(PacketBuffer)) {
        for train in self.held.drain(..) {
            deliver(train.into_packet());
        }
    }
}

/// What is read of a frame that holds a TCP segment.
struct Segment {
    headers: Headers,
    /// Bytes of its payload.
    payload: usize,
    /// Whether it can be part of a train.
    joinable: bool,
}

impl Segment {
    /// Reads a TCP segment in an IP packet without options, extension headers and fragments; None for anything else.
    fn read(frame: &mut PacketBuffer) -> Option<Segment> {
        let network = ethernet::HEADER_LEN;
        let ethertype = Ethernet::parse(&frame.peek::<{ ethernet::HEADER_LEN }>()?).ethertype;
        let (network_len, protocol_at) = match ethertype {
            TYPE_IPV4 => (ipv4::HEADER_LEN, 9),
            TYPE_IPV6 => (ipv6::HEADER_LEN, 6),
            _ => return None,
        };
        let transport = network + network_len;
        let fixed = frame.pull(transport + tcp::HEADER_LEN)?;
        if fixed.get(network + protocol_at) != Some(&PROTO_TCP) {
            return None;
        }
        let header_len = tcp::header_len(fixed.get(transport..)?).ok()?;
        let len = frame.len();
        let headers = Headers::new(frame.pull(transport + header_len)?, network, transport)?;
        let v4 = ethertype == TYPE_IPV4;
        if headers.is_v4() != v4 || (v4 && headers.get::<2>(network + 6)[0] & 0x3f != 0) {
            return None;
        }
        let payload = len - headers.len;
        let told = match v4 {
            true => usize::from(u16::from_be_bytes(headers.get(network + 2))),
            false => usize::from(u16::from_be_bytes(headers.get(network + 4))) + ipv6::HEADER_LEN,
        };
        let sealed = !v4 || checksum::of(headers.bytes.get(network..transport)?) == 0;
        let whole = told == len - network && frame.offload.gso.is_none();
        let joinable = whole && sealed && payload > 0 && payload <= usize::from(u16::MAX);
        Some(Segment { headers, payload, joinable })
    }

    fn transport(&self) -> usize {
        self.headers.transport
    }

    fn flags(&self) -> u8 {
        self.headers.byte(self.transport() + TCP_FLAGS)
    }

    fn is_final(&self) -> bool {
        self.flags() & FINAL != 0
    }

    fn seq(&self) -> u32 {
        u32::from_be_bytes(self.headers.get(self.transport() + 4))
    }

    fn ident(&self) -> u16 {
        u16::from_be_bytes(self.headers.get(self.headers.network + 4))
    }

    /// Whether both come from one end of one connection to the other, over the same neighbours.
    fn is_of_stream(&self, other: &Segment) -> bool {
        let (ours, theirs) = (&self.headers, &other.headers);
        let link = ours.get::<{ ethernet::HEADER_LEN }>(0) == theirs.get(0);
        let ports = ours.get::<4>(self.transport()) == theirs.get(other.transport());
        link && ports && ours.addresses() == theirs.addresses()
    }

    /// Whether the headers are alike but for what differs within a train.
    fn is_like(&self, other: &Segment) -> bool {
        let (ours, theirs) = (&self.headers, &other.headers);
        let (network, transport) = (ours.network, self.transport());
        let same = |from: usize, to: usize| ours.bytes.get(from..to) == theirs.bytes.get(from..to);
        let network_alike = match ours.is_v4() {
            // Type of service with ECN; Don't Fragment; time to live.
            true => same(network, network + 2) && same(network + 6, network + 10),
            // Class and flow label; next header and hop limit.
            false => same(network, network + 4) && same(network + 6, network + 8),
        };
        let flags = (self.flags() ^ other.flags()) & !ADDED;
        network_alike
            && ours.len == theirs.len
            // The acknowledgment number, and the length of the header with the highest bit of ECN.
            && same(transport + 8, transport + TCP_FLAGS)
            && flags == 0
            // The window.
            && same(transport + 14, transport + 16)
            // Options, timestamps among them.
            && same(transport + tcp::HEADER_LEN, ours.len)
    }

    /// Whether a checksum that nobody has looked at is right.
    fn is_intact(&self, offload: &Offload, transport_sum: impl FnOnce() -> Checksum) -> bool {
        if offload.rx_verified || offload.checksum != ChecksumOffload::None {
            return true;
        }
        let mut sum = self.headers.pseudo_sum(PROTO_TCP, self.payload);
        sum.add(transport_sum());
        sum.finish() == 0
    }
}

/// How the identifications of a train go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Idents {
    /// Only one is known.
    Unknown,
    Fixed,
    Counted,
}

/// Segments that follow each other.
struct Train {
    /// The first one.
    segment: Segment,
    payload: Chain,
    offload: Offload,
    count: u16,
    idents: Idents,
    added: u8,
}

impl Train {
    fn new(segment: Segment, mut frame: PacketBuffer) -> Train {
        let offload = frame.offload;
        frame.advance(segment.headers.len);
        let (payload, idents) = (frame.into_chain(), Idents::Unknown);
        Train { segment, payload, offload, count: 1, idents, added: 0 }
    }

    /// Whether a segment continues the train: how its identifications go on then.
    fn takes(&mut self, next: &Segment, frame: &PacketBuffer) -> Option<Idents> {
        let first = &self.segment;
        let seq = first.seq().wrapping_add(self.payload.len() as u32);
        let room = IP_MAX - (first.headers.len - first.headers.network);
        let fits = next.joinable
            && next.payload <= first.payload
            && self.payload.len() + next.payload <= room
            && next.seq() == seq
            && first.is_like(next);
        let idents = self.idents_with(next).filter(|_| fits)?;
        let intact =
            self.is_intact() && next.is_intact(&frame.offload, || frame.sum_from(next.transport()));
        intact.then_some(idents)
    }

    /// Appends a segment that it takes.
    fn join(&mut self, next: &Segment, mut frame: PacketBuffer, idents: Idents) {
        frame.advance(next.headers.len);
        self.payload.append(frame.into_chain());
        self.count += 1;
        self.idents = idents;
        self.added |= next.flags() & ADDED;
    }

    /// How identifications go on with another segment; None where they do not.
    fn idents_with(&self, next: &Segment) -> Option<Idents> {
        let headers = &self.segment.headers;
        if !headers.is_v4() {
            return Some(Idents::Fixed);
        }
        let dont_fragment = headers.byte(headers.network + 6) & 0x40 != 0;
        let (first, next) = (self.segment.ident(), next.ident());
        match self.idents {
            Idents::Unknown | Idents::Fixed if dont_fragment && next == first => {
                Some(Idents::Fixed)
            }
            Idents::Unknown | Idents::Counted if next == first.wrapping_add(self.count) => {
                Some(Idents::Counted)
            }
            _ => None,
        }
    }

    /// Whether the first segment's checksum is right; looked at once.
    fn is_intact(&mut self) -> bool {
        let sum = || {
            let mut sum = Checksum::new();
            let transport = self.segment.headers.all().get(self.segment.transport()..);
            sum.add_bytes(transport.unwrap_or_default());
            self.payload.iter().for_each(|bytes| sum.add_bytes(bytes));
            sum
        };
        let intact = self.segment.is_intact(&self.offload, sum);
        self.offload.rx_verified |= intact;
        intact
    }

    /// The packet that goes on.
    fn into_packet(self) -> PacketBuffer {
        let Segment { mut headers, payload: size, .. } = self.segment;
        let mut offload = self.offload;
        if self.count > 1 {
            let (at, payload) = (headers.transport, self.payload.len());
            headers.fit(payload);
            let flags = headers.byte(at + TCP_FLAGS) | self.added;
            headers.put(at + TCP_FLAGS, [flags]);
            let sum = headers.pseudo_sum(PROTO_TCP, payload).partial();
            headers.put(at + CHECKSUM_OFFSET, sum.to_be_bytes());
            let kind = if headers.is_v4() { GsoKind::Tcp4 } else { GsoKind::Tcp6 };
            let (start, offset) = (at as u16, CHECKSUM_OFFSET as u16);
            offload = Offload {
                checksum: ChecksumOffload::Partial { start, offset },
                gso: Some(Gso { kind, size: size as u16 }),
                // Whatever ECN says, all segments said it.
                cwr: CwrOf::All,
                rx_verified: true,
            };
        }
        let mut packet = PacketBuffer::from_parts(headers.all(), self.payload);
        packet.offload = offload;
        packet
    }
}

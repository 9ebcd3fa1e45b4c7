//! A packet: headers in inline room that grows towards the front, then a chain of payload.

use core::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::{Chain, FramePool, Slab, Slice, Tags};
use crate::wire::checksum::Checksum;

/// Room for headers inside a packet: Ethernet 14, IPv6 40, an extension header 8, TCP with options 60.
pub const HEADER_ROOM: usize = 128;
/// Where UDP has its checksum, and nobody else.
const UDP_CHECKSUM_OFFSET: u16 = 6;

/// What is left for the device to do, or what it has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// Whether the transport checksum still has to be filled in.
    pub checksum: ChecksumOffload,
    /// Whether the device must cut the packet into segments.
    pub gso: Option<Gso>,
    /// Which of the segments have the packet's CWR flag.
    pub cwr: CwrOf,
    /// A received packet whose transport checksum needs no check (the device or a trusted sender vouches).
    pub rx_verified: bool,
}

/// The transport checksum of a packet on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ChecksumOffload {
    /// It is complete (or the protocol has none).
    #[default]
    None,
    /// The field at `start + offset` holds the pseudo-header's sum; the sum of everything from `start` to the
    /// end of the packet belongs there. Both count bytes from the current front, as in virtio-net.
    Partial {
        /// Where the summed bytes begin.
        start: u16,
        /// Where in them the checksum field lies.
        offset: u16,
    },
}

/// Generic segmentation offload: the payload is many segments of `size` bytes under one header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// What kind of header is to be repeated.
    pub kind: GsoKind,
    /// Payload bytes in each segment.
    pub size: u16,
}

/// Which segments of a train have its CWR flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CwrOf {
    /// All: it is a bit of a counter (RFC 9768).
    #[default]
    All,
    /// The first (RFC 3168).
    First,
}

/// The header that segmentation repeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either family (USO).
    Udp,
}

/// A packet or frame: header bytes, then payload slices. Cloning it copies the headers and no payload.
///
/// It goes through a dozen hands by value, so it is a pointer: to move 256 bytes each time was an eighth of what a segment costs.
#[derive(Clone)]
pub struct PacketBuffer(Box<Parts>);

/// What a packet is made of.
#[derive(Clone)]
pub struct Parts {
    head: [u8; HEADER_ROOM],
    head_start: usize,
    payload: Chain,
    /// Work that the device does, or did.
    pub offload: Offload,
    /// What goes along with it.
    pub tags: Tags,
}

impl Deref for PacketBuffer {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for PacketBuffer {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl PacketBuffer {
    /// A packet without headers around a payload.
    pub fn new(payload: Chain) -> PacketBuffer {
        let (offload, tags) = (Offload::default(), Tags::default());
        let (head, head_start) = ([0; HEADER_ROOM], HEADER_ROOM);
        PacketBuffer(Box::new(Parts { head, head_start, payload, offload, tags }))
    }

    /// A received frame, taking over the vector.
    pub fn from_vec(bytes: Vec<u8>) -> PacketBuffer {
        PacketBuffer::new(Chain::from(bytes))
    }

    /// A received frame in memory that goes to a pool when nobody reads it any more ([`FramePool::take`]).
    pub fn from_frame(bytes: Vec<u8>, pool: &Arc<FramePool>) -> PacketBuffer {
        PacketBuffer::new(Chain::from(Slice::new(Slab::frame(bytes, pool))))
    }

    /// A received frame, copied.
    pub fn from_slice(bytes: &[u8]) -> PacketBuffer {
        PacketBuffer::from_vec(bytes.to_vec())
    }

    /// A frame whose first bytes were read apart from the rest (`readv` into header and slab).
    pub fn from_parts(head: &[u8], payload: Chain) -> PacketBuffer {
        let mut packet = PacketBuffer::new(payload);
        packet.prepend_slice(head);
        packet
    }

    /// All bytes: headers and payload.
    pub fn len(&self) -> usize {
        self.head_len() + self.payload.len()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn head_len(&self) -> usize {
        HEADER_ROOM - self.head_start
    }

    /// The bytes in the inline room.
    pub fn head(&self) -> &[u8] {
        &self.head[self.head_start..]
    }

    /// The payload behind the inline room.
    pub fn payload(&self) -> &Chain {
        &self.payload
    }

    /// Everything as a chain: what is left after the headers were consumed.
    pub fn into_chain(mut self) -> Chain {
        if self.head_start < HEADER_ROOM {
            let head = Slice::from(self.head().to_vec());
            self.payload.push_front(head);
        }
        self.0.payload
    }

    /// Puts `N` zero bytes before the packet and returns them for filling.
    pub fn prepend<const N: usize>(&mut self) -> &mut [u8; N] {
        const { assert!(N <= HEADER_ROOM) };
        if self.head_start < N {
            self.spill();
        }
        self.shift_checksum_start(N);
        self.head_start -= N;
        let at = self.head_start;
        let room = self.head[at..].first_chunk_mut::<N>();
        // The spill above made room: N <= HEADER_ROOM is checked at compile time.
        let room = room.unwrap_or_else(|| unreachable!("header room was checked"));
        *room = [0; N];
        room
    }

    /// Puts a copy of `bytes` before the packet.
    pub fn prepend_slice(&mut self, bytes: &[u8]) {
        if self.head_start < bytes.len() {
            self.spill();
        }
        self.shift_checksum_start(bytes.len());
        if bytes.len() > HEADER_ROOM {
            self.payload.push_front(Slice::from(bytes.to_vec()));
            return;
        }
        let end = self.head_start;
        self.head_start -= bytes.len();
        let start = self.head_start;
        self.head[start..end].copy_from_slice(bytes);
    }

    /// Moves the inline headers into the chain, which frees the room.
    fn spill(&mut self) {
        if self.head_start < HEADER_ROOM {
            let head = Slice::from(self.head().to_vec());
            self.payload.push_front(head);
            self.head_start = HEADER_ROOM;
        }
    }

    fn shift_checksum_start(&mut self, n: usize) {
        if let ChecksumOffload::Partial { start, .. } = &mut self.offload.checksum {
            *start = start.saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
        }
    }

    /// The first `n` bytes in one piece, without consuming them. None when there are fewer, or when they lie
    /// scattered and exceed the header room.
    #[inline]
    pub fn pull(&mut self, n: usize) -> Option<&[u8]> {
        let inline = self.head_len();
        if inline == 0 && self.payload.first_len() >= n {
            return self.payload.first().get(..n);
        }
        if inline < n && !self.gather(n) {
            return None;
        }
        self.head().get(..n)
    }

    /// Brings the first `n` bytes into the inline room.
    fn gather(&mut self, n: usize) -> bool {
        if n > HEADER_ROOM || n > self.len() {
            return false;
        }
        let mut head = [0; HEADER_ROOM];
        let start = HEADER_ROOM - n;
        let have = self.head_len();
        head[start..start + have].copy_from_slice(self.head());
        self.payload.copy_to(&mut head[start + have..]);
        self.payload.advance(n - have);
        self.head = head;
        self.head_start = start;
        true
    }

    /// The first `N` bytes as an array, without consuming them.
    #[inline]
    pub fn peek<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.pull(N)?.first_chunk::<N>().copied()
    }

    /// Drops the first `n` bytes (a header that was read).
    pub fn advance(&mut self, n: usize) {
        if let ChecksumOffload::Partial { start, .. } = &mut self.offload.checksum {
            *start = start.saturating_sub(u16::try_from(n).unwrap_or(u16::MAX));
        }
        let from_head = n.min(self.head_len());
        self.head_start += from_head;
        self.payload.advance(n - from_head);
    }

    /// Drops bytes from the end (link padding) so that `len` remain.
    pub fn truncate(&mut self, len: usize) {
        let head = self.head_len();
        if len < head {
            // Only a packet shorter than its headers comes here: keep the front of the room.
            let start = self.head_start;
            self.head.copy_within(start..start + len, HEADER_ROOM - len);
            self.head_start = HEADER_ROOM - len;
            self.payload = Chain::new();
        } else {
            self.payload.truncate(len - head);
        }
    }

    /// The bytes piece by piece, as `writev` wants them.
    pub fn iter_slices(&self) -> impl Iterator<Item = &[u8]> {
        let head = Some(self.head()).filter(|head| !head.is_empty());
        head.into_iter().chain(self.payload.iter())
    }

    /// The bytes from `at` on as a chain, without copying; the packet stays as it is.
    pub fn rest(&self, at: usize) -> Chain {
        match at.checked_sub(self.head_len()) {
            Some(at) => self.payload.range(at, usize::MAX),
            None => {
                let mut rest = self.clone();
                rest.advance(at);
                rest.into_chain()
            }
        }
    }

    /// All bytes in one vector, as they are (a partial checksum stays partial).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        for bytes in self.iter_slices() {
            out.extend_from_slice(bytes);
        }
        out
    }

    /// At most `max` bytes in one vector.
    pub fn to_vec_up_to(&self, max: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len().min(max));
        for bytes in self.iter_slices() {
            let n = bytes.len().min(max - out.len());
            out.extend_from_slice(&bytes[..n]);
        }
        out
    }

    /// Copies the bytes from `at` on into all of `out`; false where there are not that many.
    pub fn copy_at(&self, at: usize, mut out: &mut [u8]) -> bool {
        let mut skip = at;
        for bytes in self.iter_slices() {
            let part = bytes.get(skip.min(bytes.len())..).unwrap_or_default();
            skip -= skip.min(bytes.len());
            let n = part.len().min(out.len());
            let (now, later) = core::mem::take(&mut out).split_at_mut(n);
            now.copy_from_slice(&part[..n]);
            out = later;
            if out.is_empty() {
                return true;
            }
        }
        out.is_empty() && skip == 0
    }

    /// All bytes in one vector with the checksum filled in: what a capture shows.
    pub fn to_vec_complete(&self) -> Vec<u8> {
        let mut out = self.to_vec();
        if let Some((at, sum)) = self.missing_checksum()
            && let Some(field) = out.get_mut(at..at + 2)
        {
            field.copy_from_slice(&sum.to_be_bytes());
        }
        out
    }

    /// Fills a partial checksum in, for a link whose device does not.
    pub fn complete_checksum(&mut self) {
        if let Some((at, sum)) = self.missing_checksum() {
            self.write_at(at, &sum.to_be_bytes());
        }
        self.offload.checksum = ChecksumOffload::None;
    }

    /// Where the missing checksum belongs, and its value.
    fn missing_checksum(&self) -> Option<(usize, u16)> {
        let ChecksumOffload::Partial { start, offset } = self.offload.checksum else { return None };
        let mut sum = Checksum::new();
        let mut skip = usize::from(start);
        for bytes in self.iter_slices() {
            let from = skip.min(bytes.len());
            sum.add_bytes(&bytes[from..]);
            skip -= from;
        }
        // A UDP checksum of zero means "none" (RFC 768), and ones' complement has a second zero. Other protocols have no
        // such rule, and readers of captures take the second zero for a fault.
        let value = match sum.finish() {
            0 if offset == UDP_CHECKSUM_OFFSET => 0xffff,
            value => value,
        };
        Some((usize::from(start) + usize::from(offset), value))
    }

    /// Overwrites bytes; outside the inline room this copies the slices it touches.
    fn write_at(&mut self, at: usize, bytes: &[u8]) {
        if at + bytes.len() <= self.head_len() {
            let at = self.head_start + at;
            self.head[at..at + bytes.len()].copy_from_slice(bytes);
        } else if at + bytes.len() <= self.len() {
            let mut all = self.to_vec();
            all[at..at + bytes.len()].copy_from_slice(bytes);
            self.head_start = HEADER_ROOM;
            self.payload = Chain::from(all);
        }
    }

    /// The ones' complement sum of all bytes from `from` on.
    pub fn sum_from(&self, from: usize) -> Checksum {
        let mut sum = Checksum::new();
        let mut skip = from;
        for bytes in self.iter_slices() {
            let from = skip.min(bytes.len());
            sum.add_bytes(&bytes[from..]);
            skip -= from;
        }
        sum
    }
}

impl core::fmt::Debug for PacketBuffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PacketBuffer({} bytes, {:?})", self.len(), self.offload)
    }
}

//! What a comparison wants of a flow beside its sums: every step, and a digest of the bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::packet::{Endpoint, SYN, Tcp, TcpOptions};

/// Bytes of one digest. A difference is located to this.
pub const CHUNK: u64 = 256;

/// A segment, with sequence numbers that count from the first one seen of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Number of the frame.
    pub frame: u64,
    /// Time since the start of the flow.
    pub time: Duration,
    /// 0: of the side that began; 1: of the other.
    pub side: usize,
    /// Flag bits.
    pub flags: u16,
    /// Sequence number.
    pub seq: i64,
    /// Bytes of payload.
    pub len: u32,
    /// Acknowledgment number, 0 where there is none.
    pub ack: i64,
    /// Window in bytes where the scale is known, else as on the wire.
    pub window: u64,
    /// Whether all of it had been sent before.
    pub is_again: bool,
    /// SACK blocks, from and to.
    pub sack: Box<[(i64, i64)]>,
}

/// A datagram or an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number of the frame.
    pub frame: u64,
    /// 0: of the side that began; 1: of the other.
    pub side: usize,
    /// Bytes of payload.
    pub len: u32,
    /// Digest of the payload, where all of it was captured.
    pub digest: Option<u64>,
}

/// The bytes of one direction, digested in chunks. It does not matter in which order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Digest and number of known bytes of each chunk that has any: a sequence number that lies costs nothing.
    chunks: BTreeMap<u64, (u64, u32)>,
    /// Behind the last byte.
    pub len: u64,
}

impl Stream {
    /// Takes in bytes that stand at `at` and were not seen before; `known` of them were captured.
    fn add(&mut self, at: u64, len: u64, known: &[u8]) {
        self.len = self.len.max(at.saturating_add(len));
        let (mut position, mut known) = (at, known);
        while !known.is_empty() {
            let left = CHUNK - position % CHUNK;
            let (piece, rest) = known.split_at(known.len().min(left as usize));
            let chunk = self.chunks.entry(position / CHUNK).or_default();
            for (position, byte) in (position..).zip(piece) {
                chunk.0 = chunk.0.wrapping_add(mixed(position, *byte));
            }
            chunk.1 += piece.len() as u32;
            position = position.saturating_add(piece.len() as u64);
            known = rest;
        }
    }

    /// The first chunk that both know whole and that differs, as a range of bytes; or the first byte behind the shorter stream.
    pub fn difference(&self, other: &Self) -> Option<(u64, u64)> {
        let shorter = self.len.min(other.len);
        let whole =
            |from: u64, chunk: &(u64, u32), len: u64| u64::from(chunk.1) == CHUNK.min(len - from);
        for (at, one) in &self.chunks {
            let from = at * CHUNK;
            let Some(two) = other.chunks.get(at) else { continue };
            // The last chunk of the shorter stream holds more bytes in the other: only lengths tell.
            let ends_alike = from + CHUNK <= shorter || self.len == other.len;
            let known = whole(from, one, self.len) && whole(from, two, other.len);
            if ends_alike && known && one.0 != two.0 {
                return Some((from, (from + CHUNK).min(shorter)));
            }
        }
        (self.len != other.len).then_some((shorter, self.len.max(other.len)))
    }
}

/// A byte at a position as a number whose sums do not collide by chance (splitmix64).
fn mixed(position: u64, byte: u8) -> u64 {
    let mut x = (position << 8 | u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// A digest of a whole message.
pub fn digest(bytes: &[u8]) -> u64 {
    (0..).zip(bytes).fold(bytes.len() as u64, |sum, (at, byte)| sum.wrapping_add(mixed(at, *byte)))
}

/// A flow as a comparison wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Segments in the order of the capture.
    pub steps: Vec<Step>,
    /// Datagrams in the order of the capture.
    pub messages: Vec<Message>,
    /// The bytes of both sides.
    pub streams: [Stream; 2],
    /// Options of the SYNs.
    pub options: [Option<TcpOptions>; 2],
    /// ICMP errors about the flow: frame, type, code.
    pub icmp: Vec<(u64, u8, u8)>,
}

impl Record {
    /// Takes in the payload of a segment, of which `fresh` ranges (relative sequence numbers) were not seen before.
    pub(super) fn payload(
        &mut self,
        side: usize,
        tcp: &Tcp<'_>,
        seq: i64,
        has_syn: bool,
        fresh: &[(i64, i64)],
    ) {
        // The SYN takes the first number.
        let first_byte = i64::from(has_syn);
        let data = seq + i64::from(tcp.flags & SYN != 0);
        for (from, to) in fresh {
            let (from, to) = (*from.max(&data), (*to).min(data + i64::from(tcp.payload_len)));
            let Ok(at) = u64::try_from(from - first_byte) else { continue };
            if to <= from {
                continue;
            }
            let skip = usize::try_from(from - data).unwrap_or(usize::MAX);
            let known = tcp.payload.get(skip..).unwrap_or_default();
            let len = (to - from) as u64;
            let known = &known[..known.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
            self.streams[side].add(at, len, known);
        }
    }

    /// Takes a datagram in.
    pub(super) fn message(&mut self, frame: u64, side: usize, len: u32, payload: &[u8]) {
        let digest = (payload.len() == len as usize).then(|| digest(payload));
        self.messages.push(Message { frame, side, len, digest });
    }
}

/// An endpoint's side of a flow.
pub fn side(ends: &[Endpoint; 2], src: Endpoint) -> usize {
    usize::from(src != ends[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pieces: &[(u64, &[u8])]) -> Stream {
        let mut stream = Stream::default();
        pieces.iter().for_each(|(at, bytes)| stream.add(*at, bytes.len() as u64, bytes));
        stream
    }

    #[test]
    fn order_does_not_matter_and_a_changed_byte_is_located() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
        let whole = stream(&[(0, &bytes)]);
        let pieces = stream(&[(600, &bytes[600..]), (0, &bytes[..300]), (300, &bytes[300..600])]);
        assert_eq!(whole.difference(&pieces), None);
        let mut changed = bytes.clone();
        changed[700] ^= 1;
        assert_eq!(whole.difference(&stream(&[(0, &changed)])), Some((512, 768)));
        changed.swap(10, 11);
        assert_eq!(whole.difference(&stream(&[(0, &changed)])), Some((0, 256)));
        assert_eq!(whole.difference(&stream(&[(0, &bytes[..900])])), Some((900, 1000)));
    }

    #[test]
    fn what_was_not_captured_is_not_compared() {
        let bytes = [7; 600];
        let mut cut = Stream::default();
        cut.add(0, 600, &bytes[..100]);
        assert_eq!(stream(&[(0, &bytes)]).difference(&cut), None);
        let mut absurd = Stream::default();
        absurd.add(u64::MAX - 5, 10, &[1; 3]);
        assert_eq!(absurd.chunks.len(), 1);
    }
}

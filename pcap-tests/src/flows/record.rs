//! What a comparison wants of a flow beside its sums: a digest of the bytes, and every step where it is strict.

use std::time::Duration;

use crate::packet::{Endpoint, SYN, Tcp, TcpOptions};

/// Bytes of one digest of a small stream. A difference is located to this.
pub const CHUNK: u64 = 256;
/// Digests of one stream; of a longer one each covers more.
const MAX_CHUNKS: usize = 1024;
/// The same of a flow that has ended, and still waits for its like.
const MAX_WAITING: usize = 128;
/// So many segments like the first have room from the beginning.
const FIRST_SEGMENTS: usize = 3;
/// Datagrams of a flow that are kept one by one; of more only a digest of all.
const MAX_MESSAGES: usize = 4096;

/// How much of a flow is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Sums alone.
    #[default]
    Sums,
    /// How it began, went and ended, round trips and closed windows; no sums of plain segments ([`super::Half::took_plain`]).
    Outline,
    /// The same without round trips, and digests of what was sent: no more than some kilobytes of a flow.
    Digests,
    /// Sums, digests and every segment.
    Steps,
}

impl Detail {
    /// Whether plain segments are summed up like all others.
    pub(super) fn has_sums(self) -> bool {
        matches!(self, Self::Sums | Self::Steps)
    }

    /// Whether what was sent is digested.
    pub(super) fn has_record(self) -> bool {
        matches!(self, Self::Digests | Self::Steps)
    }
}

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

/// Some of a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    /// Position in the stream, in chunks.
    at: u64,
    digest: u64,
    /// Bytes that were captured.
    known: u64,
    /// The frame that brought the first of them.
    frame: u64,
}

/// The bytes of one direction, digested in chunks. It does not matter in which order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Those that have any known bytes, in order: a sequence number that lies costs nothing.
    chunks: Vec<Chunk>,
    /// How often the size of a chunk was doubled.
    doubled: u32,
    /// Behind the last byte.
    pub len: u64,
}

/// A range of bytes in which two streams differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlike {
    /// The first byte, and the one behind the last.
    pub bytes: (u64, u64),
    /// The frame of either stream that brought the first byte of the range which it has.
    pub frames: [Option<u64>; 2],
}

impl Stream {
    fn chunk(&self) -> u64 {
        CHUNK << self.doubled
    }

    /// What a position is shifted by for the number of its chunk.
    fn shift(&self) -> u32 {
        CHUNK.trailing_zeros() + self.doubled
    }

    /// Takes in bytes that stand at `at` and were not seen before; `known` of them were captured, and give this digest.
    fn add(
        &mut self,
        digest: fn(u64, &[u8]) -> u64,
        frame: u64,
        (at, len): (u64, u64),
        known: &[u8],
    ) {
        self.len = self.len.max(at.saturating_add(len));
        let (mut position, mut known) = (at, known);
        let more = (known.len() >> self.shift()) + 1;
        // Who sends a full segment mostly sends some more.
        let room = if self.chunks.is_empty() && more > 1 { FIRST_SEGMENTS * more } else { more };
        self.chunks.reserve(room);
        while !known.is_empty() {
            let left = self.chunk() - (position & (self.chunk() - 1));
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let (piece, rest) = known.split_at(known.len().min(left));
            let chunk = self.entry(position, frame);
            chunk.digest = chunk.digest.wrapping_add(digest(position, piece));
            chunk.known += piece.len() as u64;
            position = position.saturating_add(piece.len() as u64);
            known = rest;
        }
        self.coarsen(MAX_CHUNKS);
    }

    /// The chunk of a byte.
    fn entry(&mut self, position: u64, frame: u64) -> &mut Chunk {
        let at = position >> self.shift();
        let place = match self.chunks.last() {
            Some(last) if last.at == at => self.chunks.len() - 1,
            Some(last) if last.at > at => self.chunks.partition_point(|chunk| chunk.at < at),
            _ => self.chunks.len(),
        };
        if self.chunks.get(place).is_none_or(|chunk| chunk.at != at) {
            self.chunks.insert(place, Chunk { at, digest: 0, known: 0, frame });
        }
        &mut self.chunks[place]
    }

    /// Doubles the size of chunks until there are no more than so many.
    fn coarsen(&mut self, max: usize) {
        while self.chunks.len() > max {
            self.doubled += 1;
            self.chunks.dedup_by(|next, chunk| {
                let is_same = chunk.at / 2 == next.at / 2;
                if is_same {
                    chunk.digest = chunk.digest.wrapping_add(next.digest);
                    chunk.known += next.known;
                }
                is_same
            });
            self.chunks.iter_mut().for_each(|chunk| chunk.at /= 2);
        }
    }

    /// The same with chunks of another size.
    fn doubled_to(&self, doubled: u32) -> Self {
        let mut coarse = Self { len: self.len, doubled, chunks: Vec::new() };
        for chunk in &self.chunks {
            let at = chunk.at >> (doubled - self.doubled);
            match coarse.chunks.last_mut().filter(|last| last.at == at) {
                Some(last) => {
                    last.digest = last.digest.wrapping_add(chunk.digest);
                    last.known += chunk.known;
                }
                None => coarse.chunks.push(Chunk { at, ..*chunk }),
            }
        }
        coarse
    }

    /// The first chunk that both know whole and that differs; or the bytes behind the shorter stream.
    pub fn difference(&self, other: &Self) -> Option<Unlike> {
        if self.doubled != other.doubled {
            let doubled = self.doubled.max(other.doubled);
            return self.doubled_to(doubled).difference(&other.doubled_to(doubled));
        }
        let (size, shorter) = (self.chunk(), self.len.min(other.len));
        let whole =
            |from: u64, chunk: &Chunk, len: u64| chunk.known == size.min(len.saturating_sub(from));
        let mut others = other.chunks.iter().peekable();
        for one in &self.chunks {
            let from = one.at.saturating_mul(size);
            while others.next_if(|two| two.at < one.at).is_some() {}
            let Some(two) = others.next_if(|two| two.at == one.at) else { continue };
            // The last chunk of the shorter stream holds more bytes in the other: only lengths tell.
            let ends_alike = from.saturating_add(size) <= shorter || self.len == other.len;
            let known = whole(from, one, self.len) && whole(from, two, other.len);
            if ends_alike && known && one.digest != two.digest {
                let bytes = (from, from.saturating_add(size).min(shorter));
                return Some(Unlike { bytes, frames: [Some(one.frame), Some(two.frame)] });
            }
        }
        let bytes = (shorter, self.len.max(other.len));
        let frames = [self, other].map(|stream| stream.frame_of(shorter));
        (self.len != other.len).then_some(Unlike { bytes, frames })
    }

    /// The frame that brought a byte, as far as chunks tell.
    fn frame_of(&self, byte: u64) -> Option<u64> {
        let at = byte / self.chunk();
        let found = self.chunks.binary_search_by_key(&at, |chunk| chunk.at).ok()?;
        Some(self.chunks[found].frame).filter(|_| byte < self.len)
    }
}

/// A number for each place, whose sums do not collide by chance (splitmix64).
const fn mixed(place: u64) -> u64 {
    let mut x = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Bytes of a word of digests.
const WORD: usize = 8;

/// Two factors for each word of a block, one for either half: odd, so that no single change gets lost.
const FACTORS: [u64; CHUNK as usize / WORD] = {
    let mut factors = [0; CHUNK as usize / WORD];
    let mut at = 0;
    while at < factors.len() {
        factors[at] = mixed(at as u64) | 1 << 32 | 1;
        at += 1;
    }
    factors
};

/// Halves of words times halves of factors: what processors multiply several of at once.
fn product(word: u64, factor: u64) -> u64 {
    let low = (word & 0xffff_ffff) * (factor & 0xffff_ffff);
    low.wrapping_add((word >> 32) * (factor >> 32))
}

/// A digest of bytes that stand at a position and lie within one block of [`CHUNK`]: those of pieces add up to that of the whole.
fn digest_of(position: u64, bytes: &[u8]) -> u64 {
    let start = (position % CHUNK) as usize;
    // Bytes before a whole word, as the word's higher ones; then words; then the lower bytes of the last.
    let (head, rest) = bytes.split_at(bytes.len().min(start.wrapping_neg() % WORD));
    let mut sum = if head.is_empty() { 0 } else { part(start % WORD, head, start / WORD) };
    let first = start.div_ceil(WORD);
    let (words, tail) = rest.as_chunks::<WORD>();
    for (bytes, factor) in words.iter().zip(&FACTORS[first..]) {
        sum = sum.wrapping_add(product(u64::from_le_bytes(*bytes), *factor));
    }
    if !tail.is_empty() {
        sum = sum.wrapping_add(part(0, tail, first + words.len()));
    }
    sum.wrapping_mul(mixed(position / CHUNK) | 1)
}

/// What a part of a word gives, from a byte of it on.
fn part(from: usize, bytes: &[u8], at: usize) -> u64 {
    let mut whole = [0; WORD];
    whole[from..from + bytes.len()].copy_from_slice(bytes);
    product(u64::from_le_bytes(whole), FACTORS[at])
}

/// A digest of bytes that stand at a position: the sum over blocks.
fn digest_at(mut position: u64, mut bytes: &[u8]) -> u64 {
    let mut sum = 0_u64;
    while !bytes.is_empty() {
        let left = (CHUNK - position % CHUNK) as usize;
        let (block, rest) = bytes.split_at(bytes.len().min(left));
        sum = sum.wrapping_add(digest_of(position, block));
        position = position.wrapping_add(block.len() as u64);
        bytes = rest;
    }
    sum
}

/// A digest of a whole message.
pub fn digest(bytes: &[u8]) -> u64 {
    digest_at(0, bytes).wrapping_add(bytes.len() as u64)
}

/// What is known of datagrams that are not kept one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub frame: Option<u64>,
    /// A digest of their lengths in their order.
    pub lens: u64,
    /// A digest of their bytes in their order, where all of them were captured.
    pub digest: Option<u64>,
}

impl More {
    fn add(&mut self, message: Message) {
        self.frame.get_or_insert(message.frame);
        let factor = mixed(self.count) | 1;
        let before = if self.count == 0 { Some(0) } else { self.digest };
        self.digest = before
            .zip(message.digest)
            .map(|(sum, digest)| sum.wrapping_add(digest.wrapping_mul(factor)));
        self.lens = self.lens.wrapping_add(u64::from(message.len).wrapping_mul(factor));
        self.count += 1;
    }
}

/// A flow as a comparison wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Segments in the order of the capture.
    pub steps: Vec<Step>,
    /// Datagrams in the order of the capture; the first 4,096.
    pub messages: Vec<Message>,
    /// The other datagrams of both sides.
    pub more: [More; 2],
    /// The bytes of both sides.
    pub streams: [Stream; 2],
    /// Options of the SYNs.
    pub options: [Option<TcpOptions>; 2],
    /// The frames with the first SYN of both sides.
    pub syn: [Option<u64>; 2],
    /// The first frames that were sent again.
    pub again: [Option<u64>; 2],
    /// The last frame with FIN or RST.
    pub last_control: Option<u64>,
    /// ICMP errors about the flow: frame, type, code; the first 4,096.
    pub icmp: Vec<(u64, u8, u8)>,
}

impl Record {
    /// Takes in the payload of a segment of a side, of which `fresh` ranges (relative sequence numbers) were not seen before. What
    /// is the same in both traces whatever it is needs no digest.
    pub(super) fn payload(
        &mut self,
        (side, is_same): (usize, bool),
        frame: u64,
        tcp: &Tcp<'_>,
        (seq, has_syn): (i64, bool),
        fresh: impl Iterator<Item = (i64, i64)>,
    ) {
        // The SYN takes the first number.
        let first_byte = i64::from(has_syn);
        let data = seq + i64::from(tcp.flags & SYN != 0);
        for (from, to) in fresh {
            let (from, to) = (from.max(data), to.min(data + i64::from(tcp.payload_len)));
            let Ok(at) = u64::try_from(from - first_byte) else { continue };
            if to <= from {
                continue;
            }
            let skip = usize::try_from(from - data).unwrap_or(usize::MAX);
            let known = tcp.payload.get(skip..).unwrap_or_default();
            let len = (to - from) as u64;
            let known = &known[..known.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
            self.bytes((side, is_same), frame, (at, len), known);
        }
    }

    /// Takes in bytes of a side that stand at `at` and were not seen before, of which `known` were captured.
    pub(super) fn bytes(
        &mut self,
        (side, is_same): (usize, bool),
        frame: u64,
        at: (u64, u64),
        known: &[u8],
    ) {
        let digest = if is_same { |_: u64, _: &[u8]| 0 } else { digest_at };
        self.streams[side].add(digest, frame, at, known);
    }

    /// Takes a datagram in.
    pub(super) fn message(&mut self, frame: u64, side: usize, len: u32, payload: &[u8]) {
        let digest = (payload.len() == len as usize).then(|| digest(payload));
        let message = Message { frame, side, len, digest };
        match self.messages.len() < MAX_MESSAGES {
            true => self.messages.push(message),
            false => self.more[side].add(message),
        }
    }

    /// An ICMP error about the flow.
    pub(super) fn icmp_error(&mut self, frame: u64, kind: u8, code: u8) {
        if self.icmp.len() < MAX_MESSAGES {
            self.icmp.push((frame, kind, code));
        }
    }

    /// The flow is over, and may wait long for its like: less is kept of it.
    pub fn rest(&mut self) {
        self.streams.iter_mut().for_each(|stream| {
            stream.coarsen(MAX_WAITING);
            shrink(&mut stream.chunks);
        });
        shrink(&mut self.messages);
        shrink(&mut self.steps);
    }
}

/// Gives back room where that is most of it.
fn shrink<T>(list: &mut Vec<T>) {
    if list.capacity() / 2 > list.len() {
        list.shrink_to_fit();
    }
}

/// An endpoint's side of a flow.
pub fn side(ends: &[Endpoint; 2], src: Endpoint) -> usize {
    usize::from(src != ends[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Stream {
        fn put(&mut self, frame: u64, at: u64, len: u64, known: &[u8]) {
            self.add(digest_at, frame, (at, len), known);
        }
    }

    fn stream(pieces: &[(u64, &[u8])]) -> Stream {
        let mut stream = Stream::default();
        pieces.iter().for_each(|(at, bytes)| stream.put(*at, *at, bytes.len() as u64, bytes));
        stream
    }

    fn range(one: &Stream, other: &Stream) -> Option<(u64, u64)> {
        one.difference(other).map(|unlike| unlike.bytes)
    }

    #[test]
    fn order_does_not_matter_and_a_changed_byte_is_located() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
        let whole = stream(&[(0, &bytes)]);
        for cut in 0..bytes.len() {
            let pieces = [(cut as u64, &bytes[cut..]), (0, &bytes[..cut])];
            assert_eq!(range(&whole, &stream(&pieces)), None, "cut at {cut}");
        }
        let pieces = stream(&[(600, &bytes[600..]), (0, &bytes[..300]), (300, &bytes[300..600])]);
        assert_eq!(range(&whole, &pieces), None);
        let mut changed = bytes.clone();
        changed[700] ^= 1;
        assert_eq!(range(&whole, &stream(&[(0, &changed)])), Some((512, 768)));
        changed.swap(10, 11);
        assert_eq!(range(&whole, &stream(&[(0, &changed)])), Some((0, 256)));
        assert_eq!(range(&whole, &stream(&[(0, &bytes[..900])])), Some((900, 1000)));
    }

    #[test]
    fn what_was_not_captured_is_not_compared() {
        let bytes = [7; 600];
        let mut cut = Stream::default();
        cut.put(1, 0, 600, &bytes[..100]);
        assert_eq!(stream(&[(0, &bytes)]).difference(&cut), None);
        let mut absurd = Stream::default();
        absurd.put(1, u64::MAX - 5, 10, &[1; 3]);
        assert_eq!(absurd.chunks.len(), 1);
        assert!(absurd.difference(&stream(&[(0, &bytes)])).is_some());
    }

    #[test]
    fn a_long_stream_takes_no_more_room_and_is_located_more_coarsely() {
        let mut streams: [Stream; 2] = Default::default();
        let bytes = [7; 1000];
        for at in 0..5000 {
            streams.iter_mut().for_each(|s| s.put(at, at * 1000, 1000, &bytes));
        }
        let mut other = streams[1].clone();
        assert!(other.chunks.len() <= MAX_CHUNKS);
        other.coarsen(MAX_WAITING);
        assert_eq!(range(&streams[0], &other), None);
        let mut changed = bytes;
        changed[999] ^= 0x80;
        for stream in [&mut streams[0], &mut other] {
            stream.put(9000, 5_000_000, 1000, &bytes);
            stream.put(9001, 5_001_000, 1000, &bytes);
        }
        streams[1].put(9000, 5_000_000, 1000, &changed);
        streams[1].put(9001, 5_001_000, 1000, &bytes);
        for same in [&streams[0], &other] {
            let Unlike { bytes: (from, to), frames } =
                same.difference(&streams[1]).expect("a changed byte");
            assert!(from <= 5_000_999 && 5_000_999 < to && to - from <= 5_002_000 / 64);
            assert!(frames.iter().all(|frame| frame.is_some_and(|n| n <= 9000)), "{frames:?}");
        }
    }

    #[test]
    fn datagrams_beyond_those_that_are_kept_count_in_their_order() {
        let said = |last: [&[u8]; 2]| {
            let mut record = Record::default();
            (0..MAX_MESSAGES as u64).for_each(|n| record.message(n, 0, 1, &[1]));
            last.iter().for_each(|bytes| record.message(9, 0, bytes.len() as u32, bytes));
            assert_eq!(record.messages.len(), MAX_MESSAGES);
            record.more[0]
        };
        assert_eq!(said([b"ab", b"cd"]), said([b"ab", b"cd"]));
        assert_ne!(said([b"ab", b"cd"]).digest, said([b"cd", b"ab"]).digest);
        assert_ne!(said([b"ab", b"c"]).lens, said([b"a", b"bc"]).lens);
    }
}

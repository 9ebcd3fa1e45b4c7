//! Reassembly of fragmented datagrams of both families, bounded in time, memory and number, and safe
//! against overlap (RFC 791, RFC 8200 section 4.5, RFC 5722).

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap};

use crate::buffer::Chain;
use crate::link::NicId;
use crate::rng::KeyedState;
use crate::time::{Duration, Instant};

/// How long fragments wait for the rest: Linux's 30 s for IPv4; 60 s in RFC 8200.
const TIMEOUT_V4: Duration = Duration::from_secs(30);
const TIMEOUT_V6: Duration = Duration::from_secs(60);
/// Bytes held in all unfinished datagrams (`ipfrag_high_thresh`).
const MAX_BYTES: usize = 4 << 20;
/// Unfinished datagrams.
const MAX_DATAGRAMS: usize = 1024;
/// Fragments of one datagram: 64 KiB in pieces of the smallest IPv4 MTU of 576.
const MAX_FRAGMENTS: usize = 128;
/// What a fragment costs besides its bytes.
const OVERHEAD: usize = 256;

/// Which datagram a fragment belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FragmentKey {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// The identification; 16 bits for IPv4.
    pub ident: u32,
    /// The protocol for IPv4; 0 for IPv6, where it is no part of the key.
    pub protocol: u8,
    /// The interface it came on.
    pub nic: NicId,
}

/// One fragment.
pub struct Piece {
    /// Where it lies in the datagram, in bytes.
    pub offset: u32,
    /// Whether more follow.
    pub more: bool,
    /// The IP headers (unfragmentable part), kept of the first fragment: for the protocol and for ICMP.
    pub header: Vec<u8>,
    /// What follows the (last) IP header.
    pub protocol: u8,
    /// Its bytes.
    pub payload: Chain,
}

/// What became of a fragment.
pub enum Outcome {
    /// The datagram is not whole yet.
    Waiting,
    /// The datagram is whole: the headers and protocol of its first fragment, and all its bytes.
    Complete {
        /// The IP headers of the first fragment.
        header: Vec<u8>,
        /// What the datagram holds.
        protocol: u8,
        /// Its bytes.
        payload: Chain,
    },
    /// It overlapped another; the whole datagram is dropped.
    Overlap,
    /// It makes no datagram: a length that is no multiple of 8, beyond 65,535 bytes, contradicting lengths.
    Invalid,
}

/// A datagram that was given up.
pub struct Expired {
    /// The IP headers of the first fragment, when that one came: only then an ICMP error is due.
    pub first: Option<(Vec<u8>, Chain)>,
    /// Which datagram.
    pub key: FragmentKey,
}

struct Datagram {
    pieces: BTreeMap<u32, Chain>,
    first: Option<(Vec<u8>, u8)>,
    total: Option<u32>,
    have: u32,
    cost: usize,
    deadline: Instant,
    // After an overlap the rest of the datagram is swallowed until the time is up (RFC 5722 section 4).
    poisoned: bool,
}

/// The unfinished datagrams of a stack.
pub struct Reassembly {
    datagrams: HashMap<FragmentKey, Datagram, KeyedState>,
    // By deadline and then key: the first to expire, and the first to give way.
    order: BTreeMap<(Instant, FragmentKey), ()>,
    cost: usize,
}

impl Reassembly {
    /// No datagrams.
    pub fn new(hasher: KeyedState) -> Reassembly {
        let datagrams = HashMap::with_hasher(hasher);
        Reassembly { datagrams, order: BTreeMap::new(), cost: 0 }
    }

    /// Takes a fragment.
    pub fn add(&mut self, now: Instant, key: FragmentKey, piece: Piece) -> Outcome {
        let len = piece.payload.len() as u32;
        let end = u64::from(piece.offset) + u64::from(len);
        // RFC 8200 section 4.5: a length that is not a multiple of 8 with the M flag set is discarded, and so
        // is a fragment that reaches beyond 65,535 bytes.
        if end > 65_535 || len == 0 || (piece.more && !len.is_multiple_of(8)) {
            return Outcome::Invalid;
        }
        self.make_room();
        let timeout = if key.src.is_ipv4() { TIMEOUT_V4 } else { TIMEOUT_V6 };
        let deadline = now + timeout;
        let datagram = self.datagrams.entry(key).or_insert_with(|| {
            self.order.insert((deadline, key), ());
            Datagram {
                pieces: BTreeMap::new(),
                first: None,
                total: None,
                have: 0,
                cost: 0,
                deadline,
                poisoned: false,
            }
        });
        let before = datagram.cost;
        let outcome = datagram.add(piece, end as u32);
        self.cost = self.cost + datagram.cost - before;
        if matches!(outcome, Outcome::Complete { .. }) {
            self.forget(&key);
        }
        outcome
    }

    fn forget(&mut self, key: &FragmentKey) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.order.remove(&(datagram.deadline, *key));
        self.cost -= datagram.cost;
        Some(datagram)
    }

    /// Gives up the oldest datagrams while there are too many, or too many bytes.
    fn make_room(&mut self) {
        while self.cost > MAX_BYTES || self.datagrams.len() >= MAX_DATAGRAMS {
            let Some(((_, key), ())) = self.order.pop_first() else { return };
            self.forget(&key);
        }
    }

    /// Gives up the datagrams whose time is over.
    pub fn expire(&mut self, now: Instant) -> Vec<Expired> {
        let mut expired = Vec::new();
        while let Some(((deadline, key), ())) = self.order.first_key_value() {
            if *deadline > now {
                break;
            }
            let key = *key;
            let Some(mut datagram) = self.forget(&key) else { break };
            let start = datagram.pieces.remove(&0);
            let first = datagram.first.zip(start).map(|((header, _), start)| (header, start));
            if !datagram.poisoned {
                expired.push(Expired { first, key });
            }
        }
        expired
    }

    /// When `expire` next has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.order.first_key_value().map(|((deadline, _), ())| *deadline)
    }

    /// Unfinished datagrams, and the bytes they cost.
    pub fn usage(&self) -> (usize, usize) {
        (self.datagrams.len(), self.cost)
    }
}

impl Datagram {
    fn add(&mut self, piece: Piece, end: u32) -> Outcome {
        if self.poisoned {
            return Outcome::Overlap;
        }
        let start = piece.offset;
        let duplicate = |old: &Chain| old.len() as u32 == end - start;
        if self.pieces.get(&start).is_some_and(duplicate) {
            // An exact duplicate is no attack: the network makes them. The first copy stays.
            return Outcome::Waiting;
        }
        let before = self.pieces.range(..=start).next_back();
        let overlaps_before = before.is_some_and(|(at, old)| at + old.len() as u32 > start);
        let overlaps_after = self.pieces.range(start..end).next().is_some();
        // RFC 5722 section 4: "When reassembling an IPv6 datagram, if one or more its constituent fragments is
        // determined to be an overlapping fragment, the entire datagram ... MUST be silently discarded."
        if overlaps_before || overlaps_after || self.contradicts(end, piece.more) {
            return self.poison();
        }
        if self.pieces.len() >= MAX_FRAGMENTS {
            self.poison();
            return Outcome::Invalid;
        }
        if !piece.more {
            self.total = Some(end);
        }
        if start == 0 {
            self.cost += piece.header.len();
            self.first = Some((piece.header, piece.protocol));
        }
        self.have += end - start;
        let payload = piece.payload.compacted();
        self.cost += payload.held() + OVERHEAD;
        self.pieces.insert(start, payload);
        self.finish()
    }

    /// Whether a piece lies beyond the end of the datagram, or moves it.
    fn contradicts(&self, end: u32, more: bool) -> bool {
        let beyond = self.total.is_some_and(|total| end > total || (!more && end != total));
        let last = self.pieces.last_key_value().map_or(0, |(at, old)| at + old.len() as u32);
        beyond || (!more && last > end)
    }

    fn poison(&mut self) -> Outcome {
        self.poisoned = true;
        self.pieces.clear();
        self.first = None;
        self.cost = 0;
        Outcome::Overlap
    }

    fn finish(&mut self) -> Outcome {
        // Without overlaps, as many bytes as the end says means no hole.
        if self.total != Some(self.have) {
            return Outcome::Waiting;
        }
        let Some((header, protocol)) = self.first.take() else { return Outcome::Waiting };
        let mut payload = Chain::new();
        for (_, piece) in core::mem::take(&mut self.pieces) {
            payload.append(piece);
        }
        Outcome::Complete { header, protocol, payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SipKey;
    use proptest::prelude::*;

    fn reassembly() -> Reassembly {
        Reassembly::new(KeyedState::new(SipKey::new(3, 4)))
    }

    fn key(ident: u32) -> FragmentKey {
        let address = IpAddr::from([10, 0, 0, 1]);
        FragmentKey { src: address, dst: address, ident, protocol: 17, nic: NicId(1) }
    }

    fn piece(offset: u32, bytes: &[u8], more: bool) -> Piece {
        let payload = Chain::from(bytes.to_vec());
        Piece { offset, more, header: vec![0x45], protocol: 17, payload }
    }

    fn add(table: &mut Reassembly, piece: Piece) -> Outcome {
        table.add(Instant::ZERO, key(1), piece)
    }

    #[test]
    fn an_overlap_drops_the_whole_datagram_and_swallows_the_rest() {
        let mut table = reassembly();
        assert!(matches!(add(&mut table, piece(0, &[1; 16], true)), Outcome::Waiting));
        assert!(matches!(add(&mut table, piece(0, &[1; 16], true)), Outcome::Waiting));
        assert!(matches!(add(&mut table, piece(8, &[2; 16], true)), Outcome::Overlap));
        assert!(matches!(add(&mut table, piece(16, &[3; 8], false)), Outcome::Overlap));
        assert_eq!(table.usage(), (1, 0));
        assert!(table.expire(Instant::from_secs(60)).is_empty());
        assert_eq!(table.usage(), (0, 0));
    }

    #[test]
    fn impossible_fragments_are_invalid() {
        let mut table = reassembly();
        assert!(matches!(add(&mut table, piece(0, &[1; 7], true)), Outcome::Invalid));
        assert!(matches!(add(&mut table, piece(65_528, &[1; 8], false)), Outcome::Invalid));
        assert!(matches!(add(&mut table, piece(8, &[], false)), Outcome::Invalid));
        assert!(matches!(add(&mut table, piece(16, &[1; 8], false)), Outcome::Waiting));
        assert!(matches!(add(&mut table, piece(24, &[1; 8], true)), Outcome::Overlap));
    }

    #[test]
    fn what_stays_unfinished_expires_with_its_first_fragment_for_icmp() {
        let mut table = reassembly();
        table.add(Instant::ZERO, key(1), piece(0, &[1; 8], true));
        table.add(Instant::from_secs(1), key(2), piece(8, &[1; 8], true));
        assert_eq!(table.next_deadline(), Some(Instant::from_secs(30)));
        let expired = table.expire(Instant::from_secs(31));
        let with_first: Vec<_> = expired.iter().map(|gone| gone.first.is_some()).collect();
        assert_eq!(with_first, [true, false]);
    }

    #[test]
    fn memory_and_number_are_bounded() {
        let mut table = reassembly();
        for ident in 0..5000 {
            table.add(Instant::ZERO, key(ident), piece(0, &vec![1; 60_000], true));
        }
        let (count, cost) = table.usage();
        assert!(count <= MAX_DATAGRAMS && cost <= MAX_BYTES + 61_000, "{count} {cost}");
        let mut table = reassembly();
        let mut outcomes = (0..1000).map(|n| add(&mut table, piece(n * 16, &[1; 8], true)));
        assert!(outcomes.any(|outcome| matches!(outcome, Outcome::Invalid)));
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_with_duplicates_give_the_datagram(len in 1usize..4000, step in 1usize..40, order in any::<u64>()) {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let step = (step * 8).max(len.div_ceil(100).next_multiple_of(8));
            let mut cuts: Vec<usize> = (0..len).step_by(step).collect();
            let again = cuts.clone();
            cuts.extend(again);
            let mut rng = crate::rng::Rng::new(&crate::rng::seed_from(order), 0);
            for at in (1..cuts.len()).rev() {
                cuts.swap(at, rng.below(at as u64 + 1) as usize);
            }
            let mut table = reassembly();
            let mut whole = None;
            for at in cuts {
                let end = (at + step).min(len);
                if let Outcome::Complete { payload, .. } = add(&mut table, piece(at as u32, &bytes[at..end], end < len)) {
                    whole.get_or_insert(payload.to_vec());
                }
            }
            prop_assert_eq!(whole, Some(bytes));
        }
    }
}

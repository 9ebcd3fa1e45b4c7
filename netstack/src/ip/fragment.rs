//! Reassembly of fragmented datagrams of both families, bounded in time, memory and number, and safe
//! against overlap (RFC 791, RFC 8200 section 4.5, RFC 5722).

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap};

use super::Family;
use super::conf::{FragConf, IpConf};
use crate::buffer::Chain;
use crate::link::NicId;
use crate::rng::KeyedState;
use crate::time::Instant;

/// Unfinished datagrams of a family.
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
    /// Its type of service or traffic class.
    pub tos: u8,
    /// Bytes of the IP packet that it came in.
    pub whole_len: u32,
    /// Its bytes.
    pub payload: Chain,
}

/// What the first fragment and the others together say of a whole datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct First {
    /// What the datagram holds.
    pub protocol: u8,
    /// Congestion that any fragment met (RFC 3168 section 5.3): bits to add to the type of service.
    pub ecn: u8,
    /// Bytes of the largest fragment with its headers.
    pub largest: u32,
}

/// What became of a fragment.
pub enum Outcome {
    /// The datagram is not whole yet.
    Waiting,
    /// It brought nothing new, as the network sometimes does.
    Duplicate,
    /// The datagram is whole: the headers of its first fragment, and all its bytes.
    Complete {
        /// The IP headers of the first fragment.
        header: Vec<u8>,
        /// What it holds.
        first: First,
        /// Its bytes.
        payload: Chain,
    },
    /// It overlapped another; the whole datagram is dropped.
    Overlap,
    /// It makes no datagram: a length that is no multiple of 8, beyond 65,535 bytes, contradicting lengths, or marks of
    /// congestion on a datagram that says it cannot bear them.
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
    // A bit for each value of the ECN field that was seen.
    ecn: u8,
    // How many fragments its source had sent when the last one of it came.
    distance: u32,
    // Bytes of the largest one with its headers.
    largest: u32,
}

/// How many fragments a source sends, while it has unfinished datagrams.
#[derive(Default)]
struct Source {
    datagrams: usize,
    fragments: u32,
}

/// The unfinished datagrams of a stack.
pub struct Reassembly {
    datagrams: HashMap<FragmentKey, Datagram, KeyedState>,
    // By deadline and then key, for each family: the first to expire, and the first to give way.
    order: [BTreeMap<(Instant, FragmentKey), ()>; 2],
    cost: [usize; 2],
    sources: HashMap<IpAddr, Source, KeyedState>,
}

impl Reassembly {
    /// No datagrams.
    pub fn new(hasher: KeyedState) -> Reassembly {
        Reassembly {
            datagrams: HashMap::with_hasher(hasher.clone()),
            order: Default::default(),
            cost: [0; 2],
            sources: HashMap::with_hasher(hasher),
        }
    }

    /// Takes a fragment.
    pub fn add(
        &mut self,
        now: Instant,
        conf: &IpConf,
        (key, piece): (FragmentKey, Piece),
    ) -> Outcome {
        let len = piece.payload.len() as u32;
        let end = u64::from(piece.offset) + u64::from(len);
        // RFC 8200 section 4.5: a length that is not a multiple of 8 with the M flag set is discarded, and so
        // is a fragment that reaches beyond 65,535 bytes.
        if end > 65_535 || len == 0 || (piece.more && !len.is_multiple_of(8)) {
            return Outcome::Invalid;
        }
        let family = key.family();
        let conf = if family == 0 { &conf.ipfrag } else { &conf.ip6frag };
        if !self.datagrams.contains_key(&key) {
            self.make_room(family, conf);
        }
        self.keep_distance(&key, conf);
        let deadline = now + conf.time;
        let (order, sources) = (&mut self.order[family], &mut self.sources);
        let datagram = self.datagrams.entry(key).or_insert_with(|| {
            order.insert((deadline, key), ());
            sources.entry(key.src).or_default().datagrams += 1;
            Datagram::new(deadline)
        });
        let source = sources.entry(key.src).or_default();
        source.fragments = source.fragments.wrapping_add(1);
        datagram.distance = source.fragments;
        let before = datagram.cost;
        let outcome = datagram.add(piece, end as u32);
        self.cost[family] = self.cost[family] + datagram.cost - before;
        if matches!(outcome, Outcome::Complete { .. } | Outcome::Overlap | Outcome::Invalid) {
            // RFC 5722 section 4, as its erratum 3089 has it: "the entire datagram (and any constituent fragments) MUST be
            // silently discarded". What comes after begins anew.
            self.forget(&key);
        }
        outcome
    }

    /// Linux's `ipfrag_max_dist`: a datagram whose source has sent so many other fragments since its last one is given up,
    /// since the same identification now means another.
    fn keep_distance(&mut self, key: &FragmentKey, conf: &FragConf) {
        let Some(datagram) = self.datagrams.get(key).filter(|_| conf.max_dist != 0) else { return };
        let sent = self.sources.get(&key.src).map_or(0, |source| source.fragments);
        if sent.wrapping_sub(datagram.distance) >= conf.max_dist {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &FragmentKey) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        let family = key.family();
        self.order[family].remove(&(datagram.deadline, *key));
        self.cost[family] -= datagram.cost;
        if let Some(source) = self.sources.get_mut(&key.src) {
            source.datagrams -= 1;
            if source.datagrams == 0 {
                self.sources.remove(&key.src);
            }
        }
        Some(datagram)
    }

    /// Gives up the oldest datagrams while there are too many, or too many bytes.
    fn make_room(&mut self, family: usize, conf: &FragConf) {
        while self.cost[family] > conf.high_thresh || self.order[family].len() >= MAX_DATAGRAMS {
            let Some(((_, key), ())) = self.order[family].first_key_value() else { return };
            let key = *key;
            self.forget(&key);
        }
    }

    /// Gives up the datagrams whose time is over.
    pub fn expire(&mut self, now: Instant) -> Vec<Expired> {
        let mut expired = Vec::new();
        for family in 0..self.order.len() {
            while let Some(((deadline, key), ())) = self.order[family].first_key_value() {
                if *deadline > now {
                    break;
                }
                let key = *key;
                let Some(mut datagram) = self.forget(&key) else { break };
                let start = datagram.pieces.remove(&0);
                let first = datagram.first.zip(start).map(|((header, _), start)| (header, start));
                expired.push(Expired { first, key });
            }
        }
        expired
    }

    /// When `expire` next has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let first = |order: &BTreeMap<(Instant, FragmentKey), ()>| {
            order.first_key_value().map(|((deadline, _), ())| *deadline)
        };
        self.order.iter().filter_map(first).min()
    }

    /// The same of one family.
    pub fn usage_of(&self, family: Family) -> (usize, usize) {
        (self.order[family as usize].len(), self.cost[family as usize])
    }

    /// Unfinished datagrams, and the bytes they cost.
    pub fn usage(&self) -> (usize, usize) {
        (self.datagrams.len(), self.cost.iter().sum())
    }
}

impl FragmentKey {
    fn family(&self) -> usize {
        usize::from(self.src.is_ipv6())
    }
}

impl Datagram {
    fn new(deadline: Instant) -> Datagram {
        Datagram {
            pieces: BTreeMap::new(),
            first: None,
            total: None,
            have: 0,
            cost: 0,
            deadline,
            ecn: 0,
            distance: 0,
            largest: 0,
        }
    }

    fn add(&mut self, piece: Piece, end: u32) -> Outcome {
        let start = piece.offset;
        if self.covers(start, end) {
            // What is there already is no attack: the network makes duplicates. The first copy stays.
            return Outcome::Duplicate;
        }
        let before = self.pieces.range(..=start).next_back();
        let overlaps_before = before.is_some_and(|(at, old)| at + old.len() as u32 > start);
        let overlaps_after = self.pieces.range(start..end).next().is_some();
        // RFC 5722 section 4: "When reassembling an IPv6 datagram, if one or more its constituent fragments is
        // determined to be an overlapping fragment, the entire datagram ... MUST be silently discarded."
        if overlaps_before || overlaps_after {
            return Outcome::Overlap;
        }
        if self.contradicts(end, piece.more) || self.pieces.len() >= MAX_FRAGMENTS {
            return Outcome::Invalid;
        }
        if !piece.more {
            self.total = Some(end);
        }
        if start == 0 {
            self.cost += piece.header.len();
            self.first = Some((piece.header, piece.protocol));
        }
        self.ecn |= 1 << (piece.tos & 3);
        self.largest = self.largest.max(piece.whole_len);
        self.have += end - start;
        self.cost += piece.payload.len() + OVERHEAD;
        self.pieces.insert(start, piece.payload);
        self.finish()
    }

    /// Whether everything between two places is there.
    fn covers(&self, start: u32, end: u32) -> bool {
        let mut at = match self.pieces.range(..=start).next_back() {
            Some((from, piece)) => from + piece.len() as u32,
            None => return false,
        };
        while at > start && at < end {
            match self.pieces.get(&at) {
                Some(piece) => at += piece.len() as u32,
                None => return false,
            }
        }
        at >= end
    }

    /// Whether a piece lies beyond the end of the datagram, or moves it.
    fn contradicts(&self, end: u32, more: bool) -> bool {
        let beyond = self.total.is_some_and(|total| end > total || (!more && end != total));
        let last = self.pieces.last_key_value().map_or(0, |(at, old)| at + old.len() as u32);
        beyond || (!more && last > end)
    }

    fn finish(&mut self) -> Outcome {
        // Without overlaps, as many bytes as the end says means no hole.
        if self.total != Some(self.have) {
            return Outcome::Waiting;
        }
        // RFC 3168 section 5.3: with one fragment marked CE the datagram is; with one that is not capable among others that
        // are, "the packet ... MUST be dropped" (the combination is invalid).
        const NOT_ECT: u8 = 1;
        const CE: u8 = 1 << 3;
        let ecn = match self.ecn {
            NOT_ECT => 0,
            mixed if mixed & NOT_ECT != 0 => return Outcome::Invalid,
            marked if marked & CE != 0 => 3,
            _ => 0,
        };
        let Some((header, protocol)) = self.first.take() else { return Outcome::Waiting };
        let mut payload = Chain::new();
        for (_, piece) in core::mem::take(&mut self.pieces) {
            payload.append(piece);
        }
        Outcome::Complete { header, first: First { protocol, ecn, largest: self.largest }, payload }
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
        Piece { offset, more, header: vec![0x45], protocol: 17, tos: 0, whole_len: 0, payload }
    }

    fn add(table: &mut Reassembly, piece: Piece) -> Outcome {
        table.add(Instant::ZERO, &IpConf::default(), (key(1), piece))
    }

    #[test]
    fn an_overlap_drops_the_whole_datagram_and_a_duplicate_does_not() {
        let mut table = reassembly();
        assert!(matches!(add(&mut table, piece(0, &[1; 16], true)), Outcome::Waiting));
        assert!(matches!(add(&mut table, piece(0, &[1; 16], true)), Outcome::Duplicate));
        assert!(matches!(add(&mut table, piece(16, &[1; 16], true)), Outcome::Waiting));
        // What lies within bytes that are there is no overlap, across the borders of fragments too.
        assert!(matches!(add(&mut table, piece(8, &[2; 16], true)), Outcome::Duplicate));
        assert!(matches!(add(&mut table, piece(24, &[2; 16], true)), Outcome::Overlap));
        assert_eq!(table.usage(), (0, 0));
        // What comes after is a datagram of its own, which never is whole.
        assert!(matches!(add(&mut table, piece(40, &[3; 8], false)), Outcome::Waiting));
        assert_eq!(table.usage().0, 1);
    }

    #[test]
    fn congestion_met_by_one_fragment_is_met_by_all() {
        let mut table = reassembly();
        let marked = |offset, more, tos| Piece { tos, ..piece(offset, &[1; 8], more) };
        add(&mut table, marked(0, true, 2));
        let Outcome::Complete { first, .. } = add(&mut table, marked(8, false, 3)) else {
            unreachable!()
        };
        assert_eq!(first.ecn, 3);
        add(&mut table, marked(0, true, 0));
        assert!(matches!(add(&mut table, marked(8, false, 3)), Outcome::Invalid));
        assert_eq!(table.usage(), (0, 0));
    }

    #[test]
    fn a_source_that_sends_much_else_in_between_means_another_datagram() {
        let mut table = reassembly();
        add(&mut table, piece(0, &[1; 8], true));
        let conf = IpConf::default();
        for ident in 2..66 {
            table.add(Instant::ZERO, &conf, (key(ident), piece(0, &[1; 8], true)));
        }
        // The first half is forgotten: the second waits alone.
        assert!(matches!(add(&mut table, piece(8, &[1; 8], false)), Outcome::Waiting));
        assert!(matches!(add(&mut table, piece(0, &[1; 8], true)), Outcome::Complete { .. }));
        table.expire(Instant::from_secs(100));
        assert!(table.sources.is_empty());
    }

    #[test]
    fn impossible_fragments_are_invalid() {
        let mut table = reassembly();
        assert!(matches!(add(&mut table, piece(0, &[1; 7], true)), Outcome::Invalid));
        assert!(matches!(add(&mut table, piece(65_528, &[1; 8], false)), Outcome::Invalid));
        assert!(matches!(add(&mut table, piece(8, &[], false)), Outcome::Invalid));
        // Beyond an end that was told, and an end before what came.
        assert!(matches!(add(&mut table, piece(16, &[1; 8], false)), Outcome::Waiting));
        assert!(matches!(add(&mut table, piece(24, &[1; 8], true)), Outcome::Invalid));
        assert!(matches!(add(&mut table, piece(24, &[1; 8], true)), Outcome::Waiting));
        assert!(matches!(add(&mut table, piece(16, &[1; 8], false)), Outcome::Invalid));
        assert_eq!(table.usage(), (0, 0));
    }

    #[test]
    fn what_stays_unfinished_expires_with_its_first_fragment_for_icmp() {
        let mut table = reassembly();
        let conf = IpConf::default();
        table.add(Instant::ZERO, &conf, (key(1), piece(0, &[1; 8], true)));
        table.add(Instant::from_secs(1), &conf, (key(2), piece(8, &[1; 8], true)));
        assert_eq!(table.next_deadline(), Some(Instant::from_secs(30)));
        let expired = table.expire(Instant::from_secs(31));
        let with_first: Vec<_> = expired.iter().map(|gone| gone.first.is_some()).collect();
        assert_eq!(with_first, [true, false]);
    }

    #[test]
    fn memory_and_number_are_bounded() {
        let mut table = reassembly();
        let conf = IpConf::default();
        for ident in 0..5000 {
            let piece = piece(0, &vec![1; 60_000], true);
            table.add(Instant::ZERO, &conf, (key(ident), piece));
        }
        let (count, cost) = table.usage();
        assert!(
            count <= MAX_DATAGRAMS && cost <= conf.ipfrag.high_thresh + 61_000,
            "{count} {cost}"
        );
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

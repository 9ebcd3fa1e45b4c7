//! Out-of-order data: blocks beyond the next expected byte, kept as references to the packets they came in, or as
//! copies where a packet would pin far more memory than it brings.

use super::seq::Seq;
use crate::buffer::Chain;
use crate::wire::tcp::SackBlocks;
use std::collections::VecDeque;

/// Blocks that are kept at most; a peer that makes more holes has its data dropped and sends it again.
const MAX_BLOCKS: usize = 4096;
/// Recent arrivals that are remembered, to report their blocks first.
const RECENT: usize = 4;

/// What a block costs besides its chain.
const BLOCK_OVERHEAD: usize = 128;

#[derive(Clone, Debug)]
struct Block {
    start: Seq,
    data: Chain,
}

impl Block {
    fn end(&self) -> Seq {
        self.start + self.data.len()
    }

    fn held(&self) -> usize {
        self.data.held() + BLOCK_OVERHEAD
    }
}

/// What became of data that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Some of it was new.
    New,
    /// All of it was there already.
    Duplicate,
    /// There are too many holes.
    Refused,
}

/// The blocks, in order and disjoint; neighbours that touch are joined.
#[derive(Clone, Debug, Default)]
pub struct Reassembly {
    blocks: VecDeque<Block>,
    len: usize,
    held: usize,
    recent: [Option<Seq>; RECENT],
}

impl Reassembly {
    /// Nothing is missing.
    pub const EMPTY: Reassembly =
        Reassembly { blocks: VecDeque::new(), len: 0, held: 0, recent: [None; RECENT] };

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The memory that they keep alive.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The end of the last block.
    pub fn end(&self) -> Option<Seq> {
        self.blocks.back().map(Block::end)
    }

    /// What of `start..end` is there already, a piece a block.
    pub fn overlaps(&self, start: Seq, end: Seq) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        let first = self.blocks.partition_point(|block| block.end() <= start);
        let touched = self.blocks.range(first..).take_while(move |block| block.start < end);
        touched.map(move |block| (block.start.max(start), block.end().min(end)))
    }

    /// Gives up the block that lies farthest ahead, for the sender has to send it again; `keep` says which are nearer
    /// than what needs the room (RFC 2018 section 8: "The data receiver is permitted to discard data in its queue that
    /// has not been acknowledged to the data sender"). Answers whether there was one.
    pub fn prune(&mut self, keep: Seq) -> bool {
        if self.blocks.back().is_none_or(|block| block.start <= keep) {
            return false;
        }
        let Some(block) = self.blocks.pop_back() else { return false };
        self.len -= block.data.len();
        self.held -= block.held();
        if self.blocks.is_empty() {
            self.blocks = VecDeque::new();
        }
        true
    }

    /// Takes data that lies beyond the next expected byte. What is there already wins over a second copy.
    pub fn insert(&mut self, start: Seq, data: Chain) -> Inserted {
        let inserted = self.merge(start, data);
        self.remember(start);
        inserted
    }

    fn merge(&mut self, start: Seq, mut data: Chain) -> Inserted {
        if data.is_empty() {
            return Inserted::Duplicate;
        }
        let mut start = start;
        let mut inserted = Inserted::Duplicate;
        let mut index = self.blocks.partition_point(|block| block.end() < start);
        while !data.is_empty() {
            let Some(next) = self.blocks.get(index) else {
                return self.put(index, start, data, inserted);
            };
            if start < next.start {
                let gap = next.start.since(start);
                let piece = data.split_to(gap);
                let piece_len = piece.len();
                match self.put(index, start, piece, inserted) {
                    Inserted::Refused => return Inserted::Refused,
                    result => inserted = result,
                }
                start += piece_len;
                // The piece became a block of its own, or the tail or head of one: look again from there.
                index = self.blocks.partition_point(|block| block.end() <= start);
                continue;
            }
            let covered = next.end().since(start).min(data.len());
            if covered == 0 {
                // It starts where that block ends: `put` joins it, up to the block that follows.
                let room = self
                    .blocks
                    .get(index + 1)
                    .map_or(data.len(), |after| after.start.since(start).min(data.len()));
                if room == 0 {
                    index += 1;
                    continue;
                }
                let piece = data.split_to(room);
                start += piece.len();
                inserted = self.put(index + 1, start - piece.len(), piece, inserted);
                index = self.blocks.partition_point(|block| block.end() < start);
                continue;
            }
            data.advance(covered);
            start += covered;
        }
        inserted
    }

    /// Puts a piece that overlaps nothing before the block at `index`, joining it with its neighbours.
    fn put(&mut self, index: usize, start: Seq, piece: Chain, so_far: Inserted) -> Inserted {
        if piece.is_empty() {
            return so_far;
        }
        let end = start + piece.len();
        let joins_left = index > 0 && self.blocks.get(index - 1).is_some_and(|b| b.end() == start);
        let joins_right = self.blocks.get(index).is_some_and(|b| b.start == end);
        if !joins_left && !joins_right && self.blocks.len() >= MAX_BLOCKS {
            return Inserted::Refused;
        }
        self.len += piece.len();
        if joins_left {
            let right = if joins_right { self.blocks.remove(index) } else { None };
            self.held -= right.as_ref().map_or(0, Block::held);
            if let Some(left) = self.blocks.get_mut(index - 1) {
                self.held -= left.held();
                left.data.append_compact(piece);
                if let Some(right) = right {
                    left.data.append_compact(right.data);
                }
                self.held += left.held();
            }
        } else if joins_right {
            if let Some(right) = self.blocks.get_mut(index) {
                self.held -= right.held();
                let mut data = piece.compacted();
                data.append_compact(core::mem::take(&mut right.data));
                *right = Block { start, data };
                self.held += right.held();
            }
        } else {
            let block = Block { start, data: piece.compacted() };
            self.held += block.held();
            self.blocks.insert(index, block);
        }
        Inserted::New
    }

    /// The block at `seq` is the latest; it is remembered once, whatever it has grown from.
    fn remember(&mut self, seq: Seq) {
        let index = self.blocks.partition_point(|block| block.end() <= seq);
        let Some(block) = self.blocks.get(index).filter(|block| block.start <= seq) else { return };
        let inside = |known: Seq| known >= block.start && known < block.end();
        let mut kept = [None; RECENT];
        kept[0] = Some(seq);
        let others = self.recent.iter().flatten().filter(|known| !inside(**known));
        for (slot, known) in kept[1..].iter_mut().zip(others) {
            *slot = Some(*known);
        }
        self.recent = kept;
    }

    /// Removes the data that follows `next` without a gap.
    pub fn take_from(&mut self, next: Seq) -> Option<Chain> {
        while let Some(front) = self.blocks.front() {
            if front.start > next {
                return None;
            }
            let mut block = self.blocks.pop_front()?;
            self.len -= block.data.len();
            self.held -= block.held();
            if self.blocks.is_empty() {
                // A burst of holes leaves no memory behind.
                self.blocks = VecDeque::new();
            }
            block.data.advance(next.since(block.start));
            if !block.data.is_empty() {
                return Some(block.data);
            }
        }
        None
    }

    /// Appends up to `room` blocks, the most recently changed first (RFC 2018 section 4).
    pub fn report(&self, room: usize, blocks: &mut SackBlocks) {
        let mut told: [Option<Seq>; RECENT] = [None; RECENT];
        for (slot, seq) in self.recent.iter().flatten().enumerate() {
            if blocks.len() >= room {
                return;
            }
            let index = self.blocks.partition_point(|block| block.end() <= *seq);
            let Some(block) = self.blocks.get(index).filter(|block| block.start <= *seq) else {
                continue;
            };
            if told.contains(&Some(block.start)) {
                continue;
            }
            told[slot] = Some(block.start);
            blocks.push(block.start.0, block.end().0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn byte_of(position: usize) -> u8 {
        (position * 7 + position / 256) as u8
    }

    fn piece(from: usize, len: usize) -> Chain {
        Chain::from((from..from + len).map(byte_of).collect::<Vec<u8>>())
    }

    fn sacks(reassembly: &Reassembly) -> Vec<(u32, u32)> {
        let mut blocks = SackBlocks::default();
        reassembly.report(4, &mut blocks);
        blocks.iter().collect()
    }

    #[test]
    fn the_most_recent_block_is_reported_first_and_joined_ones_once() {
        let mut reassembly = Reassembly::default();
        for from in [100, 300, 500] {
            assert_eq!(reassembly.insert(Seq(from), piece(from as usize, 50)), Inserted::New);
        }
        assert_eq!(sacks(&reassembly), [(500, 550), (300, 350), (100, 150)]);
        reassembly.insert(Seq(150), piece(150, 150));
        assert_eq!(sacks(&reassembly), [(100, 350), (500, 550)]);
        assert_eq!(reassembly.insert(Seq(120), piece(120, 20)), Inserted::Duplicate);
        assert_eq!(reassembly.take_from(Seq(99)).map(|data| data.len()), None);
        assert_eq!(
            reassembly.take_from(Seq(110)).map(|data| data.to_vec()),
            Some(piece(110, 240).to_vec())
        );
        assert_eq!(reassembly.len(), 50);
    }

    #[test]
    fn holes_are_bounded() {
        let mut reassembly = Reassembly::default();
        let mut refused = 0;
        for n in 0..2 * MAX_BLOCKS {
            refused +=
                usize::from(reassembly.insert(Seq(2 * n as u32), piece(0, 1)) == Inserted::Refused);
        }
        assert_eq!((refused, reassembly.len()), (MAX_BLOCKS, MAX_BLOCKS));
        assert!(reassembly.held() < MAX_BLOCKS * 400);
    }

    #[test]
    fn the_farthest_block_is_given_up_first_and_only_beyond_what_needs_the_room() {
        let mut reassembly = Reassembly::default();
        for from in [100, 300, 500] {
            reassembly.insert(Seq(from), piece(from as usize, 50));
        }
        assert!(reassembly.prune(Seq(300)) && !reassembly.prune(Seq(300)));
        assert_eq!((reassembly.len(), reassembly.end()), (100, Some(Seq(350))));
        assert!(reassembly.prune(Seq(0)) && reassembly.prune(Seq(0)) && !reassembly.prune(Seq(0)));
        assert_eq!((reassembly.len(), reassembly.held()), (0, 0));
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_with_any_overlap_give_the_stream(
            base in any::<u32>(),
            pieces in prop::collection::vec((0usize..400, 1usize..60), 1..40),
        ) {
            let mut reassembly = Reassembly::default();
            let mut have = [false; 500];
            for &(from, len) in &pieces {
                let fresh = have[from..from + len].iter().any(|have| !have);
                let want = if fresh { Inserted::New } else { Inserted::Duplicate };
                prop_assert_eq!(reassembly.insert(Seq(base) + from, piece(from, len)), want);
                have[from..from + len].fill(true);
                prop_assert_eq!(reassembly.len(), have.iter().filter(|have| **have).count());
            }
            let mut at = 0;
            while at < have.len() {
                if !have[at] {
                    prop_assert!(reassembly.take_from(Seq(base) + at).is_none());
                    at += 1;
                    continue;
                }
                let data = reassembly.take_from(Seq(base) + at).unwrap();
                prop_assert_eq!(data.to_vec(), piece(at, data.len()).to_vec());
                at += data.len();
                prop_assert!(!have[at]);
            }
            prop_assert!(reassembly.is_empty() && reassembly.held() == 0);
        }
    }
}

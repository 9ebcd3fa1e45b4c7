//! Slices of slabs, and queues of slices.

use std::collections::VecDeque;
use std::sync::Arc;

use super::slab::{FreeSlab, SLAB_SIZE, SMALL_SLAB_SIZE, Slab, SlabPool};
use super::{Fault, Sink, Source};
use crate::lazy::{Lazy, Plain};

/// So many bytes get a slab of the pool, fewer a small one or memory of their own size.
const POOLED_FROM: usize = SLAB_SIZE / COMPACT_RATIO;
/// So many bytes get a small slab where they fit it.
const SMALL_POOLED_FROM: usize = SMALL_SLAB_SIZE / COMPACT_RATIO;
/// The room of a slab that small copies share.
const COPY_SLAB: usize = 2048;
/// The least of the first one of a chain, which has room for a few copies like the first: often none follow.
const FIRST_COPY_SLAB: usize = 256;

/// What a slice costs besides its bytes: itself, the count of its slab, and what the allocator keeps beside both.
const SLICE_OVERHEAD: usize = 128;
/// A slice up to this length is better copied than kept with the packet that it came in.
const COMPACT_BELOW: usize = 256;
/// So is one whose slab is this many times as large.
const COMPACT_RATIO: usize = 4;

/// A range of a slab; cloning it copies no bytes.
#[derive(Clone)]
pub struct Slice {
    slab: Slab,
    start: usize,
    end: usize,
}

impl Slice {
    /// All of a slab.
    pub fn new(slab: Slab) -> Slice {
        let end = slab.len();
        Slice { slab, start: 0, end }
    }

    /// What was filled of a slab of a pool. Few bytes are copied, so that they do not hold a large slab.
    pub fn filled(slab: FreeSlab, len: usize) -> Slice {
        if len < slab.size() / COMPACT_RATIO {
            return Slice::from(slab.filled(len).to_vec());
        }
        let slab = slab.freeze();
        let end = len.min(slab.len());
        Slice { slab, start: 0, end }
    }

    /// How many bytes it covers.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it covers none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.slab.bytes().get(self.start..self.end).unwrap_or_default()
    }

    /// The part from `offset` of at most `len` bytes; clamped to what there is.
    pub fn part(&self, offset: usize, len: usize) -> Slice {
        let start = self.start.saturating_add(offset).min(self.end);
        let end = start.saturating_add(len).min(self.end);
        Slice { slab: self.slab.clone(), start, end }
    }

    /// The memory that it keeps alive: its whole slab, and what goes with it.
    pub fn held(&self) -> usize {
        self.slab.capacity() + SLICE_OVERHEAD
    }

    /// Whether it keeps alive far more than it covers.
    fn is_wasteful(&self) -> bool {
        self.len() <= COMPACT_BELOW || self.slab.capacity() > COMPACT_RATIO * self.len()
    }

    /// Whether `next` continues it in the same slab.
    fn continues_with(&self, next: &Slice) -> bool {
        self.end == next.start && self.slab.is_same(&next.slab)
    }

    /// Appends without moving what is there; false where there is no room, or the slab is shared.
    fn extend_in_place(&mut self, bytes: &[u8]) -> bool {
        let fits = self.slab.len() == self.end && self.slab.extend_in_place(bytes);
        if fits {
            self.end += bytes.len();
        }
        fits
    }

    fn advance(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.end);
    }

    fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start.saturating_add(n));
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Slice {
        Slice::new(Slab::new(bytes))
    }
}

impl FreeSlab {
    /// Takes what was filled and goes on with another slab where that one is held on to.
    pub fn take_filled(&mut self, len: usize) -> Slice {
        if len < POOLED_FROM {
            return Slice::from(self.filled(len).to_vec());
        }
        match self.another() {
            Some(fresh) => Slice::filled(core::mem::replace(self, fresh), len),
            None => Slice::from(self.filled(len).to_vec()),
        }
    }
}

/// A queue of slices. One slice lives inline, so the usual packet allocates nothing here.
#[derive(Clone, Default)]
pub struct Chain {
    // Invariant: `first` is None only when `rest` is empty; no slice is empty.
    first: Option<Slice>,
    rest: Lazy<VecDeque<Later>>,
    len: usize,
    held: usize,
    // Bytes that ever left at the front: where `first` begins in all that ever was here (wrapping).
    start: usize,
}

impl Plain for VecDeque<Later> {
    const PLAIN: &'static VecDeque<Later> = &VecDeque::new();
}

/// A slice behind the first.
#[derive(Clone)]
struct Later {
    slice: Slice,
    // Where it begins, counted as `Chain::start` is.
    at: usize,
}

impl Chain {
    /// A chain without bytes.
    pub const fn new() -> Chain {
        Chain { first: None, rest: Lazy::PLAIN, len: 0, held: 0, start: 0 }
    }

    /// Copies at most `max` bytes from a source: into slabs of the pool, or fewer bytes into memory of their own.
    pub fn from_source(
        pool: &Arc<SlabPool>,
        source: &mut dyn Source,
        max: usize,
    ) -> Result<Chain, Fault> {
        let mut chain = Chain::new();
        let mut left = source.remaining().min(max);
        while left > 0 {
            let want = left.min(SLAB_SIZE);
            let slab = match want {
                SMALL_POOLED_FROM..=SMALL_SLAB_SIZE => Some(pool.take_small()),
                POOLED_FROM.. => Some(pool.take()),
                _ => None,
            };
            let slice = if let Some(mut slab) = slab {
                let filled = fill(source, slab.room().get_mut(..want).unwrap_or_default())?;
                Slice::filled(slab, filled)
            } else {
                let mut bytes = vec![0; want];
                let filled = fill(source, &mut bytes)?;
                bytes.truncate(filled);
                Slice::from(bytes)
            };
            if slice.is_empty() {
                break;
            }
            left -= slice.len().min(left);
            chain.push(slice);
        }
        Ok(chain)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory that its slices keep alive (Linux's truesize): a slab counts once for each run of it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Appends a slice; one that continues the last becomes part of it.
    pub fn push(&mut self, slice: Slice) {
        if slice.is_empty() {
            return;
        }
        let at = self.start.wrapping_add(self.len);
        self.len += slice.len();
        if let Some(last) = self.last_mut().filter(|last| last.continues_with(&slice)) {
            last.end = slice.end;
            return;
        }
        self.held += slice.held();
        if self.first.is_none() {
            self.first = Some(slice);
        } else {
            self.rest.push_back(Later { slice, at });
        }
    }

    /// Appends a copy of a few bytes, into the spare room of the last slab where nobody shares it.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        if self.last_mut().is_some_and(|slice| slice.extend_in_place(bytes)) {
            self.len += bytes.len();
            return;
        }
        let room = match self.is_empty() {
            true => bytes.len().saturating_mul(4).clamp(FIRST_COPY_SLAB, COPY_SLAB),
            false => COPY_SLAB,
        };
        let mut fresh = Vec::with_capacity(bytes.len().max(room));
        fresh.extend_from_slice(bytes);
        self.push(Slice::from(fresh));
    }

    fn last_mut(&mut self) -> Option<&mut Slice> {
        let last = self.rest.own_mut().and_then(VecDeque::back_mut);
        last.map(|later| &mut later.slice).or(self.first.as_mut())
    }

    /// Appends another chain, copying together what would keep alive far more memory than it covers.
    pub fn append_compact(&mut self, other: Chain) {
        for slice in other.into_slices() {
            match slice.is_wasteful() {
                true => self.push_copy(slice.bytes()),
                false => self.push(slice),
            }
        }
    }

    /// The same bytes without memory that is kept alive for nothing.
    pub fn compacted(self) -> Chain {
        if !self.slices().any(Slice::is_wasteful) {
            return self;
        }
        let mut exact = Chain::new();
        for slice in self.into_slices() {
            match slice.is_wasteful() {
                true => exact.push(Slice::from(slice.bytes().to_vec())),
                false => exact.push(slice),
            }
        }
        exact
    }

    /// Puts a slice before all others.
    pub fn push_front(&mut self, slice: Slice) {
        if slice.is_empty() {
            return;
        }
        let at = self.start;
        self.start = at.wrapping_sub(slice.len());
        self.len += slice.len();
        self.held += slice.held();
        if let Some(slice) = self.first.replace(slice) {
            self.rest.push_front(Later { slice, at });
        }
    }

    /// Appends all of another chain.
    pub fn append(&mut self, other: Chain) {
        for slice in other.into_slices() {
            self.push(slice);
        }
    }

    /// How many bytes the first slice has (0 when the chain is empty).
    pub fn first_len(&self) -> usize {
        self.first.as_ref().map_or(0, Slice::len)
    }

    /// The first slice's bytes (empty when the chain is).
    pub fn first(&self) -> &[u8] {
        self.first.as_ref().map(Slice::bytes).unwrap_or_default()
    }

    /// Removes and returns the first slice.
    pub fn pop(&mut self) -> Option<Slice> {
        let slice = self.first.take()?;
        let next = self.rest.own_mut().and_then(VecDeque::pop_front);
        self.first = next.map(|later| later.slice);
        self.start = self.start.wrapping_add(slice.len());
        self.len -= slice.len();
        self.held -= slice.held();
        Some(slice)
    }

    /// Removes the first `n` bytes (all, when there are fewer).
    pub fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let Some(first) = &mut self.first else { return };
            if first.len() > n {
                first.advance(n);
                self.start = self.start.wrapping_add(n);
                self.len -= n;
                return;
            }
            n -= first.len();
            self.pop();
        }
    }

    /// Keeps only the first `n` bytes.
    pub fn truncate(&mut self, n: usize) {
        if n < self.len {
            *self = self.split_to(n);
        }
    }

    /// Removes the first `n` bytes (all, when there are fewer) and returns them.
    pub fn split_to(&mut self, n: usize) -> Chain {
        let mut head = Chain::new();
        while head.len < n {
            let want = n - head.len;
            match &mut self.first {
                None => break,
                Some(first) if first.len() > want => {
                    head.push(first.part(0, want));
                    first.advance(want);
                    self.start = self.start.wrapping_add(want);
                    self.len -= want;
                }
                Some(_) => {
                    if let Some(slice) = self.pop() {
                        head.push(slice);
                    }
                }
            }
        }
        head
    }

    /// References to `len` bytes from `offset` (clamped), without copying: what a retransmission sends.
    pub fn range(&self, offset: usize, len: usize) -> Chain {
        let mut out = Chain::new();
        // Those of the rest that begin at or before the offset; the last of them has its byte, or the first slice of all.
        let before = self.rest.partition_point(|later| later.at.wrapping_sub(self.start) <= offset);
        let (mut skip, later) = match before.checked_sub(1).and_then(|last| self.rest.get(last)) {
            Some(later) => (offset - later.at.wrapping_sub(self.start), before - 1),
            None => {
                let first = self.first.iter().filter(|first| offset < first.len());
                first.for_each(|first| out.push(first.part(offset, len)));
                (0, 0)
            }
        };
        for Later { slice, .. } in self.rest.range(later..) {
            if out.len >= len {
                break;
            }
            out.push(slice.part(skip, len - out.len));
            skip = 0;
        }
        out
    }

    /// Copies from the front into `dst` without consuming; returns how many bytes.
    pub fn copy_to(&self, dst: &mut [u8]) -> usize {
        let mut done = 0;
        for bytes in self.iter() {
            let n = bytes.len().min(dst.len() - done);
            dst[done..done + n].copy_from_slice(&bytes[..n]);
            done += n;
            if done == dst.len() {
                break;
            }
        }
        done
    }

    /// Moves bytes into a sink until it is full, without consuming; returns how many went.
    pub fn write_to(&self, sink: &mut dyn Sink) -> Result<usize, Fault> {
        let mut done = 0;
        for mut bytes in self.iter() {
            while !bytes.is_empty() {
                let n = sink.write(bytes)?.min(bytes.len());
                if n == 0 {
                    return Ok(done);
                }
                done += n;
                bytes = &bytes[n..];
            }
        }
        Ok(done)
    }

    /// All bytes in one vector.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len);
        for bytes in self.iter() {
            out.extend_from_slice(bytes);
        }
        out
    }

    /// The bytes, slice by slice.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.slices().map(Slice::bytes)
    }

    /// The slices.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.first.iter().chain(self.rest.iter().map(|later| &later.slice))
    }

    /// The slices, by value.
    pub fn into_slices(self) -> impl Iterator<Item = Slice> {
        let rest = self.rest.into_own().into_iter().flatten();
        self.first.into_iter().chain(rest.map(|later| later.slice))
    }
}

/// Reads until there is no room, or no more; returns how many bytes.
fn fill(source: &mut dyn Source, room: &mut [u8]) -> Result<usize, Fault> {
    let mut filled = 0;
    while let Some(space) = room.get_mut(filled..).filter(|space| !space.is_empty()) {
        match source.read(space)? {
            0 => break,
            n => filled = filled.saturating_add(n),
        }
    }
    Ok(filled)
}

impl From<Vec<u8>> for Chain {
    fn from(bytes: Vec<u8>) -> Chain {
        let mut chain = Chain::new();
        chain.push(Slice::from(bytes));
        chain
    }
}

impl From<Slice> for Chain {
    fn from(slice: Slice) -> Chain {
        let mut chain = Chain::new();
        chain.push(slice);
        chain
    }
}

impl core::fmt::Debug for Chain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Chain({} bytes)", self.len)
    }
}

impl core::fmt::Debug for Slice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Slice({} bytes)", self.len())
    }
}

impl Slice {
    /// Keeps only the first `n` bytes.
    pub fn truncated(mut self, n: usize) -> Slice {
        self.truncate(n);
        self
    }
}

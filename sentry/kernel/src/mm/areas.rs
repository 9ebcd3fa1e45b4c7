//! The areas of one address space by address: splitting, merging and finding room. It knows no pages.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use platform::{AddressSpace, Prot};

use crate::mm::area::{Vma, VmaFlags};

/// Unmapped bytes that stay below a growing area (stack_guard_gap of Linux).
pub(crate) const STACK_GUARD: u64 = 256 * 4096;

/// Sums over the areas, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    /// All areas: what RLIMIT_AS bounds.
    pub mapped: u64,
    /// Private writable ones: what RLIMIT_DATA bounds.
    pub data: u64,
    /// Locked ones: what RLIMIT_MEMLOCK bounds.
    pub locked: u64,
    /// Executable, not writable ones.
    pub code: u64,
    /// Growing ones.
    pub stack: u64,
}

/// Areas that never overlap; equal neighbours are one.
#[derive(Clone, Default)]
pub(crate) struct Areas {
    by_start: BTreeMap<u64, Vma>,
    totals: Totals,
    lent: Option<Lent>,
}

/// Addresses without areas that the platform has for itself, until there is one.
#[derive(Clone)]
struct Lent {
    range: Range<u64>,
    space: Arc<dyn AddressSpace>,
}

impl Areas {
    pub(crate) fn len(&self) -> usize {
        self.by_start.len()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.by_start.values()
    }

    /// The area that holds `addr`.
    pub(crate) fn find(&self, addr: u64) -> Option<&Vma> {
        self.by_start.range(..=addr).next_back().map(|(_, vma)| vma).filter(|vma| addr < vma.end)
    }

    /// The first area that ends behind `addr` (find_vma of Linux).
    pub(crate) fn at_or_after(&self, addr: u64) -> Option<&Vma> {
        self.find(addr).or_else(|| self.by_start.range(addr..).next().map(|(_, vma)| vma))
    }

    /// The last area that ends at or before `addr`.
    pub(crate) fn before(&self, addr: u64) -> Option<&Vma> {
        self.by_start.range(..addr).next_back().map(|(_, vma)| vma)
    }

    /// The areas that meet `start..end`, in order.
    pub(crate) fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let first = self.find(start).map_or(start, |vma| vma.start);
        self.by_start.range(first..end.max(first)).map(|(_, vma)| vma)
    }

    /// True where nothing lies in `start..end`.
    pub(crate) fn is_free(&self, start: u64, end: u64) -> bool {
        self.range(start, end).next().is_none()
    }

    /// True where `start..end` has no hole.
    pub(crate) fn is_covered(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for vma in self.range(start, end) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= end
    }

    fn count(&mut self, vma: &Vma, add: fn(u64, u64) -> u64) {
        let (len, totals) = (vma.len(), &mut self.totals);
        totals.mapped = add(totals.mapped, len);
        if vma.is_private_writable() {
            totals.data = add(totals.data, len);
        }
        if vma.flags.contains(VmaFlags::LOCKED) {
            totals.locked = add(totals.locked, len);
        }
        if vma.prot.contains(Prot::EXEC) && !vma.prot.contains(Prot::WRITE) {
            totals.code = add(totals.code, len);
        }
        if vma.flags.contains(VmaFlags::GROWSDOWN) {
            totals.stack = add(totals.stack, len);
        }
    }

    fn put(&mut self, vma: Vma) {
        self.count(&vma, u64::saturating_add);
        self.by_start.insert(vma.start, vma);
    }

    fn take(&mut self, start: u64) -> Option<Vma> {
        let vma = self.by_start.remove(&start)?;
        self.count(&vma, u64::saturating_sub);
        Some(vma)
    }

    /// Makes `addr` a boundary between areas.
    fn split(&mut self, addr: u64) {
        let Some(start) = self.find(addr).map(|vma| vma.start).filter(|start| *start < addr) else {
            return;
        };
        if let Some(mut low) = self.take(start) {
            let mut high = low.clone();
            high.cut_front(addr);
            low.end = addr;
            self.put(low);
            self.put(high);
        }
    }

    /// Joins the area that starts at `start` with an equal one that ends there.
    fn join(&mut self, start: u64) {
        let (Some(high), Some(low)) = (self.by_start.get(&start), self.before(start)) else {
            return;
        };
        if !low.continues_in(high) {
            return;
        }
        let low = low.start;
        if let (Some(high), Some(mut low)) = (self.take(start), self.take(low)) {
            low.end = high.end;
            self.put(low);
        }
    }

    /// Adds an area; its place must be free.
    pub(crate) fn insert(&mut self, vma: Vma) {
        debug_assert!(vma.start < vma.end && self.is_free(vma.start, vma.end));
        let (start, end) = (vma.start, vma.end);
        if let Some(lent) =
            self.lent.take_if(|lent| start < lent.range.end && end > lent.range.start)
        {
            lent.space.end_patches();
        }
        self.put(vma);
        self.join(end);
        self.join(start);
    }

    /// Lets the platform have `range`, in which no area lies, for its patches.
    pub(crate) fn lend(&mut self, range: Range<u64>, space: Arc<dyn AddressSpace>) {
        self.lent = Some(Lent { range, space });
    }

    /// Takes what lies in `start..end` out.
    pub(crate) fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        self.split(start);
        self.split(end);
        let starts: Vec<u64> = self.range(start, end).map(|vma| vma.start).collect();
        starts.into_iter().filter_map(|start| self.take(start)).collect()
    }

    /// Changes the areas in `start..end`, cut at its bounds, and joins what became equal.
    pub(crate) fn update(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        let changed = self.remove(start, end);
        for mut vma in changed {
            change(&mut vma);
            self.insert(vma);
        }
        // Cutting may have split an area that stayed equal.
        self.join(end);
        self.join(start);
    }

    /// How many areas a removal of `start..end` would add by splitting: 1 in the middle of one.
    pub(crate) fn splits(&self, start: u64, end: u64) -> usize {
        self.find(start).is_some_and(|vma| vma.start < start && vma.end > end) as usize
    }

    /// Where an area's neighbourhood begins: growing areas keep their guard.
    fn guarded_start(vma: &Vma) -> u64 {
        if vma.flags.contains(VmaFlags::GROWSDOWN) {
            vma.start.saturating_sub(STACK_GUARD)
        } else {
            vma.start
        }
    }

    /// The highest free place of `len` bytes in `low..high`, aligned.
    pub(crate) fn room_below(&self, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
        let mut top = high;
        for vma in self.by_start.range(..high).rev().map(|(_, vma)| vma) {
            if vma.end < top
                && let Some(at) = fit_below(vma.end.max(low), top, len, align)
            {
                return Some(at);
            }
            top = top.min(Self::guarded_start(vma));
            if top <= low {
                return None;
            }
        }
        fit_below(low, top, len, align)
    }

    /// The lowest free place of `len` bytes in `low..high`, aligned.
    pub(crate) fn room_above(&self, len: u64, low: u64, high: u64, align: u64) -> Option<u64> {
        let mut at = low.checked_next_multiple_of(align)?;
        for vma in self.range(low, high) {
            if at.checked_add(len)? <= Self::guarded_start(vma) {
                return Some(at);
            }
            at = vma.end.max(at).checked_next_multiple_of(align)?;
        }
        (at.checked_add(len)? <= high).then_some(at)
    }
}

fn fit_below(bottom: u64, top: u64, len: u64, align: u64) -> Option<u64> {
    let at = top.checked_sub(len)? / align * align;
    (at >= bottom).then_some(at)
}

//! Which pages of the memory file are free: extents by address, clean (they read as zero) or dirty
//! (freed, not yet given back to the host). Plain data without the file itself.

use std::collections::BTreeMap;

/// A run of page numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) pages: u64,
}

/// What a freshly allocated extent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Zeroes; its pages need not exist in the host yet.
    Zero,
    /// What the last owner left; the caller must zero it.
    Stale,
}

/// Runs up to this many pages are zeroed in place when they are used again: that is cheaper than
/// a hole and a fresh fault.
const REUSE_PAGES: u64 = 16;
/// Dirty pages kept for reuse (8 MiB) before the host gets them back.
const DIRTY_PAGES_MAX: u64 = 2048;
/// How many extents a search looks at before it takes the end of the file.
const SEARCH_MAX: usize = 32;

/// Free extents that never overlap nor touch.
#[derive(Debug, Default)]
struct Extents {
    by_start: BTreeMap<u64, u64>,
    pages: u64,
}

impl Extents {
    fn insert(&mut self, extent: Extent) {
        let Extent { mut start, mut pages } = extent;
        self.pages += pages;
        if let Some((&before, &length)) = self.by_start.range(..start).next_back()
            && before + length == start
        {
            self.by_start.remove(&before);
            start = before;
            pages += length;
        }
        if let Some(length) = self.by_start.remove(&(start + pages)) {
            pages += length;
        }
        self.by_start.insert(start, pages);
    }

    /// Cuts `pages` out of the extent at `start`, at `at`.
    fn cut(&mut self, start: u64, at: u64, pages: u64) {
        if let Some(length) = self.by_start.remove(&start) {
            if at > start {
                self.by_start.insert(start, at - start);
            }
            let end = start + length;
            if at + pages < end {
                self.by_start.insert(at + pages, end - at - pages);
            }
            self.pages -= pages;
        }
    }

    /// The first of up to `most` extents that holds an aligned run, and where in it.
    fn find(&self, pages: u64, align: u64, most: usize) -> Option<(u64, u64)> {
        self.by_start
            .iter()
            .take(most)
            .find_map(|(&start, &length)| fits(start, length, pages, align).map(|at| (start, at)))
    }

    fn take(&mut self, pages: u64, align: u64, most: usize) -> Option<Extent> {
        let (start, at) = self.find(pages, align, most)?;
        self.cut(start, at, pages);
        Some(Extent { start: at, pages })
    }
}

fn fits(start: u64, length: u64, pages: u64, align: u64) -> Option<u64> {
    let at = start.checked_next_multiple_of(align)?;
    let end = start.checked_add(length)?;
    (at.checked_add(pages)? <= end).then_some(at)
}

/// The free pages of a file.
#[derive(Debug)]
pub(super) struct Allocator {
    clean: Extents,
    dirty: Extents,
}

impl Allocator {
    /// All `pages` pages are free and zero.
    pub(super) fn new(pages: u64) -> Allocator {
        let mut clean = Extents::default();
        clean.insert(Extent { start: 0, pages });
        Allocator { clean, dirty: Extents::default() }
    }

    /// Takes `pages` consecutive free pages whose first number is a multiple of `align`.
    pub(super) fn allocate(&mut self, pages: u64, align: u64) -> Option<(Extent, Content)> {
        if pages <= REUSE_PAGES
            && let Some(extent) = self.dirty.take(pages, align, SEARCH_MAX)
        {
            return Some((extent, Content::Stale));
        }
        self.clean
            .take(pages, align, SEARCH_MAX)
            .or_else(|| self.take_last(pages, align))
            .or_else(|| self.clean.take(pages, align, usize::MAX))
            .map(|extent| (extent, Content::Zero))
            .or_else(|| {
                let extent = self.dirty.take(pages, align, usize::MAX)?;
                Some((extent, Content::Stale))
            })
    }

    /// The last extent is nearly always the untouched rest of the file.
    fn take_last(&mut self, pages: u64, align: u64) -> Option<Extent> {
        let (&start, &length) = self.clean.by_start.last_key_value()?;
        let at = fits(start, length, pages, align)?;
        self.clean.cut(start, at, pages);
        Some(Extent { start: at, pages })
    }

    /// Takes freed pages back. The extents returned are in no list: the caller gives them to the
    /// host and then calls [`cleaned`](Allocator::cleaned).
    #[must_use]
    pub(super) fn free(&mut self, extent: Extent) -> Vec<Extent> {
        if extent.pages > REUSE_PAGES {
            return vec![extent];
        }
        self.dirty.insert(extent);
        if self.dirty.pages > DIRTY_PAGES_MAX { self.take_dirty() } else { Vec::new() }
    }

    /// All dirty extents, to be given to the host as after [`free`](Allocator::free).
    #[must_use]
    pub(super) fn take_dirty(&mut self) -> Vec<Extent> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.by_start.into_iter().map(|(start, pages)| Extent { start, pages }).collect()
    }

    /// Takes extents whose pages read as zero again.
    pub(super) fn cleaned(&mut self, extents: &[Extent]) {
        for extent in extents {
            self.clean.insert(*extent);
        }
    }

    /// Takes back an extent whose host pages could not be removed: it stays to be zeroed by hand.
    pub(super) fn still_dirty(&mut self, extent: Extent) {
        self.dirty.insert(extent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_aligned_and_never_overlap() {
        let mut allocator = Allocator::new(4096);
        let (first, content) = allocator.allocate(3, 1).unwrap();
        assert_eq!(content, Content::Zero);
        let (second, _) = allocator.allocate(512, 512).unwrap();
        assert_eq!(second.start % 512, 0);
        assert!(second.start >= first.start + first.pages);
        let (third, _) = allocator.allocate(1, 1).unwrap();
        assert!(!(second.start..second.start + 512).contains(&third.start));
    }

    #[test]
    fn small_freed_runs_come_back_stale_and_large_ones_go_to_the_host() {
        let mut allocator = Allocator::new(4096);
        let (small, _) = allocator.allocate(2, 1).unwrap();
        let (large, _) = allocator.allocate(100, 1).unwrap();
        assert!(allocator.free(small).is_empty());
        assert_eq!(allocator.allocate(2, 1), Some((small, Content::Stale)));
        assert_eq!(allocator.free(large), vec![large]);
        allocator.cleaned(&[large]);
        assert_eq!(allocator.allocate(100, 1), Some((large, Content::Zero)));
    }

    #[test]
    fn freed_neighbours_join_and_the_whole_file_can_be_used_again() {
        let mut allocator = Allocator::new(64);
        let runs: Vec<Extent> = (0..64).map(|_| allocator.allocate(1, 1).unwrap().0).collect();
        assert_eq!(allocator.allocate(1, 1), None);
        for run in runs {
            assert!(allocator.free(run).is_empty());
        }
        assert_eq!(
            allocator.allocate(64, 1),
            Some((Extent { start: 0, pages: 64 }, Content::Stale))
        );
    }

    #[test]
    fn many_dirty_pages_are_handed_to_the_host_in_few_runs() {
        let mut allocator = Allocator::new(1 << 20);
        let runs: Vec<Extent> =
            (0..DIRTY_PAGES_MAX + 1).map(|_| allocator.allocate(1, 1).unwrap().0).collect();
        let handed: Vec<Extent> = runs.into_iter().flat_map(|run| allocator.free(run)).collect();
        assert_eq!(handed, vec![Extent { start: 0, pages: DIRTY_PAGES_MAX + 1 }]);
    }
}

//! Which pages of the memory file an address space holds, by address: runs that are contiguous in both. One reference a page.

use std::collections::BTreeMap;
use std::sync::Arc;

use platform::{FileRange, MemoryFile, Prot};

/// Whose pages a run holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// This address space's (and its fork relatives').
    Private,
    /// A mapped object's.
    Object,
}

/// Pages that are contiguous in the address space and in the memory file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Behind the last byte.
    pub end: u64,
    /// Offset in the memory file of the first byte.
    pub offset: u64,
    /// Whose pages.
    pub owner: Owner,
    /// True where a write needs no further step: a private page that nobody shares, an object's page touched for writing.
    pub writable: bool,
    /// How it is mapped in the host's address space. Never more than the area and `writable` allow.
    pub mapped: Option<Prot>,
}

/// A run with its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    pub start: u64,
    pub run: Run,
}

impl Placed {
    pub(crate) fn len(&self) -> u64 {
        self.run.end - self.start
    }

    /// Offset in the memory file of `addr`, which lies in the run.
    pub(crate) fn offset_of(&self, addr: u64) -> u64 {
        self.run.offset + (addr - self.start)
    }

    pub(crate) fn file_range(&self) -> FileRange {
        FileRange::new(self.run.offset, self.len())
    }

    /// The part in `start..end`, which it meets.
    pub(crate) fn clip(&self, start: u64, end: u64) -> Placed {
        let start = start.max(self.start);
        let run = Run { end: end.min(self.run.end), offset: self.offset_of(start), ..self.run };
        Placed { start, run }
    }
}

/// What a program or the kernel for it wants to do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    Read,
    Write,
    Execute,
}

impl Want {
    /// True where `prot` lets it. On x86 a page with any right can be read.
    pub(crate) fn allowed_by(self, prot: Prot) -> bool {
        match self {
            Want::Read => !prot.is_empty(),
            Want::Write => prot.contains(Prot::WRITE),
            Want::Execute => prot.contains(Prot::EXEC),
        }
    }
}

/// The pages of one address space. Dropping it drops their references.
pub(crate) struct Pages {
    memory: Arc<MemoryFile>,
    by_start: BTreeMap<u64, Run>,
    resident: u64,
    /// Counts invalidations, so that pages asked for without the lock are not entered after they went away.
    pub(crate) generation: u64,
}

impl Pages {
    pub(crate) fn new(memory: Arc<MemoryFile>) -> Self {
        Self { memory, by_start: BTreeMap::new(), resident: 0, generation: 0 }
    }

    /// Bytes held.
    pub(crate) fn resident(&self) -> u64 {
        self.resident
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Placed> {
        self.by_start.iter().map(|(start, run)| Placed { start: *start, run: *run })
    }

    /// The run that holds `addr`.
    pub(crate) fn find(&self, addr: u64) -> Option<Placed> {
        let (start, run) = self.by_start.range(..=addr).next_back()?;
        (addr < run.end).then_some(Placed { start: *start, run: *run })
    }

    /// The last run that starts before `addr`.
    pub(crate) fn before(&self, addr: u64) -> Option<Placed> {
        let (start, run) = self.by_start.range(..addr).next_back()?;
        Some(Placed { start: *start, run: *run })
    }

    /// The first run that starts at or behind `addr`.
    pub(crate) fn after(&self, addr: u64) -> Option<Placed> {
        let (start, run) = self.by_start.range(addr..).next()?;
        Some(Placed { start: *start, run: *run })
    }

    /// Runs that meet `start..end`, whole.
    pub(crate) fn range(&self, start: u64, end: u64) -> impl Iterator<Item = Placed> {
        let first = self.find(start).map_or(start, |placed| placed.start);
        self.by_start
            .range(first..end.max(first))
            .map(|(start, run)| Placed { start: *start, run: *run })
    }

    /// Up to `count` runs on each side of one that is held, nearest first.
    pub(crate) fn beside(&self, of: Placed, count: usize) -> impl Iterator<Item = Placed> {
        let below = self.by_start.range(..of.start).rev().take(count);
        let above = self.by_start.range(of.run.end..).take(count);
        below.chain(above).map(|(start, run)| Placed { start: *start, run: *run })
    }

    /// Offset in the memory file and bytes from `addr` on that are mapped for `want`: no further check is needed for these.
    pub(crate) fn accessible(&self, addr: u64, want: Want) -> Option<(u64, u64)> {
        let placed = self.find(addr)?;
        let fine = placed.run.mapped.is_some_and(|prot| want.allowed_by(prot));
        fine.then(|| (placed.offset_of(addr), placed.run.end - addr))
    }

    fn split(&mut self, addr: u64) {
        let Some(placed) = self.find(addr).filter(|placed| placed.start < addr) else { return };
        let high = placed.clip(addr, placed.run.end);
        if let Some(low) = self.by_start.get_mut(&placed.start) {
            low.end = addr;
        }
        self.by_start.insert(addr, high.run);
    }

    fn join(&mut self, addr: u64) {
        let Some(high) = self.by_start.get(&addr).copied() else { return };
        let Some(low) = self.before(addr) else { return };
        let whole = Run { end: high.end, ..low.run };
        let same = low.run.end == addr
            && low.offset_of(addr) == high.offset
            && whole == Run { offset: low.run.offset, ..high };
        if same {
            self.by_start.remove(&addr);
            self.by_start.insert(low.start, whole);
        }
    }

    /// Adds a run whose place is free; the caller hands over its references.
    pub(crate) fn insert(&mut self, start: u64, run: Run) {
        debug_assert!(start < run.end && self.range(start, run.end).next().is_none());
        self.resident += run.end - start;
        self.by_start.insert(start, run);
        self.join(run.end);
        self.join(start);
    }

    /// Takes what lies in `start..end` out; the caller gets the references.
    pub(crate) fn remove(&mut self, start: u64, end: u64) -> Vec<Placed> {
        self.split(start);
        self.split(end);
        let taken: Vec<Placed> = self.range(start, end).collect();
        for placed in &taken {
            self.by_start.remove(&placed.start);
            self.resident -= placed.len();
        }
        taken
    }

    /// Changes the runs in `start..end`, cut at its bounds.
    pub(crate) fn update(&mut self, start: u64, end: u64, mut change: impl FnMut(u64, &mut Run)) {
        self.split(start);
        self.split(end);
        let starts: Vec<u64> = self.range(start, end).map(|placed| placed.start).collect();
        for at in &starts {
            if let Some(run) = self.by_start.get_mut(at) {
                change(*at, run);
            }
        }
        for at in starts {
            self.join(at);
        }
        self.join(end);
    }

    /// Drops the references of runs that were taken out and that no guest has mapped any more.
    pub(crate) fn release(&self, taken: &[Placed]) {
        for placed in taken {
            self.memory.decref(placed.file_range());
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        for placed in self.iter() {
            self.memory.decref(placed.file_range());
        }
    }
}

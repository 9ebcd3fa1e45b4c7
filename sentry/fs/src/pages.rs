//! The pages of one file in the memory file: a sparse map from file pages to runs of memory, with a size.
//!
//! Runs are allocated in growing chunks, so a big file is a few long runs and a read or write one copy a run. Memory is never copied to or
//! from a program under the lock of the map: readers hold references on the pages instead, writers exclude truncation by their inode's lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use platform::{FileRange, MemoryError, MemoryFile};
use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::mm::{Invalidate, MemoryManager, PageRun, new_identity};
use sentry_kernel::sync::{Mutex, Rank};

/// Bytes of a page.
pub const PAGE: u64 = platform::PAGE_SIZE;
/// The largest file: as on Linux, the largest signed offset.
pub const MAX_SIZE: u64 = i64::MAX as u64;
/// Pages allocated ahead of a growing file at most (2 MiB).
const AHEAD_PAGES: u64 = 512;
/// Pages that a fault on a hole allocates at most.
const FAULT_PAGES: u64 = 16;

/// A bound on the pages of several files, such as tmpfs's `size=`.
#[derive(Debug)]
pub struct Quota {
    used: AtomicU64,
    limit: u64,
}

impl Quota {
    /// At most `limit` pages.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }

    /// The bound in pages.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Pages in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes up to `pages`, at least one. Errors: ENOSPC.
    fn charge(&self, pages: u64) -> Result<u64> {
        let mut taken = 0;
        let update = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            taken = pages.min(self.limit.saturating_sub(used));
            (taken > 0).then_some(used + taken)
        });
        if update.is_ok() { Ok(taken) } else { Err(Errno::ENOSPC.into()) }
    }

    fn release(&self, pages: u64) {
        self.used.fetch_sub(pages, Ordering::Relaxed);
    }
}

/// Consecutive file pages that are consecutive in memory. Numbers are in pages, `memory` in bytes.
#[derive(Clone, Copy, Debug)]
struct Extent {
    memory: u64,
    pages: u64,
}

#[derive(Debug)]
struct Map {
    size: u64,
    extents: BTreeMap<u64, Extent>,
    /// Memory allocated beyond the last extent that the next append takes: its file page and run.
    ahead: Option<(u64, Extent)>,
    resident: u64,
}

impl Map {
    /// The extent that holds `page`: the memory of that page and how many pages follow in it (itself included).
    fn find(&self, page: u64) -> Option<Extent> {
        let (&first, extent) = self.extents.range(..=page).next_back()?;
        let skip = page - first;
        (skip < extent.pages)
            .then(|| Extent { memory: extent.memory + skip * PAGE, pages: extent.pages - skip })
    }

    /// First resident page after `page`.
    fn next_resident(&self, page: u64) -> Option<u64> {
        self.extents.range(page + 1..).next().map(|(&first, _)| first)
    }

    fn insert(&mut self, page: u64, extent: Extent) {
        self.resident += extent.pages;
        if let Some((_, before)) =
            self.extents.range_mut(..page).next_back().filter(|(first, e)| {
                **first + e.pages == page && e.memory + e.pages * PAGE == extent.memory
            })
        {
            before.pages += extent.pages;
        } else {
            self.extents.insert(page, extent);
        }
    }

    /// Takes the extents of pages `from..to` out of the map.
    fn remove(&mut self, from: u64, to: u64) -> Vec<Extent> {
        let mut removed = Vec::new();
        let start = self.extents.range(..from).next_back().map_or(from, |(&first, _)| first);
        let touched: Vec<(u64, Extent)> =
            self.extents.range(start..to).map(|(&p, &e)| (p, e)).collect();
        for (first, extent) in touched {
            let end = first + extent.pages;
            let (low, high) = (first.max(from), end.min(to));
            if low >= high {
                continue;
            }
            self.extents.remove(&first);
            let cut = |low: u64, high: u64| Extent {
                memory: extent.memory + (low - first) * PAGE,
                pages: high - low,
            };
            if first < low {
                self.extents.insert(first, cut(first, low));
            }
            if high < end {
                self.extents.insert(high, cut(high, end));
            }
            self.resident -= high - low;
            removed.push(cut(low, high));
        }
        removed
    }
}

/// The pages and size of one file.
pub struct FilePages {
    memory: Arc<MemoryFile>,
    quota: Option<Arc<Quota>>,
    identity: u64,
    map: Mutex<Map>,
    mappers: Mutex<Vec<Weak<MemoryManager>>>,
}

fn memory_error(error: MemoryError) -> sentry_kernel::Error {
    match error {
        MemoryError::Limit { .. } | MemoryError::Full { .. } => Errno::ENOMEM.into(),
        _ => Errno::EIO.into(),
    }
}

fn range(extent: Extent) -> FileRange {
    FileRange::new(extent.memory, extent.pages * PAGE)
}

impl FilePages {
    /// An empty file.
    pub fn new(memory: Arc<MemoryFile>, quota: Option<Arc<Quota>>) -> Self {
        let map = Map { size: 0, extents: BTreeMap::new(), ahead: None, resident: 0 };
        Self {
            memory,
            quota,
            identity: new_identity(),
            map: Mutex::new(Rank::PAGE_CACHE, map),
            mappers: Mutex::new(Rank::MAPPINGS, Vec::new()),
        }
    }

    /// Names this file's content among all files of the process.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.map.lock().size
    }

    /// Pages in memory.
    pub fn resident_pages(&self) -> u64 {
        self.map.lock().resident
    }

    /// Sets the size without touching pages: for files whose content lies elsewhere.
    pub fn set_size(&self, size: u64) {
        self.map.lock().size = size;
    }

    /// A manager wants to hear of pages that go away.
    pub fn register(&self, manager: Weak<MemoryManager>) {
        let mut mappers = self.mappers.lock();
        mappers.retain(|known| known.strong_count() > 0);
        if !mappers.iter().any(|known| known.ptr_eq(&manager)) {
            mappers.push(manager);
        }
    }

    fn forget_mappings(&self, from: u64, to: u64, what: Invalidate) {
        let mappers: Vec<_> = self.mappers.lock().iter().filter_map(Weak::upgrade).collect();
        for manager in mappers {
            manager.invalidate(self.identity, from, to.saturating_sub(from), what);
        }
    }

    /// Takes `removed` away from everybody: programs first, then the memory itself.
    fn release(&self, removed: Vec<Extent>, from: u64, to: u64, what: Invalidate) {
        if removed.is_empty() && what == Invalidate::Pages {
            return;
        }
        self.forget_mappings(from, to, what);
        for extent in removed {
            self.memory.decref(range(extent));
            if let Some(quota) = &self.quota {
                quota.release(extent.pages);
            }
        }
    }

    /// Gives back memory that was allocated ahead of the end.
    pub fn trim(&self) {
        if let Some((_, extent)) = self.map.lock().ahead.take() {
            self.memory.decref(range(extent));
        }
    }

    /// Makes `page` resident and returns the run that starts there, at most `pages` long.
    fn ensure(&self, map: &mut Map, page: u64, pages: u64) -> Result<Extent> {
        if let Some(found) = map.find(page) {
            return Ok(Extent { pages: found.pages.min(pages), ..found });
        }
        let hole = map.next_resident(page).map_or(u64::MAX, |next| next - page);
        let mut wanted = pages.min(hole).clamp(1, 1 << 18);
        if let Some(quota) = &self.quota {
            wanted = quota.charge(wanted)?;
        }
        let extent = match self.allocate(map, page, wanted) {
            Ok(extent) => extent,
            Err(error) => {
                if let Some(quota) = &self.quota {
                    quota.release(wanted);
                }
                return Err(error);
            }
        };
        if let Some(quota) = &self.quota
            && extent.pages < wanted
        {
            quota.release(wanted - extent.pages);
        }
        map.insert(page, extent);
        Ok(extent)
    }

    /// Memory for up to `wanted` pages at `page`: what was allocated ahead, or a new run.
    fn allocate(&self, map: &mut Map, page: u64, wanted: u64) -> Result<Extent> {
        if let Some((ahead_page, ahead)) = map.ahead.take() {
            if ahead_page == page {
                let pages = wanted.min(ahead.pages);
                if pages < ahead.pages {
                    let rest =
                        Extent { memory: ahead.memory + pages * PAGE, pages: ahead.pages - pages };
                    map.ahead = Some((page + pages, rest));
                }
                return Ok(Extent { memory: ahead.memory, pages });
            }
            self.memory.decref(range(ahead));
        }
        let appends = map.next_resident(page).is_none() && page > 0;
        let extra = if appends { map.resident.min(AHEAD_PAGES) } else { 0 };
        let align = if wanted + extra >= AHEAD_PAGES { AHEAD_PAGES * PAGE } else { PAGE };
        let memory = match self.memory.allocate((wanted + extra) * PAGE, align) {
            Ok(run) => run.start,
            Err(_) => {
                let run = self.memory.allocate(wanted * PAGE, PAGE).map_err(memory_error)?;
                return Ok(Extent { memory: run.start, pages: wanted });
            }
        };
        if extra > 0 {
            let rest = Extent { memory: memory + wanted * PAGE, pages: extra };
            map.ahead = Some((page + wanted, rest));
        }
        Ok(Extent { memory, pages: wanted })
    }

    /// Reads at `offset` up to the size; holes are zeros.
    pub fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        while dst.room() > 0 {
            let at = offset.saturating_add(done as u64);
            let (found, len) = {
                let map = self.map.lock();
                if at >= map.size {
                    break;
                }
                let (page, skip) = (at / PAGE, at % PAGE);
                let left = (map.size - at).min(dst.room() as u64);
                match map.find(page) {
                    Some(extent) => {
                        let len = left.min(extent.pages * PAGE - skip).min(1 << 30);
                        let pinned =
                            FileRange::new(extent.memory, (skip + len).next_multiple_of(PAGE));
                        self.memory.incref(pinned);
                        (Some((pinned, extent.memory + skip)), len)
                    }
                    None => {
                        let next = map.next_resident(page).map_or(u64::MAX, |next| next * PAGE);
                        (None, left.min(next - at).min(1 << 30))
                    }
                }
            };
            let taken = match found {
                Some((pinned, memory)) => {
                    let taken = dst.write_memory(&self.memory, memory, len as usize);
                    self.memory.decref(pinned);
                    taken
                }
                None => dst.write_zeros(len as usize),
            };
            match taken {
                Ok(n) => done += n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            if taken.is_ok_and(|n| (n as u64) < len) {
                break;
            }
        }
        Ok(done)
    }

    /// Writes all of `src` at `offset`, growing the file. The caller holds its inode's write lock. Errors: EFBIG, ENOSPC, ENOMEM where nothing was written.
    pub fn write(&self, offset: u64, src: &mut dyn Source) -> Result<usize> {
        if src.remaining() == 0 {
            return Ok(0);
        }
        if offset >= MAX_SIZE {
            return Err(Errno::EFBIG.into());
        }
        let mut done = 0;
        while src.remaining() > 0 {
            let at = offset + done as u64;
            let left = (src.remaining() as u64).min(MAX_SIZE - at);
            if left == 0 {
                break;
            }
            let part = self.write_run(at, left, src);
            match part {
                Ok((n, full)) => {
                    done += n;
                    if n < full {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes into the run at `at`: bytes written and bytes that were to be.
    fn write_run(&self, at: u64, left: u64, src: &mut dyn Source) -> Result<(usize, usize)> {
        let (page, skip) = (at / PAGE, at % PAGE);
        let extent = self.ensure(&mut self.map.lock(), page, (skip + left).div_ceil(PAGE))?;
        let len = left.min(extent.pages * PAGE - skip) as usize;
        let n = src.read_memory(&self.memory, extent.memory + skip, len)?;
        let mut map = self.map.lock();
        let old = map.size;
        self.zero_part(&map, old, at.min(old.next_multiple_of(PAGE)))?;
        map.size = map.size.max(at + n as u64);
        Ok((n, len))
    }

    /// Truncates or extends with zeros. The caller holds its inode's write lock. Errors: EFBIG.
    pub fn resize(&self, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG.into());
        }
        let (old, removed) = {
            let mut map = self.map.lock();
            let old = std::mem::replace(&mut map.size, size);
            if size >= old {
                // What a mapping wrote behind the end is not to be seen now.
                return self.zero_part(&map, old, size.min(old.next_multiple_of(PAGE)));
            }
            if let Some((_, ahead)) = map.ahead.take() {
                self.memory.decref(range(ahead));
            }
            self.zero_part(&map, size, size.next_multiple_of(PAGE))?;
            (old, map.remove(size.div_ceil(PAGE), u64::MAX / PAGE))
        };
        let (from, to) = (size.next_multiple_of(PAGE), old.next_multiple_of(PAGE));
        self.release(removed, from, to, Invalidate::PagesAndCopies);
        Ok(())
    }

    /// Zeroes bytes `from..to` of one page, if it is resident.
    fn zero_part(&self, map: &Map, from: u64, to: u64) -> Result<()> {
        if from < to
            && let Some(extent) = map.find(from / PAGE)
        {
            let run = FileRange::new(extent.memory + from % PAGE, to - from);
            self.memory.zero(run).map_err(memory_error)?;
        }
        Ok(())
    }

    /// Makes bytes `from..to` a hole (FALLOC_FL_PUNCH_HOLE). The caller holds its inode's write lock.
    pub fn punch(&self, from: u64, to: u64) -> Result<()> {
        let (first, last) = (from.div_ceil(PAGE), to / PAGE);
        let removed = {
            let mut map = self.map.lock();
            if first > last {
                self.zero_part(&map, from, to)?;
                Vec::new()
            } else {
                self.zero_part(&map, from, first * PAGE)?;
                self.zero_part(&map, last * PAGE, to)?;
                map.remove(first, last)
            }
        };
        self.release(removed, first * PAGE, last * PAGE, Invalidate::Pages);
        Ok(())
    }

    /// Makes bytes `from..to` resident; the size is left. Errors: ENOSPC, ENOMEM.
    pub fn reserve(&self, from: u64, to: u64) -> Result<()> {
        let (mut page, end) = (from / PAGE, to.div_ceil(PAGE));
        while page < end {
            page += self.ensure(&mut self.map.lock(), page, end - page)?.pages;
        }
        Ok(())
    }

    /// SEEK_DATA. Errors: ENXIO.
    pub fn next_data(&self, offset: u64) -> Result<u64> {
        let map = self.map.lock();
        if offset >= map.size {
            return Err(Errno::ENXIO.into());
        }
        if map.find(offset / PAGE).is_some() {
            return Ok(offset);
        }
        let next = map.next_resident(offset / PAGE).map(|page| page * PAGE);
        next.filter(|next| *next < map.size).ok_or(Errno::ENXIO.into())
    }

    /// SEEK_HOLE; the end of the file is one. Errors: ENXIO.
    pub fn next_hole(&self, offset: u64) -> Result<u64> {
        let map = self.map.lock();
        if offset >= map.size {
            return Err(Errno::ENXIO.into());
        }
        let mut at = offset;
        while let Some(extent) = map.find(at / PAGE) {
            at = (at / PAGE + extent.pages) * PAGE;
            if at >= map.size {
                return Ok(map.size);
            }
        }
        Ok(at)
    }

    /// The resident run at `offset` (page aligned), if there is one.
    pub fn resident(&self, offset: u64, max_len: u64) -> Option<PageRun> {
        let extent = self.map.lock().find(offset / PAGE)?;
        Some(PageRun { offset: extent.memory, len: (extent.pages * PAGE).min(max_len) })
    }

    /// For a fault on a file whose content lies elsewhere: as [`Self::fault`], where `fill` reads file bytes from an offset into a run of fresh zero pages.
    /// Fills ahead: at least 64 KiB, 2 MiB where the page before is resident. Errors: ENXIO past the end, and those of `fill`.
    pub fn fault_filled(
        &self,
        offset: u64,
        max_len: u64,
        fill: &mut dyn FnMut(u64, FileRange) -> Result<()>,
    ) -> Result<PageRun> {
        let mut map = self.map.lock();
        let end = map.size.div_ceil(PAGE);
        let page = offset / PAGE;
        if page >= end {
            return Err(Errno::ENXIO.into());
        }
        let pages = (max_len / PAGE).clamp(1, end - page);
        if map.find(page).is_none() {
            let floor = page / FAULT_PAGES * FAULT_PAGES;
            let before = map.extents.range(..page).next_back();
            let start = before.map_or(floor, |(first, extent)| floor.max(first + extent.pages));
            let sequential = page > 0 && map.find(page - 1).is_some();
            let wish = if sequential { AHEAD_PAGES } else { FAULT_PAGES };
            let wish = wish.max(page - start + pages.min(AHEAD_PAGES));
            let stop = map.next_resident(page).unwrap_or(u64::MAX).min(end).min(start + wish);
            let pages = stop - start;
            let run = self.memory.allocate(pages * PAGE, PAGE).map_err(memory_error)?;
            let extent = Extent { memory: run.start, pages };
            if let Err(error) = fill(start * PAGE, range(extent)) {
                self.memory.decref(range(extent));
                return Err(error);
            }
            map.insert(start, extent);
        }
        let found = map.find(page).ok_or(Errno::EIO)?;
        Ok(PageRun { offset: found.memory, len: found.pages.min(pages) * PAGE })
    }

    /// Copies `data`, which was written elsewhere at `offset`, to the pages that are resident, and grows the size.
    pub fn update(&self, offset: u64, data: &[u8]) {
        let mut map = self.map.lock();
        map.size = map.size.max(offset.saturating_add(data.len() as u64));
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let skip = at % PAGE;
            let (memory, room) = match map.find(at / PAGE) {
                Some(extent) => (Some(extent.memory + skip), extent.pages * PAGE - skip),
                None => {
                    let next = map.next_resident(at / PAGE).map_or(u64::MAX, |page| page * PAGE);
                    (None, next - at)
                }
            };
            let len = room.min((data.len() - done) as u64) as usize;
            if let Some(memory) = memory {
                // Resident runs lie inside the memory file, so this cannot fail.
                let _ = self.memory.write_at(memory, &data[done..done + len]);
            }
            done += len;
        }
    }

    /// Drops every page, for content that changed elsewhere.
    pub fn clear(&self) {
        let removed = self.map.lock().remove(0, u64::MAX / PAGE);
        self.release(removed, 0, MAX_SIZE, Invalidate::Pages);
    }

    /// For a fault: makes the page at `offset` resident. Errors: ENXIO past the end.
    pub fn fault(&self, offset: u64, max_len: u64) -> Result<PageRun> {
        let mut map = self.map.lock();
        let end = map.size.next_multiple_of(PAGE);
        if offset >= end {
            return Err(Errno::ENXIO.into());
        }
        let pages = (max_len.min(end - offset) / PAGE).max(1);
        let extent = match map.find(offset / PAGE) {
            Some(found) => Extent { pages: found.pages.min(pages), ..found },
            None => self.ensure(&mut map, offset / PAGE, pages.min(FAULT_PAGES))?,
        };
        Ok(PageRun { offset: extent.memory, len: extent.pages * PAGE })
    }
}

impl Drop for FilePages {
    fn drop(&mut self) {
        let map = self.map.get_mut();
        if let Some((_, ahead)) = map.ahead.take() {
            self.memory.decref(range(ahead));
        }
        for extent in map.extents.values() {
            self.memory.decref(range(*extent));
        }
        if let Some(quota) = &self.quota {
            quota.release(map.resident);
        }
    }
}

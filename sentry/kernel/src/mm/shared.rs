//! Memory that several address spaces share without a file: MAP_SHARED | MAP_ANONYMOUS and System V segments.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use platform::{FileRange, MemoryFile};
use sentry_abi::{Errno, PAGE_SIZE};

use crate::error::Result;
use crate::mm::advise::Invalidate;
use crate::mm::manager::{MemoryManager, memory_error, new_identity};
use crate::mm::mappable::{Mappable, PageRun, Touch};
use crate::sync::{Mutex, Rank};

/// Pages are allocated in aligned pieces of at most this size.
const PIECE: u64 = 256 << 10;

/// Zeroed memory of a fixed size, allocated when it is touched.
pub struct SharedMemory {
    memory: Arc<MemoryFile>,
    identity: u64,
    size: u64,
    /// Pieces by offset.
    pieces: Mutex<BTreeMap<u64, FileRange>>,
    mappers: Mutex<Vec<Weak<MemoryManager>>>,
}

impl SharedMemory {
    /// Memory of `size` bytes (whole pages).
    pub fn new(memory: Arc<MemoryFile>, size: u64) -> Arc<Self> {
        let pieces = Mutex::new(Rank::PAGE_CACHE, BTreeMap::new());
        let mappers = Mutex::new(Rank::MAPPINGS, Vec::new());
        Arc::new(Self { memory, identity: new_identity(), size, pieces, mappers })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Mappable for SharedMemory {
    fn pages(&self, offset: u64, max_len: u64, _: Touch) -> Result<PageRun> {
        if offset >= self.size {
            return Err(Errno::ENXIO.into());
        }
        let mut pieces = self.pieces.lock();
        let held = pieces.range(..=offset).next_back().map(|(at, range)| (*at, *range));
        let (at, range) = match held.filter(|(at, range)| offset < at + range.len) {
            Some(found) => found,
            None => {
                let at = offset / PIECE * PIECE;
                let len = PIECE.min(self.size - at);
                // A piece holds nothing else: pieces are made whole, at multiples of their size.
                let range = self.memory.allocate(len, PAGE_SIZE).map_err(memory_error)?;
                pieces.insert(at, range);
                (at, range)
            }
        };
        let from = offset - at;
        Ok(PageRun { offset: range.start + from, len: (range.len - from).min(max_len) })
    }

    fn register(&self, manager: Weak<MemoryManager>) {
        let mut mappers = self.mappers.lock();
        if !mappers.iter().any(|known| known.ptr_eq(&manager)) {
            mappers.retain(|known| known.strong_count() > 0);
            mappers.push(manager);
        }
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.saturating_add(len).min(self.size);
        let whole = {
            let mut pieces = self.pieces.lock();
            let inside = |at: u64, range: &FileRange| at >= offset && at + range.len <= end;
            let met: Vec<(u64, FileRange)> = pieces
                .range(..end)
                .rev()
                .take_while(|(at, range)| *at + range.len > offset)
                .map(|(at, range)| (*at, *range))
                .collect();
            for (at, range) in &met {
                if inside(*at, range) {
                    pieces.remove(at);
                } else {
                    let from = offset.max(*at) - at;
                    let to = end.min(at + range.len) - at;
                    let hole = FileRange::new(range.start + from, to - from);
                    self.memory.zero(hole).map_err(memory_error)?;
                }
            }
            met.into_iter().filter(|(at, range)| inside(*at, range)).collect::<Vec<_>>()
        };
        let mappers: Vec<_> = self.mappers.lock().iter().filter_map(Weak::upgrade).collect();
        for (at, range) in whole {
            for manager in &mappers {
                manager.invalidate(self.identity, at, range.len, Invalidate::Pages);
            }
            self.memory.decref(range);
        }
        Ok(())
    }

    fn device_and_inode(&self) -> (u64, u64) {
        // The kernel's own shmem mount.
        (1, self.identity)
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        for range in self.pieces.get_mut().values() {
            self.memory.decref(*range);
        }
    }
}

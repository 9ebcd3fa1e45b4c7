//! What mmap(2) can map: something whose pages lie in the memory file.

use std::sync::Weak;

use sentry_abi::Errno;

use crate::error::Result;
use crate::mm::MemoryManager;

/// Pages in the memory file: byte offset and length, both multiples of the page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRun {
    /// Offset in the memory file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Why pages are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// To read or execute, or to copy (private mappings).
    Read,
    /// To write through a shared mapping.
    Write,
}

/// A file or device whose content a program can map.
pub trait Mappable: Send + Sync {
    /// Makes the page at `offset` (page aligned) resident and returns the run that starts there, at least one page and at most `max_len`.
    /// The run stays valid until [`MemoryManager::invalidate`] was called for it on every registered manager; the mapper takes a reference on the pages in the memory file.
    /// Errors: ENXIO past the end of the file (the task gets SIGBUS), EIO, ENOMEM.
    fn pages(&self, offset: u64, max_len: u64, touch: Touch) -> Result<PageRun>;

    /// A manager has mapped (a part of) this; it wants [`MemoryManager::invalidate`] when pages go away (truncate, hole punch).
    fn register(&self, manager: Weak<MemoryManager>) {
        let _ = manager;
    }

    /// Identity of the mapped object, for shared futexes and invalidation: the same for every mapping of one file.
    fn identity(&self) -> u64;

    /// Device and inode number for /proc/PID/maps.
    fn device_and_inode(&self) -> (u64, u64) {
        (0, 0)
    }

    /// MADV_REMOVE: makes `offset..offset + len` (whole pages) read as zeros and gives the pages back, with [`MemoryManager::invalidate`] as for truncate. Errors: EOPNOTSUPP.
    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let _ = (offset, len);
        Err(Errno::EOPNOTSUPP.into())
    }

    /// msync(2), where it means something.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

//! Guest memory: one file of pages ([`MemoryFile`]) that the sentry and the guest both map, with
//! its allocator, reference counts and copies that survive a racing program.

mod alloc;
mod copy;
mod file;
mod mapping;

pub use file::{MemoryFile, MemoryOptions};
pub(crate) use mapping::Mapping;
use nix::errno::Errno;

use crate::PAGE_SIZE;

/// A run of bytes of the memory file; page aligned where an allocation is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

impl FileRange {
    /// The range of `len` bytes from `start`.
    pub fn new(start: u64, len: u64) -> FileRange {
        FileRange { start, len }
    }

    /// The offset behind the last byte; saturates.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// The numbers of the pages it touches.
    pub(crate) fn pages(&self) -> std::ops::Range<u64> {
        self.start / PAGE_SIZE..self.end().div_ceil(PAGE_SIZE)
    }
}

/// What can go wrong with guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The sandbox has as much memory as it may have. ENOMEM for a program.
    #[error("the memory limit of {limit_bytes} bytes is reached")]
    Limit { limit_bytes: u64 },
    /// No hole of that size is left in the file.
    #[error("no free run of {len} bytes is left in the memory file")]
    Full { len: u64 },
    /// An offset or length is outside the file.
    #[error("the range {offset:#x}+{len:#x} is outside the memory file")]
    OutOfRange { offset: u64, len: u64 },
    /// An offset is not aligned as the operation needs it.
    #[error("the offset {offset:#x} is not aligned to {align} bytes")]
    Misaligned { offset: u64, align: u64 },
    /// A host call failed.
    #[error("{what} failed: {errno}")]
    Host { what: &'static str, errno: Errno },
}

//! A directory's listing as one open file sees it: taken whole at its start, so that positions stay valid whatever happens to the directory.

use std::sync::Arc;

use sentry_kernel::error::Result;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::{DirEntry, DirSink, FileType};

/// An entry of a listing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name without slashes.
    pub name: Box<[u8]>,
    /// Inode number.
    pub ino: u64,
    /// What it is.
    pub file_type: FileType,
}

impl Entry {
    /// An entry.
    pub fn new(name: &[u8], ino: u64, file_type: FileType) -> Self {
        Self { name: name.into(), ino, file_type }
    }
}

/// The listing of one open directory; a position is an index.
pub struct Listing {
    taken: Mutex<Option<Arc<[Entry]>>>,
}

impl Default for Listing {
    fn default() -> Self {
        Self { taken: Mutex::new(Rank::INODE, None) }
    }
}

impl Listing {
    /// Lists from `from`; a listing from 0 calls `take` for the entries (with `.` and `..`) as they are now.
    pub fn emit(
        &self,
        from: u64,
        sink: &mut DirSink<'_>,
        take: impl FnOnce() -> Result<Vec<Entry>>,
    ) -> Result<()> {
        let known = if from == 0 { None } else { self.taken.lock().clone() };
        let entries = match known {
            Some(entries) => entries,
            None => {
                let entries: Arc<[Entry]> = take()?.into();
                *self.taken.lock() = Some(entries.clone());
                entries
            }
        };
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        for (next, entry) in (1..).zip(entries.iter()).skip(start) {
            let (name, ino, file_type) = (&*entry.name, entry.ino, entry.file_type);
            if !sink(&DirEntry { name, ino, file_type, next }) {
                break;
            }
        }
        Ok(())
    }
}

//! A file description: what open(2) makes and descriptors share: the open file, its position, its status flags.

use std::sync::Arc;

use crate::file::FileOps;
use crate::sync::{Mutex, Rank};
use crate::vfs::{OpenFlags, Path};

/// An open file with its position and flags.
pub struct FileDescription {
    ops: Arc<dyn FileOps>,
    /// Where it was opened; `None` for pipes, sockets and the like.
    path: Option<Path>,
    flags: Mutex<OpenFlags>,
    position: Mutex<u64>,
}

impl FileDescription {
    /// An open file at position 0.
    pub fn new(ops: Arc<dyn FileOps>, path: Option<Path>, flags: OpenFlags) -> Arc<Self> {
        let (flags, position) = (Mutex::new(Rank::FILE, flags), Mutex::new(Rank::FILE_POSITION, 0));
        Arc::new(Self { ops, path, flags, position })
    }

    /// The open file.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// Where it was opened.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// Access mode and status flags.
    pub fn flags(&self) -> OpenFlags {
        *self.flags.lock()
    }

    /// The position; hold it for the length of a read or write.
    pub fn position(&self) -> &Mutex<u64> {
        &self.position
    }
}

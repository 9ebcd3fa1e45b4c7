//! Regular files of tmpfs: content in pages of the memory file, open files, mappings.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::mm::{Mappable, MemoryManager, PageRun, Touch};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::OpenFlags;

use super::Shared;
use super::node::{Content, Node};
use crate::pages::{FilePages, MAX_SIZE};

/// FALLOC_FL_KEEP_SIZE (linux/falloc.h).
const KEEP_SIZE: u32 = 1;
/// FALLOC_FL_PUNCH_HOLE
const PUNCH_HOLE: u32 = 2;

/// The content of a regular file.
pub(super) struct RegularFile {
    pub(super) pages: Arc<FilePages>,
    /// Held for the length of a write, truncation or hole punch, also while program memory is read.
    writers: Mutex<()>,
    /// Made by O_TMPFILE and not named yet.
    linkable: AtomicBool,
}

impl RegularFile {
    pub(super) fn new(shared: &Shared) -> Self {
        let pages = FilePages::new(shared.services.memory.clone(), Some(shared.pages.clone()));
        Self {
            pages: Arc::new(pages),
            writers: Mutex::new(Rank::INODE, ()),
            linkable: AtomicBool::new(false),
        }
    }

    pub(super) fn allow_first_link(&self) {
        self.linkable.store(true, Ordering::Relaxed);
    }

    /// True once for a file that O_TMPFILE made.
    pub(super) fn take_first_link(&self) -> bool {
        self.linkable.swap(false, Ordering::Relaxed)
    }

    pub(super) fn resize(&self, size: u64) -> Result<()> {
        let _writers = self.writers.lock();
        self.pages.resize(size)
    }
}

/// An open regular file.
pub(super) struct OpenFile {
    node: Arc<Node>,
    writable: bool,
    keeps_set_id: bool,
    no_atime: bool,
}

impl OpenFile {
    pub(super) fn new(node: Arc<Node>, flags: OpenFlags, creds: &Credentials) -> Self {
        Self {
            node,
            writable: flags.writable(),
            keeps_set_id: creds.has(Capabilities::FSETID),
            no_atime: flags.contains(OpenFlags::NOATIME),
        }
    }

    fn file(&self) -> Result<&RegularFile> {
        match &self.node.content {
            Content::Regular(file) => Ok(file),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// Times after a write; and a write by somebody without CAP_FSETID takes the set-id bits away.
    fn written(&self) {
        let now = self.node.shared.services.now();
        let mut meta = self.node.meta();
        (meta.mtime, meta.ctime) = (now, now);
        if !self.keeps_set_id {
            meta.permissions &= !0o4000;
            if meta.permissions & 0o010 != 0 {
                meta.permissions &= !0o2000;
            }
        }
    }
}

impl FileOps for OpenFile {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        let n = self.file()?.pages.read(offset, dst)?;
        if !self.no_atime {
            // As with the mount option relatime.
            let mut meta = self.node.meta();
            if meta.atime <= meta.mtime || meta.atime <= meta.ctime {
                meta.atime = self.node.shared.services.now();
            }
        }
        Ok(n)
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let file = self.file()?;
        let _writers = file.writers.lock();
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => file.pages.size(),
        };
        let len = file.pages.write(offset, src)?;
        if len > 0 {
            self.written();
        }
        Ok(Written { len, end: offset + len as u64 })
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(self.file()?.pages.size())
    }

    fn next_data(&self, offset: u64) -> Result<u64> {
        self.file()?.pages.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        self.file()?.pages.next_hole(offset)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        // Linux's tmpfs knows no FALLOC_FL_ZERO_RANGE, COLLAPSE_RANGE or INSERT_RANGE either.
        if ![0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE].contains(&mode) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let end = offset.checked_add(len).filter(|end| *end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let file = self.file()?;
        let _writers = file.writers.lock();
        if mode & PUNCH_HOLE != 0 {
            file.pages.punch(offset, end)?;
        } else {
            file.pages.reserve(offset, end)?;
        }
        if mode & KEEP_SIZE == 0 && end > file.pages.size() {
            file.pages.resize(end)?;
        }
        self.written();
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Ok(Arc::new(Mapping { node: self.node.clone(), pages: self.file()?.pages.clone() }))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.writable
            && let Ok(file) = self.file()
        {
            file.pages.trim();
        }
    }
}

/// A file as mmap(2) sees it.
struct Mapping {
    node: Arc<Node>,
    pages: Arc<FilePages>,
}

impl Mappable for Mapping {
    fn pages(&self, offset: u64, max_len: u64, _: Touch) -> Result<PageRun> {
        self.pages.fault(offset, max_len)
    }

    fn register(&self, manager: Weak<MemoryManager>) {
        self.pages.register(manager);
    }

    fn identity(&self) -> u64 {
        self.pages.identity()
    }

    fn device_and_inode(&self) -> (u64, u64) {
        (self.node.shared.dev, self.node.ino)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let Content::Regular(file) = &self.node.content else {
            return Err(Errno::EINVAL.into());
        };
        let _writers = file.writers.lock();
        self.pages.punch(offset, offset.saturating_add(len).min(MAX_SIZE))
    }
}

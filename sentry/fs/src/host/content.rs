//! Content of host files: reads by pread, writes passed on, pages for mappings cached in the memory file and kept coherent with both.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use nix::fcntl::FallocateFlags;
use nix::unistd::Whence;
use platform::{FileRange, MemoryFile};
use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::mm::{Mappable, MemoryManager, PageRun, Touch};
use sentry_kernel::sync::{Mutex, Rank};

use super::node::HostNode;
use super::{Key, Shared, sys};
use crate::pages::{FilePages, MAX_SIZE, PAGE};

/// Bytes moved between host and program at a time.
const CHUNK: usize = 256 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` with a buffer of `len` bytes of arbitrary content.
fn with_buffer<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            work(&mut buffer[..len])
        }
        // A sink or source that itself reads a host file.
        Err(_) => work(&mut vec![0; len]),
    })
}

/// Pages of a host file for those who map it.
pub(super) struct Cache {
    pages: FilePages,
    /// Modification time and size on the host when the pages were read.
    stamp: Mutex<(i64, i64, i64)>,
    /// Pages that a program may have changed through a shared mapping.
    dirty: Mutex<BTreeSet<u64>>,
    has_dirty: AtomicBool,
    /// Mappings that exist: while there is one, a program may change pages without a fault.
    mappings: AtomicUsize,
}

impl Cache {
    pub(super) fn new(memory: &Arc<MemoryFile>) -> Arc<Self> {
        Arc::new(Self {
            pages: FilePages::new(memory.clone(), None),
            stamp: Mutex::new(Rank::PAGE_CACHE, (0, 0, 0)),
            dirty: Mutex::new(Rank::PAGE_CACHE, BTreeSet::new()),
            has_dirty: AtomicBool::new(false),
            mappings: AtomicUsize::new(0),
        })
    }

    /// Drops what the host has changed since, unless programs have changed it too.
    fn refresh(&self, content: &Content) -> Result<()> {
        let stat = sys::stat(&content.fd)?;
        let stamp = (stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
        let known = std::mem::replace(&mut *self.stamp.lock(), stamp);
        if known != stamp && !self.has_dirty.load(Ordering::Acquire) {
            self.pages.clear();
        }
        self.pages.set_size(u64::try_from(stat.st_size).unwrap_or(0));
        Ok(())
    }

    /// After a write of ours: the stamp follows, so that the pages stay.
    fn restamp(&self, content: &Content) {
        if let Ok(stat) = sys::stat(&content.fd) {
            *self.stamp.lock() = (stat.st_mtime, stat.st_mtime_nsec, stat.st_size);
        }
    }

    /// Writes changed pages to the host. They stay marked: a program may change them again without a fault.
    /// Also called under a memory manager's locks, when a mapping goes.
    fn write_back(&self, content: &Content, memory: &MemoryFile) -> Result<()> {
        if !content.writable || !self.has_dirty.load(Ordering::Acquire) {
            return Ok(());
        }
        let dirty: Vec<u64> = self.dirty.lock().iter().copied().collect();
        let size = self.pages.size();
        for page in dirty {
            let offset = page * PAGE;
            if offset < size
                && let Some(run) = self.pages.resident(offset, PAGE)
            {
                let run = FileRange::new(run.offset, PAGE.min(size - offset));
                memory.write_to(content.fd.as_fd(), offset, run).map_err(|_| Errno::EIO)?;
            }
        }
        self.restamp(content);
        Ok(())
    }

    /// A mapping is gone; with the last one nothing is changed behind our back any more.
    fn unmapped(&self) {
        let mut dirty = self.dirty.lock();
        if self.mappings.fetch_sub(1, Ordering::AcqRel) == 1 {
            dirty.clear();
            self.has_dirty.store(false, Ordering::Release);
        }
    }
}

/// A host file while it is open, shared by all who opened it.
pub(super) struct Content {
    shared: Arc<Shared>,
    key: Key,
    pub(super) fd: OwnedFd,
    pub(super) writable: bool,
    /// Held for the length of a write or truncation.
    writers: Mutex<()>,
}

impl Content {
    pub(super) fn new(shared: Arc<Shared>, key: Key, fd: OwnedFd, writable: bool) -> Self {
        Self { shared, key, fd, writable, writers: Mutex::new(Rank::INODE, ()) }
    }

    fn size(&self) -> Result<u64> {
        u64::try_from(sys::stat(&self.fd)?.st_size).map_err(|_| Errno::EIO.into())
    }

    fn known_cache(&self) -> Option<Arc<Cache>> {
        self.shared.known_cache(self.key.dev, self.key.ino)
    }

    /// ftruncate(2), also for the cached pages.
    pub(super) fn resize(&self, size: u64) -> Result<()> {
        let _writers = self.writers.lock();
        let len = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
        nix::unistd::ftruncate(&self.fd, len).map_err(sys::failed)?;
        if let Some(cache) = self.known_cache() {
            cache.pages.resize(size)?;
            cache.restamp(self);
        }
        Ok(())
    }

    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        if let Some(cache) = self.known_cache()
            && cache.has_dirty.load(Ordering::Acquire)
        {
            // Pages in memory may be newer than the host's file.
            cache.write_back(self, &self.shared.services.memory)?;
        }
        let mut done = 0;
        while dst.room() > 0 {
            let at = offset.saturating_add(done as u64);
            let want = dst.room().min(CHUNK);
            let step = with_buffer(want, |buffer| {
                let n = sys::read_at(&self.fd, buffer, at)?;
                Ok((n, dst.write(&buffer[..n])?))
            });
            match step {
                Ok((n, taken)) => {
                    done += taken;
                    if taken < want || n < want {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let _writers = self.writers.lock();
        let offset = match at {
            WriteAt::Offset(offset) => offset,
            WriteAt::End => self.size()?,
        };
        if offset >= MAX_SIZE && src.remaining() > 0 {
            return Err(Errno::EFBIG.into());
        }
        let cache = self.known_cache();
        let mut done = 0;
        while src.remaining() > 0 {
            let want = src.remaining().min(CHUNK);
            let step = with_buffer(want, |buffer| {
                let n = src.read(buffer)?;
                let put = sys::write_at(&self.fd, &buffer[..n], offset + done as u64)?;
                if let Some(cache) = &cache {
                    cache.pages.update(offset + done as u64, &buffer[..put]);
                }
                Ok(put)
            });
            match step {
                Ok(put) => {
                    done += put;
                    if put < want {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if let Some(cache) = &cache {
            cache.restamp(self);
        }
        Ok(Written { len: done, end: offset + done as u64 })
    }
}

/// An open regular file of the host.
pub(super) struct OpenFile {
    node: Arc<HostNode>,
    content: Arc<Content>,
}

impl OpenFile {
    pub(super) fn new(node: Arc<HostNode>, content: Arc<Content>) -> Self {
        Self { node, content }
    }
}

impl FileOps for OpenFile {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.content.read(offset, dst)
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        self.content.write(at, src)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        self.content.size()
    }

    fn next_data(&self, offset: u64) -> Result<u64> {
        sys::seek(&self.content.fd, offset, Whence::SeekData)
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        sys::seek(&self.content.fd, offset, Whence::SeekHole)
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        let flags = i32::try_from(mode).ok().and_then(FallocateFlags::from_bits);
        let flags = flags.ok_or(Errno::EOPNOTSUPP)?;
        let from = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let len = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
        let _writers = self.content.writers.lock();
        nix::fcntl::fallocate(&self.content.fd, flags, from, len).map_err(sys::failed)?;
        if let Some(cache) = self.content.known_cache() {
            if !flags.difference(FallocateFlags::FALLOC_FL_KEEP_SIZE).is_empty() {
                cache.pages.clear();
            }
            cache.pages.set_size(self.content.size()?);
            cache.restamp(&self.content);
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        if let Some(cache) = self.content.known_cache() {
            cache.write_back(&self.content, &self.content.shared.services.memory)?;
        }
        match self.content.writable {
            true => nix::unistd::fsync(&self.content.fd).map_err(sys::failed),
            false => Ok(()),
        }
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let (content, key) = (self.content.clone(), self.node.key);
        let cache = self.node.shared.cache(key.dev, key.ino);
        cache.refresh(&content)?;
        cache.mappings.fetch_add(1, Ordering::AcqRel);
        Ok(Arc::new(Mapping { content, cache }))
    }
}

/// A host file as mmap(2) sees it.
struct Mapping {
    content: Arc<Content>,
    cache: Arc<Cache>,
}

impl Mapping {
    fn memory(&self) -> &MemoryFile {
        &self.content.shared.services.memory
    }

    /// Reads the host's bytes at `offset` into fresh pages; what the file does not reach stays zero.
    fn fill(&self, offset: u64, into: FileRange) -> Result<()> {
        let mut done = 0;
        while done < into.len {
            let part = FileRange::new(into.start + done, into.len - done);
            let read = self.memory().read_from(self.content.fd.as_fd(), offset + done, part);
            match read.map_err(|_| Errno::EIO)? {
                0 => break,
                n => done += n as u64,
            }
        }
        Ok(())
    }
}

impl Mappable for Mapping {
    fn pages(&self, offset: u64, max_len: u64, touch: Touch) -> Result<PageRun> {
        if touch == Touch::Write && !self.content.writable {
            return Err(Errno::EACCES.into());
        }
        let run =
            self.cache.pages.fault_filled(offset, max_len, &mut |at, into| self.fill(at, into))?;
        if touch == Touch::Write {
            self.cache.dirty.lock().extend(offset / PAGE..(offset + run.len) / PAGE);
            self.cache.has_dirty.store(true, Ordering::Release);
        }
        Ok(run)
    }

    fn register(&self, manager: Weak<MemoryManager>) {
        self.cache.pages.register(manager);
    }

    fn identity(&self) -> u64 {
        self.cache.pages.identity()
    }

    fn device_and_inode(&self) -> (u64, u64) {
        let key = self.content.key;
        (self.content.shared.device(key.dev), key.ino)
    }

    fn sync(&self) -> Result<()> {
        self.cache.write_back(&self.content, self.memory())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The last chance to bring a shared mapping's changes to the host; nobody is left to hear of an error.
        let _ = self.cache.write_back(&self.content, self.memory());
        self.cache.unmapped();
    }
}

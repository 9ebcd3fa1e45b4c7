//! One mounted filesystem as the VFS sees it: the filesystem, its cached directory entries, and what hangs on its inodes (FIFOs, locks).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::error::Result;
use crate::file::locks::FileLocks;
use crate::file::pipe::Pipe;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::{FileSystem, Inode};
use crate::vfs::watch::Watches;

/// Cached entries beyond this many are forgotten, oldest first.
const CACHE_LIMIT: usize = 16 * 1024;

/// State that the VFS keeps for each filesystem instance.
pub struct SuperBlock {
    id: u64,
    filesystem: Arc<dyn FileSystem>,
    nameless: bool,
    rename: Mutex<()>,
    recent: Mutex<VecDeque<Weak<Dentry>>>,
    fifos: Mutex<HashMap<u64, Weak<Pipe>>>,
    locks: Mutex<HashMap<u64, Weak<FileLocks>>>,
    watches: Watches,
}

impl SuperBlock {
    /// The state for a filesystem that can be mounted.
    pub fn new(filesystem: Arc<dyn FileSystem>) -> Arc<Self> {
        Self::build(filesystem, false)
    }

    /// The state for files without a place in the tree (pipes, memfds): their dentry's name is all their path.
    pub fn nameless(filesystem: Arc<dyn FileSystem>) -> Arc<Self> {
        Self::build(filesystem, true)
    }

    fn build(filesystem: Arc<dyn FileSystem>, nameless: bool) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            filesystem,
            nameless,
            rename: Mutex::new(Rank::RENAME, ()),
            recent: Mutex::new(Rank::LEAF, VecDeque::new()),
            fifos: Mutex::new(Rank::LEAF, HashMap::new()),
            locks: Mutex::new(Rank::LEAF, HashMap::new()),
            watches: Watches::default(),
        })
    }

    /// Unique among all filesystems of the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The filesystem.
    pub fn filesystem(&self) -> &Arc<dyn FileSystem> {
        &self.filesystem
    }

    /// True for the pseudo filesystems of pipes and the like.
    pub fn is_nameless(&self) -> bool {
        self.nameless
    }

    /// Who watches its inodes.
    pub(crate) fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Held while a rename changes the shape of the tree.
    pub(crate) fn lock_renames(&self) -> MutexGuard<'_, ()> {
        self.rename.lock()
    }

    /// The pipe behind a FIFO, made where nobody has it open.
    pub(crate) fn fifo(&self, inode: &dyn Inode) -> Result<Arc<Pipe>> {
        let ino = inode.attributes()?.ino;
        let mut fifos = self.fifos.lock();
        if let Some(pipe) = fifos.get(&ino).and_then(Weak::upgrade) {
            return Ok(pipe);
        }
        fifos.retain(|_, pipe| pipe.strong_count() > 0);
        let pipe = Pipe::new();
        fifos.insert(ino, Arc::downgrade(&pipe));
        Ok(pipe)
    }

    /// The locks of an inode, made where it has none.
    pub(crate) fn locks(&self, inode: &dyn Inode) -> Result<Arc<FileLocks>> {
        let ino = inode.attributes()?.ino;
        let mut all = self.locks.lock();
        if let Some(locks) = all.get(&ino).and_then(Weak::upgrade) {
            return Ok(locks);
        }
        all.retain(|_, locks| locks.strong_count() > 0);
        let locks = FileLocks::new();
        all.insert(ino, Arc::downgrade(&locks));
        Ok(locks)
    }

    /// The locks of an inode that has some.
    pub(crate) fn existing_locks(&self, inode: &dyn Inode) -> Option<Arc<FileLocks>> {
        if self.locks.lock().is_empty() {
            return None;
        }
        let ino = inode.attributes().ok()?.ino;
        self.locks.lock().get(&ino)?.upgrade()
    }

    /// Notes a new cached entry and forgets old ones beyond the limit. The caller holds no dentry lock.
    pub(crate) fn note(&self, dentry: &Arc<Dentry>) {
        let mut recent = self.recent.lock();
        recent.push_back(Arc::downgrade(dentry));
        if recent.len() <= CACHE_LIMIT {
            return;
        }
        let oldest: Vec<Weak<Dentry>> = recent.drain(..CACHE_LIMIT / 64).collect();
        drop(recent);
        self.evict(oldest);
    }

    /// Forgets every cached entry that nobody uses: before an unmount.
    pub(crate) fn shrink(&self) {
        loop {
            let all: Vec<Weak<Dentry>> = self.recent.lock().drain(..).collect();
            let before = all.len();
            self.evict(all);
            if self.recent.lock().len() >= before {
                return;
            }
        }
    }

    fn evict(&self, candidates: Vec<Weak<Dentry>>) {
        for weak in candidates {
            let Some(dentry) = weak.upgrade() else { continue };
            if !dentry.forget_if_unused() && !dentry.is_deleted() {
                self.recent.lock().push_back(weak);
            }
        }
    }
}

//! Who watches an inode (inotify(7)), and how changes reach them. Costs one atomic load where nobody watches a filesystem.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::inotify::{IN_ISDIR, IN_MOVE_SELF, IN_MOVED_FROM, IN_MOVED_TO};

use crate::sync::{Mutex, Rank};
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::Inode;

/// Somebody who watches an inode. Called without VFS locks.
pub trait Watcher: Send + Sync {
    /// Something happened to the inode itself (`name` empty) or to an entry of it. `cookie` ties the two halves of a rename.
    fn event(&self, mask: u32, cookie: u32, name: &[u8]);
}

/// The watches of one filesystem. Watchers keep their inode alive, so its address names it.
pub struct Watches {
    count: AtomicUsize,
    by_inode: Mutex<HashMap<usize, Vec<Weak<dyn Watcher>>>>,
}

impl Default for Watches {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), by_inode: Mutex::new(Rank::LEAF, HashMap::new()) }
    }
}

fn key(inode: &Arc<dyn Inode>) -> usize {
    Arc::as_ptr(inode).cast::<()>() as usize
}

impl Watches {
    /// Adds a watcher.
    pub(crate) fn add(&self, inode: &Arc<dyn Inode>, watcher: Weak<dyn Watcher>) {
        self.by_inode.lock().entry(key(inode)).or_default().push(watcher);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Removes a watcher.
    pub(crate) fn remove(&self, inode: &Arc<dyn Inode>, watcher: &Weak<dyn Watcher>) {
        let mut by_inode = self.by_inode.lock();
        let Some(watchers) = by_inode.get_mut(&key(inode)) else { return };
        let before = watchers.len();
        watchers.retain(|w| !Weak::ptr_eq(w, watcher));
        self.count.fetch_sub(before - watchers.len(), Ordering::Release);
        if watchers.is_empty() {
            by_inode.remove(&key(inode));
        }
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn tell(&self, inode: &Arc<dyn Inode>, mask: u32, cookie: u32, name: &[u8]) {
        let watchers = self.by_inode.lock().get(&key(inode)).cloned().unwrap_or_default();
        for watcher in watchers.iter().filter_map(Weak::upgrade) {
            watcher.event(mask, cookie, name);
        }
    }
}

fn dir_bit(is_dir: bool) -> u32 {
    if is_dir { IN_ISDIR } else { 0 }
}

/// Something happened to a file: its watchers and those of its directory hear of it.
pub(crate) fn file_event(dentry: &Arc<Dentry>, mask: u32) {
    let watches = dentry.superblock().watches();
    if watches.is_empty() {
        return;
    }
    let mask = mask | dir_bit(dentry.is_dir());
    if let Some(parent) = dentry.parent() {
        watches.tell(parent.inode(), mask, 0, &dentry.name());
    }
    watches.tell(dentry.inode(), mask, 0, &[]);
}

/// Something happened to the entry `name` of a directory.
pub(crate) fn entry_event(dir: &Arc<Dentry>, name: &[u8], is_dir: bool, mask: u32) {
    let watches = dir.superblock().watches();
    if !watches.is_empty() {
        watches.tell(dir.inode(), mask | dir_bit(is_dir), 0, name);
    }
}

/// Something happened to an inode that its directory hears of otherwise.
pub(crate) fn self_event(dentry: &Arc<Dentry>, mask: u32) {
    let watches = dentry.superblock().watches();
    if !watches.is_empty() {
        watches.tell(dentry.inode(), mask, 0, &[]);
    }
}

/// An entry moved.
pub(crate) fn move_event(
    from: (&Arc<Dentry>, &[u8]),
    to: (&Arc<Dentry>, &[u8]),
    moved: &Arc<Dentry>,
) {
    static COOKIES: AtomicU32 = AtomicU32::new(1);
    let watches = from.0.superblock().watches();
    if watches.is_empty() {
        return;
    }
    let cookie = COOKIES.fetch_add(1, Ordering::Relaxed);
    let bit = dir_bit(moved.is_dir());
    watches.tell(from.0.inode(), IN_MOVED_FROM | bit, cookie, from.1);
    watches.tell(to.0.inode(), IN_MOVED_TO | bit, cookie, to.1);
    watches.tell(moved.inode(), IN_MOVE_SELF, 0, &[]);
}

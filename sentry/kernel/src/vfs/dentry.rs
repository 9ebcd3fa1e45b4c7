//! Directory entries and their cache: present ones, absent ones, and how changes keep both true.
//!
//! A parent keeps its present children alive until they are evicted; a child keeps its parent alive.
//! The children lock of a directory is held across the filesystem's own change, so cache and directory agree.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_abi::inotify::{IN_ATTRIB, IN_CREATE, IN_DELETE, IN_DELETE_SELF};

use crate::error::Result;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::vfs::inode::{FileType, Inode, NewNode, RenameFlags};
use crate::vfs::superblock::SuperBlock;
use crate::vfs::watch;

/// Absent and unstable names kept for one directory.
const SIDE_LIMIT: usize = 1024;

/// A name in a directory, with the inode it leads to.
pub struct Dentry {
    superblock: Arc<SuperBlock>,
    inode: Arc<dyn Inode>,
    place: Mutex<Place>,
    children: Mutex<Children>,
    mounts: AtomicU32,
    deleted: AtomicBool,
}

struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
}

enum Child {
    Present(Arc<Dentry>),
    /// Of a directory whose entries change by themselves: found again only while somebody uses it.
    Unstable(Weak<Dentry>),
    Absent,
}

#[derive(Default)]
struct Children {
    by_name: HashMap<Box<[u8]>, Child>,
    /// Entries that are not `Present`.
    side: usize,
}

impl Children {
    fn put(&mut self, name: &[u8], child: Child) -> Option<Child> {
        if !matches!(child, Child::Present(_)) {
            if self.side >= SIDE_LIMIT {
                self.by_name.retain(|_, c| match c {
                    Child::Present(_) => true,
                    Child::Unstable(weak) => weak.strong_count() > 0,
                    Child::Absent => false,
                });
            }
            self.side = if self.side >= SIDE_LIMIT { 0 } else { self.side + 1 };
        }
        self.by_name.insert(name.into(), child)
    }

    fn take(&mut self, name: &[u8]) -> Option<Arc<Dentry>> {
        match self.by_name.remove(name)? {
            Child::Present(dentry) => Some(dentry),
            Child::Unstable(weak) => weak.upgrade(),
            Child::Absent => None,
        }
    }

    fn known(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        match self.by_name.get(name)? {
            Child::Present(dentry) => Some(dentry.clone()),
            Child::Unstable(weak) => weak.upgrade(),
            Child::Absent => None,
        }
    }
}

impl Dentry {
    /// A filesystem's root: without name and parent.
    pub fn root(superblock: &Arc<SuperBlock>) -> Arc<Self> {
        Self::build(superblock.clone(), superblock.filesystem().root(), Vec::new(), None)
    }

    /// An entry without a directory: a pipe, an unnamed file. `name` is what /proc/PID/fd shows.
    pub fn nameless(superblock: &Arc<SuperBlock>, inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Self> {
        Self::build(superblock.clone(), inode, name.to_vec(), None)
    }

    /// An entry of `parent` that the cache does not know and that counts as deleted: an O_TMPFILE.
    pub(crate) fn unnamed_in(parent: &Arc<Self>, inode: Arc<dyn Inode>) -> Arc<Self> {
        let name = format!("#{}", inode.attributes().map_or(0, |a| a.ino)).into_bytes();
        let dentry = Self::build(parent.superblock.clone(), inode, name, Some(parent.clone()));
        dentry.deleted.store(true, Ordering::Release);
        dentry
    }

    fn build(
        superblock: Arc<SuperBlock>,
        inode: Arc<dyn Inode>,
        name: Vec<u8>,
        parent: Option<Arc<Dentry>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            superblock,
            inode,
            place: Mutex::new(Rank::LEAF, Place { name, parent }),
            children: Mutex::new(Rank::DENTRY, Children::default()),
            mounts: AtomicU32::new(0),
            deleted: AtomicBool::new(false),
        })
    }

    fn new_child(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::build(self.superblock.clone(), inode, name.to_vec(), Some(self.clone()))
    }

    /// What it leads to.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The filesystem's state.
    pub fn superblock(&self) -> &Arc<SuperBlock> {
        &self.superblock
    }

    /// Its last component; empty for a root.
    pub fn name(&self) -> Vec<u8> {
        self.place.lock().name.clone()
    }

    /// The directory that holds it; `None` for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// True after its name was removed.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// True for directories.
    pub fn is_dir(&self) -> bool {
        self.inode.file_type() == FileType::Directory
    }

    /// True where some mount covers it.
    pub fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Acquire) > 0
    }

    pub(crate) fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn remove_mount(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }

    /// True where `self` is `other` or lies above it.
    pub fn is_ancestor_of(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(self, &dentry) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// The entry `name` of this directory, or `None` where it is absent.
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        if self.inode.entries_are_stable() {
            self.lookup_stable(name)
        } else {
            self.lookup_unstable(name)
        }
    }

    fn lookup_stable(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        let mut children = self.children.lock();
        match children.by_name.get(name) {
            Some(Child::Present(dentry)) => return Ok(Some(dentry.clone())),
            Some(Child::Absent) => return Ok(None),
            Some(Child::Unstable(_)) | None => {}
        }
        if self.is_deleted() {
            return Ok(None);
        }
        match self.inode.lookup(name) {
            Ok(inode) => {
                let dentry = self.new_child(name, inode);
                children.put(name, Child::Present(dentry.clone()));
                drop(children);
                self.superblock.note(&dentry);
                Ok(Some(dentry))
            }
            Err(e) if e.is(Errno::ENOENT) => {
                children.put(name, Child::Absent);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// The filesystem is asked without our lock: it may look at tasks, which come earlier in the lock order.
    fn lookup_unstable(self: &Arc<Self>, name: &[u8]) -> Result<Option<Arc<Dentry>>> {
        let inode = match self.inode.lookup(name) {
            Ok(inode) => inode,
            Err(e) if e.is(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut children = self.children.lock();
        if let Some(known) = children.known(name)
            && Arc::ptr_eq(&known.inode, &inode)
        {
            return Ok(Some(known));
        }
        let dentry = self.new_child(name, inode);
        children.put(name, Child::Unstable(Arc::downgrade(&dentry)));
        Ok(Some(dentry))
    }

    fn keep(
        self: &Arc<Self>,
        children: &mut Children,
        name: &[u8],
        inode: Arc<dyn Inode>,
    ) -> Arc<Dentry> {
        let dentry = self.new_child(name, inode);
        let child = if self.inode.entries_are_stable() {
            Child::Present(dentry.clone())
        } else {
            Child::Unstable(Arc::downgrade(&dentry))
        };
        children.put(name, child);
        dentry
    }

    /// Makes an entry. Errors: EEXIST, ENOENT in a deleted directory, and the filesystem's.
    pub(crate) fn create(self: &Arc<Self>, name: &[u8], node: &NewNode<'_>) -> Result<Arc<Dentry>> {
        let mut children = self.children.lock();
        self.check_new(&children, name)?;
        let inode = self.inode.create(name, node)?;
        let dentry = self.keep(&mut children, name, inode);
        drop(children);
        self.superblock.note(&dentry);
        watch::entry_event(self, name, dentry.is_dir(), IN_CREATE);
        Ok(dentry)
    }

    /// Makes another name for `target`.
    pub(crate) fn link(self: &Arc<Self>, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let mut children = self.children.lock();
        self.check_new(&children, name)?;
        self.inode.link(name, target)?;
        children.by_name.remove(name);
        drop(children);
        watch::entry_event(self, name, false, IN_CREATE);
        Ok(())
    }

    fn check_new(&self, children: &Children, name: &[u8]) -> Result<()> {
        if self.is_deleted() {
            return Err(Errno::ENOENT.into());
        }
        match children.by_name.get(name) {
            Some(Child::Present(_)) => Err(Errno::EEXIST.into()),
            _ => Ok(()),
        }
    }

    /// Removes an entry that is no directory.
    pub(crate) fn unlink(self: &Arc<Self>, name: &[u8]) -> Result<()> {
        let mut children = self.children.lock();
        self.inode.unlink(name)?;
        let gone = Self::forget_removed(&mut children, name);
        drop(children);
        self.tell_removed(name, gone, false);
        Ok(())
    }

    /// Removes an empty directory.
    pub(crate) fn rmdir(self: &Arc<Self>, name: &[u8]) -> Result<()> {
        let mut children = self.children.lock();
        self.inode.rmdir(name)?;
        let gone = Self::forget_removed(&mut children, name);
        drop(children);
        self.tell_removed(name, gone, true);
        Ok(())
    }

    fn tell_removed(self: &Arc<Self>, name: &[u8], gone: Option<Arc<Dentry>>, was_dir: bool) {
        watch::entry_event(self, name, was_dir, IN_DELETE);
        if let Some(gone) = gone {
            Self::tell_gone(&gone);
        }
    }

    /// One name less is news of the inode itself; the last one is its end.
    fn tell_gone(gone: &Arc<Dentry>) {
        if !gone.is_dir() {
            watch::self_event(gone, IN_ATTRIB);
        }
        watch::self_event(gone, IN_DELETE_SELF);
    }

    fn forget_removed(children: &mut Children, name: &[u8]) -> Option<Arc<Dentry>> {
        let gone = children.take(name);
        if let Some(gone) = &gone {
            gone.deleted.store(true, Ordering::Release);
        }
        gone
    }

    /// Moves `name` to `new_name` in `new_dir`. The caller holds the filesystem's rename lock and has checked the rules.
    pub(crate) fn rename(
        self: &Arc<Self>,
        name: &[u8],
        new_dir: &Arc<Self>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        let (mut old, mut new) = lock_two(self, new_dir);
        self.inode.rename(name, &new_dir.inode, new_name, flags)?;
        let moved = old.take(name);
        let target = new.as_mut().unwrap_or(&mut old).take(new_name);
        if let Some(moved) = &moved {
            moved.settle(new_dir, new_name, new.as_mut().unwrap_or(&mut old));
        }
        if flags.contains(RenameFlags::EXCHANGE) {
            if let Some(target) = &target {
                target.settle(self, name, &mut old);
            }
        } else if let Some(target) = &target {
            target.deleted.store(true, Ordering::Release);
        }
        drop((old, new));
        if let Some(moved) = &moved {
            watch::move_event((self, name), (new_dir, new_name), moved);
        }
        match &target {
            Some(target) if flags.contains(RenameFlags::EXCHANGE) => {
                watch::move_event((new_dir, new_name), (self, name), target);
            }
            Some(target) => Self::tell_gone(target),
            None => {}
        }
        Ok(())
    }

    fn settle(self: &Arc<Self>, dir: &Arc<Dentry>, name: &[u8], children: &mut Children) {
        let old_parent = {
            let mut place = self.place.lock();
            place.name = name.to_vec();
            place.parent.replace(dir.clone())
        };
        let child = if dir.inode.entries_are_stable() {
            Child::Present(self.clone())
        } else {
            Child::Unstable(Arc::downgrade(self))
        };
        children.put(name, child);
        drop(old_parent);
    }

    /// Drops it from its parent's cache where only the cache and the caller hold it. True where it is gone.
    pub(crate) fn forget_if_unused(self: &Arc<Self>) -> bool {
        let Some(parent) = self.parent() else { return true };
        let mut children = parent.children.lock();
        // Two holders: the parent's map and the caller. New ones come only through the map, whose lock we hold.
        if Arc::strong_count(self) > 2 || self.is_mount_point() {
            return false;
        }
        let name = self.name();
        let ours = matches!(children.by_name.get(&name[..]), Some(Child::Present(d)) if Arc::ptr_eq(d, self));
        let gone = if ours { children.by_name.remove(&name[..]) } else { None };
        drop(children);
        drop(gone);
        true
    }
}

type Guard<'a> = MutexGuard<'a, Children>;

/// Locks the children of two directories in the order of their addresses; one lock where they are the same.
fn lock_two<'a>(a: &'a Arc<Dentry>, b: &'a Arc<Dentry>) -> (Guard<'a>, Option<Guard<'a>>) {
    if Arc::ptr_eq(a, b) {
        (a.children.lock(), None)
    } else if Arc::as_ptr(a) < Arc::as_ptr(b) {
        let first = a.children.lock();
        (first, Some(b.children.lock()))
    } else {
        let second = b.children.lock();
        (a.children.lock(), Some(second))
    }
}

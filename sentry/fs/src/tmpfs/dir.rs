//! Directories of tmpfs: entries by name and in order of creation; making and removing names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::io::Sink;
use sentry_kernel::vfs::{DirEntry, DirSink, FileType, NewNode};

use super::node::{Content, Node};

/// First position of a real entry: 0 is `.`, 1 is `..`.
const FIRST: u64 = 2;
/// Entries copied out of a directory at a time.
const BATCH: usize = 64;

/// A directory's entries. A position belongs to one entry for as long as that exists, and is never used again.
#[derive(Default)]
pub(super) struct Directory {
    by_name: HashMap<Arc<[u8]>, (u64, Arc<Node>)>,
    by_position: BTreeMap<u64, Arc<[u8]>>,
    last: u64,
    /// The directory that holds this one; dangling for a root.
    pub(super) parent: Weak<Node>,
    /// Removed: nothing can be made in it any more.
    pub(super) dead: bool,
}

impl Directory {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<Node>> {
        self.by_name.get(name).map(|(_, node)| node.clone())
    }

    /// Adds an entry at the end of the listing; the caller has checked that the name is free.
    pub(super) fn insert(&mut self, name: &[u8], node: Arc<Node>) {
        self.last = self.last.max(FIRST - 1) + 1;
        let name: Arc<[u8]> = name.into();
        self.by_position.insert(self.last, name.clone());
        self.by_name.insert(name, (self.last, node));
    }

    /// Puts another node behind a name; its position stays.
    pub(super) fn replace(&mut self, name: &[u8], node: Arc<Node>) -> Option<Arc<Node>> {
        let entry = self.by_name.get_mut(name)?;
        Some(std::mem::replace(&mut entry.1, node))
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Node>> {
        let (position, node) = self.by_name.remove(name)?;
        self.by_position.remove(&position);
        Some(node)
    }

    /// Empties it, for the end of the filesystem.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Node>> {
        self.by_position.clear();
        self.by_name.drain().map(|(_, (_, node))| node).collect()
    }

    /// The next entries at or after `from`.
    fn batch(&self, from: u64) -> Vec<(u64, Arc<[u8]>, u64, FileType)> {
        let entries = self.by_position.range(from..).take(BATCH);
        entries
            .filter_map(|(&position, name)| {
                let (_, node) = self.by_name.get(name)?;
                Some((position, name.clone(), node.ino, node.file_type))
            })
            .collect()
    }
}

impl Node {
    /// Makes a node with a name. Errors: EEXIST, ENOENT (removed directory), ENOSPC.
    pub(super) fn make(&self, name: &[u8], new: &NewNode<'_>) -> Result<Arc<Node>> {
        let _names = self.shared.names.lock();
        self.check_free(name)?;
        let node = Node::new(&self.shared, new)?;
        node.set_parent(&self.this);
        self.directory()?.insert(name, node.clone());
        self.touch();
        if node.is_dir() {
            self.relink(1);
        }
        Ok(node)
    }

    fn check_free(&self, name: &[u8]) -> Result<()> {
        let directory = self.directory()?;
        if directory.dead {
            return Err(Errno::ENOENT.into());
        }
        if directory.find(name).is_some() {
            return Err(Errno::EEXIST.into());
        }
        Ok(())
    }

    /// Another name for a node. Errors: EEXIST, ENOENT, EPERM, EMLINK.
    pub(super) fn add_name(&self, name: &[u8], node: &Arc<Node>) -> Result<()> {
        let _names = self.shared.names.lock();
        if node.is_dir() {
            return Err(Errno::EPERM.into());
        }
        self.check_free(name)?;
        let nlink = node.meta().nlink;
        let first = match &node.content {
            Content::Regular(file) => file.take_first_link(),
            _ => false,
        };
        if nlink == 0 && !first {
            return Err(Errno::ENOENT.into());
        }
        if nlink >= u64::from(u32::MAX) {
            return Err(Errno::EMLINK.into());
        }
        self.directory()?.insert(name, node.clone());
        node.relink(1);
        self.touch();
        Ok(())
    }

    /// unlink(2). Errors: ENOENT, EISDIR.
    pub(super) fn remove_name(&self, name: &[u8]) -> Result<()> {
        let _names = self.shared.names.lock();
        let node = self.directory()?.find(name).ok_or(Errno::ENOENT)?;
        if node.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        self.directory()?.remove(name);
        node.relink(-1);
        self.touch();
        Ok(())
    }

    /// rmdir(2). Errors: ENOENT, ENOTDIR, ENOTEMPTY.
    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let _names = self.shared.names.lock();
        let node = self.directory()?.find(name).ok_or(Errno::ENOENT)?;
        node.bury()?;
        self.directory()?.remove(name);
        self.relink(-1);
        self.touch();
        Ok(())
    }

    /// Declares an empty directory removed. The caller holds the lock of names. Errors: ENOTDIR, ENOTEMPTY.
    pub(super) fn bury(&self) -> Result<()> {
        let mut directory = self.directory()?;
        if directory.len() > 0 {
            return Err(Errno::ENOTEMPTY.into());
        }
        directory.dead = true;
        drop(directory);
        self.relink(-2);
        Ok(())
    }

    /// Tells a directory who holds it now; nothing for other nodes.
    pub(super) fn set_parent(&self, parent: &Weak<Node>) {
        if let Ok(mut directory) = self.directory() {
            directory.parent = parent.clone();
        }
    }
}

/// An open directory.
pub(super) struct OpenDirectory(pub(super) Arc<Node>);

impl FileOps for OpenDirectory {
    fn read(&self, _: u64, _: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EISDIR.into())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(i64::MAX as u64)
    }

    fn read_dir(&self, from: u64, sink: &mut DirSink<'_>) -> Result<()> {
        let (dead, parent) = {
            let directory = self.0.directory()?;
            (directory.dead, directory.parent.upgrade())
        };
        if dead {
            return Err(Errno::ENOENT.into());
        }
        let file_type = FileType::Directory;
        let parent = parent.map_or(self.0.ino, |parent| parent.ino);
        let dots: [(&[u8], u64); 2] = [(b".", self.0.ino), (b"..", parent)];
        for (next, (name, ino)) in (1..).zip(dots).skip(from.min(FIRST) as usize) {
            if !sink(&DirEntry { name, ino, file_type, next }) {
                return Ok(());
            }
        }
        let mut from = from.max(FIRST);
        loop {
            let batch = self.0.directory()?.batch(from);
            if batch.is_empty() {
                break;
            }
            for (position, name, ino, file_type) in batch {
                from = position + 1;
                if !sink(&DirEntry { name: &name, ino, file_type, next: from }) {
                    return Ok(());
                }
            }
        }
        let now = self.0.shared.services.now();
        self.0.meta().atime = now;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

//! A place in the tree of mounts: a directory entry on a mount.

use std::sync::Arc;

use crate::vfs::dentry::Dentry;
use crate::vfs::inode::{FileType, Inode};
use crate::vfs::mount::Mount;

/// A directory entry on a mount.
#[derive(Clone)]
pub struct Path {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The entry.
    pub dentry: Arc<Dentry>,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}

impl Path {
    /// What it leads to.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// What it is.
    pub fn file_type(&self) -> FileType {
        self.inode().file_type()
    }

    /// Identity of the file behind it: the same for every name of one inode (filesystem instance, inode number).
    pub fn identity(&self) -> (u64, u64) {
        (self.dentry.superblock().id(), self.inode().attributes().map_or(0, |a| a.ino))
    }

    /// The directory above it, crossing mounts downwards; itself at `root` and at the top of everything.
    pub fn parent(&self, root: &Path) -> Path {
        let mut at = self.clone();
        loop {
            if at == *root {
                return at;
            }
            if !Arc::ptr_eq(&at.dentry, at.mount.root()) {
                return match at.dentry.parent() {
                    Some(dentry) => crate::vfs::mount::top_at(Path { mount: at.mount, dentry }),
                    None => at,
                };
            }
            match at.mount.attached() {
                Some(below) => at = below,
                None => return at,
            }
        }
    }

    /// The path as bytes seen from `root`, as getcwd(2) and /proc/PID/fd show it: with ` (deleted)` after a removed name.
    /// `Err` holds the bytes of a place that cannot be reached from `root` (getcwd puts `(unreachable)` before it).
    pub fn to_bytes_from(&self, root: &Path) -> core::result::Result<Vec<u8>, Vec<u8>> {
        if self.dentry.superblock().is_nameless() {
            return Ok(self.dentry.name());
        }
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = self.clone();
        let reached = loop {
            if at == *root {
                break true;
            }
            if Arc::ptr_eq(&at.dentry, at.mount.root()) {
                match at.mount.attached() {
                    Some(below) => at = below,
                    None => break false,
                }
                continue;
            }
            parts.push(at.dentry.name());
            match at.dentry.parent() {
                Some(parent) => at.dentry = parent,
                None => break false,
            }
        };
        let mut bytes = Vec::new();
        for part in parts.iter().rev() {
            bytes.push(b'/');
            bytes.extend_from_slice(part);
        }
        if bytes.is_empty() {
            bytes.push(b'/');
        }
        if self.dentry.is_deleted() {
            bytes.extend_from_slice(b" (deleted)");
        }
        if reached { Ok(bytes) } else { Err(bytes) }
    }

    /// [`Self::to_bytes_from`], reachable or not.
    pub fn to_bytes(&self, root: &Path) -> Vec<u8> {
        self.to_bytes_from(root).unwrap_or_else(|bytes| bytes)
    }
}

//! The inode of tmpfs: attributes and content of any type of file.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::sync::{Mutex, MutexGuard, Rank};
use sentry_kernel::vfs::{
    Attributes, Change, FileSystem, FileType, Inode, NewNode, OpenFlags, RenameFlags, Timespec,
};

use super::dir::{Directory, OpenDirectory};
use super::file::{OpenFile, RegularFile};
use super::{Shared, Tmpfs};
use crate::pages::PAGE;

/// XATTR_CREATE: fail where the attribute exists.
const XATTR_CREATE: u32 = 1;
/// XATTR_REPLACE: fail where it does not.
const XATTR_REPLACE: u32 = 2;
/// Bytes of extended attributes of one inode at most.
const XATTR_BYTES_MAX: usize = 128 << 10;

/// Attributes that change.
pub(super) struct Meta {
    pub(super) permissions: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u64,
    pub(super) atime: Timespec,
    pub(super) mtime: Timespec,
    pub(super) ctime: Timespec,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an inode holds.
pub(super) enum Content {
    Directory(Mutex<Directory>),
    Regular(RegularFile),
    Symlink(Box<[u8]>),
    /// Device nodes, fifos and sockets: what they do is the kernel's business.
    Special,
}

/// An inode of tmpfs.
pub struct Node {
    pub(super) this: Weak<Node>,
    pub(super) shared: Arc<Shared>,
    pub(super) ino: u64,
    pub(super) file_type: FileType,
    rdev: u64,
    btime: Timespec,
    meta: Mutex<Meta>,
    pub(super) content: Content,
}

impl Node {
    /// An inode without a name yet but with the link count that its first name gives it. Errors: ENOSPC.
    pub(super) fn new(shared: &Arc<Shared>, new: &NewNode<'_>) -> Result<Arc<Self>> {
        Ok(Self::with_ino(shared, shared.new_ino()?, new))
    }

    fn with_ino(shared: &Arc<Shared>, ino: u64, new: &NewNode<'_>) -> Arc<Self> {
        let now = shared.services.now();
        let content = match new.file_type {
            FileType::Directory => {
                Content::Directory(Mutex::new(Rank::INODE, Directory::default()))
            }
            FileType::Regular => Content::Regular(RegularFile::new(shared)),
            FileType::Symlink => Content::Symlink(new.target.into()),
            _ => Content::Special,
        };
        let meta = Meta {
            permissions: if new.file_type == FileType::Symlink { 0o777 } else { new.permissions },
            uid: new.uid,
            gid: new.gid,
            nlink: if new.file_type == FileType::Directory { 2 } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: BTreeMap::new(),
        };
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            shared: shared.clone(),
            ino,
            file_type: new.file_type,
            rdev: new.rdev,
            btime: now,
            meta: Mutex::new(Rank::INODE, meta),
            content,
        })
    }

    pub(super) fn meta(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock()
    }

    /// The node behind an inode of this very filesystem. Errors: EXDEV.
    pub(super) fn of(&self, inode: &Arc<dyn Inode>) -> Result<Arc<Node>> {
        let any: Arc<dyn core::any::Any + Send + Sync> = inode.clone();
        let node = any.downcast::<Node>().map_err(|_| Errno::EXDEV)?;
        if Arc::ptr_eq(&node.shared, &self.shared) { Ok(node) } else { Err(Errno::EXDEV.into()) }
    }

    /// The directory's content. Errors: ENOTDIR.
    pub(super) fn directory(&self) -> Result<MutexGuard<'_, Directory>> {
        match &self.content {
            Content::Directory(directory) => Ok(directory.lock()),
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    /// True for a directory.
    pub(super) fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Marks content and inode as changed now.
    pub(super) fn touch(&self) {
        let now = self.shared.services.now();
        let mut meta = self.meta();
        (meta.mtime, meta.ctime) = (now, now);
    }

    /// Marks the inode as changed now and its link count by `delta`.
    pub(super) fn relink(&self, delta: i64) {
        let now = self.shared.services.now();
        let mut meta = self.meta();
        meta.nlink = meta.nlink.saturating_add_signed(delta);
        meta.ctime = now;
    }

    fn size(&self) -> u64 {
        match &self.content {
            // Linux counts 20 bytes an entry, also for `.` and `..`.
            Content::Directory(directory) => 20 * (directory.lock().len() as u64 + 2),
            Content::Regular(file) => file.pages.size(),
            Content::Symlink(target) => target.len() as u64,
            Content::Special => 0,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.inodes.fetch_sub(1, Ordering::Relaxed);
        // A deep tree must not be dropped by recursion: a program chooses its depth.
        let Content::Directory(directory) = &mut self.content else { return };
        let mut pending = directory.get_mut().take_all();
        while let Some(node) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(node)
                && let Content::Directory(directory) = &mut node.content
            {
                pending.extend(directory.get_mut().take_all());
            }
        }
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let size = self.size();
        let blocks = match &self.content {
            Content::Regular(file) => file.pages.resident_pages() * (PAGE / 512),
            _ => 0,
        };
        let meta = self.meta();
        Ok(Attributes {
            dev: self.shared.dev,
            ino: self.ino,
            file_type: self.file_type,
            permissions: meta.permissions,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev: self.rdev,
            size,
            block_size: PAGE as u32,
            blocks,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: Some(self.btime),
        })
    }

    fn file_type(&self) -> FileType {
        self.file_type
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        if let Some(filesystem) = self.shared.filesystem.lock().upgrade() {
            return filesystem;
        }
        // The mount is gone and an open file outlives it: a filesystem with an empty root stands for it.
        self.shared.inodes.fetch_add(1, Ordering::Relaxed);
        let (file_type, permissions, target) = (FileType::Directory, 0o755, b"");
        let root = NewNode { file_type, permissions, uid: 0, gid: 0, rdev: 0, target };
        let root = Node::with_ino(&self.shared, 0, &root);
        Arc::new(Tmpfs { shared: self.shared.clone(), root })
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        if let Some(size) = change.size {
            match &self.content {
                Content::Regular(file) => file.resize(size)?,
                Content::Directory(_) => return Err(Errno::EISDIR.into()),
                _ => return Err(Errno::EINVAL.into()),
            }
        }
        let now = self.shared.services.now();
        let mut meta = self.meta();
        if change.size.is_some() {
            meta.mtime = now;
        }
        meta.permissions = change.permissions.map_or(meta.permissions, |bits| bits & 0o7777);
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        if let Some(time) = change.atime {
            meta.atime = self.shared.services.resolve(time);
        }
        if let Some(time) = change.mtime {
            meta.mtime = self.shared.services.resolve(time);
        }
        meta.ctime = now;
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.directory()?.find(name).ok_or(Errno::ENOENT)?;
        Ok(found)
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.make(name, node)?)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        drop(self.directory()?);
        let node = Node::new(&self.shared, node)?;
        node.meta().nlink = 0;
        if let Content::Regular(file) = &node.content {
            file.allow_first_link();
        }
        Ok(node)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.add_name(name, &self.of(target)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_name(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_directory(name)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        self.move_name(name, &self.of(new_dir)?, new_name, flags)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn open(self: Arc<Self>, flags: OpenFlags, creds: &Credentials) -> Result<Arc<dyn FileOps>> {
        match &self.content {
            Content::Regular(_) => {
                if flags.contains(OpenFlags::TRUNC) {
                    self.set_attributes(&Change { size: Some(0), ..Change::default() })?;
                }
                Ok(Arc::new(OpenFile::new(self, flags, creds)))
            }
            Content::Directory(_) => Ok(Arc::new(OpenDirectory(self))),
            Content::Symlink(_) => Err(Errno::ELOOP.into()),
            Content::Special => Err(Errno::ENXIO.into()),
        }
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        supported(name)?;
        self.meta().xattrs.get(name).cloned().ok_or(Errno::ENODATA.into())
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        supported(name)?;
        let now = self.shared.services.now();
        let mut meta = self.meta();
        match meta.xattrs.contains_key(name) {
            true if flags & XATTR_CREATE != 0 => return Err(Errno::EEXIST.into()),
            false if flags & XATTR_REPLACE != 0 => return Err(Errno::ENODATA.into()),
            _ => {}
        }
        let others = meta.xattrs.iter().filter(|(known, _)| *known != name);
        let used: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if used + name.len() + value.len() > XATTR_BYTES_MAX {
            return Err(Errno::ENOSPC.into());
        }
        meta.xattrs.insert(name.to_vec(), value.to_vec());
        meta.ctime = now;
        Ok(())
    }

    fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.meta().xattrs.keys().cloned().collect())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        supported(name)?;
        let now = self.shared.services.now();
        let mut meta = self.meta();
        meta.xattrs.remove(name).ok_or(Errno::ENODATA)?;
        meta.ctime = now;
        Ok(())
    }
}

/// Names that tmpfs stores: user.*, trusted.*, security.*. Errors: EOPNOTSUPP (also for POSIX ACLs).
fn supported(name: &[u8]) -> Result<()> {
    let known: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    match known.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len()) {
        true => Ok(()),
        false => Err(Errno::EOPNOTSUPP.into()),
    }
}

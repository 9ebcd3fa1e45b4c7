//! Files without a place in any tree: pipes, memfds, descriptors of the host, and what stands for sockets and eventfds in /proc/PID/fd.

use std::sync::{Arc, LazyLock};

use sentry_abi::Errno;

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::description::anonymous_attributes;
use crate::file::ops::FileOps;
use crate::vfs::{
    Attributes, Dentry, FileSystem, FileType, FsStat, Inode, Mount, MountFlags, OpenFlags, Path,
    SuperBlock,
};

/// The filesystem that such inodes say they are of.
pub(crate) fn filesystem() -> Arc<dyn FileSystem> {
    Arc::new(Nameless)
}

/// A path for an inode that has no place in any tree (a pipe, a memfd), so that it can be opened again through /proc/PID/fd.
pub fn nameless_path(inode: Arc<dyn Inode>, name: &[u8]) -> Path {
    static MOUNT: LazyLock<Arc<Mount>> = LazyLock::new(|| {
        let superblock = SuperBlock::nameless(Arc::new(Nameless));
        Mount::of(Dentry::root(&superblock), b"none", MountFlags::empty())
    });
    let mount = MOUNT.clone();
    let dentry = Dentry::nameless(mount.root().superblock(), inode, name);
    Path { mount, dentry }
}

/// A place that can be looked at but not opened: what stands for a socket or an eventfd in /proc/PID/fd.
pub(crate) fn anonymous_place(file_type: FileType, permissions: u32, ino: u64, name: &str) -> Path {
    nameless_path(Arc::new(AnonymousInode { file_type, permissions, ino }), name.as_bytes())
}

struct AnonymousInode {
    file_type: FileType,
    permissions: u32,
    ino: u64,
}

impl Inode for AnonymousInode {
    fn attributes(&self) -> Result<Attributes> {
        Ok(anonymous_attributes(self.file_type, self.permissions, self.ino))
    }

    fn file_type(&self) -> FileType {
        self.file_type
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        Arc::new(Nameless)
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO.into())
    }
}

/// The filesystem of what has no place in a tree.
struct Nameless;

struct NamelessRoot;

impl FileSystem for Nameless {
    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(NamelessRoot)
    }

    fn stat(&self) -> FsStat {
        // PIPEFS_MAGIC of linux/magic.h.
        FsStat {
            magic: 0x5049_5045,
            block_size: 4096,
            blocks: 0,
            blocks_free: 0,
            files: 0,
            files_free: 0,
            name_max: 255,
        }
    }

    fn type_name(&self) -> &'static str {
        "pipefs"
    }
}

impl Inode for NamelessRoot {
    fn attributes(&self) -> Result<Attributes> {
        Ok(anonymous_attributes(FileType::Directory, 0o555, 1))
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        Arc::new(Nameless)
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO.into())
    }
}

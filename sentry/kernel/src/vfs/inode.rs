//! The traits of a filesystem: [`FsType`] creates a [`FileSystem`], which has [`Inode`]s. Defaults already answer the errno that Linux gives.

use core::any::Any;
use std::sync::Arc;

use bitflags::bitflags;
use sentry_abi::Errno;

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::FileOps;
use crate::vfs::path::Path;

/// What an inode is: the S_IFMT part of a mode (inode(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FileType {
    /// S_IFREG
    Regular,
    /// S_IFDIR
    Directory,
    /// S_IFLNK
    Symlink,
    /// S_IFCHR
    CharDevice,
    /// S_IFBLK
    BlockDevice,
    /// S_IFIFO
    Fifo,
    /// S_IFSOCK
    Socket,
}

impl FileType {
    /// The S_IFMT bits of `st_mode`.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010000,
            Self::CharDevice => 0o020000,
            Self::Directory => 0o040000,
            Self::BlockDevice => 0o060000,
            Self::Regular => 0o100000,
            Self::Symlink => 0o120000,
            Self::Socket => 0o140000,
        }
    }

    /// The type in the S_IFMT bits of `mode`, or `None` for bits that name none.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170000 {
            0o010000 => Self::Fifo,
            0o020000 => Self::CharDevice,
            0o040000 => Self::Directory,
            0o060000 => Self::BlockDevice,
            0o100000 => Self::Regular,
            0o120000 => Self::Symlink,
            0o140000 => Self::Socket,
            _ => return None,
        })
    }

    /// The DT_* value of getdents64(2).
    pub const fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// Seconds and nanoseconds since the epoch, as in a file's times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timespec {
    /// Seconds, may be negative.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nsec: u32,
}

/// What stat(2) and statx(2) tell of an inode.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// Device number of the filesystem, as makedev(3) encodes it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// What it is.
    pub file_type: FileType,
    /// Permission bits with set-uid, set-gid and sticky (07777).
    pub permissions: u32,
    /// Hard links.
    pub nlink: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Preferred I/O size in bytes.
    pub block_size: u32,
    /// Allocated 512-byte blocks.
    pub blocks: u64,
    /// Last access.
    pub atime: Timespec,
    /// Last modification of the content.
    pub mtime: Timespec,
    /// Last change of the inode.
    pub ctime: Timespec,
    /// Creation, where the filesystem knows it.
    pub btime: Option<Timespec>,
}

impl Attributes {
    /// `st_mode`.
    pub fn mode(&self) -> u32 {
        self.file_type.mode_bits() | self.permissions
    }
}

/// A time to set: utimensat(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// UTIME_NOW
    Now,
    /// This one.
    To(Timespec),
}

/// A change of attributes that the VFS has already permitted. `None` leaves a field.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Permission bits (07777).
    pub permissions: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes: truncate or extend with zeros.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
}

/// A node to make in a directory. Owner, group and permissions (umask applied) are settled by the VFS.
#[derive(Clone, Debug)]
pub struct NewNode<'a> {
    /// What to make.
    pub file_type: FileType,
    /// Permission bits (07777).
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for device nodes.
    pub rdev: u64,
    /// Target, for symbolic links.
    pub target: &'a [u8],
}

/// One entry of a directory listing.
#[derive(Clone, Debug)]
pub struct DirEntry<'a> {
    /// Name without slashes.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// What it is.
    pub file_type: FileType,
    /// Position after this entry: where a later listing goes on.
    pub next: u64,
}

/// Takes directory entries; `false` means it is full and this entry was not taken.
pub type DirSink<'a> = dyn FnMut(&DirEntry<'_>) -> bool + 'a;

bitflags! {
    /// Access that a permission check asks for, with the bits of access(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Access: u32 {
        /// X_OK: execute, or search a directory.
        const EXEC = 1;
        /// W_OK
        const WRITE = 2;
        /// R_OK
        const READ = 4;
    }

    /// Flags of open(2), with their x86-64 values.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OpenFlags: u32 {
        /// O_WRONLY
        const WRONLY = 0o1;
        /// O_RDWR
        const RDWR = 0o2;
        /// O_CREAT
        const CREAT = 0o100;
        /// O_EXCL
        const EXCL = 0o200;
        /// O_NOCTTY
        const NOCTTY = 0o400;
        /// O_TRUNC
        const TRUNC = 0o1000;
        /// O_APPEND
        const APPEND = 0o2000;
        /// O_NONBLOCK
        const NONBLOCK = 0o4000;
        /// O_DSYNC
        const DSYNC = 0o10000;
        /// FASYNC
        const ASYNC = 0o20000;
        /// O_DIRECT
        const DIRECT = 0o40000;
        /// O_LARGEFILE
        const LARGEFILE = 0o100000;
        /// O_DIRECTORY
        const DIRECTORY = 0o200000;
        /// O_NOFOLLOW
        const NOFOLLOW = 0o400000;
        /// O_NOATIME
        const NOATIME = 0o1000000;
        /// O_CLOEXEC
        const CLOEXEC = 0o2000000;
        /// The bit that O_SYNC adds to O_DSYNC.
        const SYNC_BIT = 0o4000000;
        /// O_PATH
        const PATH = 0o10000000;
        /// The bit that O_TMPFILE adds to O_DIRECTORY.
        const TMPFILE_BIT = 0o20000000;
    }

    /// Flags of renameat2(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RenameFlags: u32 {
        /// RENAME_NOREPLACE
        const NOREPLACE = 1;
        /// RENAME_EXCHANGE
        const EXCHANGE = 2;
        /// RENAME_WHITEOUT
        const WHITEOUT = 4;
    }
}

impl OpenFlags {
    /// True where the access mode lets a reader read.
    pub fn readable(self) -> bool {
        !self.contains(Self::WRONLY) && !self.contains(Self::PATH)
    }

    /// True where the access mode lets a writer write.
    pub fn writable(self) -> bool {
        self.intersects(Self::WRONLY | Self::RDWR) && !self.contains(Self::PATH)
    }
}

/// A node of a filesystem: file, directory, link, device, fifo or socket. Permission checks are done by the VFS before it calls.
///
/// Names are single components, never empty, `.`, `..` or longer than 255 bytes.
pub trait Inode: Any + Send + Sync {
    /// What stat(2) tells.
    fn attributes(&self) -> Result<Attributes>;

    /// What it is; never changes.
    fn file_type(&self) -> FileType;

    /// The filesystem that it belongs to.
    fn filesystem(&self) -> Arc<dyn FileSystem>;

    /// Changes attributes. Errors: EROFS, EPERM, EFBIG, ENOSPC.
    fn set_attributes(&self, change: &Change) -> Result<()> {
        let _ = change;
        Err(Errno::EPERM.into())
    }

    /// Finds a directory's entry. Errors: ENOENT, ENOTDIR.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let _ = name;
        Err(Errno::ENOTDIR.into())
    }

    /// True where the VFS may keep this directory's entries (also absent ones) until it changes them itself; false for proc and the like.
    fn entries_are_stable(&self) -> bool {
        true
    }

    /// Makes an entry. Errors: EEXIST, EROFS, ENOSPC, EPERM.
    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let _ = (name, node);
        Err(Errno::EPERM.into())
    }

    /// Makes an unnamed file (O_TMPFILE) that `link` may name later.
    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let _ = node;
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Makes another name for `target` (of the same filesystem). Errors: EEXIST, EMLINK, EPERM.
    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let _ = (name, target);
        Err(Errno::EPERM.into())
    }

    /// Removes an entry that is no directory. Errors: ENOENT, EISDIR, EROFS.
    fn unlink(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM.into())
    }

    /// Removes an empty directory. Errors: ENOENT, ENOTDIR, ENOTEMPTY, EROFS.
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM.into())
    }

    /// Moves the entry `name` to `new_name` in `new_dir` (same filesystem; the VFS has checked that no directory moves below itself).
    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        let _ = (name, new_dir, new_name, flags);
        Err(Errno::EPERM.into())
    }

    /// Target of a symbolic link. Errors: EINVAL where it is none.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL.into())
    }

    /// Where a magic link (/proc/PID/fd/N, cwd, exe, root) leads without a path walk, or `None` for ordinary links.
    fn magic_link(&self) -> Option<Result<Path>> {
        None
    }

    /// Opens it. The VFS has checked access and done O_CREAT, O_EXCL; the file itself does O_TRUNC through `set_attributes`.
    /// FIFOs, device numbers and sockets are resolved by the VFS through its registries before it comes to this.
    fn open(self: Arc<Self>, flags: OpenFlags, creds: &Credentials) -> Result<Arc<dyn FileOps>>;

    /// Replaces the VFS's own permission check (proc's fd directories and the like); `None` means the ordinary rules.
    fn permission(&self, access: Access, creds: &Credentials) -> Option<Result<()>> {
        let _ = (access, creds);
        None
    }

    /// Value of an extended attribute. Errors: ENODATA, EOPNOTSUPP.
    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let _ = name;
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Sets an extended attribute; `flags` are XATTR_CREATE and XATTR_REPLACE.
    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let _ = (name, value, flags);
        Err(Errno::EOPNOTSUPP.into())
    }

    /// Names of the extended attributes.
    fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// Removes an extended attribute. Errors: ENODATA, EOPNOTSUPP.
    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EOPNOTSUPP.into())
    }
}

/// What statfs(2) tells.
#[derive(Clone, Debug)]
pub struct FsStat {
    /// The filesystem's magic number.
    pub magic: u64,
    /// Block size in bytes.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_max: u64,
}

/// One mounted filesystem's state (a superblock).
pub trait FileSystem: Any + Send + Sync {
    /// The root directory.
    fn root(&self) -> Arc<dyn Inode>;

    /// What statfs(2) tells.
    fn stat(&self) -> FsStat;

    /// Type name as in /proc/mounts.
    fn type_name(&self) -> &'static str;

    /// Options as in /proc/mounts beyond ro/rw, such as `size=65536k`.
    fn options(&self) -> String {
        String::new()
    }
}

/// What mount(2) or boot hands to a filesystem's constructor.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// The source argument (a device or a name).
    pub source: Vec<u8>,
    /// The data argument: comma-separated options.
    pub data: Vec<u8>,
}

/// Makes a filesystem. A closure, since filesystems differ in what they need from boot: the memory file, the kernel, a directory of the host.
pub type FsCreate = Box<dyn Fn(&MountOptions) -> Result<Arc<dyn FileSystem>> + Send + Sync>;

/// A kind of filesystem: a row of the registry.
pub struct FsType {
    /// Name for mount(2) and /proc/filesystems.
    pub name: &'static str,
    /// True where a program may mount it itself.
    pub user_mountable: bool,
    /// Makes a filesystem. Errors: EINVAL for options it does not know.
    pub create: FsCreate,
}

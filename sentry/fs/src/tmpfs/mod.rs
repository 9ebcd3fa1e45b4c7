//! tmpfs: a filesystem that lives in memory. Regular files' pages lie in the memory file; directories list in order of creation with cookies that never change.

mod dir;
mod file;
mod node;
mod options;
mod rename;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::{FileSystem, FileType, FsStat, FsType, Inode, NewNode, OpenFlags};

pub use node::Node;
pub use options::{Bound, Options};

use crate::pages::{PAGE, Quota};
use crate::services::Services;

/// TMPFS_MAGIC (linux/magic.h).
const MAGIC: u64 = 0x0102_1994;
/// The longest name in bytes.
const NAME_MAX: u64 = 255;

/// What all nodes of one tmpfs share.
struct Shared {
    services: Services,
    dev: u64,
    next_ino: AtomicU64,
    pages: Arc<Quota>,
    inodes: AtomicU64,
    inodes_max: u64,
    options: Options,
    type_name: &'static str,
    /// Held by everything that changes names, before any directory's own lock.
    names: Mutex<()>,
    filesystem: Mutex<Weak<Tmpfs>>,
}

impl Shared {
    /// A number and a place for a new inode. Errors: ENOSPC.
    fn new_ino(&self) -> Result<u64> {
        let taken = self.inodes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            (used < self.inodes_max).then_some(used + 1)
        });
        taken.map_err(|_| Errno::ENOSPC)?;
        Ok(self.next_ino.fetch_add(1, Ordering::Relaxed))
    }
}

/// One tmpfs.
pub struct Tmpfs {
    shared: Arc<Shared>,
    root: Arc<Node>,
}

impl Tmpfs {
    /// An empty tmpfs.
    pub fn new(services: &Services, options: Options) -> Result<Arc<Self>> {
        Self::with_type(services, options, "tmpfs")
    }

    /// An empty tmpfs that calls itself `type_name` (devtmpfs, sysfs).
    pub fn with_type(
        services: &Services,
        options: Options,
        type_name: &'static str,
    ) -> Result<Arc<Self>> {
        let memory_pages = services.memory.limit_bytes().min(options::DEFAULT_MEMORY) / PAGE;
        let (pages, inodes_max) = options.limits(memory_pages);
        let shared = Arc::new(Shared {
            dev: services.anonymous_device(),
            services: services.clone(),
            next_ino: AtomicU64::new(1),
            pages: Quota::new(pages),
            inodes: AtomicU64::new(0),
            inodes_max: inodes_max.max(1),
            options: options.clone(),
            type_name,
            names: Mutex::new(Rank::INODE, ()),
            filesystem: Mutex::new(Rank::LEAF, Weak::new()),
        });
        let node = NewNode {
            file_type: FileType::Directory,
            permissions: options.mode,
            uid: options.uid,
            gid: options.gid,
            rdev: 0,
            target: b"",
        };
        let root = Node::new(&shared, &node)?;
        let tmpfs = Arc::new(Self { shared: shared.clone(), root });
        *shared.filesystem.lock() = Arc::downgrade(&tmpfs);
        Ok(tmpfs)
    }

    /// A regular file without a name, as memfd_create(2) and shared anonymous memory need it. Errors: ENOSPC.
    pub fn unnamed_file(&self, permissions: u32, uid: u32, gid: u32) -> Result<Arc<dyn Inode>> {
        let file_type = FileType::Regular;
        let node = NewNode { file_type, permissions, uid, gid, rdev: 0, target: b"" };
        let node = Node::new(&self.shared, &node)?;
        node.meta().nlink = 0;
        Ok(node)
    }

    /// The same, opened for reading and writing.
    pub fn open_unnamed(&self, permissions: u32) -> Result<(Arc<dyn Inode>, Arc<dyn FileOps>)> {
        let inode = self.unnamed_file(permissions, 0, 0)?;
        let file = inode.clone().open(OpenFlags::RDWR, &Credentials::root())?;
        Ok((inode, file))
    }
}

impl FileSystem for Tmpfs {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat(&self) -> FsStat {
        let (pages, shared) = (&self.shared.pages, &self.shared);
        FsStat {
            magic: MAGIC,
            block_size: PAGE,
            blocks: pages.limit(),
            blocks_free: pages.limit().saturating_sub(pages.used()),
            files: shared.inodes_max,
            files_free: shared.inodes_max.saturating_sub(shared.inodes.load(Ordering::Relaxed)),
            name_max: NAME_MAX,
        }
    }

    fn type_name(&self) -> &'static str {
        self.shared.type_name
    }

    fn options(&self) -> String {
        self.shared.options.to_string()
    }
}

/// The registry's row.
pub fn fs_type(services: Services) -> FsType {
    FsType {
        name: "tmpfs",
        user_mountable: true,
        create: Box::new(move |mount| {
            let options = Options::parse(&mount.data)?;
            Ok(Tmpfs::new(&services, options)? as Arc<dyn FileSystem>)
        }),
    }
}

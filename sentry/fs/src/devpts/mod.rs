//! devpts: a node for each pseudo-terminal, made and removed with it (pts(4)).

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::vfs::{
    Attributes, Change, DirSink, FileSystem, FileType, FsStat, Inode, OpenFlags, Timespec,
};

use crate::listing::{Entry, Listing};
use crate::services::Services;
use crate::tty::{PTMX_RDEV, Terminals};

const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
/// Inode number of /dev/pts/0, as on Linux.
const FIRST_INO: u64 = 3;
/// Group `tty` of Debian and most others.
const TTY_GROUP: u32 = 5;

/// The filesystem at /dev/pts.
pub struct DevPts {
    terminals: Arc<Terminals>,
    services: Services,
    dev: u64,
    mounted: Timespec,
}

impl DevPts {
    /// A view of these terminals.
    pub fn new(terminals: Arc<Terminals>, services: &Services) -> Arc<Self> {
        let (dev, mounted) = (services.anonymous_device(), services.now());
        Arc::new(Self { terminals, services: services.clone(), dev, mounted })
    }
}

/// The handle that the kernel has of it.
struct Mounted(Arc<DevPts>);

impl FileSystem for Mounted {
    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(Root(self.0.clone()))
    }

    fn stat(&self) -> FsStat {
        // DEVPTS_SUPER_MAGIC
        FsStat {
            magic: 0x1cd1,
            block_size: 4096,
            blocks: 0,
            blocks_free: 0,
            files: 0,
            files_free: 0,
            name_max: 255,
        }
    }

    fn type_name(&self) -> &'static str {
        "devpts"
    }

    fn options(&self) -> String {
        "gid=5,mode=620,ptmxmode=666".to_owned()
    }
}

/// The filesystem as the kernel mounts it.
pub fn filesystem(devpts: &Arc<DevPts>) -> Arc<dyn FileSystem> {
    Arc::new(Mounted(devpts.clone()))
}

struct Root(Arc<DevPts>);

/// A device node: /dev/pts/ptmx or /dev/pts/N.
struct Node {
    devpts: Arc<DevPts>,
    index: Option<u32>,
}

impl Root {
    fn node(&self, index: Option<u32>) -> Arc<dyn Inode> {
        Arc::new(Node { devpts: self.0.clone(), index })
    }
}

fn attributes(devpts: &DevPts, ino: u64, file_type: FileType, permissions: u32) -> Attributes {
    Attributes {
        dev: devpts.dev,
        ino,
        file_type,
        permissions,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        block_size: 1024,
        blocks: 0,
        atime: devpts.mounted,
        mtime: devpts.mounted,
        ctime: devpts.mounted,
        btime: None,
    }
}

impl Inode for Root {
    fn attributes(&self) -> Result<Attributes> {
        let mut attributes = attributes(&self.0, ROOT_INO, FileType::Directory, 0o755);
        attributes.nlink = 2;
        Ok(attributes)
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        filesystem(&self.0)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(self.node(None));
        }
        let text = str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let index: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if index.to_string() != text || self.0.terminals.find(index).is_err() {
            return Err(Errno::ENOENT.into());
        }
        Ok(self.node(Some(index)))
    }

    fn entries_are_stable(&self) -> bool {
        false
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(OpenRoot { devpts: self.0.clone(), listing: Listing::default() }))
    }
}

struct OpenRoot {
    devpts: Arc<DevPts>,
    listing: Listing,
}

impl FileOps for OpenRoot {
    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, _: u64, _: &mut dyn sentry_kernel::io::Sink) -> Result<usize> {
        Err(Errno::EISDIR.into())
    }

    fn read_dir(&self, from: u64, sink: &mut DirSink<'_>) -> Result<()> {
        self.listing.emit(from, sink, || {
            let directory = |name: &[u8]| Entry::new(name, ROOT_INO, FileType::Directory);
            let mut entries = vec![directory(b"."), directory(b"..")];
            entries.push(Entry::new(b"ptmx", PTMX_INO, FileType::CharDevice));
            entries.extend(self.devpts.terminals.list().into_iter().map(|(index, _)| {
                Entry::new(
                    index.to_string().as_bytes(),
                    FIRST_INO + u64::from(index),
                    FileType::CharDevice,
                )
            }));
            Ok(entries)
        })
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let Some(index) = self.index else {
            let mut attributes = attributes(&self.devpts, PTMX_INO, FileType::CharDevice, 0o666);
            attributes.rdev = PTMX_RDEV;
            return Ok(attributes);
        };
        let ino = FIRST_INO + u64::from(index);
        let owner = self.devpts.terminals.owner(index)?;
        let mut attributes = attributes(&self.devpts, ino, FileType::CharDevice, owner.permissions);
        attributes.rdev = Terminals::rdev_of(index);
        attributes.uid = owner.uid;
        attributes.gid = owner.gid.unwrap_or(TTY_GROUP);
        // Times of a terminal tell when it was used last; whoever asks through it uses it now.
        attributes.atime = self.devpts.services.now();
        attributes.mtime = attributes.atime;
        Ok(attributes)
    }

    fn file_type(&self) -> FileType {
        FileType::CharDevice
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        filesystem(&self.devpts)
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        let Some(index) = self.index else { return Err(Errno::EPERM.into()) };
        self.devpts.terminals.change_owner(index, |owner| {
            owner.uid = change.uid.unwrap_or(owner.uid);
            owner.gid = change.gid.or(owner.gid);
            owner.permissions = change.permissions.unwrap_or(owner.permissions);
        })
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        // The VFS opens device nodes through the registry of devices.
        Err(Errno::ENXIO.into())
    }
}

//! The mounts of a sandbox: the image with a layer in memory, volumes, /proc, /sys, /dev, /tmp.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_fs::host::{HostFs, HostOptions};
use sentry_fs::overlay::Overlay;
use sentry_fs::services::Services;
use sentry_fs::tmpfs::{self, Tmpfs};
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileOps, WriteAt};
use sentry_kernel::io::{SliceSource, VecSink};
use sentry_kernel::task::Container;
use sentry_kernel::vfs::{
    Change, Dentry, DirRef, FileSystem, FileType, FsContext, LookupFlags, Mount, MountFlags,
    MountNamespace, NewNode, OpenFlags, Path, ResolveCx, SuperBlock, modify, resolve,
};

use crate::config::{Image, Volume, Writes};
use crate::registry::Offer;

/// A directory of the host below a layer in memory that takes all changes.
fn in_memory(services: &Services, lower: Arc<HostFs>) -> Result<Arc<dyn FileSystem>> {
    let upper = Tmpfs::new(services, tmpfs::Options { mode: 0o755, ..tmpfs::Options::default() })?;
    Ok(Overlay::new(services, lower, upper)?)
}

fn write_all(open: &dyn FileOps, content: &[u8]) -> Result<()> {
    let mut source = SliceSource::new(content);
    match open.write(WriteAt::Offset(0), &mut source)?.len == content.len() {
        true => Ok(()),
        false => Err(Errno::ENOSPC.into()),
    }
}

/// A file in a filesystem of its own in memory.
pub(crate) fn lone_node(
    services: &Services,
    file_type: FileType,
    rdev: u64,
    permissions: u32,
) -> Result<Arc<Dentry>> {
    let filesystem = Tmpfs::new(services, tmpfs::Options::default())?;
    let node = NewNode { file_type, permissions, uid: 0, gid: 0, rdev, target: b"" };
    filesystem.root().create(b"file", &node)?;
    entry(filesystem, b"file")
}

/// The entry of this name at the top of a filesystem that is mounted nowhere.
pub(crate) fn entry(filesystem: Arc<dyn FileSystem>, name: &[u8]) -> Result<Arc<Dentry>> {
    let root = Dentry::root(&SuperBlock::new(filesystem));
    Ok(root.lookup(name)?.ok_or(Errno::ENOENT)?)
}

/// A builder's view of the tree, as root.
pub(crate) struct Tree {
    pub(crate) mounts: Arc<MountNamespace>,
    cx: ResolveCx,
}

impl Tree {
    /// A tree whose root is this filesystem.
    pub(crate) fn of(root: Arc<dyn FileSystem>, source: &[u8]) -> Self {
        let mounts = MountNamespace::new(root, source);
        let fs = FsContext::new(&mounts);
        fs.set_umask(0);
        Self { mounts, cx: ResolveCx::new(&fs, Arc::new(Credentials::root())) }
    }

    /// A tree whose root is the image below a layer in memory.
    pub(crate) fn of_image(services: &Services, image: Image) -> Result<Self> {
        let options = HostOptions { view: image.view, ..HostOptions::read_only() };
        let lower = HostFs::new(services, image.directory, options)?;
        let tree = Self::of(in_memory(services, lower)?, b"overlay");
        for (path, permissions) in &image.directories {
            tree.make_directories(path.as_bytes(), *permissions)?;
        }
        Ok(tree)
    }

    /// Mounts /proc, /sys, /dev and what belongs in it, /tmp.
    pub(crate) fn mount_system(
        &self,
        container: &Arc<Container>,
        services: &Services,
        offer: &Offer,
    ) -> Result<()> {
        let quiet =
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
        let temporary = |mode| -> Result<Arc<dyn FileSystem>> {
            Ok(Tmpfs::new(services, tmpfs::Options { mode, ..tmpfs::Options::default() })?)
        };
        self.mount(offer.proc(container, services), b"proc", quiet, b"/proc")?;
        self.mount(offer.sys(container.kernel(), services)?, b"sysfs", quiet, b"/sys")?;
        self.mount(
            offer.dev(services)?,
            b"devtmpfs",
            MountFlags::NOSUID | MountFlags::RELATIME,
            b"/dev",
        )?;
        self.mount(
            offer.devpts(),
            b"devpts",
            MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RELATIME,
            b"/dev/pts",
        )?;
        self.mount(
            temporary(0o1777)?,
            b"tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            b"/dev/shm",
        )?;
        self.mount(temporary(0o1777)?, b"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, b"/tmp")
    }

    /// Mounts a directory of the host.
    pub(crate) fn mount_volume(&self, services: &Services, volume: Volume) -> Result<()> {
        let (options, flags) = match volume.writes {
            Writes::Refused => {
                (HostOptions::read_only(), MountFlags::RELATIME | MountFlags::RDONLY)
            }
            Writes::Kept => (HostOptions::read_write(), MountFlags::RELATIME),
            Writes::InMemory => (HostOptions::read_only(), MountFlags::RELATIME),
        };
        let host =
            HostFs::new(services, volume.directory, HostOptions { view: volume.view, ..options })?;
        let filesystem: Arc<dyn FileSystem> = match volume.writes {
            Writes::InMemory => in_memory(services, host)?,
            Writes::Kept | Writes::Refused => host,
        };
        self.mount(filesystem, b"host", flags, volume.target.as_os_str().as_bytes())
    }

    /// Mounts a filesystem at a directory, which is made where it is missing.
    pub(crate) fn mount(
        &self,
        filesystem: Arc<dyn FileSystem>,
        source: &[u8],
        flags: MountFlags,
        at: &[u8],
    ) -> Result<()> {
        self.make_directories(at, 0o755)?;
        self.mounts.mount(filesystem, source, flags, &self.find(at)?)?;
        Ok(())
    }

    /// Mounts a single file; the one that it covers is made where it is missing.
    pub(crate) fn mount_file(
        &self,
        file: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
        target: &[u8],
    ) -> Result<()> {
        let at = match self.find(target) {
            Err(error) if error.is(Errno::ENOENT) => {
                self.make_above(target)?;
                self.make_node(target, modify::Make::Node(FileType::Regular, 0), 0o755)?
            }
            other => other?,
        };
        self.mounts.attach(Mount::of(file, source, flags), &at)
    }

    /// Covers a file with one in memory that has this content.
    pub(crate) fn cover(&self, services: &Services, path: &str, content: &[u8]) -> Result<()> {
        let file = lone_node(services, FileType::Regular, 0, 0o644)?;
        let open = file.inode().clone().open(OpenFlags::WRONLY, &self.cx.creds)?;
        write_all(&*open, content)?;
        self.mount_file(file, b"tmpfs", MountFlags::RELATIME, path.as_bytes())
    }

    /// What a path leads to, links followed.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Path> {
        resolve(&self.cx, &DirRef::Cwd, path, LookupFlags::FOLLOW)
    }

    /// Makes a directory and those on the way to it; the last one gets the permissions, where it is new.
    pub(crate) fn make_directories(&self, path: &[u8], permissions: u32) -> Result<()> {
        for end in (1..=path.len()).filter(|i| *i == path.len() || path[*i] == b'/') {
            let mode = if end == path.len() { permissions } else { 0o755 };
            match modify::make(&self.cx, &DirRef::Cwd, &path[..end], modify::Make::Directory, mode)
            {
                Ok(_) => {}
                Err(error) if error.is(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        match self.find(path)?.file_type() {
            FileType::Directory => Ok(()),
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    /// Makes the directories on the way to a path.
    pub(crate) fn make_above(&self, path: &[u8]) -> Result<()> {
        match path.iter().rposition(|byte| *byte == b'/') {
            None | Some(0) => Ok(()),
            Some(end) => self.make_directories(&path[..end], 0o755),
        }
    }

    /// Makes something new. Errors: EEXIST and those of the filesystem.
    pub(crate) fn make_node(
        &self,
        path: &[u8],
        what: modify::Make<'_>,
        permissions: u32,
    ) -> Result<Path> {
        modify::make(&self.cx, &DirRef::Cwd, path, what, permissions)
    }

    /// Gives a node to somebody.
    pub(crate) fn change_owner(&self, path: &Path, uid: u32, gid: u32) -> Result<()> {
        if (uid, gid) == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Some(uid), Some(gid));
        path.inode().set_attributes(&Change { uid, gid, ..Change::default() })
    }

    /// Writes a small file of root's, in place of whatever has its name. It goes through the same lookups as a
    /// program's, so that no name is remembered as absent or as what it was before.
    pub(crate) fn write_file(&self, path: &str, content: &[u8]) -> Result<()> {
        if let Some((above, _)) = path.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
            self.make_directories(above.as_bytes(), 0o755)?;
        }
        match modify::unlink(&self.cx, &DirRef::Cwd, path.as_bytes()) {
            Ok(()) => {}
            Err(error) if error.is(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        let what = modify::Make::Node(FileType::Regular, 0);
        let made = modify::make(&self.cx, &DirRef::Cwd, path.as_bytes(), what, 0o644)?;
        let open = made.inode().clone().open(OpenFlags::WRONLY, &self.cx.creds)?;
        write_all(&*open, content)
    }

    /// The content of a file, up to a length.
    pub(crate) fn read_file(&self, path: &[u8], most: usize) -> Result<Vec<u8>> {
        let found = self.find(path)?;
        if found.file_type() != FileType::Regular {
            return Err(Errno::EINVAL.into());
        }
        let open = found.inode().clone().open(OpenFlags::empty(), &self.cx.creds)?;
        let mut content = VecSink::new(most);
        let mut at = 0;
        loop {
            match open.read(at, &mut content)? {
                0 => return Ok(content.into_vec()),
                n => at += n as u64,
            }
        }
    }

    /// How programs resolve paths as this user.
    pub(crate) fn context(&self) -> Arc<FsContext> {
        FsContext::new(&self.mounts)
    }
}

//! open(2), openat(2), openat2(2): find or make, check, and open.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::inotify::IN_OPEN;

use crate::cred::Capabilities;
use crate::error::Result;
use crate::file::{FileDescription, FileOps, PathOnly, pipe};
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::{Access, Attributes, Change, FileType, OpenFlags};
use crate::vfs::lookup::{DirRef, Last, LookupFlags, ResolveCx, Walk, resolve};
use crate::vfs::mount::MountFlags;
use crate::vfs::path::Path;
use crate::vfs::{modify, permission, watch};

/// Opens what no filesystem holds: device numbers, through the kernel's registries.
pub trait OpenSpecial {
    /// Opens the device node's device. Errors: ENXIO where no driver has that number.
    fn open_device(&self, kind: FileType, rdev: u64, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
}

/// How to open: flags, permissions of a new file (before the umask), limits of the walk.
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// O_* flags.
    pub flags: OpenFlags,
    /// Permission bits for O_CREAT and O_TMPFILE.
    pub mode: u32,
    /// RESOLVE_* limits.
    pub resolve: LookupFlags,
}

impl OpenHow {
    /// Flags only.
    pub fn flags(flags: OpenFlags) -> Self {
        Self { flags, mode: 0, resolve: LookupFlags::empty() }
    }

    fn walk_flags(&self) -> LookupFlags {
        let mut flags = self.resolve;
        let exclusive = self.flags.contains(OpenFlags::CREAT | OpenFlags::EXCL);
        if !self.flags.contains(OpenFlags::NOFOLLOW) && !exclusive {
            flags |= LookupFlags::FOLLOW;
        }
        if self.flags.contains(OpenFlags::DIRECTORY) {
            flags |= LookupFlags::DIRECTORY;
        }
        flags
    }
}

/// Opens a path. A FIFO comes back at once: where the peer is missing, the caller waits with [`pipe::PipeEnd::peer_came`].
/// Errors: those of the walk, EEXIST, EISDIR, EACCES, EPERM, EROFS, ETXTBSY, ENXIO, EINVAL.
pub fn open(
    cx: &ResolveCx,
    special: &dyn OpenSpecial,
    dir: &DirRef,
    path: &[u8],
    how: &OpenHow,
) -> Result<Arc<FileDescription>> {
    let flags = how.flags;
    if flags.contains(OpenFlags::TMPFILE_BIT) {
        return open_unnamed(cx, dir, path, how);
    }
    if flags.contains(OpenFlags::PATH) {
        let at = resolve(cx, dir, path, how.walk_flags())?;
        let kept = flags - OpenFlags::CLOEXEC;
        return Ok(FileDescription::new(Arc::new(PathOnly), Some(at), kept));
    }
    if flags.contains(OpenFlags::CREAT) {
        let (at, created) = find_or_create(cx, dir, path, how)?;
        return open_at(cx, special, at, how, created);
    }
    let at = resolve(cx, dir, path, how.walk_flags())?;
    open_at(cx, special, at, how, Created::No)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Created {
    Yes,
    No,
}

/// Opens a place that is already found, with the checks of open(2).
pub fn open_path(
    cx: &ResolveCx,
    special: &dyn OpenSpecial,
    at: Path,
    flags: OpenFlags,
) -> Result<Arc<FileDescription>> {
    open_at(cx, special, at, &OpenHow::flags(flags), Created::No)
}

fn open_at(
    cx: &ResolveCx,
    special: &dyn OpenSpecial,
    at: Path,
    how: &OpenHow,
    created: Created,
) -> Result<Arc<FileDescription>> {
    let flags = how.flags;
    let kind = at.file_type();
    if created == Created::No {
        check_open(cx, &at, flags, kind)?;
    }
    if flags.contains(OpenFlags::TRUNC) && kind == FileType::Regular && created == Created::No {
        truncate_at_open(cx, &at)?;
    }
    let ops = match kind {
        FileType::Symlink => return Err(Errno::ELOOP.into()),
        // A pipe, a memfd, a descriptor of the host: it has no place in a tree and opens itself.
        _ if at.dentry.superblock().is_nameless() => at.inode().clone().open(flags, &cx.creds)?,
        FileType::Fifo => pipe::open_fifo(&at.dentry.superblock().fifo(&**at.inode())?, flags)?,
        FileType::CharDevice | FileType::BlockDevice => {
            if at.mount.flags().contains(MountFlags::NODEV) {
                return Err(Errno::EACCES.into());
            }
            special.open_device(kind, at.inode().attributes()?.rdev, flags)?
        }
        FileType::Socket => return Err(Errno::ENXIO.into()),
        FileType::Regular | FileType::Directory => at.inode().clone().open(flags, &cx.creds)?,
    };
    let kept = flags - (OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOCTTY | OpenFlags::TRUNC);
    watch::file_event(&at.dentry, IN_OPEN);
    Ok(FileDescription::new(ops, Some(at), kept - OpenFlags::CLOEXEC))
}

fn truncate_at_open(cx: &ResolveCx, at: &Path) -> Result<()> {
    let attrs = at.inode().attributes()?;
    let change = Change {
        size: Some(0),
        permissions: modify::cleared_by_write(&attrs, &cx.creds),
        ..Change::default()
    };
    at.inode().set_attributes(&change)
}

fn check_open(cx: &ResolveCx, at: &Path, flags: OpenFlags, kind: FileType) -> Result<()> {
    let attrs = match kind {
        FileType::Symlink => return Err(Errno::ELOOP.into()),
        FileType::Directory
            if flags.writable() || flags.intersects(OpenFlags::TRUNC | OpenFlags::CREAT) =>
        {
            return Err(Errno::EISDIR.into());
        }
        _ => at.inode().attributes()?,
    };
    if flags.contains(OpenFlags::DIRECTORY) && kind != FileType::Directory {
        return Err(Errno::ENOTDIR.into());
    }
    let mut access = Access::empty();
    if flags.readable() {
        access |= Access::READ;
    }
    if flags.writable() || flags.contains(OpenFlags::TRUNC) {
        access |= Access::WRITE;
    }
    permission::check_path(at, access, &cx.creds)?;
    // open(2): O_NOATIME is for the owner and CAP_FOWNER.
    if flags.contains(OpenFlags::NOATIME) && !permission::owns(&attrs, &cx.creds) {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}

fn find_or_create(
    cx: &ResolveCx,
    dir: &DirRef,
    path: &[u8],
    how: &OpenHow,
) -> Result<(Path, Created)> {
    let flags = how.flags;
    let walk_flags = how.walk_flags();
    if path.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    if flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL.into());
    }
    let mut walk = Walk::start(cx, dir, path, walk_flags)?;
    loop {
        let parent = walk.walk_to_last()?;
        let (name, trailing_slash) = match parent.last {
            // A magic link may end the walk on a file.
            Last::Root if walk.at.file_type() != FileType::Directory => {
                return Ok((walk.at, Created::No));
            }
            Last::Name { name, trailing_slash } => (name, trailing_slash),
            _ if flags.contains(OpenFlags::EXCL) => return Err(Errno::EEXIST.into()),
            Last::Dot | Last::DotDot | Last::Root => return Err(Errno::EISDIR.into()),
        };
        if trailing_slash {
            return Err(Errno::EISDIR.into());
        }
        match walk.step(&name)? {
            Some(_) if flags.contains(OpenFlags::EXCL) => return Err(Errno::EEXIST.into()),
            Some(child) => {
                let follow = walk_flags.contains(LookupFlags::FOLLOW);
                if !(follow && walk.follow(&child)?) {
                    walk.enter_dentry(child)?;
                    return Ok((walk.at, Created::No));
                }
            }
            None => match create_file(cx, &parent.dir, &name, how.mode) {
                Ok(dentry) => return Ok((Path { mount: parent.dir.mount, dentry }, Created::Yes)),
                // Somebody else was faster.
                Err(e) if e.is(Errno::EEXIST) && !flags.contains(OpenFlags::EXCL) => {
                    if let Some(child) = walk.step(&name)? {
                        walk.enter_dentry(child)?;
                        return Ok((walk.at, Created::No));
                    }
                    return Err(e);
                }
                Err(e) => return Err(e),
            },
        }
    }
}

fn create_file(cx: &ResolveCx, dir: &Path, name: &[u8], mode: u32) -> Result<Arc<Dentry>> {
    permission::check_path(dir, Access::WRITE | Access::EXEC, &cx.creds)?;
    let node = modify::new_node(cx, &dir.inode().attributes()?, FileType::Regular, mode);
    dir.dentry.create(name, &node)
}

fn open_unnamed(
    cx: &ResolveCx,
    dir: &DirRef,
    path: &[u8],
    how: &OpenHow,
) -> Result<Arc<FileDescription>> {
    let flags = how.flags;
    if !flags.contains(OpenFlags::DIRECTORY)
        || !flags.writable()
        || flags.contains(OpenFlags::CREAT)
    {
        return Err(Errno::EINVAL.into());
    }
    let at = resolve(cx, dir, path, how.walk_flags() | LookupFlags::DIRECTORY)?;
    permission::check_path(&at, Access::WRITE | Access::EXEC, &cx.creds)?;
    let node = modify::new_node(cx, &at.inode().attributes()?, FileType::Regular, how.mode);
    let inode = at.inode().create_unnamed(&node)?;
    let ops = inode.clone().open(flags, &cx.creds)?;
    let dentry = Dentry::unnamed_in(&at.dentry, inode);
    let kept = flags - (OpenFlags::DIRECTORY | OpenFlags::TMPFILE_BIT | OpenFlags::CLOEXEC);
    Ok(FileDescription::new(ops, Some(Path { mount: at.mount, dentry }), kept))
}

/// True where `creds` may run the set-id bits of a file on this mount.
pub fn honours_setid(at: &Path, attrs: &Attributes) -> bool {
    attrs.file_type == FileType::Regular && !at.mount.flags().contains(MountFlags::NOSUID)
}

/// True where `creds` hold what mknod(2) asks for this type.
pub(crate) fn may_mknod(cx: &ResolveCx, kind: FileType) -> bool {
    let device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
    !device || cx.creds.has(Capabilities::MKNOD)
}

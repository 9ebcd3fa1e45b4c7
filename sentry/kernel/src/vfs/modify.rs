//! Changes of the tree and of inodes: make, link, remove, rename, chmod, chown, times, size. Rules first, then one call of the filesystem.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::inotify::{IN_ATTRIB, IN_MODIFY};

use crate::cred::{Capabilities, Credentials};
use crate::error::Result;
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::{Access, Attributes, Change, FileType, NewNode, RenameFlags, SetTime};
use crate::vfs::lookup::{DirRef, Last, LookupFlags, Parent, ResolveCx, resolve_parent};
use crate::vfs::open::may_mknod;
use crate::vfs::path::Path;
use crate::vfs::{permission, watch};

/// What to make with [`make`].
#[derive(Clone, Copy, Debug)]
pub enum Make<'a> {
    /// mkdir(2)
    Directory,
    /// symlink(2) with its target.
    Symlink(&'a [u8]),
    /// mknod(2): a regular file, FIFO, socket or device with its number.
    Node(FileType, u64),
}

/// The new node's owner, group and permissions: umask, and the set-gid directory's rule (inode(7)).
pub(crate) fn new_node<'a>(
    cx: &ResolveCx,
    dir: &Attributes,
    kind: FileType,
    mode: u32,
) -> NewNode<'a> {
    let mut permissions = match kind {
        FileType::Symlink => 0o777,
        _ => mode & 0o7777 & !cx.umask,
    };
    let mut gid = cx.creds.fsgid;
    if dir.permissions & 0o2000 != 0 {
        gid = dir.gid;
        if kind == FileType::Directory {
            permissions |= 0o2000;
        } else if permissions & 0o2010 == 0o2010
            && !cx.creds.in_group(gid)
            && !cx.creds.has(Capabilities::FSETID)
        {
            permissions &= !0o2000;
        }
    }
    NewNode { file_type: kind, permissions, uid: cx.creds.fsuid, gid, rdev: 0, target: &[] }
}

/// mkdir, symlink, mknod; also what bind(2) of a Unix socket does. Errors: EEXIST, ENOENT, EACCES, EPERM, EROFS, ENOSPC.
pub fn make(cx: &ResolveCx, dir: &DirRef, path: &[u8], what: Make<'_>, mode: u32) -> Result<Path> {
    let parent = resolve_parent(cx, dir, path, LookupFlags::empty())?;
    let Last::Name { name, trailing_slash } = parent.last else { return Err(Errno::EEXIST.into()) };
    if parent.dir.dentry.lookup(&name)?.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if trailing_slash && !matches!(what, Make::Directory) {
        return Err(Errno::ENOENT.into());
    }
    permission::check_path(&parent.dir, Access::WRITE | Access::EXEC, &cx.creds)?;
    let kind = match what {
        Make::Directory => FileType::Directory,
        Make::Symlink(_) => FileType::Symlink,
        Make::Node(kind, _) => kind,
    };
    if !may_mknod(cx, kind) {
        return Err(Errno::EPERM.into());
    }
    let mode = if kind == FileType::Directory { mode & 0o1777 } else { mode };
    let mut node = new_node(cx, &parent.dir.inode().attributes()?, kind, mode);
    match what {
        Make::Symlink(target) => node.target = target,
        Make::Node(_, rdev) => node.rdev = rdev,
        Make::Directory => {}
    }
    let dentry = parent.dir.dentry.create(&name, &node)?;
    Ok(Path { mount: parent.dir.mount, dentry })
}

/// link(2): a new name for `target`. Errors: EXDEV, EPERM, EEXIST, EMLINK, ENOENT.
pub fn link(cx: &ResolveCx, target: &Path, dir: &DirRef, path: &[u8]) -> Result<()> {
    let parent = resolve_parent(cx, dir, path, LookupFlags::empty())?;
    let Last::Name { name, trailing_slash } = parent.last else { return Err(Errno::EEXIST.into()) };
    if parent.dir.dentry.lookup(&name)?.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if trailing_slash {
        return Err(Errno::ENOENT.into());
    }
    if !Arc::ptr_eq(&parent.dir.mount, &target.mount) {
        return Err(Errno::EXDEV.into());
    }
    check_protected_hardlink(cx, target)?;
    permission::check_path(&parent.dir, Access::WRITE | Access::EXEC, &cx.creds)?;
    if target.file_type() == FileType::Directory {
        return Err(Errno::EPERM.into());
    }
    let _still = parent.dir.dentry.superblock().lock_renames();
    parent.dir.dentry.link(&name, target.inode())
}

/// fs.protected_hardlinks=1: only the owner links what is special, set-id, or not readable and writable to the caller.
fn check_protected_hardlink(cx: &ResolveCx, target: &Path) -> Result<()> {
    let attrs = target.inode().attributes()?;
    if permission::owns(&attrs, &cx.creds) {
        return Ok(());
    }
    let setid = attrs.permissions & 0o4000 != 0 || attrs.permissions & 0o2010 == 0o2010;
    let safe = attrs.file_type == FileType::Regular
        && !setid
        && permission::check_attributes(&attrs, Access::READ | Access::WRITE, &cx.creds).is_ok();
    if safe { Ok(()) } else { Err(Errno::EPERM.into()) }
}

fn victim(parent: &Parent, name: &[u8]) -> Result<Arc<Dentry>> {
    Ok(parent.dir.dentry.lookup(name)?.ok_or(Errno::ENOENT)?)
}

/// unlink(2). Errors: EISDIR, ENOENT, ENOTDIR, EACCES, EPERM, EBUSY, EROFS.
pub fn unlink(cx: &ResolveCx, dir: &DirRef, path: &[u8]) -> Result<()> {
    let parent = resolve_parent(cx, dir, path, LookupFlags::empty())?;
    let Last::Name { name, trailing_slash } = &parent.last else {
        return Err(Errno::EISDIR.into());
    };
    let gone = victim(&parent, name)?;
    if *trailing_slash {
        return Err(if gone.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR }.into());
    }
    permission::check_delete(&parent.dir, &**gone.inode(), &cx.creds)?;
    if gone.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    if gone.is_mount_point() {
        return Err(Errno::EBUSY.into());
    }
    parent.dir.dentry.unlink(name)
}

/// rmdir(2). Errors: EINVAL for `.`, ENOTEMPTY for `..`, EBUSY, ENOTDIR, ENOENT, EACCES, EPERM, EROFS.
pub fn rmdir(cx: &ResolveCx, dir: &DirRef, path: &[u8]) -> Result<()> {
    let parent = resolve_parent(cx, dir, path, LookupFlags::empty())?;
    let name = match &parent.last {
        Last::Name { name, .. } => name,
        Last::Dot => return Err(Errno::EINVAL.into()),
        Last::DotDot => return Err(Errno::ENOTEMPTY.into()),
        Last::Root => return Err(Errno::EBUSY.into()),
    };
    let gone = victim(&parent, name)?;
    permission::check_delete(&parent.dir, &**gone.inode(), &cx.creds)?;
    if !gone.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    if gone.is_mount_point() {
        return Err(Errno::EBUSY.into());
    }
    parent.dir.dentry.rmdir(name)
}

/// One side of a rename: directory and path.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// Where the path starts.
    pub dir: &'a DirRef,
    /// The path.
    pub path: &'a [u8],
}

fn end_name(last: &Last) -> Result<(&[u8], bool)> {
    match last {
        Last::Name { name, trailing_slash } => Ok((name, *trailing_slash)),
        Last::Dot | Last::DotDot | Last::Root => Err(Errno::EBUSY.into()),
    }
}

/// renameat2(2). Errors: EXDEV, EBUSY, ENOENT, EEXIST, EINVAL, ENOTEMPTY, ENOTDIR, EISDIR, EACCES, EPERM, EROFS.
pub fn rename(cx: &ResolveCx, from: End<'_>, to: End<'_>, flags: RenameFlags) -> Result<()> {
    if flags.contains(RenameFlags::EXCHANGE)
        && flags.intersects(RenameFlags::NOREPLACE | RenameFlags::WHITEOUT)
    {
        return Err(Errno::EINVAL.into());
    }
    let old = resolve_parent(cx, from.dir, from.path, LookupFlags::empty())?;
    let new = resolve_parent(cx, to.dir, to.path, LookupFlags::empty())?;
    if !Arc::ptr_eq(&old.dir.mount, &new.dir.mount) {
        return Err(Errno::EXDEV.into());
    }
    let (old_name, old_slash) = end_name(&old.last)?;
    let exists = if flags.contains(RenameFlags::NOREPLACE) { Errno::EEXIST } else { Errno::EBUSY };
    let (new_name, new_slash) = end_name(&new.last).map_err(|_| exists)?;
    let _shape = old.dir.dentry.superblock().lock_renames();
    let source = victim(&old, old_name)?;
    let target = new.dir.dentry.lookup(new_name)?;
    check_rename_kinds(&source, target.as_ref(), flags, (old_slash, new_slash))?;
    if source.is_ancestor_of(&new.dir.dentry) {
        return Err(Errno::EINVAL.into());
    }
    if let Some(target) = &target
        && target.is_ancestor_of(&old.dir.dentry)
    {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY }.into());
    }
    check_rename_permissions(cx, (&old, &source), (&new, target.as_ref()), flags)?;
    // rename(2): two names of one file: nothing happens.
    if let Some(target) = &target
        && same_inode(&source, target)?
    {
        return Ok(());
    }
    if source.is_mount_point() || target.as_ref().is_some_and(|t| t.is_mount_point()) {
        return Err(Errno::EBUSY.into());
    }
    old.dir.dentry.rename(old_name, &new.dir.dentry, new_name, flags)
}

fn same_inode(a: &Arc<Dentry>, b: &Arc<Dentry>) -> Result<bool> {
    Ok(Arc::ptr_eq(a.inode(), b.inode())
        || (a.inode().attributes()?.ino == b.inode().attributes()?.ino))
}

fn check_rename_kinds(
    source: &Arc<Dentry>,
    target: Option<&Arc<Dentry>>,
    flags: RenameFlags,
    (old_slash, new_slash): (bool, bool),
) -> Result<()> {
    if flags.contains(RenameFlags::NOREPLACE) && target.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if flags.contains(RenameFlags::EXCHANGE) {
        let target = target.ok_or(Errno::ENOENT)?;
        if new_slash && !target.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
    }
    if !source.is_dir() && (old_slash || (new_slash && !flags.contains(RenameFlags::EXCHANGE))) {
        return Err(Errno::ENOTDIR.into());
    }
    if let Some(target) = target
        && !flags.contains(RenameFlags::EXCHANGE)
    {
        match (source.is_dir(), target.is_dir()) {
            (true, false) => return Err(Errno::ENOTDIR.into()),
            (false, true) => return Err(Errno::EISDIR.into()),
            _ => {}
        }
    }
    Ok(())
}

fn check_rename_permissions(
    cx: &ResolveCx,
    (old, source): (&Parent, &Arc<Dentry>),
    (new, target): (&Parent, Option<&Arc<Dentry>>),
    flags: RenameFlags,
) -> Result<()> {
    permission::check_delete(&old.dir, &**source.inode(), &cx.creds)?;
    match target {
        Some(target) => permission::check_delete(&new.dir, &**target.inode(), &cx.creds)?,
        None => permission::check_path(&new.dir, Access::WRITE | Access::EXEC, &cx.creds)?,
    }
    // A directory that gets another parent changes its `..`, which takes write permission on it.
    if !Arc::ptr_eq(&old.dir.dentry, &new.dir.dentry) {
        if source.is_dir() {
            permission::check(&**source.inode(), Access::WRITE, &cx.creds)?;
        }
        if let Some(target) = target
            && flags.contains(RenameFlags::EXCHANGE)
            && target.is_dir()
        {
            permission::check(&**target.inode(), Access::WRITE, &cx.creds)?;
        }
    }
    Ok(())
}

/// Tells those who watch a file that something of it other than its content changed.
pub fn note_attributes_changed(at: &Path) {
    watch::file_event(&at.dentry, IN_ATTRIB);
}

/// chmod(2). Errors: EPERM, EROFS, EOPNOTSUPP for a symbolic link.
pub fn chmod(creds: &Credentials, at: &Path, mode: u32) -> Result<()> {
    permission::check_writable_mount(at)?;
    let attrs = at.inode().attributes()?;
    if attrs.file_type == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !permission::owns(&attrs, creds) {
        return Err(Errno::EPERM.into());
    }
    let mut permissions = mode & 0o7777;
    // chmod(2): set-gid is cleared where the file's group is none of the caller's.
    let keeps_setgid = creds.in_group(attrs.gid) || creds.has(Capabilities::FSETID);
    if !keeps_setgid {
        permissions &= !0o2000;
    }
    at.inode().set_attributes(&Change { permissions: Some(permissions), ..Change::default() })?;
    watch::file_event(&at.dentry, IN_ATTRIB);
    Ok(())
}

/// chown(2); `None` leaves an id. Errors: EPERM, EROFS.
pub fn chown(creds: &Credentials, at: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    permission::check_writable_mount(at)?;
    let attrs = at.inode().attributes()?;
    if !creds.has(Capabilities::CHOWN) {
        let owner = creds.fsuid == attrs.uid;
        let uid_fine = uid.is_none_or(|uid| owner && uid == attrs.uid);
        let gid_fine = gid.is_none_or(|gid| owner && (gid == attrs.gid || creds.in_group(gid)));
        if !uid_fine || !gid_fine {
            return Err(Errno::EPERM.into());
        }
    }
    let mut permissions = None;
    if attrs.file_type != FileType::Directory {
        permissions = cleared_setid(&attrs);
    }
    at.inode().set_attributes(&Change { uid, gid, permissions, ..Change::default() })?;
    watch::file_event(&at.dentry, IN_ATTRIB);
    Ok(())
}

fn cleared_setid(attrs: &Attributes) -> Option<u32> {
    let mut permissions = attrs.permissions & !0o4000;
    if attrs.permissions & 0o2010 == 0o2010 {
        permissions &= !0o2000;
    }
    (permissions != attrs.permissions).then_some(permissions)
}

/// The permissions left after a write by somebody without CAP_FSETID: set-uid goes, set-gid goes where the group may execute.
pub fn cleared_by_write(attrs: &Attributes, creds: &Credentials) -> Option<u32> {
    if attrs.file_type != FileType::Regular || creds.has(Capabilities::FSETID) {
        return None;
    }
    cleared_setid(attrs)
}

/// utimensat(2); `None` is UTIME_OMIT. Errors: EPERM, EACCES, EROFS.
pub fn set_times(
    creds: &Credentials,
    at: &Path,
    atime: Option<SetTime>,
    mtime: Option<SetTime>,
) -> Result<()> {
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    permission::check_writable_mount(at)?;
    let attrs = at.inode().attributes()?;
    let both_now = atime == Some(SetTime::Now) && mtime == Some(SetTime::Now);
    if !permission::owns(&attrs, creds) {
        if !both_now {
            return Err(Errno::EPERM.into());
        }
        permission::check(&**at.inode(), Access::WRITE, creds)?;
    }
    at.inode().set_attributes(&Change { atime, mtime, ..Change::default() })?;
    watch::file_event(&at.dentry, IN_ATTRIB);
    Ok(())
}

/// truncate(2) by path. Errors: EISDIR, EINVAL, EACCES, EROFS, EFBIG.
pub fn truncate(creds: &Credentials, at: &Path, size: u64) -> Result<()> {
    match at.file_type() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR.into()),
        _ => return Err(Errno::EINVAL.into()),
    }
    permission::check_path(at, Access::WRITE, creds)?;
    resize(creds, at, size)
}

/// Sets the size of a file that the caller may write (ftruncate(2), O_TRUNC).
pub fn resize(creds: &Credentials, at: &Path, size: u64) -> Result<()> {
    let permissions = cleared_by_write(&at.inode().attributes()?, creds);
    at.inode().set_attributes(&Change { size: Some(size), permissions, ..Change::default() })?;
    watch::file_event(&at.dentry, IN_MODIFY);
    Ok(())
}

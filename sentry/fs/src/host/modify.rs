//! Changes of a host tree that is writable: each one call of the host relative to a directory descriptor.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::fcntl::{AtFlags, OFlag, RenameFlags as HostRename};
use nix::sys::stat::{Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags};
use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::vfs::{Change, FileType, NewNode, RenameFlags, SetTime};

use super::node::HostNode;
use super::sys::{self, failed, os};

impl HostNode {
    /// Finds an entry. Errors: ENOENT, ENOTDIR.
    pub(super) fn find(&self, name: &[u8]) -> Result<Arc<HostNode>> {
        let fd = self.dir_fd()?;
        let view = self.sight(name)?;
        let stat = sys::stat_at(&*fd, name)?;
        self.found(name, &stat, view)
    }

    /// Makes an entry. Errors: EROFS, EEXIST, EPERM for device nodes, and the host's.
    pub(super) fn make(&self, name: &[u8], new: &NewNode<'_>) -> Result<Arc<HostNode>> {
        self.shared.check_writable()?;
        self.sight(name).map_err(|_| Errno::EACCES)?;
        let dir = self.dir_fd()?;
        let mode = Mode::from_bits_truncate(new.permissions);
        match new.file_type {
            FileType::Directory => {
                nix::sys::stat::mkdirat(&*dir, os(name), mode).map_err(failed)?;
            }
            FileType::Symlink => {
                nix::unistd::symlinkat(os(new.target), &*dir, os(name)).map_err(failed)?;
            }
            FileType::Regular => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
                let flags = flags | OFlag::O_CLOEXEC;
                nix::fcntl::openat(&*dir, os(name), flags, mode).map_err(failed)?;
            }
            FileType::Fifo | FileType::Socket => {
                sys::make_node(&*dir, name, new.file_type, new.permissions)?;
            }
            FileType::CharDevice | FileType::BlockDevice => return Err(Errno::EPERM.into()),
        }
        let node = self.find(name)?;
        node.settle(new)?;
        Ok(node)
    }

    /// Owner and exact permissions of a new node. A sentry without privilege owns what it makes: then the host's owner stays.
    fn settle(&self, new: &NewNode<'_>) -> Result<()> {
        let stat = self.stat()?;
        if (stat.st_uid, stat.st_gid) != (new.uid, new.gid) {
            let (uid, gid) = (Some(new.uid), Some(new.gid));
            match self.change(&Change { uid, gid, ..Change::default() }) {
                Err(error) if !error.is(Errno::EPERM) => return Err(error),
                _ => {}
            }
        }
        let links = [FileType::Symlink, FileType::Socket];
        if stat.st_mode & 0o7777 != new.permissions && !links.contains(&new.file_type) {
            let permissions = Some(new.permissions);
            self.change(&Change { permissions, ..Change::default() })?;
        }
        Ok(())
    }

    /// Changes attributes. Errors: EROFS and the host's.
    pub(super) fn change(&self, change: &Change) -> Result<()> {
        self.shared.check_writable()?;
        if let Some(size) = change.size {
            if self.file_type == FileType::Directory {
                return Err(Errno::EISDIR.into());
            }
            let node = self.this.upgrade().ok_or(Errno::ESTALE)?;
            node.open_content(true)?.resize(size)?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
            self.at(|fd, name| {
                let flags = AtFlags::AT_SYMLINK_NOFOLLOW | empty_path(name);
                nix::unistd::fchownat(fd, os(name), uid, gid, flags).map_err(failed)
            })?;
        }
        if let Some(permissions) = change.permissions {
            self.change_mode(Mode::from_bits_truncate(permissions))?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let (atime, mtime) = (time(change.atime), time(change.mtime));
            let content = self.content.lock().upgrade();
            if let Some(content) = content {
                return nix::sys::stat::futimens(&content.fd, &atime, &mtime).map_err(failed);
            }
            self.at(|fd, name| {
                let name: &[u8] = if name.is_empty() { b"." } else { name };
                let flags = UtimensatFlags::NoFollowSymlink;
                nix::sys::stat::utimensat(fd, os(name), &atime, &mtime, flags).map_err(failed)
            })?;
        }
        Ok(())
    }

    /// chmod(2) through a descriptor of the file itself: by name it would follow a link that replaced the file.
    fn change_mode(&self, mode: Mode) -> Result<()> {
        let content = self.content.lock().upgrade();
        if let Some(content) = content {
            return nix::sys::stat::fchmod(&content.fd, mode).map_err(failed);
        }
        if self.file_type == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP.into());
        }
        // Nothing is opened for use: that needs more rights, and does something with FIFOs and sockets.
        self.at(|fd, name| match name {
            b"" => sys::change_mode(fd, mode),
            name => sys::change_mode(sys::open_beneath(fd, name, OFlag::O_PATH)?, mode),
        })
    }

    /// Calls the host with directory and name of this file, or with its own descriptor and an empty name.
    fn at<T>(
        &self,
        call: impl FnOnce(std::os::fd::BorrowedFd<'_>, &[u8]) -> Result<T>,
    ) -> Result<T> {
        if let Some(pinned) = self.pinned.lock().clone() {
            return call(pinned.as_fd(), b"");
        }
        match self.whereabouts() {
            None => call(self.dir_fd()?.as_fd(), b""),
            Some((parent, name)) => {
                let dir = parent.dir_fd()?;
                if !self.key.is(&sys::stat_at(&*dir, &name)?) {
                    return Err(Errno::ESTALE.into());
                }
                call(dir.as_fd(), &name)
            }
        }
    }

    /// Another name for a file. Errors: EROFS and the host's.
    pub(super) fn add_name(&self, name: &[u8], target: &HostNode) -> Result<()> {
        self.shared.check_writable()?;
        self.sight(name).map_err(|_| Errno::EACCES)?;
        let dir = self.dir_fd()?;
        target.at(|from, old| {
            let flags = empty_path(old);
            nix::unistd::linkat(from, os(old), dir.as_fd(), os(name), flags).map_err(failed)
        })
    }

    /// Removes a name. A node that is still held by somebody is pinned first, so that it can still be asked.
    pub(super) fn remove(&self, name: &[u8], flag: UnlinkatFlags) -> Result<()> {
        self.shared.check_writable()?;
        self.sight(name)?;
        let dir = self.dir_fd()?;
        let node = self.find(name)?;
        let pin = sys::open_beneath(&*dir, name, OFlag::O_PATH)?;
        let is_dir = node.file_type == FileType::Directory;
        nix::unistd::unlinkat(&*dir, os(name), flag).map_err(failed)?;
        let gone = is_dir || sys::stat(&pin)?.st_nlink == 0;
        if gone && node.key.is(&sys::stat(&pin)?) {
            *node.pinned.lock() = Some(Arc::new(pin));
            let forgotten = self.shared.dirs.lock().forget(node.key);
            drop(forgotten);
            let known = self.shared.nodes.lock().remove(&node.key);
            drop(known);
        }
        Ok(())
    }

    /// renameat2(2). Errors: EROFS and the host's.
    pub(super) fn move_name(
        &self,
        name: &[u8],
        new_dir: &HostNode,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        self.shared.check_writable()?;
        self.sight(name)?;
        new_dir.sight(new_name).map_err(|_| Errno::EACCES)?;
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::EINVAL.into());
        }
        let (from, to) = (self.dir_fd()?, new_dir.dir_fd()?);
        let node = self.find(name)?;
        let target = new_dir.find(new_name).ok();
        let pin = sys::open_beneath(&*to, new_name, OFlag::O_PATH).ok();
        let host_flags = HostRename::from_bits_truncate(flags.bits());
        nix::fcntl::renameat2(&*from, os(name), &*to, os(new_name), host_flags).map_err(failed)?;
        // Two names of one file: the host has done nothing.
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(target, &node)) {
            return Ok(());
        }
        let there = new_dir.this.upgrade().map(|dir| (dir, Box::from(new_name)));
        let old = std::mem::replace(&mut *node.place.lock(), there);
        drop(old);
        let Some(target) = target else { return Ok(()) };
        if flags.contains(RenameFlags::EXCHANGE) {
            let here = self.this.upgrade().map(|dir| (dir, Box::from(name)));
            let old = std::mem::replace(&mut *target.place.lock(), here);
            drop(old);
        } else if let Some(pin) = pin
            && target.key.is(&sys::stat(&pin)?)
            && (target.file_type == FileType::Directory || sys::stat(&pin)?.st_nlink == 0)
        {
            *target.pinned.lock() = Some(Arc::new(pin));
            let known = self.shared.nodes.lock().remove(&target.key);
            drop(known);
        }
        Ok(())
    }
}

/// AT_EMPTY_PATH for an empty name: the descriptor itself is meant.
fn empty_path(name: &[u8]) -> AtFlags {
    if name.is_empty() { AtFlags::AT_EMPTY_PATH } else { AtFlags::empty() }
}

fn time(set: Option<SetTime>) -> TimeSpec {
    match set {
        None => TimeSpec::UTIME_OMIT,
        Some(SetTime::Now) => TimeSpec::UTIME_NOW,
        Some(SetTime::To(time)) => TimeSpec::new(time.sec, i64::from(time.nsec)),
    }
}

//! getdents, getcwd, chdir, chroot, umask.

use sentry_abi::{Errno, UserPtr, UserSlice, dirent};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{Access, DirEntry, FileType, LookupFlags, Path, permission};

use crate::args::Fd;
use crate::common::{any_file, file, path_at};
use crate::rows;

rows! {
    getdents = 78 full;
    getcwd = 79 full;
    chdir = 80 full;
    fchdir = 81 full;
    umask = 95 full;
    chroot = 161 full;
    getdents64 = 217 full;
}

/// Largest listing that one call builds.
const LISTING_MAX: usize = 1 << 20;

fn list(
    task: &CurrentTask,
    fd: Fd,
    buf: UserSlice<u8>,
    record: fn(&DirEntry<'_>) -> Vec<u8>,
) -> Result<usize> {
    let file = file(task, fd)?;
    if file.file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR.into());
    }
    let room = (buf.len() as u32 as usize).min(LISTING_MAX);
    let mut bytes = Vec::with_capacity(room.min(32 * 1024));
    let mut full = false;
    let start = *file.position().lock();
    file.read_dir(&mut |entry| {
        let next = record(entry);
        full = bytes.len() + next.len() > room;
        if !full {
            bytes.extend_from_slice(&next);
        }
        !full
    })?;
    if full && bytes.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    // Entries that did not arrive are not read: they come again.
    task.mm().write(buf.addr(), &bytes).inspect_err(|_| *file.position().lock() = start)?;
    Ok(bytes.len())
}

fn getdents(task: &CurrentTask, fd: Fd, buf: UserSlice<u8>) -> Result<usize> {
    list(task, fd, buf, |e| dirent::dirent(e.ino, e.next, e.file_type.dirent_type(), e.name))
}

fn getdents64(task: &CurrentTask, fd: Fd, buf: UserSlice<u8>) -> Result<usize> {
    list(task, fd, buf, |e| dirent::dirent64(e.ino, e.next, e.file_type.dirent_type(), e.name))
}

fn getcwd(task: &CurrentTask, buf: UserSlice<u8>) -> Result<usize> {
    let fs = task.fs();
    let cwd = fs.cwd();
    if cwd.dentry.is_deleted() {
        return Err(Errno::ENOENT.into());
    }
    let mut bytes = match cwd.to_bytes_from(&fs.root()) {
        Ok(bytes) => bytes,
        Err(bytes) => [b"(unreachable)", &bytes[..]].concat(),
    };
    bytes.push(0);
    if bytes.len() as u64 > buf.len() {
        return Err(Errno::ERANGE.into());
    }
    task.mm().write(buf.addr(), &bytes)?;
    Ok(bytes.len())
}

fn enter(task: &CurrentTask, to: Path) -> Result<()> {
    if to.file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR.into());
    }
    permission::check(&**to.inode(), Access::EXEC, &task.credentials())?;
    task.fs().set_cwd(to);
    Ok(())
}

fn chdir(task: &CurrentTask, path: UserPtr<u8>) -> Result<()> {
    enter(task, path_at(task, Fd::CWD, path, LookupFlags::FOLLOW | LookupFlags::DIRECTORY)?)
}

fn fchdir(task: &CurrentTask, fd: Fd) -> Result<()> {
    let file = any_file(task, fd)?;
    enter(task, file.path().ok_or(Errno::ENOTDIR)?.clone())
}

fn chroot(task: &CurrentTask, path: UserPtr<u8>) -> Result<()> {
    let to = path_at(task, Fd::CWD, path, LookupFlags::FOLLOW | LookupFlags::DIRECTORY)?;
    permission::check(&**to.inode(), Access::EXEC, &task.credentials())?;
    if !task.credentials().has(Capabilities::SYS_CHROOT) {
        return Err(Errno::EPERM.into());
    }
    task.fs().set_root(to);
    Ok(())
}

fn umask(task: &CurrentTask, mask: u32) -> Result<u32> {
    Ok(task.fs().set_umask(mask))
}

//! Calls on paths: link, unlink, rename, mkdir, mknod, symlink, readlink.

use sentry_abi::fcntl::{AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW};
use sentry_abi::{Errno, UserPtr, UserSlice};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::modify::{self, End, Make};
use sentry_kernel::vfs::{FileType, LookupFlags, RenameFlags};

use crate::args::Fd;
use crate::common::{dir_ref, path_at, read_path, resolve_cx};
use crate::rows;

rows! {
    rename = 82 full;
    mkdir = 83 full;
    rmdir = 84 full;
    link = 86 full;
    unlink = 87 full;
    symlink = 88 full;
    readlink = 89 full;
    mknod = 133 full;
    mkdirat = 258 full;
    mknodat = 259 full;
    unlinkat = 263 full;
    renameat = 264 full;
    linkat = 265 full;
    symlinkat = 266 full;
    readlinkat = 267 full;
    renameat2 = 316 partial "RENAME_WHITEOUT answers EINVAL";
}

fn make(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, what: Make<'_>, mode: u32) -> Result<()> {
    let path = read_path(task, path)?;
    let dir = dir_ref(task, dirfd, &path)?;
    modify::make(&resolve_cx(task), &dir, &path, what, mode).map(drop)
}

fn mkdir(task: &CurrentTask, path: UserPtr<u8>, mode: u32) -> Result<()> {
    make(task, Fd::CWD, path, Make::Directory, mode)
}

fn mkdirat(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, mode: u32) -> Result<()> {
    make(task, dirfd, path, Make::Directory, mode)
}

fn mknod(task: &CurrentTask, path: UserPtr<u8>, mode: u32, dev: u64) -> Result<()> {
    mknodat(task, Fd::CWD, path, mode, dev)
}

fn mknodat(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, mode: u32, dev: u64) -> Result<()> {
    let kind = match mode & 0o170000 {
        // mknod(2): no type means a regular file.
        0 => FileType::Regular,
        0o040000 => return Err(Errno::EPERM.into()),
        bits => FileType::from_mode(bits).ok_or(Errno::EINVAL)?,
    };
    if kind == FileType::Symlink {
        return Err(Errno::EINVAL.into());
    }
    make(task, dirfd, path, Make::Node(kind, u64::from(dev as u32)), mode)
}

fn symlink(task: &CurrentTask, target: UserPtr<u8>, path: UserPtr<u8>) -> Result<()> {
    symlinkat(task, target, Fd::CWD, path)
}

fn symlinkat(task: &CurrentTask, target: UserPtr<u8>, dirfd: Fd, path: UserPtr<u8>) -> Result<()> {
    let target = read_path(task, target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    make(task, dirfd, path, Make::Symlink(&target), 0o777)
}

fn link(task: &CurrentTask, old: UserPtr<u8>, new: UserPtr<u8>) -> Result<()> {
    linkat(task, Fd::CWD, old, Fd::CWD, new, 0)
}

fn linkat(
    task: &CurrentTask,
    old_dir: Fd,
    old: UserPtr<u8>,
    new_dir: Fd,
    new: UserPtr<u8>,
    flags: u32,
) -> Result<()> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut how = LookupFlags::empty();
    if flags & AT_EMPTY_PATH != 0 {
        if !task.credentials().has(Capabilities::DAC_READ_SEARCH) {
            return Err(Errno::ENOENT.into());
        }
        how |= LookupFlags::EMPTY_PATH;
    }
    if flags & AT_SYMLINK_FOLLOW != 0 {
        how |= LookupFlags::FOLLOW;
    }
    let target = path_at(task, old_dir, old, how)?;
    let new = read_path(task, new)?;
    let dir = dir_ref(task, new_dir, &new)?;
    modify::link(&resolve_cx(task), &target, &dir, &new)
}

fn unlink(task: &CurrentTask, path: UserPtr<u8>) -> Result<()> {
    unlinkat(task, Fd::CWD, path, 0)
}

fn rmdir(task: &CurrentTask, path: UserPtr<u8>) -> Result<()> {
    unlinkat(task, Fd::CWD, path, AT_REMOVEDIR)
}

fn unlinkat(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, flags: u32) -> Result<()> {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL.into());
    }
    let path = read_path(task, path)?;
    let dir = dir_ref(task, dirfd, &path)?;
    let remove = if flags & AT_REMOVEDIR != 0 { modify::rmdir } else { modify::unlink };
    remove(&resolve_cx(task), &dir, &path)
}

fn rename(task: &CurrentTask, old: UserPtr<u8>, new: UserPtr<u8>) -> Result<()> {
    renameat2(task, Fd::CWD, old, Fd::CWD, new, 0)
}

fn renameat(
    task: &CurrentTask,
    old_dir: Fd,
    old: UserPtr<u8>,
    new_dir: Fd,
    new: UserPtr<u8>,
) -> Result<()> {
    renameat2(task, old_dir, old, new_dir, new, 0)
}

fn renameat2(
    task: &CurrentTask,
    old_dir: Fd,
    old: UserPtr<u8>,
    new_dir: Fd,
    new: UserPtr<u8>,
    flags: u32,
) -> Result<()> {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if flags.contains(RenameFlags::WHITEOUT) {
        return Err(Errno::EINVAL.into());
    }
    let (old, new) = (read_path(task, old)?, read_path(task, new)?);
    let (old_dir, new_dir) = (dir_ref(task, old_dir, &old)?, dir_ref(task, new_dir, &new)?);
    let from = End { dir: &old_dir, path: &old };
    let to = End { dir: &new_dir, path: &new };
    modify::rename(&resolve_cx(task), from, to, flags)
}

fn readlink(task: &CurrentTask, path: UserPtr<u8>, buf: UserSlice<u8>) -> Result<usize> {
    readlinkat(task, Fd::CWD, path, buf)
}

fn readlinkat(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    buf: UserSlice<u8>,
) -> Result<usize> {
    if buf.len() as i32 <= 0 {
        return Err(Errno::EINVAL.into());
    }
    // The empty path reads the link that `dirfd` was opened on with O_PATH | O_NOFOLLOW.
    let name = read_path(task, path)?;
    let at = path_at(task, dirfd, path, LookupFlags::EMPTY_PATH)?;
    if at.file_type() != FileType::Symlink {
        return Err(if name.is_empty() { Errno::ENOENT } else { Errno::EINVAL }.into());
    }
    let mut target = at.inode().readlink()?;
    target.truncate(buf.len() as usize);
    task.mm().write(buf.addr(), &target)?;
    Ok(target.len())
}

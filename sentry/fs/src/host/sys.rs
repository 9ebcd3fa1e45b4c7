//! The host calls behind the host filesystem: every one relative to a directory descriptor and one name, never through a symbolic link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::dir::{Dir, Type};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag};
use sentry_abi::Errno;
use sentry_abi::stat::STATX_MNT_ID;
use sentry_kernel::error::Result;
use sentry_kernel::vfs::{FileType, Timespec};

use crate::listing::Entry;

/// The host's error as the program sees it.
pub(super) fn failed(error: nix::errno::Errno) -> sentry_kernel::Error {
    Errno::from_number(error as i32).unwrap_or(Errno::EIO).into()
}

/// A name for the host's calls: one component.
pub(super) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Opens `name` in `dir` without following anything or leaving it.
pub(super) fn open_beneath(dir: impl AsFd, name: &[u8], flags: OFlag) -> Result<OwnedFd> {
    // openat2 refuses O_NOCTTY together with O_PATH.
    let quiet = if flags.contains(OFlag::O_PATH) { OFlag::empty() } else { OFlag::O_NOCTTY };
    let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | quiet).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_SYMLINKS,
    );
    loop {
        match nix::fcntl::openat2(dir.as_fd(), os(name), how) {
            // A rename elsewhere raced with the walk: the kernel asks for another try.
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            other => return other.map_err(failed),
        }
    }
}

/// Opens the directory itself for listing.
pub(super) fn open_listing(dir: impl AsFd) -> Result<OwnedFd> {
    open_beneath(dir, b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// lstat(2) of `name` in `dir`.
pub(super) fn stat_at(dir: impl AsFd, name: &[u8]) -> Result<FileStat> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
    nix::sys::stat::fstatat(dir.as_fd(), os(name), flags).map_err(failed)
}

/// fstat(2).
pub(super) fn stat(fd: impl AsFd) -> Result<FileStat> {
    nix::sys::stat::fstat(fd.as_fd()).map_err(failed)
}

/// chmod(2) of a file that is open with O_PATH, which fchmod(2) refuses.
pub(super) fn change_mode(fd: impl AsFd, mode: Mode) -> Result<()> {
    let path = platform::host::dir::proc_path(fd.as_fd());
    let flags = FchmodatFlags::FollowSymlink;
    nix::sys::stat::fchmodat(AT_FDCWD, path.as_c_str(), mode, flags).map_err(failed)
}

/// The number of the mount that an open file was reached by.
pub(super) fn mount_id(fd: impl AsFd) -> Result<u64> {
    let found = platform::host::dir::statx(fd.as_fd(), c"", STATX_MNT_ID).map_err(failed)?;
    Ok(found.stx_mnt_id)
}

/// What a stat says the file is.
pub(super) fn file_type(stat: &FileStat) -> Result<FileType> {
    FileType::from_mode(stat.st_mode).ok_or(Errno::EIO.into())
}

/// readlink(2) of `name` in `dir`.
pub(super) fn readlink_at(dir: impl AsFd, name: &[u8]) -> Result<Vec<u8>> {
    Ok(nix::fcntl::readlinkat(dir.as_fd(), os(name)).map_err(failed)?.into_vec())
}

/// All entries of an open directory but `.` and `..`.
pub(super) fn list(dir: OwnedFd) -> Result<Vec<Entry>> {
    let mut dir = Dir::from_fd(dir).map_err(failed)?;
    let mut entries = Vec::new();
    let mut unknown = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let known = entry.file_type().map(|known| match known {
            Type::Fifo => FileType::Fifo,
            Type::CharacterDevice => FileType::CharDevice,
            Type::Directory => FileType::Directory,
            Type::BlockDevice => FileType::BlockDevice,
            Type::File => FileType::Regular,
            Type::Symlink => FileType::Symlink,
            Type::Socket => FileType::Socket,
        });
        if known.is_none() {
            unknown.push(entries.len());
        }
        entries.push(Entry::new(name, entry.ino(), known.unwrap_or(FileType::Regular)));
    }
    for index in unknown {
        if let Ok(stat) = stat_at(&dir, &entries[index].name) {
            entries[index].file_type = file_type(&stat)?;
        }
    }
    Ok(entries)
}

/// Makes a fifo or socket node.
pub(super) fn make_node(
    dir: impl AsFd,
    name: &[u8],
    kind: FileType,
    permissions: u32,
) -> Result<()> {
    let kind = if kind == FileType::Fifo { SFlag::S_IFIFO } else { SFlag::S_IFSOCK };
    let mode = Mode::from_bits_truncate(permissions);
    nix::sys::stat::mknodat(dir.as_fd(), os(name), kind, mode, 0).map_err(failed)
}

/// A time of a stat.
pub(super) fn time(sec: i64, nsec: i64) -> Timespec {
    Timespec { sec, nsec: u32::try_from(nsec).unwrap_or(0) }
}

/// pread(2) into a buffer.
pub(super) fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    loop {
        match nix::sys::uio::pread(fd.as_fd(), buffer, offset) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map_err(failed),
        }
    }
}

/// pwrite(2) of a whole buffer; a short count where the host stopped.
pub(super) fn write_at(fd: impl AsFd, data: &[u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < data.len() {
        let at = i64::try_from(offset + done as u64).map_err(|_| Errno::EFBIG)?;
        match nix::sys::uio::pwrite(fd.as_fd(), &data[done..], at) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if done == 0 => return Err(failed(error)),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// lseek(2) with SEEK_DATA or SEEK_HOLE.
pub(super) fn seek(fd: &OwnedFd, offset: u64, whence: nix::unistd::Whence) -> Result<u64> {
    let offset = i64::try_from(offset).map_err(|_| Errno::ENXIO)?;
    let at = nix::unistd::lseek(fd.as_fd(), offset, whence).map_err(failed)?;
    u64::try_from(at).map_err(|_| Errno::EIO.into())
}

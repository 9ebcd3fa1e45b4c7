//! The stat family, access, and changes of attributes: chmod, chown, times, truncate, fallocate.

use std::sync::Arc;

use sentry_abi::fcntl::{
    AT_EACCESS, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_STATX_SYNC_TYPE, AT_SYMLINK_NOFOLLOW,
};
use sentry_abi::stat::{self as abi, Stat, Statfs, Statx, StatxTimestamp};
use sentry_abi::time::{TimeSpec, TimeVal};
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::device::{major, minor};
use sentry_kernel::file::{FileDescription, FileKind};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{
    Access, Attributes, Change, DirRef, FileSystem, FileType, LookupFlags, Mount, Path, SetTime,
    Timespec, modify, permission, resolve,
};

use crate::args::Fd;
use crate::common::{any_file, dir_ref, file, fsize, path_at, read_path, resolve_cx, short_or};
use crate::rows;

rows! {
    stat = 4 full;
    fstat = 5 full;
    lstat = 6 full;
    access = 21 full;
    truncate = 76 full;
    ftruncate = 77 full;
    chmod = 90 full;
    fchmod = 91 full;
    chown = 92 full;
    fchown = 93 full;
    lchown = 94 full;
    utime = 132 full;
    statfs = 137 full;
    fstatfs = 138 full;
    utimes = 235 full;
    fchownat = 260 full;
    futimesat = 261 full;
    newfstatat = 262 full;
    fchmodat = 268 full;
    faccessat = 269 full;
    utimensat = 280 full;
    fallocate = 285 full;
    statx = 332 full;
    faccessat2 = 439 full;
    fchmodat2 = 452 full;
}

/// What a call with `dirfd`, path and AT_* flags names: a place, or an open file that has none (a socket).
enum Named {
    Path(Path),
    File(Arc<FileDescription>),
}

impl Named {
    fn attributes(&self) -> Result<Attributes> {
        match self {
            Self::Path(path) => path.inode().attributes(),
            Self::File(file) => file.attributes(),
        }
    }

    /// The place. Errors: EINVAL for a file without one, whose attributes nobody changes.
    fn into_path(self) -> Result<Path> {
        match self {
            Self::Path(path) => Ok(path),
            Self::File(file) => Ok(file.path().ok_or(Errno::EINVAL)?.clone()),
        }
    }

    fn mode(&self, attrs: &Attributes) -> u32 {
        match self {
            Self::File(file) => mode_of(file, attrs),
            Self::Path(_) => attrs.mode(),
        }
    }
}

/// `st_mode`: an anonymous file (eventfd, epoll) has no type bits on Linux.
fn mode_of(file: &FileDescription, attrs: &Attributes) -> u32 {
    let anonymous = file.path().is_none() && !matches!(file.ops().kind(), FileKind::Socket(_));
    if anonymous { attrs.permissions } else { attrs.mode() }
}

fn named(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, flags: u32) -> Result<Named> {
    let null_means_empty = flags & AT_EMPTY_PATH != 0 && path.is_null();
    let path = if null_means_empty { Vec::new() } else { read_path(task, path)? };
    if path.is_empty() && flags & AT_EMPTY_PATH != 0 && dirfd != Fd::CWD {
        return Ok(Named::File(any_file(task, dirfd)?));
    }
    let mut how = LookupFlags::empty();
    how.set(LookupFlags::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    how.set(LookupFlags::EMPTY_PATH, flags & AT_EMPTY_PATH != 0);
    let dir = dir_ref(task, dirfd, &path)?;
    Ok(Named::Path(resolve(&resolve_cx(task), &dir, &path, how)?))
}

fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known != 0 { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

fn pair(time: Timespec) -> [u64; 2] {
    [time.sec as u64, u64::from(time.nsec)]
}

fn encode(attrs: &Attributes, mode: u32) -> Stat {
    Stat {
        dev: attrs.dev,
        ino: attrs.ino,
        nlink: attrs.nlink,
        mode,
        uid: attrs.uid,
        gid: attrs.gid,
        rdev: attrs.rdev,
        size: attrs.size as i64,
        blksize: i64::from(attrs.block_size),
        blocks: attrs.blocks as i64,
        atime: pair(attrs.atime),
        mtime: pair(attrs.mtime),
        ctime: pair(attrs.ctime),
        ..Stat::default()
    }
}

fn stat(task: &CurrentTask, path: UserPtr<u8>, out: UserPtr<Stat>) -> Result<()> {
    newfstatat(task, Fd::CWD, path, out, 0)
}

fn lstat(task: &CurrentTask, path: UserPtr<u8>, out: UserPtr<Stat>) -> Result<()> {
    newfstatat(task, Fd::CWD, path, out, AT_SYMLINK_NOFOLLOW)
}

fn fstat(task: &CurrentTask, fd: Fd, out: UserPtr<Stat>) -> Result<()> {
    let file = any_file(task, fd)?;
    let attrs = file.attributes()?;
    task.mm().write_obj(out, &encode(&attrs, mode_of(&file, &attrs)))
}

fn newfstatat(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    out: UserPtr<Stat>,
    flags: u32,
) -> Result<()> {
    // Linux lets the synchronization flags of statx(2) pass here too.
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    check_flags(flags, known)?;
    let named = named(task, dirfd, path, flags)?;
    let attrs = named.attributes()?;
    task.mm().write_obj(out, &encode(&attrs, named.mode(&attrs)))
}

fn statx(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    flags: u32,
    mask: u32,
    out: UserPtr<Statx>,
) -> Result<()> {
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    check_flags(flags, known)?;
    if mask & abi::STATX_RESERVED != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL.into());
    }
    let named = named(task, dirfd, path, flags)?;
    let attrs = named.attributes()?;
    let mut statx = encode_statx(&attrs, named.mode(&attrs));
    if let Named::Path(path) = &named {
        statx.mask |= abi::STATX_MNT_ID;
        statx.mnt_id = u64::from(path.mount.id());
        statx.attributes_mask |= abi::STATX_ATTR_MOUNT_ROOT;
        if Arc::ptr_eq(path.mount.root(), &path.dentry) {
            statx.attributes |= abi::STATX_ATTR_MOUNT_ROOT;
        }
    }
    task.mm().write_obj(out, &statx)
}

fn encode_statx(attrs: &Attributes, mode: u32) -> Statx {
    let stamp = |t: Timespec| StatxTimestamp { sec: t.sec, nsec: t.nsec, reserved: 0 };
    Statx {
        mask: abi::STATX_BASIC_STATS | if attrs.btime.is_some() { abi::STATX_BTIME } else { 0 },
        blksize: attrs.block_size,
        nlink: attrs.nlink as u32,
        uid: attrs.uid,
        gid: attrs.gid,
        mode: mode as u16,
        ino: attrs.ino,
        size: attrs.size,
        blocks: attrs.blocks,
        atime: stamp(attrs.atime),
        btime: stamp(attrs.btime.unwrap_or_default()),
        ctime: stamp(attrs.ctime),
        mtime: stamp(attrs.mtime),
        rdev: [major(attrs.rdev), minor(attrs.rdev)],
        dev: [major(attrs.dev), minor(attrs.dev)],
        ..Statx::default()
    }
}

fn encode_statfs(filesystem: &Arc<dyn FileSystem>, mount: &Mount, id: u64) -> Statfs {
    let stat = filesystem.stat();
    Statfs {
        magic: stat.magic,
        bsize: stat.block_size,
        blocks: stat.blocks,
        bfree: stat.blocks_free,
        bavail: stat.blocks_free,
        files: stat.files,
        ffree: stat.files_free,
        fsid: [id as u32, (id >> 32) as u32],
        namelen: stat.name_max,
        frsize: stat.block_size,
        flags: abi::ST_VALID | statfs_flags(mount),
        spare: [0; 4],
    }
}

/// The ST_* bits of a mount. They equal the MS_* bits but for ST_RELATIME.
fn statfs_flags(mount: &Mount) -> u64 {
    const MS_RELATIME: u64 = 1 << 21;
    const ST_RELATIME: u64 = 4096;
    let flags = u64::from(mount.flags().bits());
    (flags & !MS_RELATIME) | if flags & MS_RELATIME != 0 { ST_RELATIME } else { 0 }
}

fn statfs(task: &CurrentTask, path: UserPtr<u8>, out: UserPtr<Statfs>) -> Result<()> {
    let at = path_at(task, Fd::CWD, path, LookupFlags::FOLLOW)?;
    write_statfs(task, &at, out)
}

fn fstatfs(task: &CurrentTask, fd: Fd, out: UserPtr<Statfs>) -> Result<()> {
    let file = any_file(task, fd)?;
    match file.path() {
        Some(at) => write_statfs(task, at, out),
        // Sockets and anonymous files: SOCKFS_MAGIC, ANON_INODE_FS_MAGIC of linux/magic.h.
        None => {
            let socket = matches!(file.ops().kind(), FileKind::Socket(_));
            let magic = if socket { 0x534F_434B } else { 0x0904_1934 };
            let statfs = Statfs {
                magic,
                bsize: 4096,
                frsize: 4096,
                namelen: 255,
                flags: abi::ST_VALID,
                ..Statfs::default()
            };
            task.mm().write_obj(out, &statfs)
        }
    }
}

fn write_statfs(task: &CurrentTask, at: &Path, out: UserPtr<Statfs>) -> Result<()> {
    let superblock = at.dentry.superblock();
    task.mm().write_obj(out, &encode_statfs(superblock.filesystem(), &at.mount, superblock.id()))
}

fn access(task: &CurrentTask, path: UserPtr<u8>, mode: u32) -> Result<()> {
    faccessat2(task, Fd::CWD, path, mode, 0)
}

fn faccessat(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, mode: u32) -> Result<()> {
    faccessat2(task, dirfd, path, mode, 0)
}

/// access(2) asks for the real ids, with the capabilities that these would give.
fn real_credentials(creds: &Credentials) -> Arc<Credentials> {
    let mut real = creds.clone();
    real.fsuid = creds.uid;
    real.fsgid = creds.gid;
    real.effective = if creds.uid == 0 { creds.permitted } else { Capabilities::empty() };
    Arc::new(real)
}

fn faccessat2(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    mode: u32,
    flags: u32,
) -> Result<()> {
    let wanted = Access::from_bits(mode).ok_or(Errno::EINVAL)?;
    check_flags(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let mut cx = resolve_cx(task);
    if flags & AT_EACCESS == 0 {
        cx.creds = real_credentials(&cx.creds);
    }
    let path = read_path(task, path)?;
    let mut how = LookupFlags::empty();
    how.set(LookupFlags::FOLLOW, flags & AT_SYMLINK_NOFOLLOW == 0);
    how.set(LookupFlags::EMPTY_PATH, flags & AT_EMPTY_PATH != 0);
    let dir = dir_ref(task, dirfd, &path)?;
    if let DirRef::File(file) = &dir
        && file.path().is_none()
        && how.contains(LookupFlags::EMPTY_PATH)
        && path.is_empty()
    {
        return permission::check_attributes(&file.attributes()?, wanted, &cx.creds);
    }
    let at = resolve(&cx, &dir, &path, how)?;
    if wanted.is_empty() { Ok(()) } else { permission::check_path(&at, wanted, &cx.creds) }
}

fn chmod(task: &CurrentTask, path: UserPtr<u8>, mode: u32) -> Result<()> {
    fchmodat2(task, Fd::CWD, path, mode, 0)
}

fn fchmodat(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, mode: u32) -> Result<()> {
    fchmodat2(task, dirfd, path, mode, 0)
}

fn fchmodat2(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    mode: u32,
    flags: u32,
) -> Result<()> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let at = named(task, dirfd, path, flags)?.into_path()?;
    modify::chmod(&task.credentials(), &at, mode)
}

/// The place that an open file, not opened with O_PATH, has. Errors: EBADF, EINVAL.
fn place_of(task: &CurrentTask, fd: Fd) -> Result<Path> {
    Ok(file(task, fd)?.path().ok_or(Errno::EINVAL)?.clone())
}

fn fchmod(task: &CurrentTask, fd: Fd, mode: u32) -> Result<()> {
    modify::chmod(&task.credentials(), &place_of(task, fd)?, mode)
}

/// chown(2): -1 leaves an id.
fn id(raw: u32) -> Option<u32> {
    (raw != u32::MAX).then_some(raw)
}

fn chown(task: &CurrentTask, path: UserPtr<u8>, uid: u32, gid: u32) -> Result<()> {
    fchownat(task, Fd::CWD, path, uid, gid, 0)
}

fn lchown(task: &CurrentTask, path: UserPtr<u8>, uid: u32, gid: u32) -> Result<()> {
    fchownat(task, Fd::CWD, path, uid, gid, AT_SYMLINK_NOFOLLOW)
}

fn fchownat(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<()> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let at = named(task, dirfd, path, flags)?.into_path()?;
    modify::chown(&task.credentials(), &at, id(uid), id(gid))
}

fn fchown(task: &CurrentTask, fd: Fd, uid: u32, gid: u32) -> Result<()> {
    modify::chown(&task.credentials(), &place_of(task, fd)?, id(uid), id(gid))
}

fn set_time(time: TimeSpec) -> Result<Option<SetTime>> {
    match time.nsec {
        abi::UTIME_NOW => Ok(Some(SetTime::Now)),
        abi::UTIME_OMIT => Ok(None),
        nsec @ 0..=999_999_999 => {
            Ok(Some(SetTime::To(Timespec { sec: time.sec, nsec: nsec as u32 })))
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

type Times = (Option<SetTime>, Option<SetTime>);
const BOTH_NOW: Times = (Some(SetTime::Now), Some(SetTime::Now));

fn utimensat(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    times: UserPtr<[TimeSpec; 2]>,
    flags: u32,
) -> Result<()> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let (atime, mtime) = match times.non_null() {
        None => BOTH_NOW,
        Some(times) => {
            let [atime, mtime] = task.mm().read_obj(times)?;
            (set_time(atime)?, set_time(mtime)?)
        }
    };
    // A null path means the open file itself (futimens(3)).
    let at = if path.is_null() && dirfd != Fd::CWD {
        check_flags(flags, AT_EMPTY_PATH)?;
        place_of(task, dirfd)?
    } else {
        named(task, dirfd, path, flags)?.into_path()?
    };
    modify::set_times(&task.credentials(), &at, atime, mtime)
}

fn from_timeval(time: TimeVal) -> Result<Option<SetTime>> {
    if !(0..1_000_000).contains(&time.usec) {
        return Err(Errno::EINVAL.into());
    }
    Ok(Some(SetTime::To(Timespec { sec: time.sec, nsec: time.usec as u32 * 1000 })))
}

fn futimesat(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    times: UserPtr<[TimeVal; 2]>,
) -> Result<()> {
    let (atime, mtime) = match times.non_null() {
        None => BOTH_NOW,
        Some(times) => {
            let [atime, mtime] = task.mm().read_obj(times)?;
            (from_timeval(atime)?, from_timeval(mtime)?)
        }
    };
    let at = named(task, dirfd, path, 0)?.into_path()?;
    modify::set_times(&task.credentials(), &at, atime, mtime)
}

fn utimes(task: &CurrentTask, path: UserPtr<u8>, times: UserPtr<[TimeVal; 2]>) -> Result<()> {
    futimesat(task, Fd::CWD, path, times)
}

fn utime(task: &CurrentTask, path: UserPtr<u8>, times: UserPtr<[i64; 2]>) -> Result<()> {
    let (atime, mtime) = match times.non_null() {
        None => BOTH_NOW,
        Some(times) => {
            let to = |sec| Some(SetTime::To(Timespec { sec, nsec: 0 }));
            let [atime, mtime] = task.mm().read_obj(times)?;
            (to(atime), to(mtime))
        }
    };
    let at = named(task, Fd::CWD, path, 0)?.into_path()?;
    modify::set_times(&task.credentials(), &at, atime, mtime)
}

/// A new size within RLIMIT_FSIZE. Errors: EINVAL, EFBIG with SIGXFSZ.
fn new_size(task: &CurrentTask, size: i64) -> Result<u64> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size > fsize(task) {
        short_or(task, 0, Errno::EFBIG.into())?;
    }
    Ok(size)
}

fn truncate(task: &CurrentTask, path: UserPtr<u8>, size: i64) -> Result<()> {
    u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let at = path_at(task, Fd::CWD, path, LookupFlags::FOLLOW)?;
    let size = new_size(task, size)?;
    modify::truncate(&task.credentials(), &at, size)
}

fn ftruncate(task: &CurrentTask, fd: Fd, size: i64) -> Result<()> {
    u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let file = file(task, fd)?;
    let at = file.path().ok_or(Errno::EINVAL)?;
    if !file.flags().writable() || at.file_type() != FileType::Regular {
        return Err(Errno::EINVAL.into());
    }
    let size = new_size(task, size)?;
    let change = Change { size: Some(size), ..Change::default() };
    match file.ops().set_attributes(&change) {
        Some(result) => result,
        None => modify::resize(&task.credentials(), at, size),
    }
}

fn fallocate(task: &CurrentTask, fd: Fd, mode: u32, offset: i64, len: i64) -> Result<()> {
    let file = file(task, fd)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL.into());
    }
    if !file.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    match file.file_type() {
        FileType::Fifo => return Err(Errno::ESPIPE.into()),
        FileType::Regular if file.path().is_none() => return Err(Errno::ENODEV.into()),
        FileType::Directory => return Err(Errno::EISDIR.into()),
        FileType::Regular | FileType::BlockDevice => {}
        _ => return Err(Errno::ENODEV.into()),
    }
    let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
    if mode & sentry_abi::fcntl::FALLOC_FL_KEEP_SIZE == 0 {
        new_size(task, end)?;
    }
    file.ops().allocate(mode, offset as u64, len as u64)
}

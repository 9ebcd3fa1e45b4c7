//! open, close, dup and what else makes and ends descriptors; ioctl.

use sentry_abi::fcntl::{CLOSE_RANGE_CLOEXEC, CLOSE_RANGE_UNSHARE};
use sentry_abi::ioctl::{FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE};
use sentry_abi::socket::{FIOGETOWN, FIOSETOWN, SIOCGPGRP, SIOCSPGRP};
use sentry_abi::stat::{self as abi, OpenHow as RawHow};
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::file::pipe::PipeEnd;
use sentry_kernel::file::{FileDescription, FileKind, OnExec};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{self, DirRef, FileType, LookupFlags, OpenFlags, OpenHow};
use sentry_kernel::wait::Events;

use crate::args::Fd;
use crate::common::{
    Devices, any_file, dir_ref, file, install, nofile, read_path, resolve_cx, wait_on,
};
use crate::{owner, rows};

rows! {
    open = 2 full;
    close = 3 full;
    ioctl = 16 partial "requests of devices that are not there answer ENOTTY";
    dup = 32 full;
    dup2 = 33 full;
    creat = 85 full;
    openat = 257 full;
    dup3 = 292 full;
    close_range = 436 full;
    openat2 = 437 partial "RESOLVE_CACHED answers EAGAIN, as it may";
}

fn open_with(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, how: OpenHow) -> Result<Fd> {
    let path = read_path(task, path)?;
    let dir = match dirfd {
        // With RESOLVE_IN_ROOT an absolute path begins at dirfd too.
        dirfd if how.resolve.contains(LookupFlags::IN_ROOT) && dirfd != Fd::CWD => {
            DirRef::File(any_file(task, dirfd)?)
        }
        dirfd => dir_ref(task, dirfd, &path)?,
    };
    let file = vfs::open(&resolve_cx(task), &Devices(task), &dir, &path, &how)?;
    await_peer(task, &file, how.flags)?;
    install(task, file, OnExec::from_flags(how.flags))
}

/// fifo(7): a blocking open of one end waits for the other.
fn await_peer(task: &CurrentTask, file: &FileDescription, flags: OpenFlags) -> Result<()> {
    let Some(end) = PipeEnd::of(&**file.ops()) else { return Ok(()) };
    if flags.contains(OpenFlags::NONBLOCK) || end.peer_came() {
        return Ok(());
    }
    let came = || if end.peer_came() { Ok(()) } else { Err(Errno::EAGAIN.into()) };
    wait_on(task, end.pipe().queue(), Events::EVERY, None, came).map(drop)
}

/// open(2) ignores bits that it does not know, and mode bits beyond 07777; O_PATH leaves only what goes with it.
fn lenient(flags: u32, mode: u32) -> OpenHow {
    let mut flags = OpenFlags::from_bits_truncate(flags);
    if flags.contains(OpenFlags::PATH) {
        flags &= OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    }
    if flags.contains(OpenFlags::TMPFILE_BIT) && !flags.contains(OpenFlags::DIRECTORY) {
        flags -= OpenFlags::TMPFILE_BIT;
    }
    if !flags.contains(OpenFlags::PATH) {
        flags |= OpenFlags::LARGEFILE;
    }
    OpenHow { flags, mode: mode & 0o7777, resolve: LookupFlags::empty() }
}

fn open(task: &CurrentTask, path: UserPtr<u8>, flags: u32, mode: u32) -> Result<Fd> {
    open_with(task, Fd::CWD, path, lenient(flags, mode))
}

fn creat(task: &CurrentTask, path: UserPtr<u8>, mode: u32) -> Result<Fd> {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    open_with(task, Fd::CWD, path, lenient(flags.bits(), mode))
}

fn openat(task: &CurrentTask, dirfd: Fd, path: UserPtr<u8>, flags: u32, mode: u32) -> Result<Fd> {
    open_with(task, dirfd, path, lenient(flags, mode))
}

fn openat2(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    how: UserPtr<RawHow>,
    size: u64,
) -> Result<Fd> {
    let raw = read_how(task, how, size)?;
    let flags =
        u32::try_from(raw.flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let creates = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE_BIT);
    if raw.mode & !0o7777 != 0 || (raw.mode != 0 && !creates) {
        return Err(Errno::EINVAL.into());
    }
    let beside_path =
        OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC;
    if flags.contains(OpenFlags::PATH) && !beside_path.contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    let resolve = resolve_flags(raw.resolve)?;
    open_with(task, dirfd, path, OpenHow { flags, mode: raw.mode as u32, resolve })
}

/// openat2(2): a larger structure is fine where what we do not know is zero.
fn read_how(task: &CurrentTask, how: UserPtr<RawHow>, size: u64) -> Result<RawHow> {
    let known = size_of::<RawHow>() as u64;
    if size < known {
        return Err(Errno::EINVAL.into());
    }
    if size > 4096 {
        return Err(Errno::E2BIG.into());
    }
    let raw = task.mm().read_obj(how)?;
    let mut rest = vec![0; (size - known) as usize];
    task.mm().read(how.addr().offset(known)?, &mut rest)?;
    if rest.iter().any(|b| *b != 0) { Err(Errno::E2BIG.into()) } else { Ok(raw) }
}

fn resolve_flags(resolve: u64) -> Result<LookupFlags> {
    let table = [
        (abi::RESOLVE_NO_XDEV, LookupFlags::NO_XDEV),
        (abi::RESOLVE_NO_MAGICLINKS, LookupFlags::NO_MAGICLINKS),
        (abi::RESOLVE_NO_SYMLINKS, LookupFlags::NO_SYMLINKS | LookupFlags::NO_MAGICLINKS),
        (abi::RESOLVE_BENEATH, LookupFlags::BENEATH),
        (abi::RESOLVE_IN_ROOT, LookupFlags::IN_ROOT),
    ];
    if resolve & abi::RESOLVE_CACHED != 0 {
        return Err(Errno::EAGAIN.into());
    }
    let mut flags = LookupFlags::empty();
    let mut rest = resolve;
    for (bit, flag) in table {
        if resolve & bit != 0 {
            flags |= flag;
            rest &= !bit;
        }
    }
    let both = LookupFlags::BENEATH | LookupFlags::IN_ROOT;
    if rest != 0 || flags.contains(both) { Err(Errno::EINVAL.into()) } else { Ok(flags) }
}

fn close(task: &CurrentTask, fd: Fd) -> Result<()> {
    task.fds().close(fd.0)
}

fn close_range(task: &mut CurrentTask, first: u32, last: u32, flags: u32) -> Result<()> {
    if first > last || flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        task.unshare_fds();
    }
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        task.fds().mark_range_close_on_exec(first, last);
    } else {
        task.fds().close_range(first, last);
    }
    Ok(())
}

fn dup(task: &CurrentTask, fd: Fd) -> Result<Fd> {
    install(task, any_file(task, fd)?, OnExec::Keep)
}

fn dup2(task: &CurrentTask, old: Fd, new: Fd) -> Result<Fd> {
    let file = any_file(task, old)?;
    if old != new {
        task.fds().install_at(new.0, file, OnExec::Keep, nofile(task))?;
    }
    Ok(new)
}

fn dup3(task: &CurrentTask, old: Fd, new: Fd, flags: u32) -> Result<Fd> {
    if flags & !OpenFlags::CLOEXEC.bits() != 0 || old == new {
        return Err(Errno::EINVAL.into());
    }
    let file = any_file(task, old)?;
    let on_exec = OnExec::from_flags(OpenFlags::from_bits_truncate(flags));
    task.fds().install_at(new.0, file, on_exec, nofile(task))?;
    Ok(new)
}

fn ioctl(task: &CurrentTask, fd: Fd, request: u32, arg: UserAddr) -> Result<u64> {
    let file = file(task, fd)?;
    match request {
        FIOCLEX => task.fds().set_on_exec(fd.0, OnExec::Close).map(|()| 0),
        FIONCLEX => task.fds().set_on_exec(fd.0, OnExec::Keep).map(|()| 0),
        FIONBIO => set_nonblocking(task, &file, arg),
        FIOASYNC => set_asynchronous(task, &file, fd, arg),
        FIOSETOWN | SIOCSPGRP if matches!(file.ops().kind(), FileKind::Socket(_)) => {
            let number = task.mm().read_obj(UserPtr::new(arg.0))?;
            owner::set_number(task, &file, number).map(|()| 0)
        }
        FIOGETOWN | SIOCGPGRP if matches!(file.ops().kind(), FileKind::Socket(_)) => {
            let number = owner::number(task, &file);
            task.mm().write_obj(UserPtr::new(arg.0), &number).map(|()| 0)
        }
        FIONREAD => readable(task, &file, arg),
        FIOQSIZE if file.path().is_some_and(|p| has_size(p.file_type())) => {
            let size = file.attributes()?.size as i64;
            task.mm().write_obj(UserPtr::new(arg.0), &size).map(|()| 0)
        }
        FIOQSIZE => Err(Errno::ENOTTY.into()),
        _ => file.ops().ioctl(task, request, arg),
    }
}

fn has_size(file_type: FileType) -> bool {
    matches!(file_type, FileType::Regular | FileType::Directory)
}

fn set_nonblocking(task: &CurrentTask, file: &FileDescription, arg: UserAddr) -> Result<u64> {
    let on = task.mm().read_obj(UserPtr::<i32>::new(arg.0))? != 0;
    let mut flags = file.flags();
    flags.set(OpenFlags::NONBLOCK, on);
    file.set_flags(flags);
    Ok(0)
}

/// FIOASYNC. Errors: ENOTTY where a kind of file cannot signal.
fn set_asynchronous(
    task: &CurrentTask,
    file: &FileDescription,
    fd: Fd,
    arg: UserAddr,
) -> Result<u64> {
    let on = task.mm().read_obj(UserPtr::<i32>::new(arg.0))? != 0;
    if on != file.flags().contains(OpenFlags::ASYNC) {
        if !file.can_signal() {
            return Err(Errno::ENOTTY.into());
        }
        file.set_asynchronous(task.container(), on.then_some(fd.0));
    }
    Ok(0)
}

fn readable(task: &CurrentTask, file: &FileDescription, arg: UserAddr) -> Result<u64> {
    let bytes = if file.file_type() == FileType::Regular && file.ops().is_seekable() {
        file.ops().end()?.saturating_sub(*file.position().lock())
    } else {
        match file.ops().bytes_readable() {
            Err(e) if e.is(Errno::ENOTTY) => return file.ops().ioctl(task, FIONREAD, arg),
            result => result?,
        }
    };
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    task.mm().write_obj(UserPtr::new(arg.0), &bytes).map(|()| 0)
}

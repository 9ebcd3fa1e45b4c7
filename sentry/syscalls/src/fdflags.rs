//! fcntl: duplicates, flags, locks, pipe size, seals; flock.

use std::sync::Arc;

use sentry_abi::fcntl::*;
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::file::locks::{LockKind, LockOwner, RangeLock, begin_wait, end_wait};
use sentry_kernel::file::pipe::{MAX_CAPACITY, PipeEnd};
use sentry_kernel::file::{FileDescription, OnExec};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{OpenFlags, permission};
use sentry_kernel::wait::Events;

use crate::args::Fd;
use crate::common::{any_file, file, nofile, wait_on};
use crate::{owner, rows};

rows! {
    fcntl = 72 partial "leases and directory notification answer EINVAL; O_ASYNC is of sockets and pipes";
    flock = 73 full;
}

// tidy: table
fn fcntl(task: &CurrentTask, fd: Fd, command: i32, arg: u64) -> Result<u64> {
    match command {
        F_DUPFD => duplicate(task, fd, arg, OnExec::Keep),
        F_DUPFD_CLOEXEC => duplicate(task, fd, arg, OnExec::Close),
        F_DUPFD_QUERY => {
            let same = Arc::ptr_eq(&any_file(task, fd)?, &any_file(task, Fd(arg as i32))?);
            Ok(u64::from(same))
        }
        F_GETFD => Ok(u64::from(task.fds().on_exec(fd.0)? == OnExec::Close) * FD_CLOEXEC),
        F_SETFD => {
            let on_exec = if arg & FD_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
            task.fds().set_on_exec(fd.0, on_exec).map(|()| 0)
        }
        F_GETFL => Ok(u64::from(any_file(task, fd)?.flags().bits())),
        F_SETFL => set_flags(task, fd, arg as u32),
        F_GETLK | F_OFD_GETLK => query_lock(task, fd, command, UserPtr::new(arg)),
        F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => {
            set_lock(task, fd, command, UserPtr::new(arg))
        }
        F_GETOWN => Ok(i64::from(owner::number(task, &*file(task, fd)?)) as u64),
        F_SETOWN => owner::set_number(task, &*file(task, fd)?, arg as i32).map(|()| 0),
        F_SETOWN_EX => {
            let file = file(task, fd)?;
            let [kind, id] = task.mm().read_obj(UserPtr::new(arg))?;
            owner::set(task, &file, kind, id).map(|()| 0)
        }
        F_GETOWN_EX => {
            let told = owner::kind_and_number(task, &*file(task, fd)?);
            task.mm().write_obj(UserPtr::new(arg), &told).map(|()| 0)
        }
        F_GETSIG => Ok(file(task, fd)?.owner().signal.map_or(0, |signal| signal.number()) as u64),
        F_SETSIG => owner::set_signal(task, &*file(task, fd)?, arg).map(|()| 0),
        F_GETPIPE_SZ => {
            let file = file(task, fd)?;
            let end = PipeEnd::of(&**file.ops()).ok_or(Errno::EBADF)?;
            Ok(end.pipe().capacity() as u64)
        }
        F_SETPIPE_SZ => set_pipe_size(task, fd, arg as u32 as usize),
        // Nobody can take a lease here, so nobody has one.
        F_GETLEASE => file(task, fd).map(|_| F_UNLCK as u64),
        F_ADD_SEALS => {
            let file = file(task, fd)?;
            if !file.flags().writable() {
                return Err(Errno::EPERM.into());
            }
            file.ops().add_seals(arg as u32).map(|()| 0)
        }
        F_GET_SEALS => file(task, fd)?.ops().seals().map(u64::from),
        _ => {
            file(task, fd)?;
            task.kernel().unsupported(&format!("fcntl command {command}"));
            Err(Errno::EINVAL.into())
        }
    }
}

fn duplicate(task: &CurrentTask, fd: Fd, min: u64, on_exec: OnExec) -> Result<u64> {
    let file = any_file(task, fd)?;
    let min = i32::try_from(min as i64).map_err(|_| Errno::EINVAL)?;
    // fcntl(2): a minimum that the limit does not allow is EINVAL, no room above it EMFILE.
    if min < 0 || min as u64 >= nofile(task) {
        return Err(Errno::EINVAL.into());
    }
    Ok(task.fds().install_from(min, file, on_exec, nofile(task))? as u64)
}

fn set_flags(task: &CurrentTask, fd: Fd, flags: u32) -> Result<u64> {
    let file = file(task, fd)?;
    let flags = OpenFlags::from_bits_truncate(flags);
    if flags.contains(OpenFlags::NOATIME)
        && !file.flags().contains(OpenFlags::NOATIME)
        && !permission::owns(&file.attributes()?, &task.credentials())
    {
        return Err(Errno::EPERM.into());
    }
    // Linux drops the flag in silence where a kind of file cannot signal.
    if (flags ^ file.flags()).contains(OpenFlags::ASYNC) && file.can_signal() {
        let fd = flags.contains(OpenFlags::ASYNC).then_some(fd.0);
        file.set_asynchronous(task.container(), fd);
    }
    file.set_flags(flags);
    Ok(0)
}

fn set_pipe_size(task: &CurrentTask, fd: Fd, bytes: usize) -> Result<u64> {
    let file = file(task, fd)?;
    let end = PipeEnd::of(&**file.ops()).ok_or(Errno::EBADF)?;
    let above = bytes > MAX_CAPACITY && bytes > end.pipe().capacity();
    if above && !task.credentials().has(Capabilities::SYS_RESOURCE) {
        return Err(Errno::EPERM.into());
    }
    Ok(end.pipe().set_capacity(bytes)? as u64)
}

/// First and last byte of a `struct flock`; the length 0 reaches to the end of everything, a negative one lies before the start.
fn range(file: &FileDescription, flock: &Flock) -> Result<(u64, u64)> {
    let base = match flock.whence {
        SEEK_SET => 0,
        SEEK_CUR => *file.position().lock() as i64,
        SEEK_END => file.attributes()?.size as i64,
        _ => return Err(Errno::EINVAL.into()),
    };
    let start = base.checked_add(flock.start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match flock.len {
        0 => (start, None),
        len if len > 0 => (start, Some(start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?)),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, Some(start - 1)),
    };
    let first = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
    Ok((first, last.map_or(u64::MAX, |last| last as u64)))
}

fn is_ofd(command: i32) -> bool {
    matches!(command, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW)
}

fn wanted(
    task: &CurrentTask,
    file: &FileDescription,
    command: i32,
    flock: &Flock,
) -> Result<(RangeLock, Option<LockKind>)> {
    let (start, end) = range(file, flock)?;
    let (owner, pid) = if is_ofd(command) {
        if flock.pid != 0 {
            return Err(Errno::EINVAL.into());
        }
        (LockOwner::Description(file.id()), -1)
    } else {
        (LockOwner::Table(task.fds().id()), task.pid() as i32)
    };
    let kind = match flock.kind {
        F_RDLCK => Some(LockKind::Read),
        F_WRLCK => Some(LockKind::Write),
        F_UNLCK => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    let lock = RangeLock { owner, kind: kind.unwrap_or(LockKind::Read), start, end, pid };
    Ok((lock, kind))
}

fn query_lock(task: &CurrentTask, fd: Fd, command: i32, at: UserPtr<Flock>) -> Result<u64> {
    let file = file(task, fd)?;
    let mut flock = task.mm().read_obj(at)?;
    let (probe, kind) = wanted(task, &file, command, &flock)?;
    if kind.is_none() && !is_ofd(command) {
        return Err(Errno::EINVAL.into());
    }
    match file.locks()?.conflict(&probe) {
        None => flock.kind = F_UNLCK,
        Some(found) => {
            flock.kind = if found.kind == LockKind::Read { F_RDLCK } else { F_WRLCK };
            flock.whence = SEEK_SET;
            flock.start = found.start as i64;
            flock.len =
                if found.end == u64::MAX { 0 } else { (found.end - found.start + 1) as i64 };
            flock.pid = found.pid;
        }
    }
    task.mm().write_obj(at, &flock).map(|()| 0)
}

fn set_lock(task: &CurrentTask, fd: Fd, command: i32, at: UserPtr<Flock>) -> Result<u64> {
    let file = file(task, fd)?;
    let flock = task.mm().read_obj(at)?;
    let (lock, kind) = wanted(task, &file, command, &flock)?;
    let locks = file.locks()?;
    match kind {
        None => {
            locks.unlock(lock.owner, lock.start, lock.end);
            return Ok(0);
        }
        Some(LockKind::Read) if !file.flags().readable() => return Err(Errno::EBADF.into()),
        Some(LockKind::Write) if !file.flags().writable() => return Err(Errno::EBADF.into()),
        Some(_) => {}
    }
    let blocking = matches!(command, F_SETLKW | F_OFD_SETLKW);
    match locks.set(lock) {
        Err(e) if blocking && e.is(Errno::EAGAIN) => {}
        result => return result.map(|()| 0),
    }
    let waits_for_cycle = !is_ofd(command);
    let result = wait_on(task, locks.queue(), Events::OUT, None, || {
        if waits_for_cycle && let Some(holder) = locks.conflict(&lock) {
            begin_wait(lock.owner, holder.owner)?;
        }
        locks.set(lock)
    });
    if waits_for_cycle {
        end_wait(lock.owner);
    }
    result.map(|_| 0)
}

fn flock(task: &CurrentTask, fd: Fd, operation: u32) -> Result<()> {
    // Linux looks at the operation first; LOCK_MAND does nothing since 5.15, on anything.
    if operation & LOCK_MAND != 0 {
        return Ok(());
    }
    if !matches!(operation & !LOCK_NB, LOCK_SH | LOCK_EX | LOCK_UN) {
        return Err(Errno::EINVAL.into());
    }
    let file = file(task, fd)?;
    let kind = match operation & !LOCK_NB {
        LOCK_SH => LockKind::Read,
        LOCK_EX => LockKind::Write,
        LOCK_UN => {
            file.locks()?.release_flock(file.id());
            return Ok(());
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let locks = file.locks()?;
    match locks.set_flock(file.id(), kind) {
        Err(e) if e.is(Errno::EAGAIN) && operation & LOCK_NB == 0 => {}
        result => return result,
    }
    wait_on(task, locks.queue(), Events::OUT, None, || locks.set_flock(file.id(), kind)).map(drop)
}

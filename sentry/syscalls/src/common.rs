//! What the handlers of files share: descriptors, paths, waiting, signals that a failed write raises.

use std::sync::Arc;

use sentry_abi::resource::Resource;
use sentry_abi::signal::{SigSet, Signal};
use sentry_abi::time::TimeSpec;
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::cred::Capabilities;
use sentry_kernel::file::{FileDescription, FileKind, FileOps, OnExec};
use sentry_kernel::io::Source;
use sentry_kernel::task::CurrentTask;
use sentry_kernel::time::Instant;
use sentry_kernel::vfs::lookup::PATH_MAX;
use sentry_kernel::vfs::{
    self, Access, Change, DirRef, FileType, LookupFlags, OpenFlags, OpenSpecial, Path, ResolveCx,
    modify,
};
use sentry_kernel::wait::{Events, WaitQueue};
use sentry_kernel::{Error, Result};

use crate::args::Fd;

/// The open file of a descriptor. Errors: EBADF, also for O_PATH.
pub fn file(task: &CurrentTask, fd: Fd) -> Result<Arc<FileDescription>> {
    task.fds().file(fd.0)
}

/// The open file of a descriptor, be it O_PATH or not. Errors: EBADF.
pub fn any_file(task: &CurrentTask, fd: Fd) -> Result<Arc<FileDescription>> {
    task.fds().any(fd.0)
}

/// A path in program memory. Errors: EFAULT, ENAMETOOLONG.
pub fn read_path(task: &CurrentTask, at: UserPtr<u8>) -> Result<Vec<u8>> {
    task.mm().read_cstring(at.addr(), PATH_MAX + 1)
}

/// On whose behalf paths are walked.
pub fn resolve_cx(task: &CurrentTask) -> ResolveCx {
    task.resolve_cx()
}

/// Where a path given with `dirfd` starts; an absolute path does not look at it. Errors: EBADF.
pub fn dir_ref(task: &CurrentTask, dirfd: Fd, path: &[u8]) -> Result<DirRef> {
    if dirfd == Fd::CWD || path.first() == Some(&b'/') {
        Ok(DirRef::Cwd)
    } else {
        Ok(DirRef::File(any_file(task, dirfd)?))
    }
}

/// Walks to a path given with `dirfd`.
pub fn path_at(
    task: &CurrentTask,
    dirfd: Fd,
    path: UserPtr<u8>,
    flags: LookupFlags,
) -> Result<Path> {
    let path = read_path(task, path)?;
    vfs::resolve(&resolve_cx(task), &dir_ref(task, dirfd, &path)?, &path, flags)
}

/// Gives an open file the lowest free number. Errors: EMFILE.
pub fn install(task: &CurrentTask, file: Arc<FileDescription>, on_exec: OnExec) -> Result<Fd> {
    task.fds().install(file, on_exec, nofile(task)).map(Fd)
}

/// RLIMIT_NOFILE.
pub fn nofile(task: &CurrentTask) -> u64 {
    task.thread_group().soft_limit(Resource::Nofile)
}

/// RLIMIT_FSIZE in bytes.
pub fn fsize(task: &CurrentTask) -> u64 {
    task.thread_group().soft_limit(Resource::Fsize)
}

/// Opens device nodes through the kernel's registry.
pub struct Devices<'a>(pub &'a CurrentTask);

impl OpenSpecial for Devices<'_> {
    fn open_device(&self, kind: FileType, rdev: u64, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if kind != FileType::CharDevice {
            return Err(Errno::ENXIO.into());
        }
        self.0.container().devices().find(rdev)?.open(self.0.task(), rdev, flags)
    }
}

/// Tries, and waits on `queue` as long as the answer is EAGAIN. `None` after the deadline.
/// Errors: those of the attempt; an interruption that restarts (SA_RESTART).
pub fn wait_on<T>(
    task: &CurrentTask,
    queue: &WaitQueue,
    events: Events,
    deadline: Option<Instant>,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<Option<T>> {
    let waited = task.wait_for(queue, events, deadline, || match attempt() {
        Err(e) if e.is(Errno::EAGAIN) => None,
        other => Some(other),
    });
    match waited {
        Ok(result) => result.map(Some),
        Err(e) if e.is(Errno::ETIMEDOUT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Job control's word before a read or a write: a terminal stops background tasks here. Files that were not opened
/// for it are left to the operation, which answers EBADF.
fn admit(task: &CurrentTask, file: &FileDescription, events: Events) -> Result<()> {
    let access = if events.contains(Events::IN) { Access::READ } else { Access::WRITE };
    let opened = match access {
        Access::READ => file.flags().readable(),
        _ => file.flags().writable(),
    };
    if opened { file.ops().admit(task, access) } else { Ok(()) }
}

/// Reads with [`blocking`]; a file whose wait for the first byte has an end of its own (VTIME of a terminal) answers 0 after it.
pub fn blocking_read(
    task: &CurrentTask,
    file: &FileDescription,
    events: Events,
    mut attempt: impl FnMut() -> Result<usize>,
) -> Result<usize> {
    let (Some(timeout_ns), false) = (file.ops().read_timeout_ns(), file.is_nonblocking()) else {
        return blocking(task, file, events, attempt);
    };
    admit(task, file, events)?;
    match (attempt(), file.ops().wait_queue()) {
        (Err(e), Some(queue)) if e.is(Errno::EAGAIN) => {
            let deadline = task.kernel().now().after_ns(timeout_ns);
            Ok(wait_on(task, queue, events, Some(deadline), attempt)?.unwrap_or(0))
        }
        (first, _) => first,
    }
}

/// Tries an operation on a file; where it answers EAGAIN and the file is blocking, waits and tries again.
/// A socket's SO_RCVTIMEO or SO_SNDTIMEO ends the wait with EAGAIN.
pub fn blocking<T>(
    task: &CurrentTask,
    file: &FileDescription,
    events: Events,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    admit(task, file, events)?;
    let blocking = !file.is_nonblocking();
    // A send with MSG_FASTOPEN that must wait for the handshake says so.
    let mut attempt = || match attempt() {
        Err(e) if e.is(Errno::EINPROGRESS) && events.contains(Events::OUT) && blocking => {
            Err(Errno::EAGAIN.into())
        }
        result => result,
    };
    let first = attempt();
    if let Err(error) = &first
        && events.contains(Events::OUT)
        && (error.is(Errno::EAGAIN) || error.is(Errno::EINPROGRESS))
    {
        file.is_short();
    }
    match &first {
        Err(e) if e.is(Errno::EAGAIN) && blocking => {}
        _ => return first,
    }
    let Some(queue) = file.ops().wait_queue() else { return first };
    let timeout_ns = match file.ops().kind() {
        FileKind::Socket(socket) => {
            let (receive, send) = socket.timeouts_ns();
            if events.contains(Events::IN) { receive } else { send }
        }
        _ => None,
    };
    let deadline = timeout_ns.map(|ns| task.kernel().now().after_ns(ns));
    wait_on(task, queue, events, deadline, attempt)?.ok_or(Errno::EAGAIN.into())
}

/// Writes all of `src` where the file is a blocking stream, else what one write takes. Raises SIGPIPE and SIGXFSZ.
pub fn write_all(
    task: &CurrentTask,
    file: &FileDescription,
    src: &mut dyn Source,
) -> Result<usize> {
    let limit = fsize(task);
    clear_setid(task, file)?;
    let mut done = 0;
    loop {
        match blocking(task, file, Events::OUT, || file.write(src, limit)) {
            Ok(n) => {
                done += n;
                if src.remaining() == 0 || n == 0 || file.ops().is_seekable() {
                    return Ok(done);
                }
            }
            Err(e) => return short_or(task, done, e),
        }
    }
}

/// A write by somebody without CAP_FSETID takes the set-id bits from a file.
pub fn clear_setid(task: &CurrentTask, file: &FileDescription) -> Result<()> {
    let creds = task.credentials();
    if creds.has(Capabilities::FSETID) || !file.flags().writable() {
        return Ok(());
    }
    let Some(path) = file.path().filter(|p| p.file_type() == FileType::Regular) else {
        return Ok(());
    };
    match modify::cleared_by_write(&path.inode().attributes()?, &creds) {
        None => Ok(()),
        permissions => path.inode().set_attributes(&Change { permissions, ..Change::default() }),
    }
}

/// A failed write: the bytes that went before, or the error with the signal that it raises.
pub fn short_or(task: &CurrentTask, done: usize, error: Error) -> Result<usize> {
    if done > 0 {
        return Ok(done);
    }
    if error.is(Errno::EPIPE) {
        task.raise(Signal::SIGPIPE);
    }
    if error.is(Errno::EFBIG) && fsize(task) != u64::MAX {
        task.raise(Signal::SIGXFSZ);
    }
    Err(error)
}

/// The deadline of an optional relative time-out. `None` waits for ever. Errors: EFAULT, EINVAL.
pub fn deadline_after(task: &CurrentTask, timeout: UserPtr<TimeSpec>) -> Result<Option<Instant>> {
    let Some(at) = timeout.non_null() else { return Ok(None) };
    let ns = task.mm().read_obj(at)?.to_ns()?;
    Ok(Some(task.kernel().now().after_ns(ns)))
}

/// The deadline of a time-out in milliseconds, where a negative one waits for ever.
pub fn deadline_ms(task: &CurrentTask, timeout_ms: i32) -> Option<Instant> {
    let ms = u64::try_from(timeout_ms).ok()?;
    Some(task.kernel().now().after_ns(ms * 1_000_000))
}

/// The signal mask of ppoll(2) and its relatives; `None` for a null pointer. Errors: EINVAL for another size than 8.
pub fn read_mask(task: &CurrentTask, mask: UserPtr<SigSet>, size: u64) -> Result<Option<SigSet>> {
    let Some(mask) = mask.non_null() else { return Ok(None) };
    if size != size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    Ok(Some(task.mm().read_obj(mask)?.without(SigSet::UNBLOCKABLE)))
}

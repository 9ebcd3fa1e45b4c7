//! pipe, pipe2; splice, tee, vmsplice.

use std::sync::Arc;

use sentry_abi::fcntl::{SPLICE_F_ALL, SPLICE_F_NONBLOCK};
use sentry_abi::uio::IoVec;
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::file::pipe::{Direction, Pipe, PipeEnd, pipe as new_pipe};
use sentry_kernel::file::{FileDescription, OnExec};
use sentry_kernel::io::{SliceSource, VecSink};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{FileType, OpenFlags};
use sentry_kernel::wait::Events;

use crate::args::Fd;
use crate::common::{blocking, file, fsize, install, short_or, wait_on, write_all};
use crate::rows;

rows! {
    pipe = 22 full;
    splice = 275 full;
    tee = 276 full;
    vmsplice = 278 partial "copies instead of lending pages";
    pipe2 = 293 full;
}

fn pipe(task: &CurrentTask, fds: UserPtr<[i32; 2]>) -> Result<()> {
    make(task, fds, OpenFlags::empty())
}

fn pipe2(task: &CurrentTask, fds: UserPtr<[i32; 2]>, flags: u32) -> Result<()> {
    let flags = OpenFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT).contains(flags) {
        return Err(Errno::EINVAL.into());
    }
    make(task, fds, flags)
}

fn make(task: &CurrentTask, fds: UserPtr<[i32; 2]>, flags: OpenFlags) -> Result<()> {
    let (read, write) = new_pipe(flags);
    let on_exec = OnExec::from_flags(flags);
    let read = install(task, read, on_exec)?;
    let result = install(task, write, on_exec).and_then(|write| {
        let stored = task.mm().write_obj(fds, &[read.0, write.0]);
        if stored.is_err() {
            task.fds().close(write.0)?;
        }
        stored
    });
    if result.is_err() {
        task.fds().close(read.0)?;
    }
    result
}

/// The pipe behind a descriptor that is open for this direction.
fn pipe_of(file: &Arc<FileDescription>, direction: Direction) -> Option<Arc<Pipe>> {
    let end = PipeEnd::of(&**file.ops())?;
    let fits = end.direction() == direction || end.direction() == Direction::Both;
    fits.then(|| end.pipe().clone())
}

/// Looks at the front of a pipe, waiting for bytes unless told otherwise.
fn peek(task: &CurrentTask, pipe: &Arc<Pipe>, len: usize, wait: Wait) -> Result<Vec<u8>> {
    match (pipe.peek(len), wait) {
        (Err(e), Wait::Yes) if e.is(Errno::EAGAIN) => {
            wait_on(task, pipe.queue(), Events::IN, None, || pipe.peek(len))?
                .ok_or(Errno::EAGAIN.into())
        }
        (result, _) => result,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

fn wait_of(flags: u32, file: &FileDescription) -> Wait {
    if flags & SPLICE_F_NONBLOCK != 0 || file.is_nonblocking() { Wait::No } else { Wait::Yes }
}

/// The two files of a splice or tee, opened for reading and for writing. Errors: EBADF.
fn opened(
    task: &CurrentTask,
    input: Fd,
    out: Fd,
) -> Result<(Arc<FileDescription>, Arc<FileDescription>)> {
    let (from, to) = (file(task, input)?, file(task, out)?);
    if !from.flags().readable() || !to.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    Ok((from, to))
}

fn splice(
    task: &CurrentTask,
    input: Fd,
    off_in: UserPtr<i64>,
    out: Fd,
    off_out: UserPtr<i64>,
    len: u64,
    flags: u32,
) -> Result<usize> {
    if len == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (from, to) = opened(task, input, out)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 20);
    let (source, target) = (pipe_of(&from, Direction::Read), pipe_of(&to, Direction::Write));
    match (source, target) {
        (None, None) => Err(Errno::EINVAL.into()),
        (Some(source), target) => {
            if !off_in.is_null() || (target.is_some() && !off_out.is_null()) {
                return Err(Errno::ESPIPE.into());
            }
            if target.as_ref().is_some_and(|t| Arc::ptr_eq(t, &source)) {
                return Err(Errno::EINVAL.into());
            }
            if target.is_none() && to.flags().contains(OpenFlags::APPEND) {
                return Err(Errno::EINVAL.into());
            }
            let bytes = peek(task, &source, len, wait_of(flags, &from))?;
            let n = write_at(task, &to, off_out, &bytes, wait_of(flags, &to))?;
            source.consume(n);
            Ok(n)
        }
        (None, Some(target)) => {
            if !off_out.is_null() {
                return Err(Errno::ESPIPE.into());
            }
            if from.file_type() == FileType::Directory {
                return Err(Errno::EINVAL.into());
            }
            file_to_pipe(task, &from, off_in, (&to, &target), len, wait_of(flags, &to))
        }
    }
}

/// Writes at the offset in program memory, or at the position; a pipe takes what fits.
fn write_at(
    task: &CurrentTask,
    to: &FileDescription,
    offset: UserPtr<i64>,
    bytes: &[u8],
    wait: Wait,
) -> Result<usize> {
    let mut source = SliceSource::new(bytes);
    let limit = fsize(task);
    let Some(at) = offset.non_null() else {
        let result = match wait {
            Wait::Yes => blocking(task, to, Events::OUT, || to.write(&mut source, limit)),
            Wait::No => to.write(&mut source, limit),
        };
        return result.or_else(|e| short_or(task, 0, e));
    };
    let offset = u64::try_from(task.mm().read_obj(at)?).map_err(|_| Errno::EINVAL)?;
    let n = to.pwrite(offset, &mut source, limit).or_else(|e| short_or(task, 0, e))?;
    task.mm().write_obj(at, &((offset + n as u64) as i64))?;
    Ok(n)
}

fn file_to_pipe(
    task: &CurrentTask,
    from: &FileDescription,
    offset: UserPtr<i64>,
    (to, pipe): (&FileDescription, &Arc<Pipe>),
    len: usize,
    wait: Wait,
) -> Result<usize> {
    // Room first, so that nothing is read that the pipe cannot take.
    let room = || match pipe.capacity() - pipe.len().min(pipe.capacity()) {
        0 => Err(Errno::EAGAIN.into()),
        room => Ok(room),
    };
    let room = match (room(), wait) {
        (Err(_), Wait::Yes) => {
            wait_on(task, pipe.queue(), Events::OUT, None, room)?.ok_or(Errno::EAGAIN)?
        }
        (room, _) => room?,
    };
    let mut sink = VecSink::new(len.min(room));
    match offset.non_null() {
        Some(at) => {
            let offset = u64::try_from(task.mm().read_obj(at)?).map_err(|_| Errno::EINVAL)?;
            let n = from.pread(offset, &mut sink)?;
            task.mm().write_obj(at, &((offset + n as u64) as i64))?;
        }
        None => {
            blocking(task, from, Events::IN, || from.read(&mut sink))?;
        }
    }
    let bytes = sink.into_vec();
    if bytes.is_empty() {
        return Ok(0);
    }
    write_all(task, to, &mut SliceSource::new(&bytes))
}

fn tee(task: &CurrentTask, input: Fd, out: Fd, len: u64, flags: u32) -> Result<usize> {
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = opened(task, input, out)?;
    let source = pipe_of(&from, Direction::Read).ok_or(Errno::EINVAL)?;
    let target = pipe_of(&to, Direction::Write).ok_or(Errno::EINVAL)?;
    if Arc::ptr_eq(&source, &target) {
        return Err(Errno::EINVAL.into());
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 20);
    let wait = wait_of(flags, &from);
    let bytes = peek(task, &source, len, wait)?;
    write_at(task, &to, UserPtr::new(0), &bytes, wait)
}

fn vmsplice(
    task: &CurrentTask,
    fd: Fd,
    iov: UserPtr<IoVec>,
    count: u64,
    flags: u32,
) -> Result<usize> {
    if flags & !SPLICE_F_ALL != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = file(task, fd)?;
    let end = PipeEnd::of(&**file.ops()).ok_or(Errno::EBADF)?;
    let buffers = task.mm().iovecs(iov, count)?;
    if end.direction() == Direction::Read {
        let mut sink = task.mm().user_sink(buffers);
        return blocking(task, &file, Events::IN, || file.read(&mut sink));
    }
    let mut source = task.mm().user_source(buffers);
    if flags & SPLICE_F_NONBLOCK != 0 {
        return file.write(&mut source, u64::MAX).or_else(|e| short_or(task, 0, e));
    }
    write_all(task, &file, &mut source)
}

//! What an open file can be asked. No operation blocks: it answers EAGAIN, and the caller waits on the wait queue if its descriptor is blocking.

use core::any::Any;
use std::sync::Arc;

use sentry_abi::{Errno, UserAddr};

use crate::error::Result;
use crate::io::{Sink, Source};
use crate::mm::Mappable;
use crate::socket::Socket;
use crate::vfs::{Access, Change, DirSink};
use crate::wait::{Events, WaitQueue};

/// Where a write goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteAt {
    /// At this byte; streams ignore it.
    Offset(u64),
    /// At the end, whatever that is at the moment of the write (O_APPEND).
    End,
}

/// What a write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes written.
    pub len: usize,
    /// Offset after them: the new file position.
    pub end: u64,
}

/// Files with operations of their own beyond the common ones.
pub enum FileKind<'a> {
    /// Nothing special.
    Plain,
    /// A socket of any family.
    Socket(&'a dyn Socket),
    /// Something that the kernel itself implements (pipe, epoll, eventfd, …), found by its type.
    Kernel(&'a dyn Any),
}

/// An open file. Shared by all descriptors that came from one open(2).
pub trait FileOps: Send + Sync {
    /// Called once, when the file gets its description; `id` is its inode number where it has no path (`socket:[ID]`).
    fn opened(&self, id: u64) {
        let _ = id;
    }

    /// Reads at `offset` (streams ignore it) into `dst`; 0 is the end of the file.
    /// Errors: EAGAIN where it would block, EISDIR, EINVAL.
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        let _ = (offset, dst);
        Err(Errno::EINVAL.into())
    }

    /// Writes from `src`. Errors: EAGAIN, EPIPE (the caller raises SIGPIPE), EFBIG, ENOSPC, EINVAL.
    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let _ = (at, src);
        Err(Errno::EINVAL.into())
    }

    /// Asked before a program reads or writes: a terminal stops background tasks here (SIGTTIN, SIGTTOU).
    /// Errors: EIO, an interruption by the signal that it raised.
    fn admit(&self, task: &crate::task::CurrentTask, access: Access) -> Result<()> {
        let _ = (task, access);
        Ok(())
    }

    /// How long a blocking read waits for its first byte before it answers 0, in nanoseconds (VTIME of a terminal); `None` is for ever.
    fn read_timeout_ns(&self) -> Option<u64> {
        None
    }

    /// True where the file has a position and pread/pwrite make sense; otherwise they and lseek answer ESPIPE.
    fn is_seekable(&self) -> bool {
        false
    }

    /// The size that SEEK_END counts from.
    fn end(&self) -> Result<u64> {
        Err(Errno::ESPIPE.into())
    }

    /// SEEK_DATA: next data at or after `offset`. Errors: ENXIO.
    fn next_data(&self, offset: u64) -> Result<u64> {
        if offset < self.end()? { Ok(offset) } else { Err(Errno::ENXIO.into()) }
    }

    /// SEEK_HOLE: next hole at or after `offset`. Errors: ENXIO.
    fn next_hole(&self, offset: u64) -> Result<u64> {
        let end = self.end()?;
        if offset < end { Ok(end) } else { Err(Errno::ENXIO.into()) }
    }

    /// Lists a directory from position `from` (0 is the start; includes `.` and `..`). Errors: ENOTDIR.
    fn read_dir(&self, from: u64, sink: &mut DirSink<'_>) -> Result<()> {
        let _ = (from, sink);
        Err(Errno::ENOTDIR.into())
    }

    /// What is ready now.
    fn readiness(&self) -> Events {
        Events::IN | Events::OUT | Events::RDNORM | Events::WRNORM
    }

    /// Where waiters for readiness register; `None` for files that are always ready (epoll answers EPERM for those).
    fn wait_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Where those register who are told of urgent data (SIGURG); `None` where there is none.
    fn urgent_queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Device-specific control (ioctl(2)); FIONBIO, FIOCLEX and the like are done before. Returns the call's result. Errors: ENOTTY.
    fn ioctl(&self, task: &crate::task::CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        let _ = (task, request, arg);
        Err(Errno::ENOTTY.into())
    }

    /// Changes size or times through the descriptor (ftruncate, futimens); the default leaves it to the inode.
    fn set_attributes(&self, change: &Change) -> Option<Result<()>> {
        let _ = change;
        None
    }

    /// fallocate(2) with its mode flags. Errors: EOPNOTSUPP, ENODEV, ENOSPC.
    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        let _ = (mode, offset, len);
        Err(Errno::EOPNOTSUPP.into())
    }

    /// fsync(2), fdatasync(2).
    fn sync(&self) -> Result<()> {
        Err(Errno::EINVAL.into())
    }

    /// What mmap(2) maps. Errors: ENODEV where it cannot be mapped.
    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        Err(Errno::ENODEV.into())
    }

    /// Called at every close(2) of a descriptor (not only the last): releases what POSIX ties to that.
    fn flush(&self) {}

    /// FIONREAD: bytes that a read would give now. Errors: ENOTTY where the file answers no such question here.
    fn bytes_readable(&self) -> Result<u64> {
        Err(Errno::ENOTTY.into())
    }

    /// F_GET_SEALS. Errors: EINVAL where a file cannot be sealed.
    fn seals(&self) -> Result<u32> {
        Err(Errno::EINVAL.into())
    }

    /// F_ADD_SEALS. Errors: EINVAL, EPERM where no more may be added, EBUSY.
    fn add_seals(&self, seals: u32) -> Result<()> {
        let _ = seals;
        Err(Errno::EINVAL.into())
    }

    /// Lines that /proc/PID/fdinfo shows for this kind of file.
    fn details(&self) -> String {
        String::new()
    }

    /// What /proc/PID/fd shows after `anon_inode:` for a file without a path, such as `[eventfd]`.
    fn label(&self) -> &'static str {
        "[file]"
    }

    /// The file's own kind, for calls that need more than the common operations.
    fn kind(&self) -> FileKind<'_> {
        FileKind::Plain
    }
}

/// What O_PATH opens: a place and nothing else. Every operation on it is EBADF before it comes here.
pub struct PathOnly;

impl FileOps for PathOnly {
    fn readiness(&self) -> Events {
        Events::NVAL
    }
}

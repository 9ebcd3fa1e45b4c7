//! read, write and their vector, positioned and copying relatives; lseek, sync.

use std::sync::Arc;

use sentry_abi::fcntl::{RWF_APPEND, RWF_DSYNC, RWF_HIPRI, RWF_NOWAIT, RWF_SYNC};
use sentry_abi::uio::IoVec;
use sentry_abi::{Errno, UserPtr, UserSlice};
use sentry_kernel::Result;
use sentry_kernel::file::pipe::PipeEnd;
use sentry_kernel::file::{FileDescription, Whence};
use sentry_kernel::io::{Sink, SliceSource, Source, VecSink};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{Access, FileType};
use sentry_kernel::wait::Events;

use crate::args::Fd;
use crate::common::{blocking, blocking_read, clear_setid, file, fsize, short_or, write_all};
use crate::rows;

rows! {
    read = 0 full;
    write = 1 full;
    lseek = 8 full;
    pread64 = 17 full;
    pwrite64 = 18 full;
    readv = 19 full;
    writev = 20 full;
    sendfile = 40 full;
    fsync = 74 full;
    fdatasync = 75 full;
    sync = 162 full;
    readahead = 187 full;
    fadvise64 = 221 full;
    sync_file_range = 277 full;
    preadv = 295 full;
    pwritev = 296 full;
    syncfs = 306 full;
    copy_file_range = 326 full;
    preadv2 = 327 partial "RWF_NOWAIT answers EOPNOTSUPP";
    pwritev2 = 328 partial "RWF_NOWAIT answers EOPNOTSUPP";
}

/// Bytes that the copying calls move at a time.
const CHUNK: usize = 128 * 1024;

/// The file of a read or write, opened for it. Errors: EBADF.
fn opened(task: &CurrentTask, fd: Fd, access: Access) -> Result<Arc<FileDescription>> {
    let file = file(task, fd)?;
    let flags = file.flags();
    let fits = match access {
        Access::READ => flags.readable(),
        _ => flags.writable(),
    };
    if fits { Ok(file) } else { Err(Errno::EBADF.into()) }
}

/// The same at an offset. Errors: EBADF, ESPIPE for what has no position, whatever it was opened for.
fn positioned(task: &CurrentTask, fd: Fd, access: Access) -> Result<Arc<FileDescription>> {
    if !file(task, fd)?.ops().is_seekable() {
        return Err(Errno::ESPIPE.into());
    }
    opened(task, fd, access)
}

fn read_into(task: &CurrentTask, fd: Fd, mut dst: impl Sink) -> Result<usize> {
    let file = file(task, fd)?;
    blocking_read(task, &file, Events::IN | Events::RDHUP, || file.read(&mut dst))
}

fn read(task: &CurrentTask, fd: Fd, buf: UserSlice<u8>) -> Result<usize> {
    let file = opened(task, fd, Access::READ)?;
    task.mm().check_range(buf.addr(), buf.len())?;
    if buf.is_empty() && file.file_type() == FileType::Socket {
        // A socket is not even asked (sock_read_iter).
        return Ok(0);
    }
    read_into(task, fd, task.mm().user_sink_one(buf))
}

// Linux takes the vector's length as 32 bits (import_iovec), whatever stands above them.
fn readv(task: &CurrentTask, fd: Fd, iov: UserPtr<IoVec>, count: u32) -> Result<usize> {
    opened(task, fd, Access::READ)?;
    let buffers = task.mm().iovecs(iov, count.into())?;
    read_into(task, fd, task.mm().user_sink(buffers))
}

fn write(task: &CurrentTask, fd: Fd, buf: UserSlice<u8>) -> Result<usize> {
    let file = opened(task, fd, Access::WRITE)?;
    task.mm().check_range(buf.addr(), buf.len())?;
    write_all(task, &file, &mut task.mm().user_source_one(buf))
}

fn writev(task: &CurrentTask, fd: Fd, iov: UserPtr<IoVec>, count: u32) -> Result<usize> {
    let file = opened(task, fd, Access::WRITE)?;
    let buffers = task.mm().iovecs(iov, count.into())?;
    write_all(task, &file, &mut task.mm().user_source(buffers))
}

fn offset_of(offset: i64) -> Result<u64> {
    Ok(u64::try_from(offset).map_err(|_| Errno::EINVAL)?)
}

fn pread64(task: &CurrentTask, fd: Fd, buf: UserSlice<u8>, offset: i64) -> Result<usize> {
    let offset = offset_of(offset)?;
    let file = positioned(task, fd, Access::READ)?;
    task.mm().check_range(buf.addr(), buf.len())?;
    let mut dst = task.mm().user_sink_one(buf);
    blocking(task, &file, Events::IN, || file.pread(offset, &mut dst))
}

fn pwrite_from(task: &CurrentTask, fd: Fd, offset: u64, src: &mut dyn Source) -> Result<usize> {
    let file = file(task, fd)?;
    clear_setid(task, &file)?;
    let limit = fsize(task);
    match blocking(task, &file, Events::OUT, || file.pwrite(offset, src, limit)) {
        Ok(n) => Ok(n),
        Err(e) => short_or(task, 0, e),
    }
}

fn pwrite64(task: &CurrentTask, fd: Fd, buf: UserSlice<u8>, offset: i64) -> Result<usize> {
    let offset = offset_of(offset)?;
    positioned(task, fd, Access::WRITE)?;
    task.mm().check_range(buf.addr(), buf.len())?;
    pwrite_from(task, fd, offset, &mut task.mm().user_source_one(buf))
}

fn preadv(
    task: &CurrentTask,
    fd: Fd,
    iov: UserPtr<IoVec>,
    count: u32,
    offset: i64,
) -> Result<usize> {
    let offset = offset_of(offset)?;
    let file = positioned(task, fd, Access::READ)?;
    let mut dst = task.mm().user_sink(task.mm().iovecs(iov, count.into())?);
    blocking(task, &file, Events::IN, || file.pread(offset, &mut dst))
}

fn pwritev(
    task: &CurrentTask,
    fd: Fd,
    iov: UserPtr<IoVec>,
    count: u32,
    offset: i64,
) -> Result<usize> {
    let offset = offset_of(offset)?;
    positioned(task, fd, Access::WRITE)?;
    let buffers = task.mm().iovecs(iov, count.into())?;
    pwrite_from(task, fd, offset, &mut task.mm().user_source(buffers))
}

fn check_rwf(flags: u32) -> Result<()> {
    let known = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND;
    // Linux answers EOPNOTSUPP for what a file cannot do, RWF_NOWAIT among it.
    if flags & !known & !RWF_NOWAIT != 0 || flags & RWF_NOWAIT != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    Ok(())
}

/// The offset comes in two words on 32-bit machines; here the low one holds all of it.
fn preadv2(
    task: &CurrentTask,
    fd: Fd,
    iov: UserPtr<IoVec>,
    count: u32,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<usize> {
    if offset == -1 {
        opened(task, fd, Access::READ)?;
    } else {
        positioned(task, fd, Access::READ)?;
    }
    check_rwf(flags)?;
    if offset == -1 { readv(task, fd, iov, count) } else { preadv(task, fd, iov, count, offset) }
}

fn pwritev2(
    task: &CurrentTask,
    fd: Fd,
    iov: UserPtr<IoVec>,
    count: u32,
    offset: i64,
    _high: u64,
    flags: u32,
) -> Result<usize> {
    if offset == -1 {
        opened(task, fd, Access::WRITE)?;
    } else {
        positioned(task, fd, Access::WRITE)?;
    }
    check_rwf(flags)?;
    let written = if flags & RWF_APPEND != 0 {
        let end = file(task, fd)?.ops().end()?;
        pwritev(task, fd, iov, count, i64::try_from(end).map_err(|_| Errno::EFBIG)?)
    } else if offset == -1 {
        writev(task, fd, iov, count)
    } else {
        pwritev(task, fd, iov, count, offset)
    }?;
    if flags & (RWF_DSYNC | RWF_SYNC) != 0 {
        file(task, fd)?.ops().sync()?;
    }
    Ok(written)
}

fn lseek(task: &CurrentTask, fd: Fd, offset: i64, whence: u32) -> Result<u64> {
    let file = file(task, fd)?;
    let whence = match whence {
        0 => Whence::Set,
        1 => Whence::Current,
        2 => Whence::End,
        3 => Whence::Data,
        4 => Whence::Hole,
        _ => return Err(Errno::EINVAL.into()),
    };
    let is_anonymous = file.path().is_none() && file.file_type() == FileType::Regular;
    if is_anonymous && !file.ops().is_seekable() {
        // Linux's anonymous inodes let it pass and do nothing (noop_llseek).
        return Ok(0);
    }
    file.seek(offset, whence)
}

fn fsync(task: &CurrentTask, fd: Fd) -> Result<()> {
    file(task, fd)?.ops().sync()
}

fn fdatasync(task: &CurrentTask, fd: Fd) -> Result<()> {
    fsync(task, fd)
}

/// Writes of the sandbox that reach the host do so at once; what is in memory has no disk.
fn sync(_: &CurrentTask) -> Result<()> {
    Ok(())
}

fn syncfs(task: &CurrentTask, fd: Fd) -> Result<()> {
    file(task, fd).map(drop)
}

fn sync_file_range(task: &CurrentTask, fd: Fd, offset: i64, len: i64, flags: u32) -> Result<()> {
    let file = file(task, fd)?;
    if flags & !7 != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL.into());
    }
    match file.file_type() {
        _ if file.path().is_none() => Err(Errno::ESPIPE.into()),
        FileType::Regular | FileType::Directory | FileType::BlockDevice => Ok(()),
        _ => Err(Errno::ESPIPE.into()),
    }
}

fn readahead(task: &CurrentTask, fd: Fd, _offset: i64, _count: u64) -> Result<()> {
    let file = file(task, fd)?;
    if !file.flags().readable() {
        return Err(Errno::EBADF.into());
    }
    let has_pages = file.path().is_some() && file.file_type() == FileType::Regular;
    if has_pages { Ok(()) } else { Err(Errno::EINVAL.into()) }
}

fn fadvise64(task: &CurrentTask, fd: Fd, _offset: i64, len: i64, advice: i32) -> Result<()> {
    let file = file(task, fd)?;
    if file.file_type() == FileType::Fifo {
        return Err(Errno::ESPIPE.into());
    }
    if len < 0 || !(0..=5).contains(&advice) { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

/// Where a copying call reads or writes: at an offset of its own, or at the file's position.
struct Cursor {
    offset: Option<u64>,
    at: UserPtr<i64>,
}

impl Cursor {
    fn read_from(task: &CurrentTask, at: UserPtr<i64>) -> Result<Self> {
        let offset = match at.non_null() {
            Some(at) => Some(offset_of(task.mm().read_obj(at)?)?),
            None => None,
        };
        Ok(Self { offset, at })
    }

    fn read(&self, file: &FileDescription, dst: &mut dyn Sink) -> Result<usize> {
        match self.offset {
            Some(offset) => file.pread(offset, dst),
            None => file.read(dst),
        }
    }

    fn advance(&mut self, n: usize) {
        if let Some(offset) = &mut self.offset {
            *offset += n as u64;
        }
    }

    /// Gives bytes back that were read but not written.
    fn unread(&self, file: &FileDescription, n: usize) {
        if self.offset.is_none() && n > 0 {
            // The position was just moved forward by at least this much.
            let _ = file.seek(-(n as i64), Whence::Current);
        }
    }

    fn store(&self, task: &CurrentTask) -> Result<()> {
        match self.offset {
            Some(offset) => task.mm().write_obj(self.at, &(offset as i64)),
            None => Ok(()),
        }
    }
}

fn sendfile(
    task: &CurrentTask,
    out: Fd,
    input: Fd,
    offset: UserPtr<i64>,
    count: u64,
) -> Result<usize> {
    let (from, to) = (file(task, input)?, file(task, out)?);
    if !from.flags().readable() || !to.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    let mut cursor = Cursor::read_from(task, offset)?;
    if cursor.offset.is_some() && !from.ops().is_seekable() {
        return Err(Errno::ESPIPE.into());
    }
    // What cannot be put back is not taken out on the way to a target that may not have it, unless that is a pipe.
    let is_stream = matches!(from.file_type(), FileType::Fifo | FileType::Socket);
    let is_asked = count > 0 || is_stream;
    let loses = is_asked && !from.ops().is_seekable() && PipeEnd::of(&**to.ops()).is_none();
    if loses || to.flags().contains(sentry_kernel::vfs::OpenFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    // Pages to send are those of a file: devices have none (splice_direct_to_actor).
    let is_device = from.file_type() == FileType::CharDevice;
    if is_device && count > 0 && PipeEnd::of(&**to.ops()).is_none() {
        return Err(Errno::EINVAL.into());
    }
    let mut left = usize::try_from(count).unwrap_or(usize::MAX).min(0x7fff_f000);
    let mut done = 0;
    while left > 0 {
        match copy_chunk(task, &from, &mut cursor, &to, left.min(CHUNK)) {
            Ok((0, _)) => break,
            Ok((n, end)) => {
                done += n;
                left -= n;
                if end == Chunk::Short {
                    break;
                }
            }
            Err(e) => {
                done = short_or(task, done, e)?;
                break;
            }
        }
    }
    cursor.store(task)?;
    Ok(done)
}

#[derive(PartialEq, Eq)]
enum Chunk {
    Whole,
    /// The source or the target gave less than asked for.
    Short,
}

fn copy_chunk(
    task: &CurrentTask,
    from: &FileDescription,
    cursor: &mut Cursor,
    to: &FileDescription,
    len: usize,
) -> Result<(usize, Chunk)> {
    let mut sink = VecSink::new(len);
    blocking(task, from, Events::IN, || cursor.read(from, &mut sink))?;
    let bytes = sink.into_vec();
    if bytes.is_empty() {
        return Ok((0, Chunk::Short));
    }
    let mut source = SliceSource::new(&bytes);
    let mut written = 0;
    while written < bytes.len() {
        match blocking(task, to, Events::OUT, || to.write(&mut source, fsize(task))) {
            Ok(0) => break,
            Ok(n) => written += n,
            Err(e) if written == 0 => {
                cursor.unread(from, bytes.len());
                return Err(e);
            }
            Err(_) => break,
        }
    }
    cursor.unread(from, bytes.len() - written);
    cursor.advance(written);
    let chunk = if written < len { Chunk::Short } else { Chunk::Whole };
    Ok((written, chunk))
}

fn copy_file_range(
    task: &CurrentTask,
    input: Fd,
    off_in: UserPtr<i64>,
    out: Fd,
    off_out: UserPtr<i64>,
    len: u64,
    flags: u32,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (from, to) = (file(task, input)?, file(task, out)?);
    let mut from_at = Cursor::read_from(task, off_in)?;
    let mut to_at = Cursor::read_from(task, off_out)?;
    let both = [&from, &to];
    if both.iter().any(|file| file.file_type() == FileType::Directory) {
        return Err(Errno::EISDIR.into());
    }
    if both.iter().any(|file| file.path().is_none() || file.file_type() != FileType::Regular) {
        return Err(Errno::EINVAL.into());
    }
    let append = to.flags().contains(sentry_kernel::vfs::OpenFlags::APPEND);
    if !from.flags().readable() || !to.flags().writable() || append {
        return Err(Errno::EBADF.into());
    }
    check_overlap(&from, &from_at, &to, &to_at, len)?;
    let mut left = usize::try_from(len).unwrap_or(usize::MAX).min(0x7fff_f000);
    let mut done = 0;
    while left > 0 {
        let mut sink = VecSink::new(left.min(CHUNK));
        from_at.read(&from, &mut sink)?;
        let bytes = sink.into_vec();
        if bytes.is_empty() {
            break;
        }
        let mut source = SliceSource::new(&bytes);
        let result = match to_at.offset {
            Some(offset) => to.pwrite(offset, &mut source, fsize(task)),
            None => to.write(&mut source, fsize(task)),
        };
        let n = match result {
            Ok(n) => n,
            Err(e) => {
                from_at.unread(&from, bytes.len());
                done = short_or(task, done, e)?;
                break;
            }
        };
        from_at.unread(&from, bytes.len() - n);
        from_at.advance(n);
        to_at.advance(n);
        done += n;
        left -= n;
    }
    from_at.store(task)?;
    to_at.store(task)?;
    Ok(done)
}

/// copy_file_range(2): ranges of one file must not overlap.
fn check_overlap(
    from: &FileDescription,
    from_at: &Cursor,
    to: &FileDescription,
    to_at: &Cursor,
    len: u64,
) -> Result<()> {
    let (Some(a), Some(b)) = (from.path(), to.path()) else { return Ok(()) };
    if a.identity() != b.identity() {
        return Ok(());
    }
    let start = |cursor: &Cursor, file: &FileDescription| {
        cursor.offset.unwrap_or_else(|| *file.position().lock())
    };
    let (x, y) = (start(from_at, from), start(to_at, to));
    let overlap = x < y.saturating_add(len) && y < x.saturating_add(len);
    if overlap { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

//! A file description: what open(2) makes and descriptors share: the open file, its position, its status flags.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_abi::inotify::{IN_ACCESS, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY};

use crate::error::Result;
use crate::file::epoll::{EpollCore, ItemKey};
use crate::file::locks::{FileLocks, LockOwner};
use crate::file::nameless::anonymous_place;
use crate::file::ops::{FileKind, FileOps, WriteAt};
use crate::file::owner::{Notice, Of, Owner};
use crate::file::pipe::PipeEnd;
use crate::io::{Sink, Source};
use crate::sync::{Mutex, Rank};
use crate::task::Container;
use crate::vfs::{Attributes, DirSink, FileType, OpenFlags, Path, Timespec, watch};

/// The flags that fcntl(F_SETFL) changes, besides O_ASYNC ([`FileDescription::set_asynchronous`]).
pub const SETTABLE_FLAGS: OpenFlags =
    OpenFlags::APPEND.union(OpenFlags::NONBLOCK).union(OpenFlags::DIRECT).union(OpenFlags::NOATIME);

/// Where lseek(2) counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whence {
    /// SEEK_SET
    Set,
    /// SEEK_CUR
    Current,
    /// SEEK_END
    End,
    /// SEEK_DATA
    Data,
    /// SEEK_HOLE
    Hole,
}

/// An open file with its position and flags.
pub struct FileDescription {
    id: u64,
    ops: Arc<dyn FileOps>,
    path: Option<Path>,
    flags: AtomicU32,
    position: Mutex<u64>,
    /// Who is told of it by signals, once anybody was named.
    notice: Mutex<Option<Arc<Notice>>>,
    /// Epoll instances that watch it, told when it goes away.
    watchers: Mutex<Vec<(Weak<EpollCore>, ItemKey)>>,
    /// Kept here as long as this description may hold a lock.
    locks: Mutex<Option<Arc<FileLocks>>>,
}

impl FileDescription {
    /// An open file at position 0. `path` is `None` for sockets, epoll and the like.
    pub fn new(ops: Arc<dyn FileOps>, path: Option<Path>, flags: OpenFlags) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        ops.opened(id);
        Arc::new(Self {
            id,
            ops,
            path,
            flags: AtomicU32::new(flags.bits()),
            position: Mutex::new(Rank::FILE_POSITION, 0),
            notice: Mutex::new(Rank::LEAF, None),
            watchers: Mutex::new(Rank::LEAF, Vec::new()),
            locks: Mutex::new(Rank::LEAF, None),
        })
    }

    /// Unique among all descriptions.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The open file.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// Where it was opened.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// Access mode and status flags.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_truncate(self.flags.load(Ordering::Acquire))
    }

    /// Sets the flags that F_SETFL may change; others in `flags` are ignored, as Linux does.
    pub fn set_flags(&self, flags: OpenFlags) {
        let wanted = (flags & SETTABLE_FLAGS).bits();
        let change = |bits: u32| Some(bits & !SETTABLE_FLAGS.bits() | wanted);
        // The closure never refuses.
        let _ = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }

    /// True with O_NONBLOCK.
    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// The position; hold it for the length of a read or write.
    pub fn position(&self) -> &Mutex<u64> {
        &self.position
    }

    /// F_GETOWN, F_GETSIG: who is signalled, and how.
    pub fn owner(&self) -> Owner {
        let notice = self.notice.lock().clone();
        notice.map(|notice| notice.owner()).unwrap_or_default()
    }

    /// F_SETOWN, F_SETSIG. From then on the owner hears of urgent data.
    pub fn edit_owner(&self, container: &Arc<Container>, edit: impl FnOnce(&mut Owner)) {
        self.notice(container).edit_owner(edit);
    }

    /// Whether its kind of file tells of its readiness by signals (the `fasync` of Linux's file operations).
    pub fn can_signal(&self) -> bool {
        let signals = match self.ops.kind() {
            FileKind::Socket(_) => true,
            _ => PipeEnd::of(&*self.ops).is_some(),
        };
        signals && self.ops.wait_queue().is_some()
    }

    /// O_ASYNC on, by this descriptor, or off.
    pub fn set_asynchronous(&self, container: &Arc<Container>, fd: Option<i32>) {
        let flag = OpenFlags::ASYNC.bits();
        match fd {
            Some(_) => self.flags.fetch_or(flag, Ordering::AcqRel),
            None => self.flags.fetch_and(!flag, Ordering::AcqRel),
        };
        self.notice(container).set_asynchronous(fd);
    }

    /// An operation found no room or goes on: an owner with O_ASYNC hears when there is some.
    pub fn is_short(&self) {
        if self.flags().contains(OpenFlags::ASYNC) {
            let notice = self.notice.lock().clone();
            notice.iter().for_each(|notice| notice.is_short());
        }
    }

    /// The notice, which waits in the file's queues from now on.
    fn notice(&self, container: &Arc<Container>) -> Arc<Notice> {
        let of = if PipeEnd::of(&*self.ops).is_some() { Of::Pipe } else { Of::Socket };
        let notice = self.notice.lock().get_or_insert_with(|| Notice::new(container, of)).clone();
        if let Some(ready) = self.ops.wait_queue().filter(|_| self.can_signal()) {
            notice.join(ready, self.ops.urgent_queue());
        }
        notice
    }

    /// What the file is.
    pub fn file_type(&self) -> FileType {
        match (&self.path, self.ops.kind()) {
            (Some(path), _) => path.file_type(),
            (None, FileKind::Socket(_)) => FileType::Socket,
            (None, _) => FileType::Regular,
        }
    }

    /// What fstat(2) tells. Files without a path have mode 0777 (sockets) or 0600.
    pub fn attributes(&self) -> Result<Attributes> {
        if let Some(path) = &self.path {
            return path.inode().attributes();
        }
        let file_type = self.file_type();
        let permissions = if file_type == FileType::Socket { 0o777 } else { 0o600 };
        Ok(anonymous_attributes(file_type, permissions, self.id))
    }

    /// Where /proc/PID/fd/N leads: its path, or for a file without one a place that can be looked at but not opened (ENXIO), as on Linux.
    pub fn place(&self) -> Path {
        match (&self.path, self.ops.kind()) {
            (Some(path), _) => path.clone(),
            (None, FileKind::Socket(_)) => {
                anonymous_place(FileType::Socket, 0o777, self.id, &format!("socket:[{}]", self.id))
            }
            (None, _) => {
                let name = format!("anon_inode:{}", self.ops.label());
                anonymous_place(FileType::Regular, 0o600, self.id, &name)
            }
        }
    }

    /// What /proc/PID/fd/N leads to, seen from `root`.
    pub fn link_name(&self, root: &Path) -> Vec<u8> {
        match (&self.path, self.ops.kind()) {
            (Some(path), _) => path.to_bytes(root),
            (None, FileKind::Socket(_)) => format!("socket:[{}]", self.id).into_bytes(),
            (None, _) => format!("anon_inode:{}", self.ops.label()).into_bytes(),
        }
    }

    fn tell(&self, mask: u32) {
        if let Some(path) = &self.path {
            watch::file_event(&path.dentry, mask);
        }
    }

    fn check_readable(&self) -> Result<()> {
        if self.flags().readable() { Ok(()) } else { Err(Errno::EBADF.into()) }
    }

    fn check_writable(&self) -> Result<()> {
        if self.flags().writable() { Ok(()) } else { Err(Errno::EBADF.into()) }
    }

    /// read(2). Never blocks: EAGAIN. Errors: EBADF, EISDIR, EINVAL.
    pub fn read(&self, dst: &mut dyn Sink) -> Result<usize> {
        self.check_readable()?;
        if !self.ops.is_seekable() {
            return self.ops.read(0, dst);
        }
        let n = {
            let mut position = self.position.lock();
            let n = self.ops.read(*position, dst)?;
            *position += n as u64;
            n
        };
        self.tell(IN_ACCESS);
        Ok(n)
    }

    /// pread(2). Errors: ESPIPE, EBADF, EINVAL for an offset beyond 2^63-1.
    pub fn pread(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        check_offset(offset)?;
        if !self.ops.is_seekable() {
            return Err(Errno::ESPIPE.into());
        }
        self.check_readable()?;
        self.ops.read(offset, dst)
    }

    /// write(2), at the end with O_APPEND. `limit` is RLIMIT_FSIZE in bytes (`u64::MAX`: none). Never blocks: EAGAIN.
    /// Errors: EBADF, EFBIG at the limit (the caller raises SIGXFSZ), EPIPE (SIGPIPE).
    pub fn write(&self, src: &mut dyn Source, limit: u64) -> Result<usize> {
        self.check_writable()?;
        if !self.ops.is_seekable() {
            return Ok(self.ops.write(WriteAt::Offset(0), src)?.len);
        }
        let written = {
            let mut position = self.position.lock();
            let written = self.write_limited(*position, src, limit)?;
            if written.len > 0 {
                *position = written.end;
            }
            written
        };
        self.tell(IN_MODIFY);
        Ok(written.len)
    }

    /// pwrite(2); appends where O_APPEND is set, as Linux does. Errors as [`Self::write`], and ESPIPE.
    pub fn pwrite(&self, offset: u64, src: &mut dyn Source, limit: u64) -> Result<usize> {
        check_offset(offset)?;
        if !self.ops.is_seekable() {
            return Err(Errno::ESPIPE.into());
        }
        self.check_writable()?;
        let written = self.write_limited(offset, src, limit)?;
        self.tell(IN_MODIFY);
        Ok(written.len)
    }

    fn write_limited(
        &self,
        offset: u64,
        src: &mut dyn Source,
        limit: u64,
    ) -> Result<crate::file::Written> {
        let append = self.flags().contains(OpenFlags::APPEND);
        let at = if append { WriteAt::End } else { WriteAt::Offset(offset) };
        if limit == u64::MAX || self.file_type() != FileType::Regular {
            return self.ops.write(at, src);
        }
        let start = if append { self.ops.end()? } else { offset };
        let room = limit.saturating_sub(start);
        if room == 0 && src.remaining() > 0 {
            return Err(Errno::EFBIG.into());
        }
        let max = usize::try_from(room).unwrap_or(usize::MAX);
        self.ops.write(at, &mut Limited { source: src, max })
    }

    /// lseek(2). Errors: ESPIPE, EINVAL, ENXIO, EOVERFLOW.
    pub fn seek(&self, offset: i64, whence: Whence) -> Result<u64> {
        if !self.ops.is_seekable() {
            // Linux's eventfd, epoll and their like let the call pass and stay where they are.
            let passes = self.path.is_none() && !matches!(self.ops.kind(), FileKind::Socket(_));
            return if passes { Ok(0) } else { Err(Errno::ESPIPE.into()) };
        }
        let mut position = self.position.lock();
        let base = match whence {
            Whence::Set => 0,
            Whence::Current => *position,
            Whence::End => self.ops.end()?,
            Whence::Data | Whence::Hole => {
                let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                *position = match whence {
                    Whence::Data => self.ops.next_data(from)?,
                    _ => self.ops.next_hole(from)?,
                };
                return Ok(*position);
            }
        };
        let base = i64::try_from(base).map_err(|_| Errno::EOVERFLOW)?;
        let to = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
        *position = u64::try_from(to).map_err(|_| Errno::EINVAL)?;
        Ok(*position)
    }

    /// getdents64(2): lists from the position on; `sink` answers false when it is full. Errors: ENOTDIR, ENOENT for a removed directory.
    pub fn read_dir(&self, sink: &mut DirSink<'_>) -> Result<()> {
        if let Some(path) = &self.path
            && path.file_type() == FileType::Directory
            && path.dentry.is_deleted()
        {
            return Err(Errno::ENOENT.into());
        }
        let mut position = self.position.lock();
        let mut next = *position;
        self.ops.read_dir(*position, &mut |entry| {
            let taken = sink(entry);
            if taken {
                next = entry.next;
            }
            taken
        })?;
        *position = next;
        drop(position);
        self.tell(IN_ACCESS);
        Ok(())
    }

    /// The locks of the file behind it; kept with this description from now on. Errors: EBADF for files without a path.
    pub fn locks(&self) -> Result<Arc<FileLocks>> {
        if let Some(locks) = &*self.locks.lock() {
            return Ok(locks.clone());
        }
        let path = self.path.as_ref().ok_or(Errno::EBADF)?;
        let locks = path.dentry.superblock().locks(&**path.inode())?;
        *self.locks.lock() = Some(locks.clone());
        Ok(locks)
    }

    /// What close(2) of one descriptor does before the description may go: POSIX locks of that table end, and the file hears of it.
    pub(crate) fn close_in(&self, table: u64) {
        self.ops.flush();
        if let Some(path) = &self.path
            && let Some(locks) = path.dentry.superblock().existing_locks(&**path.inode())
        {
            locks.release(LockOwner::Table(table));
        }
    }

    pub(crate) fn add_watcher(&self, epoll: Weak<EpollCore>, key: ItemKey) {
        self.watchers.lock().push((epoll, key));
    }

    pub(crate) fn remove_watcher(&self, epoll: &Weak<EpollCore>, key: ItemKey) {
        self.watchers.lock().retain(|(e, k)| !(Weak::ptr_eq(e, epoll) && *k == key));
    }
}

impl Drop for FileDescription {
    fn drop(&mut self) {
        if let (Some(notice), Some(ready)) = (self.notice.get_mut().take(), self.ops.wait_queue()) {
            notice.leave(ready, self.ops.urgent_queue());
        }
        let watchers = core::mem::take(self.watchers.get_mut());
        for (epoll, key) in watchers {
            if let Some(epoll) = epoll.upgrade() {
                epoll.forget(key, self.ops.wait_queue());
            }
        }
        if !self.flags().contains(OpenFlags::PATH) {
            self.tell(if self.flags().writable() { IN_CLOSE_WRITE } else { IN_CLOSE_NOWRITE });
        }
        if let Some(locks) = self.locks.get_mut().take() {
            locks.release(LockOwner::Description(self.id));
            locks.release_flock(self.id);
        }
    }
}

fn check_offset(offset: u64) -> Result<()> {
    if offset > i64::MAX as u64 { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

/// Attributes of a file that lies in no filesystem.
pub(crate) fn anonymous_attributes(file_type: FileType, permissions: u32, ino: u64) -> Attributes {
    Attributes {
        dev: 0xe,
        ino,
        file_type,
        permissions,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        block_size: 4096,
        blocks: 0,
        atime: Timespec::default(),
        mtime: Timespec::default(),
        ctime: Timespec::default(),
        btime: None,
    }
}

/// A source cut off after some bytes.
struct Limited<'a> {
    source: &'a mut dyn Source,
    max: usize,
}

impl Source for Limited<'_> {
    fn remaining(&self) -> usize {
        self.source.remaining().min(self.max)
    }

    fn read(&mut self, dst: &mut [u8]) -> Result<usize> {
        let n = dst.len().min(self.max);
        let n = self.source.read(&mut dst[..n])?;
        self.max -= n;
        Ok(n)
    }
}

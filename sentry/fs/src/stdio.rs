//! Standard input, output and error of the host as open files of the guest, where they are no terminal: pipes, files, sockets, /dev/null.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use nix::errno::Errno as HostErrno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::stat::{Mode, fstat};
use nix::sys::uio::pread;
use nix::unistd::{Whence, lseek, read, write};
use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::pipe::nameless_path;
use sentry_kernel::file::{FileDescription, FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::vfs::{
    Attributes, Change, FileSystem, FileType, FsStat, Inode, OpenFlags, Timespec,
};
use sentry_kernel::wait::{Events, WaitQueue};

/// Bytes that one host call moves.
const CHUNK: usize = 64 * 1024;
/// What a host pipe takes whole when poll(2) says that it is writable (PIPE_BUF).
const ATOMIC: usize = 4096;

/// Tells guests' wait queues when descriptors of the host become ready. One thread for all of them.
pub struct HostWatcher {
    epoll: Epoll,
    watched: Mutex<Watched>,
}

/// The streams that are watched, by the number that their events carry.
#[derive(Default)]
struct Watched {
    next: u64,
    streams: HashMap<u64, Weak<HostStream>>,
}

impl HostWatcher {
    /// Starts the thread. Errors: those of epoll_create1(2) and of starting a thread.
    pub fn start() -> std::io::Result<Arc<Self>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let watcher = Arc::new(Self { epoll, watched: Mutex::default() });
        let thread = watcher.clone();
        std::thread::Builder::new().name("stdio".into()).spawn(move || thread.run())?;
        Ok(watcher)
    }

    fn run(&self) {
        let mut ready = [EpollEvent::empty(); 8];
        loop {
            match self.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Ok(n) => ready[..n].iter().for_each(|event| self.tell(event)),
                Err(HostErrno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn tell(&self, event: &EpollEvent) {
        let find = |watched: &Watched| watched.streams.get(&event.data()).and_then(Weak::upgrade);
        let stream = self.watched.lock().ok().and_then(|watched| find(&watched));
        if let Some(stream) = stream {
            stream.queue.notify(Events::EVERY);
        }
    }

    /// Regular files cannot be watched, and need not be.
    fn add(&self, stream: &Arc<HostStream>) {
        let Ok(mut watched) = self.watched.lock() else { return };
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        let number = watched.next;
        if self.epoll.add(&stream.fd, EpollEvent::new(flags, number)).is_ok() {
            watched.next += 1;
            watched.streams.insert(number, Arc::downgrade(stream));
            let _ = stream.number.set(number);
        }
    }

    /// A stream ends. Others may have its file open, so that closing alone would leave it watched.
    fn remove(&self, stream: &HostStream) {
        let Some(number) = stream.number.get() else { return };
        let _ = self.epoll.delete(&stream.fd);
        if let Ok(mut watched) = self.watched.lock() {
            watched.streams.remove(number);
        }
    }
}

/// A descriptor of the host.
struct HostStream {
    fd: OwnedFd,
    file_type: FileType,
    queue: WaitQueue,
    watcher: Weak<HostWatcher>,
    /// Its number with the watcher, where it is watched.
    number: OnceLock<u64>,
}

impl Drop for HostStream {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.upgrade() {
            watcher.remove(self);
        }
    }
}

fn errno(host: HostErrno) -> Errno {
    Errno::from_number(host as i32).unwrap_or(Errno::EIO)
}

impl HostStream {
    fn ready(&self, wanted: PollFlags) -> PollFlags {
        let mut fds = [PollFd::new(self.fd.as_fd(), wanted)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => fds[0].revents().unwrap_or(PollFlags::empty()),
            Err(_) => PollFlags::empty(),
        }
    }

    /// Writes bytes that were already taken from the program: it waits in the rare case that another writer took the room since the poll.
    fn write_chunk(&self, bytes: &[u8]) -> Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match write(&self.fd, &bytes[done..]) {
                Ok(n) => done += n,
                Err(HostErrno::EINTR) => {}
                Err(HostErrno::EAGAIN) => {
                    let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut fds, PollTimeout::NONE).map_err(errno)?;
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(errno(error).into()),
            }
        }
        Ok(done)
    }

    fn is_regular(&self) -> bool {
        self.file_type == FileType::Regular
    }
}

impl FileOps for HostStream {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut chunk = vec![0; dst.room().min(CHUNK)];
        if chunk.is_empty() {
            return Ok(0);
        }
        let n = if self.is_regular() {
            pread(&self.fd, &mut chunk, offset as i64).map_err(errno)?
        } else if self.ready(PollFlags::POLLIN).is_empty() {
            return Err(Errno::EAGAIN.into());
        } else {
            read(&self.fd, &mut chunk).map_err(errno)?
        };
        dst.write(&chunk[..n])
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let most = if self.is_regular() { CHUNK } else { ATOMIC };
        let mut chunk = vec![0; src.remaining().min(most)];
        if !self.is_regular() && self.ready(PollFlags::POLLOUT).is_empty() {
            return Err(Errno::EAGAIN.into());
        }
        let n = src.read(&mut chunk)?;
        if self.is_regular() {
            let whence = if at == WriteAt::End { Whence::SeekEnd } else { Whence::SeekSet };
            let offset = if let WriteAt::Offset(offset) = at { offset as i64 } else { 0 };
            lseek(&self.fd, offset, whence).map_err(errno)?;
        }
        let len = self.write_chunk(&chunk[..n])?;
        let end = match at {
            WriteAt::Offset(offset) => offset + len as u64,
            WriteAt::End => self.end().unwrap_or(0),
        };
        Ok(Written { len, end })
    }

    fn is_seekable(&self) -> bool {
        self.is_regular()
    }

    fn end(&self) -> Result<u64> {
        if !self.is_regular() {
            return Err(Errno::ESPIPE.into());
        }
        Ok(fstat(&self.fd).map_err(errno)?.st_size as u64)
    }

    fn readiness(&self) -> Events {
        let ready = self.ready(PollFlags::POLLIN | PollFlags::POLLOUT);
        let mut events = Events::from_bits_truncate(ready.bits() as u32);
        if events.contains(Events::IN) {
            events |= Events::RDNORM;
        }
        if events.contains(Events::OUT) {
            events |= Events::WRNORM;
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        (!self.is_regular()).then_some(&self.queue)
    }

    fn sync(&self) -> Result<()> {
        nix::unistd::fsync(&self.fd).map_err(errno)?;
        Ok(())
    }
}

/// The inode of a descriptor of the host: what fstat(2) tells, and what /proc/self/fd/N opens.
struct StreamInode {
    stream: Arc<HostStream>,
    ops: Arc<dyn FileOps>,
}

impl Inode for StreamInode {
    fn attributes(&self) -> Result<Attributes> {
        let stat = fstat(&self.stream.fd).map_err(errno)?;
        let time = |sec, nsec: i64| Timespec { sec, nsec: nsec as u32 };
        Ok(Attributes {
            dev: stat.st_dev,
            ino: stat.st_ino,
            file_type: self.stream.file_type,
            permissions: stat.st_mode & 0o7777,
            nlink: stat.st_nlink,
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: stat.st_rdev,
            size: stat.st_size as u64,
            block_size: stat.st_blksize as u32,
            blocks: stat.st_blocks as u64,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        self.stream.file_type
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        Arc::new(StreamFs)
    }

    /// Only the size: `> /dev/stdout` truncates the host's file, as it would without a sandbox.
    fn set_attributes(&self, change: &Change) -> Result<()> {
        let size = change.size.ok_or(Errno::EPERM)?;
        let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
        Ok(nix::unistd::ftruncate(&self.stream.fd, size).map_err(errno)?)
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        Ok(self.ops.clone())
    }
}

/// The filesystem of the host's descriptors: none that can be listed.
struct StreamFs;

impl FileSystem for StreamFs {
    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(NoRoot)
    }

    fn stat(&self) -> FsStat {
        let magic = 0x0902_1994; // ANON_INODE_FS_MAGIC
        FsStat {
            magic,
            block_size: 4096,
            blocks: 0,
            blocks_free: 0,
            files: 0,
            files_free: 0,
            name_max: 255,
        }
    }

    fn type_name(&self) -> &'static str {
        "stdio"
    }
}

struct NoRoot;

impl Inode for NoRoot {
    fn attributes(&self) -> Result<Attributes> {
        Err(Errno::EIO.into())
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        Arc::new(StreamFs)
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        Err(Errno::EIO.into())
    }
}

/// A description of our own that does not block, where the descriptor can be opened again (pipes can, sockets cannot).
fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(
        path.as_str(),
        flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY,
        Mode::empty(),
    )
    .ok()
}

/// True where two descriptors of the host share one open regular file, as after `2>&1`: then moving one's position moves the other's.
pub fn share_position(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    let regular = |fd: BorrowedFd<'_>| {
        fstat(fd).is_ok_and(|s| FileType::from_mode(s.st_mode) == Some(FileType::Regular))
    };
    if !regular(a) || !regular(b) {
        return false;
    }
    let (Ok(at), Ok(beside)) = (lseek(a, 0, Whence::SeekCur), lseek(b, 0, Whence::SeekCur)) else {
        return false;
    };
    let moved = lseek(a, 1, Whence::SeekCur).is_ok();
    let follows = lseek(b, 0, Whence::SeekCur).is_ok_and(|now| now == beside + 1);
    // Back to where it was.
    moved && lseek(a, at, Whence::SeekSet).is_ok() && follows
}

/// The host's descriptor as an open file of the guest. Errors: EBADF.
pub fn open_stream(watcher: &Arc<HostWatcher>, fd: BorrowedFd<'_>) -> Result<Arc<FileDescription>> {
    let stat = fstat(fd).map_err(errno)?;
    let file_type = FileType::from_mode(stat.st_mode).ok_or(Errno::EBADF)?;
    let raw: RawFd = fd.as_raw_fd();
    let host_flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).map_err(errno)?;
    let mut flags = OpenFlags::empty();
    match host_flags & nix::libc::O_ACCMODE {
        nix::libc::O_WRONLY => flags |= OpenFlags::WRONLY,
        nix::libc::O_RDWR => flags |= OpenFlags::RDWR,
        _ => {}
    }
    if host_flags & nix::libc::O_APPEND != 0 {
        flags |= OpenFlags::APPEND;
    }
    let access = OFlag::from_bits_truncate(host_flags & nix::libc::O_ACCMODE);
    let own = if file_type == FileType::Fifo { reopen(fd, access) } else { None };
    let fd = match own {
        Some(fd) => fd,
        None => fd.try_clone_to_owned().map_err(|_| Errno::EBADF)?,
    };
    let position = if file_type == FileType::Regular {
        lseek(&fd, 0, Whence::SeekCur).unwrap_or(0)
    } else {
        0
    };
    let stream = Arc::new(HostStream {
        fd,
        file_type,
        queue: WaitQueue::new(),
        watcher: Arc::downgrade(watcher),
        number: OnceLock::new(),
    });
    watcher.add(&stream);
    let ops: Arc<dyn FileOps> = stream.clone();
    let inode = Arc::new(StreamInode { stream, ops: ops.clone() });
    let path = nameless_path(inode, format!("host:[{raw}]").as_bytes());
    let file = FileDescription::new(ops, Some(path), flags);
    *file.position().lock() = position as u64;
    Ok(file)
}

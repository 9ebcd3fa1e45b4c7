//! Pipes and FIFOs (pipe(7)): a ring of bytes in slots of a page, two kinds of ends, whole writes up to PIPE_BUF, packets.

use core::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::Errno;

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::description::{FileDescription, anonymous_attributes};
use crate::file::nameless;
pub use crate::file::nameless::nameless_path;
use crate::file::ops::{FileKind, FileOps, WriteAt, Written};
use crate::io::{Sink, Source};
use crate::sync::{Mutex, Rank};
use crate::vfs::{Attributes, Change, FileSystem, FileType, Inode, OpenFlags};
use crate::wait::{Events, WaitQueue};

/// Writes of at most this many bytes are whole or not at all.
pub const PIPE_BUF: usize = 4096;
/// Bytes that a new pipe holds.
pub const DEFAULT_CAPACITY: usize = 64 * 1024;
/// The most that F_SETPIPE_SZ grants without CAP_SYS_RESOURCE (fs.pipe-max-size).
pub const MAX_CAPACITY: usize = 1024 * 1024;

/// Bytes in order of arrival, in a buffer that grows up to the capacity.
#[derive(Default)]
struct Ring {
    buf: Vec<u8>,
    head: usize,
    len: usize,
}

impl Ring {
    fn room_for(&mut self, wanted: usize, capacity: usize) {
        let needed = (self.len + wanted).min(capacity);
        if needed <= self.buf.len() {
            return;
        }
        let size = needed.next_power_of_two().clamp(PIPE_BUF, capacity.max(PIPE_BUF));
        let mut grown = vec![0; size];
        let (a, b) = self.filled();
        grown[..a.len()].copy_from_slice(a);
        grown[a.len()..a.len() + b.len()].copy_from_slice(b);
        self.buf = grown;
        self.head = 0;
    }

    fn filled(&self) -> (&[u8], &[u8]) {
        let end = self.head + self.len;
        if end <= self.buf.len() {
            (&self.buf[self.head..end], &[])
        } else {
            (&self.buf[self.head..], &self.buf[..end - self.buf.len()])
        }
    }

    /// The first free stretch.
    fn free(&mut self) -> &mut [u8] {
        let end = self.head + self.len;
        if end < self.buf.len() {
            &mut self.buf[end..]
        } else {
            let start = end - self.buf.len();
            &mut self.buf[start..self.head]
        }
    }

    fn consume(&mut self, n: usize) {
        self.len -= n;
        self.head = if self.len == 0 { 0 } else { (self.head + n) % self.buf.len() };
    }
}

/// A page of Linux's pipe: what is full and what may be joined counts in these, so that poll(2) and partial writes agree with it.
struct Slot {
    /// Bytes that are still to be read.
    len: usize,
    /// Bytes that were ever put in.
    used: usize,
}

struct State {
    ring: Ring,
    /// Where the ring's bytes lie; their lengths add up to its own.
    slots: VecDeque<Slot>,
    capacity: usize,
    readers: u32,
    writers: u32,
    /// How often a reader or writer was opened: a FIFO's opener waits for these to move.
    readers_ever: u64,
    writers_ever: u64,
}

impl State {
    fn free_slots(&self) -> usize {
        (self.capacity / PIPE_BUF).saturating_sub(self.slots.len())
    }

    /// Takes bytes off the front.
    fn take(&mut self, mut n: usize) {
        self.ring.consume(n);
        while let Some(front) = self.slots.front_mut().filter(|_| n > 0) {
            let part = n.min(front.len);
            front.len -= part;
            n -= part;
            if front.len == 0 {
                self.slots.pop_front();
            }
        }
    }

    /// Bytes of a write that go to the last slot: the part beyond whole pages, where all of it fits.
    fn joined(&self, wanted: usize, unit: Unit) -> usize {
        let part = wanted % PIPE_BUF;
        let fits = self.slots.back().is_some_and(|last| last.used + part <= PIPE_BUF);
        if fits && unit == Unit::Bytes { part } else { 0 }
    }

    /// Notes where `n` new bytes lie.
    fn put(&mut self, n: usize, joined: usize) {
        let first = n.min(joined);
        if let Some(last) = self.slots.back_mut() {
            last.len += first;
            last.used += first;
        }
        let mut left = n - first;
        while left > 0 {
            let len = left.min(PIPE_BUF);
            self.slots.push_back(Slot { len, used: len });
            left -= len;
        }
    }
}

/// What a read takes at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    /// What is there.
    Bytes,
    /// One write (O_DIRECT).
    Packet,
}

/// The pipe between its ends.
pub struct Pipe {
    unit: Unit,
    state: Mutex<State>,
    queue: WaitQueue,
    ino: u64,
    owner: Mutex<Owner>,
}

/// Owner and permissions of a pipe without a name; they mean nothing but can be changed and seen.
struct Owner {
    uid: u32,
    gid: u32,
    permissions: u32,
}

/// What an end may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Both (a FIFO opened O_RDWR).
    Both,
}

impl Direction {
    fn of(flags: OpenFlags) -> Self {
        match (flags.readable(), flags.writable()) {
            (true, true) => Self::Both,
            (false, true) => Self::Write,
            _ => Self::Read,
        }
    }

    fn reads(self) -> bool {
        self != Self::Write
    }

    fn writes(self) -> bool {
        self != Self::Read
    }
}

impl Pipe {
    /// A pipe without ends.
    pub fn new() -> Arc<Self> {
        Self::of(Unit::Bytes)
    }

    fn of(unit: Unit) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(10_000);
        let state = State {
            ring: Ring::default(),
            slots: VecDeque::new(),
            capacity: DEFAULT_CAPACITY,
            readers: 0,
            writers: 0,
            readers_ever: 0,
            writers_ever: 0,
        };
        Arc::new(Self {
            unit,
            state: Mutex::new(Rank::PIPE, state),
            queue: WaitQueue::new(),
            owner: Mutex::new(Rank::LEAF, Owner { uid: 0, gid: 0, permissions: 0o600 }),
            ino: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Who waits for either end.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.state.lock().ring.len
    }

    /// True without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// F_GETPIPE_SZ
    pub fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// F_SETPIPE_SZ: rounded up to a power of two of pages; returns it. Errors: EBUSY where more bytes are in it, EINVAL.
    pub fn set_capacity(&self, bytes: usize) -> Result<usize> {
        if bytes > (1 << 31) {
            return Err(Errno::EINVAL.into());
        }
        let size = bytes.max(PIPE_BUF).next_power_of_two();
        let mut state = self.state.lock();
        if state.slots.len() > size / PIPE_BUF {
            return Err(Errno::EBUSY.into());
        }
        if size < state.ring.buf.len() {
            let (a, b) = state.ring.filled();
            let mut buf = [a, b].concat();
            buf.resize(size, 0);
            state.ring.buf = buf;
            state.ring.head = 0;
        }
        let grew = size > state.capacity;
        state.capacity = size;
        drop(state);
        if grew {
            self.queue.notify(Events::OUT | Events::WRNORM);
        }
        Ok(size)
    }

    /// Copies up to `max` bytes from the front without taking them (tee(2)). Errors: EAGAIN where it is empty; an empty result is the end.
    pub fn peek(&self, max: usize) -> Result<Vec<u8>> {
        let state = self.state.lock();
        if state.ring.len == 0 && state.writers > 0 {
            return Err(Errno::EAGAIN.into());
        }
        let (a, b) = state.ring.filled();
        let mut bytes = Vec::with_capacity(max.min(state.ring.len));
        bytes.extend_from_slice(&a[..a.len().min(max)]);
        let rest = max - bytes.len();
        bytes.extend_from_slice(&b[..b.len().min(rest)]);
        Ok(bytes)
    }

    /// Takes up to `n` bytes that [`Self::peek`] showed.
    pub fn consume(&self, n: usize) {
        let mut state = self.state.lock();
        let n = n.min(state.ring.len);
        state.take(n);
        drop(state);
        if n > 0 {
            self.queue.notify(Events::OUT | Events::WRNORM);
        }
    }

    fn read(&self, dst: &mut dyn Sink) -> Result<usize> {
        if dst.room() == 0 {
            return Ok(0);
        }
        let mut state = self.state.lock();
        if state.ring.len == 0 {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN.into()) };
        }
        let packet = match self.unit {
            Unit::Packet => state.slots.front().map_or(0, |slot| slot.len),
            Unit::Bytes => usize::MAX,
        };
        let mut done = 0;
        while state.ring.len > 0 && dst.room() > 0 && done < packet {
            let (front, _) = state.ring.filled();
            let wanted = front.len().min(dst.room()).min(packet - done);
            match dst.write(&front[..wanted]) {
                Ok(n) => {
                    state.take(n);
                    done += n;
                    if n < wanted {
                        break;
                    }
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if self.unit == Unit::Packet {
            // pipe(2): what a read has no room for of a packet is lost.
            state.take(packet - done);
        }
        drop(state);
        if done > 0 {
            self.queue.notify(Events::OUT | Events::WRNORM);
        }
        Ok(done)
    }

    fn write(&self, src: &mut dyn Source) -> Result<usize> {
        let wanted = src.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let mut state = self.state.lock();
        if state.readers == 0 {
            return Err(Errno::EPIPE.into());
        }
        // pipe(7): up to PIPE_BUF bytes are written whole, for they need one slot.
        let joined = state.joined(wanted, self.unit);
        let mut left = wanted.min(joined + state.free_slots() * PIPE_BUF);
        if left == 0 {
            return Err(Errno::EAGAIN.into());
        }
        let capacity = state.capacity;
        state.ring.room_for(left, capacity);
        let mut done = 0;
        while left > 0 {
            let free = state.ring.free();
            let part = free.len().min(left);
            match src.read(&mut free[..part]) {
                Ok(0) => break,
                Ok(n) => {
                    state.ring.len += n;
                    done += n;
                    left -= n;
                }
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        if left > 0 {
            // Linux fills page by page, and a page that the program cannot give whole is not written.
            let whole = done.checked_sub(joined).map_or(0, |n| joined + n / PIPE_BUF * PIPE_BUF);
            state.ring.len -= done - whole;
            done = whole;
        }
        state.put(done, joined);
        drop(state);
        if done == 0 {
            return Err(Errno::EFAULT.into());
        }
        self.queue.notify(Events::IN | Events::RDNORM);
        Ok(done)
    }
}

/// One end of a pipe as an open file.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    direction: Direction,
    /// Openings of the other kind before this one.
    peers_before: u64,
}

impl PipeEnd {
    /// Opens an end.
    pub fn open(pipe: &Arc<Pipe>, direction: Direction) -> Arc<Self> {
        let state = pipe.state.lock();
        let peers_before = match direction {
            Direction::Write => state.readers_ever,
            _ => state.writers_ever,
        };
        drop(state);
        Self::open_after(pipe, direction, peers_before)
    }

    fn open_after(pipe: &Arc<Pipe>, direction: Direction, peers_before: u64) -> Arc<Self> {
        let mut state = pipe.state.lock();
        if direction.reads() {
            state.readers += 1;
            state.readers_ever += 1;
        }
        if direction.writes() {
            state.writers += 1;
            state.writers_ever += 1;
        }
        drop(state);
        pipe.queue.notify(Events::IN | Events::OUT);
        Arc::new(Self { pipe: pipe.clone(), direction, peers_before })
    }

    /// The end behind an open file.
    pub fn of(ops: &dyn FileOps) -> Option<&Self> {
        match ops.kind() {
            FileKind::Kernel(any) => any.downcast_ref(),
            _ => None,
        }
    }

    /// The pipe.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// What it may do.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// True where the other kind of end is open, or was since this one was opened: a blocking open of a FIFO waits for it.
    pub fn peer_came(&self) -> bool {
        let state = self.pipe.state.lock();
        match self.direction {
            Direction::Read => state.writers > 0 || state.writers_ever != self.peers_before,
            Direction::Write => state.readers > 0 || state.readers_ever != self.peers_before,
            Direction::Both => true,
        }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        let mut events = Events::empty();
        if self.direction.reads() {
            state.readers -= 1;
            if state.readers == 0 {
                events |= Events::OUT | Events::ERR;
            }
        }
        if self.direction.writes() {
            state.writers -= 1;
            if state.writers == 0 {
                events |= Events::IN | Events::HUP;
            }
        }
        // A FIFO that nobody has open forgets its bytes.
        if state.readers == 0 && state.writers == 0 {
            state.ring = Ring::default();
            state.slots.clear();
        }
        drop(state);
        if !events.is_empty() {
            self.pipe.queue.notify(events);
        }
    }
}

impl FileOps for PipeEnd {
    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.pipe.read(dst)
    }

    fn write(&self, _: WriteAt, src: &mut dyn Source) -> Result<Written> {
        Ok(Written { len: self.pipe.write(src)?, end: 0 })
    }

    fn readiness(&self) -> Events {
        let state = self.pipe.state.lock();
        let mut events = Events::empty();
        if self.direction.reads() {
            if state.ring.len > 0 {
                events |= Events::IN | Events::RDNORM;
            }
            if state.writers == 0 && state.writers_ever != self.peers_before {
                events |= Events::HUP;
            }
        }
        if self.direction.writes() {
            if state.free_slots() > 0 {
                events |= Events::OUT | Events::WRNORM;
            }
            if state.readers == 0 {
                events |= Events::ERR;
            }
        }
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
    }

    fn bytes_readable(&self) -> Result<u64> {
        Ok(self.pipe.len() as u64)
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Kernel(self as &dyn Any)
    }
}

/// Opens a FIFO's pipe. Never waits: see [`PipeEnd::peer_came`]. Errors: ENXIO for O_WRONLY | O_NONBLOCK without a reader.
pub(crate) fn open_fifo(pipe: &Arc<Pipe>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let direction = Direction::of(flags);
    if direction == Direction::Write
        && flags.contains(OpenFlags::NONBLOCK)
        && pipe.state.lock().readers == 0
    {
        return Err(Errno::ENXIO.into());
    }
    Ok(PipeEnd::open(pipe, direction))
}

/// pipe2(2): the read end and the write end. `flags` may hold O_NONBLOCK and O_DIRECT.
pub fn pipe(flags: OpenFlags) -> (Arc<FileDescription>, Arc<FileDescription>) {
    let unit = if flags.contains(OpenFlags::DIRECT) { Unit::Packet } else { Unit::Bytes };
    let pipe = Pipe::of(unit);
    let name = format!("pipe:[{}]", pipe.ino);
    let inode = Arc::new(PipeInode { pipe: pipe.clone() });
    let path = nameless_path(inode, name.as_bytes());
    let status = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let read = PipeEnd::open(&pipe, Direction::Read);
    let write = PipeEnd::open(&pipe, Direction::Write);
    (
        FileDescription::new(read, Some(path.clone()), status),
        FileDescription::new(write, Some(path), status | OpenFlags::WRONLY),
    )
}

struct PipeInode {
    pipe: Arc<Pipe>,
}

impl Inode for PipeInode {
    fn attributes(&self) -> Result<Attributes> {
        let owner = self.pipe.owner.lock();
        let (uid, gid) = (owner.uid, owner.gid);
        let plain = anonymous_attributes(FileType::Fifo, owner.permissions, self.pipe.ino);
        Ok(Attributes { uid, gid, ..plain })
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        if change.size.is_some() {
            return Err(Errno::EINVAL.into());
        }
        let mut owner = self.pipe.owner.lock();
        owner.uid = change.uid.unwrap_or(owner.uid);
        owner.gid = change.gid.unwrap_or(owner.gid);
        owner.permissions = change.permissions.unwrap_or(owner.permissions);
        Ok(())
    }

    fn file_type(&self) -> FileType {
        FileType::Fifo
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        nameless::filesystem()
    }

    /// A pipe of pipe(2) had both ends once: no opening waits, and one without a peer sees the end at once.
    fn open(self: Arc<Self>, flags: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        Ok(PipeEnd::open_after(&self.pipe, Direction::of(flags), 0))
    }

    fn permission(&self, _: crate::vfs::Access, _: &Credentials) -> Option<Result<()>> {
        // Only its holders reach it, through their own /proc/PID/fd.
        Some(Ok(()))
    }
}

//! Copies between the kernel and program memory. Every address is an allegation: it is checked here, at the copy, as the program's own access would be.

use core::ops::Range;
use std::sync::Arc;

use platform::MemoryFile;
use sentry_abi::uio::{IoVec, UIO_MAXIOV};
use sentry_abi::{Errno, PAGE_SIZE, UserAddr, UserPtr, UserSlice};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::Result;
use crate::io::{Sink, Source};
use crate::mm::fault::Extent;
use crate::mm::manager::MemoryManager;
use crate::mm::pages::Want;

/// Most bytes that one read or write moves (MAX_RW_COUNT): vectors are cut to this.
pub const RW_MAX: u64 = 0x7fff_f000;

/// Where user addresses end (TASK_SIZE_MAX with four-level paging).
const USER_END: u64 = 0x7fff_ffff_f000;

/// How often a copy may find its page taken away again by another thread before it counts as a fault.
const TRIES: u32 = 1000;

impl MemoryManager {
    /// Walks `len` bytes from `addr`: gives `copy` the offset in the memory file and the part of the buffer, run by run. Returns how many bytes could be reached.
    fn walk(
        &self,
        addr: UserAddr,
        len: usize,
        want: Want,
        mut copy: impl FnMut(u64, Range<usize>),
    ) -> usize {
        let (mut done, mut tries) = (0, 0);
        while done < len {
            let Some(at) = addr.0.checked_add(done as u64) else { return done };
            let before = done;
            {
                let pages = self.pages.read();
                let mut at = at;
                while done < len
                    && let Some((offset, most)) = pages.accessible(at, want)
                {
                    let part = (len - done).min(usize::try_from(most).unwrap_or(usize::MAX));
                    copy(offset, done..done + part);
                    done += part;
                    at += part as u64;
                }
            }
            if done == len {
                break;
            }
            tries = if done > before { 0 } else { tries + 1 };
            let next = addr.0.saturating_add(done as u64);
            if tries > TRIES || self.make_accessible(next, want, Extent::ByNeed).is_err() {
                break;
            }
        }
        done
    }

    /// Copies from the program until `buf` is full or an address is bad; returns the bytes copied.
    pub fn read_partial(&self, addr: UserAddr, buf: &mut [u8]) -> usize {
        let mut sound = true;
        let memory = &self.memory;
        let done = self.walk(addr, buf.len(), Want::Read, |offset, part| {
            sound &= memory.read_at(offset, &mut buf[part]).is_ok();
        });
        if sound { done } else { 0 }
    }

    /// Copies to the program until all is written or an address is bad; returns the bytes copied.
    pub fn write_partial(&self, addr: UserAddr, bytes: &[u8]) -> usize {
        let mut sound = true;
        let memory = &self.memory;
        let done = self.walk(addr, bytes.len(), Want::Write, |offset, part| {
            sound &= memory.write_at(offset, &bytes[part]).is_ok();
        });
        if sound { done } else { 0 }
    }

    /// Copies `len` bytes at `offset` of the memory file to the program; returns the bytes copied.
    fn write_memory_partial(&self, addr: UserAddr, offset: u64, len: usize) -> usize {
        let mut sound = true;
        let memory = &self.memory;
        let done = self.walk(addr, len, Want::Write, |to, part| {
            let from = offset + part.start as u64;
            sound &= memory.copy_within(from, to, part.len() as u64).is_ok();
        });
        if sound { done } else { 0 }
    }

    /// Copies `len` bytes from the program to `offset` of the memory file; returns the bytes copied.
    fn read_memory_partial(&self, addr: UserAddr, offset: u64, len: usize) -> usize {
        let mut sound = true;
        let memory = &self.memory;
        let done = self.walk(addr, len, Want::Read, |from, part| {
            let to = offset + part.start as u64;
            sound &= memory.copy_within(from, to, part.len() as u64).is_ok();
        });
        if sound { done } else { 0 }
    }

    /// Fills `buf` from the program. Errors: EFAULT where a byte cannot be read; `buf` may then be partly filled.
    pub fn read(&self, addr: UserAddr, buf: &mut [u8]) -> Result<()> {
        whole(self.read_partial(addr, buf), buf.len())
    }

    /// Writes all of `bytes` to the program. Errors: EFAULT where a byte cannot be written; some may be written then.
    pub fn write(&self, addr: UserAddr, bytes: &[u8]) -> Result<()> {
        whole(self.write_partial(addr, bytes), bytes.len())
    }

    /// Writes `len` zero bytes. Errors: EFAULT.
    pub fn zero(&self, addr: UserAddr, len: usize) -> Result<()> {
        whole(self.zero_partial(addr, len), len)
    }

    fn zero_partial(&self, addr: UserAddr, len: usize) -> usize {
        let mut sound = true;
        let memory = &self.memory;
        let done = self.walk(addr, len, Want::Write, |offset, part| {
            let range = platform::FileRange::new(offset, part.len() as u64);
            sound &= memory.zero(range).is_ok();
        });
        if sound { done } else { 0 }
    }

    /// Reads a structure. Errors: EFAULT.
    pub fn read_obj<T: FromBytes + IntoBytes>(&self, ptr: UserPtr<T>) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read(ptr.addr(), value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a structure. Errors: EFAULT.
    pub fn write_obj<T: IntoBytes + Immutable>(&self, ptr: UserPtr<T>, value: &T) -> Result<()> {
        self.write(ptr.addr(), value.as_bytes())
    }

    /// Reads an array of at most `most` elements. Errors: EINVAL for more, EFAULT.
    pub fn read_slice<T>(&self, slice: UserSlice<T>, most: usize) -> Result<Vec<T>>
    where
        T: FromBytes + IntoBytes,
    {
        let len = usize::try_from(slice.len()).ok().filter(|len| *len <= most);
        let len = len.ok_or(Errno::EINVAL)?;
        let mut values: Vec<T> = (0..len).map(|_| T::new_zeroed()).collect();
        self.read(slice.addr(), values.as_mut_slice().as_mut_bytes())?;
        Ok(values)
    }

    /// Writes the elements one behind the other. Errors: EFAULT.
    pub fn write_slice<T: IntoBytes + Immutable>(
        &self,
        ptr: UserPtr<T>,
        values: &[T],
    ) -> Result<()> {
        self.write(ptr.addr(), values.as_bytes())
    }

    /// Reads a string up to its NUL, which is not returned. Errors: ENAMETOOLONG where none is among the first `max` bytes, EFAULT.
    pub fn read_cstring(&self, addr: UserAddr, max: usize) -> Result<Vec<u8>> {
        let mut string = Vec::new();
        let mut at = addr;
        loop {
            // Up to the next page boundary: what lies behind the NUL need not be readable.
            let room = (PAGE_SIZE - at.0 % PAGE_SIZE) as usize;
            let part = room.min(max - string.len()).min(256);
            if part == 0 {
                return Err(Errno::ENAMETOOLONG.into());
            }
            let from = string.len();
            string.resize(from + part, 0);
            self.read(at, &mut string[from..])?;
            if let Some(nul) = string[from..].iter().position(|byte| *byte == 0) {
                string.truncate(from + nul);
                return Ok(string);
            }
            at = at.offset(part as u64)?;
        }
    }

    /// The check that Linux makes before it looks at anything else (access_ok): a range that reaches beyond user memory.
    /// Errors: EFAULT.
    pub fn check_range(&self, addr: UserAddr, len: u64) -> Result<()> {
        match addr.0.checked_add(len) {
            Some(end) if end <= USER_END => Ok(()),
            _ => Err(Errno::EFAULT.into()),
        }
    }

    /// Reads a vector of buffers, cut to the most that one call moves (readv(2)).
    /// Errors: EINVAL for more than 1024 or a length that is negative as ssize_t, EFAULT.
    pub fn iovecs(&self, ptr: UserPtr<IoVec>, count: u64) -> Result<Vec<IoVec>> {
        let raw = UserSlice::<IoVec>::new(ptr.addr().0, count);
        let mut vector = self.read_slice(raw, UIO_MAXIOV)?;
        let mut left = RW_MAX;
        for part in &mut vector {
            if part.len > i64::MAX as u64 {
                return Err(Errno::EINVAL.into());
            }
            self.check_range(UserAddr(part.base), part.len)?;
            part.len = part.len.min(left);
            left -= part.len;
        }
        Ok(vector)
    }

    /// A sink that fills the program's buffers in order.
    pub fn user_sink(self: &Arc<Self>, buffers: Vec<IoVec>) -> UserSink {
        UserSink { buffers: UserBuffers::new(self.clone(), buffers) }
    }

    /// A sink that fills one buffer of the program.
    pub fn user_sink_one(self: &Arc<Self>, buffer: UserSlice<u8>) -> UserSink {
        self.user_sink(vec![one(buffer)])
    }

    /// A source that reads the program's buffers in order.
    pub fn user_source(self: &Arc<Self>, buffers: Vec<IoVec>) -> UserSource {
        UserSource { buffers: UserBuffers::new(self.clone(), buffers) }
    }

    /// A source that reads one buffer of the program.
    pub fn user_source_one(self: &Arc<Self>, buffer: UserSlice<u8>) -> UserSource {
        self.user_source(vec![one(buffer)])
    }
}

fn one(buffer: UserSlice<u8>) -> IoVec {
    IoVec { base: buffer.addr().0, len: buffer.len().min(RW_MAX) }
}

fn whole(done: usize, len: usize) -> Result<()> {
    if done == len { Ok(()) } else { Err(Errno::EFAULT.into()) }
}

/// A vector of program buffers and how far it was used.
struct UserBuffers {
    mm: Arc<MemoryManager>,
    vector: Vec<IoVec>,
    /// Index of the current buffer, and bytes of it that are done.
    index: usize,
    used: u64,
    left: u64,
}

impl UserBuffers {
    fn new(mm: Arc<MemoryManager>, mut vector: Vec<IoVec>) -> Self {
        let mut left = RW_MAX;
        for part in &mut vector {
            part.len = part.len.min(left);
            left -= part.len;
        }
        Self { mm, vector, index: 0, used: 0, left: RW_MAX - left }
    }

    fn remaining(&self) -> usize {
        self.left as usize
    }

    /// Moves up to `len` bytes with `copy(mm, addr, part of the kernel's buffer) -> bytes moved`. Errors: EFAULT where the first byte cannot be moved.
    fn advance(
        &mut self,
        len: usize,
        mut copy: impl FnMut(&MemoryManager, UserAddr, Range<usize>) -> usize,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len
            && let Some(buffer) = self.vector.get(self.index)
        {
            let room = (buffer.len - self.used) as usize;
            let part = room.min(len - done);
            if part > 0 {
                let at = UserAddr(buffer.base.wrapping_add(self.used));
                // An address that wraps ends below the lowest area: a fault.
                let moved = copy(&self.mm, at, done..done + part);
                done += moved;
                self.used += moved as u64;
                self.left -= moved as u64;
                if moved < part {
                    return if done == 0 { Err(Errno::EFAULT.into()) } else { Ok(done) };
                }
            }
            if self.used == buffer.len {
                (self.index, self.used) = (self.index + 1, 0);
            }
        }
        Ok(done)
    }
}

/// Program buffers that take bytes: what read(2) and its like fill.
pub struct UserSink {
    buffers: UserBuffers,
}

impl Sink for UserSink {
    fn room(&self) -> usize {
        self.buffers.remaining()
    }

    fn write(&mut self, src: &[u8]) -> Result<usize> {
        self.buffers.advance(src.len(), |mm, at, part| mm.write_partial(at, &src[part]))
    }

    fn write_zeros(&mut self, len: usize) -> Result<usize> {
        self.buffers.advance(len, |mm, at, part| mm.zero_partial(at, part.len()))
    }

    fn write_memory(&mut self, memory: &MemoryFile, offset: u64, len: usize) -> Result<usize> {
        debug_assert!(core::ptr::eq(memory, &*self.buffers.mm.memory), "one memory file a sandbox");
        self.buffers.advance(len, |mm, at, part| {
            mm.write_memory_partial(at, offset + part.start as u64, part.len())
        })
    }
}

/// Program buffers that give bytes: what write(2) and its like read.
pub struct UserSource {
    buffers: UserBuffers,
}

impl Source for UserSource {
    fn remaining(&self) -> usize {
        self.buffers.remaining()
    }

    fn read(&mut self, dst: &mut [u8]) -> Result<usize> {
        self.buffers.advance(dst.len(), |mm, at, part| mm.read_partial(at, &mut dst[part]))
    }

    fn read_memory(&mut self, memory: &MemoryFile, offset: u64, len: usize) -> Result<usize> {
        debug_assert!(core::ptr::eq(memory, &*self.buffers.mm.memory), "one memory file a sandbox");
        self.buffers.advance(len, |mm, at, part| {
            mm.read_memory_partial(at, offset + part.start as u64, part.len())
        })
    }
}

//! Where bytes come from and go to: program memory, kernel buffers and pages, behind two traits, so that a file never sees a user address.

use platform::MemoryFile;
use sentry_abi::Errno;

use crate::error::Result;

/// Bytes that the default copies between memory file and buffer move at a time.
const BOUNCE: usize = 1 << 16;

/// Takes bytes: a program's buffer (possibly several iovecs), a kernel buffer, another file.
pub trait Sink {
    /// How many bytes it can still take.
    fn room(&self) -> usize;

    /// Takes bytes from the front of `src`; returns how many (at most `room`).
    /// Errors: EFAULT where the first byte cannot be stored; a later bad address gives a short count.
    fn write(&mut self, src: &[u8]) -> Result<usize>;

    /// Takes `len` zero bytes (holes).
    fn write_zeros(&mut self, len: usize) -> Result<usize> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(ZEROS.len());
            let n = self.write(&ZEROS[..part])?;
            done += n;
            if n < part {
                break;
            }
        }
        Ok(done)
    }

    /// Takes `len` bytes at byte `offset` of the memory file, whose pages the caller keeps alive; returns how many.
    /// Sinks into program memory override this with one copy.
    fn write_memory(&mut self, memory: &MemoryFile, offset: u64, len: usize) -> Result<usize> {
        let len = len.min(self.room());
        let mut buffer = vec![0; len.min(BOUNCE)];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BOUNCE);
            let buffer = &mut buffer[..part];
            memory.read_at(offset + done as u64, buffer).map_err(|_| Errno::EIO)?;
            match self.write(buffer) {
                Ok(n) => done += n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            if done % BOUNCE != 0 {
                break;
            }
        }
        Ok(done)
    }
}

/// Gives bytes: a program's buffer, a kernel buffer, another file.
pub trait Source {
    /// How many bytes are left.
    fn remaining(&self) -> usize;

    /// Fills the front of `dst`; returns how many bytes (0 only where nothing remains or `dst` is empty).
    /// Errors: EFAULT where the first byte cannot be read; a later bad address gives a short count.
    fn read(&mut self, dst: &mut [u8]) -> Result<usize>;

    /// Fills `len` bytes at byte `offset` of the memory file, whose pages the caller keeps alive; returns how many.
    /// Sources from program memory override this with one copy.
    fn read_memory(&mut self, memory: &MemoryFile, offset: u64, len: usize) -> Result<usize> {
        let len = len.min(self.remaining());
        let mut buffer = vec![0; len.min(BOUNCE)];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BOUNCE);
            let n = match self.read(&mut buffer[..part]) {
                Ok(n) => n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            memory.write_at(offset + done as u64, &buffer[..n]).map_err(|_| Errno::EIO)?;
            done += n;
            if n < part {
                break;
            }
        }
        Ok(done)
    }
}

/// A sink over a kernel buffer.
#[derive(Debug)]
pub struct SliceSink<'a> {
    buf: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceSink<'a> {
    /// Fills `buf` from its start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, filled: 0 }
    }

    /// Bytes taken so far.
    pub fn filled(&self) -> usize {
        self.filled
    }
}

impl Sink for SliceSink<'_> {
    fn room(&self) -> usize {
        self.buf.len() - self.filled
    }

    fn write(&mut self, src: &[u8]) -> Result<usize> {
        let n = src.len().min(self.room());
        self.buf[self.filled..self.filled + n].copy_from_slice(&src[..n]);
        self.filled += n;
        Ok(n)
    }

    fn write_memory(&mut self, memory: &MemoryFile, offset: u64, len: usize) -> Result<usize> {
        let n = len.min(self.room());
        let into = &mut self.buf[self.filled..self.filled + n];
        memory.read_at(offset, into).map_err(|_| Errno::EIO)?;
        self.filled += n;
        Ok(n)
    }
}

/// A sink that grows a vector up to a limit.
#[derive(Debug)]
pub struct VecSink {
    bytes: Vec<u8>,
    limit: usize,
}

impl VecSink {
    /// Takes at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// What was taken.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

impl Sink for VecSink {
    fn room(&self) -> usize {
        self.limit - self.bytes.len()
    }

    fn write(&mut self, src: &[u8]) -> Result<usize> {
        let n = src.len().min(self.room());
        self.bytes.extend_from_slice(&src[..n]);
        Ok(n)
    }
}

/// A source over a kernel buffer.
#[derive(Debug)]
pub struct SliceSource<'a> {
    rest: &'a [u8],
}

impl<'a> SliceSource<'a> {
    /// Gives `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self, dst: &mut [u8]) -> Result<usize> {
        let n = dst.len().min(self.rest.len());
        dst[..n].copy_from_slice(&self.rest[..n]);
        self.rest = &self.rest[n..];
        Ok(n)
    }

    fn read_memory(&mut self, memory: &MemoryFile, offset: u64, len: usize) -> Result<usize> {
        let n = len.min(self.rest.len());
        memory.write_at(offset, &self.rest[..n]).map_err(|_| Errno::EIO)?;
        self.rest = &self.rest[n..];
        Ok(n)
    }
}

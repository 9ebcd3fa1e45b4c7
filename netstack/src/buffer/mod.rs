//! Packet memory: reference-counted slabs, chains of slices of them, and packets with inline header room.
//! It must not know any protocol.

mod chain;
mod packet;
mod slab;
mod tags;

pub use chain::{Chain, Slice};
pub use packet::{ChecksumOffload, CwrOf, Gso, GsoKind, HEADER_ROOM, Offload, PacketBuffer};
pub use slab::{FramePool, FreeSlab, SLAB_SIZE, Slab, SlabPool};
pub use tags::{Departure, Step, Tags};

/// The memory of the program was not readable or writable where it said (EFAULT).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("bad address in the program's memory")]
pub struct Fault;

/// Where the bytes of a send come from (usually the program's memory).
pub trait Source {
    /// How many bytes are left to read.
    fn remaining(&self) -> usize;

    /// Copies up to `dst.len()` bytes and advances; returns how many (0 at the end).
    fn read(&mut self, dst: &mut [u8]) -> Result<usize, Fault>;
}

/// Where the bytes of a receive go (usually the program's memory).
pub trait Sink {
    /// How many bytes still fit.
    fn room(&self) -> usize;

    /// Copies up to `src.len()` bytes and advances; returns how many (0 when full).
    fn write(&mut self, src: &[u8]) -> Result<usize, Fault>;
}

/// Bytes in memory are a source that never faults.
impl Source for &[u8] {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn read(&mut self, dst: &mut [u8]) -> Result<usize, Fault> {
        let n = self.len().min(dst.len());
        let (now, later) = self.split_at(n);
        dst[..n].copy_from_slice(now);
        *self = later;
        Ok(n)
    }
}

/// A vector is a sink without a bound.
impl Sink for Vec<u8> {
    fn room(&self) -> usize {
        usize::MAX - self.len()
    }

    fn write(&mut self, src: &[u8]) -> Result<usize, Fault> {
        self.extend_from_slice(src);
        Ok(src.len())
    }
}

/// A slice is a sink of its own length.
impl Sink for &mut [u8] {
    fn room(&self) -> usize {
        self.len()
    }

    fn write(&mut self, src: &[u8]) -> Result<usize, Fault> {
        let n = self.len().min(src.len());
        let (now, later) = core::mem::take(self).split_at_mut(n);
        now.copy_from_slice(&src[..n]);
        *self = later;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;

//! Slabs: reference-counted bytes, and the pool in which large ones wait for their next use.

use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes of a slab of a pool, and the most that one slab takes when bytes are copied from a source.
pub const SLAB_SIZE: usize = 64 * 1024;

/// Bytes of a small slab: a datagram or a segment of an Ethernet link.
pub(super) const SMALL_SLAB_SIZE: usize = 2048;
/// Small slabs of a pool that wait, at most.
const IDLE_SMALL: usize = 64;

/// Reference-counted bytes. Those of a pool go back to it with the last reference.
#[derive(Clone)]
pub struct Slab(Arc<Inner>);

struct Inner {
    bytes: Vec<u8>,
    pool: Option<Arc<SlabPool>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put(core::mem::take(&mut self.bytes));
        }
    }
}

impl Slab {
    /// A slab that takes over a vector without copying it.
    pub fn new(bytes: Vec<u8>) -> Slab {
        Slab(Arc::new(Inner { bytes, pool: None }))
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.bytes.is_empty()
    }

    /// The memory that it is, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.0.bytes.capacity()
    }

    /// Whether both are the same memory.
    pub(super) fn is_same(&self, other: &Slab) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Appends without moving what is there; false where there is no room, or the slab is shared.
    pub(super) fn extend_in_place(&mut self, bytes: &[u8]) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.0) else { return false };
        if inner.bytes.capacity() - inner.bytes.len() < bytes.len() {
            return false;
        }
        inner.bytes.extend_from_slice(bytes);
        true
    }
}

/// Slabs of [`SLAB_SIZE`] bytes, and small ones, that nobody uses at present: their memory is mapped, and the latest of
/// them is still in the cache. It keeps a bounded number; more are given back to the allocator.
pub struct SlabPool {
    free: Mutex<Vec<Vec<u8>>>,
    small: Mutex<Vec<Vec<u8>>>,
    most: usize,
}

impl SlabPool {
    /// An empty pool that keeps at most so many slabs, and a fixed number of small ones.
    pub fn new(most: usize) -> Arc<SlabPool> {
        Arc::new(SlabPool { free: Mutex::default(), small: Mutex::default(), most })
    }

    /// A slab for filling. Its bytes are those of an earlier use: who fills it says how many count.
    pub fn take(self: &Arc<Self>) -> FreeSlab {
        let bytes = self.free.lock().pop().unwrap_or_else(|| vec![0; SLAB_SIZE]);
        FreeSlab { bytes, pool: self.clone() }
    }

    /// As `take`, of the size of a small slab.
    pub(super) fn take_small(self: &Arc<Self>) -> FreeSlab {
        let bytes = self.small.lock().pop().unwrap_or_else(|| vec![0; SMALL_SLAB_SIZE]);
        FreeSlab { bytes, pool: self.clone() }
    }

    /// How many slabs wait.
    pub fn idle(&self) -> usize {
        self.free.lock().len()
    }

    fn put(&self, bytes: Vec<u8>) {
        let (free, most) = match bytes.len() {
            SMALL_SLAB_SIZE => (&self.small, IDLE_SMALL),
            _ => (&self.free, self.most),
        };
        let mut free = free.lock();
        if free.len() < most {
            free.push(bytes);
        }
    }
}

/// A slab that its owner alone fills.
pub struct FreeSlab {
    bytes: Vec<u8>,
    pool: Arc<SlabPool>,
}

impl FreeSlab {
    /// All its room.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// How much it holds.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What was filled, from the front.
    pub fn filled(&self, len: usize) -> &[u8] {
        self.bytes.get(..len).unwrap_or(&self.bytes)
    }

    /// A further slab of the same pool.
    pub(super) fn another(&self) -> FreeSlab {
        self.pool.take()
    }

    /// Makes it a slab that can be shared, and whose first bytes count.
    pub(super) fn freeze(mut self) -> Slab {
        let bytes = core::mem::take(&mut self.bytes);
        Slab(Arc::new(Inner { bytes, pool: Some(self.pool.clone()) }))
    }
}

impl Drop for FreeSlab {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.pool.put(core::mem::take(&mut self.bytes));
        }
    }
}

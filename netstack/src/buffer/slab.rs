//! Slabs: reference-counted bytes, and the pools in which large ones and those of frames wait for their next use.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes of a slab of a pool, and the most that one slab takes when bytes are copied from a source.
pub const SLAB_SIZE: usize = 64 * 1024;

/// Bytes of a small slab: a datagram or a segment of an Ethernet link.
pub(super) const SMALL_SLAB_SIZE: usize = 2048;
/// Small slabs that a pool keeps in any case.
const IDLE_SMALL: usize = 64;

/// Reference-counted bytes. Those of a pool go back to it with the last reference.
#[derive(Clone)]
pub struct Slab(Arc<Inner>);

struct Inner {
    bytes: Vec<u8>,
    home: Home,
}

/// Where the bytes of a slab go with its last reference.
enum Home {
    Allocator,
    Slabs(Arc<SlabPool>),
    Frames(Arc<FramePool>),
}

impl Drop for Inner {
    fn drop(&mut self) {
        match core::mem::replace(&mut self.home, Home::Allocator) {
            Home::Allocator => {}
            Home::Slabs(pool) => pool.put(core::mem::take(&mut self.bytes)),
            Home::Frames(pool) => pool.put(core::mem::take(&mut self.bytes)),
        }
    }
}

impl Slab {
    /// A slab that takes over a vector without copying it.
    pub fn new(bytes: Vec<u8>) -> Slab {
        Slab(Arc::new(Inner { bytes, home: Home::Allocator }))
    }

    /// A frame whose memory goes to a pool afterwards, where that keeps its kind.
    pub(super) fn frame(bytes: Vec<u8>, pool: &Arc<FramePool>) -> Slab {
        let is_kept = bytes.capacity() == FRAME_ROOM && bytes.len() >= LEAST_FRAME;
        let home = if is_kept { Home::Frames(pool.clone()) } else { Home::Allocator };
        Slab(Arc::new(Inner { bytes, home }))
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.bytes.is_empty()
    }

    /// The memory that it is, in bytes. Of a pool of frames: what the frame would be without, so that windows are the same.
    pub(super) fn capacity(&self) -> usize {
        match self.0.home {
            Home::Frames(_) => self.0.bytes.len(),
            _ => self.0.bytes.capacity(),
        }
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
        let is_frame = matches!(inner.home, Home::Frames(_));
        if is_frame || inner.bytes.capacity() - inner.bytes.len() < bytes.len() {
            return false;
        }
        inner.bytes.extend_from_slice(bytes);
        true
    }
}

/// Slabs of [`SLAB_SIZE`] bytes, and small ones, that nobody uses at present: their memory is mapped, and the latest of
/// them is still in the cache. It keeps as many as were in use at once lately, within bounds; more are given back to the
/// allocator.
pub struct SlabPool {
    large: Mutex<Shelf>,
    small: Mutex<Shelf>,
}

/// Slabs of one size.
struct Shelf {
    size: usize,
    free: VecDeque<Vec<u8>>,
    in_use: usize,
    /// The most that were in use at once, lately.
    peak: usize,
    /// How many stay in any case.
    least: usize,
}

/// A shelf keeps at most so many times what it keeps in any case.
const PEAK_RATIO: usize = 4;

impl Shelf {
    fn new(size: usize, least: usize) -> Mutex<Shelf> {
        Mutex::new(Shelf { size, free: VecDeque::new(), in_use: 0, peak: 0, least })
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        self.in_use += 1;
        self.peak = self.peak.max(self.in_use);
        self.free.pop_back()
    }

    /// Takes a slab back; gives what is not to be kept.
    fn put(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        self.in_use = self.in_use.saturating_sub(1);
        if self.in_use == 0 {
            // A burst is over: one that comes again soon finds almost as many, and a pool that rests comes down.
            self.peak -= self.peak.div_ceil(8);
        }
        let most = self.peak.clamp(self.least, PEAK_RATIO * self.least);
        // The one that was used last is still in the cache: the oldest gives way.
        self.free.push_back(bytes);
        if self.in_use + self.free.len() > most { self.free.pop_front() } else { None }
    }
}

impl SlabPool {
    /// An empty pool that keeps so many slabs in any case and four times as many at most, and a fixed number of small ones.
    pub fn new(least: usize) -> Arc<SlabPool> {
        let large = Shelf::new(SLAB_SIZE, least);
        Arc::new(SlabPool { large, small: Shelf::new(SMALL_SLAB_SIZE, IDLE_SMALL) })
    }

    /// A slab for filling. Its bytes are those of an earlier use: who fills it says how many count.
    pub fn take(self: &Arc<Self>) -> FreeSlab {
        self.take_from(&self.large)
    }

    /// As `take`, of the size of a small slab.
    pub(super) fn take_small(self: &Arc<Self>) -> FreeSlab {
        self.take_from(&self.small)
    }

    fn take_from(self: &Arc<Self>, shelf: &Mutex<Shelf>) -> FreeSlab {
        let mut shelf = shelf.lock();
        let (bytes, size) = (shelf.take(), shelf.size);
        drop(shelf);
        FreeSlab { bytes: bytes.unwrap_or_else(|| vec![0; size]), pool: Some(self.clone()) }
    }

    /// How many slabs wait.
    pub fn idle(&self) -> usize {
        self.large.lock().free.len()
    }

    fn put(&self, bytes: Vec<u8>) {
        let shelf = if bytes.len() == SMALL_SLAB_SIZE { &self.small } else { &self.large };
        // What is not kept is freed outside of the lock.
        let spare = shelf.lock().put(bytes);
        drop(spare);
    }
}

/// What memory of the pool of frames has room for: a frame of an Ethernet link.
const FRAME_ROOM: usize = 2048;
/// Shorter ones have memory of their own: a frame that is counted as what it fills holds no more than twice as much.
const LEAST_FRAME: usize = FRAME_ROOM / 2;
/// Memory that waits.
const IDLE_FRAMES: usize = 64;

/// Memory of received frames that nobody reads any more, for the next ones. For who feeds a stack frame by frame (a simulation, a
/// replay): what an allocator does for blocks of this size costs more than the copy into them.
#[derive(Default)]
pub struct FramePool(Mutex<Vec<Vec<u8>>>);

impl FramePool {
    /// An empty pool.
    pub fn new() -> Arc<FramePool> {
        Arc::default()
    }

    /// Memory without bytes, with room for so many.
    pub fn take(&self, len: usize) -> Vec<u8> {
        if !(LEAST_FRAME..=FRAME_ROOM).contains(&len) {
            return Vec::with_capacity(len);
        }
        let waiting = self.0.lock().pop();
        waiting.unwrap_or_else(|| Vec::with_capacity(FRAME_ROOM))
    }

    /// How many pieces wait.
    pub fn idle(&self) -> usize {
        self.0.lock().len()
    }

    fn put(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut waiting = self.0.lock();
        if waiting.len() < IDLE_FRAMES {
            waiting.push(bytes);
        }
    }
}

/// A slab that its owner alone fills.
pub struct FreeSlab {
    bytes: Vec<u8>,
    // None once its bytes went on.
    pool: Option<Arc<SlabPool>>,
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
    pub(super) fn another(&self) -> Option<FreeSlab> {
        self.pool.as_ref().map(SlabPool::take)
    }

    /// Makes it a slab that can be shared, and whose first bytes count.
    pub(super) fn freeze(mut self) -> Slab {
        let bytes = core::mem::take(&mut self.bytes);
        let home = self.pool.take().map_or(Home::Allocator, Home::Slabs);
        Slab(Arc::new(Inner { bytes, home }))
    }
}

impl Drop for FreeSlab {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put(core::mem::take(&mut self.bytes));
        }
    }
}

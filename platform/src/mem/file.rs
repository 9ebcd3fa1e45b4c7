//! `MemoryFile`: one sparse memfd that holds every page of every guest, mapped once in the sentry,
//! with an allocator, a reference count for each page, a limit, and safe copies.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::FallocateFlags;
use nix::sys::memfd::MFdFlags;
use parking_lot::Mutex;

use super::alloc::{Allocator, Content, Extent};
use super::{FileRange, Mapping, MemoryError, copy};
use crate::PAGE_SIZE;

/// How large the file and what it may hold.
#[derive(Clone, Copy, Debug)]
pub struct MemoryOptions {
    /// Bytes of the sparse file; halved until the host accepts it.
    pub size_bytes: u64,
    /// The most bytes that may be allocated at a time.
    pub limit_bytes: u64,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions { size_bytes: 1 << 40, limit_bytes: u64::MAX }
    }
}

/// The smallest file worth having.
const SIZE_MIN: u64 = 1 << 30;

/// All memory of a sandbox. Offsets and lengths are in bytes; a page that is allocated reads as
/// zero. Every method may be called by any thread at any time.
#[derive(Debug)]
pub struct MemoryFile {
    fd: OwnedFd,
    map: Mapping,
    /// A `u32` for each page.
    counts: Mapping,
    size: u64,
    used: AtomicU64,
    limit: AtomicU64,
    free: Mutex<Allocator>,
}

impl MemoryFile {
    /// Makes the file. Costs no memory until pages are used.
    pub fn new(options: MemoryOptions) -> Result<MemoryFile, MemoryError> {
        let fd = nix::sys::memfd::memfd_create(c"netcell-memory", MFdFlags::MFD_CLOEXEC)
            .map_err(host("memfd_create"))?;
        let host_limit = crate::host::limits::raise_file_size_limit();
        if host_limit < SIZE_MIN {
            let what =
                "making a memory file of 1 GiB under the file size limit (raise `ulimit -f`)";
            return Err(MemoryError::Host { what, errno: Errno::EFBIG });
        }
        let wanted = options.size_bytes.min(host_limit);
        let mut size = wanted.max(SIZE_MIN) & !((1 << 21) - 1);
        let map = loop {
            match grow_and_map(&fd, size) {
                Ok(map) => break map,
                Err(error) if size / 2 < SIZE_MIN => return Err(error),
                Err(_) => size = (size / 2) & !((1 << 21) - 1),
            }
        };
        map.advise_huge_pages();
        let counts = Mapping::anonymous((size / PAGE_SIZE * 4) as usize)
            .map_err(host("mmap of the page counts"))?;
        Ok(MemoryFile {
            fd,
            map,
            counts,
            size,
            used: AtomicU64::new(0),
            limit: AtomicU64::new(options.limit_bytes),
            free: Mutex::new(Allocator::new(size / PAGE_SIZE)),
        })
    }

    /// The file descriptor, for a backend that maps it in a guest.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes of the sparse file: every valid offset is smaller.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are allocated now.
    pub fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that may be allocated.
    pub fn limit_bytes(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit. What is above it stays; only new allocations fail.
    pub fn set_limit_bytes(&self, limit_bytes: u64) {
        self.limit.store(limit_bytes, Ordering::Relaxed);
    }

    /// Allocates `len` bytes (rounded up to pages) of zeroes, whose offset is a multiple of `align`
    /// (a power of two; less than a page means a page). Each page has one reference.
    pub fn allocate(&self, len: u64, align: u64) -> Result<FileRange, MemoryError> {
        let len = len
            .max(1)
            .checked_next_multiple_of(PAGE_SIZE)
            .filter(|len| *len <= self.size)
            .ok_or(MemoryError::Full { len })?;
        let align = align.max(PAGE_SIZE);
        if !align.is_power_of_two() {
            return Err(MemoryError::Misaligned { offset: align, align: PAGE_SIZE });
        }
        self.charge(len)?;
        let found = self.free.lock().allocate(len / PAGE_SIZE, align / PAGE_SIZE);
        let Some((extent, content)) = found else {
            self.used.fetch_sub(len, Ordering::Relaxed);
            return Err(MemoryError::Full { len });
        };
        let range = FileRange::new(extent.start * PAGE_SIZE, len);
        if content == Content::Stale {
            self.zero(range)?;
        }
        for page in range.pages() {
            self.count(page).store(1, Ordering::Release);
        }
        Ok(range)
    }

    fn charge(&self, len: u64) -> Result<(), MemoryError> {
        let limit_bytes = self.limit_bytes();
        let charged = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(len).filter(|total| *total <= limit_bytes)
        });
        charged.map(|_| ()).map_err(|_| MemoryError::Limit { limit_bytes })
    }

    /// Adds a reference to each page of the range. The caller holds one already.
    pub fn incref(&self, range: FileRange) {
        for page in self.valid_pages(range) {
            let before = self.count(page).fetch_add(1, Ordering::Relaxed);
            debug_assert!(before > 0, "incref of a free page {page:#x}");
        }
    }

    /// Drops a reference of each page of the range; pages without any are freed, and will read as
    /// zero when they are allocated again. No guest may still have them mapped.
    pub fn decref(&self, range: FileRange) {
        let mut run: Option<Extent> = None;
        for page in self.valid_pages(range) {
            let last =
                self.count(page).fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                    count.checked_sub(1)
                });
            debug_assert!(last.is_ok(), "decref of a free page {page:#x}");
            if last == Ok(1) {
                run = match run {
                    Some(Extent { start, pages }) if start + pages == page => {
                        Some(Extent { start, pages: pages + 1 })
                    }
                    previous => {
                        self.release(previous);
                        Some(Extent { start: page, pages: 1 })
                    }
                };
            }
        }
        self.release(run);
    }

    /// References of the page at `offset`; 0 for a free page or one outside the file.
    pub fn refs(&self, offset: u64) -> u32 {
        if offset >= self.size {
            return 0;
        }
        self.count(offset / PAGE_SIZE).load(Ordering::Acquire)
    }

    /// Gives everything that is free back to the host now.
    pub fn trim(&self) {
        let dirty = self.free.lock().take_dirty();
        self.give_to_host(&dirty);
    }

    fn release(&self, extent: Option<Extent>) {
        let Some(extent) = extent else { return };
        self.used.fetch_sub(extent.pages * PAGE_SIZE, Ordering::Relaxed);
        let handed = self.free.lock().free(extent);
        self.give_to_host(&handed);
    }

    /// Punches holes, outside the lock: nobody else can see these extents meanwhile.
    fn give_to_host(&self, extents: &[Extent]) {
        for extent in extents {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let (offset, len) = (extent.start * PAGE_SIZE, extent.pages * PAGE_SIZE);
            let punched = nix::fcntl::fallocate(&self.fd, flags, offset as i64, len as i64);
            let mut free = self.free.lock();
            match punched {
                Ok(()) => free.cleaned(&[*extent]),
                Err(_) => free.still_dirty(*extent),
            }
        }
    }

    fn valid_pages(&self, range: FileRange) -> std::ops::Range<u64> {
        let pages = range.pages();
        let last = self.size / PAGE_SIZE;
        debug_assert!(pages.end <= last, "{range:?} is outside the memory file");
        pages.start.min(last)..pages.end.min(last)
    }

    /// The reference count of a page below `size / PAGE_SIZE`.
    fn count(&self, page: u64) -> &AtomicU32 {
        let index = page.min(self.size / PAGE_SIZE - 1) as usize;
        // SAFETY: `counts` holds a u32 for each page, page-aligned at its base, as long as `self`;
        // the index is clamped to it, and only atomics ever touch it.
        unsafe { AtomicU32::from_ptr(self.counts.base().cast::<u32>().add(index)) }
    }

    /// The address of `len` bytes at `offset`, if they are inside the file.
    fn at(&self, offset: u64, len: usize) -> Result<*mut u8, MemoryError> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.map.len() as u64) {
            return Err(MemoryError::OutOfRange { offset, len: len as u64 });
        }
        Ok(self.map.base().wrapping_add(offset as usize))
    }

    /// Copies from the file into `buffer`.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), MemoryError> {
        let from = self.at(offset, buffer.len())?;
        // SAFETY: `at` checked the range against the mapping, which lives as long as `self`; the
        // buffer is the sentry's own and cannot overlap the mapping.
        unsafe { copy::racy_copy(buffer.as_mut_ptr(), from, buffer.len()) };
        Ok(())
    }

    /// Copies `data` into the file.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), MemoryError> {
        let to = self.at(offset, data.len())?;
        // SAFETY: as in `read_at`, with the roles exchanged.
        unsafe { copy::racy_copy(to, data.as_ptr(), data.len()) };
        Ok(())
    }

    /// Copies `len` bytes from `src` to `dst` inside the file; overlapping is fine.
    pub fn copy_within(&self, src: u64, dst: u64, len: u64) -> Result<(), MemoryError> {
        let out_of_range = MemoryError::OutOfRange { offset: src, len };
        let len = usize::try_from(len).map_err(|_| out_of_range)?;
        let (from, to) = (self.at(src, len)?, self.at(dst, len)?);
        if dst > src && dst - src < len as u64 {
            // SAFETY: both ranges were checked; a target behind its source is copied from the end.
            unsafe { copy::racy_copy_backwards(to, from, len) };
        } else {
            // SAFETY: both ranges were checked; a target before its source is safe forwards.
            unsafe { copy::racy_copy(to, from, len) };
        }
        Ok(())
    }

    /// Sets every byte of the range to zero.
    pub fn zero(&self, range: FileRange) -> Result<(), MemoryError> {
        let out_of_range = MemoryError::OutOfRange { offset: range.start, len: range.len };
        let len = usize::try_from(range.len).map_err(|_| out_of_range)?;
        let to = self.at(range.start, len)?;
        // SAFETY: `at` checked the range against the writable mapping, which lives as `self` does.
        unsafe { copy::racy_zero(to, len) };
        Ok(())
    }

    /// The word at a 4-byte-aligned offset, for futexes: all its operations are the processor's
    /// atomics, so they work against the program's own.
    pub fn atomic_u32(&self, offset: u64) -> Result<&AtomicU32, MemoryError> {
        let at = self.aligned(offset, 4)?;
        // SAFETY: checked: inside the mapping, which lives as long as `self`, and aligned.
        Ok(unsafe { copy::atomic_u32(at) })
    }

    /// The double word at an 8-byte-aligned offset.
    pub fn atomic_u64(&self, offset: u64) -> Result<&AtomicU64, MemoryError> {
        let at = self.aligned(offset, 8)?;
        // SAFETY: checked: inside the mapping, which lives as long as `self`, and aligned.
        Ok(unsafe { copy::atomic_u64(at) })
    }

    /// The byte at an offset.
    pub fn atomic_u8(&self, offset: u64) -> Result<&std::sync::atomic::AtomicU8, MemoryError> {
        let at = self.at(offset, 1)?;
        // SAFETY: checked: inside the mapping, which lives as long as `self`.
        Ok(unsafe { copy::atomic_u8(at) })
    }

    fn aligned(&self, offset: u64, align: u64) -> Result<*mut u8, MemoryError> {
        if !offset.is_multiple_of(align) {
            return Err(MemoryError::Misaligned { offset, align });
        }
        self.at(offset, align as usize)
    }

    /// Reads the futex word at a 4-byte-aligned offset.
    pub fn load_u32(&self, offset: u64) -> Result<u32, MemoryError> {
        Ok(self.atomic_u32(offset)?.load(Ordering::SeqCst))
    }

    /// Writes the futex word at a 4-byte-aligned offset.
    pub fn store_u32(&self, offset: u64, value: u32) -> Result<(), MemoryError> {
        self.atomic_u32(offset)?.store(value, Ordering::SeqCst);
        Ok(())
    }

    /// Replaces the word if it is `current`. The inner result is the value found, as of
    /// `AtomicU32::compare_exchange`.
    pub fn compare_exchange_u32(
        &self,
        offset: u64,
        current: u32,
        new: u32,
    ) -> Result<Result<u32, u32>, MemoryError> {
        let word = self.atomic_u32(offset)?;
        Ok(word.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst))
    }

    /// Reads from a host file straight into the file's pages, as pread(2): the bytes read, 0 at its
    /// end.
    pub fn read_from(
        &self,
        source: BorrowedFd<'_>,
        source_offset: u64,
        range: FileRange,
    ) -> Result<usize, MemoryError> {
        let to = self.at(range.start, range.len as usize)?;
        let fd = source.as_raw_fd();
        // SAFETY: the kernel writes at most `range.len` bytes to a checked range of the mapping.
        let read =
            unsafe { libc::pread(fd, to.cast(), range.len as usize, source_offset as libc::off_t) };
        usize::try_from(read).map_err(|_| host("pread")(Errno::last()))
    }

    /// Writes pages of the file straight to a host file, as pwrite(2): the bytes written.
    pub fn write_to(
        &self,
        target: BorrowedFd<'_>,
        target_offset: u64,
        range: FileRange,
    ) -> Result<usize, MemoryError> {
        let from = self.at(range.start, range.len as usize)?;
        let fd = target.as_raw_fd();
        // SAFETY: the kernel reads at most `range.len` bytes of a checked range of the mapping.
        let written = unsafe {
            libc::pwrite(fd, from.cast(), range.len as usize, target_offset as libc::off_t)
        };
        usize::try_from(written).map_err(|_| host("pwrite")(Errno::last()))
    }
}

fn grow_and_map(fd: &OwnedFd, size: u64) -> Result<Mapping, MemoryError> {
    nix::unistd::ftruncate(fd, size as i64).map_err(host("ftruncate of the memory file"))?;
    Mapping::shared(fd.as_fd(), 0, size as usize).map_err(host("mmap of the memory file"))
}

fn host(what: &'static str) -> impl Fn(Errno) -> MemoryError {
    move |errno| MemoryError::Host { what, errno }
}

#[cfg(test)]
mod tests;

//! A mapping in the sentry's own address space that is removed when it is dropped.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use nix::errno::Errno;

/// Memory that this process mapped, readable and writable. Others may change what it holds at any
/// time, so it is only ever reached through raw pointers and atomics.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory without thread affinity; every access goes through raw
// pointers whose users state their own rules.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared reference gives out only the address and the length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` from `offset`, shared, without reserving memory, kept out of
    /// children.
    pub(crate) fn shared(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Mapping, Errno> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        Mapping::new(len, libc::MAP_SHARED | libc::MAP_NORESERVE, fd.as_raw_fd(), offset)
    }

    /// Maps `len` zero bytes that cost memory only where they are written.
    pub(crate) fn anonymous(len: usize) -> Result<Mapping, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Mapping::new(len, flags, -1, 0)
    }

    fn new(len: usize, flags: i32, fd: i32, offset: i64) -> Result<Mapping, Errno> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without MAP_FIXED the kernel chooses addresses that nothing uses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset) };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: the advice concerns exactly the mapping made above and does not change it here.
        unsafe { libc::madvise(address, len, libc::MADV_DONTFORK) };
        let base = NonNull::new(address.cast::<u8>()).ok_or(Errno::ENOMEM)?;
        Ok(Mapping { base, len })
    }

    /// Advises the host to use huge pages; without effect where it has none.
    pub(crate) fn advise_huge_pages(&self) {
        // SAFETY: the advice concerns exactly this mapping and changes no content.
        unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_HUGEPAGE) };
    }

    /// The first byte. Valid for `len()` bytes as long as the mapping lives.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and the borrow checker has ended all uses.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

//! Copies and atomics on memory that a program changes at the same time.
//!
//! The copies are made by one machine instruction that the compiler cannot see through, so a race
//! gives mixed bytes and never undefined behaviour of the sentry.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Copies `len` bytes; either side may be changed by others meanwhile.
///
/// # Safety
/// Both ranges must be mapped with the needed access, and must not overlap.
pub(super) unsafe fn racy_copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller guarantees both ranges. The direction flag is clear by the ABI.
    unsafe {
        std::arch::asm!("rep movsb",
            inout("rcx") len => _, inout("rdi") dst => _, inout("rsi") src => _,
            options(nostack, preserves_flags));
    }
}

/// Copies like [`racy_copy`] from the last byte to the first, for a target that overlaps the
/// source's end.
///
/// # Safety
/// Both ranges must be mapped with the needed access.
pub(super) unsafe fn racy_copy_backwards(dst: *mut u8, src: *const u8, len: usize) {
    if len == 0 {
        return;
    }
    // SAFETY: the caller guarantees both ranges; the last bytes are inside them since len > 0. The
    // direction flag is clear again before the compiler's code goes on.
    unsafe {
        std::arch::asm!("std", "rep movsb", "cld",
            inout("rcx") len => _,
            inout("rdi") dst.add(len - 1) => _,
            inout("rsi") src.add(len - 1) => _,
            options(nostack));
    }
}

/// Sets `len` bytes to zero; others may write them meanwhile.
///
/// # Safety
/// The range must be mapped writable.
pub(super) unsafe fn racy_zero(dst: *mut u8, len: usize) {
    // SAFETY: the caller guarantees the range. The direction flag is clear by the ABI.
    unsafe {
        std::arch::asm!("rep stosb",
            inout("rcx") len => _, inout("rdi") dst => _, in("al") 0u8,
            options(nostack, preserves_flags));
    }
}

/// A byte that others change too.
///
/// # Safety
/// `at` must stay mapped for `'a`.
pub(super) unsafe fn atomic_u8<'a>(at: *mut u8) -> &'a AtomicU8 {
    // SAFETY: the caller guarantees the memory; every byte is aligned.
    unsafe { AtomicU8::from_ptr(at) }
}

/// A word that others change too.
///
/// # Safety
/// `at` must be 4-byte aligned and stay mapped for `'a`.
pub(super) unsafe fn atomic_u32<'a>(at: *mut u8) -> &'a AtomicU32 {
    // SAFETY: the caller guarantees alignment and memory.
    unsafe { AtomicU32::from_ptr(at.cast()) }
}

/// A double word that others change too.
///
/// # Safety
/// `at` must be 8-byte aligned and stay mapped for `'a`.
pub(super) unsafe fn atomic_u64<'a>(at: *mut u8) -> &'a AtomicU64 {
    // SAFETY: the caller guarantees alignment and memory.
    unsafe { AtomicU64::from_ptr(at.cast()) }
}

//! Futexes on words that are shared with stub processes.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Wakes the one that waits on the word.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: the word is a live reference; a wake reads and writes no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// Waits while the word is `value`. False if the time ran out.
pub(crate) fn wait(word: &AtomicU32, value: u32, timeout: Duration) -> bool {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: the word and the timeout are live references; the kernel only reads them.
    let result = unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const timeout)
    };
    result == 0 || nix::errno::Errno::last() != nix::errno::Errno::ETIMEDOUT
}

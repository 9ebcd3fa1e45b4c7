//! Safe wrappers over the host system calls that the sentry needs. Errors are the host's errno; what
//! they mean for a program is decided above.
//!
//! Where `nix` is safe and complete its functions are good enough for callers too; here is what it
//! lacks, or where one choice (close-on-exec, EINTR, resolution beneath a directory) must be the same
//! everywhere.

pub mod clock;
pub mod dir;
pub mod file;
pub mod limits;
pub mod packets;
pub mod random;
pub mod signals;
pub mod terminal;
pub mod wait;

pub use nix::errno::Errno;

/// Calls again while a signal interrupts.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            result => return result,
        }
    }
}

/// The result of a raw call that returns a count or -1.
pub(crate) fn count(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

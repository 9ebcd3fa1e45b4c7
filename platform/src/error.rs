//! What can go wrong between the sentry and the host when program code is run.

use nix::errno::Errno;

use crate::mem::MemoryError;

/// An error of a platform. None of them is the program's: the kernel ends the task (or the sandbox)
/// and shows the sentence.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The backend cannot work on this host.
    #[error("the {backend} platform cannot run here: {reason}; {advice}")]
    Unavailable { backend: &'static str, reason: String, advice: &'static str },
    /// A host call failed.
    #[error("{what} failed: {errno}")]
    Host { what: &'static str, errno: Errno },
    /// An address or length is not page aligned, wraps, or is outside the guest's range or the
    /// memory file.
    #[error("the range {addr:#x}+{len:#x} is not one that a guest can map")]
    BadRange { addr: u64, len: u64 },
    /// The host refused a change of the guest's memory map.
    #[error("the host refused to change the guest's memory at {addr:#x}: {errno}")]
    Map { addr: u64, errno: Errno },
    /// The host process of the address space is gone (killed from outside, or out of memory).
    #[error("the host process that holds the program's memory is gone (killed or out of memory)")]
    StubDied,
    /// The program has written over what its host process shares with the sentry, so that the process
    /// does not answer any more, or not sensibly.
    #[error("the program has overwritten what its host process shares with the sentry")]
    StubCorrupted,
    /// The context belongs to another host thread.
    #[error("this context was first run by another host thread and is bound to it")]
    WrongThread,
    /// The address space belongs to another platform.
    #[error("this address space belongs to another platform")]
    ForeignSpace,
    /// The scripted platform has no more events.
    #[error("the script of the fake context has ended")]
    ScriptEnded,
    /// Guest memory could not be made.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl PlatformError {
    /// A failed host call, named for the user.
    pub(crate) fn host(what: &'static str) -> impl FnOnce(Errno) -> PlatformError {
        move |errno| PlatformError::Host { what, errno }
    }

    /// The last error of the C library, for calls that nix does not wrap.
    pub(crate) fn last_os(what: &'static str) -> PlatformError {
        PlatformError::Host { what, errno: Errno::last() }
    }
}

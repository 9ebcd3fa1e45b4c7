//! The kernel's error: an errno with the place that raised it, or a restart code that only the run loop resolves.

use core::fmt;
use core::panic::Location;

use sentry_abi::Errno;

/// Result of a kernel operation.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What happens to a call that a signal interrupted (the kernel-internal codes of Linux's errno.h, signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Restart if the handler has SA_RESTART or none ran, else EINTR (ERESTARTSYS).
    Sys,
    /// Restart only if no handler ran, else EINTR (ERESTARTNOHAND).
    NoHandler,
    /// Restart always (ERESTARTNOINTR).
    Always,
    /// Restart through restart_syscall(2) with the block saved in the task, else EINTR (ERESTART_RESTARTBLOCK).
    Block,
}

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// What the program sees.
    Errno(Errno),
    /// A signal came first; the run loop decides.
    Interrupted(Restart),
}

/// A failed operation: its cause, where it was raised, and a word for the log.
#[derive(Clone, Copy)]
pub struct Error {
    cause: Cause,
    location: &'static Location<'static>,
    msg: &'static str,
}

impl Error {
    /// An error that the program will see.
    #[track_caller]
    pub fn new(errno: Errno) -> Self {
        Self { cause: Cause::Errno(errno), location: Location::caller(), msg: "" }
    }

    /// The same with a word for the log.
    #[track_caller]
    pub fn with_msg(errno: Errno, msg: &'static str) -> Self {
        Self { cause: Cause::Errno(errno), location: Location::caller(), msg }
    }

    /// A call that a signal interrupted.
    #[track_caller]
    pub fn interrupted(restart: Restart) -> Self {
        Self { cause: Cause::Interrupted(restart), location: Location::caller(), msg: "" }
    }

    /// Why it failed.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The errno: EINTR for an interrupted call.
    pub fn errno(&self) -> Errno {
        match self.cause {
            Cause::Errno(errno) => errno,
            Cause::Interrupted(_) => Errno::EINTR,
        }
    }

    /// True where this is `errno` and not an interruption.
    pub fn is(&self, errno: Errno) -> bool {
        self.cause == Cause::Errno(errno)
    }

    /// Where it was raised.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

impl From<Errno> for Error {
    #[track_caller]
    fn from(errno: Errno) -> Self {
        Self::new(errno)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Errno(errno) => write!(f, "{errno}")?,
            Cause::Interrupted(restart) => write!(f, "interrupted ({restart:?})")?,
        }
        write!(f, " at {}:{}", self.location.file(), self.location.line())?;
        if self.msg.is_empty() { Ok(()) } else { write!(f, ": {}", self.msg) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Error {}

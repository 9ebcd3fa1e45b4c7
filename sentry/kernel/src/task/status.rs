//! How a task ended or changed, as wait(2) tells it.

use sentry_abi::signal::{CLD_CONTINUED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, Signal};

/// A child's change of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitStatus {
    /// It called exit with this code.
    Exited(u8),
    /// A signal ended it. The core bit is never set: no core is written.
    Signaled(Signal),
    /// A signal stopped it.
    Stopped(Signal),
    /// SIGCONT resumed it.
    Continued,
}

impl WaitStatus {
    /// The status word of wait4(2).
    pub const fn word(self) -> i32 {
        match self {
            Self::Exited(code) => (code as i32) << 8,
            Self::Signaled(signal) => signal.number(),
            Self::Stopped(signal) => signal.number() << 8 | 0x7f,
            Self::Continued => 0xffff,
        }
    }

    /// `si_code` and `si_status` of SIGCHLD and waitid(2).
    pub const fn code_and_status(self) -> (i32, i32) {
        match self {
            Self::Exited(code) => (CLD_EXITED, code as i32),
            Self::Signaled(signal) => (CLD_KILLED, signal.number()),
            Self::Stopped(signal) => (CLD_STOPPED, signal.number()),
            Self::Continued => (CLD_CONTINUED, Signal::SIGCONT.number()),
        }
    }

    /// The exit status that a shell shows: the code, or 128 and the signal's number.
    pub const fn shell_status(self) -> i32 {
        match self {
            Self::Exited(code) => code as i32,
            Self::Signaled(signal) | Self::Stopped(signal) => 128 + signal.number(),
            Self::Continued => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_are_those_of_wait() {
        assert_eq!(WaitStatus::Exited(3).word(), 0x300);
        assert_eq!(WaitStatus::Signaled(Signal::SIGKILL).word(), 9);
        assert_eq!(WaitStatus::Stopped(Signal::SIGSTOP).word(), 0x137f);
        assert_eq!(WaitStatus::Continued.word(), 0xffff);
        assert_eq!(WaitStatus::Signaled(Signal::SIGTERM).shell_status(), 143);
    }
}

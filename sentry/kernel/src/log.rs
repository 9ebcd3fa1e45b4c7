//! Where the kernel says what an operator should know.

use core::fmt;

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Something failed that should not.
    Error,
    /// Something is missing or odd.
    Warn,
    /// A fact of the sandbox's life.
    Info,
    /// Detail for those who look for a fault.
    Debug,
}

/// Takes lines for the operator.
pub trait Log: Send + Sync {
    /// True where lines of this level go anywhere; asked before a line is made.
    fn enabled(&self, level: Level) -> bool;

    /// Takes one line, without its end.
    fn write(&self, level: Level, line: fmt::Arguments<'_>);
}

/// Drops everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoLog;

impl Log for NoLog {
    fn enabled(&self, _: Level) -> bool {
        false
    }

    fn write(&self, _: Level, _: fmt::Arguments<'_>) {}
}

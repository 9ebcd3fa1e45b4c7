//! What the kernel needs of the host as traits: random bytes, a log.

use sentry_kernel::kernel::Random;
use sentry_kernel::log::{Level, Log};
use std::fmt;

/// The host's random bytes.
pub(crate) struct HostRandom;

impl Random for HostRandom {
    fn fill(&self, dst: &mut [u8]) {
        // getrandom(2) cannot fail here: the pool of a running host is full, and the buffer is ours.
        let _ = platform::host::random::fill(dst);
    }
}

/// Lines on standard error, up to a level.
pub struct Logger(pub Level);

impl Log for Logger {
    fn enabled(&self, level: Level) -> bool {
        level <= self.0
    }

    fn write(&self, level: Level, line: fmt::Arguments<'_>) {
        if !self.enabled(level) {
            return;
        }
        let word = match level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        // A terminal in raw mode needs the carriage return, and nothing else minds it.
        let end = if platform::host::terminal::is_terminal(std::os::fd::AsFd::as_fd(
            &std::io::stderr(),
        )) {
            "\r\n"
        } else {
            "\n"
        };
        eprint!("netcell: {word}: {line}{end}");
    }
}

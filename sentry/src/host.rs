//! What the kernel needs of the host as traits: random bytes, a log, a trace.

use sentry_kernel::kernel::Random;
use sentry_kernel::log::{Level, Log};
use sentry_syscalls::strace::TraceSink;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

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

/// A trace of system calls, a line at a time, so that it is whole however the sandbox ends.
struct TraceFile(File);

impl TraceSink for TraceFile {
    fn line(&self, line: &str) {
        // A full disk or a closed pipe must not end the program that is traced.
        let _ = (&self.0).write_all(format!("{line}\n").as_bytes());
    }
}

/// A sink for traces that writes to a file.
pub(crate) fn trace_to(file: File) -> Arc<dyn TraceSink> {
    Arc::new(TraceFile(file))
}

//! A trace of the calls in strace(1)'s form: `[pid 7] openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3`.
//!
//! What the kernel reads is shown as it was at the entry, what it writes as it is at the end. One line a call, made when it ends;
//! calls that never return are shown at their entry.

mod flags;
mod formats;
mod values;

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::error::{Cause, Restart};
use sentry_kernel::kernel::TraceEvent;
use sentry_kernel::task::{CurrentTask, WaitStatus};

use crate::table::Row;
use formats::{Format, Side};

/// Takes the lines of a trace, without their ends.
pub trait TraceSink: Send + Sync {
    /// Takes one line.
    fn line(&self, line: &str);
}

/// Makes lines.
pub struct Tracer {
    sink: Arc<dyn TraceSink>,
}

/// A call that has begun.
pub struct Entry {
    pid: u32,
    row: &'static Row,
    words: [u64; 6],
    format: Vec<Format>,
    shown: Vec<Option<String>>,
    said: bool,
}

impl Tracer {
    /// Traces to `sink`.
    pub fn new(sink: Arc<dyn TraceSink>) -> Self {
        Self { sink }
    }

    fn say(&self, pid: u32, text: &str) {
        self.sink.line(&format!("[pid {pid:5}] {text}"));
    }

    /// A number without a row.
    pub fn unknown(&self, task: &CurrentTask, number: u64, words: &[u64; 6]) {
        let args: Vec<_> = words.iter().map(|w| values::word(*w)).collect();
        let text = errno_text(Errno::ENOSYS);
        self.say(task.tid(), &format!("syscall_{number}({}) = -1 {text}", args.join(", ")));
    }

    /// A call begins: what it reads is decoded now.
    pub fn enter(&self, task: &CurrentTask, row: &'static Row, words: &[u64; 6]) -> Entry {
        let format = formats::of(row);
        let shown = format
            .iter()
            .enumerate()
            .map(|(at, f)| (f.side() == Side::In).then(|| values::show(task, *f, words, at, None)))
            .collect();
        let mut entry = Entry { pid: task.tid(), row, words: *words, format, shown, said: false };
        if matches!(row.name, "exit" | "exit_group") {
            self.say(entry.pid, &format!("{} = ?", entry.call(task, None)));
            entry.said = true;
        }
        entry
    }

    /// A call ended: what it wrote is decoded now.
    pub fn leave(&self, task: &CurrentTask, entry: Entry, result: &Result<u64>) {
        if entry.said {
            return;
        }
        let value = result.as_ref().ok().copied();
        let call = entry.call(task, value);
        self.say(entry.pid, &format!("{call} = {}", result_text(&entry, result)));
    }

    /// A signal or an end.
    pub fn event(&self, task: &CurrentTask, event: TraceEvent) {
        let text = match event {
            TraceEvent::Signal(info) => format!("--- {} ---", values::siginfo(&info)),
            TraceEvent::Exit(WaitStatus::Signaled(signal)) => format!("+++ killed by {signal} +++"),
            TraceEvent::Exit(status) => format!("+++ exited with {} +++", status.shell_status()),
        };
        self.say(task.tid(), &text);
    }
}

impl Entry {
    fn call(&self, task: &CurrentTask, result: Option<u64>) -> String {
        let args: Vec<String> = self
            .shown
            .iter()
            .zip(&self.format)
            .enumerate()
            .map(|(at, (shown, format))| match (shown, result) {
                (Some(text), _) => text.clone(),
                (None, Some(_)) => values::show(task, *format, &self.words, at, result),
                // Nothing was written: the bare pointer.
                (None, None) => values::pointer(self.words[at.min(5)]),
            })
            .collect();
        format!("{}({})", self.row.name, args.join(", "))
    }
}

fn result_text(entry: &Entry, result: &Result<u64>) -> String {
    match result {
        Ok(_) if matches!(entry.row.name, "rt_sigreturn") => "?".to_owned(),
        Ok(value) if formats::returns_address(entry.row.name) => format!("{value:#x}"),
        Ok(value) => (*value as i64).to_string(),
        Err(error) => match error.cause() {
            Cause::Errno(errno) => format!("-1 {}", errno_text(errno)),
            Cause::Interrupted(restart) => format!("? {}", restart_text(restart)),
        },
    }
}

fn restart_text(restart: Restart) -> &'static str {
    match restart {
        Restart::Sys => "ERESTARTSYS (To be restarted if SA_RESTART is set)",
        Restart::NoHandler => "ERESTARTNOHAND (To be restarted if no handler)",
        Restart::Always => "ERESTARTNOINTR (To be restarted)",
        Restart::Block => "ERESTART_RESTARTBLOCK (Interrupted by signal)",
    }
}

/// `ENOENT (No such file or directory)`.
fn errno_text(errno: Errno) -> String {
    match flags::errno_message(errno) {
        "" => format!("{errno}"),
        message => format!("{errno} ({message})"),
    }
}

#[cfg(test)]
mod tests;

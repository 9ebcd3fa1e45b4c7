//! The table as the kernel sees it: dispatch, names, and the trace of what programs do.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::kernel::{SyscallTable, TraceEvent};
use sentry_kernel::task::CurrentTask;

use crate::strace::{TraceSink, Tracer};
use crate::table;

/// All system calls.
#[derive(Default)]
pub struct Syscalls {
    tracer: Option<Tracer>,
}

impl Syscalls {
    /// The table; with a sink, every call is traced as by strace -f.
    pub fn new(trace: Option<Arc<dyn TraceSink>>) -> Arc<Self> {
        Arc::new(Self { tracer: trace.map(Tracer::new) })
    }
}

impl SyscallTable for Syscalls {
    fn dispatch(&self, task: &mut CurrentTask, number: u64, args: &[u64; 6]) -> Result<u64> {
        let Some(row) = table::row(number) else {
            task.kernel().unsupported(&format!("system call {number}"));
            let result = Err(Errno::ENOSYS.into());
            if let Some(tracer) = &self.tracer {
                tracer.unknown(task, number, args);
            }
            return result;
        };
        let Some(tracer) = &self.tracer else { return (row.call)(task, args) };
        let entry = tracer.enter(task, row, args);
        let result = (row.call)(task, args);
        tracer.leave(task, entry, &result);
        result
    }

    fn name(&self, number: u64) -> Option<&'static str> {
        table::row(number).map(|row| row.name)
    }

    fn trace_event(&self, task: &CurrentTask, event: TraceEvent) {
        if let Some(tracer) = &self.tracer {
            tracer.event(task, event);
        }
    }
}

//! A limit of tasks for all programs of a container together: what the pids controller of cgroups is on Linux.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::kernel::{SyscallTable, TraceEvent};
use sentry_kernel::task::{Container, CurrentTask};

/// The calls that make tasks.
const MAKING: [&str; 4] = ["clone", "clone3", "fork", "vfork"];
/// Numbers of calls are below this.
const NUMBERS: u64 = 1024;

/// How many tasks there may be; it can be changed while they run.
#[derive(Debug)]
pub(crate) struct TaskLimit(AtomicU64);

impl TaskLimit {
    /// `None` is no limit beyond the kernel's own.
    pub(crate) fn new(most: Option<u64>) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(most.unwrap_or(u64::MAX))))
    }

    /// Those that are there stay, however many.
    pub(crate) fn set(&self, most: Option<u64>) {
        self.0.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether one more may be made. Errors: EAGAIN, as with the pids controller (cgroups(7)).
    pub(crate) fn check(&self, container: &Container) -> Result<()> {
        let most = self.0.load(Ordering::Relaxed);
        match most == u64::MAX || (container.task_count() as u64) < most {
            true => Ok(()),
            false => Err(Errno::EAGAIN.into()),
        }
    }
}

/// A table whose calls respect the limit.
pub(crate) struct Limited {
    inner: Arc<dyn SyscallTable>,
    limit: Arc<TaskLimit>,
    making: Vec<u64>,
}

impl Limited {
    pub(crate) fn new(inner: Arc<dyn SyscallTable>, limit: &Arc<TaskLimit>) -> Arc<Self> {
        let makes = |number: &u64| inner.name(*number).is_some_and(|name| MAKING.contains(&name));
        let making = (0..NUMBERS).filter(makes).collect();
        Arc::new(Self { inner, limit: limit.clone(), making })
    }
}

impl SyscallTable for Limited {
    fn dispatch(&self, task: &mut CurrentTask, number: u64, args: &[u64; 6]) -> Result<u64> {
        if self.making.contains(&number) {
            self.limit.check(task.container())?;
        }
        self.inner.dispatch(task, number, args)
    }

    fn name(&self, number: u64) -> Option<&'static str> {
        self.inner.name(number)
    }

    fn trace_event(&self, task: &CurrentTask, event: TraceEvent) {
        self.inner.trace_event(task, event);
    }
}

//! Signals: actions, pending queues, sending, job control, and delivery to program code. It must not know terminals or timers: they send.
//!
//! A thread group has a queue of its own and each task one; both are guarded by locks of rank SIGNAL, the group's taken first.
//! A sender flags the chosen task's attention and nudges it; the task itself takes the signal in its run loop.

pub mod actions;
pub mod deliver;
pub mod queue;
pub mod send;
pub mod stop;

use sentry_abi::signal::{SS_DISABLE, SigSet, StackT};

pub use actions::{DefaultAction, SignalHandlers, default_action};
pub use queue::PendingSignals;

/// A task's own part of the signal state.
pub struct TaskSignals {
    /// The mask.
    pub(crate) blocked: SigSet,
    /// The mask to restore once a handler was set up or none was due (sigsuspend, ppoll).
    pub(crate) saved_mask: Option<SigSet>,
    /// What sigtimedwait waits for now.
    pub(crate) waiting_for: SigSet,
    /// Sent to this task alone.
    pub(crate) pending: PendingSignals,
    /// The alternate stack; `SS_DISABLE` in `flags` without one.
    pub(crate) alt_stack: StackT,
}

impl TaskSignals {
    /// With this mask, and nothing pending.
    pub(crate) fn new(blocked: SigSet) -> Self {
        Self {
            blocked,
            saved_mask: None,
            waiting_for: SigSet::EMPTY,
            pending: PendingSignals::default(),
            alt_stack: StackT { flags: SS_DISABLE, ..StackT::default() },
        }
    }
}

/// Where a thread group stands in job control.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Job {
    /// Its tasks run.
    #[default]
    Running,
    /// Its tasks are on their way to a stop.
    Stopping(sentry_abi::signal::Signal),
    /// All its tasks are stopped.
    Stopped(sentry_abi::signal::Signal),
}

/// A thread group's part of the signal state.
#[derive(Default)]
pub struct GroupSignals {
    /// Sent to the group: any task that does not block it may take it.
    pub(crate) pending: PendingSignals,
    /// Job control.
    pub(crate) job: Job,
    /// SIGCONT resumed it, and the parent is to be told.
    pub(crate) continued: bool,
}

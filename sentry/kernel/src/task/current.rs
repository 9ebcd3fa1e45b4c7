//! A task on its own host thread: what a system call runs on behalf of, and how it waits.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use platform::arch::signal_frame::Trap;
use platform::{Context, Registers};
use sentry_abi::Errno;
use sentry_abi::signal::{SigInfo, SigSet, Signal};

use crate::error::{Error, Restart, Result};
use crate::file::FdTable;
use crate::mm::MemoryManager;
use crate::task::session::ControllingTerminal;
use crate::task::task::{Attention, Resources, Task};
use crate::task::times::Mode;
use crate::task::waker::TaskWaker;
use crate::time::Instant;
use crate::vfs::{FsContext, ResolveCx};
use crate::wait::{Events, Sharing, WaitQueue};

/// Why a block ended without a wake-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unblocked {
    /// A signal, a stop or the end of the task: the call must return.
    Interrupted,
    /// The deadline came.
    TimedOut,
}

impl From<Unblocked> for Error {
    /// An interruption restarts as by SA_RESTART; a time-out is ETIMEDOUT.
    #[track_caller]
    fn from(reason: Unblocked) -> Self {
        match reason {
            Unblocked::Interrupted => Error::interrupted(Restart::Sys),
            Unblocked::TimedOut => Error::new(Errno::ETIMEDOUT),
        }
    }
}

/// What restart_syscall(2) goes on with, with its own idea of how much time is left.
pub type RestartBlock = Box<dyn FnOnce(&mut CurrentTask) -> Result<u64> + Send>;

/// A task on its own thread.
pub struct CurrentTask {
    pub(crate) task: Arc<Task>,
    pub(crate) context: Box<dyn Context>,
    pub(crate) registers: Registers,
    pub(crate) resources: Resources,
    pub(crate) restart_block: Option<RestartBlock>,
    /// What the last exception left, for signal frames.
    pub(crate) trap: Trap,
    /// How the call in flight was interrupted, with its number, until signals are dealt with.
    pub(crate) interrupted: Option<(Restart, u64)>,
    /// True where the call in flight set all registers itself (execve, rt_sigreturn): no result is stored.
    pub(crate) registers_replaced: bool,
    /// True while a temporary mask may be in force.
    pub(crate) temporary_mask: Cell<bool>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// The task that this host thread runs; `None` on other threads. For code that no task is handed to.
pub fn current() -> Option<Arc<Task>> {
    CURRENT.with_borrow(Clone::clone)
}

impl CurrentTask {
    /// Binds a task to the calling host thread.
    pub(crate) fn bind(
        task: Arc<Task>,
        context: Box<dyn Context>,
        registers: Registers,
        resources: Resources,
    ) -> Self {
        task.waker().bind();
        task.bind_kick(context.kick_handle());
        CURRENT.set(Some(task.clone()));
        Self {
            task,
            context,
            registers,
            resources,
            restart_block: None,
            trap: Trap::default(),
            interrupted: None,
            registers_replaced: false,
            temporary_mask: Cell::new(false),
        }
    }

    /// Forgets what the host thread runs.
    pub(crate) fn unbind() {
        CURRENT.set(None);
    }

    /// The task as others see it.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Program memory.
    pub fn mm(&self) -> &Arc<MemoryManager> {
        &self.resources.mm
    }

    /// Descriptors.
    pub fn fds(&self) -> &Arc<FdTable> {
        &self.resources.fds
    }

    /// Root, working directory, umask.
    pub fn fs(&self) -> &Arc<FsContext> {
        &self.resources.fs
    }

    /// On whose behalf paths are walked.
    pub fn resolve_cx(&self) -> ResolveCx {
        ResolveCx::new(self.fs(), self.credentials())
    }

    /// Program registers, as the call found them.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// Program registers, to change (arch_prctl).
    pub fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }

    /// Gives it its own descriptors (unshare(CLONE_FILES), close_range(CLOSE_RANGE_UNSHARE)).
    pub fn unshare_fds(&mut self) {
        let mut resources = self.resources.clone();
        resources.fds = resources.fds.fork();
        self.replace_resources(resources);
    }

    /// Gives it its own root, working directory and umask (unshare(CLONE_FS)).
    pub fn unshare_fs(&mut self) {
        let mut resources = self.resources.clone();
        resources.fs = resources.fs.fork();
        self.replace_resources(resources);
    }

    pub(crate) fn replace_resources(&mut self, resources: Resources) {
        self.task.set_resources(Some(resources.clone()));
        self.resources = resources;
    }

    /// Wakes this task from a block: to be added to wait queues.
    pub fn wake_handle(&self) -> Arc<TaskWaker> {
        self.task.waker().clone()
    }

    /// True where a call that sleeps must return: a signal is deliverable, the group stops, the task must end.
    pub fn is_interrupted(&self) -> bool {
        let attention = self.task.attention();
        if attention.is_empty() {
            return false;
        }
        if attention.intersects(Attention::STOP | Attention::EXIT) {
            return true;
        }
        // The flag may be old: look, and clear it first so that a signal that comes meanwhile sets it again.
        self.task.clear_attention(Attention::SIGNAL);
        let due = self.task.has_deliverable_signal();
        if due {
            self.task.attention.fetch_or(Attention::SIGNAL.bits(), Ordering::SeqCst);
        }
        due
    }

    /// Sleeps until somebody wakes this task ([`Self::wake_handle`]), or until `deadline`. A wake before the call counts; wake-ups may be spurious.
    /// The caller registers its waker and looks at what it waits for before it calls, and looks again after.
    pub fn block(&self, deadline: Option<Instant>) -> Result<(), Unblocked> {
        let waker = self.task.waker();
        if waker.take() {
            return Ok(());
        }
        let kernel = self.task.kernel();
        self.task.account().change(Mode::Blocked, kernel.now());
        self.task.sleeping.store(true, Ordering::Relaxed);
        self.task.voluntary_switches.fetch_add(1, Ordering::Relaxed);
        let result = loop {
            if waker.take() {
                break Ok(());
            }
            if self.is_interrupted() {
                break Err(Unblocked::Interrupted);
            }
            match deadline {
                None => self.park(None),
                Some(at) => match at.since_ns(kernel.now()) {
                    0 => break Err(Unblocked::TimedOut),
                    ns => self.park(Some(ns)),
                },
            }
        };
        self.task.sleeping.store(false, Ordering::Relaxed);
        self.task.account().change(Mode::System, kernel.now());
        result
    }

    /// Parks the host thread; the platform may use the core for others.
    pub(crate) fn park(&self, ns: Option<u64>) {
        self.context.sleeps();
        self.task.waker().park(ns);
        self.context.wakes();
    }

    /// Tries `attempt` now and after every wake-up of `queue` for `events`, until it gives something.
    /// Errors: an interruption ([`Restart::Sys`]); ETIMEDOUT after a last try at `deadline`.
    pub fn wait_for<T>(
        &self,
        queue: &WaitQueue,
        events: Events,
        deadline: Option<Instant>,
        attempt: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        self.wait_for_sharing(queue, events, Sharing::All, deadline, attempt)
    }

    /// [`Self::wait_for`], of which one such waiter is woken for an event where `sharing` is exclusive (accept).
    pub fn wait_for_sharing<T>(
        &self,
        queue: &WaitQueue,
        events: Events,
        sharing: Sharing,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        if let Some(found) = attempt() {
            return Ok(found);
        }
        let key = queue.add(events, sharing, self.wake_handle());
        let result = loop {
            if let Some(found) = attempt() {
                break Ok(found);
            }
            if let Err(reason) = self.block(deadline) {
                // What came together with the deadline still counts.
                break attempt().ok_or_else(|| reason.into());
            }
        };
        queue.remove(key);
        result
    }

    /// Sleeps until `deadline`. Errors: an interruption.
    pub fn sleep_until(&self, deadline: Instant) -> Result<(), Unblocked> {
        loop {
            match self.block(Some(deadline)) {
                Ok(()) => {}
                Err(Unblocked::TimedOut) => return Ok(()),
                Err(Unblocked::Interrupted) => return Err(Unblocked::Interrupted),
            }
        }
    }

    /// Saves what restart_syscall(2) goes on with; the caller returns `Error::interrupted(Restart::Block)`.
    pub fn set_restart_block(&mut self, block: RestartBlock) {
        self.restart_block = Some(block);
    }

    /// restart_syscall(2): goes on with what was saved. Errors: EINTR where nothing was.
    pub fn restart_syscall(&mut self) -> Result<u64> {
        match self.restart_block.take() {
            Some(block) => block(self),
            None => Err(Errno::EINTR.into()),
        }
    }

    /// Sets the mask until the call ends: sigsuspend, ppoll, pselect6, epoll_pwait. The old one comes back once a handler was set up, or
    /// at the end of the call where none was.
    pub fn set_temporary_mask(&self, mask: SigSet) {
        self.temporary_mask.set(true);
        {
            let mut signals = self.task.signals.lock();
            let old = std::mem::replace(&mut signals.blocked, mask.without(SigSet::UNBLOCKABLE));
            signals.saved_mask.get_or_insert(old);
        }
        self.task.recheck_signals();
    }

    /// Raises a signal for this task itself (SIGPIPE of write(2)).
    pub fn raise(&self, signal: Signal) {
        let creds = self.credentials();
        let info = SigInfo::user(signal, sentry_abi::signal::SI_USER, self.pid(), creds.uid);
        let _ = self.task.send_signal(signal, info);
    }

    /// What a background task may do on its controlling terminal (a read raises SIGTTIN, a write or a change SIGTTOU).
    /// Errors: an interruption after the signal was sent to the process group; EIO where stopping makes no sense.
    pub fn check_job_control(
        &self,
        terminal: &dyn ControllingTerminal,
        signal: Signal,
    ) -> Result<()> {
        let pids = self.pids();
        let Some(own) = pids.process_group_of(self.pid()) else { return Ok(()) };
        let controls = terminal.session() == Some(own.session().id());
        let foreground = terminal.foreground_group();
        if !controls || foreground.is_none() || foreground == Some(own.id()) {
            return Ok(());
        }
        let deaf =
            self.blocked().contains(signal) || self.thread_group().handlers().ignores(signal);
        if deaf {
            // POSIX: a write goes through, a read fails.
            return if signal == Signal::SIGTTIN { Err(Errno::EIO.into()) } else { Ok(()) };
        }
        if pids.is_orphaned(own.id()) {
            return Err(Errno::EIO.into());
        }
        pids.signal_process_group(own.id(), signal);
        Err(Error::interrupted(Restart::Sys))
    }
}

impl Deref for CurrentTask {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}

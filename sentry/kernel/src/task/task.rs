//! A task as others see it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bitflags::bitflags;
use platform::Kick;
use sentry_abi::signal::SigSet;

use crate::cred::Credentials;
use crate::file::FdTable;
use crate::kernel::Kernel;
use crate::mm::MemoryManager;
use crate::signal::TaskSignals;
use crate::sync::{Mutex, Rank, RwLock};
use crate::task::container::Container;
use crate::task::group::ThreadGroup;
use crate::task::namespace::PidNamespace;
use crate::task::status::WaitStatus;
use crate::task::times::Account;
use crate::task::vfork::Completion;
use crate::task::waker::TaskWaker;
use crate::vfs::FsContext;

bitflags! {
    /// Why a task must look up from what it does.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Attention: u32 {
        /// A signal may be deliverable.
        const SIGNAL = 1;
        /// The thread group stops.
        const STOP = 2;
        /// The task must end.
        const EXIT = 4;
        /// The kernel is frozen.
        const FREEZE = 8;
    }
}

/// Scheduling parameters that a program can set and read back; the host's scheduler decides.
#[derive(Clone, Debug)]
pub struct Scheduling {
    /// SCHED_*
    pub policy: i32,
    /// Real-time priority.
    pub priority: i32,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// SCHED_RESET_ON_FORK
    pub reset_on_fork: bool,
    /// The processors it may use, a bit each.
    pub affinity: Vec<u64>,
}

/// State of a task that only calls about it touch.
pub struct Details {
    /// comm: at most 15 bytes.
    pub comm: Vec<u8>,
    /// set_robust_list(2): address of the head.
    pub robust_list: u64,
    /// set_tid_address(2), CLONE_CHILD_CLEARTID.
    pub clear_child_tid: u64,
    /// PR_SET_PDEATHSIG; 0 for none.
    pub parent_death_signal: i32,
    /// PR_SET_TIMERSLACK in nanoseconds.
    pub timer_slack_ns: u64,
    /// Scheduling parameters.
    pub scheduling: Scheduling,
}

/// The parts that tasks may share, as others (proc) see them; gone once the task has ended.
#[derive(Clone)]
pub struct Resources {
    /// Memory.
    pub mm: Arc<MemoryManager>,
    /// Descriptors.
    pub fds: Arc<FdTable>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
}

/// A task, as others see it.
pub struct Task {
    group: Arc<ThreadGroup>,
    tid: AtomicU32,
    resources: RwLock<Option<Resources>>,
    credentials: RwLock<Arc<Credentials>>,
    details: Mutex<Details>,
    pub(crate) signals: Mutex<TaskSignals>,
    pub(crate) attention: AtomicU32,
    /// True while it is (about to be) in program code: only then a sender kicks its context.
    pub(crate) in_user: AtomicBool,
    /// True while it is parked by a group stop.
    pub(crate) stopped: AtomicBool,
    kick: OnceLock<Arc<dyn Kick>>,
    waker: Arc<TaskWaker>,
    account: Account,
    /// Exit code of exit(2), once called.
    pub(crate) exit_code: AtomicI32,
    /// Whoever waits in vfork for this task's exec or exit.
    pub(crate) vfork: Mutex<Option<Arc<Completion>>>,
    started: crate::time::Instant,
    /// Times it gave up the processor of its own will.
    pub(crate) voluntary_switches: AtomicU64,
    /// What it waits in, for /proc/PID/stat: true while it sleeps.
    pub(crate) sleeping: AtomicBool,
    me: Weak<Task>,
}

/// What a new task starts with.
pub struct TaskInit {
    /// The group it joins or founds.
    pub group: Arc<ThreadGroup>,
    /// Its id.
    pub tid: u32,
    /// Memory, descriptors, directories.
    pub resources: Resources,
    /// Identity.
    pub credentials: Arc<Credentials>,
    /// The rest.
    pub details: Details,
    /// Signal mask.
    pub blocked: SigSet,
}

impl Task {
    /// A task that does not run yet.
    pub fn new(init: TaskInit) -> Arc<Self> {
        let started = init.group.kernel().now();
        Arc::new_cyclic(|me| Self {
            group: init.group,
            tid: AtomicU32::new(init.tid),
            resources: RwLock::new(Rank::TASK, Some(init.resources)),
            credentials: RwLock::new(Rank::TASK, init.credentials),
            details: Mutex::new(Rank::TASK, init.details),
            signals: Mutex::new(Rank::SIGNAL, TaskSignals::new(init.blocked)),
            attention: AtomicU32::new(0),
            in_user: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            kick: OnceLock::new(),
            waker: Arc::new(TaskWaker::default()),
            account: Account::default(),
            exit_code: AtomicI32::new(0),
            vfork: Mutex::new(Rank::TASK, None),
            started,
            voluntary_switches: AtomicU64::new(0),
            sleeping: AtomicBool::new(false),
            me: me.clone(),
        })
    }

    /// The kernel.
    pub fn kernel(&self) -> &Arc<Kernel> {
        self.group.kernel()
    }

    /// The container that it is in.
    pub fn container(&self) -> &Arc<Container> {
        self.group.container()
    }

    /// Its pid namespace.
    pub fn pids(&self) -> &Arc<PidNamespace> {
        self.group.pids()
    }

    /// Its thread group.
    pub fn thread_group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Its id (gettid(2)).
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Acquire)
    }

    pub(crate) fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Ordering::Release);
    }

    /// Its thread group's id (getpid(2)).
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// True for the task whose id is the group's.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.pid()
    }

    /// A counted reference to itself.
    pub fn shared(&self) -> Option<Arc<Task>> {
        self.me.upgrade()
    }

    /// Its identity now.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.read().clone()
    }

    /// Gives it another identity.
    pub fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.write() = Arc::new(credentials);
    }

    /// Memory, descriptors and directories; `None` once it has ended.
    pub fn resources(&self) -> Option<Resources> {
        self.resources.read().clone()
    }

    pub(crate) fn set_resources(&self, resources: Option<Resources>) {
        // The old ones are dropped without the lock: closing files takes others.
        let old = std::mem::replace(&mut *self.resources.write(), resources);
        drop(old);
    }

    /// What calls about it touch: name, robust list, scheduling.
    pub fn details<R>(&self, act: impl FnOnce(&mut Details) -> R) -> R {
        act(&mut self.details.lock())
    }

    /// comm.
    pub fn comm(&self) -> Vec<u8> {
        self.details.lock().comm.clone()
    }

    /// Sets comm, cut to 15 bytes and at the first zero.
    pub fn set_comm(&self, name: &[u8]) {
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len()).min(15);
        self.details.lock().comm = name[..end].to_vec();
    }

    /// CPU time.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// When it was made.
    pub fn start_time(&self) -> crate::time::Instant {
        self.started
    }

    /// Wakes it from a block: for wait queues.
    pub fn waker(&self) -> &Arc<TaskWaker> {
        &self.waker
    }

    /// The signals it blocks.
    pub fn blocked(&self) -> SigSet {
        self.signals.lock().blocked
    }

    /// The signals pending for it alone.
    pub fn pending(&self) -> SigSet {
        self.signals.lock().pending.set()
    }

    /// R, S, T or Z as in /proc/PID/stat.
    pub fn state_letter(&self) -> char {
        if self.resources.read().is_none() {
            'Z'
        } else if self.stopped.load(Ordering::Relaxed) {
            'T'
        } else if self.sleeping.load(Ordering::Relaxed) {
            'S'
        } else {
            'R'
        }
    }

    pub(crate) fn bind_kick(&self, kick: Arc<dyn Kick>) {
        let _ = self.kick.set(kick);
    }

    /// Flags a reason to look up, and makes the task look: out of program code or out of its sleep.
    pub(crate) fn demand(&self, why: Attention) {
        self.attention.fetch_or(why.bits(), Ordering::SeqCst);
        // The task sets `in_user` before it looks at `attention` a last time: one of the two sees the other.
        if self.in_user.load(Ordering::SeqCst)
            && let Some(kick) = self.kick.get()
        {
            kick.kick();
        }
        self.waker.nudge();
    }

    pub(crate) fn attention(&self) -> Attention {
        Attention::from_bits_truncate(self.attention.load(Ordering::SeqCst))
    }

    pub(crate) fn clear_attention(&self, what: Attention) {
        self.attention.fetch_and(!what.bits(), Ordering::SeqCst);
    }

    /// Makes the task end with this code at its next look.
    pub fn request_exit(&self, code: u8) {
        self.exit_code.store(i32::from(code), Ordering::Release);
        self.demand(Attention::EXIT);
    }

    pub(crate) fn own_exit_status(&self) -> WaitStatus {
        WaitStatus::Exited(self.exit_code.load(Ordering::Acquire) as u8)
    }
}

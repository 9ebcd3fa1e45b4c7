//! A thread group: what Linux calls a process.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use sentry_abi::resource::{Resource, Rlimit};
use sentry_abi::signal::{SigSet, Signal};

use crate::error::Result;
use crate::file::FileDescription;
use crate::kernel::Kernel;
use crate::limits::{Limits, Privilege};
use crate::signal::{GroupSignals, Job, SignalHandlers};
use crate::sync::{Mutex, MutexGuard, Rank, RwLock};
use crate::task::container::Container;
use crate::task::namespace::PidNamespace;
use crate::task::status::WaitStatus;
use crate::task::task::{Attention, Task};
use crate::task::times::CpuTime;
use crate::time::Instant;
use crate::time::posix::GroupTimers;
use crate::wait::{Events, Sharing, WaitQueue, Wake};

/// What a group's ended tasks and waited-for children used.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    /// CPU time.
    pub cpu: CpuTime,
    /// Page faults.
    pub faults: u64,
    /// Largest resident size in bytes.
    pub peak_resident: u64,
    /// Times a task gave up the processor of its own will.
    pub voluntary_switches: u64,
}

impl Usage {
    /// The sum with another; the peak is the larger one.
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.plus(other.cpu),
            faults: self.faults.saturating_add(other.faults),
            peak_resident: self.peak_resident.max(other.peak_resident),
            voluntary_switches: self.voluntary_switches.saturating_add(other.voluntary_switches),
        }
    }
}

/// The tasks of a group and how it ends.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) tasks: Vec<Arc<Task>>,
    /// The status that exit_group or a signal gave; every task must end.
    pub(crate) exiting: Option<WaitStatus>,
    /// The status of the leader's own exit(2), told where nothing else ended the group.
    pub(crate) leader_status: Option<WaitStatus>,
    /// The task that executes a new program and waits for the others to end.
    pub(crate) exec: Option<Arc<Task>>,
}

/// Wakes a host thread that runs no task.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(&self, _: Events) {
        self.0.unpark();
    }
}

/// A thread group.
pub struct ThreadGroup {
    container: Arc<Container>,
    pid: u32,
    pub(crate) members: Mutex<Members>,
    pub(crate) signals: Mutex<GroupSignals>,
    handlers: RwLock<Arc<SignalHandlers>>,
    limits: RwLock<Limits>,
    /// Usage of ended tasks, and of waited-for children.
    used: Mutex<(Usage, Usage)>,
    /// Told when a child ends, stops or goes on.
    children_changed: WaitQueue,
    /// Told when this group ends: pid descriptors.
    ended: WaitQueue,
    /// Told when a signal comes: signal descriptors.
    signal_came: WaitQueue,
    end_status: OnceLock<WaitStatus>,
    dumpable: AtomicU32,
    subreaper: AtomicBool,
    /// The signal for the parent at the end; 0 for none.
    exit_signal: AtomicI32,
    personality: AtomicU32,
    executable: RwLock<Option<Arc<FileDescription>>>,
    /// True once the group has executed a program since its fork (setpgid answers EACCES then).
    executed: AtomicBool,
    timers: GroupTimers,
    started: Instant,
    me: Weak<ThreadGroup>,
}

impl ThreadGroup {
    /// A group without tasks.
    pub fn new(
        container: &Arc<Container>,
        pid: u32,
        handlers: Arc<SignalHandlers>,
        limits: Limits,
        exit_signal: Option<Signal>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            container: container.clone(),
            pid,
            members: Mutex::new(Rank::THREAD_GROUP, Members::default()),
            signals: Mutex::new(Rank::SIGNAL, GroupSignals::default()),
            handlers: RwLock::new(Rank::LEAF, handlers),
            limits: RwLock::new(Rank::LEAF, limits),
            used: Mutex::new(Rank::LEAF, (Usage::default(), Usage::default())),
            children_changed: WaitQueue::new(),
            ended: WaitQueue::new(),
            signal_came: WaitQueue::new(),
            end_status: OnceLock::new(),
            dumpable: AtomicU32::new(1),
            subreaper: AtomicBool::new(false),
            exit_signal: AtomicI32::new(exit_signal.map_or(0, Signal::number)),
            personality: AtomicU32::new(0),
            executable: RwLock::new(Rank::LEAF, None),
            executed: AtomicBool::new(false),
            timers: GroupTimers::new(me.clone()),
            started: container.kernel().now(),
            me: me.clone(),
        })
    }

    /// The kernel.
    pub fn kernel(&self) -> &Arc<Kernel> {
        self.container.kernel()
    }

    /// The container that it is in.
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// Its pid namespace.
    pub fn pids(&self) -> &Arc<PidNamespace> {
        self.container.pids()
    }

    /// Its id (getpid(2)).
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A counted reference to itself.
    pub fn shared(&self) -> Option<Arc<ThreadGroup>> {
        self.me.upgrade()
    }

    /// Its living tasks, in order of their making.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.members.lock().tasks.clone()
    }

    /// The task that others see as the process: the leader, or the oldest living task.
    pub fn leader(&self) -> Option<Arc<Task>> {
        let members = self.members.lock();
        members.tasks.iter().find(|t| t.tid() == self.pid).or(members.tasks.first()).cloned()
    }

    /// The signal actions.
    pub fn handlers(&self) -> Arc<SignalHandlers> {
        self.handlers.read().clone()
    }

    pub(crate) fn set_handlers(&self, handlers: Arc<SignalHandlers>) {
        *self.handlers.write() = handlers;
    }

    /// A limit.
    pub fn limit(&self, resource: Resource) -> Rlimit {
        self.limits.read().limit(resource)
    }

    /// The soft limit.
    pub fn soft_limit(&self, resource: Resource) -> u64 {
        self.limits.read().soft(resource)
    }

    /// All limits.
    pub fn limits(&self) -> Limits {
        self.limits.read().clone()
    }

    /// Sets a limit. Errors: as [`Limits::set`].
    pub fn set_limit(&self, resource: Resource, new: Rlimit, privilege: Privilege) -> Result<()> {
        self.limits.write().set(resource, new, privilege)?;
        for task in self.tasks() {
            task.update_memory_limits();
        }
        if resource == Resource::Cpu {
            self.timers.watch_cpu_limit(new.cur);
        }
        Ok(())
    }

    /// Told (IN) when a child ends, stops or goes on.
    pub fn children_changed(&self) -> &WaitQueue {
        &self.children_changed
    }

    /// Told (IN) when this group ends.
    pub fn ended_queue(&self) -> &WaitQueue {
        &self.ended
    }

    /// Told (IN) when a signal comes to the group or one of its tasks.
    pub fn signal_came(&self) -> &WaitQueue {
        &self.signal_came
    }

    /// True once all its tasks have ended.
    pub fn has_ended(&self) -> bool {
        self.end_status.get().is_some()
    }

    pub(crate) fn mark_ended(&self, status: WaitStatus) {
        // A group ends once.
        let _ = self.end_status.set(status);
    }

    /// How it ended, once all its tasks have.
    pub fn end_status(&self) -> Option<WaitStatus> {
        self.end_status.get().copied()
    }

    /// Waits on this host thread, which runs no task, until all its tasks have ended.
    pub fn wait_until_ended(&self) -> WaitStatus {
        let waker = Arc::new(Unpark(std::thread::current()));
        let key = self.ended.add(Events::IN, Sharing::All, waker);
        let status = loop {
            match self.end_status() {
                Some(status) => break status,
                None => std::thread::park(),
            }
        };
        self.ended.remove(key);
        status
    }

    /// PR_GET_DUMPABLE.
    pub fn dumpable(&self) -> u32 {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// PR_SET_DUMPABLE.
    pub fn set_dumpable(&self, value: u32) {
        self.dumpable.store(value, Ordering::Relaxed);
    }

    /// PR_GET_CHILD_SUBREAPER.
    pub fn is_subreaper(&self) -> bool {
        self.subreaper.load(Ordering::Relaxed)
    }

    /// PR_SET_CHILD_SUBREAPER.
    pub fn set_subreaper(&self, value: u64) {
        self.subreaper.store(value != 0, Ordering::Relaxed);
    }

    /// The signal that the parent gets at the end.
    pub fn exit_signal(&self) -> Option<Signal> {
        Signal::new(self.exit_signal.load(Ordering::Relaxed)).ok()
    }

    pub(crate) fn set_exit_signal(&self, signal: Signal) {
        self.exit_signal.store(signal.number(), Ordering::Relaxed);
    }

    /// personality(2).
    pub fn personality(&self) -> u32 {
        self.personality.load(Ordering::Relaxed)
    }

    /// Sets personality(2).
    pub fn set_personality(&self, value: u32) {
        self.personality.store(value, Ordering::Relaxed);
    }

    /// The program that it runs: /proc/PID/exe.
    pub fn executable(&self) -> Option<Arc<FileDescription>> {
        self.executable.read().clone()
    }

    pub(crate) fn set_executable(&self, file: Option<Arc<FileDescription>>) {
        let old = std::mem::replace(&mut *self.executable.write(), file);
        drop(old);
    }

    pub(crate) fn has_executed(&self) -> bool {
        self.executed.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_executed(&self) {
        self.executed.store(true, Ordering::Relaxed);
    }

    /// Interval and POSIX timers.
    pub fn timers(&self) -> &GroupTimers {
        &self.timers
    }

    /// When it was made.
    pub fn start_time(&self) -> Instant {
        self.started
    }

    /// The signals pending for the whole group.
    pub fn pending(&self) -> SigSet {
        self.signals.lock().pending.set()
    }

    /// Where it stands in job control.
    pub fn job(&self) -> Job {
        self.signals.lock().job
    }

    /// CPU time of all its tasks, living and ended.
    pub fn cpu_time(&self) -> CpuTime {
        let now = self.kernel().now();
        let living = self
            .tasks()
            .iter()
            .fold(CpuTime::default(), |t, task| t.plus(task.account().read(now)));
        living.plus(self.used.lock().0.cpu)
    }

    /// What its tasks used, living and ended.
    pub fn usage(&self) -> Usage {
        let mut usage = self.used.lock().0;
        usage.cpu = self.cpu_time();
        for task in self.tasks() {
            usage.voluntary_switches += task.voluntary_switches.load(Ordering::Relaxed);
        }
        if let Some(resources) = self.leader().and_then(|t| t.resources()) {
            usage.faults += resources.mm.fault_count();
            usage.peak_resident = usage.peak_resident.max(resources.mm.usage().resident_peak);
        }
        usage
    }

    /// What its waited-for children used.
    pub fn children_usage(&self) -> Usage {
        self.used.lock().1
    }

    pub(crate) fn add_usage(&self, ended: Usage) {
        let mut used = self.used.lock();
        used.0 = used.0.plus(ended);
    }

    pub(crate) fn add_children_usage(&self, child: Usage) {
        let mut used = self.used.lock();
        used.1 = used.1.plus(child);
    }

    /// Makes every task end; the first status given is the one that is told.
    pub fn begin_exit(&self, status: WaitStatus) {
        let mut members = self.members.lock();
        self.begin_exit_locked(&mut members, status);
    }

    /// Makes every task end as by SIGKILL.
    pub fn kill(&self) {
        self.begin_exit(WaitStatus::Signaled(Signal::SIGKILL));
    }

    pub(crate) fn begin_exit_locked(
        &self,
        members: &mut MutexGuard<'_, Members>,
        status: WaitStatus,
    ) {
        members.exiting.get_or_insert(status);
        for task in &members.tasks {
            task.demand(Attention::EXIT);
        }
    }
}

//! The kernel as one object: what all tasks share, the registries of what other rooms provide, and the life of init.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use platform::Platform;
use sentry_abi::Errno;

use crate::error::Result;
use crate::futex::FutexTable;
use crate::loader::Vdso;
use crate::log::{Level, Log};
use crate::socket::SocketFamily;
use crate::stats::{Seen, Stats};
use crate::sync::{Mutex, Rank, RwLock};
use crate::task::{Container, CurrentTask, PidNamespace, WaitStatus};
use crate::time::{Clock, Instant, Timers};

/// Gives random bytes fit for keys.
pub trait Random: Send + Sync {
    /// Fills `dst`.
    fn fill(&self, dst: &mut [u8]);
}

/// Does system calls: the table above this crate.
pub trait SyscallTable: Send + Sync {
    /// Does call `number` with the raw argument words. Errors: those of the call; ENOSYS for one that is not there.
    fn dispatch(&self, task: &mut CurrentTask, number: u64, args: &[u64; 6]) -> Result<u64>;

    /// Name of a call, for messages.
    fn name(&self, number: u64) -> Option<&'static str>;

    /// A task ended or was hit by a signal: for traces. The line is without the task's id.
    fn trace_event(&self, task: &CurrentTask, event: TraceEvent) {
        let _ = (task, event);
    }
}

/// What a trace shows besides calls.
#[derive(Clone, Copy, Debug)]
pub enum TraceEvent {
    /// A signal is delivered.
    Signal(sentry_abi::signal::SigInfo),
    /// The task ended with this status of its group, or by itself with an exit code.
    Exit(WaitStatus),
}

/// What a kernel is made from.
pub struct KernelConfig {
    /// Runs program code and holds its memory.
    pub platform: Arc<dyn Platform>,
    /// The clocks that programs see.
    pub clock: Arc<dyn Clock>,
    /// Takes lines for the operator.
    pub log: Arc<dyn Log>,
    /// Random bytes for programs.
    pub random: Arc<dyn Random>,
    /// How many processors programs see.
    pub cpus: usize,
    /// The vDSO that programs get, where there is one.
    pub vdso: Option<Vdso>,
}

/// How a guest ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Init's status; `None` where the kernel failed before init ended.
    pub status: Option<WaitStatus>,
    /// Why the kernel itself ended the guest.
    pub failure: Option<String>,
}

/// The containers, and how many there ever were.
#[derive(Default)]
struct Containers {
    made: u32,
    all: Vec<Weak<Container>>,
}

/// The state that all tasks share.
pub struct Kernel {
    platform: Arc<dyn Platform>,
    clock: Arc<dyn Clock>,
    log: Arc<dyn Log>,
    random: Arc<dyn Random>,
    timers: Timers,
    containers: RwLock<Containers>,
    futexes: FutexTable,
    stats: Stats,
    families: RwLock<Vec<Arc<dyn SocketFamily>>>,
    boot: Instant,
    cpus: usize,
    vdso: Option<Vdso>,
    ended: Mutex<Option<Ended>>,
    /// Set with `ended`; whoever waits for the end polls it under its own parking.
    over: AtomicBool,
    waiters: Mutex<Vec<std::thread::Thread>>,
}

impl Kernel {
    /// A kernel without tasks.
    pub fn new(config: KernelConfig) -> Arc<Self> {
        let boot = config.clock.monotonic();
        Arc::new(Self {
            timers: Timers::new(config.clock.clone()),
            platform: config.platform,
            clock: config.clock,
            log: config.log,
            random: config.random,
            containers: RwLock::new(Rank::LEAF, Containers::default()),
            futexes: FutexTable::new(),
            stats: Stats::default(),
            families: RwLock::new(Rank::LEAF, Vec::new()),
            boot,
            cpus: config.cpus.max(1),
            vdso: config.vdso,
            ended: Mutex::new(Rank::LEAF, None),
            over: AtomicBool::new(false),
            waiters: Mutex::new(Rank::LEAF, Vec::new()),
        })
    }

    /// Runs program code and holds its memory.
    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    /// The clocks.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// CLOCK_MONOTONIC now.
    pub fn now(&self) -> Instant {
        self.clock.monotonic()
    }

    /// When this kernel began.
    pub fn boot_time(&self) -> Instant {
        self.boot
    }

    /// The timers.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Adds a container, which `make` makes of its number.
    pub(crate) fn add_container(&self, make: impl FnOnce(u32) -> Arc<Container>) -> Arc<Container> {
        let mut containers = self.containers.write();
        containers.all.retain(|known| known.strong_count() > 0);
        let container = make(containers.made);
        containers.made = containers.made.saturating_add(1);
        containers.all.push(Arc::downgrade(&container));
        container
    }

    /// The containers that are there, in the order of their making.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        self.containers.read().all.iter().filter_map(Weak::upgrade).collect()
    }

    /// The pid namespaces of the containers, each once.
    fn pid_namespaces(&self) -> Vec<Arc<PidNamespace>> {
        let mut namespaces: Vec<_> =
            self.containers().iter().map(|container| container.pids().clone()).collect();
        namespaces.sort_by_key(|pids| pids.number());
        namespaces.dedup_by_key(|pids| pids.number());
        namespaces
    }

    /// How many tasks there are in all.
    pub fn task_count(&self) -> usize {
        self.pid_namespaces().iter().map(|pids| pids.task_count()).sum()
    }

    /// How many tasks have this real user id (RLIMIT_NPROC, which counts for a user in all namespaces).
    pub fn task_count_of(&self, uid: u32) -> u64 {
        let namespaces = self.pid_namespaces();
        let tasks = namespaces.iter().flat_map(|pids| pids.tasks());
        tasks.filter(|task| task.credentials().uid == uid).count() as u64
    }

    /// Ends every process.
    pub fn kill_all(&self) {
        for container in self.containers() {
            container.end();
        }
    }

    /// Futexes that somebody waits on.
    pub fn futexes(&self) -> &FutexTable {
        &self.futexes
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Takes lines for the operator.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// The vDSO that programs get.
    pub fn vdso(&self) -> Option<&Vdso> {
        self.vdso.as_ref()
    }

    /// How many processors programs see.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Fills `dst` with random bytes.
    pub fn fill_random(&self, dst: &mut [u8]) {
        self.random.fill(dst);
    }

    /// Registers a socket family.
    pub fn register_family(&self, family: Arc<dyn SocketFamily>) {
        self.families.write().push(family);
    }

    /// The socket family AF_`number`. Errors: EAFNOSUPPORT.
    pub fn family(&self, number: i32) -> Result<Arc<dyn SocketFamily>> {
        let families = self.families.read();
        let found = families.iter().find(|f| f.family() == number).cloned();
        found.ok_or(Errno::EAFNOSUPPORT.into())
    }

    /// Counts something that is not supported and names it once in the log.
    pub fn unsupported(&self, what: &str) {
        if self.stats.count_unsupported(what) == Seen::First {
            self.log.write(Level::Warn, format_args!("not supported: {what}"));
        }
    }

    /// Ends the guest because the kernel itself failed: every task is killed, and whoever waits for the end hears why.
    pub fn abort(&self, failure: String) {
        self.log.write(Level::Error, format_args!("{failure}"));
        self.end(Ended { status: None, failure: Some(failure) });
        self.kill_all();
    }

    /// Init ended.
    pub(crate) fn init_ended(&self, status: WaitStatus) {
        self.end(Ended { status: Some(status), failure: None });
    }

    /// True once init ended or the kernel failed.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn end(&self, ended: Ended) {
        self.ended.lock().get_or_insert(ended);
        self.over.store(true, Ordering::Release);
        for thread in self.waiters.lock().drain(..) {
            thread.unpark();
        }
    }

    /// Waits on this host thread until init has ended or the kernel failed.
    pub fn wait_until_ended(&self) -> Ended {
        loop {
            self.waiters.lock().push(std::thread::current());
            if let Some(ended) = self.ended.lock().clone() {
                return ended;
            }
            std::thread::park_timeout(Duration::from_secs(3600));
        }
    }
}

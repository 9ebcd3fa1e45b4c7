//! The kernel as one object: what all tasks share, the registries of what other rooms provide, and the life of init.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use platform::Platform;
use sentry_abi::Errno;

use crate::device::Devices;
use crate::error::Result;
use crate::futex::FutexTable;
use crate::ipc::Segments;
use crate::loader::Vdso;
use crate::log::{Level, Log};
use crate::socket::SocketFamily;
use crate::stats::{Seen, Stats};
use crate::sync::{Mutex, Rank, RwLock};
use crate::task::{CurrentTask, PidNamespace, WaitStatus};
use crate::time::{Clock, Instant, Timers};
use crate::uts::Uts;
use crate::vfs::{FsType, MountNamespace};

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
    /// The table of calls.
    pub syscalls: Arc<dyn SyscallTable>,
    /// Host name.
    pub hostname: String,
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

/// What is shown where no limit was set.
const MEMORY_SHOWN_MAX: u64 = 64 << 30;

/// The state that all tasks share.
pub struct Kernel {
    platform: Arc<dyn Platform>,
    clock: Arc<dyn Clock>,
    log: Arc<dyn Log>,
    random: Arc<dyn Random>,
    syscalls: Arc<dyn SyscallTable>,
    timers: Timers,
    pids: PidNamespace,
    futexes: FutexTable,
    segments: Segments,
    uts: Uts,
    stats: Stats,
    devices: Devices,
    fs_types: RwLock<Vec<Arc<FsType>>>,
    families: RwLock<Vec<Arc<dyn SocketFamily>>>,
    mounts: OnceLock<Arc<MountNamespace>>,
    boot: Instant,
    cpus: usize,
    vdso: Option<Vdso>,
    ended: Mutex<Option<Ended>>,
    /// Set with `ended`; whoever waits for the end polls it under its own parking.
    over: AtomicBool,
    waiters: Mutex<Vec<std::thread::Thread>>,
    /// True while no task may run program code.
    pub(crate) frozen: AtomicBool,
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
            syscalls: config.syscalls,
            pids: PidNamespace::new(),
            futexes: FutexTable::new(),
            segments: Segments::default(),
            uts: Uts::new(&config.hostname),
            stats: Stats::default(),
            devices: Devices::default(),
            fs_types: RwLock::new(Rank::LEAF, Vec::new()),
            families: RwLock::new(Rank::LEAF, Vec::new()),
            mounts: OnceLock::new(),
            boot,
            cpus: config.cpus.max(1),
            vdso: config.vdso,
            ended: Mutex::new(Rank::LEAF, None),
            over: AtomicBool::new(false),
            waiters: Mutex::new(Rank::LEAF, Vec::new()),
            frozen: AtomicBool::new(false),
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

    /// Tasks, groups and sessions by id.
    pub fn pids(&self) -> &PidNamespace {
        &self.pids
    }

    /// Futexes that somebody waits on.
    pub fn futexes(&self) -> &FutexTable {
        &self.futexes
    }

    /// System V shared memory.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Host and domain name.
    pub fn uts(&self) -> &Uts {
        &self.uts
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Character devices by number.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The table of calls.
    pub fn syscalls(&self) -> &Arc<dyn SyscallTable> {
        &self.syscalls
    }

    /// Takes lines for the operator.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// The vDSO that programs get.
    pub fn vdso(&self) -> Option<&Vdso> {
        self.vdso.as_ref()
    }

    /// Memory that programs can have and what is left of it, in bytes.
    pub fn memory_sizes(&self) -> (u64, u64) {
        let memory = self.platform.memory();
        let total = memory.limit_bytes().min(MEMORY_SHOWN_MAX);
        (total, total.saturating_sub(memory.used_bytes()))
    }

    /// How many processors programs see.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Fills `dst` with random bytes.
    pub fn fill_random(&self, dst: &mut [u8]) {
        self.random.fill(dst);
    }

    /// Registers a filesystem for mount(2) and /proc/filesystems.
    pub fn register_fs_type(&self, fs_type: Arc<FsType>) {
        self.fs_types.write().push(fs_type);
    }

    /// The filesystem of this name. Errors: ENODEV.
    pub fn fs_type(&self, name: &[u8]) -> Result<Arc<FsType>> {
        let types = self.fs_types.read();
        let found = types.iter().find(|t| t.name.as_bytes() == name).cloned();
        found.ok_or(Errno::ENODEV.into())
    }

    /// All registered filesystems.
    pub fn fs_types(&self) -> Vec<Arc<FsType>> {
        self.fs_types.read().clone()
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

    /// Sets the tree of mounts that init starts in; later calls change nothing.
    pub fn set_mounts(&self, mounts: Arc<MountNamespace>) {
        let _ = self.mounts.set(mounts);
    }

    /// The tree of mounts. Errors: ENOENT before boot has set it.
    pub fn mounts(&self) -> Result<&Arc<MountNamespace>> {
        self.mounts.get().ok_or(Errno::ENOENT.into())
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
        self.pids.kill_all();
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

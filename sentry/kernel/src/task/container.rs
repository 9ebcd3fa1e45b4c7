//! What the tasks of one container share beside the kernel: their namespaces (Linux's nsproxy), and what a cgroup is there: counted,
//! held and ended as a whole. A kernel has one container, or the several of a pod.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use sentry_abi::Errno;

use crate::device::Devices;
use crate::error::Result;
use crate::ipc::Segments;
use crate::kernel::{Kernel, SyscallTable};
use crate::mm::MemoryManager;
use crate::sync::{Rank, RwLock};
use crate::task::group::ThreadGroup;
use crate::task::namespace::PidNamespace;
use crate::task::task::{Attention, Task};
use crate::task::times::CpuTime;
use crate::uts::Uts;
use crate::vfs::FsType;

/// Memory that programs are told of where there is no limit.
const MEMORY_SHOWN: u64 = 16 << 30;
/// Its tasks are held.
const FROZEN: u8 = 1;
/// It has ended.
const OVER: u8 = 2;

/// What a container is made from. A namespace may be another container's.
pub struct ContainerConfig {
    /// Process ids.
    pub pids: Arc<PidNamespace>,
    /// Host and domain name.
    pub uts: Arc<Uts>,
    /// System V shared memory.
    pub segments: Arc<Segments>,
    /// The table of calls, with the container's own filter.
    pub syscalls: Arc<dyn SyscallTable>,
}

/// A container.
pub struct Container {
    kernel: Arc<Kernel>,
    number: u32,
    config: ContainerConfig,
    devices: Devices,
    fs_types: RwLock<Vec<Arc<FsType>>>,
    state: AtomicU8,
    memory_max: AtomicU64,
    tasks_max: AtomicU64,
    /// CPU time of ended processes in nanoseconds.
    ended_cpu_ns: AtomicU64,
}

/// What the programs of a container use, and have used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContainerUsage {
    /// CPU time in nanoseconds, also of processes that have ended.
    pub cpu_ns: u64,
    /// Resident memory in bytes; what processes share counts for each.
    pub memory: u64,
    /// Tasks.
    pub tasks: u64,
    /// The limit of memory in bytes, as programs are told of it.
    pub memory_max: Option<u64>,
}

impl Container {
    /// A container without tasks.
    pub fn new(kernel: &Arc<Kernel>, config: ContainerConfig) -> Arc<Self> {
        kernel.add_container(|number| {
            Arc::new(Self {
                kernel: kernel.clone(),
                number,
                config,
                devices: Devices::default(),
                fs_types: RwLock::new(Rank::LEAF, Vec::new()),
                state: AtomicU8::new(0),
                memory_max: AtomicU64::new(u64::MAX),
                tasks_max: AtomicU64::new(u64::MAX),
                ended_cpu_ns: AtomicU64::new(0),
            })
        })
    }

    /// The kernel.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// Its number among the kernel's, from 0 in the order of their making.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Tasks, groups and sessions by id.
    pub fn pids(&self) -> &Arc<PidNamespace> {
        &self.config.pids
    }

    /// Host and domain name.
    pub fn uts(&self) -> &Arc<Uts> {
        &self.config.uts
    }

    /// System V shared memory.
    pub fn segments(&self) -> &Arc<Segments> {
        &self.config.segments
    }

    /// The table of calls.
    pub fn syscalls(&self) -> &Arc<dyn SyscallTable> {
        &self.config.syscalls
    }

    /// Character devices by number.
    pub fn devices(&self) -> &Devices {
        &self.devices
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

    /// Its thread groups by ascending id, zombies too.
    pub fn groups(&self) -> Vec<Arc<ThreadGroup>> {
        let mut groups = self.pids().groups();
        groups.retain(|group| std::ptr::eq(&**group.container(), self));
        groups
    }

    /// How many tasks it has; a zombie counts as one, as in the pids controller of cgroups.
    pub fn task_count(&self) -> usize {
        self.pids().tasks().iter().filter(|task| std::ptr::eq(&**task.container(), self)).count()
    }

    /// Memory that programs can have and what is left of it, in bytes. What is used is all that the kernel's containers use together.
    pub fn memory_sizes(&self) -> (u64, u64) {
        let memory = self.kernel.platform().memory();
        let used = memory.used_bytes();
        let shown = match self.memory_max.load(Ordering::Relaxed) {
            u64::MAX => MEMORY_SHOWN.max(used),
            most => most,
        };
        let total = memory.limit_bytes().min(shown);
        (total, total.saturating_sub(used))
    }

    /// How much memory programs are told of; `None` where nobody limits it. Whoever has set the limit on the host sees to it.
    pub fn set_memory_shown(&self, most: Option<u64>) {
        self.memory_max.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many tasks it may have: what the pids controller of cgroups is on Linux. Those that are there stay, however many.
    pub fn set_tasks_max(&self, most: Option<u64>) {
        self.tasks_max.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether one more may be made. Errors: EAGAIN (cgroups(7)).
    pub(super) fn check_tasks(&self) -> Result<()> {
        let most = self.tasks_max.load(Ordering::Relaxed);
        match most == u64::MAX || (self.task_count() as u64) < most {
            true => Ok(()),
            false => Err(Errno::EAGAIN.into()),
        }
    }

    /// A process of it has ended, which used so much.
    pub(super) fn process_ended(&self, cpu: CpuTime) {
        self.ended_cpu_ns.fetch_add(cpu.total_ns(), Ordering::Relaxed);
    }

    /// What its programs use.
    pub fn usage(&self) -> ContainerUsage {
        let most = self.memory_max.load(Ordering::Relaxed);
        let mut usage = ContainerUsage {
            cpu_ns: self.ended_cpu_ns.load(Ordering::Relaxed),
            tasks: self.task_count() as u64,
            memory_max: (most != u64::MAX).then_some(most),
            ..ContainerUsage::default()
        };
        // Processes of a vfork have one memory.
        let mut counted: Vec<Arc<MemoryManager>> = Vec::new();
        for group in self.groups().iter().filter(|group| !group.has_ended()) {
            usage.cpu_ns = usage.cpu_ns.saturating_add(group.cpu_time().total_ns());
            let Some(resources) = group.leader().and_then(|task| task.resources()) else {
                continue;
            };
            if !counted.iter().any(|mm| Arc::ptr_eq(mm, &resources.mm)) {
                usage.memory = usage.memory.saturating_add(resources.mm.usage().resident);
                counted.push(resources.mm);
            }
        }
        usage
    }

    /// Keeps every task from program code, also those that are made meanwhile, until [`Self::thaw`]: what a cgroup's freezer does on
    /// Linux. A call that a task is in goes on; its program does not see the result before. The end of the container is not kept off.
    pub fn freeze(&self) {
        self.state.fetch_or(FROZEN, Ordering::SeqCst);
        // A task that is made meanwhile is inserted before it first looks at the flag: it is found here or sees it.
        for task in self.tasks() {
            task.demand(Attention::FREEZE);
        }
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.state.fetch_and(!FROZEN, Ordering::SeqCst);
        for task in self.tasks() {
            task.waker().nudge();
        }
    }

    /// True between [`Self::freeze`] and [`Self::thaw`].
    pub fn is_frozen(&self) -> bool {
        self.state.load(Ordering::SeqCst) & FROZEN != 0
    }

    /// Ends every task as by SIGKILL, and those that are made meanwhile: no program runs in it again.
    pub fn end(&self) {
        self.state.fetch_or(OVER, Ordering::SeqCst);
        self.groups().iter().for_each(|group| group.kill());
    }

    /// True once it was ended.
    pub fn is_over(&self) -> bool {
        self.state.load(Ordering::SeqCst) & OVER != 0
    }

    /// True where its tasks may not just run.
    pub(super) fn is_held(&self) -> bool {
        self.state.load(Ordering::SeqCst) != 0
    }

    fn tasks(&self) -> Vec<Arc<Task>> {
        self.groups().iter().flat_map(|group| group.tasks()).collect()
    }
}

//! Tests of tasks on the scripted platform: no process is made, but every task has its host thread and the real run loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use platform::Registers;
use platform::fake::{FakePlatform, Script};
use sentry_abi::Errno;
use sentry_abi::signal::{SI_USER, SIG_IGN, SigAction, SigInfo, SigSet, Signal};
use sentry_abi::wait::WaitOptions;

use super::clone::spawn;
use super::*;
use crate::cred::Credentials;
use crate::error::Result;
use crate::file::FdTable;
use crate::ipc::Segments;
use crate::kernel::{Kernel, KernelConfig, Random, SyscallTable};
use crate::limits::Limits;
use crate::log::NoLog;
use crate::mm::{Layout, LayoutRandom, MemoryManager};
use crate::namespaces;
use crate::signal::SignalHandlers;
use crate::time::{Clock, Instant};
use crate::uts::Uts;
use crate::vfs::memfs::MemFs;
use crate::vfs::{FsContext, MountNamespace};
use crate::wait::{Events, WaitQueue};

type Handler = Box<dyn Fn(&mut CurrentTask, &[u64; 6]) -> Result<u64> + Send + Sync>;

#[derive(Default)]
struct Calls(HashMap<u64, Handler>);

impl Calls {
    fn on(
        mut self,
        number: u64,
        handler: impl Fn(&mut CurrentTask, &[u64; 6]) -> Result<u64> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(number, Box::new(handler));
        self
    }

    /// exit_group is 0, and waiting for any child 1, in every table.
    fn standard() -> Self {
        Self::default()
            .on(0, |task, args| {
                task.thread_group().begin_exit(WaitStatus::Exited(args[0] as u8));
                Ok(0)
            })
            .on(1, |task, _| {
                let found = task.wait_child(WaitSelect::Any, WaitOptions::EXITED)?;
                Ok(found.map_or(0, |f| f.status.word() as u64))
            })
            .on(2, |task, _| {
                let exit_signal = Some(Signal::SIGCHLD);
                let request = CloneRequest { exit_signal, ..CloneRequest::default() };
                task.clone_task(&request).map(|t| u64::from(t.tid()))
            })
    }
}

impl SyscallTable for Calls {
    fn dispatch(&self, task: &mut CurrentTask, number: u64, args: &[u64; 6]) -> Result<u64> {
        match self.0.get(&number) {
            Some(handler) => handler(task, args),
            None => Err(Errno::ENOSYS.into()),
        }
    }

    fn name(&self, _: u64) -> Option<&'static str> {
        None
    }
}

/// The monotonic clock only moves when it is read: no test depends on real time.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn monotonic(&self) -> Instant {
        Instant(self.0.fetch_add(1000, Ordering::Relaxed))
    }

    fn realtime_ns(&self) -> i64 {
        0
    }
}

struct Zeros;

impl Random for Zeros {
    fn fill(&self, dst: &mut [u8]) {
        dst.fill(0);
    }
}

struct Guest {
    kernel: Arc<Kernel>,
    group: Arc<ThreadGroup>,
}

/// A kernel whose tasks take these scripts in the order of their making.
fn kernel(scripts: Vec<Script>) -> Arc<Kernel> {
    let platform = FakePlatform::new().unwrap();
    scripts.into_iter().for_each(|s| platform.push_script(s));
    Kernel::new(KernelConfig {
        platform: platform.clone(),
        clock: Arc::new(Ticking::default()),
        log: Arc::new(NoLog),
        random: Arc::new(Zeros),
        cpus: 2,
        vdso: None,
    })
}

/// A container with namespaces of its own; the kernel's first has number 0.
fn container(kernel: &Arc<Kernel>, calls: Calls, number: u32) -> Arc<Container> {
    let of = |kind| namespaces::number(kind, number);
    Container::new(
        kernel,
        ContainerConfig {
            pids: PidNamespace::new(of(namespaces::Kind::Pid)),
            uts: Uts::new(of(namespaces::Kind::Uts), "test"),
            segments: Segments::new(of(namespaces::Kind::Ipc)),
            syscalls: Arc::new(calls),
        },
    )
}

/// Starts init with the first script; further tasks take the others.
fn start(calls: Calls, scripts: Vec<Script>) -> Guest {
    begin(&container(&kernel(scripts), calls, 0))
}

/// Starts a process without a parent.
fn begin(container: &Arc<Container>) -> Guest {
    let kernel = container.kernel().clone();
    let layout = Layout::new(kernel.platform().user_range(), 8 << 20, LayoutRandom::default());
    let resources = Resources {
        mm: MemoryManager::new(kernel.platform(), layout).unwrap(),
        fds: FdTable::new(),
        fs: FsContext::new(&MountNamespace::new(MemFs::new(), b"none")),
    };
    let pid = container.pids().allocate().unwrap();
    let handlers = Arc::new(SignalHandlers::default());
    let group = ThreadGroup::new(container, pid, handlers, Limits::default(), None);
    let scheduling =
        Scheduling { policy: 0, priority: 0, nice: 0, reset_on_fork: false, affinity: vec![3] };
    let task = Task::new(TaskInit {
        group: group.clone(),
        tid: pid,
        resources: resources.clone(),
        credentials: Arc::new(Credentials::root()),
        details: Details {
            comm: b"init".to_vec(),
            robust_list: 0,
            clear_child_tid: 0,
            parent_death_signal: 0,
            timer_slack_ns: 0,
            scheduling,
        },
        blocked: SigSet::EMPTY,
    });
    group.members.lock().tasks.push(task.clone());
    container.pids().insert(&task, 0);
    spawn(task, resources, Registers::default(), None).unwrap();
    Guest { kernel, group }
}

fn status_of(guest: &Guest) -> Option<WaitStatus> {
    guest.kernel.wait_until_ended().status
}

const EXIT: u64 = 0;
const WAIT: u64 = 1;
const FORK: u64 = 2;
const OWN: u64 = 10;

#[test]
fn the_guest_ends_with_inits_status() {
    let guest = start(Calls::standard(), vec![Script::new().syscall(EXIT, [7, 0, 0, 0, 0, 0])]);
    assert_eq!(status_of(&guest), Some(WaitStatus::Exited(7)));
}

#[test]
fn a_panic_in_a_call_ends_the_guest_with_its_words() {
    let calls = Calls::standard().on(OWN, |_, _| panic!("broken on purpose"));
    let guest = start(calls, vec![Script::new().syscall(OWN, [0; 6])]);
    let ended = guest.kernel.wait_until_ended();
    assert_eq!(ended.status, None);
    assert!(ended.failure.unwrap().contains("broken on purpose"));
}

#[test]
fn a_frozen_guest_goes_on_when_it_is_thawed_and_ends_when_it_is_killed() {
    let ran = Arc::new(AtomicBool::new(false));
    let seen = ran.clone();
    let calls = move || {
        let ran = ran.clone();
        Calls::standard()
            .on(OWN, |task, _| {
                task.container().freeze();
                Ok(0)
            })
            .on(OWN + 1, move |_, _| {
                ran.store(true, Ordering::SeqCst);
                Ok(0)
            })
    };
    let script =
        || Script::new().syscall(OWN, [0; 6]).syscall(OWN + 1, [0; 6]).syscall(EXIT, [0; 6]);
    let guest = start(calls(), vec![script()]);
    while !guest.group.container().is_frozen() {
        std::thread::yield_now();
    }
    assert!(!seen.load(Ordering::SeqCst));
    guest.group.container().thaw();
    assert_eq!(status_of(&guest), Some(WaitStatus::Exited(0)));
    assert!(seen.swap(false, Ordering::SeqCst));
    assert_eq!(guest.group.wait_until_ended(), WaitStatus::Exited(0));
    let guest = start(calls(), vec![script()]);
    while !guest.group.container().is_frozen() {
        std::thread::yield_now();
    }
    guest.group.pids().kill_all();
    assert_eq!(status_of(&guest), Some(WaitStatus::Signaled(Signal::SIGKILL)));
    assert!(!seen.load(Ordering::SeqCst));
}

#[test]
fn a_child_is_waited_for_with_its_status_and_accounted() {
    let init = Script::new()
        .syscall(FORK, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, 2))
        .syscall(WAIT, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, 9 << 8))
        .syscall(WAIT, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, Errno::ECHILD.to_result()))
        .syscall(EXIT, [0; 6]);
    let child = Script::new().syscall(EXIT, [9, 0, 0, 0, 0, 0]);
    let guest = start(Calls::standard(), vec![init, child]);
    assert_eq!(status_of(&guest), Some(WaitStatus::Exited(0)));
    assert!(guest.group.children_usage().cpu.total_ns() > 0);
    assert_eq!(guest.group.pids().groups().len(), 1, "the child is gone");
}

#[test]
fn a_blocked_task_is_ended_by_a_signal_and_by_the_end_of_init() {
    // The child blocks for ever; init's end must end it too.
    let blocked = Arc::new(AtomicBool::new(false));
    let seen = blocked.clone();
    let calls = Calls::standard()
        .on(OWN, move |task, _| {
            seen.store(true, Ordering::SeqCst);
            let never = WaitQueue::new();
            task.wait_for(&never, Events::IN, None, || None::<u64>)
        })
        .on(OWN + 1, move |task, _| {
            while !blocked.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let child = task.pids().children(task.pid())[0];
            let child = task.pids().group(child).unwrap();
            child.send_signal(Signal::SIGTERM, SigInfo::new(Signal::SIGTERM, SI_USER))?;
            Ok(0)
        });
    let init = Script::new()
        .syscall(FORK, [0; 6])
        .syscall(OWN + 1, [0; 6])
        .syscall(WAIT, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, 15))
        .syscall(FORK, [0; 6])
        .syscall(EXIT, [1, 0, 0, 0, 0, 0]);
    let sleeper = || Script::new().syscall(OWN, [0; 6]);
    let guest = start(calls, vec![init, sleeper(), sleeper()]);
    assert_eq!(status_of(&guest), Some(WaitStatus::Exited(1)));
    while guest.group.pids().groups().iter().any(|g| g.pid() != 1) {
        std::thread::yield_now();
    }
}

#[test]
fn no_wake_up_is_lost_between_the_look_and_the_sleep() {
    let ready = Arc::new((WaitQueue::new(), AtomicU64::new(0)));
    let (waits, wakes) = (ready.clone(), ready);
    let calls = Calls::standard().on(OWN, move |task, args| {
        let (queue, count) = &*waits;
        task.wait_for(queue, Events::IN, None, || {
            (count.load(Ordering::SeqCst) >= args[0]).then_some(args[0])
        })
    });
    let mut init = Script::new();
    for round in 1..=500 {
        init = init.syscall(OWN, [round, 0, 0, 0, 0, 0]);
    }
    let guest = start(calls, vec![init.syscall(EXIT, [0; 6])]);
    let (queue, count) = &*wakes;
    for _ in 1..=500 {
        count.fetch_add(1, Ordering::SeqCst);
        queue.notify(Events::IN);
        std::thread::yield_now();
    }
    assert_eq!(status_of(&guest), Some(WaitStatus::Exited(0)));
}

#[test]
fn children_of_a_parent_that_ignores_sigchld_leave_no_zombie() {
    let calls = Calls::standard().on(OWN, |task, _| {
        let ignore = SigAction { handler: SIG_IGN, ..SigAction::default() };
        task.thread_group().handlers().set_action(Signal::SIGCHLD, ignore);
        Ok(0)
    });
    let init = Script::new()
        .syscall(OWN, [0; 6])
        .syscall(FORK, [0; 6])
        .syscall(WAIT, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, Errno::ECHILD.to_result()))
        .syscall(EXIT, [0; 6]);
    let child = Script::new().syscall(EXIT, [0; 6]);
    let guest = start(calls, vec![init, child]);
    assert_eq!(status_of(&guest), Some(WaitStatus::Exited(0)));
    assert_eq!(guest.group.pids().groups().len(), 1);
}

#[test]
fn a_stopped_job_of_init_stays_stopped_while_others_end() {
    let job = |task: &CurrentTask| task.pids().group(2).unwrap();
    let send = move |task: &CurrentTask, signal| {
        job(task).send_signal(signal, SigInfo::new(signal, SI_USER))
    };
    let calls = Calls::standard()
        .on(OWN, |task, _| {
            let never = WaitQueue::new();
            task.wait_for(&never, Events::IN, None, || None::<u64>)
        })
        .on(OWN + 1, move |task, _| {
            task.pids().set_process_group(1, 2, 2)?;
            send(task, Signal::SIGSTOP)?;
            let found = task.wait_child(WaitSelect::Any, WaitOptions::UNTRACED)?;
            Ok(found.map_or(0, |f| f.status.word() as u64))
        })
        .on(OWN + 2, move |task, _| {
            // A hang-up that came before would be taken first.
            send(task, Signal::SIGTERM)?;
            send(task, Signal::SIGCONT)?;
            Ok(0)
        });
    let init = Script::new()
        .syscall(FORK, [0; 6])
        .syscall(OWN + 1, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, 0x137f))
        .syscall(FORK, [0; 6])
        .syscall(WAIT, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, 0))
        .syscall(OWN + 2, [0; 6])
        .syscall(WAIT, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, 15))
        .syscall(EXIT, [0; 6]);
    let scripts =
        vec![init, Script::new().syscall(OWN, [0; 6]), Script::new().syscall(EXIT, [0; 6])];
    let guest = start(calls, scripts);
    assert_eq!(status_of(&guest), Some(WaitStatus::Exited(0)));
}

/// A table with a call that blocks for ever.
fn sleeping() -> Calls {
    Calls::standard().on(OWN, |task, _| {
        let never = WaitQueue::new();
        task.wait_for(&never, Events::IN, None, || None::<u64>)
    })
}

fn sleeper() -> Script {
    Script::new().syscall(OWN, [0; 6])
}

#[test]
fn the_end_of_a_containers_init_ends_that_container_alone() {
    let brief = Script::new().syscall(FORK, [0; 6]).syscall(EXIT, [5, 0, 0, 0, 0, 0]);
    let first = container(&kernel(vec![sleeper(), brief, sleeper()]), sleeping(), 0);
    let one = begin(&first);
    // The second container begins once the first script is taken.
    while !one.group.tasks()[0].sleeping.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let second = container(first.kernel(), sleeping(), 1);
    let two = begin(&second);
    assert_eq!((one.group.pid(), two.group.pid()), (1, 1));
    assert_eq!(two.group.wait_until_ended(), WaitStatus::Exited(5));
    while first.kernel().task_count() > 1 {
        std::thread::yield_now();
    }
    assert!(second.pids().groups().is_empty(), "an ended namespace holds nothing");
    assert!(!first.kernel().is_over() && !one.group.has_ended());
    first.end();
    assert_eq!(status_of(&one), Some(WaitStatus::Signaled(Signal::SIGKILL)));
}

#[test]
fn what_is_frozen_or_ended_is_one_container_of_a_shared_pid_namespace() {
    let calls = || sleeping().on(OWN + 1, |task, _| Ok(u64::from(task.container().number())));
    let late = Script::new()
        .syscall(OWN + 1, [0; 6])
        .check(|_, regs| assert_eq!(regs.rax, 1))
        .syscall(EXIT, [3, 0, 0, 0, 0, 0]);
    let first = container(&kernel(vec![sleeper(), late]), calls(), 0);
    let one = begin(&first);
    while !one.group.tasks()[0].sleeping.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let joined = Container::new(
        first.kernel(),
        ContainerConfig {
            pids: first.pids().clone(),
            uts: first.uts().clone(),
            segments: first.segments().clone(),
            syscalls: Arc::new(calls()),
        },
    );
    joined.freeze();
    let two = begin(&joined);
    assert_eq!((two.group.pid(), first.is_frozen(), two.group.has_ended()), (2, false, false));
    assert_eq!((first.task_count(), joined.task_count(), first.pids().task_count()), (1, 1, 2));
    joined.thaw();
    assert_eq!(two.group.wait_until_ended(), WaitStatus::Exited(3));
    joined.end();
    let three = begin(&joined);
    assert_eq!(three.group.wait_until_ended(), WaitStatus::Signaled(Signal::SIGKILL));
    assert!(!one.group.has_ended() && first.pids().has_init());
    first.kernel().kill_all();
    assert_eq!(status_of(&one), Some(WaitStatus::Signaled(Signal::SIGKILL)));
}

#[test]
fn a_limit_of_memory_is_shown_as_it_is() {
    let container = container(&kernel(Vec::new()), Calls::standard(), 0);
    let shown = |most| {
        container.set_memory_shown(most);
        container.memory_sizes().0
    };
    assert_eq!(shown(None), 16 << 30);
    assert_eq!(shown(Some(32 << 30)), 32 << 30);
    assert_eq!(shown(Some(1 << 30)), 1 << 30);
    container.kernel().platform().memory().set_limit_bytes(8 << 30);
    assert_eq!(shown(Some(32 << 30)), 8 << 30);
}

//! clone(2): making tasks, in the caller's group or in a new one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use platform::{FpuState, Registers};
use sentry_abi::resource::Resource;
use sentry_abi::sched::CloneFlags;
use sentry_abi::signal::{SS_DISABLE, Signal, StackT};
use sentry_abi::{Errno, UserAddr};

use crate::cred::Capabilities;
use crate::error::{Error, Restart, Result};
use crate::log::Level;
use crate::signal::Job;
use crate::task::current::CurrentTask;
use crate::task::group::ThreadGroup;
use crate::task::namespace::INIT_PID;
use crate::task::task::{Attention, Details, Resources, Scheduling, Task, TaskInit};
use crate::task::vfork::Completion;

/// Stack of a task's host thread in bytes: path walks and copies are flat, so this is ample.
const HOST_STACK: usize = 512 << 10;

/// What clone(2), clone3(2), fork(2) and vfork(2) ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    /// CLONE_*
    pub flags: CloneFlags,
    /// The signal for the parent at the child's end.
    pub exit_signal: Option<Signal>,
    /// The child's stack pointer; `None` keeps the caller's.
    pub stack: Option<u64>,
    /// The child's thread-local storage (CLONE_SETTLS).
    pub tls: u64,
    /// Where the child's id goes in the parent (CLONE_PARENT_SETTID).
    pub parent_tid: UserAddr,
    /// Where the child's id goes in the child (CLONE_CHILD_SETTID), and is cleared (CLONE_CHILD_CLEARTID).
    pub child_tid: UserAddr,
}

impl CloneRequest {
    /// Refuses combinations that mean nothing (clone(2), ERRORS) and namespaces, which are not there.
    fn check(&self, creds: &crate::cred::Credentials) -> Result<()> {
        let f = self.flags;
        let has = |flag| f.contains(flag);
        let bad = (has(CloneFlags::SIGHAND) && !has(CloneFlags::VM))
            || (has(CloneFlags::THREAD) && !has(CloneFlags::SIGHAND))
            || (has(CloneFlags::NEWNS) && has(CloneFlags::FS))
            || (has(CloneFlags::CLEAR_SIGHAND) && has(CloneFlags::SIGHAND))
            || (has(CloneFlags::PIDFD) && has(CloneFlags::DETACHED));
        if bad {
            return Err(Errno::EINVAL.into());
        }
        if f.intersects(CloneFlags::NAMESPACES) {
            let privileged = creds.has(Capabilities::SYS_ADMIN) || has(CloneFlags::NEWUSER);
            // As on a kernel that was built without namespaces, or where they are not for this user.
            return Err(if privileged { Errno::EINVAL.into() } else { Errno::EPERM.into() });
        }
        if has(CloneFlags::INTO_CGROUP) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        Ok(())
    }
}

impl CurrentTask {
    /// Makes a task and starts it. Returns its id. Errors: EINVAL, EAGAIN beyond RLIMIT_NPROC, ENOMEM; an interruption where the group ends.
    ///
    /// With CLONE_VFORK it returns only once the child has executed a program or ended.
    pub fn clone_task(&mut self, request: &CloneRequest) -> Result<Arc<Task>> {
        let creds = self.credentials();
        request.check(&creds)?;
        self.check_task_limit()?;
        let resources = self.child_resources(request.flags)?;
        let tid = self.pids().allocate()?;
        let group = self.child_group(request, tid);
        let in_new_group = !request.flags.contains(CloneFlags::THREAD);
        let task = Task::new(TaskInit {
            group,
            tid,
            resources: resources.clone(),
            credentials: creds,
            details: self.child_details(request),
            blocked: self.blocked(),
        });
        self.give_alt_stack(&task, request.flags);
        // Linux ignores bad addresses here: the program finds out.
        if request.flags.contains(CloneFlags::PARENT_SETTID) {
            let _ = self.mm().write(request.parent_tid, &tid.to_ne_bytes());
        }
        if request.flags.contains(CloneFlags::CHILD_SETTID) {
            let _ = resources.mm.write(request.child_tid, &tid.to_ne_bytes());
        }
        let vfork = request.flags.contains(CloneFlags::VFORK).then(|| {
            let done = Completion::new(self.task.waker().clone());
            *task.vfork.lock() = Some(done.clone());
            done
        });
        self.join_group(&task)?;
        let parent = match in_new_group && request.flags.contains(CloneFlags::PARENT) {
            true => self.pids().parent(self.pid()).max(INIT_PID),
            false => self.pid(),
        };
        self.pids().insert(&task, parent);
        self.start(&task, resources, request)?;
        if let Some(done) = vfork {
            self.wait_for_vfork(&done);
        }
        Ok(task)
    }

    fn check_task_limit(&self) -> Result<()> {
        let creds = self.credentials();
        let exempt = creds.uid == 0
            || creds.has(Capabilities::SYS_ADMIN)
            || creds.has(Capabilities::SYS_RESOURCE);
        let limit = self.thread_group().soft_limit(Resource::Nproc);
        let kernel = self.kernel();
        let in_all = kernel.task_count() as u64;
        // Everybody is bound by what the host can carry; others by their own limit.
        if in_all >= TASKS_MAX || (!exempt && kernel.task_count_of(creds.uid) >= limit) {
            return Err(Errno::EAGAIN.into());
        }
        self.container().check_tasks()
    }

    fn child_resources(&self, flags: CloneFlags) -> Result<Resources> {
        let own = &self.resources;
        let share = |flag| flags.contains(flag);
        Ok(Resources {
            mm: if share(CloneFlags::VM) { own.mm.clone() } else { own.mm.fork()? },
            fds: if share(CloneFlags::FILES) { own.fds.clone() } else { own.fds.fork() },
            fs: if share(CloneFlags::FS) { own.fs.clone() } else { own.fs.fork() },
        })
    }

    fn child_group(&self, request: &CloneRequest, tid: u32) -> Arc<ThreadGroup> {
        let own = self.thread_group();
        if request.flags.contains(CloneFlags::THREAD) {
            return own.clone();
        }
        let handlers = if request.flags.contains(CloneFlags::SIGHAND) {
            own.handlers()
        } else if request.flags.contains(CloneFlags::CLEAR_SIGHAND) {
            own.handlers().fork_for_exec()
        } else {
            own.handlers().fork()
        };
        let exit_signal = match request.flags.contains(CloneFlags::PARENT) {
            true => own.exit_signal(),
            false => request.exit_signal,
        };
        let group = ThreadGroup::new(own.container(), tid, handlers, own.limits(), exit_signal);
        group.set_dumpable(own.dumpable());
        group.set_personality(own.personality());
        group.set_executable(own.executable());
        group.timers().watch_cpu_limit(own.soft_limit(Resource::Cpu));
        group
    }

    fn child_details(&self, request: &CloneRequest) -> Details {
        self.details(|own| Details {
            comm: own.comm.clone(),
            robust_list: 0,
            clear_child_tid: match request.flags.contains(CloneFlags::CHILD_CLEARTID) {
                true => request.child_tid.0,
                false => 0,
            },
            parent_death_signal: 0,
            timer_slack_ns: own.timer_slack_ns,
            scheduling: child_scheduling(&own.scheduling),
        })
    }

    /// The alternate stack goes with the memory: a copy keeps it; a thread starts without; vfork keeps it.
    fn give_alt_stack(&self, child: &Arc<Task>, flags: CloneFlags) {
        let keeps = !flags.contains(CloneFlags::VM) || flags.contains(CloneFlags::VFORK);
        let alt = match keeps {
            true => self.task.signals.lock().alt_stack,
            false => StackT { flags: SS_DISABLE, ..StackT::default() },
        };
        child.signals.lock().alt_stack = alt;
    }

    /// Adds the child to its group, unless that ends or executes: then the caller is about to end too.
    fn join_group(&self, child: &Arc<Task>) -> Result<()> {
        let group = child.thread_group();
        let own_group = self.thread_group();
        {
            let members = own_group.members.lock();
            if members.exiting.is_some() || members.exec.is_some() {
                return Err(Error::interrupted(Restart::Always));
            }
        }
        let mut members = group.members.lock();
        members.tasks.push(child.clone());
        if group.signals.lock().job != Job::Running {
            child.demand(Attention::STOP);
        }
        if members.exiting.is_some() || members.exec.is_some() {
            child.demand(Attention::EXIT);
        }
        Ok(())
    }

    fn start(
        &mut self,
        child: &Arc<Task>,
        resources: Resources,
        request: &CloneRequest,
    ) -> Result<()> {
        let mut registers = self.registers;
        registers.rax = 0;
        registers.orig_rax = platform::arch::registers::NO_SYSCALL;
        if let Some(stack) = request.stack {
            registers.rsp = stack;
        }
        if request.flags.contains(CloneFlags::SETTLS) {
            registers.fs_base = request.tls;
        }
        let fpu = self.context.save_fpu().map_err(|_| Error::new(Errno::ENOMEM))?;
        let started = spawn(child.clone(), resources, registers, Some(fpu));
        if let Err(error) = started {
            self.kernel().log().write(Level::Warn, format_args!("cannot start a task: {error}"));
            self.undo_start(child);
            return Err(Errno::EAGAIN.into());
        }
        Ok(())
    }

    fn undo_start(&self, child: &Arc<Task>) {
        let group = child.thread_group();
        group.members.lock().tasks.retain(|t| !Arc::ptr_eq(t, child));
        child.set_resources(None);
        if child.is_leader() {
            self.pids().forget(child.pid());
        } else {
            self.pids().remove_task(child.tid());
        }
    }

    /// Waits for the child's exec or end. Only the end of this task's own group comes before.
    fn wait_for_vfork(&self, done: &Completion) {
        self.account().change(crate::task::Mode::Blocked, self.kernel().now());
        self.task.sleeping.store(true, Ordering::Relaxed);
        while !done.is_done() && !self.task.attention().contains(Attention::EXIT) {
            // A fatal signal must not wait for the child either.
            if self.has_fatal_signal() {
                break;
            }
            self.park(None);
        }
        self.task.sleeping.store(false, Ordering::Relaxed);
        self.account().change(crate::task::Mode::System, self.kernel().now());
    }

    fn has_fatal_signal(&self) -> bool {
        let group = self.thread_group().pending();
        group.union(self.pending()).contains(Signal::SIGKILL)
    }
}

/// More tasks than this are refused whatever the limits say: each is a thread of the host.
const TASKS_MAX: u64 = 16_000;

fn child_scheduling(own: &Scheduling) -> Scheduling {
    let mut child = own.clone();
    if own.reset_on_fork {
        child.policy = 0;
        child.priority = 0;
        child.nice = own.nice.max(0);
        child.reset_on_fork = false;
    }
    child
}

/// Starts a task's host thread. Errors: the host has no thread for it.
pub(super) fn spawn(
    task: Arc<Task>,
    resources: Resources,
    registers: Registers,
    fpu: Option<FpuState>,
) -> std::io::Result<()> {
    let name = format!("task {}", task.tid());
    let body = move || {
        let kernel = task.kernel().clone();
        let context = kernel.platform().new_context().and_then(|mut context| {
            if let Some(fpu) = &fpu {
                context.load_fpu(fpu)?;
            }
            Ok(context)
        });
        match context {
            Ok(context) => CurrentTask::bind(task, context, registers, resources).run(),
            Err(error) => {
                kernel.abort(format!("task {} has no context: {error}", task.tid()));
                super::exit::end_unstarted(&task, resources);
            }
        }
    };
    std::thread::Builder::new().name(name).stack_size(HOST_STACK).spawn(body).map(drop)
}

//! The end of a task and of its group: robust futexes, the parent's news, orphans, init.

use std::sync::Arc;

use sentry_abi::futex::{
    FUTEX_BITSET_MATCH_ANY, FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, ROBUST_LIST_LIMIT,
    RobustListHead,
};
use sentry_abi::signal::{SI_KERNEL, SigInfo, SigSet, Signal};
use sentry_abi::{UserAddr, UserPtr};

use crate::kernel::TraceEvent;
use crate::mm::{FutexScope, MemoryManager};
use crate::task::current::CurrentTask;
use crate::task::group::{ThreadGroup, Usage};
use crate::task::namespace::INIT_PID;
use crate::task::status::WaitStatus;
use crate::task::task::{Resources, Task};
use crate::task::times::Mode;
use crate::wait::Events;

impl CurrentTask {
    /// Ends this task: releases what it holds, leaves its group, and as the last one ends the group.
    pub(crate) fn end(self) {
        let task = self.task.clone();
        let group = task.thread_group().clone();
        let status = {
            let members = group.members.lock();
            members.exiting.unwrap_or(task.own_exit_status())
        };
        group.container().syscalls().clone().trace_event(&self, TraceEvent::Exit(status));
        self.release_user_memory();
        let CurrentTask { resources, context, .. } = self;
        finish(&task, resources);
        drop(context);
    }

    /// What the program's memory is told of the end: robust futexes, the cleared thread id, vfork's parent.
    pub(crate) fn release_user_memory(&self) {
        release_user_memory(&self.task, &self.resources.mm);
    }
}

/// The end of a task whose host thread never ran program code.
pub(super) fn end_unstarted(task: &Arc<Task>, resources: Resources) {
    release_user_memory(task, &resources.mm);
    finish(task, resources);
}

pub(super) fn release_user_memory(task: &Task, mm: &Arc<MemoryManager>) {
    let (robust, clear) = task
        .details(|d| (std::mem::take(&mut d.robust_list), std::mem::take(&mut d.clear_child_tid)));
    if robust != 0 {
        walk_robust_list(task, mm, robust);
    }
    // Nobody is left to read it where this is the last user of the memory.
    if clear != 0 && mm.write(UserAddr(clear), &0u32.to_ne_bytes()).is_ok() {
        wake(task, mm, UserAddr(clear), 1);
    }
    if let Some(done) = task.vfork.lock().take() {
        done.complete();
    }
}

fn wake(task: &Task, mm: &MemoryManager, addr: UserAddr, count: u32) {
    if let Ok(key) = mm.futex_key(addr, FutexScope::Shared) {
        task.kernel().futexes().wake(key, count, FUTEX_BITSET_MATCH_ANY);
    }
    if let Ok(key) = mm.futex_key(addr, FutexScope::Private) {
        task.kernel().futexes().wake(key, count, FUTEX_BITSET_MATCH_ANY);
    }
}

/// get_robust_list(2): every futex on the list that this task owns is marked, and one waiter woken. The list is the program's: bounded and distrusted.
fn walk_robust_list(task: &Task, mm: &MemoryManager, head_addr: u64) {
    let Ok(head) = mm.read_obj(UserPtr::<RobustListHead>::new(head_addr)) else { return };
    // The lowest bit of an entry says that the futex is a PI one.
    let futex_of = |entry: u64| UserAddr((entry & !1).wrapping_add_signed(head.futex_offset));
    let mut entry = head.next;
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry & !1 == head_addr || entry & !1 == 0 {
            break;
        }
        let next = mm.read_obj(UserPtr::<u64>::new(entry & !1));
        if entry & !1 != head.pending & !1 {
            mark_owner_died(task, mm, futex_of(entry));
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => break,
        }
    }
    if head.pending & !1 != 0 {
        mark_owner_died(task, mm, futex_of(head.pending));
    }
}

fn mark_owner_died(task: &Task, mm: &MemoryManager, addr: UserAddr) {
    let Ok(mut word) = mm.load_u32(addr) else { return };
    while word & FUTEX_TID_MASK == task.tid() {
        let dead = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
        match mm.compare_exchange_u32(addr, word, dead) {
            Ok(Ok(_)) => {
                if word & FUTEX_WAITERS != 0 {
                    wake(task, mm, addr, 1);
                }
                return;
            }
            Ok(Err(now)) => word = now,
            Err(_) => return,
        }
    }
}

/// Leaves the group and releases files and memory; the last task ends the group.
fn finish(task: &Arc<Task>, resources: Resources) {
    let kernel = task.kernel();
    let group = task.thread_group().clone();
    task.account().change(Mode::Blocked, kernel.now());
    let usage = Usage {
        cpu: task.account().read(kernel.now()),
        faults: 0,
        peak_resident: 0,
        voluntary_switches: task.voluntary_switches.load(std::sync::atomic::Ordering::Relaxed),
    };
    let memory = Usage {
        faults: resources.mm.fault_count(),
        peak_resident: resources.mm.usage().resident_peak,
        ..Usage::default()
    };
    task.set_resources(None);
    drop(resources);
    group.pass_on(task, SigSet::ALL);
    let tid = task.tid();
    let leader = task.is_leader();
    let (status, last) = {
        let mut members = group.members.lock();
        members.tasks.retain(|t| !Arc::ptr_eq(t, task));
        // Under the same lock as the removal, so that the group's sum never misses or doubles this task.
        group.add_usage(usage);
        if leader {
            members.leader_status = Some(task.own_exit_status());
        }
        if let Some(exec) = &members.exec {
            exec.waker().nudge();
        }
        let own = members.leader_status.unwrap_or(task.own_exit_status());
        (members.exiting.unwrap_or(own), members.tasks.is_empty())
    };
    let pids = group.pids();
    if !leader {
        pids.remove_task(tid);
    }
    kernel.futexes().owner_ended();
    if last {
        group.add_usage(memory);
        end_group(&group, status, task.credentials().uid);
    } else if let Some(stop) = group.settle_stop() {
        pids.job_changed(&group, stop);
    }
}

fn end_group(group: &Arc<ThreadGroup>, status: WaitStatus, uid: u32) {
    let (kernel, pids) = (group.kernel(), group.pids());
    group.timers().clear();
    group.set_executable(None);
    let is_init = group.pid() == INIT_PID;
    if is_init {
        // pid_namespaces(7): when init ends, the kernel kills the rest.
        group.container().end();
        pids.kill_all();
    }
    leave_session(group);
    group.container().process_ended(group.cpu_time());
    group.mark_ended(status);
    let parent = pids.group_ended(group, status, uid);
    group.ended_queue().notify(Events::IN);
    if let Some(parent) = parent {
        parent.children_changed().notify(Events::IN);
    }
    if is_init && pids.is_first() {
        kernel.init_ended(status);
    }
    if !pids.is_first() {
        pids.sweep();
    }
}

/// A session leader's end hangs up its terminal: the foreground group gets SIGHUP and SIGCONT (setsid(2), tty_ioctl(4)).
fn leave_session(group: &Arc<ThreadGroup>) {
    let pids = group.pids();
    let Some(own) = pids.process_group_of(group.pid()) else { return };
    let session = own.session();
    if session.id() != group.pid() {
        return;
    }
    let Some(terminal) = session.terminal() else { return };
    session.set_terminal(None);
    if let Some(foreground) = terminal.foreground_group() {
        for signal in [Signal::SIGHUP, Signal::SIGCONT] {
            for member in pids.members_of(foreground) {
                if member.pid() != group.pid() {
                    let _ = member.send_signal(signal, SigInfo::new(signal, SI_KERNEL));
                }
            }
        }
    }
    terminal.set_foreground_group(None);
    terminal.set_session(None);
    terminal.hang_up();
}

//! Scheduling: affinity, policies, priorities. The host's scheduler decides; what a program sets, it reads back.

use sentry_abi::resource::{PRIO_PGRP, PRIO_PROCESS, PRIO_USER, Resource};
use sentry_abi::sched::{
    SCHED_BATCH, SCHED_DEADLINE, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RESET_ON_FORK,
    SCHED_RR, SchedAttr,
};
use sentry_abi::time::TimeSpec;
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::task::{CurrentTask, Task};
use std::sync::Arc;
use zerocopy::IntoBytes;

use crate::rows;

rows! {
    sched_yield = 24 full;
    getpriority = 140 full;
    setpriority = 141 partial "kept, not enforced: the host's scheduler decides";
    sched_setparam = 142 partial "kept, not enforced";
    sched_getparam = 143 full;
    sched_setscheduler = 144 partial "kept, not enforced; SCHED_DEADLINE answers EPERM";
    sched_getscheduler = 145 full;
    sched_get_priority_max = 146 full;
    sched_get_priority_min = 147 full;
    sched_rr_get_interval = 148 full;
    sched_setaffinity = 203 partial "kept, not enforced";
    sched_getaffinity = 204 full;
    ioprio_set = 251 refused "EPERM: no I/O scheduler";
    ioprio_get = 252 full;
    getcpu = 309 partial "the first processor that the task may use; node 0";
    sched_setattr = 314 partial "kept, not enforced; SCHED_DEADLINE answers EPERM";
    sched_getattr = 315 full;
}

fn sched_yield(_: &CurrentTask) -> Result<()> {
    std::thread::yield_now();
    Ok(())
}

fn find(task: &CurrentTask, pid: i32) -> Result<Arc<Task>> {
    match u32::try_from(pid) {
        Ok(0) => Ok(task.task().clone()),
        Ok(tid) => Ok(task.pids().task(tid).ok_or(Errno::ESRCH)?),
        Err(_) => Err(Errno::EINVAL.into()),
    }
}

/// sched(7): changes to others' scheduling are for their owner or CAP_SYS_NICE.
fn check_owner(task: &CurrentTask, target: &Task) -> Result<()> {
    let own = task.credentials();
    let theirs = target.credentials();
    let fine = own.euid == theirs.uid || own.euid == theirs.euid || own.has(Capabilities::SYS_NICE);
    if fine { Ok(()) } else { Err(Errno::EPERM.into()) }
}

fn priority_range(policy: i32) -> Result<(i32, i32)> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok((1, 99)),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn sched_get_priority_max(_: &CurrentTask, policy: i32) -> Result<i32> {
    priority_range(policy).map(|r| r.1)
}

fn sched_get_priority_min(_: &CurrentTask, policy: i32) -> Result<i32> {
    priority_range(policy).map(|r| r.0)
}

fn set_policy(task: &CurrentTask, target: &Task, policy: i32, priority: i32) -> Result<()> {
    let reset = policy & SCHED_RESET_ON_FORK != 0;
    let policy = policy & !SCHED_RESET_ON_FORK;
    let (low, high) = priority_range(policy)?;
    if !(low..=high).contains(&priority) {
        return Err(Errno::EINVAL.into());
    }
    check_owner(task, target)?;
    let creds = task.credentials();
    let limit = task.thread_group().soft_limit(Resource::Rtprio);
    let realtime = matches!(policy, SCHED_FIFO | SCHED_RR);
    let allowed = creds.has(Capabilities::SYS_NICE) || u64::from(priority.unsigned_abs()) <= limit;
    if policy == SCHED_DEADLINE || (realtime && !allowed) {
        return Err(Errno::EPERM.into());
    }
    target.details(|d| {
        d.scheduling.policy = policy;
        d.scheduling.priority = priority;
        d.scheduling.reset_on_fork = reset;
    });
    Ok(())
}

fn sched_setscheduler(
    task: &CurrentTask,
    pid: i32,
    policy: i32,
    param: UserPtr<i32>,
) -> Result<()> {
    if policy < 0 || param.is_null() {
        return Err(Errno::EINVAL.into());
    }
    let priority = task.mm().read_obj(param)?;
    let target = find(task, pid)?;
    set_policy(task, &target, policy, priority)
}

fn sched_getscheduler(task: &CurrentTask, pid: i32) -> Result<i32> {
    Ok(find(task, pid)?.details(|d| {
        let reset = if d.scheduling.reset_on_fork { SCHED_RESET_ON_FORK } else { 0 };
        d.scheduling.policy | reset
    }))
}

fn sched_setparam(task: &CurrentTask, pid: i32, param: UserPtr<i32>) -> Result<()> {
    let param = param.non_null().ok_or(Errno::EINVAL)?;
    let priority = task.mm().read_obj(param)?;
    let target = find(task, pid)?;
    let policy = target.details(|d| d.scheduling.policy);
    set_policy(task, &target, policy, priority)
}

fn sched_getparam(task: &CurrentTask, pid: i32, param: UserPtr<i32>) -> Result<()> {
    let param = param.non_null().ok_or(Errno::EINVAL)?;
    let priority = find(task, pid)?.details(|d| d.scheduling.priority);
    task.mm().write_obj(param, &priority)
}

/// The time slice that SCHED_RR tells: 100 ms, as RR_TIMESLICE.
const RR_SLICE_NS: u64 = 100_000_000;

fn sched_rr_get_interval(task: &CurrentTask, pid: i32, out: UserPtr<TimeSpec>) -> Result<()> {
    let policy = find(task, pid)?.details(|d| d.scheduling.policy);
    let ns = if policy == SCHED_RR { RR_SLICE_NS } else { 0 };
    task.mm().write_obj(out, &TimeSpec::from_ns(ns))
}

fn sched_setattr(task: &CurrentTask, pid: i32, attr: UserPtr<u8>, flags: u32) -> Result<()> {
    if flags != 0 || attr.is_null() {
        return Err(Errno::EINVAL.into());
    }
    let size = task.mm().read_obj(attr.cast::<u32>())?;
    let size = if size == 0 { size_of::<SchedAttr>() } else { size as usize };
    if size < size_of::<SchedAttr>() {
        return Err(Errno::E2BIG.into());
    }
    let attr: SchedAttr = crate::process::read_extensible(task, attr, size)?;
    let target = find(task, pid)?;
    let policy = i32::try_from(attr.policy).map_err(|_| Errno::EINVAL)?;
    let priority = i32::try_from(attr.priority).map_err(|_| Errno::EINVAL)?;
    let reset = if attr.flags & 1 != 0 { SCHED_RESET_ON_FORK } else { 0 };
    if matches!(policy, SCHED_OTHER | SCHED_BATCH) {
        set_nice(task, &target, attr.nice)?;
    }
    set_policy(task, &target, policy | reset, priority)
}

fn sched_getattr(
    task: &CurrentTask,
    pid: i32,
    out: UserPtr<u8>,
    size: u32,
    flags: u32,
) -> Result<()> {
    if flags != 0 || (size as usize) < size_of::<SchedAttr>() || size > 4096 {
        return Err(Errno::EINVAL.into());
    }
    let attr = find(task, pid)?.details(|d| SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: d.scheduling.policy as u32,
        flags: u64::from(d.scheduling.reset_on_fork),
        nice: d.scheduling.nice,
        priority: d.scheduling.priority as u32,
        ..SchedAttr::default()
    });
    task.mm().write(out.addr(), attr.as_bytes())
}

fn sched_setaffinity(task: &CurrentTask, pid: i32, len: usize, mask: UserPtr<u8>) -> Result<()> {
    let cpus = task.kernel().cpus();
    let mut bytes = vec![0u8; len.min(1024)];
    task.mm().read(mask.addr(), &mut bytes)?;
    let target = find(task, pid)?;
    check_owner(task, &target)?;
    let mut words = vec![0u64; cpus.div_ceil(64)];
    for cpu in 0..cpus {
        if bytes.get(cpu / 8).is_some_and(|b| b & (1 << (cpu % 8)) != 0) {
            words[cpu / 64] |= 1 << (cpu % 64);
        }
    }
    if words.iter().all(|w| *w == 0) {
        return Err(Errno::EINVAL.into());
    }
    target.details(|d| d.scheduling.affinity = words);
    Ok(())
}

fn sched_getaffinity(task: &CurrentTask, pid: i32, len: usize, mask: UserPtr<u8>) -> Result<usize> {
    let own = task.details(|d| d.scheduling.affinity.as_bytes().len());
    if len < own || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL.into());
    }
    let words = find(task, pid)?.details(|d| d.scheduling.affinity.clone());
    let bytes = words.as_bytes();
    task.mm().write(mask.addr(), bytes)?;
    Ok(bytes.len())
}

fn getcpu(task: &CurrentTask, cpu: UserPtr<u32>, node: UserPtr<u32>, _cache: u64) -> Result<()> {
    let words = task.details(|d| d.scheduling.affinity.clone());
    let first = words.iter().position(|w| *w != 0).unwrap_or(0);
    let bit = words.get(first).map_or(0, |w| w.trailing_zeros() as usize % 64);
    if let Some(cpu) = cpu.non_null() {
        task.mm().write_obj(cpu, &((first * 64 + bit) as u32))?;
    }
    match node.non_null() {
        Some(node) => task.mm().write_obj(node, &0),
        None => Ok(()),
    }
}

fn targets(task: &CurrentTask, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    let pids = task.pids();
    let who = u32::try_from(who).map_err(|_| Errno::ESRCH)?;
    let found: Vec<Arc<Task>> = match which {
        PRIO_PROCESS => vec![find(task, who as i32)?],
        PRIO_PGRP => {
            let own = pids.process_group_of(task.pid()).map_or(0, |g| g.id());
            let id = if who == 0 { own } else { who };
            pids.members_of(id).iter().flat_map(|g| g.tasks()).collect()
        }
        PRIO_USER => {
            let uid = if who == 0 { task.credentials().uid } else { who };
            let all = pids.groups().into_iter().flat_map(|g| g.tasks());
            all.filter(|t| t.credentials().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    if found.is_empty() { Err(Errno::ESRCH.into()) } else { Ok(found) }
}

/// getpriority(2): the raw call answers 20 minus the nice value, so that it is never negative.
fn getpriority(task: &CurrentTask, which: i32, who: i32) -> Result<i32> {
    let nicest = targets(task, which, who)?.iter().map(|t| t.details(|d| d.scheduling.nice)).min();
    Ok(20 - nicest.unwrap_or(0))
}

fn may_lower_nice(task: &CurrentTask, creds: &Credentials, nice: i32) -> bool {
    let limit = task.thread_group().soft_limit(Resource::Nice);
    creds.has(Capabilities::SYS_NICE) || u64::from((20 - nice).unsigned_abs()) <= limit
}

fn set_nice(task: &CurrentTask, target: &Task, nice: i32) -> Result<()> {
    let nice = nice.clamp(-20, 19);
    check_owner(task, target)?;
    let now = target.details(|d| d.scheduling.nice);
    if nice < now && !may_lower_nice(task, &task.credentials(), nice) {
        return Err(Errno::EACCES.into());
    }
    target.details(|d| d.scheduling.nice = nice);
    Ok(())
}

fn setpriority(task: &CurrentTask, which: i32, who: i32, nice: i32) -> Result<()> {
    for target in targets(task, which, who)? {
        set_nice(task, &target, nice)?;
    }
    Ok(())
}

fn ioprio_set(_: &CurrentTask, _which: i32, _who: i32, _priority: i32) -> Result<()> {
    Err(Errno::EPERM.into())
}

fn ioprio_get(task: &CurrentTask, which: i32, who: i32) -> Result<u64> {
    // IOPRIO_WHO_* are PRIO_* and one.
    targets(task, which.wrapping_sub(1), who)?;
    // None was set: class none, priority 0.
    Ok(0)
}

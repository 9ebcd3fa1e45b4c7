//! Signals.

use sentry_abi::signal::{
    SA_KNOWN, SI_TKILL, SI_USER, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SigAction, SigInfo, SigSet,
    Signal, StackT,
};
use sentry_abi::time::TimeSpec;
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::error::Restart;
use sentry_kernel::signal::send::{KillTarget, may_signal};
use sentry_kernel::task::{CurrentTask, Task, Unblocked};
use sentry_kernel::{Error, Result};
use std::sync::Arc;

use crate::rows;

rows! {
    rt_sigaction = 13 full;
    rt_sigprocmask = 14 full;
    rt_sigreturn = 15 full;
    pause = 34 full;
    kill = 62 full;
    rt_sigpending = 127 full;
    rt_sigtimedwait = 128 full;
    rt_sigqueueinfo = 129 full;
    rt_sigsuspend = 130 full;
    sigaltstack = 131 full;
    tkill = 200 full;
    tgkill = 234 full;
    rt_tgsigqueueinfo = 297 full;
}

fn check_set_size(size: usize) -> Result<()> {
    if size == size_of::<SigSet>() { Ok(()) } else { Err(Errno::EINVAL.into()) }
}

fn rt_sigaction(
    task: &CurrentTask,
    number: i32,
    new: UserPtr<SigAction>,
    old: UserPtr<SigAction>,
    size: usize,
) -> Result<()> {
    check_set_size(size)?;
    let new = new.non_null().map(|p| task.mm().read_obj(p)).transpose()?;
    let signal = Signal::new(number)?;
    let handlers = task.thread_group().handlers();
    let before = match new {
        None => handlers.action(signal),
        Some(_) if SigSet::UNBLOCKABLE.contains(signal) => return Err(Errno::EINVAL.into()),
        Some(mut action) => {
            action.flags &= SA_KNOWN;
            action.mask = action.mask.without(SigSet::UNBLOCKABLE);
            let before = handlers.set_action(signal, action);
            if handlers.ignores(signal) {
                // POSIX: what is pending and now ignored is discarded, blocked or not.
                task.thread_group().discard_pending(signal.to_set());
            }
            before
        }
    };
    match old.non_null() {
        Some(old) => task.mm().write_obj(old, &before),
        None => Ok(()),
    }
}

fn rt_sigprocmask(
    task: &CurrentTask,
    how: i32,
    new: UserPtr<SigSet>,
    old: UserPtr<SigSet>,
    size: usize,
) -> Result<()> {
    check_set_size(size)?;
    let before = task.blocked();
    if let Some(new) = new.non_null() {
        let set = task.mm().read_obj(new)?;
        let mask = match how {
            SIG_BLOCK => before.union(set),
            SIG_UNBLOCK => before.without(set),
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL.into()),
        };
        task.set_blocked(mask);
    }
    match old.non_null() {
        Some(old) => task.mm().write_obj(old, &before),
        None => Ok(()),
    }
}

fn rt_sigreturn(task: &mut CurrentTask) -> Result<()> {
    task.signal_return()
}

fn pause(task: &CurrentTask) -> Result<()> {
    while task.block(None).is_ok() {}
    Err(Error::interrupted(Restart::NoHandler))
}

fn rt_sigsuspend(task: &CurrentTask, mask: UserPtr<SigSet>, size: usize) -> Result<()> {
    check_set_size(size)?;
    let mask = task.mm().read_obj(mask)?;
    task.set_temporary_mask(mask);
    pause(task)
}

fn rt_sigpending(task: &CurrentTask, set: UserPtr<SigSet>, size: usize) -> Result<()> {
    if size > size_of::<SigSet>() {
        return Err(Errno::EINVAL.into());
    }
    let pending = task.pending().union(task.thread_group().pending());
    let value = SigSet(pending.0 & task.blocked().0);
    task.mm().write(set.addr(), &value.0.to_ne_bytes()[..size])
}

fn rt_sigtimedwait(
    task: &CurrentTask,
    set: UserPtr<SigSet>,
    info: UserPtr<SigInfo>,
    timeout: UserPtr<TimeSpec>,
    size: usize,
) -> Result<i32> {
    check_set_size(size)?;
    let wanted = task.mm().read_obj(set)?.without(SigSet::UNBLOCKABLE);
    let deadline = match timeout.non_null() {
        Some(ptr) => Some(task.kernel().now().after_ns(task.mm().read_obj(ptr)?.to_ns()?)),
        None => None,
    };
    let (signal, found) =
        task.wait_for_signal(wanted, deadline).map_err(|reason| match reason {
            Unblocked::TimedOut => Error::new(Errno::EAGAIN),
            // signal(7): never restarted, whatever SA_RESTART says.
            Unblocked::Interrupted => Error::interrupted(Restart::NoHandler),
        })?;
    if let Some(info) = info.non_null() {
        task.mm().write_obj(info, &found)?;
    }
    Ok(signal.number())
}

/// The signal of a number, where 0 only asks whether one could be sent.
fn optional_signal(number: i32) -> Result<Option<Signal>> {
    if number == 0 { Ok(None) } else { Ok(Some(Signal::new(number)?)) }
}

fn user_info(task: &CurrentTask, signal: Option<Signal>, code: i32) -> SigInfo {
    let signal = signal.unwrap_or(Signal::SIGHUP);
    SigInfo::user(signal, code, task.pid(), task.credentials().uid)
}

fn kill(task: &CurrentTask, pid: i32, number: i32) -> Result<()> {
    let signal = optional_signal(number)?;
    let target = match pid {
        i32::MIN => return Err(Errno::ESRCH.into()),
        -1 => KillTarget::All,
        0 => {
            let own = task.pids().process_group_of(task.pid()).ok_or(Errno::ESRCH)?;
            KillTarget::ProcessGroup(own.id())
        }
        pid if pid < 0 => KillTarget::ProcessGroup(pid.unsigned_abs()),
        pid => KillTarget::Process(pid.unsigned_abs()),
    };
    task.kill(target, signal, user_info(task, signal, SI_USER))
}

fn find_task(task: &CurrentTask, tgid: Option<i32>, tid: i32) -> Result<Arc<Task>> {
    let positive = |id: i32| u32::try_from(id).ok().filter(|id| *id > 0).ok_or(Errno::EINVAL);
    let tgid = tgid.map(positive).transpose()?;
    let found = task.pids().task(positive(tid)?).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|tgid| tgid != found.pid()) {
        return Err(Errno::ESRCH.into());
    }
    Ok(found)
}

fn signal_task(
    task: &CurrentTask,
    target: &Task,
    signal: Option<Signal>,
    info: SigInfo,
) -> Result<()> {
    let same_group = target.pid() == task.pid();
    if !same_group && !may_signal(&task.credentials(), &target.credentials()) {
        return Err(Errno::EPERM.into());
    }
    match signal {
        Some(signal) => target.send_signal(signal, info),
        None => Ok(()),
    }
}

fn tkill(task: &CurrentTask, tid: i32, number: i32) -> Result<()> {
    let target = find_task(task, None, tid)?;
    let signal = optional_signal(number)?;
    signal_task(task, &target, signal, user_info(task, signal, SI_TKILL))
}

fn tgkill(task: &CurrentTask, tgid: i32, tid: i32, number: i32) -> Result<()> {
    let target = find_task(task, Some(tgid), tid)?;
    let signal = optional_signal(number)?;
    signal_task(task, &target, signal, user_info(task, signal, SI_TKILL))
}

/// The program's own siginfo: it cannot claim to be the kernel or kill(2) towards others (rt_sigqueueinfo(2)).
fn queued_info(
    task: &CurrentTask,
    target_pid: u32,
    number: i32,
    info: UserPtr<SigInfo>,
) -> Result<SigInfo> {
    let mut info = task.mm().read_obj(info)?;
    if (info.code >= 0 || info.code == SI_TKILL) && target_pid != task.pid() {
        return Err(Errno::EPERM.into());
    }
    info.signo = number;
    Ok(info)
}

fn rt_sigqueueinfo(
    task: &CurrentTask,
    pid: i32,
    number: i32,
    info: UserPtr<SigInfo>,
) -> Result<()> {
    let pid = u32::try_from(pid).ok().filter(|p| *p > 0).ok_or(Errno::ESRCH)?;
    let info = queued_info(task, pid, number, info)?;
    task.kill(KillTarget::Process(pid), optional_signal(number)?, info)
}

fn rt_tgsigqueueinfo(
    task: &CurrentTask,
    tgid: i32,
    tid: i32,
    number: i32,
    info: UserPtr<SigInfo>,
) -> Result<()> {
    let target = find_task(task, Some(tgid), tid)?;
    let info = queued_info(task, target.pid(), number, info)?;
    signal_task(task, &target, optional_signal(number)?, info)
}

fn sigaltstack(task: &CurrentTask, new: UserPtr<StackT>, old: UserPtr<StackT>) -> Result<()> {
    let before = task.alt_stack();
    if let Some(new) = new.non_null() {
        task.set_alt_stack(task.mm().read_obj(new)?)?;
    }
    match old.non_null() {
        Some(old) => task.mm().write_obj(old, &before),
        None => Ok(()),
    }
}

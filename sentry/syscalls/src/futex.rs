//! Futexes and robust lists.

use sentry_abi::futex::{
    FUTEX_BITSET_MATCH_ANY, FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_LOCK_PI, FUTEX_LOCK_PI2,
    FUTEX_PRIVATE_FLAG, FUTEX_REQUEUE, FUTEX_TRYLOCK_PI, FUTEX_UNLOCK_PI, FUTEX_WAIT,
    FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP, RobustListHead,
};
use sentry_abi::time::TimeSpec;
use sentry_abi::{Errno, UserAddr, UserPtr};
use sentry_kernel::error::Restart;
use sentry_kernel::futex::LockWait;
use sentry_kernel::mm::FutexScope;
use sentry_kernel::task::{CurrentTask, Unblocked};
use sentry_kernel::time::{ClockKind, Instant};
use sentry_kernel::{Error, Result};

use crate::rows;

rows! {
    futex = 202 partial "locks with an owner inherit no priority; FUTEX_WAIT_REQUEUE_PI answers ENOSYS";
    set_robust_list = 273 full;
    get_robust_list = 274 full;
}

fn futex(
    task: &mut CurrentTask,
    addr: UserPtr<u32>,
    op: u32,
    value: u32,
    timeout: u64,
    addr2: UserPtr<u32>,
    value3: u32,
) -> Result<u64> {
    let scope = match op & FUTEX_PRIVATE_FLAG {
        0 => FutexScope::Shared,
        _ => FutexScope::Private,
    };
    let realtime = op & FUTEX_CLOCK_REALTIME != 0;
    let command = op & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    // The manual names FUTEX_WAIT too; the kernel refuses it.
    if realtime && !matches!(command, FUTEX_WAIT_BITSET | FUTEX_LOCK_PI2) {
        return Err(Errno::ENOSYS.into());
    }
    let clock = if realtime { ClockKind::Realtime } else { ClockKind::Monotonic };
    let word = Word { addr: addr.addr(), scope };
    let second = Word { addr: addr2.addr(), scope };
    // The fourth word is a time for waits and a count for the others.
    let value2 = timeout as u32;
    match command {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => {
            let relative = command == FUTEX_WAIT;
            let bitset = if relative { FUTEX_BITSET_MATCH_ANY } else { value3 };
            let deadline = read_deadline(task, UserPtr::new(timeout), clock, relative)?;
            wait(task, word, value, bitset, deadline)
        }
        FUTEX_WAKE => wake(task, word, value, FUTEX_BITSET_MATCH_ANY),
        FUTEX_WAKE_BITSET => wake(task, word, value, value3),
        FUTEX_REQUEUE => requeue(task, word, second, value, value2, None),
        FUTEX_CMP_REQUEUE => requeue(task, word, second, value, value2, Some(value3)),
        FUTEX_WAKE_OP => wake_op(task, word, second, value, value2, value3),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            // The older call always takes the clock of the wall.
            let clock = if command == FUTEX_LOCK_PI { ClockKind::Realtime } else { clock };
            let deadline = read_deadline(task, UserPtr::new(timeout), clock, false)?;
            task.lock_pi(word.addr, scope, LockWait::Until(deadline)).map(|()| 0)
        }
        FUTEX_TRYLOCK_PI => task.lock_pi(word.addr, scope, LockWait::Never).map(|()| 0),
        FUTEX_UNLOCK_PI => task.unlock_pi(word.addr, scope).map(|()| 0),
        _ => Err(Errno::ENOSYS.into()),
    }
}

#[derive(Clone, Copy)]
struct Word {
    addr: UserAddr,
    scope: FutexScope,
}

fn read_deadline(
    task: &CurrentTask,
    timeout: UserPtr<TimeSpec>,
    clock: ClockKind,
    relative: bool,
) -> Result<Option<Instant>> {
    let Some(ptr) = timeout.non_null() else { return Ok(None) };
    let ns = task.mm().read_obj(ptr)?.to_ns()?;
    Ok(Some(match relative {
        true => task.kernel().now().after_ns(ns),
        false => clock.instant_at(ns, &**task.kernel().clock()),
    }))
}

fn wait(
    task: &mut CurrentTask,
    word: Word,
    value: u32,
    bitset: u32,
    deadline: Option<Instant>,
) -> Result<u64> {
    if bitset == 0 {
        return Err(Errno::EINVAL.into());
    }
    let key = task.mm().futex_key(word.addr, word.scope)?;
    let table = task.kernel().futexes();
    let waiter = table.enqueue(key, bitset, task.wake_handle());
    // Queued first, read after: a wake between a change of the word and this read finds the waiter.
    match task.mm().load_u32(word.addr) {
        Ok(found) if found == value => {}
        other => {
            // A wake that came meanwhile was meant for a waiter: it counts.
            let woken = table.cancel(&waiter);
            return match other {
                Err(error) => Err(error),
                Ok(_) if woken => Ok(0),
                Ok(_) => Err(Errno::EAGAIN.into()),
            };
        }
    }
    let reason = loop {
        if waiter.is_woken() {
            return Ok(0);
        }
        if let Err(reason) = task.block(deadline) {
            break reason;
        }
    };
    if task.kernel().futexes().cancel(&waiter) {
        return Ok(0);
    }
    match reason {
        Unblocked::TimedOut => Err(Errno::ETIMEDOUT.into()),
        // Without a time-out the same call can simply be made again; with one, its end must stay where it was.
        Unblocked::Interrupted if deadline.is_none() => Err(Error::interrupted(Restart::Sys)),
        Unblocked::Interrupted => {
            let again = move |task: &mut CurrentTask| wait(task, word, value, bitset, deadline);
            task.set_restart_block(Box::new(again));
            Err(Error::interrupted(Restart::Block))
        }
    }
}

/// A count as Linux takes it: a signed number of which at least one is woken.
fn count(value: u32) -> u32 {
    if value as i32 <= 0 { 1 } else { value }
}

fn wake(task: &CurrentTask, word: Word, value: u32, bitset: u32) -> Result<u64> {
    if bitset == 0 {
        return Err(Errno::EINVAL.into());
    }
    let key = task.mm().futex_key(word.addr, word.scope)?;
    Ok(task.kernel().futexes().wake(key, count(value), bitset).into())
}

fn requeue(
    task: &CurrentTask,
    from: Word,
    to: Word,
    wake: u32,
    move_count: u32,
    expected: Option<u32>,
) -> Result<u64> {
    if (wake as i32) < 0 || (move_count as i32) < 0 {
        return Err(Errno::EINVAL.into());
    }
    let from_key = task.mm().futex_key(from.addr, from.scope)?;
    let to_key = task.mm().futex_key(to.addr, to.scope)?;
    if let Some(expected) = expected
        && task.mm().load_u32(from.addr)? != expected
    {
        return Err(Errno::EAGAIN.into());
    }
    let (woken, moved) = task.kernel().futexes().requeue(from_key, to_key, wake, move_count);
    // With and without the comparison: the manual says otherwise of FUTEX_REQUEUE, the kernel counts both.
    Ok(u64::from(woken) + u64::from(moved))
}

/// FUTEX_WAKE_OP (futex(2)): the operation and the comparison are packed in one word.
fn wake_op(
    task: &CurrentTask,
    first: Word,
    second: Word,
    wake1: u32,
    wake2: u32,
    packed: u32,
) -> Result<u64> {
    let field = |shift: u32, bits: u32| (packed >> shift) & ((1 << bits) - 1);
    let sign12 = |v: u32| ((v << 20) as i32) >> 20;
    let (op, compare) = (field(28, 3), field(24, 4));
    let shift_argument = packed >> 31 != 0;
    let argument = sign12(field(12, 12));
    let argument = if shift_argument { 1u32 << (argument & 31) } else { argument as u32 };
    let operand = sign12(field(0, 12));
    if op > 4 {
        return Err(Errno::ENOSYS.into());
    }
    let key1 = task.mm().futex_key(first.addr, first.scope)?;
    let key2 = task.mm().futex_key(second.addr, second.scope)?;
    let old = task.mm().fetch_update_u32(second.addr, |old| match op {
        0 => argument,
        1 => old.wrapping_add(argument),
        2 => old | argument,
        3 => old & !argument,
        _ => old ^ argument,
    })? as i32;
    let holds = match compare {
        0 => old == operand,
        1 => old != operand,
        2 => old < operand,
        3 => old <= operand,
        4 => old > operand,
        5 => old >= operand,
        _ => return Err(Errno::ENOSYS.into()),
    };
    let table = task.kernel().futexes();
    let mut woken = table.wake(key1, count(wake1), FUTEX_BITSET_MATCH_ANY);
    if holds {
        woken += table.wake(key2, count(wake2), FUTEX_BITSET_MATCH_ANY);
    }
    Ok(woken.into())
}

fn set_robust_list(task: &CurrentTask, head: UserPtr<RobustListHead>, len: usize) -> Result<()> {
    if len != size_of::<RobustListHead>() {
        return Err(Errno::EINVAL.into());
    }
    task.details(|d| d.robust_list = head.addr().0);
    Ok(())
}

fn get_robust_list(
    task: &CurrentTask,
    pid: i32,
    head: UserPtr<u64>,
    len: UserPtr<u64>,
) -> Result<()> {
    let target = match u32::try_from(pid) {
        Ok(0) => task.task().clone(),
        Ok(tid) => task.pids().task(tid).ok_or(Errno::ESRCH)?,
        Err(_) => return Err(Errno::ESRCH.into()),
    };
    let same_user = target.credentials().uid == task.credentials().euid;
    if !same_user && !task.credentials().has(sentry_kernel::cred::Capabilities::SYS_PTRACE) {
        return Err(Errno::EPERM.into());
    }
    let addr = target.details(|d| d.robust_list);
    task.mm().write_obj(len, &(size_of::<RobustListHead>() as u64))?;
    task.mm().write_obj(head, &addr)
}

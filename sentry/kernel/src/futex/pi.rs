//! Locks with an owner (futex(2), "Priority-inheritance futexes"): the word holds the owner's thread id, and the kernel hands it on.
//! There are no priorities here to inherit; who waits longest is next. Threads that need no kernel change the word by themselves:
//! from 0 to their id, and back where nobody waits.

use std::sync::atomic::Ordering;

use sentry_abi::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use sentry_abi::{Errno, UserAddr};

use super::{FutexKey, FutexTable};
use crate::error::{Error, Restart, Result};
use crate::mm::FutexScope;
use crate::task::{CurrentTask, Unblocked};
use crate::time::Instant;
use crate::wait::Events;

/// Whether a locker waits (FUTEX_LOCK_PI) or not (FUTEX_TRYLOCK_PI).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockWait {
    /// Until the time, or for ever.
    Until(Option<Instant>),
    /// EAGAIN where somebody has it.
    Never,
}

impl FutexKey {
    /// The queue of those who want to own the word. Words are aligned, so its second bit is free to tell it apart.
    fn of_owner(self) -> Self {
        match self {
            Self::Private { space, addr } => Self::Private { space, addr: addr | 2 },
            Self::Shared { object, offset } => Self::Shared { object, offset: offset | 2 },
        }
    }
}

impl FutexTable {
    /// The thread id that the first waiter of a queue brought, and whether more wait.
    fn next_owner(&self, key: FutexKey) -> Option<(u32, bool)> {
        let bucket = self.buckets[self.index(&key)].lock();
        let queue = bucket.get(&key)?;
        Some((queue.front()?.bitset, queue.len() > 1))
    }

    /// A task has ended: who waits for a lock looks whether it was the owner.
    pub(crate) fn owner_ended(&self) {
        if self.lock_waiters.load(Ordering::Acquire) == 0 {
            return;
        }
        for bucket in &self.buckets {
            for waiter in bucket.lock().values().flatten() {
                waiter.waker.wake(Events::IN);
            }
        }
    }
}

/// What became of an attempt to take a lock.
enum Attempt {
    Taken,
    /// Somebody lives who has it.
    Owned,
}

impl CurrentTask {
    fn is_alive(&self, tid: u32) -> bool {
        let task = self.pids().task(tid);
        task.is_some_and(|t| t.thread_group().tasks().iter().any(|member| member.tid() == tid))
    }

    /// Takes the word where nobody owns it, or marks that somebody waits. `waited`: a dead owner's lock is its waiters' to take.
    fn attempt(&self, addr: UserAddr, key: FutexKey, waited: Option<Errno>) -> Result<Attempt> {
        loop {
            let found = self.mm().load_u32(addr)?;
            let owner = found & FUTEX_TID_MASK;
            if owner == self.tid() {
                return Err(Errno::EDEADLK.into());
            }
            let died = owner != 0 && !self.is_alive(owner);
            if died && let Some(errno) = waited {
                return Err(errno.into());
            }
            let free = owner == 0 || died;
            let new = if free {
                let others = self.kernel().futexes().next_owner(key).is_some();
                let waiters = if others { FUTEX_WAITERS } else { 0 };
                let mark = if died { FUTEX_OWNER_DIED } else { found & FUTEX_OWNER_DIED };
                self.tid() | mark | waiters
            } else {
                found | FUTEX_WAITERS
            };
            if self.mm().compare_exchange_u32(addr, found, new)?.is_ok() {
                return Ok(if free { Attempt::Taken } else { Attempt::Owned });
            }
        }
    }

    /// FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI. Errors: EDEADLK for one's own lock, ESRCH for an owner that is none, EAGAIN, ETIMEDOUT, EFAULT;
    /// an interruption, after which the call is made again.
    pub fn lock_pi(&self, addr: UserAddr, scope: FutexScope, wait: LockWait) -> Result<()> {
        let table = self.kernel().futexes();
        let key = self.mm().futex_key(addr, scope)?.of_owner();
        let (waiter, deadline) = {
            let _order = table.owners.lock();
            match (wait, self.mm().load_u32(addr)? & FUTEX_TID_MASK) {
                (LockWait::Never, owner) if owner != 0 && owner != self.tid() => {
                    let errno = if self.is_alive(owner) { Errno::EAGAIN } else { Errno::ESRCH };
                    return Err(errno.into());
                }
                _ => {}
            }
            if let Attempt::Taken = self.attempt(addr, key, Some(Errno::ESRCH))? {
                return Ok(());
            }
            let LockWait::Until(deadline) = wait else { return Err(Errno::EAGAIN.into()) };
            table.lock_waiters.fetch_add(1, Ordering::AcqRel);
            (table.enqueue(key, self.tid(), self.wake_handle()), deadline)
        };
        let result = loop {
            if waiter.is_woken() {
                break Ok(());
            }
            let ended = self.block(deadline);
            let _order = table.owners.lock();
            if waiter.is_woken() {
                break Ok(());
            }
            match ended {
                // A wake-up that gave nothing: the owner may have ended.
                Ok(()) => match self.mm().load_u32(addr) {
                    Ok(found) if self.is_alive(found & FUTEX_TID_MASK) => {}
                    Ok(_) => {
                        table.cancel(&waiter);
                        break match self.attempt(addr, key, None) {
                            Ok(Attempt::Taken) => Ok(()),
                            // Somebody was faster: from the start.
                            Ok(Attempt::Owned) => Err(Error::interrupted(Restart::Always)),
                            Err(error) => Err(error),
                        };
                    }
                    Err(error) => {
                        table.cancel(&waiter);
                        break Err(error);
                    }
                },
                Err(reason) => {
                    table.cancel(&waiter);
                    break Err(match reason {
                        Unblocked::TimedOut => Errno::ETIMEDOUT.into(),
                        Unblocked::Interrupted => Error::interrupted(Restart::Always),
                    });
                }
            }
        };
        table.lock_waiters.fetch_sub(1, Ordering::AcqRel);
        result
    }

    /// FUTEX_UNLOCK_PI: gives the lock to who waits longest. Errors: EPERM for who does not own it, EFAULT.
    pub fn unlock_pi(&self, addr: UserAddr, scope: FutexScope) -> Result<()> {
        let table = self.kernel().futexes();
        // Linux looks at the owner before anything else, wherever the word lies.
        let mut first = [0; 4];
        self.mm().read(addr, &mut first)?;
        if u32::from_ne_bytes(first) & FUTEX_TID_MASK != self.tid() {
            return Err(Errno::EPERM.into());
        }
        let key = self.mm().futex_key(addr, scope)?.of_owner();
        let _order = table.owners.lock();
        loop {
            let found = self.mm().load_u32(addr)?;
            if found & FUTEX_TID_MASK != self.tid() {
                return Err(Errno::EPERM.into());
            }
            let next = table.next_owner(key);
            let new = match next {
                Some((tid, more)) => tid | if more { FUTEX_WAITERS } else { 0 },
                None => 0,
            };
            if self.mm().compare_exchange_u32(addr, found, new)?.is_ok() {
                // The word first: who is woken owns it already.
                if next.is_some() {
                    table.wake(key, 1, u32::MAX);
                }
                return Ok(());
            }
        }
    }
}

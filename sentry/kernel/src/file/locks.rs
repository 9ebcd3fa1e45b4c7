//! Locks on files: byte ranges owned by a process (POSIX) or a description (OFD), and whole-file locks of flock(2).

use std::collections::HashMap;
use std::sync::Arc;

use sentry_abi::Errno;

use crate::error::Result;
use crate::sync::{Mutex, Rank};
use crate::wait::{Events, WaitQueue};

/// Shared or exclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockKind {
    /// F_RDLCK, LOCK_SH
    Read,
    /// F_WRLCK, LOCK_EX
    Write,
}

/// Who owns a range.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LockOwner {
    /// A table of descriptors, for fcntl's POSIX locks.
    Table(u64),
    /// A description, for OFD locks.
    Description(u64),
}

/// A locked range of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeLock {
    /// Whose.
    pub owner: LockOwner,
    /// Shared or exclusive.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte; `u64::MAX` is the end of the file wherever that is.
    pub end: u64,
    /// Process that set it, for F_GETLK; -1 for OFD locks.
    pub pid: i32,
}

impl RangeLock {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }

    fn conflicts(&self, other: &RangeLock) -> bool {
        self.owner != other.owner
            && self.overlaps(other.start, other.end)
            && (self.kind == LockKind::Write || other.kind == LockKind::Write)
    }
}

#[derive(Default)]
struct State {
    ranges: Vec<RangeLock>,
    whole: Vec<(u64, LockKind)>,
}

/// All locks of one inode.
pub struct FileLocks {
    state: Mutex<State>,
    queue: WaitQueue,
}

/// Who waits for whom, for EDEADLK. Only POSIX locks wait here; OFD locks have no deadlock detection on Linux either.
static WAITING: Mutex<Option<HashMap<LockOwner, LockOwner>>> = Mutex::new(Rank::LEAF, None);

impl FileLocks {
    /// No locks.
    pub fn new() -> Arc<Self> {
        let state = Mutex::new(Rank::FILE_LOCKS, State::default());
        Arc::new(Self { state, queue: WaitQueue::new() })
    }

    /// Where blocked lockers wait; notified whenever a lock ends.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// The first lock that stands against `probe` (F_GETLK).
    pub fn conflict(&self, probe: &RangeLock) -> Option<RangeLock> {
        self.state.lock().ranges.iter().find(|l| l.conflicts(probe)).copied()
    }

    /// Sets a range, replacing what its owner has there. Errors: EAGAIN where another lock stands against it.
    pub fn set(&self, lock: RangeLock) -> Result<()> {
        let mut state = self.state.lock();
        if state.ranges.iter().any(|l| l.conflicts(&lock)) {
            return Err(Errno::EAGAIN.into());
        }
        let weaker = carve(&mut state.ranges, lock.owner, lock.start, lock.end);
        insert(&mut state.ranges, lock);
        drop(state);
        if weaker {
            self.queue.notify(Events::OUT);
        }
        Ok(())
    }

    /// Removes what `owner` has in a range (F_UNLCK).
    pub fn unlock(&self, owner: LockOwner, start: u64, end: u64) {
        let changed = carve(&mut self.state.lock().ranges, owner, start, end);
        if changed {
            self.queue.notify(Events::OUT);
        }
    }

    /// Removes all ranges of `owner`.
    pub fn release(&self, owner: LockOwner) {
        self.unlock(owner, 0, u64::MAX);
    }

    /// flock(2) for the description `id`. A conversion gives up the old lock first, as flock(2) says. Errors: EAGAIN.
    pub fn set_flock(&self, id: u64, kind: LockKind) -> Result<()> {
        let mut state = self.state.lock();
        if state.whole.contains(&(id, kind)) {
            return Ok(());
        }
        let had = state.whole.len();
        state.whole.retain(|(owner, _)| *owner != id);
        let gave_up = state.whole.len() != had;
        let stands_against = |k: LockKind| k == LockKind::Write || kind == LockKind::Write;
        let result = if state.whole.iter().any(|(_, k)| stands_against(*k)) {
            Err(Errno::EAGAIN.into())
        } else {
            state.whole.push((id, kind));
            Ok(())
        };
        drop(state);
        if gave_up {
            self.queue.notify(Events::OUT);
        }
        result
    }

    /// Removes the flock of the description `id`.
    pub fn release_flock(&self, id: u64) {
        let mut state = self.state.lock();
        let had = state.whole.len();
        state.whole.retain(|(owner, _)| *owner != id);
        let changed = state.whole.len() != had;
        drop(state);
        if changed {
            self.queue.notify(Events::OUT);
        }
    }
}

/// Says that `owner` starts to wait for `holder`. Errors: EDEADLK where `holder` waits, directly or not, for `owner`.
pub fn begin_wait(owner: LockOwner, holder: LockOwner) -> Result<()> {
    let mut waiting = WAITING.lock();
    let waiting = waiting.get_or_insert_default();
    let mut at = Some(holder);
    // Linux gives up after ten steps too.
    for _ in 0..10 {
        match at {
            Some(next) if next == owner => return Err(Errno::EDEADLK.into()),
            Some(next) => at = waiting.get(&next).copied(),
            None => break,
        }
    }
    waiting.insert(owner, holder);
    Ok(())
}

/// Ends [`begin_wait`].
pub fn end_wait(owner: LockOwner) {
    if let Some(waiting) = &mut *WAITING.lock() {
        waiting.remove(&owner);
    }
}

/// Cuts a range out of an owner's locks; true where something was there.
fn carve(ranges: &mut Vec<RangeLock>, owner: LockOwner, start: u64, end: u64) -> bool {
    let mut changed = false;
    let mut kept = Vec::with_capacity(ranges.len() + 1);
    for lock in ranges.drain(..) {
        if lock.owner != owner || !lock.overlaps(start, end) {
            kept.push(lock);
            continue;
        }
        changed = true;
        if lock.start < start {
            kept.push(RangeLock { end: start - 1, ..lock });
        }
        if lock.end > end {
            kept.push(RangeLock { start: end + 1, ..lock });
        }
    }
    *ranges = kept;
    changed
}

/// Adds a range, joined with its owner's neighbours of the same kind, in order of start.
fn insert(ranges: &mut Vec<RangeLock>, mut lock: RangeLock) {
    ranges.retain(|l| {
        let same = l.owner == lock.owner && l.kind == lock.kind;
        let touches =
            l.start <= lock.end.saturating_add(1) && lock.start <= l.end.saturating_add(1);
        if same && touches {
            lock.start = lock.start.min(l.start);
            lock.end = lock.end.max(l.end);
        }
        !(same && touches)
    });
    let at = ranges.partition_point(|l| l.start <= lock.start);
    ranges.insert(at, lock);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: u64, kind: LockKind, start: u64, end: u64) -> RangeLock {
        RangeLock { owner: LockOwner::Table(owner), kind, start, end, pid: owner as i32 }
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let locks = FileLocks::new();
        locks.set(lock(1, LockKind::Write, 0, u64::MAX)).unwrap();
        locks.unlock(LockOwner::Table(1), 10, 19);
        assert!(locks.set(lock(2, LockKind::Read, 10, 19)).is_ok());
        assert!(locks.set(lock(2, LockKind::Read, 9, 9)).unwrap_err().is(Errno::EAGAIN));
        assert_eq!(locks.conflict(&lock(2, LockKind::Read, 20, 20)).map(|l| l.end), Some(u64::MAX));
    }

    #[test]
    fn readers_share_and_an_upgrade_waits_for_the_other_reader() {
        let locks = FileLocks::new();
        locks.set(lock(1, LockKind::Read, 0, 9)).unwrap();
        locks.set(lock(2, LockKind::Read, 0, 9)).unwrap();
        assert!(locks.set(lock(1, LockKind::Write, 0, 9)).is_err());
        locks.release(LockOwner::Table(2));
        assert!(locks.set(lock(1, LockKind::Write, 0, 9)).is_ok());
    }

    #[test]
    fn two_owners_that_wait_for_each_other_are_a_deadlock() {
        let (a, b) = (LockOwner::Table(1001), LockOwner::Table(1002));
        begin_wait(a, b).unwrap();
        assert!(begin_wait(b, a).unwrap_err().is(Errno::EDEADLK));
        end_wait(a);
        assert!(begin_wait(b, a).is_ok());
        end_wait(b);
    }

    #[test]
    fn flock_belongs_to_the_description() {
        let locks = FileLocks::new();
        locks.set_flock(1, LockKind::Read).unwrap();
        locks.set_flock(2, LockKind::Read).unwrap();
        assert!(locks.set_flock(3, LockKind::Write).is_err());
        locks.release_flock(1);
        locks.release_flock(2);
        assert!(locks.set_flock(3, LockKind::Write).is_ok());
    }
}

//! Futexes: waiting on a word of program memory (futex(2)). It must not touch memory itself but through the check that the caller hands in.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::sync::{Mutex, Rank};
use crate::wait::{Events, Wake};

mod pi;

pub use pi::LockWait;

/// What a futex is known by: a word of one address space, or of a shared object wherever it is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FutexKey {
    /// A private word: the address space's identity and the address.
    Private {
        /// Identity of the memory manager.
        space: u64,
        /// Address.
        addr: u64,
    },
    /// A word of a shared mapping: the mapped object's identity and the offset in it.
    Shared {
        /// Identity of the mapped object.
        object: u64,
        /// Offset in bytes.
        offset: u64,
    },
}

/// Somebody who waits on a futex.
pub struct FutexWaiter {
    /// What wakes it; for a lock, the thread that wants to own it.
    bitset: u32,
    woken: AtomicBool,
    /// Where it is queued now (requeue moves it); under the lock of that bucket it does not change.
    key: Mutex<FutexKey>,
    waker: Arc<dyn Wake>,
}

impl FutexWaiter {
    /// True once a waker chose it.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

type Bucket = HashMap<FutexKey, VecDeque<Arc<FutexWaiter>>>;

const BUCKETS: usize = 64;

/// All futexes of a kernel that somebody waits on.
pub struct FutexTable {
    buckets: Vec<Mutex<Bucket>>,
    hasher: RandomState,
    /// Changes of owners are made one at a time: the word, which the program can change too, and the queue belong together.
    owners: Mutex<()>,
    /// How many wait for a lock with an owner.
    lock_waiters: AtomicUsize,
}

impl Default for FutexTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FutexTable {
    /// No waiters.
    pub fn new() -> Self {
        let buckets =
            (0..BUCKETS).map(|_| Mutex::new(Rank::FUTEX, Bucket::new())).collect::<Vec<_>>();
        Self {
            buckets,
            hasher: RandomState::new(),
            owners: Mutex::new(Rank::FUTEX_OWNERS, ()),
            lock_waiters: AtomicUsize::new(0),
        }
    }

    fn index(&self, key: &FutexKey) -> usize {
        self.hasher.hash_one(key) as usize % BUCKETS
    }

    /// Queues a waiter. The caller reads the word after this and calls [`Self::cancel`] where it has another value:
    /// a wake between change and read then finds the waiter, so none is lost.
    pub fn enqueue(&self, key: FutexKey, bitset: u32, waker: Arc<dyn Wake>) -> Arc<FutexWaiter> {
        let waiter = Arc::new(FutexWaiter {
            bitset,
            woken: AtomicBool::new(false),
            key: Mutex::new(Rank::LEAF, key),
            waker,
        });
        let mut bucket = self.buckets[self.index(&key)].lock();
        bucket.entry(key).or_default().push_back(waiter.clone());
        waiter
    }

    /// Takes a waiter off its queue. True where it was already woken.
    pub fn cancel(&self, waiter: &Arc<FutexWaiter>) -> bool {
        loop {
            let key = *waiter.key.lock();
            let mut bucket = self.buckets[self.index(&key)].lock();
            if *waiter.key.lock() != key {
                continue; // It was requeued in between.
            }
            if let Some(queue) = bucket.get_mut(&key) {
                queue.retain(|w| !Arc::ptr_eq(w, waiter));
                if queue.is_empty() {
                    bucket.remove(&key);
                }
            }
            return waiter.is_woken();
        }
    }

    /// Wakes at most `count` waiters whose bitset meets `bitset`; returns how many.
    pub fn wake(&self, key: FutexKey, count: u32, bitset: u32) -> u32 {
        let mut bucket = self.buckets[self.index(&key)].lock();
        Self::wake_in(&mut bucket, key, count, bitset)
    }

    fn wake_in(bucket: &mut Bucket, key: FutexKey, count: u32, bitset: u32) -> u32 {
        let Some(queue) = bucket.get_mut(&key) else { return 0 };
        let mut woken = 0;
        queue.retain(|waiter| {
            if woken >= count || waiter.bitset & bitset == 0 {
                return true;
            }
            woken += 1;
            waiter.woken.store(true, Ordering::Release);
            waiter.waker.wake(Events::IN);
            false
        });
        if queue.is_empty() {
            bucket.remove(&key);
        }
        woken
    }

    /// Wakes at most `wake` waiters of `from` and moves at most `requeue` further ones to `to`; returns how many were woken and moved.
    pub fn requeue(&self, from: FutexKey, to: FutexKey, wake: u32, requeue: u32) -> (u32, u32) {
        let (a, b) = (self.index(&from), self.index(&to));
        if a == b {
            let mut bucket = self.buckets[a].lock();
            let woken = Self::wake_in(&mut bucket, from, wake, u32::MAX);
            let moved = Self::take_from(&mut bucket, from, requeue);
            let count = moved.len() as u32;
            Self::put(&mut bucket, to, moved);
            return (woken, count);
        }
        // Two buckets: the lower index first, so that two requeues cannot wait for each other.
        let mut low = self.buckets[a.min(b)].lock();
        let mut high = self.buckets[a.max(b)].lock();
        let (source, target) =
            if a < b { (&mut *low, &mut *high) } else { (&mut *high, &mut *low) };
        let woken = Self::wake_in(source, from, wake, u32::MAX);
        let moved = Self::take_from(source, from, requeue);
        let count = moved.len() as u32;
        Self::put(target, to, moved);
        (woken, count)
    }

    fn take_from(bucket: &mut Bucket, key: FutexKey, count: u32) -> Vec<Arc<FutexWaiter>> {
        let Some(queue) = bucket.get_mut(&key) else { return Vec::new() };
        let count = (count as usize).min(queue.len());
        let taken = queue.drain(..count).collect();
        if queue.is_empty() {
            bucket.remove(&key);
        }
        taken
    }

    fn put(bucket: &mut Bucket, key: FutexKey, waiters: Vec<Arc<FutexWaiter>>) {
        if waiters.is_empty() {
            return;
        }
        let queue = bucket.entry(key).or_default();
        for waiter in waiters {
            *waiter.key.lock() = key;
            queue.push_back(waiter);
        }
    }
}

#[cfg(test)]
mod tests;

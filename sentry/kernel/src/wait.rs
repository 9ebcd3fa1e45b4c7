//! Readiness and wait queues: how a thing says that its state changed, and who is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bitflags::bitflags;

use crate::sync::{Mutex, Rank};

bitflags! {
    /// Readiness bits with the values of poll(2) and epoll(7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Events: u32 {
        /// POLLIN
        const IN = 0x001;
        /// POLLPRI
        const PRI = 0x002;
        /// POLLOUT
        const OUT = 0x004;
        /// POLLERR
        const ERR = 0x008;
        /// POLLHUP
        const HUP = 0x010;
        /// POLLNVAL
        const NVAL = 0x020;
        /// POLLRDNORM
        const RDNORM = 0x040;
        /// POLLRDBAND
        const RDBAND = 0x080;
        /// POLLWRNORM
        const WRNORM = 0x100;
        /// POLLWRBAND
        const WRBAND = 0x200;
        /// POLLMSG
        const MSG = 0x400;
        /// POLLRDHUP
        const RDHUP = 0x2000;
    }
}

impl Events {
    /// What every waiter hears, asked for or not: errors and hang-ups.
    pub const ALWAYS: Events = Events::ERR.union(Events::HUP);
    /// Everything.
    pub const EVERY: Events = Events::all();
}

/// Somebody who is told of events. Called with the queue's lock held: it must only set a flag, unpark a thread or push on a list (rank above WAIT_QUEUE).
pub trait Wake: Send + Sync {
    /// `events` became true, or may have.
    fn wake(&self, events: Events);
}

struct Entry {
    id: u64,
    mask: Events,
    exclusive: bool,
    waker: Arc<dyn Wake>,
}

/// Those who wait for one thing's readiness, in order of arrival.
#[derive(Default)]
pub struct WaitQueue {
    next: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

impl Default for Mutex<Vec<Entry>> {
    fn default() -> Self {
        Mutex::new(Rank::WAIT_QUEUE, Vec::new())
    }
}

/// How a waiter shares a wake-up with others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Woken together with everybody.
    All,
    /// At most one such waiter is woken for an event (accept, EPOLLEXCLUSIVE).
    Exclusive,
}

/// Names an entry of one queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitKey(u64);

impl WaitQueue {
    /// A queue without waiters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a waiter for `mask` (errors and hang-ups are added). The caller must check readiness again after this and call [`Self::remove`] at the end.
    pub fn add(&self, mask: Events, sharing: Sharing, waker: Arc<dyn Wake>) -> WaitKey {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let exclusive = sharing == Sharing::Exclusive;
        self.entries.lock().push(Entry { id, mask: mask | Events::ALWAYS, exclusive, waker });
        WaitKey(id)
    }

    /// Removes a waiter; nothing happens where it is gone.
    pub fn remove(&self, key: WaitKey) {
        self.entries.lock().retain(|e| e.id != key.0);
    }

    /// Tells the waiters whose mask meets `events`: all shared ones and the first exclusive one.
    pub fn notify(&self, events: Events) {
        let entries = self.entries.lock();
        let mut exclusive_told = false;
        for entry in entries.iter() {
            if !entry.mask.intersects(events) || (entry.exclusive && exclusive_told) {
                continue;
            }
            exclusive_told |= entry.exclusive;
            entry.waker.wake(events);
        }
    }

    /// True where nobody waits.
    pub fn is_empty(&self) -> bool {
        self.entries.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(&self, _: Events) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_exclusive_waiter_and_all_shared_ones_are_woken() {
        let queue = WaitQueue::new();
        let count = Arc::new(Count(AtomicU32::new(0)));
        queue.add(Events::IN, Sharing::Exclusive, count.clone());
        queue.add(Events::IN, Sharing::Exclusive, count.clone());
        let shared = queue.add(Events::IN, Sharing::All, count.clone());
        queue.notify(Events::OUT);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        queue.notify(Events::IN);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        queue.remove(shared);
        queue.notify(Events::HUP);
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
    }
}

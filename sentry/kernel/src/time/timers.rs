//! Timers: callbacks at moments of the monotonic clock, run one after the other on a thread of their own, started by the first timer.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use crate::sync::{Mutex, Rank};
use crate::time::{Clock, Instant};

/// Something that happens at a moment. Called without any lock held, on the timer thread: it must not block.
pub trait TimerTarget: Send + Sync {
    /// The moment has come. The answer is the next moment of a periodic timer (same key), or `None`.
    fn expired(&self, now: Instant) -> Option<Instant>;
}

/// Names an armed timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TimerKey(u64);

#[derive(Default)]
struct Queue {
    by_time: BTreeMap<(Instant, TimerKey), Arc<dyn TimerTarget>>,
    by_key: HashMap<TimerKey, Instant>,
    /// The timer whose callback runs now, until it ends or is cancelled.
    running: Option<TimerKey>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    next: AtomicU64,
    thread: OnceLock<Thread>,
}

/// All timers of a kernel.
pub struct Timers {
    shared: Arc<Shared>,
}

impl Timers {
    /// No timers yet, on this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let queue = Mutex::new(Rank::TIMER, Queue::default());
        let shared = Shared { clock, queue, next: AtomicU64::new(1), thread: OnceLock::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Calls `target` at `at` (at once where that is past).
    pub fn arm(&self, at: Instant, target: Arc<dyn TimerTarget>) -> TimerKey {
        let key = TimerKey(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let first = {
            let mut queue = self.shared.queue.lock();
            queue.by_time.insert((at, key), target);
            queue.by_key.insert(key, at);
            queue.by_time.first_key_value().is_some_and(|((_, k), _)| *k == key)
        };
        if first {
            self.thread().unpark();
        }
        key
    }

    /// Forgets a timer. True where it had not expired; its callback may still be running where false.
    pub fn cancel(&self, key: TimerKey) -> bool {
        let mut queue = self.shared.queue.lock();
        if queue.running == Some(key) {
            queue.running = None;
        }
        match queue.by_key.remove(&key) {
            Some(at) => queue.by_time.remove(&(at, key)).is_some(),
            None => false,
        }
    }

    fn thread(&self) -> &Thread {
        self.shared.thread.get_or_init(|| {
            let shared = Arc::downgrade(&self.shared);
            let spawned =
                std::thread::Builder::new().name("timers".into()).spawn(move || run(&shared));
            match spawned {
                Ok(handle) => handle.thread().clone(),
                // Without a thread no timer can ever fire; waking ourselves is harmless.
                Err(_) => std::thread::current(),
            }
        })
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        if let Some(thread) = self.shared.thread.get() {
            thread.unpark();
        }
    }
}

/// The longest sleep: after it the thread looks whether its kernel is still there.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

fn run(shared: &Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let sleep = fire_due(&strong);
        drop(strong);
        std::thread::park_timeout(sleep);
    }
}

/// Runs what is due; returns how long to sleep after that.
fn fire_due(shared: &Shared) -> Duration {
    loop {
        let now = shared.clock.monotonic();
        let (key, target) = {
            let mut queue = shared.queue.lock();
            let Some(entry) = queue.by_time.first_entry() else { return LONGEST_SLEEP };
            let (at, key) = *entry.key();
            if at > now {
                return Duration::from_nanos(at.since_ns(now)).min(LONGEST_SLEEP);
            }
            let target = entry.remove();
            queue.by_key.remove(&key);
            queue.running = Some(key);
            (key, target)
        };
        let again = target.expired(now);
        let mut queue = shared.queue.lock();
        let kept = queue.running.take() == Some(key);
        if let Some(at) = again
            && kept
        {
            queue.by_time.insert((at, key), target);
            queue.by_key.insert(key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    struct Manual(AtomicU64);
    impl Clock for Manual {
        fn monotonic(&self) -> Instant {
            Instant(self.0.load(Ordering::SeqCst))
        }
        fn realtime_ns(&self) -> i64 {
            0
        }
    }

    struct Count {
        fired: AtomicU64,
        period: Option<u64>,
    }
    impl TimerTarget for Count {
        fn expired(&self, now: Instant) -> Option<Instant> {
            self.fired.fetch_add(1, Ordering::SeqCst);
            self.period.map(|p| now.after_ns(p))
        }
    }

    fn shared(now: u64) -> (Arc<Manual>, Timers) {
        let clock = Arc::new(Manual(AtomicU64::new(now)));
        let timers = Timers::new(clock.clone());
        // No thread in this test: the queue is driven by hand.
        let _ = timers.shared.thread.set(std::thread::current());
        (clock, timers)
    }

    #[test]
    fn a_timer_fires_once_at_its_moment_and_a_periodic_one_again() {
        let (clock, timers) = shared(0);
        let once = Arc::new(Count { fired: AtomicU64::new(0), period: None });
        let often = Arc::new(Count { fired: AtomicU64::new(0), period: Some(10) });
        timers.arm(Instant(5), once.clone());
        let key = timers.arm(Instant(10), often.clone());
        assert_eq!(fire_due(&timers.shared), Duration::from_nanos(5));
        clock.0.store(5, Ordering::SeqCst);
        assert_eq!(fire_due(&timers.shared), Duration::from_nanos(5));
        assert_eq!(once.fired.load(Ordering::SeqCst), 1);
        clock.0.store(20, Ordering::SeqCst);
        fire_due(&timers.shared);
        clock.0.store(30, Ordering::SeqCst);
        fire_due(&timers.shared);
        assert_eq!(often.fired.load(Ordering::SeqCst), 2);
        assert!(timers.cancel(key));
        assert_eq!(fire_due(&timers.shared), LONGEST_SLEEP);
    }
}

//! A burst: frames of one interface that are handled together. Endpoints that they reach answer once, at its end.

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::link::NicId;
use crate::time::Instant;

/// What can put its answer off to the end of a burst. It sees to it that it is put off once at a time.
pub trait Flush: Send + Sync {
    /// Sends what is due and tells of what changed.
    fn flush_after_burst(&self, now: Instant);
}

/// "No burst".
const NONE: u32 = 0;

/// The burst under way, of at most one interface at a time.
#[derive(Default)]
pub struct Burst {
    nic: AtomicU32,
    waiting: Mutex<Vec<Arc<dyn Flush>>>,
}

impl Burst {
    /// Begins a burst; false where another interface has one, whose frames then are answered one by one.
    pub fn begin(&self, nic: NicId) -> bool {
        self.nic.compare_exchange(NONE, nic.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether frames of this interface come in a burst.
    pub fn is_under_way(&self, nic: NicId) -> bool {
        self.nic.load(Ordering::Acquire) == nic.0
    }

    /// Puts an answer off to the end of the burst; gives it back where the burst has just ended.
    pub fn defer(&self, nic: NicId, endpoint: Arc<dyn Flush>) -> Result<(), Arc<dyn Flush>> {
        let mut waiting = self.waiting.lock();
        // Read under the lock: `end` clears it before it takes the list.
        if !self.is_under_way(nic) {
            return Err(endpoint);
        }
        waiting.push(endpoint);
        Ok(())
    }

    /// Ends the burst, and lets everybody answer who waits. No lock is held meanwhile.
    pub fn end(&self, now: Instant) {
        let mut waiting = self.waiting.lock();
        self.nic.store(NONE, Ordering::Release);
        let mut due = core::mem::take(&mut *waiting);
        drop(waiting);
        for endpoint in due.drain(..) {
            endpoint.flush_after_burst(now);
        }
        // The list's memory serves the next burst.
        let mut waiting = self.waiting.lock();
        if waiting.capacity() < due.capacity() && waiting.is_empty() {
            *waiting = due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counter(Mutex<Vec<u64>>);

    impl Flush for Counter {
        fn flush_after_burst(&self, now: Instant) {
            self.0.lock().push(now.nanos());
        }
    }

    #[test]
    fn answers_wait_for_the_end_of_the_burst_of_their_interface() {
        let (burst, counter) = (Burst::default(), Arc::new(Counter::default()));
        let (one, other) = (NicId(1), NicId(2));
        assert!(burst.defer(one, counter.clone()).is_err());
        assert!(burst.begin(one) && !burst.begin(other));
        assert!(burst.defer(other, counter.clone()).is_err());
        assert!(burst.defer(one, counter.clone()).is_ok());
        assert!(counter.0.lock().is_empty());
        burst.end(Instant::from_nanos(7));
        assert_eq!(*counter.0.lock(), [7]);
        assert!(burst.begin(other));
    }
}

//! vfork: a parent that waits until its child has left the shared memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::task::waker::TaskWaker;

/// Something that happens once and that one task waits for.
pub struct Completion {
    done: AtomicBool,
    waiter: Arc<TaskWaker>,
}

impl Completion {
    /// Not yet; `waiter` is nudged when it happens.
    pub fn new(waiter: Arc<TaskWaker>) -> Arc<Self> {
        Arc::new(Self { done: AtomicBool::new(false), waiter })
    }

    /// It happened.
    pub fn complete(&self) {
        self.done.store(true, Ordering::Release);
        self.waiter.nudge();
    }

    /// True once it happened.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

//! How a task sleeps and is woken: a flag and a host thread's park token, so that no wake-up is lost.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crate::wait::{Events, Wake};

/// Wakes one task. The flag is set before the thread is unparked, and the token of park is sticky: a wake between the
/// sleeper's last look and its sleep ends that sleep at once.
#[derive(Default)]
pub struct TaskWaker {
    woken: AtomicBool,
    thread: OnceLock<Thread>,
}

impl TaskWaker {
    /// Binds it to the calling host thread; later calls change nothing.
    pub fn bind(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// Wakes it from any park, without the flag: the sleeper looks at its attention bits.
    pub fn nudge(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Takes the flag.
    pub fn take(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// Sleeps until woken or nudged, or for `ns` nanoseconds; may return early without reason.
    pub fn park(&self, ns: Option<u64>) {
        match ns {
            None => std::thread::park(),
            Some(ns) => std::thread::park_timeout(Duration::from_nanos(ns)),
        }
    }
}

impl Wake for TaskWaker {
    fn wake(&self, _: Events) {
        self.woken.store(true, Ordering::Release);
        self.nudge();
    }
}

//! The kick of a context: a signal to its thread in the stub, sent only while that runs, and never lost.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{KICK_SIGNAL, signal_thread};
use crate::Kick;

/// The kick handle of a context whose thread is in a stub.
#[derive(Default)]
pub(crate) struct StubKick {
    /// Somebody has kicked and no switch has returned for it yet.
    pending: AtomicBool,
    /// The thread runs or is about to.
    running: AtomicBool,
    /// Process and thread to signal.
    target: Mutex<Option<(i32, i32)>>,
}

impl StubKick {
    /// Says which thread it is from now on. None: there is no thread, or it is about to be told to end, after which its number
    /// can be another's.
    pub(crate) fn aim(&self, target: Option<(i32, i32)>) {
        *self.target.lock() = target;
    }

    /// Whether somebody has kicked; the switch that asks returns for it.
    pub(crate) fn take(&self) -> bool {
        self.pending.swap(false, Ordering::SeqCst)
    }

    /// Whether somebody has kicked.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    /// The thread is about to run: from here on a kick sends the signal. Gives whether one came before, as [`StubKick::take`].
    pub(crate) fn begin(&self) -> bool {
        self.running.store(true, Ordering::SeqCst);
        self.take()
    }

    /// The thread runs no more.
    pub(crate) fn end(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    /// Signals the thread.
    pub(crate) fn signal(&self) {
        // Under the lock the thread cannot end, so its number cannot be another's.
        if let Some((pid, tid)) = *self.target.lock() {
            // It fails only for a thread that was killed from outside, which ends the switch too.
            let _ = signal_thread(pid, tid, KICK_SIGNAL);
        }
    }
}

impl Kick for StubKick {
    fn kick(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) && self.running.load(Ordering::SeqCst) {
            self.signal();
        }
    }
}

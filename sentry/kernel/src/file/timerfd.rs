//! timerfd_create(2): a timer whose expirations are read.

use core::any::Any;
use std::sync::Arc;

use sentry_abi::Errno;

use crate::error::Result;
use crate::file::description::FileDescription;
use crate::file::ops::{FileKind, FileOps};
use crate::io::Sink;
use crate::kernel::Kernel;
use crate::sync::{Mutex, Rank};
use crate::time::{ClockKind, Instant, TimerKey, TimerTarget};
use crate::vfs::OpenFlags;
use crate::wait::{Events, WaitQueue};

/// When a timer expires next and how often after that, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setting {
    /// Time to the next expiry, or the moment of it where set absolutely; 0 disarms.
    pub value_ns: u64,
    /// Period; 0 for once.
    pub interval_ns: u64,
}

/// What `value_ns` of a new setting counts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counting {
    /// From now.
    Relative,
    /// The clock's own zero (TFD_TIMER_ABSTIME).
    Absolute,
}

#[derive(Default)]
struct State {
    key: Option<TimerKey>,
    next: Option<Instant>,
    interval_ns: u64,
    ticks: u64,
    /// Counts settings: an expiry of an older one is void.
    setting: u64,
}

struct Shared {
    state: Mutex<State>,
    queue: WaitQueue,
}

/// One arming of the timer.
struct Arming {
    shared: Arc<Shared>,
    setting: u64,
}

impl TimerTarget for Arming {
    fn expired(&self, now: Instant) -> Option<Instant> {
        let mut state = self.shared.state.lock();
        let due = state.next.filter(|next| self.setting == state.setting && *next <= now)?;
        // Expiries that nobody could be told in time are counted, not repeated.
        let missed = now.since_ns(due).checked_div(state.interval_ns).unwrap_or(0);
        state.ticks = state.ticks.saturating_add(1 + missed);
        state.next = match state.interval_ns {
            0 => None,
            interval => Some(due.after_ns(interval.saturating_mul(1 + missed))),
        };
        let next = state.next;
        drop(state);
        self.shared.queue.notify(Events::IN);
        next
    }
}

/// A timer as an open file.
pub struct TimerFd {
    kernel: Arc<Kernel>,
    clock: ClockKind,
    shared: Arc<Shared>,
}

impl TimerFd {
    /// timerfd_create(2): disarmed. `flags` may hold O_NONBLOCK.
    pub fn create(
        kernel: &Arc<Kernel>,
        clock: ClockKind,
        flags: OpenFlags,
    ) -> Arc<FileDescription> {
        let state = Mutex::new(Rank::FILE, State::default());
        let shared = Arc::new(Shared { state, queue: WaitQueue::new() });
        let ops = Arc::new(Self { kernel: kernel.clone(), clock, shared });
        FileDescription::new(ops, None, OpenFlags::RDWR | (flags & OpenFlags::NONBLOCK))
    }

    /// The timer behind an open file. Errors: EINVAL.
    pub fn of(ops: &dyn FileOps) -> Result<&Self> {
        match ops.kind() {
            FileKind::Kernel(any) => Ok(any.downcast_ref().ok_or(Errno::EINVAL)?),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// timerfd_gettime(2): the time left.
    pub fn setting(&self) -> Setting {
        Self::left(&self.shared.state.lock(), self.kernel.now())
    }

    fn left(state: &State, now: Instant) -> Setting {
        // An armed timer that is just due shows a nanosecond, not zero, which would mean disarmed.
        let value_ns = state.next.map_or(0, |next| next.since_ns(now).max(1));
        Setting { value_ns, interval_ns: state.interval_ns }
    }

    /// timerfd_settime(2): sets it and returns what was set.
    pub fn set(&self, new: Setting, counting: Counting) -> Setting {
        let now = self.kernel.now();
        let next = (new.value_ns > 0).then(|| match counting {
            Counting::Relative => now.after_ns(new.value_ns),
            Counting::Absolute => self.clock.instant_at(new.value_ns, &**self.kernel.clock()),
        });
        let (old, old_key, setting) = {
            let mut state = self.shared.state.lock();
            let old = Self::left(&state, now);
            state.setting += 1;
            state.next = next;
            state.interval_ns = new.interval_ns;
            state.ticks = 0;
            (old, state.key.take(), state.setting)
        };
        if let Some(key) = old_key {
            self.kernel.timers().cancel(key);
        }
        if let Some(at) = next {
            let key = self
                .kernel
                .timers()
                .arm(at, Arc::new(Arming { shared: self.shared.clone(), setting }));
            let mut state = self.shared.state.lock();
            if state.setting == setting {
                state.key = Some(key);
            } else {
                // Another thread has set it meanwhile.
                drop(state);
                self.kernel.timers().cancel(key);
            }
        }
        old
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        let key = {
            let mut state = self.shared.state.lock();
            state.setting += 1;
            state.key.take()
        };
        if let Some(key) = key {
            self.kernel.timers().cancel(key);
        }
    }
}

impl FileOps for TimerFd {
    fn read(&self, _: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.room() < 8 {
            return Err(Errno::EINVAL.into());
        }
        let ticks = core::mem::take(&mut self.shared.state.lock().ticks);
        if ticks == 0 {
            return Err(Errno::EAGAIN.into());
        }
        dst.write(&ticks.to_ne_bytes())
    }

    fn readiness(&self) -> Events {
        let ticks = self.shared.state.lock().ticks;
        if ticks > 0 { Events::IN } else { Events::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.shared.queue)
    }

    fn label(&self) -> &'static str {
        "[timerfd]"
    }

    fn kind(&self) -> FileKind<'_> {
        FileKind::Kernel(self as &dyn Any)
    }
}

//! Timers that send signals: interval timers (setitimer(2)) and POSIX timers (timer_create(2)), on clocks and on CPU time.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_abi::resource::{RLIM_INFINITY, Resource};
use sentry_abi::signal::{SI_KERNEL, SI_TIMER, SIGEV_NONE, SIGEV_THREAD_ID, SigInfo, Signal};

use crate::error::Result;
use crate::sync::{Mutex, Rank};
use crate::task::{Task, ThreadGroup};
use crate::time::{ClockKind, Instant, TimerKey, TimerTarget};

/// What a timer counts.
#[derive(Clone)]
pub enum TimeBase {
    /// A clock.
    Clock(ClockKind),
    /// CPU time in program code of the group (ITIMER_VIRTUAL).
    GroupUser,
    /// CPU time of the group (ITIMER_PROF, CLOCK_PROCESS_CPUTIME_ID).
    GroupCpu,
    /// CPU time of one task (CLOCK_THREAD_CPUTIME_ID).
    TaskCpu(Weak<Task>),
}

/// What an expiry does.
#[derive(Clone, Copy, Debug)]
pub enum Notify {
    /// SIGEV_NONE
    Nothing,
    /// A signal of the kernel's own (interval timers).
    Plain(Signal),
    /// RLIMIT_CPU: SIGXCPU each second beyond the soft limit, SIGKILL at the hard one.
    CpuLimit,
    /// SI_TIMER to the group.
    Group {
        /// The signal.
        signal: Signal,
        /// sigev_value
        value: u64,
    },
    /// SI_TIMER to one task (SIGEV_THREAD_ID).
    Task {
        /// The task.
        tid: u32,
        /// The signal.
        signal: Signal,
        /// sigev_value
        value: u64,
    },
}

impl Notify {
    /// What a sigevent asks for. Errors: EINVAL.
    pub fn from_sigevent(event: &sentry_abi::signal::SigEvent) -> Result<Self> {
        use sentry_abi::signal::{SIGEV_SIGNAL, SIGEV_THREAD};
        let signal = || Signal::new(event.signo);
        match event.notify {
            SIGEV_NONE => Ok(Self::Nothing),
            // SIGEV_THREAD is made by the C library; the kernel treats it as a signal.
            SIGEV_SIGNAL | SIGEV_THREAD => {
                Ok(Self::Group { signal: signal()?, value: event.value })
            }
            SIGEV_THREAD_ID => {
                let tid = u32::try_from(event.tid).map_err(|_| Errno::EINVAL)?;
                Ok(Self::Task { tid, signal: signal()?, value: event.value })
            }
            _ => Err(Errno::EINVAL.into()),
        }
    }
}

/// A timer's setting: nanoseconds left and period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setting {
    /// Nanoseconds until the next expiry; 0 where disarmed.
    pub left_ns: u64,
    /// Period in nanoseconds; 0 for once.
    pub interval_ns: u64,
}

/// When a timer is to expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// Never: disarm.
    Never,
    /// So many nanoseconds from now.
    After(u64),
    /// When what it counts shows this many nanoseconds.
    At(u64),
}

#[derive(Default)]
struct Armed {
    /// What the base shows at the next expiry; `None` where disarmed.
    deadline: Option<u64>,
    interval_ns: u64,
    key: Option<TimerKey>,
    /// What the signal said that was delivered last.
    overrun: i32,
}

/// One timer.
pub struct SignalTimer {
    group: Weak<ThreadGroup>,
    id: i32,
    base: TimeBase,
    notify: Notify,
    armed: Mutex<Armed>,
    me: Weak<SignalTimer>,
}

/// CPU timers are looked at again at least this much later: accounting is no finer.
const CPU_STEP_NS: u64 = 1_000_000;

impl SignalTimer {
    fn new(group: Weak<ThreadGroup>, id: i32, base: TimeBase, notify: Notify) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            group,
            id,
            base,
            notify,
            armed: Mutex::new(Rank::KERNEL, Armed::default()),
            me: me.clone(),
        })
    }

    /// What the base shows now, in nanoseconds.
    fn shown(&self, group: &ThreadGroup) -> u64 {
        match &self.base {
            TimeBase::Clock(kind) => {
                u64::try_from(kind.now_ns(&**group.kernel().clock())).unwrap_or(0)
            }
            TimeBase::GroupUser => group.cpu_time().user_ns,
            TimeBase::GroupCpu => group.cpu_time().total_ns(),
            TimeBase::TaskCpu(task) => {
                let now = group.kernel().now();
                task.upgrade().map_or(0, |t| t.account().read(now).total_ns())
            }
        }
    }

    /// When to look next, for a deadline of the base.
    fn next_look(&self, group: &ThreadGroup, deadline: u64, shown: u64) -> Instant {
        let now = group.kernel().now();
        let left = deadline.saturating_sub(shown);
        match &self.base {
            TimeBase::Clock(_) => now.after_ns(left),
            _ => {
                // All tasks of the group may run at once.
                let tasks = group.tasks().len().max(1) as u64;
                now.after_ns((left / tasks).max(CPU_STEP_NS))
            }
        }
    }

    /// What is left and the period.
    pub fn setting(&self) -> Setting {
        let Some(group) = self.group.upgrade() else { return Setting::default() };
        let shown = self.shown(&group);
        let armed = self.armed.lock();
        // An armed timer never says 0, which would mean that it is not.
        let left_ns = armed.deadline.map_or(0, |d| d.saturating_sub(shown).max(1));
        Setting { left_ns, interval_ns: armed.interval_ns }
    }

    /// Arms or disarms; returns the setting of before.
    pub fn set(&self, expiry: Expiry, interval_ns: u64) -> Setting {
        let before = self.setting();
        let Some(group) = self.group.upgrade() else { return before };
        let shown = self.shown(&group);
        let deadline = match expiry {
            Expiry::Never => None,
            Expiry::After(ns) => Some(shown.saturating_add(ns)),
            Expiry::At(ns) => Some(ns),
        };
        let look = deadline.map(|d| self.next_look(&group, d, shown));
        let timers = group.kernel().timers();
        let mut armed = self.armed.lock();
        if let Some(key) = armed.key.take() {
            timers.cancel(key);
        }
        let target = self.me.upgrade();
        armed.key = match (look, target) {
            (Some(at), Some(me)) => Some(timers.arm(at, me)),
            _ => None,
        };
        armed.deadline = deadline;
        armed.interval_ns = interval_ns;
        armed.overrun = 0;
        before
    }

    /// timer_getoverrun(2): of the signal that was delivered last.
    pub fn overrun(&self) -> i32 {
        self.armed.lock().overrun
    }

    fn send(&self, group: &ThreadGroup, overrun: u64) {
        let overrun = i32::try_from(overrun).unwrap_or(i32::MAX);
        // A queue without room loses the expiry, as on Linux.
        match self.notify {
            Notify::Nothing => {}
            Notify::Plain(signal) => _ = group.send_signal(signal, SigInfo::new(signal, SI_KERNEL)),
            Notify::CpuLimit => enforce_cpu_limit(group),
            Notify::Group { signal, value } => {
                _ = group.send_signal(signal, SigInfo::timer(signal, self.id, overrun, value));
            }
            Notify::Task { tid, signal, value } => {
                if let Some(task) = group.pids().task(tid).filter(|t| t.pid() == group.pid()) {
                    _ = task.send_signal(signal, SigInfo::timer(signal, self.id, overrun, value));
                }
            }
        }
    }
}

impl TimerTarget for SignalTimer {
    fn expired(&self, _: Instant) -> Option<Instant> {
        let group = self.group.upgrade()?;
        let shown = self.shown(&group);
        let (fired, next) = {
            let mut armed = self.armed.lock();
            let deadline = armed.deadline?;
            let late = shown.checked_sub(deadline);
            if late.is_none() {
                (None, Some(deadline))
            } else if let Some(missed) = late.and_then(|l| l.checked_div(armed.interval_ns)) {
                let step = armed.interval_ns.saturating_mul(missed.saturating_add(1));
                armed.deadline = Some(deadline.saturating_add(step));
                (Some(missed), armed.deadline)
            } else {
                armed.deadline = None;
                armed.key = None;
                (Some(0), None)
            }
        };
        if let Some(overrun) = fired {
            self.send(&group, overrun);
        }
        next.map(|deadline| self.next_look(&group, deadline, shown))
    }
}

/// setrlimit(2), RLIMIT_CPU.
fn enforce_cpu_limit(group: &ThreadGroup) {
    let limit = group.limit(Resource::Cpu);
    let used_s = group.cpu_time().total_ns() / NSEC_PER_SEC;
    let signal = if used_s >= limit.max { Signal::SIGKILL } else { Signal::SIGXCPU };
    _ = group.send_signal(signal, SigInfo::new(signal, SI_KERNEL));
}

const NSEC_PER_SEC: u64 = 1_000_000_000;

/// The most POSIX timers of a group.
const TIMERS_MAX: usize = 4096;

#[derive(Default)]
struct Timers {
    interval: [Option<Arc<SignalTimer>>; 3],
    posix: BTreeMap<i32, Arc<SignalTimer>>,
    cpu_limit: Option<Arc<SignalTimer>>,
    next_id: i32,
}

/// The timers of a thread group.
pub struct GroupTimers {
    group: Weak<ThreadGroup>,
    timers: Mutex<Timers>,
}

impl GroupTimers {
    /// None armed.
    pub(crate) fn new(group: Weak<ThreadGroup>) -> Self {
        Self { group, timers: Mutex::new(Rank::LEAF, Timers::default()) }
    }

    /// The interval timer ITIMER_`which`. Errors: EINVAL.
    pub fn interval(&self, which: i32) -> Result<Arc<SignalTimer>> {
        let (base, signal) = match which {
            0 => (TimeBase::Clock(ClockKind::Monotonic), Signal::SIGALRM),
            1 => (TimeBase::GroupUser, Signal::SIGVTALRM),
            2 => (TimeBase::GroupCpu, Signal::SIGPROF),
            _ => return Err(Errno::EINVAL.into()),
        };
        let mut timers = self.timers.lock();
        let group = self.group.clone();
        let make = || SignalTimer::new(group, which, base, Notify::Plain(signal));
        Ok(timers.interval[which as usize].get_or_insert_with(make).clone())
    }

    /// Looks at the CPU time again, after RLIMIT_CPU changed or was inherited.
    pub(crate) fn watch_cpu_limit(&self, soft_s: u64) {
        let timer = {
            let mut timers = self.timers.lock();
            if soft_s == RLIM_INFINITY && timers.cpu_limit.is_none() {
                return;
            }
            let group = self.group.clone();
            let make = || SignalTimer::new(group, 0, TimeBase::GroupCpu, Notify::CpuLimit);
            timers.cpu_limit.get_or_insert_with(make).clone()
        };
        match soft_s {
            RLIM_INFINITY => timer.set(Expiry::Never, 0),
            // A limit of 0 is one of a second, as on Linux.
            seconds => {
                let at = seconds.max(1).saturating_mul(NSEC_PER_SEC);
                timer.set(Expiry::At(at), NSEC_PER_SEC)
            }
        };
    }

    /// A signal was delivered: its timer tells the expiries that it stands for.
    pub(crate) fn signal_taken(&self, info: &SigInfo) {
        if info.code != SI_TIMER {
            return;
        }
        let timer = self.timers.lock().posix.get(&info.timer_id()).cloned();
        if let Some(timer) = timer {
            timer.armed.lock().overrun = info.overrun();
        }
    }

    /// timer_create(2): the new timer's id. Errors: EAGAIN where there are too many.
    pub fn create(&self, base: TimeBase, notify: impl FnOnce(i32) -> Notify) -> Result<i32> {
        let mut timers = self.timers.lock();
        if timers.posix.len() >= TIMERS_MAX {
            return Err(Errno::EAGAIN.into());
        }
        let id = timers.next_id;
        timers.next_id = timers.next_id.checked_add(1).unwrap_or(0);
        let timer = SignalTimer::new(self.group.clone(), id, base, notify(id));
        timers.posix.insert(id, timer);
        Ok(id)
    }

    /// The POSIX timer of an id. Errors: EINVAL.
    pub fn posix(&self, id: i32) -> Result<Arc<SignalTimer>> {
        self.timers.lock().posix.get(&id).cloned().ok_or(Errno::EINVAL.into())
    }

    /// timer_delete(2). Errors: EINVAL.
    pub fn delete(&self, id: i32) -> Result<()> {
        let timer = self.timers.lock().posix.remove(&id).ok_or(Errno::EINVAL)?;
        timer.set(Expiry::Never, 0);
        Ok(())
    }

    /// Deletes the POSIX timers (execve; interval timers go on).
    pub(crate) fn clear_posix(&self) {
        let gone = std::mem::take(&mut self.timers.lock().posix);
        for timer in gone.values() {
            timer.set(Expiry::Never, 0);
        }
    }

    /// Disarms everything (the end of the group).
    pub(crate) fn clear(&self) {
        self.clear_posix();
        let (interval, cpu_limit) = {
            let mut timers = self.timers.lock();
            (std::mem::take(&mut timers.interval), timers.cpu_limit.take())
        };
        for timer in interval.into_iter().flatten().chain(cpu_limit) {
            timer.set(Expiry::Never, 0);
        }
    }
}

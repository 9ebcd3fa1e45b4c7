//! Clocks, sleeping, interval and POSIX timers.

use sentry_abi::signal::SigEvent;
use sentry_abi::time::{
    CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME,
    CLOCK_REALTIME_COARSE, CLOCK_THREAD_CPUTIME_ID, ITimerSpec, ITimerVal, NSEC_PER_SEC,
    TIMER_ABSTIME, TimeSpec, TimeVal, TimeZone, Tms, USER_HZ,
};
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::error::Restart;
use sentry_kernel::task::{CurrentTask, Task};
use sentry_kernel::time::posix::{Expiry, Notify, Setting, SignalTimer, TimeBase};
use sentry_kernel::time::{ClockKind, Instant};
use sentry_kernel::{Error, Result};
use std::sync::Arc;

use crate::rows;

rows! {
    nanosleep = 35 full;
    getitimer = 36 full;
    alarm = 37 full;
    setitimer = 38 full;
    gettimeofday = 96 full;
    times = 100 full;
    adjtimex = 159 refused "EPERM: the clock is the host's";
    settimeofday = 164 refused "EPERM: the clock is the host's";
    time = 201 full;
    timer_create = 222 full;
    timer_settime = 223 full;
    timer_gettime = 224 full;
    timer_getoverrun = 225 full;
    timer_delete = 226 full;
    clock_settime = 227 refused "EPERM: the clock is the host's";
    clock_gettime = 228 full;
    clock_getres = 229 full;
    clock_nanosleep = 230 full;
    clock_adjtime = 305 refused "EPERM: the clock is the host's";
}

/// The clocks that a program can name.
enum AnyClock {
    Wall(ClockKind),
    GroupCpu,
    TaskCpu(Arc<Task>),
}

impl AnyClock {
    fn from_id(task: &CurrentTask, id: i32) -> Result<Self> {
        match id {
            CLOCK_PROCESS_CPUTIME_ID => Ok(Self::GroupCpu),
            CLOCK_THREAD_CPUTIME_ID => Ok(Self::TaskCpu(task.task().clone())),
            id if id < 0 => Self::of_other(task, id),
            id => ClockKind::from_id(id).map(Self::Wall),
        }
    }

    /// clock_getcpuclockid(3): the complement of the id in the upper bits; bit 2 says thread, bits 0 and 1 what is counted.
    fn of_other(task: &CurrentTask, id: i32) -> Result<Self> {
        let target = !(id >> 3);
        if id & 3 == 3 {
            return Err(Errno::EINVAL.into());
        }
        let tid = u32::try_from(target).map_err(|_| Errno::EINVAL)?;
        let found = if tid == 0 {
            task.task().clone()
        } else {
            task.pids().task(tid).ok_or(Errno::EINVAL)?
        };
        if found.pid() != task.pid() {
            // Another process's time: only as a whole.
            let leader_only = id & 4 == 0 && found.is_leader();
            return if leader_only { Ok(Self::TaskCpu(found)) } else { Err(Errno::EINVAL.into()) };
        }
        if id & 4 != 0 { Ok(Self::TaskCpu(found)) } else { Ok(Self::GroupCpu) }
    }

    fn now_ns(&self, task: &CurrentTask) -> i64 {
        let now = task.kernel().now();
        let cpu = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        match self {
            Self::Wall(kind) => kind.now_ns(&**task.kernel().clock()),
            Self::GroupCpu => cpu(task.thread_group().cpu_time().total_ns()),
            Self::TaskCpu(other) if other.pid() != task.pid() => {
                cpu(other.thread_group().cpu_time().total_ns())
            }
            Self::TaskCpu(other) => cpu(other.account().read(now).total_ns()),
        }
    }

    fn base(&self) -> TimeBase {
        match self {
            Self::Wall(kind) => TimeBase::Clock(*kind),
            Self::GroupCpu => TimeBase::GroupCpu,
            Self::TaskCpu(task) => TimeBase::TaskCpu(Arc::downgrade(task)),
        }
    }
}

fn clock_gettime(task: &CurrentTask, id: i32, out: UserPtr<TimeSpec>) -> Result<()> {
    let ns = AnyClock::from_id(task, id)?.now_ns(task);
    task.mm().write_obj(out, &TimeSpec::from_signed_ns(ns))
}

/// Resolution of the coarse clocks: a tick of 250 Hz, as on common kernels.
const COARSE_NS: u64 = 4_000_000;

fn clock_getres(task: &CurrentTask, id: i32, out: UserPtr<TimeSpec>) -> Result<()> {
    AnyClock::from_id(task, id)?;
    let ns = match id {
        CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => COARSE_NS,
        _ => 1,
    };
    match out.non_null() {
        Some(out) => task.mm().write_obj(out, &TimeSpec::from_ns(ns)),
        None => Ok(()),
    }
}

fn refuse_setting(task: &CurrentTask) -> Result<()> {
    task.kernel().unsupported("setting the clock");
    Err(Errno::EPERM.into())
}

fn clock_settime(task: &CurrentTask, id: i32, _new: UserPtr<TimeSpec>) -> Result<()> {
    AnyClock::from_id(task, id)?;
    // No other clock can be set by anybody.
    if id != CLOCK_REALTIME {
        return Err(Errno::EINVAL.into());
    }
    refuse_setting(task)
}

fn clock_adjtime(task: &CurrentTask, _id: i32, _buf: u64) -> Result<()> {
    refuse_setting(task)
}

fn adjtimex(task: &CurrentTask, _buf: u64) -> Result<()> {
    refuse_setting(task)
}

fn settimeofday(task: &CurrentTask, _tv: u64, _tz: u64) -> Result<()> {
    refuse_setting(task)
}

fn gettimeofday(task: &CurrentTask, tv: UserPtr<TimeVal>, tz: UserPtr<TimeZone>) -> Result<()> {
    if let Some(tv) = tv.non_null() {
        let ns = u64::try_from(task.kernel().clock().realtime_ns()).unwrap_or(0);
        task.mm().write_obj(tv, &TimeVal::from_ns(ns))?;
    }
    match tz.non_null() {
        Some(tz) => task.mm().write_obj(tz, &TimeZone::default()),
        None => Ok(()),
    }
}

fn time(task: &CurrentTask, out: UserPtr<i64>) -> Result<u64> {
    let seconds = task.kernel().clock().realtime_ns().div_euclid(NSEC_PER_SEC as i64);
    if let Some(out) = out.non_null() {
        task.mm().write_obj(out, &seconds)?;
    }
    Ok(seconds as u64)
}

fn times(task: &CurrentTask, out: UserPtr<Tms>) -> Result<u64> {
    let ticks = |ns: u64| ns / (NSEC_PER_SEC / USER_HZ);
    let own = task.thread_group().cpu_time();
    let children = task.thread_group().children_usage().cpu;
    if let Some(out) = out.non_null() {
        let tms = Tms {
            utime: ticks(own.user_ns),
            stime: ticks(own.system_ns),
            cutime: ticks(children.user_ns),
            cstime: ticks(children.system_ns),
        };
        task.mm().write_obj(out, &tms)?;
    }
    Ok(ticks(task.kernel().now().0))
}

fn nanosleep(
    task: &mut CurrentTask,
    request: UserPtr<TimeSpec>,
    left: UserPtr<TimeSpec>,
) -> Result<()> {
    let ns = task.mm().read_obj(request)?.to_ns()?;
    let deadline = task.kernel().now().after_ns(ns);
    sleep(task, deadline, left)
}

/// Sleeps; an interruption stores what is left and restarts only through restart_syscall.
fn sleep(task: &mut CurrentTask, deadline: Instant, left: UserPtr<TimeSpec>) -> Result<()> {
    if task.sleep_until(deadline).is_ok() {
        return Ok(());
    }
    if let Some(left) = left.non_null() {
        let ns = deadline.since_ns(task.kernel().now());
        task.mm().write_obj(left, &TimeSpec::from_ns(ns))?;
    }
    task.set_restart_block(Box::new(move |task| sleep(task, deadline, left).map(|()| 0)));
    Err(Error::interrupted(Restart::Block))
}

/// Clocks that can be read but have no timers: the raw and the coarse ones. Errors: EOPNOTSUPP.
fn can_sleep(id: i32) -> Result<()> {
    match id {
        CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => {
            Err(Errno::EOPNOTSUPP.into())
        }
        _ => Ok(()),
    }
}

fn clock_nanosleep(
    task: &mut CurrentTask,
    id: i32,
    flags: i32,
    request: UserPtr<TimeSpec>,
    left: UserPtr<TimeSpec>,
) -> Result<()> {
    can_sleep(id)?;
    let kind = match AnyClock::from_id(task, id)? {
        // The raw and the coarse clocks cannot be slept on.
        AnyClock::Wall(_) if (CLOCK_MONOTONIC_RAW..=CLOCK_MONOTONIC_COARSE).contains(&id) => {
            return Err(Errno::EOPNOTSUPP.into());
        }
        AnyClock::Wall(kind) => kind,
        // Sleeping on a CPU clock that only others drive: nobody does, and a hang would be worse than an answer.
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    let ns = task.mm().read_obj(request)?.to_ns()?;
    if flags & TIMER_ABSTIME == 0 {
        let deadline = task.kernel().now().after_ns(ns);
        return sleep(task, deadline, left);
    }
    let deadline = kind.instant_at(ns, &**task.kernel().clock());
    task.sleep_until(deadline).map_err(|_| Error::interrupted(Restart::NoHandler))
}

fn to_itimerval(setting: Setting) -> ITimerVal {
    // Rounded up, so that an armed timer never reads as 0.
    let value = TimeVal::from_ns(setting.left_ns.saturating_add(999));
    ITimerVal { interval: TimeVal::from_ns(setting.interval_ns), value }
}

fn getitimer(task: &CurrentTask, which: i32, out: UserPtr<ITimerVal>) -> Result<()> {
    let timer = task.thread_group().timers().interval(which)?;
    task.mm().write_obj(out, &to_itimerval(timer.setting()))
}

fn setitimer(
    task: &CurrentTask,
    which: i32,
    new: UserPtr<ITimerVal>,
    old: UserPtr<ITimerVal>,
) -> Result<()> {
    let timer = task.thread_group().timers().interval(which)?;
    let new = match new.non_null() {
        Some(new) => task.mm().read_obj(new)?,
        // A relic that Linux keeps: no new value means zero.
        None => ITimerVal::default(),
    };
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let expiry = if value == 0 { Expiry::Never } else { Expiry::After(value) };
    let before = timer.set(expiry, interval);
    match old.non_null() {
        Some(old) => task.mm().write_obj(old, &to_itimerval(before)),
        None => Ok(()),
    }
}

fn alarm(task: &CurrentTask, seconds: u32) -> Result<u64> {
    let timer = task.thread_group().timers().interval(sentry_abi::time::ITIMER_REAL)?;
    let expiry = match seconds {
        0 => Expiry::Never,
        seconds => Expiry::After(u64::from(seconds) * NSEC_PER_SEC),
    };
    let left = timer.set(expiry, 0).left_ns;
    // alarm(2): rounded to the nearest second, but never to 0 where one was armed.
    let rounded = (left + NSEC_PER_SEC / 2) / NSEC_PER_SEC;
    Ok(if left > 0 { rounded.max(1) } else { 0 })
}

fn timer_create(
    task: &CurrentTask,
    clock: i32,
    event: UserPtr<SigEvent>,
    out: UserPtr<i32>,
) -> Result<()> {
    let event = event.non_null().map(|p| task.mm().read_obj(p)).transpose()?;
    let base = AnyClock::from_id(task, clock)?.base();
    can_sleep(clock)?;
    let notify = event.as_ref().map(Notify::from_sigevent).transpose()?;
    if let Some(Notify::Task { tid, .. }) = notify {
        let target = task.pids().task(tid).filter(|t| t.pid() == task.pid());
        target.ok_or(Errno::EINVAL)?;
    }
    let timers = task.thread_group().timers();
    // Without a sigevent: SIGALRM with the timer's id as value (timer_create(2)).
    let default = |id: i32| Notify::Group {
        signal: sentry_abi::signal::Signal::SIGALRM,
        value: id as u32 as u64,
    };
    let id = timers.create(base, |id| notify.unwrap_or(default(id)))?;
    task.mm().write_obj(out, &id).inspect_err(|_| _ = timers.delete(id))
}

fn posix_timer(task: &CurrentTask, id: i32) -> Result<Arc<SignalTimer>> {
    task.thread_group().timers().posix(id)
}

fn to_itimerspec(setting: Setting) -> ITimerSpec {
    let value = TimeSpec::from_ns(setting.left_ns);
    ITimerSpec { interval: TimeSpec::from_ns(setting.interval_ns), value }
}

fn timer_settime(
    task: &CurrentTask,
    id: i32,
    flags: i32,
    new: UserPtr<ITimerSpec>,
    old: UserPtr<ITimerSpec>,
) -> Result<()> {
    let new = task.mm().read_obj(new)?;
    let (value, interval) = (new.value.to_ns()?, new.interval.to_ns()?);
    let timer = posix_timer(task, id)?;
    let expiry = match value {
        0 => Expiry::Never,
        ns if flags & TIMER_ABSTIME != 0 => Expiry::At(ns),
        ns => Expiry::After(ns),
    };
    let before = timer.set(expiry, interval);
    match old.non_null() {
        Some(old) => task.mm().write_obj(old, &to_itimerspec(before)),
        None => Ok(()),
    }
}

fn timer_gettime(task: &CurrentTask, id: i32, out: UserPtr<ITimerSpec>) -> Result<()> {
    let setting = posix_timer(task, id)?.setting();
    task.mm().write_obj(out, &to_itimerspec(setting))
}

fn timer_getoverrun(task: &CurrentTask, id: i32) -> Result<i32> {
    Ok(posix_timer(task, id)?.overrun())
}

fn timer_delete(task: &CurrentTask, id: i32) -> Result<()> {
    task.thread_group().timers().delete(id)
}

//! eventfd, timerfd, signalfd, inotify, memfd_create.

use std::sync::Arc;

use sentry_abi::inotify::{
    IN_ALL_EVENTS, IN_DONT_FOLLOW, IN_EXCL_UNLINK, IN_MASK_ADD, IN_MASK_CREATE, IN_ONESHOT,
    IN_ONLYDIR,
};
use sentry_abi::poll::{
    EFD_SEMAPHORE, MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_EXEC, MFD_NOEXEC_SEAL, TFD_TIMER_ABSTIME,
    TFD_TIMER_CANCEL_ON_SET,
};
use sentry_abi::signal::SigSet;
use sentry_abi::time::{ITimerSpec, TimeSpec};
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::file::eventfd::{EventFd, Taking};
use sentry_kernel::file::inotify::Inotify;
use sentry_kernel::file::signalfd::SignalFd;
use sentry_kernel::file::timerfd::{Counting, Setting, TimerFd};
use sentry_kernel::file::{FileDescription, OnExec, memfd};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::time::ClockKind;
use sentry_kernel::vfs::{Access, LookupFlags, MountOptions, OpenFlags, permission};

use crate::args::Fd;
use crate::common::{file, install, path_at, read_mask};
use crate::rows;

rows! {
    inotify_init = 253 full;
    inotify_add_watch = 254 full;
    inotify_rm_watch = 255 full;
    signalfd = 282 partial "after a fork, wake-ups come from the process that made it";
    timerfd_create = 283 full;
    eventfd = 284 full;
    timerfd_settime = 286 full;
    timerfd_gettime = 287 full;
    signalfd4 = 289 partial "after a fork, wake-ups come from the process that made it";
    eventfd2 = 290 full;
    inotify_init1 = 294 full;
    memfd_create = 319 partial "MFD_HUGETLB answers EINVAL";
}

/// O_CLOEXEC and O_NONBLOCK, which EFD_*, TFD_* and SFD_* flags equal. Errors: EINVAL for any other bit.
fn common_flags(flags: u32) -> Result<OpenFlags> {
    let known = OpenFlags::CLOEXEC | OpenFlags::NONBLOCK;
    match OpenFlags::from_bits(flags) {
        Some(flags) if known.contains(flags) => Ok(flags),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn install_with(task: &CurrentTask, file: Arc<FileDescription>, flags: OpenFlags) -> Result<Fd> {
    install(task, file, OnExec::from_flags(flags))
}

fn eventfd(task: &CurrentTask, initial: u32) -> Result<Fd> {
    eventfd2(task, initial, 0)
}

fn eventfd2(task: &CurrentTask, initial: u32, flags: u32) -> Result<Fd> {
    let taking = if flags & EFD_SEMAPHORE != 0 { Taking::One } else { Taking::All };
    let flags = common_flags(flags & !EFD_SEMAPHORE)?;
    install_with(task, EventFd::create(initial, taking, flags), flags)
}

fn timerfd_create(task: &CurrentTask, clock: i32, flags: u32) -> Result<Fd> {
    use sentry_abi::time::*;
    let flags = common_flags(flags)?;
    let alarm = matches!(clock, CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM);
    if !alarm && !matches!(clock, CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME) {
        return Err(Errno::EINVAL.into());
    }
    if alarm && !task.credentials().has(Capabilities::WAKE_ALARM) {
        return Err(Errno::EPERM.into());
    }
    install_with(task, TimerFd::create(task.kernel(), ClockKind::from_id(clock)?, flags), flags)
}

fn to_spec(setting: Setting) -> ITimerSpec {
    ITimerSpec {
        interval: TimeSpec::from_ns(setting.interval_ns),
        value: TimeSpec::from_ns(setting.value_ns),
    }
}

fn timerfd_settime(
    task: &CurrentTask,
    fd: Fd,
    flags: u32,
    new: UserPtr<ITimerSpec>,
    old: UserPtr<ITimerSpec>,
) -> Result<()> {
    let spec = task.mm().read_obj(new)?;
    // The clocks of a sandbox are never set, so a cancellation never comes.
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let setting = Setting { value_ns: spec.value.to_ns()?, interval_ns: spec.interval.to_ns()? };
    let file = file(task, fd)?;
    let timer = TimerFd::of(&**file.ops())?;
    let counting = match flags & TFD_TIMER_ABSTIME {
        0 => Counting::Relative,
        _ => Counting::Absolute,
    };
    let before = timer.set(setting, counting);
    match old.non_null() {
        Some(old) => task.mm().write_obj(old, &to_spec(before)),
        None => Ok(()),
    }
}

fn timerfd_gettime(task: &CurrentTask, fd: Fd, out: UserPtr<ITimerSpec>) -> Result<()> {
    let file = file(task, fd)?;
    let setting = TimerFd::of(&**file.ops())?.setting();
    task.mm().write_obj(out, &to_spec(setting))
}

fn signalfd(task: &CurrentTask, fd: Fd, mask: UserPtr<SigSet>, size: u64) -> Result<Fd> {
    signalfd4(task, fd, mask, size, 0)
}

fn signalfd4(
    task: &CurrentTask,
    fd: Fd,
    mask: UserPtr<SigSet>,
    size: u64,
    flags: u32,
) -> Result<Fd> {
    let flags = common_flags(flags)?;
    if size != size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL.into());
    }
    let mask = read_mask(task, mask, size)?.ok_or(Errno::EFAULT)?;
    if fd.0 == -1 {
        let file = SignalFd::create(task.thread_group(), mask, flags);
        return install_with(task, file, flags);
    }
    let file = file(task, fd)?;
    SignalFd::of(&**file.ops())?.set_mask(mask);
    Ok(fd)
}

fn memfd_create(task: &CurrentTask, name: UserPtr<u8>, flags: u32) -> Result<Fd> {
    let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !known != 0 || flags & (MFD_EXEC | MFD_NOEXEC_SEAL) == MFD_EXEC | MFD_NOEXEC_SEAL {
        return Err(Errno::EINVAL.into());
    }
    // memfd_create(2): 249 bytes, for the prefix "memfd:" counts.
    let name = task
        .mm()
        .read_cstring(name.addr(), 250)
        .map_err(|e| if e.is(Errno::ENAMETOOLONG) { Errno::EINVAL.into() } else { e })?;
    let (permissions, seals) = match (flags & MFD_NOEXEC_SEAL, flags & MFD_ALLOW_SEALING) {
        (0, 0) => (0o777, memfd::SEAL_SEAL),
        (0, _) => (0o777, 0),
        _ => (0o666, memfd::SEAL_EXEC),
    };
    let tmpfs = (task.container().fs_type(b"tmpfs")?.create)(&MountOptions::default())?;
    let file = memfd::create(&tmpfs, &name, permissions, seals, &task.credentials())?;
    let on_exec = if flags & MFD_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
    install(task, file, on_exec)
}

fn inotify_init(task: &CurrentTask) -> Result<Fd> {
    inotify_init1(task, 0)
}

fn inotify_init1(task: &CurrentTask, flags: u32) -> Result<Fd> {
    let flags = common_flags(flags)?;
    install_with(task, Inotify::create(flags), flags)
}

fn inotify_add_watch(task: &CurrentTask, fd: Fd, path: UserPtr<u8>, mask: u32) -> Result<i32> {
    let modes =
        IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | IN_ONESHOT;
    let both = IN_MASK_ADD | IN_MASK_CREATE;
    if mask & IN_ALL_EVENTS == 0 || mask & !(IN_ALL_EVENTS | modes) != 0 || mask & both == both {
        return Err(Errno::EINVAL.into());
    }
    let file = file(task, fd)?;
    let inotify = Inotify::of(&**file.ops())?;
    let mut how = LookupFlags::empty();
    how.set(LookupFlags::FOLLOW, mask & IN_DONT_FOLLOW == 0);
    how.set(LookupFlags::DIRECTORY, mask & IN_ONLYDIR != 0);
    let at = path_at(task, Fd::CWD, path, how)?;
    permission::check_path(&at, Access::READ, &task.credentials())?;
    inotify.watch(&at, mask)
}

fn inotify_rm_watch(task: &CurrentTask, fd: Fd, wd: i32) -> Result<()> {
    let file = file(task, fd)?;
    Inotify::of(&**file.ops())?.unwatch(wd)
}

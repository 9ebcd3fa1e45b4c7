//! epoll_create, epoll_ctl, epoll_wait and relatives.

use sentry_abi::poll::{EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EpollEvent};
use sentry_abi::signal::SigSet;
use sentry_abi::time::TimeSpec;
use sentry_abi::{Errno, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::error::Cause;
use sentry_kernel::file::OnExec;
use sentry_kernel::file::epoll::{Epoll, Interest, Ready};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::time::Instant;
use sentry_kernel::vfs::OpenFlags;
use sentry_kernel::wait::Events;

use crate::args::Fd;
use crate::common::{deadline_after, deadline_ms, file, install, read_mask, wait_on};

use crate::rows;

rows! {
    epoll_create = 213 full;
    epoll_wait = 232 full;
    epoll_ctl = 233 full;
    epoll_pwait = 281 full;
    epoll_create1 = 291 full;
    epoll_pwait2 = 441 full;
}

fn epoll_create(task: &CurrentTask, size: i32) -> Result<Fd> {
    if size <= 0 {
        return Err(Errno::EINVAL.into());
    }
    install(task, Epoll::create(), OnExec::Keep)
}

fn epoll_create1(task: &CurrentTask, flags: u32) -> Result<Fd> {
    if flags & !OpenFlags::CLOEXEC.bits() != 0 {
        return Err(Errno::EINVAL.into());
    }
    install(task, Epoll::create(), OnExec::from_flags(OpenFlags::from_bits_truncate(flags)))
}

fn epoll_ctl(
    task: &CurrentTask,
    epfd: Fd,
    operation: i32,
    fd: Fd,
    event: UserPtr<EpollEvent>,
) -> Result<()> {
    let interest = match operation {
        EPOLL_CTL_DEL => None,
        _ => {
            let event = task.mm().read_obj(event)?;
            Some(Interest::new(event.events, event.data()))
        }
    };
    let (instance, target) = (file(task, epfd)?, file(task, fd)?);
    if target.ops().wait_queue().is_none() {
        return Err(Errno::EPERM.into());
    }
    if std::sync::Arc::ptr_eq(&instance, &target) {
        return Err(Errno::EINVAL.into());
    }
    let epoll = Epoll::of(&**instance.ops())?;
    match (operation, interest) {
        (EPOLL_CTL_ADD, Some(interest)) => epoll.add(fd.0, &target, interest),
        (EPOLL_CTL_MOD, Some(interest)) => epoll.modify(fd.0, &target, interest),
        (EPOLL_CTL_DEL, _) => epoll.remove(fd.0, &target),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn wait_with(
    task: &CurrentTask,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max: i32,
    deadline: Option<Instant>,
) -> Result<usize> {
    // epoll_wait(2): at most INT_MAX / sizeof(struct epoll_event).
    let most = i32::MAX as usize / size_of::<EpollEvent>();
    let max = usize::try_from(max).ok().filter(|m| (1..=most).contains(m)).ok_or(Errno::EINVAL)?;
    let file = file(task, epfd)?;
    // Before events are taken: what cannot arrive must not be lost.
    task.mm().check_range(events.addr(), (max * size_of::<EpollEvent>()) as u64)?;
    let epoll = Epoll::of(&**file.ops())?;
    let take = || -> Result<Vec<Ready>> {
        let ready = epoll.take_ready(max.min(4096));
        if ready.is_empty() { Err(Errno::EAGAIN.into()) } else { Ok(ready) }
    };
    let ready = match take() {
        Err(e) if e.is(Errno::EAGAIN) => {
            if deadline.is_some_and(|d| d <= task.kernel().now()) {
                return Ok(0);
            }
            match wait_on(task, epoll.queue(), Events::IN, deadline, take)? {
                Some(ready) => ready,
                None => return Ok(0),
            }
        }
        result => result?,
    };
    let records: Vec<_> = ready.iter().map(|r| EpollEvent::new(r.events.bits(), r.data)).collect();
    task.mm().write_slice(events, &records)?;
    Ok(records.len())
}

/// A wait under another signal mask. epoll_wait(2) ends with EINTR whenever a signal came, never restarted.
fn masked(
    task: &CurrentTask,
    mask: Option<SigSet>,
    epfd: Fd,
    (events, max): (UserPtr<EpollEvent>, i32),
    deadline: Option<Instant>,
) -> Result<usize> {
    if let Some(mask) = mask {
        task.set_temporary_mask(mask);
    }
    wait_with(task, epfd, events, max, deadline).map_err(|e| match e.cause() {
        Cause::Interrupted(_) => Errno::EINTR.into(),
        Cause::Errno(_) => e,
    })
}

fn epoll_wait(
    task: &CurrentTask,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max: i32,
    timeout_ms: i32,
) -> Result<usize> {
    let deadline = deadline_ms(task, timeout_ms);
    masked(task, None, epfd, (events, max), deadline)
}

fn epoll_pwait(
    task: &CurrentTask,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max: i32,
    timeout_ms: i32,
    mask: UserPtr<SigSet>,
    mask_size: u64,
) -> Result<usize> {
    let deadline = deadline_ms(task, timeout_ms);
    let mask = read_mask(task, mask, mask_size)?;
    masked(task, mask, epfd, (events, max), deadline)
}

fn epoll_pwait2(
    task: &CurrentTask,
    epfd: Fd,
    events: UserPtr<EpollEvent>,
    max: i32,
    timeout: UserPtr<TimeSpec>,
    mask: UserPtr<SigSet>,
    mask_size: u64,
) -> Result<usize> {
    let deadline = deadline_after(task, timeout)?;
    let mask = read_mask(task, mask, mask_size)?;
    masked(task, mask, epfd, (events, max), deadline)
}

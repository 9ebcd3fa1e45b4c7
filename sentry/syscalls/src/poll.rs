//! poll, ppoll, select, pselect6.

use std::sync::Arc;

use sentry_abi::poll::PollFd;
use sentry_abi::signal::SigSet;
use sentry_abi::time::{TimeSpec, TimeVal};
use sentry_abi::{Errno, UserPtr, UserSlice};
use sentry_kernel::error::{Cause, Restart};
use sentry_kernel::file::FileDescription;
use sentry_kernel::task::{CurrentTask, Unblocked};
use sentry_kernel::time::Instant;
use sentry_kernel::wait::{Events, Sharing, WaitKey};
use sentry_kernel::{Error, Result};

use crate::common::{deadline_after, deadline_ms, nofile, read_mask};
use crate::rows;

rows! {
    poll = 7 full;
    select = 23 full;
    pselect6 = 270 full;
    ppoll = 271 full;
}

/// One file that is polled.
struct Entry {
    /// `None` for a descriptor that is not open.
    file: Option<Arc<FileDescription>>,
    wanted: Events,
    /// What else counts: errors and hang-ups for poll(2), nothing for select(2).
    also: Events,
    ready: Events,
}

impl Entry {
    fn look(&mut self) -> bool {
        self.ready = match &self.file {
            Some(file) => file.ops().readiness() & (self.wanted | self.also),
            None => Events::NVAL,
        };
        !self.ready.is_empty()
    }
}

/// Registrations on wait queues, ended when this goes.
struct Registered<'a> {
    on: Vec<(&'a Arc<FileDescription>, WaitKey)>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for (file, key) in &self.on {
            if let Some(queue) = file.ops().wait_queue() {
                queue.remove(*key);
            }
        }
    }
}

/// Waits until an entry is ready or the deadline has come; returns how many are ready.
fn wait_for_any(
    task: &CurrentTask,
    entries: &mut [Entry],
    deadline: Option<Instant>,
) -> Result<usize> {
    let look =
        |entries: &mut [Entry]| entries.iter_mut().filter_map(|e| e.look().then_some(())).count();
    let ready = look(entries);
    if ready > 0 || deadline.is_some_and(|d| d <= task.kernel().now()) {
        return Ok(ready);
    }
    let files: Vec<_> = entries.iter().map(|e| (e.file.clone(), e.wanted)).collect();
    let mut registered = Registered { on: Vec::with_capacity(files.len()) };
    for (file, wanted) in &files {
        if let Some(file) = file
            && let Some(queue) = file.ops().wait_queue()
        {
            let key = queue.add(*wanted, Sharing::All, task.wake_handle());
            registered.on.push((file, key));
        }
    }
    loop {
        let ready = look(entries);
        if ready > 0 {
            return Ok(ready);
        }
        match task.block(deadline) {
            Ok(()) => {}
            Err(Unblocked::TimedOut) => return Ok(look(entries)),
            Err(reason) => return Err(reason.into()),
        }
    }
}

fn poll_with(
    task: &CurrentTask,
    fds: UserPtr<PollFd>,
    count: u64,
    deadline: Option<Instant>,
) -> Result<usize> {
    if count > nofile(task) {
        return Err(Errno::EINVAL.into());
    }
    let mut polled =
        task.mm().read_slice(UserSlice::<PollFd>::new(fds.addr().0, count), count as usize)?;
    let table = task.fds();
    let asked: Vec<usize> = (0..polled.len()).filter(|i| polled[*i].fd >= 0).collect();
    let mut entries: Vec<Entry> = asked
        .iter()
        .map(|i| Entry {
            file: table.file(polled[*i].fd).ok(),
            wanted: Events::from_bits_truncate(u32::from(polled[*i].events)),
            also: Events::ALWAYS,
            ready: Events::empty(),
        })
        .collect();
    let ready = wait_for_any(task, &mut entries, deadline)?;
    for fd in &mut polled {
        fd.revents = 0;
    }
    for (i, entry) in asked.iter().zip(&entries) {
        polled[*i].revents = entry.ready.bits() as u16;
    }
    // Only revents changes: the rest may be written by another thread meanwhile, and Linux leaves it alone.
    for (i, fd) in polled.iter().enumerate() {
        let at = fds.element(i as u64)?.addr().offset(6)?;
        task.mm().write_obj(UserPtr::new(at.0), &fd.revents)?;
    }
    Ok(ready)
}

fn poll(
    task: &mut CurrentTask,
    fds: UserPtr<PollFd>,
    count: u64,
    timeout_ms: i32,
) -> Result<usize> {
    let count = u64::from(count as u32);
    let deadline = deadline_ms(task, timeout_ms);
    let ready = poll_until(task, fds, count, deadline)?;
    task.mm().check_range(fds.addr(), count * size_of::<PollFd>() as u64)?;
    Ok(ready)
}

/// poll(2) goes on by restart_syscall(2) where no handler ran, with what is left of its time-out.
fn poll_until(
    task: &mut CurrentTask,
    fds: UserPtr<PollFd>,
    count: u64,
    deadline: Option<Instant>,
) -> Result<usize> {
    match poll_with(task, fds, count, deadline) {
        Err(e) if matches!(e.cause(), Cause::Interrupted(_)) => {
            task.set_restart_block(Box::new(move |task| {
                poll_until(task, fds, count, deadline).map(|ready| ready as u64)
            }));
            Err(Error::interrupted(Restart::Block))
        }
        result => result,
    }
}

fn ppoll(
    task: &CurrentTask,
    fds: UserPtr<PollFd>,
    count: u64,
    timeout: UserPtr<TimeSpec>,
    mask: UserPtr<SigSet>,
    mask_size: u64,
) -> Result<usize> {
    let deadline = deadline_after(task, timeout)?;
    let mask = read_mask(task, mask, mask_size)?;
    let result =
        with_mask(task, mask, |task| poll_with(task, fds, u64::from(count as u32), deadline));
    store_rest(task, timeout, deadline)?;
    result
}

/// ppoll and pselect write back the time that is left, and are not restarted by a handler.
fn store_rest(
    task: &CurrentTask,
    timeout: UserPtr<TimeSpec>,
    deadline: Option<Instant>,
) -> Result<()> {
    let (Some(at), Some(deadline)) = (timeout.non_null(), deadline) else { return Ok(()) };
    let rest = TimeSpec::from_ns(deadline.since_ns(task.kernel().now()));
    // A time-out in read-only memory is no error.
    let _ = task.mm().write_obj(at, &rest);
    Ok(())
}

/// The three sets of select(2), and the events that each stands for.
struct Sets {
    at: [UserPtr<u64>; 3],
    words: [Option<Vec<u64>>; 3],
}

const READS: Events =
    Events::IN.union(Events::RDNORM).union(Events::RDBAND).union(Events::HUP).union(Events::ERR);
const WRITES: Events = Events::OUT.union(Events::WRNORM).union(Events::WRBAND).union(Events::ERR);
const EXCEPTS: Events = Events::PRI;
const MEANINGS: [Events; 3] = [READS, WRITES, EXCEPTS];

impl Sets {
    fn read(task: &CurrentTask, count: usize, at: [UserPtr<u64>; 3]) -> Result<Self> {
        let words = count.div_ceil(64);
        let mut sets = [None, None, None];
        for (set, at) in sets.iter_mut().zip(at) {
            if let Some(at) = at.non_null() {
                let slice = UserSlice::<u64>::new(at.addr().0, words as u64);
                *set = Some(task.mm().read_slice(slice, words)?);
            }
        }
        Ok(Self { at, words: sets })
    }

    fn wanted(&self, fd: usize) -> Events {
        let mut wanted = Events::empty();
        for (set, meaning) in self.words.iter().zip(MEANINGS) {
            if set.as_ref().is_some_and(|w| w[fd / 64] >> (fd % 64) & 1 == 1) {
                wanted |= meaning;
            }
        }
        wanted
    }

    /// Keeps of each set what is ready; returns the number of bits set.
    fn store(self, task: &CurrentTask, ready: &[(usize, Events)]) -> Result<usize> {
        let mut bits = 0;
        for ((set, at), meaning) in self.words.into_iter().zip(self.at).zip(MEANINGS) {
            let Some(asked) = set else { continue };
            let mut kept = vec![0u64; asked.len()];
            for (fd, events) in ready {
                let bit = 1 << (fd % 64);
                if asked[fd / 64] & bit != 0 && events.intersects(meaning) {
                    kept[fd / 64] |= bit;
                    bits += 1;
                }
            }
            task.mm().write_slice(at, &kept)?;
        }
        Ok(bits)
    }
}

fn select_with(
    task: &CurrentTask,
    count: i32,
    at: [UserPtr<u64>; 3],
    deadline: Option<Instant>,
) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    // Numbers beyond the open descriptors are not looked at, as on Linux.
    let table = task.fds();
    let highest = table.list().last().map_or(0, |fd| *fd as usize + 1);
    let count = count.min(highest.next_multiple_of(64).max(64));
    let sets = Sets::read(task, count, at)?;
    let mut numbers = Vec::new();
    let mut entries = Vec::new();
    for fd in 0..count {
        let wanted = sets.wanted(fd);
        if !wanted.is_empty() {
            numbers.push(fd);
            entries.push(Entry {
                file: Some(table.file(fd as i32)?),
                wanted,
                also: Events::empty(),
                ready: Events::empty(),
            });
        }
    }
    wait_for_any(task, &mut entries, deadline)?;
    let ready: Vec<_> = numbers.into_iter().zip(entries.iter().map(|e| e.ready)).collect();
    sets.store(task, &ready)
}

fn select(
    task: &CurrentTask,
    count: i32,
    reads: UserPtr<u64>,
    writes: UserPtr<u64>,
    excepts: UserPtr<u64>,
    timeout: UserPtr<TimeVal>,
) -> Result<usize> {
    let deadline = match timeout.non_null() {
        // select(2) takes microseconds beyond a second as Linux does: they carry over.
        Some(at) => {
            let TimeVal { sec, usec } = task.mm().read_obj(at)?;
            let carry = TimeVal {
                sec: sec.saturating_add(usec.div_euclid(1_000_000)),
                usec: usec.rem_euclid(1_000_000),
            };
            if usec < 0 {
                return Err(Errno::EINVAL.into());
            }
            Some(task.kernel().now().after_ns(carry.to_ns()?))
        }
        None => None,
    };
    let result = select_with(task, count, [reads, writes, excepts], deadline);
    if let (Some(at), Some(deadline)) = (timeout.non_null(), deadline) {
        let rest = TimeVal::from_ns(deadline.since_ns(task.kernel().now()));
        let _ = task.mm().write_obj(at, &rest);
    }
    result.map_err(no_restart)
}

/// select and ppoll end with EINTR when a handler ran, whatever its SA_RESTART.
fn no_restart(error: Error) -> Error {
    match error.cause() {
        Cause::Interrupted(_) => Error::interrupted(Restart::NoHandler),
        _ => error,
    }
}

fn pselect6(
    task: &CurrentTask,
    count: i32,
    reads: UserPtr<u64>,
    writes: UserPtr<u64>,
    excepts: UserPtr<u64>,
    timeout: UserPtr<TimeSpec>,
    mask: UserPtr<[u64; 2]>,
) -> Result<usize> {
    let deadline = deadline_after(task, timeout)?;
    // The sixth argument points at a pointer to the mask and its size.
    let mask = match mask.non_null() {
        Some(at) => {
            let [mask, size] = task.mm().read_obj(at)?;
            read_mask(task, UserPtr::new(mask), size)?
        }
        None => None,
    };
    let result =
        with_mask(task, mask, |task| select_with(task, count, [reads, writes, excepts], deadline));
    store_rest(task, timeout, deadline)?;
    result
}

/// Runs a waiting call under another signal mask, which the kernel takes back at the end of the call or when a handler was set up.
pub fn with_mask<T>(
    task: &CurrentTask,
    mask: Option<SigSet>,
    act: impl FnOnce(&CurrentTask) -> Result<T>,
) -> Result<T> {
    if let Some(mask) = mask {
        task.set_temporary_mask(mask);
    }
    act(task).map_err(no_restart)
}

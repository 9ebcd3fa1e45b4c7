//! A stub process: the host's side of an address space. Its leader executes map operations that any
//! sentry thread posts to its command page.
//!
//! Threads of the guest live in the same process, so they can write the response page: the word
//! there only says when to look. The result itself is the position of a file, which the leader sets
//! by `lseek` from a register and no guest thread can touch.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, Whence};
use parking_lot::Mutex;

use super::code::{
    CALL_SIZE, CALLS_MAX, COMMAND_CALLS, COMMAND_COUNT, COMMAND_SEQUENCE, FD_MEMORY, FD_RESULT,
};
use super::zygote::{NewStub, Slot, Zygote};
use super::{cores, futex, pidfd, signal_thread};
use crate::mem::Mapping;
use crate::{FileRange, MapOp, PlatformError, Populate, check};

/// How long a futex wait goes on before the stub's life is checked.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// What the leader writes when it is ready.
const READY: u32 = u32::MAX;

/// A call of the leader: number and six arguments.
pub(crate) type Call = [u64; 7];

/// The process and its leader.
pub(crate) struct StubProcess {
    zygote: Arc<Zygote>,
    user_range: Range<u64>,
    memory_size: u64,
    pid: Pid,
    /// `None` only while it is being dropped.
    held: Option<Held>,
    result: OwnedFd,
    /// The command page and the response page.
    pages: Arc<Mapping>,
    leader: Mutex<Leader>,
    /// Pages of the memory file that are to be freed when the process is gone.
    leftovers: Mutex<Vec<FileRange>>,
}

/// What goes back to the zygote at the end.
struct Held {
    pidfd: OwnedFd,
    slot: Slot,
}

/// What the posting threads share.
struct Leader {
    sequence: u32,
    /// The core it was last pinned to.
    core: Option<usize>,
}

impl StubProcess {
    /// Forks a stub and waits until it is ready.
    pub(crate) fn new(
        zygote: Arc<Zygote>,
        user_range: Range<u64>,
        memory_size: u64,
    ) -> Result<StubProcess, PlatformError> {
        let NewStub { pid, pidfd, slot } = zygote.fork_stub()?;
        match prepare(&zygote, &pidfd, &slot) {
            Ok(result) => Ok(StubProcess {
                zygote,
                user_range,
                memory_size,
                pid,
                pages: slot.pages.clone(),
                held: Some(Held { pidfd, slot }),
                result,
                leader: Mutex::new(Leader { sequence: 0, core: None }),
                leftovers: Mutex::default(),
            }),
            Err(error) => {
                zygote.kill(pidfd, slot, Vec::new());
                Err(error)
            }
        }
    }

    /// The process.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Executes `before` and then makes a thread, which begins at the backend's code; returns its
    /// number. `stack` is the address in the stub that `clone` takes, or 0.
    pub(crate) fn spawn_thread(
        &self,
        before: Option<Call>,
        stack: u64,
    ) -> Result<i32, PlatformError> {
        let flags = self.zygote.image().clone_flags;
        let clone = [libc::SYS_clone as u64, flags, stack, 0, 0, 0, 0];
        let calls: Vec<Call> = before.into_iter().chain([clone]).collect();
        let value = self
            .execute(&calls)?
            .map_err(|errno| PlatformError::Host { what: "clone of a stub thread", errno })?;
        let tid = value as i32;
        // The number came by way of the leader's registers; this says that it is one of its threads.
        let ours = tid > 0 && tid != self.pid();
        match signal_thread(self.pid(), tid, 0) {
            Ok(()) if ours => Ok(tid),
            _ => Err(PlatformError::StubDied),
        }
    }

    /// Maps pages of the backend's own: without the checks on what a program may map.
    pub(crate) fn map_own(&self, maps: &[Call]) -> Result<(), PlatformError> {
        let what = "mapping pages of its own in a stub";
        self.execute(maps)?.map(drop).map_err(|errno| PlatformError::Host { what, errno })
    }

    /// Kills the process, for a thread that cannot be ended in order.
    pub(crate) fn kill(&self) {
        self.held.iter().for_each(|held| pidfd::kill(&held.pidfd));
    }

    /// Frees pages of the memory file when the process, which may write them until then, is gone.
    pub(crate) fn free_at_end(&self, range: FileRange) {
        self.leftovers.lock().push(range);
    }

    /// Executes map operations, in parts of what fits in a command page.
    pub(crate) fn batch(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        check::ops(ops, &self.user_range, self.memory_size)?;
        let mut leader = self.leader.lock();
        for part in ops.chunks(CALLS_MAX) {
            let calls: Vec<Call> = part.iter().map(call_of).collect();
            if let Err(errno) = self.post(&mut leader, &calls)? {
                let addr = part.first().map_or(0, |op| call_of(op)[1]);
                return Err(PlatformError::Map { addr, errno });
            }
        }
        Ok(())
    }

    /// Has the leader execute up to [`CALLS_MAX`] calls. The inner result is that of the last one
    /// executed, which is the last of all unless it failed.
    fn execute(&self, calls: &[Call]) -> Result<Result<u32, Errno>, PlatformError> {
        self.post(&mut self.leader.lock(), calls)
    }

    fn post(
        &self,
        leader: &mut Leader,
        calls: &[Call],
    ) -> Result<Result<u32, Errno>, PlatformError> {
        debug_assert!(calls.len() <= CALLS_MAX);
        self.follow_poster(leader);
        for (index, call) in calls.iter().enumerate().take(CALLS_MAX) {
            for (word, value) in call.iter().enumerate() {
                let offset = COMMAND_CALLS + index * CALL_SIZE + word * 8;
                self.command_u64(offset).store(*value, Ordering::Relaxed);
            }
        }
        self.word(COMMAND_COUNT).store(calls.len() as u32, Ordering::Relaxed);
        leader.sequence = leader.sequence.wrapping_add(1);
        self.word(COMMAND_SEQUENCE).store(leader.sequence, Ordering::Release);
        futex::wake(self.word(COMMAND_SEQUENCE));
        self.wait_for(leader.sequence)
    }

    /// Puts the leader on the poster's core: handing over there costs a fifth of waking another.
    fn follow_poster(&self, leader: &mut Leader) {
        let Ok(core) = nix::sched::sched_getcpu() else { return };
        if leader.core != Some(core) && cores::pin_thread(self.pid(), core).is_ok() {
            leader.core = Some(core);
        }
    }

    fn wait_for(&self, sequence: u32) -> Result<Result<u32, Errno>, PlatformError> {
        let done = self.word(4096);
        let mut early = 0u32;
        loop {
            let seen = done.load(Ordering::Acquire);
            let waited = seen != sequence && !futex::wait(done, seen, CHECK_INTERVAL);
            if done.load(Ordering::Acquire) == sequence || waited {
                if let Some(result) = self.result_of(sequence)? {
                    return Ok(result);
                }
                // The guest has forged the word, or the leader needs longer than the interval.
                std::thread::yield_now();
                early = early.wrapping_add(1);
                if (waited || early.is_multiple_of(64)) && self.is_gone() {
                    return Err(PlatformError::StubDied);
                }
            }
        }
    }

    /// Whether the leader will never answer: the process is gone, or it was killed and only waits for
    /// tracers to take notice of its threads.
    pub(crate) fn is_gone(&self) -> bool {
        self.has_exited() || pidfd::is_zombie(self.pid)
    }

    /// Whether the process has ended, as far as no tracer holds it.
    pub(crate) fn has_exited(&self) -> bool {
        let gone = |held: &Held| pidfd::wait_gone(&held.pidfd, Duration::ZERO);
        self.held.as_ref().is_none_or(gone)
    }

    /// The result of a batch if it is done: bits 33..62 sequence, 32 failed, 0..31 value.
    fn result_of(&self, sequence: u32) -> Result<Option<Result<u32, Errno>>, PlatformError> {
        let position = nix::unistd::lseek(&self.result, 0, Whence::SeekCur)
            .map_err(PlatformError::host("lseek of a stub's result"))?
            as u64;
        if position >> 33 != u64::from(sequence & 0x3fff_ffff) {
            return Ok(None);
        }
        let value = position as u32;
        let failed = position >> 32 & 1 == 1;
        Ok(Some(if failed {
            Err(Errno::from_raw((value as i32).wrapping_neg()))
        } else {
            Ok(value)
        }))
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        word(&self.pages, offset)
    }

    fn command_u64(&self, offset: usize) -> &AtomicU64 {
        let offset = offset.min(4096 - 8) & !7;
        // SAFETY: the offset is 8-byte aligned inside the mapping, which lives as long as `self`;
        // the pages are only ever reached through atomics.
        unsafe { AtomicU64::from_ptr(self.pages.base().add(offset).cast()) }
    }
}

fn word(pages: &Mapping, offset: usize) -> &AtomicU32 {
    let offset = offset.min(pages.len() - 4) & !3;
    // SAFETY: the offset is 4-byte aligned inside the mapping, which lives as long as the reference;
    // the pages are only ever reached through atomics.
    unsafe { AtomicU32::from_ptr(pages.base().add(offset).cast()) }
}

/// Waits for the leader and takes its result file. No guest thread exists yet, so everything is as the
/// stub's code made it.
fn prepare(zygote: &Zygote, pidfd: &OwnedFd, slot: &Slot) -> Result<OwnedFd, PlatformError> {
    let done = word(&slot.pages, 4096);
    while done.load(Ordering::Acquire) != READY {
        let woken = futex::wait(done, 0, CHECK_INTERVAL);
        if !woken && pidfd::wait_gone(pidfd, Duration::ZERO) {
            return Err(PlatformError::StubDied);
        }
    }
    pidfd::descriptor(pidfd, FD_RESULT).map_err(|errno| match errno {
        Errno::EPERM => zygote.image().not_permitted("pidfd_getfd on our own child", errno),
        errno => PlatformError::Host { what: "pidfd_getfd on a stub", errno },
    })
}

fn call_of(op: &MapOp) -> Call {
    match *op {
        MapOp::MapFile { addr, len, file_offset, prot, populate } => {
            let populate = match populate {
                Populate::Lazy => 0,
                Populate::Now => libc::MAP_POPULATE,
            };
            map_call(addr, len, file_offset, u64::from(prot.bits()), populate)
        }
        MapOp::Unmap { addr, len } => [libc::SYS_munmap as u64, addr, len, 0, 0, 0, 0],
        MapOp::Protect { addr, len, prot } => {
            [libc::SYS_mprotect as u64, addr, len, u64::from(prot.bits()), 0, 0, 0]
        }
    }
}

/// `mmap` of the memory file in the stub; `populate` is 0 or `MAP_POPULATE`.
pub(crate) fn map_call(addr: u64, len: u64, file_offset: u64, prot: u64, populate: i32) -> Call {
    let flags = (libc::MAP_SHARED | libc::MAP_FIXED | populate) as u64;
    [libc::SYS_mmap as u64, addr, len, prot, flags, FD_MEMORY as u64, file_offset]
}

impl Drop for StubProcess {
    fn drop(&mut self) {
        if let Some(Held { pidfd, slot }) = self.held.take() {
            let pages = std::mem::take(self.leftovers.get_mut());
            self.zygote.kill(pidfd, slot, pages);
        }
    }
}

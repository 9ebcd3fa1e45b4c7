//! Stub processes made ahead of need, each with one thread that waits in its handler: a process and its
//! thread take longer to make than many programs run. A thread of the sentry makes them where there is
//! a core to spare, beginning when the second program needs one: a sandbox with one pays nothing.

use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::space::{Source, Stub};
use crate::PlatformError;

/// So many wait at most: as many as fork and exec take in the time in which one is made.
const READY_MAX: usize = 4;
/// So many are taken before any is made ahead: for the platform's own test, and for the first program.
const TAKEN_MIN: u32 = 2;
/// The filler makes calls to the host, one after the other.
const STACK_SIZE: usize = 64 * 1024;

/// The stubs that wait, and who makes them.
pub(super) struct Pool {
    shared: Arc<Shared>,
    filler: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    source: Source,
    /// Where the filler may run: its maker is pinned.
    cores: CpuSet,
    state: Mutex<State>,
    /// A stub was taken, or the end has come.
    changed: Condvar,
    /// A stub was made, or could not be.
    made: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<Stub>,
    /// How many were taken, up to [`TAKEN_MIN`].
    taken: u32,
    /// The filler makes one, and somebody waits for it.
    filling: bool,
    awaited: bool,
    /// The host gave none the last time: whoever takes one tries for himself.
    refused: bool,
    ended: bool,
}

impl Pool {
    pub(super) fn new(source: Source, cores: CpuSet) -> Pool {
        let shared = Shared {
            source,
            cores,
            state: Mutex::default(),
            changed: Condvar::new(),
            made: Condvar::new(),
        };
        Pool { shared: Arc::new(shared), filler: Mutex::default() }
    }

    /// A stub without any mapping of a program's, made now if none waits.
    pub(super) fn take(&self) -> Result<Stub, PlatformError> {
        let (ready, taken) = {
            let mut state = self.shared.state.lock();
            state.refused = false;
            let taken = state.taken;
            state.taken = (taken + 1).min(TAKEN_MIN);
            // One that was begun before is there sooner than one that is begun now.
            if !state.awaited {
                state.awaited = true;
                while state.ready.is_empty() && state.filling {
                    self.shared.made.wait(&mut state);
                }
                state.awaited = false;
            }
            (state.ready.pop(), taken)
        };
        if taken == TAKEN_MIN {
            self.fill();
        }
        match ready {
            Some(stub) if !stub.process.has_exited() => Ok(stub),
            _ => self.shared.source.make(),
        }
    }

    /// Wakes the filler, or starts it.
    fn fill(&self) {
        let mut filler = self.filler.lock();
        if filler.is_none() {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new()
                .name("stubs".to_owned())
                .stack_size(STACK_SIZE)
                .spawn(move || shared.fill());
            // Without it everything runs, more slowly.
            *filler = thread.ok();
        }
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// The filler's thread.
    fn fill(&self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.cores);
        let mut state = self.state.lock();
        while !state.ended {
            if state.ready.len() >= READY_MAX || state.refused {
                self.changed.wait(&mut state);
                continue;
            }
            state.filling = true;
            let made = MutexGuard::unlocked(&mut state, || self.source.make_with_thread());
            state.filling = false;
            self.made.notify_one();
            match made {
                Ok(stub) => state.ready.push(stub),
                Err(_) => state.refused = true,
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(filler) = self.filler.get_mut().take() {
            let _ = filler.join();
        }
    }
}

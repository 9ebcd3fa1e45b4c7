//! Stub processes made ahead of need, each with one thread that waits in its handler: a process and its
//! thread take longer to make than many programs run. A thread of the sentry makes them where there is
//! a core to spare, beginning when a second one is wanted: a sandbox with one program pays nothing.

use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};

use super::space::{Source, Stub};
use crate::PlatformError;

/// So many wait at most: as many as fork and exec take in the time in which one is made.
const READY_MAX: usize = 4;
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
}

#[derive(Default)]
struct State {
    ready: Vec<Stub>,
    /// Whether one was ever taken.
    used: bool,
    /// The host gave none the last time: whoever takes one tries for himself.
    refused: bool,
    ended: bool,
}

impl Pool {
    pub(super) fn new(source: Source, cores: CpuSet) -> Pool {
        let shared = Shared { source, cores, state: Mutex::default(), changed: Condvar::new() };
        Pool { shared: Arc::new(shared), filler: Mutex::default() }
    }

    /// A stub without any mapping of a program's, made now if none waits.
    pub(super) fn take(&self) -> Result<Stub, PlatformError> {
        let (ready, again) = {
            let mut state = self.shared.state.lock();
            state.refused = false;
            (state.ready.pop(), std::mem::replace(&mut state.used, true))
        };
        if again {
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
            drop(state);
            let made = self.source.make_with_thread();
            state = self.state.lock();
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

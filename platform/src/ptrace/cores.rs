//! Which core a context runs on: the guest's thread and the sentry thread that traces it share one,
//! because waking another core costs ten times a switch on the same one.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that the sentry may use, and how busy they are.
pub(super) struct Cores {
    cores: Vec<Core>,
}

struct Core {
    number: usize,
    /// Contexts that are bound to it.
    bound: AtomicU32,
    /// Contexts that run guest code on it now.
    running: AtomicU32,
}

/// An index in the list of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CoreIndex(usize);

impl Cores {
    /// The cores that the calling thread is allowed.
    pub(super) fn new() -> Cores {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let numbers = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true));
        let cores = numbers
            .map(|number| Core { number, bound: AtomicU32::new(0), running: AtomicU32::new(0) })
            .collect();
        Cores { cores }
    }

    /// Binds one more context to the core that has fewest, and pins both threads there.
    pub(super) fn bind(&self, stub: i32) -> Option<CoreIndex> {
        let (index, core) = self
            .cores
            .iter()
            .enumerate()
            .min_by_key(|(_, core)| core.bound.load(Ordering::Relaxed))?;
        core.bound.fetch_add(1, Ordering::Relaxed);
        self.pin(CoreIndex(index), stub);
        Some(CoreIndex(index))
    }

    /// Undoes `bind`.
    pub(super) fn unbind(&self, index: CoreIndex) {
        if let Some(core) = self.cores.get(index.0) {
            core.bound.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Pins both threads again, for a context whose stub thread is new.
    pub(super) fn pin(&self, index: CoreIndex, stub: i32) {
        if let Some(core) = self.cores.get(index.0) {
            // A core that was taken away meanwhile (cpuset) only costs speed.
            let _ = pin_thread(stub, core.number);
            let _ = pin_thread(0, core.number);
        }
    }

    /// Says that the context runs guest code now. If its core is shared with another that runs and
    /// some core runs none, returns that core.
    pub(super) fn enter(&self, index: CoreIndex) -> Option<CoreIndex> {
        let core = self.cores.get(index.0)?;
        if core.running.fetch_add(1, Ordering::Relaxed) == 0 {
            return None;
        }
        let idle = self.cores.iter().position(|core| core.running.load(Ordering::Relaxed) == 0);
        idle.map(CoreIndex)
    }

    /// Moves a context that has entered `from` to another core.
    pub(super) fn migrate(&self, from: CoreIndex, to: CoreIndex, stub: i32) {
        if let (Some(old), Some(new)) = (self.cores.get(from.0), self.cores.get(to.0)) {
            old.bound.fetch_sub(1, Ordering::Relaxed);
            new.bound.fetch_add(1, Ordering::Relaxed);
            old.running.fetch_sub(1, Ordering::Relaxed);
            new.running.fetch_add(1, Ordering::Relaxed);
            self.pin(to, stub);
        }
    }

    /// Says that the context runs guest code no more.
    pub(super) fn leave(&self, index: CoreIndex) {
        if let Some(core) = self.cores.get(index.0) {
            core.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Pins a thread (0: the calling one) to a core.
pub(super) fn pin_thread(tid: i32, core: usize) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(tid), &set)
}

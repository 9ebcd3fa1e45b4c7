//! An address space: a stub process whose other threads are the guest's, each with an area.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Shared;
use super::area::{Area, Areas};
use super::code::{AREA_SIZE, STACK};
use crate::stub::process::StubProcess;
use crate::{AddressSpace, FileRange, MapOp, PlatformError};

/// The address space of a stub process.
pub(super) struct SystrapSpace {
    pub(super) process: StubProcess,
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    areas: Areas,
    /// Those that no context has: they wait in their handlers. Nothing lets them end but the end of
    /// their process, which no call of theirs brings about.
    parked: Vec<Thread>,
}

/// A thread of the stub.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    pub(super) tid: i32,
    pub(super) area: Area,
}

/// Whether a thread has reported already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It waits in its handler.
    Waits,
    /// It was just made, and will report when its filter stands.
    Begins,
}

impl SystrapSpace {
    pub(super) fn new(shared: Arc<Shared>) -> Result<SystrapSpace, PlatformError> {
        let size = shared.memory.size();
        let process = StubProcess::new(shared.zygote.clone(), shared.user_range(), size)?;
        Ok(SystrapSpace { process, shared, threads: Mutex::default() })
    }

    /// A thread for a context.
    pub(super) fn take_thread(&self) -> Result<(Thread, Readiness), PlatformError> {
        let mut threads = self.threads.lock();
        if let Some(thread) = threads.parked.pop() {
            return Ok((thread, Readiness::Waits));
        }
        let region = self.shared.zygote.base();
        let (area, map) = threads.areas.make(&self.shared.memory, region)?;
        drop(threads);
        self.process.free_at_end(FileRange::new(area.file, AREA_SIZE));
        let tid = self.process.spawn_thread(Some(map), area.addr + STACK)?;
        Ok((Thread { tid, area }, Readiness::Begins))
    }

    /// The context does not need its thread, which waits in its handler, any more.
    pub(super) fn park_thread(&self, thread: Thread) {
        self.threads.lock().parked.push(thread);
    }
}

impl AddressSpace for SystrapSpace {
    fn batch(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        self.process.batch(ops)
    }
}

impl Drop for SystrapSpace {
    fn drop(&mut self) {
        // A thread that has forged an event may still run, and must not see pages that will soon be
        // somebody else's. Where the leader cannot answer, the process is gone.
        let user = self.shared.user_range();
        let _ =
            self.process.batch(&[MapOp::Unmap { addr: user.start, len: user.end - user.start }]);
    }
}

//! An address space: a stub process whose other threads are the guest's, each with an area.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::area::{Area, Areas};
use super::code::{AREA_SIZE, STACK};
use super::handoff::{Handoff, Waited};
use super::patch::{Patches, SLOTS_RANGE};
use super::{Shared, user_range};
use crate::stub::process::{CHECK_INTERVAL, StubProcess};
use crate::stub::signal_thread;
use crate::stub::zygote::Zygote;
use crate::{AddressSpace, CallSite, FileRange, MapOp, MemoryFile, PlatformError};

/// How many checks a new thread may take to report.
const BEGINNING_MAX: u32 = 200;

/// The address space of a stub process.
pub(super) struct SystrapSpace {
    pub(super) stub: Stub,
    pub(super) patches: Patches,
    shared: Arc<Shared>,
}

/// What stubs are made of.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) memory: Arc<MemoryFile>,
    pub(super) zygote: Arc<Zygote>,
}

/// A stub process and its threads.
pub(super) struct Stub {
    pub(super) process: StubProcess,
    source: Source,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    areas: Areas,
    /// One that was made ahead.
    fresh: Option<Thread>,
    /// Those that contexts have left: they wait. Nothing lets them end but the end of
    /// their process, which no call of theirs brings about.
    parked: Vec<Thread>,
}

/// A thread of the stub, which waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    pub(super) tid: i32,
    pub(super) area: Area,
    pub(super) stands: Stands,
}

/// Where a thread waits, which says how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// In its handler: it goes on from a frame.
    Handler,
    /// At a patched call: from its saved registers.
    Call,
}

/// Whether a thread has run for another context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    Fresh,
    Used,
}

impl Source {
    /// A stub without threads.
    pub(super) fn make(&self) -> Result<Stub, PlatformError> {
        let Self { memory, zygote } = self;
        let process = StubProcess::new(zygote.clone(), user_range(zygote), memory.size())?;
        Ok(Stub { process, source: self.clone(), threads: Mutex::default() })
    }

    /// A stub with a thread.
    pub(super) fn make_with_thread(&self) -> Result<Stub, PlatformError> {
        let stub = self.make()?;
        let fresh = stub.make_thread()?;
        stub.threads.lock().fresh = Some(fresh);
        Ok(stub)
    }
}

impl Stub {
    /// A thread for a context.
    pub(super) fn take_thread(&self) -> Result<(Thread, Past), PlatformError> {
        let mut threads = self.threads.lock();
        if let Some(thread) = threads.fresh.take() {
            return Ok((thread, Past::Fresh));
        }
        if let Some(thread) = threads.parked.pop() {
            return Ok((thread, Past::Used));
        }
        drop(threads);
        Ok((self.make_thread()?, Past::Fresh))
    }

    /// The context does not need its thread, which waits in its handler, any more.
    pub(super) fn park_thread(&self, thread: Thread) {
        self.threads.lock().parked.push(thread);
    }

    fn make_thread(&self) -> Result<Thread, PlatformError> {
        let Source { memory, zygote } = &self.source;
        let (area, map) = self.threads.lock().areas.make(memory, zygote.base())?;
        self.process.free_at_end(FileRange::new(area.file, AREA_SIZE));
        let tid = self.process.spawn_thread(Some(map), area.addr + STACK)?;
        let thread = Thread { tid, area, stands: Stands::Handler };
        // It reports when its filter stands.
        let handoff = Handoff::of(memory, &area)?;
        for _ in 0..BEGINNING_MAX {
            if handoff.wait(Duration::ZERO, CHECK_INTERVAL) == Waited::Event {
                return Ok(thread);
            }
            if !self.is_alive(&thread) {
                break;
            }
        }
        Err(PlatformError::StubDied)
    }

    /// Whether the thread may still answer.
    pub(super) fn is_alive(&self, thread: &Thread) -> bool {
        signal_thread(self.process.pid(), thread.tid, 0).is_ok() && !self.process.is_gone()
    }
}

impl SystrapSpace {
    pub(super) fn new(shared: Arc<Shared>) -> Result<SystrapSpace, PlatformError> {
        Ok(SystrapSpace { stub: shared.pool.take()?, patches: Patches::default(), shared })
    }
}

impl AddressSpace for SystrapSpace {
    fn batch(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        self.patches.batch(&self.stub.process, &self.shared, ops)
    }

    fn patch_call(&self, site: CallSite, file_offset: u64) {
        // It is as well if not.
        let _ = self.patches.patch(&self.stub.process, &self.shared, site, file_offset);
    }

    fn patch_range(&self) -> Option<Range<u64>> {
        Some(SLOTS_RANGE)
    }

    fn end_patches(&self) {
        let Range { start, end } = SLOTS_RANGE;
        // Where the leader cannot answer, the process is gone.
        let _ = self.batch(&[MapOp::Unmap { addr: start, len: end - start }]);
    }
}

impl Drop for SystrapSpace {
    fn drop(&mut self) {
        // A thread that has forged an event may still run, and must not see pages that will soon be
        // somebody else's. Where the leader cannot answer, the process is gone.
        let user = user_range(&self.stub.source.zygote);
        let all = MapOp::Unmap { addr: user.start, len: user.end - user.start };
        let _ = self.stub.process.batch(&[all]);
        self.patches.free_at_end(&self.stub.process);
    }
}

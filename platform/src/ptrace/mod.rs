//! The ptrace backend: every system call of the guest is stopped by PTRACE_SYSEMU. Small and clear;
//! the reference that faster backends are compared with.
//!
//! An address space is a stub process, forked from a zygote that has no memory but three pages; its
//! leader executes map commands, its other threads are the guest's, each traced by the sentry thread
//! that runs the task, on the same core. `docs/security.md` says what keeps the guest inside.

mod access;
mod code;
mod context;
mod space;
mod trace;

use std::ops::Range;
use std::sync::Arc;

use self::context::PtraceContext;
use self::space::PtraceSpace;
use crate::mem::MemoryOptions;
use crate::stub::cores::Cores;
use crate::stub::process::StubProcess;
use crate::stub::zygote::Zygote;
use crate::{AddressSpace, BackendOptions, Context, MemoryFile, Platform, PlatformError};

/// The lowest address that a guest can map: below, the host refuses (vm.mmap_min_addr).
const USER_LOWEST: u64 = 0x1_0000;

/// The platform object.
pub struct PtracePlatform {
    memory: Arc<MemoryFile>,
    shared: Arc<Shared>,
}

/// What contexts need of the platform.
struct Shared {
    zygote: Arc<Zygote>,
    cores: Cores,
}

/// Starts the backend. To be called before the process has other threads, so that the zygote's copy
/// of the sentry is small.
pub fn start(options: BackendOptions) -> Result<Arc<dyn Platform>, PlatformError> {
    Ok(PtracePlatform::new(options)?)
}

impl PtracePlatform {
    /// Starts the backend.
    pub fn new(options: BackendOptions) -> Result<Arc<PtracePlatform>, PlatformError> {
        let memory =
            MemoryOptions { limit_bytes: options.memory_limit_bytes, ..MemoryOptions::default() };
        let memory = Arc::new(MemoryFile::new(memory)?);
        // Every address space holds two descriptors; a host that refuses more sets the limit.
        let _ = crate::host::limits::raise_descriptor_limit();
        crate::host::signals::ignore_stops_of_children()
            .map_err(PlatformError::host("sigaction for SIGCHLD"))?;
        let zygote = Zygote::start(&memory, code::image())?;
        let shared = Arc::new(Shared { zygote, cores: Cores::new() });
        Ok(Arc::new(PtracePlatform { memory, shared }))
    }
}

impl Platform for PtracePlatform {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    fn user_range(&self) -> Range<u64> {
        USER_LOWEST..self.shared.zygote.base()
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let zygote = self.shared.zygote.clone();
        let process = StubProcess::new(zygote, self.user_range(), self.memory.size())?;
        Ok(Arc::new(PtraceSpace(process)))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(PtraceContext::new(self.shared.clone())))
    }
}

//! The systrap backend: the guest's system calls and exceptions are signals of its own thread, whose
//! handler hands them to the sentry by memory that both see. No ptrace.
//!
//! An address space is a stub process, forked from a zygote that has no memory but three pages; its
//! leader executes map commands, its other threads are the guest's. What bounds them is a seccomp
//! filter, for which every system call of the guest is a SIGSYS. `docs/platform.md` draws it, and
//! `docs/security.md` says what keeps the guest inside.

mod area;
mod call;
mod code;
mod context;
mod frame;
mod handoff;
mod patch;
mod policy;
mod pool;
mod sites;
mod space;
mod ticks;

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use self::code::{AREA_SIZE, STACK};
use self::context::SystrapContext;
use self::patch::Trampolines;
use self::policy::Patience;
use self::pool::Pool;
use self::space::{Source, SystrapSpace};
use self::ticks::Ticks;
use crate::arch::signal_frame;
use crate::mem::MemoryOptions;
use crate::stub::cores::Cores;
use crate::stub::zygote::Zygote;
use crate::{
    AddressSpace, BackendOptions, Context, MemoryError, MemoryFile, Platform, PlatformError,
};

/// The lowest address that a guest can map: below, the host refuses (vm.mmap_min_addr).
const USER_LOWEST: u64 = 0x1_0000;

/// The platform object.
pub struct SystrapPlatform {
    shared: Arc<Shared>,
}

/// What spaces and contexts need of the platform.
struct Shared {
    pool: Pool,
    memory: Arc<MemoryFile>,
    zygote: Arc<Zygote>,
    cores: Cores,
    ticks: Ticks,
    patience: Patience,
    /// Made with the first patched call site.
    trampolines: Mutex<Option<Trampolines>>,
}

/// What a guest can map, in every stub of this zygote.
fn user_range(zygote: &Zygote) -> Range<u64> {
    USER_LOWEST..zygote.base()
}

/// What a stub shows cannot be: its program has written over the pages that it shares with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Corrupted;

impl From<MemoryError> for Corrupted {
    fn from(_: MemoryError) -> Corrupted {
        Corrupted
    }
}

/// Starts the backend. To be called before the process has other threads, so that the zygote's copy
/// of the sentry is small.
pub fn start(options: BackendOptions) -> Result<Arc<dyn Platform>, PlatformError> {
    Ok(SystrapPlatform::new(options)?)
}

impl SystrapPlatform {
    /// Starts the backend.
    pub fn new(options: BackendOptions) -> Result<Arc<SystrapPlatform>, PlatformError> {
        check_host()?;
        let memory =
            MemoryOptions { limit_bytes: options.memory_limit_bytes, ..MemoryOptions::default() };
        let memory = Arc::new(MemoryFile::new(memory)?);
        // Every address space holds two descriptors; a host that refuses more sets the limit.
        let _ = crate::host::limits::raise_descriptor_limit();
        let zygote = Zygote::start(&memory, code::image())?;
        let cores = Cores::new();
        let source = Source { memory: memory.clone(), zygote: zygote.clone() };
        let shared = Arc::new(Shared {
            pool: Pool::new(source, cores.all()),
            memory,
            zygote,
            cores,
            ticks: Ticks::new(),
            patience: Patience::new(),
            trampolines: Mutex::default(),
        });
        Ok(Arc::new(SystrapPlatform { shared }))
    }
}

/// What the stubs' code needs of the processor and the host's kernel.
fn check_host() -> Result<(), PlatformError> {
    let unavailable = |reason: String, advice| {
        Err(PlatformError::Unavailable { backend: "systrap", reason, advice })
    };
    // auxvec.h.
    const AT_HWCAP2: libc::c_ulong = 26;
    const AT_MINSIGSTKSZ: libc::c_ulong = 51;
    const FSGSBASE: u64 = 1 << 1;
    // SAFETY: takes a number and reads the process's own auxiliary vector.
    let (features, frame) =
        unsafe { (libc::getauxval(AT_HWCAP2), libc::getauxval(AT_MINSIGSTKSZ)) };
    if features & FSGSBASE == 0 {
        let reason = "programs cannot set their segment bases (FSGSBASE)".to_owned();
        return unavailable(reason, "use --platform ptrace");
    }
    let needed = frame.max(signal_frame::min_stack_size() as u64);
    if needed > AREA_SIZE - STACK {
        return unavailable(
            format!("this processor's signal frames take {needed} bytes"),
            "use --platform ptrace",
        );
    }
    Ok(())
}

impl Platform for SystrapPlatform {
    fn name(&self) -> &'static str {
        "systrap"
    }

    fn memory(&self) -> &Arc<MemoryFile> {
        &self.shared.memory
    }

    fn user_range(&self) -> Range<u64> {
        user_range(&self.shared.zygote)
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(SystrapSpace::new(self.shared.clone())?))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(SystrapContext::new(self.shared.clone())))
    }
}

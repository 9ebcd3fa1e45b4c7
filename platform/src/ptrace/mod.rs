//! The ptrace backend: every system call of the guest is stopped by PTRACE_SYSEMU. Small and clear;
//! the reference that faster backends are compared with.
//!
//! An address space is a stub process, forked from a zygote that has no memory but three pages; its
//! leader executes map commands, its other threads are the guest's, each traced by the sentry thread
//! that runs the task, on the same core. `docs/security.md` says what keeps the guest inside.

mod access;
mod child;
mod context;
mod cores;
mod futex;
mod pidfd;
mod seccomp;
mod space;
mod stub;
mod trace;
mod zygote;

use std::ops::Range;
use std::sync::Arc;

use nix::errno::Errno;

use self::context::PtraceContext;
use self::cores::Cores;
use self::space::PtraceSpace;
use self::zygote::Zygote;
use crate::mem::MemoryOptions;
use crate::{
    AddressSpace, BackendOptions, Context, Event, MemoryFile, PAGE_SIZE, Platform, PlatformError,
    Populate, Prot, Registers,
};

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

/// Says whether this host lets us trace: runs one system call of a guest.
pub fn probe() -> Result<(), PlatformError> {
    let platform = start(BackendOptions::default())?;
    let code = platform.memory().allocate(PAGE_SIZE, PAGE_SIZE)?;
    // mov eax, 39; syscall
    platform.memory().write_at(code.start, &[0xb8, 39, 0, 0, 0, 0x0f, 0x05])?;
    let space = platform.new_address_space()?;
    let prot = Prot::READ | Prot::EXEC;
    space.map_file(USER_LOWEST, PAGE_SIZE, code.start, prot, Populate::Lazy)?;
    let mut context = platform.new_context()?;
    let mut regs = Registers::at_entry(USER_LOWEST, 0);
    match context.switch(&space, &mut regs)? {
        Event::Syscall if regs.nr() == 39 => Ok(()),
        event => Err(PlatformError::Unavailable {
            backend: "ptrace",
            reason: format!("a test program's getpid was seen as {event:?}"),
            advice: "this kernel's PTRACE_SYSEMU does not work; use a Linux kernel of 5.12 or newer",
        }),
    }
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
        let zygote = Zygote::start(&memory)?;
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
        Ok(Arc::new(PtraceSpace::new(zygote, self.user_range(), self.memory.size())?))
    }

    fn new_context(&self) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(PtraceContext::new(self.shared.clone())))
    }
}

/// The error for a host that forbids tracing.
fn not_permitted(what: &str, errno: Errno) -> PlatformError {
    PlatformError::Unavailable {
        backend: "ptrace",
        reason: format!("{what} was refused: {errno}"),
        advice: "allow ptrace: set kernel.yama.ptrace_scope to 0 or 1, and in a container add the \
                 capability SYS_PTRACE or a seccomp profile that allows ptrace",
    }
}

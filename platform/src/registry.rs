//! The list of backends, and how one is chosen by name.

use std::sync::Arc;

use crate::{Event, PAGE_SIZE, Platform, PlatformError, Populate, Prot, Registers};

/// What every backend needs to know at its start.
#[derive(Clone, Copy, Debug)]
pub struct BackendOptions {
    /// The most bytes of guest memory that may be allocated at a time.
    pub memory_limit_bytes: u64,
}

impl Backend {
    /// Says whether it works on this host; the error says what is missing and what to do.
    pub fn probe(&self) -> Result<(), PlatformError> {
        self_test(&(self.start)(BackendOptions::default())?)
    }
}

impl Default for BackendOptions {
    fn default() -> Self {
        BackendOptions { memory_limit_bytes: u64::MAX }
    }
}

/// A backend that runs real programs.
#[derive(Clone, Copy)]
pub struct Backend {
    /// The name as users write it.
    pub name: &'static str,
    /// One line for a listing.
    pub summary: &'static str,
    /// Starts it. To be called before the process has other threads.
    pub start: fn(BackendOptions) -> Result<Arc<dyn Platform>, PlatformError>,
}

/// All backends, the preferred one first.
pub fn all() -> &'static [Backend] {
    &[
        Backend {
            name: "systrap",
            summary: "traps system calls with a seccomp filter and hands them over in memory",
            start: crate::systrap::start,
        },
        Backend {
            name: "ptrace",
            summary: "traps system calls with PTRACE_SYSEMU: works wherever ptrace is allowed",
            start: crate::ptrace::start,
        },
    ]
}

/// Says whether a platform that was started does what it should: runs one system call of a guest, on a
/// thread of its own, since a platform may bind a thread to a core.
pub fn self_test(platform: &Arc<dyn Platform>) -> Result<(), PlatformError> {
    std::thread::scope(|scope| {
        let test = std::thread::Builder::new().spawn_scoped(scope, || run_getpid(&**platform));
        match test.map(|thread| thread.join()) {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PlatformError::StubDied),
            Err(_) => Err(PlatformError::last_os("making a thread")),
        }
    })
}

fn run_getpid(platform: &dyn Platform) -> Result<(), PlatformError> {
    let code = platform.memory().allocate(PAGE_SIZE, PAGE_SIZE)?;
    // mov eax, 39; syscall
    platform.memory().write_at(code.start, &[0xb8, 39, 0, 0, 0, 0x0f, 0x05])?;
    let space = platform.new_address_space()?;
    let at = platform.user_range().start;
    space.map_file(at, PAGE_SIZE, code.start, Prot::READ | Prot::EXEC, Populate::Lazy)?;
    let mut context = platform.new_context()?;
    let mut regs = Registers::at_entry(at, 0);
    match context.switch(&space, &mut regs)? {
        Event::Syscall if regs.nr() == 39 => Ok(()),
        event => Err(PlatformError::Unavailable {
            backend: platform.name(),
            reason: format!("a test program's getpid was seen as {event:?}"),
            advice: "use another platform, or a Linux kernel of 5.12 or newer",
        }),
    }
}

/// The backend of that name.
pub fn by_name(name: &str) -> Option<&'static Backend> {
    all().iter().find(|backend| backend.name == name)
}

//! What the backends that run programs in processes of their own share: the zygote, its stub
//! processes, their code, the filter that bounds them, and the cores they run on.
//!
//! Must not know how a backend stops a program.

pub(crate) mod code;
pub(crate) mod cores;
pub(crate) mod filter;
pub(crate) mod futex;
pub(crate) mod kick;
pub(crate) mod pidfd;
pub(crate) mod process;
pub(crate) mod usage;
pub(crate) mod zygote;

mod child;

use nix::errno::Errno;

use self::filter::Instruction;

/// What a backend adds to the stubs' code page.
pub(crate) struct Image {
    /// The backend's name, for messages.
    pub(crate) backend: &'static str,
    /// What to do where the host forbids something that the backend needs.
    pub(crate) advice: &'static str,
    /// The code at [`code::THREAD_CODE`], where a new thread of the guest begins.
    pub(crate) thread_code: &'static [u8],
    /// Offsets in the code page of a handler for the guest's signals, and of its way back.
    pub(crate) handler: Option<Handler>,
    /// The filter of a stub process, given the address of the code page.
    pub(crate) filter: fn(u64) -> Vec<Instruction>,
    /// The filter that each thread of the guest puts on top of it.
    pub(crate) thread_filter: fn(u64) -> Vec<Instruction>,
    /// The flags of `clone` for a thread of the guest.
    pub(crate) clone_flags: u64,
}

/// Offsets in the code page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handler {
    /// Where a signal goes.
    pub(crate) entry: u64,
    /// The `rt_sigreturn` behind it.
    pub(crate) restorer: u64,
}

/// The signals that a stub's thread gets: exceptions, refused system calls, and kicks.
pub(crate) const HANDLED: [i32; 7] = [
    libc::SIGSYS,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    KICK_SIGNAL,
];

/// The signal by which a running thread of the guest is stopped. The guest cannot send signals, so
/// what comes by this number is ours or a rude process's of the host.
pub(crate) const KICK_SIGNAL: i32 = libc::SIGUSR1;

/// The page of old system calls at a fixed address.
pub(crate) const VSYSCALL_PAGE: u64 = 0xffff_ffff_ff60_0000;

/// What seccomp and ptrace call a 64-bit system call (audit.h).
pub(crate) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Sends a signal to a thread of that process.
pub(crate) fn signal_thread(pid: i32, tid: i32, signo: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signo) };
    Errno::result(result).map(drop)
}

/// The calling thread's number.
pub(crate) fn own_tid() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

impl Image {
    /// The error for a host that forbids what the backend needs.
    pub(crate) fn not_permitted(&self, what: &str, errno: Errno) -> crate::PlatformError {
        crate::PlatformError::Unavailable {
            backend: self.backend,
            reason: format!("{what} was refused: {errno}"),
            advice: self.advice,
        }
    }
}

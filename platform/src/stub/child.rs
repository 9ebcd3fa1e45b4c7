//! The fork of the zygote: what runs between `fork` and the jump to the stub's code.
//!
//! The sentry may have threads (in tests it has), so the child makes only raw system calls: no
//! allocation, no locks. It first forks a helper P, which starts the zygote Z as its sibling with
//! CLONE_VM | CLONE_PARENT and exits: a process made with CLONE_VM has no rseq area, so none is left
//! registered when Z unmaps everything.

use nix::errno::Errno;

use super::code::{FD_COMMANDS, FD_MEMORY, FD_SOCKET, REGION_SIZE};
use super::{HANDLED, Handler};
use crate::PlatformError;

/// What the child needs to know; read after the fork from its copy of our memory.
pub(crate) struct ChildPlan {
    /// Where the region may be: the first that is free in the child is taken.
    pub(crate) candidates: [u64; 16],
    pub(crate) memory: i32,
    pub(crate) commands: i32,
    pub(crate) socket: i32,
    pub(crate) handler: Option<Handler>,
}

/// The kernel takes the restorer from the action (asm/signal.h).
const SA_RESTORER: i32 = 0x0400_0000;
/// Bytes of the stack that the zygote's preparation runs on.
const STACK_SIZE: usize = 64 * 1024;

/// Forks P, which starts Z and exits; reaps P.
pub(crate) fn fork_zygote(plan: &ChildPlan) -> Result<(), PlatformError> {
    let mut stack = vec![0u128; STACK_SIZE / 16];
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the child only makes raw system calls on memory that it inherits: `run_helper` neither
    // allocates nor takes locks nor returns, so other threads' state does not matter.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        0 => run_helper(plan, top),
        -1 => Err(PlatformError::last_os("fork of the zygote")),
        pid => {
            let status = wait_for(pid as i32);
            if status != 0 {
                return Err(PlatformError::StubDied);
            }
            Ok(())
        }
    }
}

fn wait_for(pid: i32) -> i32 {
    let mut status = -1;
    loop {
        // SAFETY: waits for a child of ours and writes one int of ours.
        let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
        if waited == pid || Errno::last() != Errno::EINTR {
            return status;
        }
    }
}

/// P: starts Z on its own stack in the same memory, and exits at once.
fn run_helper(plan: &ChildPlan, stack_top: *mut u128) -> ! {
    let flags = libc::CLONE_VM | libc::CLONE_PARENT | libc::SIGCHLD;
    let argument = std::ptr::from_ref(plan).cast_mut().cast();
    // SAFETY: `zygote_main` never returns and touches only the plan and raw system calls; the stack
    // is large enough and not used by P, which exits without touching memory again.
    unsafe {
        let pid = libc::clone(zygote_main, stack_top.cast(), flags, argument);
        libc::syscall(libc::SYS_exit_group, i64::from(pid < 0));
    }
    unreachable_exit()
}

/// Z: becomes harmless, keeps three descriptors, maps the region, says hello (its pid and the
/// region's address), waits for eight bytes, and jumps to the stub's code. By then P, with which it
/// shares its memory, must be gone.
extern "C" fn zygote_main(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `run_helper` passes its plan, which nobody changes while P and Z share memory.
    let plan = unsafe { &*argument.cast::<ChildPlan>() };
    if detach() && keep_descriptors(plan) {
        let base = plan.candidates.iter().copied().find(|base| map_region(*base));
        if let Some(base) = base
            && plan.handler.is_none_or(|handler| handle_signals(base, handler))
            && say_hello(base)
        {
            // SAFETY: the region is mapped with the stub's code at `base`; from here on nothing of
            // this program's memory is used, so the code may unmap it.
            unsafe {
                std::arch::asm!("jmp rax", in("rax") base, in("rdi") base, options(noreturn));
            }
        }
    }
    unreachable_exit()
}

/// Maps the code page and two scratch pages exactly there, if nothing is.
fn map_region(base: u64) -> bool {
    let (len, prot) = (REGION_SIZE as usize, libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping. The second call replaces the first page
    // of the mapping just made. A kernel that takes the address as a hint leaves a stray mapping,
    // which the stub's code removes. The offset is a whole word: the upper half of an `int` that goes by
    // the stack is anything.
    unsafe {
        let at = libc::syscall(libc::SYS_mmap, base, len, prot, flags, -1, 0i64);
        if at as u64 != base {
            return false;
        }
        let (prot, flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED | libc::MAP_FIXED);
        libc::syscall(libc::SYS_mmap, base, 4096, prot, flags, FD_COMMANDS, 0i64) as u64 == base
    }
}

/// Sends the guest's signals to the stub's code, on the alternate stack that each thread of the guest
/// will have. All are blocked there.
fn handle_signals(base: u64, handler: Handler) -> bool {
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | SA_RESTORER) as u64;
    // struct kernel_sigaction: handler, flags, restorer, mask.
    let action: [u64; 4] = [base + handler.entry, flags, base + handler.restorer, u64::MAX];
    HANDLED.into_iter().all(|signo| {
        // SAFETY: a raw system call with a pointer to a local of the kernel's layout. No such signal
        // arrives here: all are blocked.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signo, &action, 0, 8) == 0 }
    })
}

/// Tells the sentry who and where we are, and waits until it has written the code page.
fn say_hello(base: u64) -> bool {
    // SAFETY: raw system calls with pointers to locals of the sizes given.
    unsafe {
        let hello = [libc::syscall(libc::SYS_getpid) as u64, base];
        let mut go = 0u64;
        libc::syscall(libc::SYS_write, FD_SOCKET, &hello, 16) == 16
            && libc::syscall(libc::SYS_read, FD_SOCKET, &mut go, 8) == 8
    }
}

/// A session of its own without signals, privileges, core dumps and a working directory.
fn detach() -> bool {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // struct __user_cap_header_struct and data (capability.h), version 3.
    let header: [u32; 2] = [0x2008_0522, 0];
    let no_capabilities = [0u32; 6];
    // SAFETY: raw system calls with pointers to locals of sufficient size. The kernel's signal set
    // is 8 bytes.
    unsafe {
        let all_signals = u64::MAX;
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &all_signals, 0, 8);
        // struct kernel_sigaction: handler, flags, restorer, mask. Children reap themselves.
        let ignore: [u64; 4] = [libc::SIG_IGN as u64, libc::SA_NOCLDWAIT as u64, 0, 0];
        libc::syscall(libc::SYS_rt_sigaction, libc::SIGCHLD, &ignore, 0, 8);
        libc::syscall(libc::SYS_setsid);
        libc::syscall(libc::SYS_chdir, c"/".as_ptr());
        libc::syscall(libc::SYS_setrlimit, libc::RLIMIT_CORE, &no_core);
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, c"netcell-zygote".as_ptr(), 0, 0, 0);
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_capset, &header, &no_capabilities) == 0
    }
}

/// Moves the three descriptors to their places and closes all others.
fn keep_descriptors(plan: &ChildPlan) -> bool {
    let mut high = [plan.memory, plan.commands, plan.socket];
    for fd in &mut high {
        // SAFETY: duplicates a descriptor of ours; no memory is involved.
        *fd = unsafe { libc::syscall(libc::SYS_fcntl, *fd, libc::F_DUPFD, 16) } as i32;
    }
    let places = [FD_MEMORY, FD_COMMANDS, FD_SOCKET];
    let mut moved = true;
    for (fd, place) in high.into_iter().zip(places) {
        // SAFETY: as above; what was at the low number is closed in this process only.
        moved &= unsafe { libc::syscall(libc::SYS_dup3, fd, place, 0) } == i64::from(place);
    }
    // SAFETY: closes what this process has inherited and never uses.
    moved && unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) } == 0
}

/// Ends this process without running anything of the sentry's.
fn unreachable_exit() -> ! {
    loop {
        // SAFETY: exit_group does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, 1) };
    }
}

//! ptrace(2) requests on a stub thread, as typed functions. Each must be called by the thread that
//! seized it.

use nix::errno::Errno;

use crate::Registers;

const _: () =
    assert!(std::mem::size_of::<Registers>() == std::mem::size_of::<libc::user_regs_struct>());

const NT_X86_XSTATE: usize = 0x202;
const PTRACE_SYSEMU: libc::c_uint = 31;
const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const PTRACE_EVENT_STOP: i32 = 128;

/// What a wait for a stub thread found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the entry of a system call.
    Syscall,
    /// About to get a signal.
    Signal(i32),
    /// An interrupt or a group stop.
    Event,
    /// It has ended.
    Gone,
}

/// The parts of a `siginfo_t` that matter here.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignalInfo {
    pub(super) signo: i32,
    pub(super) code: i32,
    /// `si_addr`; for SIGSYS the address behind the call.
    pub(super) addr: u64,
}

/// Makes a request whose arguments are numbers.
fn request(what: libc::c_uint, tid: i32, addr: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: used only for requests that take numbers, so the kernel writes no memory of ours.
    let result = unsafe { libc::ptrace(what, tid, addr, data) };
    Errno::result(result).map(drop)
}

/// Attaches without stopping; if the sentry dies, so does the thread.
pub(super) fn seize(tid: i32) -> Result<(), Errno> {
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
    request(libc::PTRACE_SEIZE, tid, 0, options as usize)
}

/// Stops a running thread that was seized.
pub(super) fn interrupt(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Goes on until the next system call, which will not be executed, or signal. A signal that it was
/// stopped for is dropped.
pub(super) fn run_until_syscall(tid: i32) -> Result<(), Errno> {
    request(PTRACE_SYSEMU, tid, 0, 0)
}

/// Goes on with system calls executed (only the stub's own, by the seccomp filter).
pub(super) fn run_freely(tid: i32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, tid, 0, 0)
}

/// Lets every signal through to us.
pub(super) fn unblock_signals(tid: i32) -> Result<(), Errno> {
    let mut mask = 0u64;
    // SAFETY: the kernel reads 8 bytes, the size of its signal set, from a local.
    let result = unsafe { libc::ptrace(PTRACE_SETSIGMASK, tid, 8usize, &raw mut mask) };
    Errno::result(result).map(drop)
}

/// Reads the registers of a stopped thread.
pub(super) fn registers(tid: i32, regs: &mut Registers) -> Result<(), Errno> {
    // SAFETY: `Registers` has the layout and size of `user_regs_struct`, and every bit pattern of it
    // is valid.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0usize, &raw mut *regs) };
    Errno::result(result).map(drop)
}

/// Sets the registers of a stopped thread.
pub(super) fn set_registers(tid: i32, regs: &Registers) -> Result<(), Errno> {
    // SAFETY: the kernel only reads a structure of the right layout and size.
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, 0usize, &raw const *regs) };
    Errno::result(result).map(drop)
}

/// Reads the XSAVE image into the buffer; returns its size.
pub(super) fn xstate(tid: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the kernel writes at most `iov_len` bytes of a live buffer, and the new length.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid, NT_X86_XSTATE, &raw mut part) };
    Errno::result(result).map(|_| part.iov_len)
}

/// Sets the XSAVE image, which must have the whole size that `xstate` returned.
pub(super) fn set_xstate(tid: i32, image: &mut [u8]) -> Result<(), Errno> {
    let mut part = libc::iovec { iov_base: image.as_mut_ptr().cast(), iov_len: image.len() };
    // SAFETY: the kernel reads at most `iov_len` bytes of a live buffer.
    let result = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid, NT_X86_XSTATE, &raw mut part) };
    Errno::result(result).map(drop)
}

/// Why the thread stopped for a signal.
pub(super) fn signal_info(tid: i32) -> Result<SignalInfo, Errno> {
    // siginfo_t: signo, errno, code, padding, then for faults an address.
    let mut info = [0u64; 16];
    // SAFETY: the kernel writes a `siginfo_t`, which is 128 bytes, to a local of that size.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid, 0usize, &raw mut info) };
    Errno::result(result)?;
    Ok(SignalInfo { signo: info[0] as u32 as i32, code: info[1] as u32 as i32, addr: info[2] })
}

/// The audit architecture of the system call at whose entry the thread is.
pub(super) fn syscall_arch(tid: i32) -> Result<u32, Errno> {
    // struct ptrace_syscall_info: op, three bytes, arch, …: 88 bytes at most.
    let mut info = [0u32; 24];
    let size = std::mem::size_of_val(&info);
    // SAFETY: the kernel writes at most `size` bytes to a local of that size.
    let result = unsafe { libc::ptrace(PTRACE_GET_SYSCALL_INFO, tid, size, &raw mut info) };
    Errno::result(result)?;
    Ok(info[1])
}

/// Waits until the thread stops or ends.
pub(super) fn wait(tid: i32) -> Result<Stop, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one int of ours.
        let waited = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
        if waited != tid {
            match Errno::last() {
                Errno::EINTR => continue,
                errno => return Err(errno),
            }
        }
        return Ok(stop_of(status));
    }
}

fn stop_of(status: i32) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Gone;
    }
    if status >> 16 == PTRACE_EVENT_STOP {
        return Stop::Event;
    }
    match libc::WSTOPSIG(status) {
        signo if signo == libc::SIGTRAP | 0x80 => Stop::Syscall,
        signo => Stop::Signal(signo),
    }
}

/// Reads the stub's memory; returns the bytes read, which are fewer at the end of what is mapped.
pub(super) fn read_memory(tid: i32, addr: u64, buffer: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: addr as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: the kernel writes at most the length of a live buffer; the remote address is the
    // other process's and checked there.
    let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}

//! The code that runs in the zygote and in the stubs, and the layout of their only three pages. What
//! a thread of the guest does before and between its own instructions is the backend's.
//!
//! The code is position independent and uses neither a stack nor any memory but the response page:
//! all state is in registers, which threads of the guest in the same address space cannot reach.
//! It is copied to a file page and mapped R-X at an address that is random for each sandbox.

/// Bytes of the region: a page each of code (R-X), commands (R--) and responses (RW-).
pub(crate) const REGION_SIZE: u64 = 3 * 4096;
/// Where in the code page the `sock_fprog` of the seccomp filter lies, and its instructions.
pub(crate) const FILTER: usize = 0xa00;
/// The same for the filter that a thread of the guest puts on top of it.
pub(crate) const THREAD_FILTER: usize = 0xd00;
/// Where in the code page the backend's code lies; a new thread of the guest begins there, with the
/// address of the region in r12 and the stack that it was cloned with.
pub(crate) const THREAD_CODE: usize = 0x400;
/// Bytes of the backend's code at most.
pub(crate) const THREAD_CODE_MAX: usize = FILTER - THREAD_CODE;

/// Offsets in the command page: a sequence number (a futex), the number of calls, the calls.
pub(crate) const COMMAND_SEQUENCE: usize = 0;
pub(crate) const COMMAND_COUNT: usize = 4;
pub(crate) const COMMAND_CALLS: usize = 64;
/// Bytes of a call: number, six arguments, one spare word.
pub(crate) const CALL_SIZE: usize = 64;
/// Calls that fit in a command page.
pub(crate) const CALLS_MAX: usize = (4096 - COMMAND_CALLS) / CALL_SIZE;

/// File descriptors in the zygote: guest memory, command pages, the socket to the sentry.
pub(crate) const FD_MEMORY: i32 = 0;
pub(crate) const FD_COMMANDS: i32 = 1;
pub(crate) const FD_SOCKET: i32 = 2;
/// In a stub: the file whose position tells the result of a batch.
pub(crate) const FD_RESULT: i32 = 1;

/// The flags of a guest thread: it shares everything with the leader.
pub(crate) const SHARE_ALL: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64;

std::arch::global_asm!(
    r#"
    .pushsection .rodata.netcell_stub, "a", @progbits
    .balign 64
    .hidden netcell_stub_start
    .globl netcell_stub_start
netcell_stub_start:

    # The zygote. rdi: base of the region. All signals are blocked, descriptors 0, 1, 2 are set.
    mov r12, rdi
    lea r13, [r12 + 0x2000]
    xor edi, edi
    mov rsi, r12
    mov eax, 11                     # munmap everything below the region
    syscall
    test rax, rax
    jnz 90f
    lea rdi, [r12 + 0x3000]
    movabs rsi, 0x7ffffffff000
    sub rsi, rdi
    mov eax, 11                     # munmap everything above it
    syscall
    test rax, rax
    jnz 90f
    mov eax, 39                     # getpid
    syscall
    mov r14, rax
    mov [r13], rax
    mov eax, 157                    # prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program): every
    mov edi, 22                     # stub inherits it
    mov esi, 2
    lea rdx, [r12 + 0xa00]
    xor r10d, r10d
    syscall
    test rax, rax
    jnz 90f
20: # Answer: eight bytes, the pid of the new stub (or of the zygote itself at first).
    mov eax, 1                      # write
    mov edi, 2
    mov rsi, r13
    mov edx, 8
    syscall
21: # Request: eight bytes, the file offset of the stub's command and response pages.
    xor eax, eax                    # read
    mov edi, 2
    mov rsi, r13
    mov edx, 8
    syscall
    cmp rax, -4                     # EINTR
    je 21b
    cmp rax, 8
    jne 90f                         # the sentry is gone
    mov eax, 56                     # clone: fork
    mov edi, 17                     # SIGCHLD
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    syscall
    test rax, rax
    jz 30f
    mov [r13], rax
    jmp 20b

30: # A new stub. Dies with the zygote.
    mov r15, [r13]
    mov eax, 157                    # prctl(PR_SET_PDEATHSIG, SIGKILL)
    mov edi, 1
    mov esi, 9
    xor edx, edx
    xor r10d, r10d
    syscall
    mov eax, 110                    # getppid: did the zygote die before?
    syscall
    cmp rax, r14
    jne 90f
    mov eax, 9                      # mmap the command page, read only
    lea rdi, [r12 + 0x1000]
    mov esi, 4096
    mov edx, 1
    mov r10d, 0x11                  # MAP_SHARED | MAP_FIXED
    mov r8d, 1
    mov r9, r15
    syscall
    cmp rax, -4095
    jae 90f
    mov eax, 9                      # mmap the response page
    mov rdi, r13
    mov esi, 4096
    mov edx, 3
    mov r10d, 0x11
    mov r8d, 1
    lea r9, [r15 + 4096]
    syscall
    cmp rax, -4095
    jae 90f
    mov eax, 3                      # close the command file and the socket
    mov edi, 1
    syscall
    mov eax, 3
    mov edi, 2
    syscall
    mov eax, 319                    # memfd_create: becomes descriptor 1
    lea rdi, [rip + 99f]
    mov esi, 1
    syscall
    cmp rax, 1
    jne 90f
    mov eax, 462                    # mseal the region; old kernels have none
    mov rdi, r12
    mov esi, 0x3000
    xor edx, edx
    syscall
    mov eax, 157                    # prctl(PR_SET_NAME): from here on it may hold program code
    mov edi, 15
    lea rsi, [rip + 98f]
    xor edx, edx
    xor r10d, r10d
    syscall
    lea rbx, [r12 + 0x1000]
    xor r14d, r14d                  # the last sequence number that was done
    mov dword ptr [r13], 0xffffffff # ready
    jmp 46f

    .hidden netcell_stub_leader
    .globl netcell_stub_leader
netcell_stub_leader:
40: # Wait for a batch.
    mov eax, [rbx]
    cmp eax, r14d
    jne 41f
    mov eax, 202                    # futex(commands, FUTEX_WAIT, last)
    mov rdi, rbx
    xor esi, esi
    mov edx, r14d
    xor r10d, r10d
    syscall
    jmp 40b
41: # Run it. Stops at the first call that fails.
    mov r14d, eax
    mov r15d, [rbx + 4]
    lea rbp, [rbx + 64]
    xor eax, eax
42: test r15d, r15d
    jz 44f
    mov rax, [rbp]
    mov rdi, [rbp + 8]
    mov rsi, [rbp + 16]
    mov rdx, [rbp + 24]
    mov r10, [rbp + 32]
    mov r8, [rbp + 40]
    mov r9, [rbp + 48]
    cmp rax, 56
    je 47f
    syscall
43: cmp rax, -4095
    jae 44f
    add rbp, 64
    dec r15d
    jmp 42b
44: # The result goes where no thread of the guest can write: the position of a file.
    # bits 33..62 sequence, 32 failed, 0..31 the last call's result.
    mov esi, r14d
    and esi, 0x3fffffff
    shl rsi, 33
    mov edx, eax
    or rsi, rdx
    cmp rax, -4095
    jb 45f
    bts rsi, 32
45: mov eax, 8                      # lseek(result, value, SEEK_SET)
    mov edi, 1
    xor edx, edx
    syscall
    mov [r13], r14d
46: mov eax, 202                    # futex(responses, FUTEX_WAKE, 1)
    mov rdi, r13
    mov esi, 1
    mov edx, 1
    xor r10d, r10d
    syscall
    jmp 40b

47: syscall                         # clone
    test rax, rax
    jnz 43b
    # A new thread of the guest. Only the place tells it: the page may hold other commands by now.
    lea rax, [r12 + 0x400]
    jmp rax

90: mov eax, 231                    # exit_group(1)
    mov edi, 1
    syscall
    ud2
98: .asciz "netcell-stub"
99: .asciz "netcell-result"

    .hidden netcell_stub_end
    .globl netcell_stub_end
netcell_stub_end:
    .popsection
"#
);

unsafe extern "C" {
    static netcell_stub_start: u8;
    static netcell_stub_leader: u8;
    static netcell_stub_end: u8;
}

/// Offset in the code page of what a leader runs; before it is what makes stubs.
pub(crate) fn leader_offset() -> u64 {
    (&raw const netcell_stub_leader as u64).wrapping_sub(&raw const netcell_stub_start as u64)
}

/// The machine code; its entry is its first byte.
pub(crate) fn code() -> &'static [u8] {
    // SAFETY: both symbols delimit one read-only section that the assembler block above defines.
    unsafe { between(&raw const netcell_stub_start, &raw const netcell_stub_end) }
}

/// The bytes between two symbols.
///
/// # Safety
/// Both must lie in one section that is never written, the first one before the second.
pub(crate) unsafe fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: the caller guarantees readable memory without end.
    unsafe { std::slice::from_raw_parts(start, (end as usize).saturating_sub(start as usize)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_ends_before_the_backends() {
        assert!(code().len() <= THREAD_CODE, "{} bytes", code().len());
    }

    #[test]
    fn a_new_thread_goes_to_its_code_without_a_look_at_memory() {
        // lea rax, [r12 + THREAD_CODE]; jmp rax
        let go = [0x49, 0x8d, 0x84, 0x24, 0, 4, 0, 0, 0xff, 0xe0];
        let code = code();
        let at = code.windows(go.len()).position(|bytes| bytes == go).expect("the way to it");
        // syscall; test rax, rax; jnz (near or short)
        let near = &code[at - 11..at - 4];
        let short = &code[at - 7..at - 1];
        let told = [0x0f, 0x05, 0x48, 0x85, 0xc0];
        assert!(
            near[..5] == told && near[5..] == [0x0f, 0x85]
                || short[..5] == told && short[5] == 0x75
        );
    }
}

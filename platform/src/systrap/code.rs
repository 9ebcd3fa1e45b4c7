//! What this backend adds to the stubs' code: how a thread of the guest begins, and the signal
//! handler in which it stands whenever it does not run the guest's own instructions.
//!
//! The handler uses no stack but the frame that the kernel has put there. All its memory is the area
//! of its thread, which it finds by the stack pointer; every thread of the guest can write that, so
//! nothing in it decides about more than the guest itself.

use std::ops::Range;

use crate::stub::code::{SHARE_ALL, THREAD_CODE, between};
use crate::stub::filter::{self, Instruction, Site};
use crate::stub::zygote::REGION_AND_MORE;
use crate::stub::{Handler, Image};

/// Bytes of a thread's area, to which it is aligned from the region's start: a page that it shares
/// with the sentry, and its signal stack, which the sentry sees, too.
pub(super) const AREA_SIZE: u64 = 0x4000;
/// Offset in the area of its signal stack, which ends with the area.
pub(super) const STACK: u64 = 0x1000;

/// Offsets in the area: the cache line that the sentry writes. Whose turn it is.
pub(super) const TURN: u64 = 0;
/// How many ticks of the time stamp counter the thread may spin before it sleeps.
pub(super) const SPIN_TICKS: u64 = 0x08;
/// Segment bases to go on with, and the stack pointer for `rt_sigreturn`.
pub(super) const TO_FS_BASE: u64 = 0x10;
pub(super) const TO_GS_BASE: u64 = 0x18;
pub(super) const TO_FRAME: u64 = 0x20;
/// The cache line that the thread writes: whether something has happened, and where the frame is.
pub(super) const EVENT: u64 = 0x40;
pub(super) const FROM_FRAME: u64 = 0x48;
pub(super) const FROM_FS_BASE: u64 = 0x50;
pub(super) const FROM_GS_BASE: u64 = 0x58;
/// How many ticks the thread has spun, in all.
pub(super) const SPUN_TICKS: u64 = 0x60;
/// The `stack_t` that the thread begins with.
pub(super) const ALT_STACK: u64 = 0x100;

/// Values of [`TURN`] and [`EVENT`]: nothing yet, and the side that waits spins; the same, and it
/// sleeps; go on, or something has happened.
pub(super) const IDLE: u32 = 0;
pub(super) const SLEEPS: u32 = 1;
pub(super) const GO: u32 = 2;

std::arch::global_asm!(
    r#"
    .pushsection .rodata.netcell_systrap, "a", @progbits
    .balign 64
    .hidden netcell_systrap_start
    .globl netcell_systrap_start
netcell_systrap_start:

    # A new thread, all signals blocked, with rsp in its area and the region's address in r12.
    mov rbx, rsp
    and rbx, -0x4000
    mov eax, 131                    # sigaltstack
    lea rdi, [rbx + 0x100]
    xor esi, esi
    syscall
    mov eax, 157                    # prctl(PR_SET_SYSCALL_USER_DISPATCH, ON, region, 4096, 0): calls
    mov edi, 59                     # from elsewhere are signals before the host looks at their
    mov esi, 1                      # numbers. Old kernels have none, and the filter does it alone.
    mov rdx, r12
    mov r10d, 4096
    xor r8d, r8d
    syscall
    mov eax, 157                    # prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)
    mov edi, 22
    mov esi, 2
    lea rdx, [r12 + 0xd00]
    xor r10d, r10d
    syscall
    test rax, rax
    jz 20f
    mov eax, 231                    # exit_group(1): never a thread without its filter
    mov edi, 1
    syscall
    ud2

    # The handler: rsp is the frame.
    .hidden netcell_systrap_handler
    .globl netcell_systrap_handler
netcell_systrap_handler:
    mov rbx, rsp
    and rbx, -0x4000
    mov [rbx + 0x48], rsp
    rdfsbase rax
    mov [rbx + 0x50], rax
    rdgsbase rax
    mov [rbx + 0x58], rax

20: # Something has happened.
    mov eax, 2
    xchg [rbx + 0x40], eax
    cmp eax, 1
    jne 30f
    mov eax, 202                    # futex(event, FUTEX_WAKE, 1): the sentry sleeps
    lea rdi, [rbx + 0x40]
    mov esi, 1
    mov edx, 1
    syscall
    .hidden netcell_systrap_wake
    .globl netcell_systrap_wake
netcell_systrap_wake:

30: # Wait for our turn: spin, then sleep.
    mov eax, [rbx]
    cmp eax, 2
    jae 40f
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov r13, rax                    # since when
31: mov eax, [rbx]
    cmp eax, 2
    jae 39f
    pause
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, r13
    cmp rax, [rbx + 0x08]
    jb 31b
    add [rbx + 0x60], rax
    xor eax, eax
    mov ecx, 1
    lock cmpxchg [rbx], ecx
    jmp 33f
32: mov eax, 202                    # futex(turn, FUTEX_WAIT, 1)
    mov rdi, rbx
    xor esi, esi
    mov edx, 1
    xor r10d, r10d
    syscall
    .hidden netcell_systrap_wait
    .globl netcell_systrap_wait
netcell_systrap_wait:
33: mov eax, [rbx]
    cmp eax, 2
    jb 32b
    jmp 40f
39: rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, r13
    add [rbx + 0x60], rax
    mov eax, [rbx]
40: mov dword ptr [rbx], 0
    mov rax, [rbx + 0x10]
    wrfsbase rax
    mov rax, [rbx + 0x18]
    wrgsbase rax
    mov rsp, [rbx + 0x20]

    .hidden netcell_systrap_restorer
    .globl netcell_systrap_restorer
netcell_systrap_restorer:
    mov eax, 15                     # rt_sigreturn
    syscall
    .hidden netcell_systrap_return
    .globl netcell_systrap_return
netcell_systrap_return:
    ud2

    .hidden netcell_systrap_end
    .globl netcell_systrap_end
netcell_systrap_end:
    .popsection
"#
);

unsafe extern "C" {
    static netcell_systrap_start: u8;
    static netcell_systrap_handler: u8;
    static netcell_systrap_wake: u8;
    static netcell_systrap_wait: u8;
    static netcell_systrap_restorer: u8;
    static netcell_systrap_return: u8;
    static netcell_systrap_end: u8;
}

/// The addresses that areas lie at, given the region's.
pub(super) fn areas(region: u64) -> Range<u64> {
    region + AREA_SIZE..region + REGION_AND_MORE / 2
}

/// Where the kernel's frames return to, given the region's address.
pub(super) fn restorer(region: u64) -> u64 {
    region + offset(&raw const netcell_systrap_restorer)
}

/// What the zygote is started with.
pub(super) fn image() -> &'static Image {
    static IMAGE: std::sync::OnceLock<Image> = std::sync::OnceLock::new();
    IMAGE.get_or_init(|| Image {
        backend: "systrap",
        advice: "use --platform ptrace, or allow seccomp and pidfd_getfd",
        // SAFETY: both symbols delimit one read-only section that the assembler block above defines.
        thread_code: unsafe {
            between(&raw const netcell_systrap_start, &raw const netcell_systrap_end)
        },
        handler: Some(Handler {
            entry: offset(&raw const netcell_systrap_handler),
            restorer: offset(&raw const netcell_systrap_restorer),
        }),
        filter: process_filter,
        thread_filter,
        clone_flags: SHARE_ALL,
    })
}

fn process_filter(page: u64) -> Vec<Instruction> {
    filter::process(page, SHARE_ALL, &[libc::SYS_sigaltstack, libc::SYS_rt_sigreturn])
}

/// What is left to a thread of the guest, whose program can jump to each of these instructions with
/// registers of its choice: to wait and wake on the words of areas, and to set its own registers.
fn thread_filter(page: u64) -> Vec<Instruction> {
    let futex = |behind, operation: i32| Site {
        behind: offset(behind),
        nr: libc::SYS_futex,
        argument: Some((1, operation as u32)),
    };
    let sites = [
        Site {
            behind: offset(&raw const netcell_systrap_return),
            nr: libc::SYS_rt_sigreturn,
            argument: None,
        },
        futex(&raw const netcell_systrap_wait, libc::FUTEX_WAIT),
        futex(&raw const netcell_systrap_wake, libc::FUTEX_WAKE),
    ];
    filter::thread(page, &sites, libc::SYS_futex, areas(page))
}

/// Where a symbol of the block above lies in the code page.
fn offset(symbol: *const u8) -> u64 {
    let start = &raw const netcell_systrap_start as u64;
    THREAD_CODE as u64 + (symbol as u64).wrapping_sub(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::code::{THREAD_CODE_MAX, THREAD_FILTER};

    #[test]
    fn code_and_filters_fit_in_the_page() {
        assert!(image().thread_code.len() <= THREAD_CODE_MAX);
        let page = 0x7f00_0000_0000;
        let filter = filter::to_bytes(&process_filter(page)).len();
        assert!(crate::stub::code::FILTER + 16 + filter <= THREAD_FILTER, "{filter}");
        let filter = filter::to_bytes(&thread_filter(page)).len();
        assert!(THREAD_FILTER + 16 + filter <= 4096, "{filter}");
    }

    #[test]
    fn every_site_is_behind_a_syscall_instruction() {
        let code = image().thread_code;
        for symbol in [
            &raw const netcell_systrap_wake,
            &raw const netcell_systrap_wait,
            &raw const netcell_systrap_return,
        ] {
            let behind = offset(symbol) as usize - THREAD_CODE;
            assert_eq!(&code[behind - 2..behind], &[0x0f, 0x05]);
        }
    }
}

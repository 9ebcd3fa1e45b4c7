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
/// The components of the FPU images that are saved and loaded.
pub(super) const TO_COMPONENTS: u64 = 0x28;
/// The cache line that the thread writes: whether something has happened, and where the frame is.
pub(super) const EVENT: u64 = 0x40;
pub(super) const FROM_FRAME: u64 = 0x48;
pub(super) const FROM_FS_BASE: u64 = 0x50;
pub(super) const FROM_GS_BASE: u64 = 0x58;
/// How many ticks the thread has spun, in all. (Behind it is the handler's word that somebody's signal has met the
/// thread between a patched call and its turn.)
pub(super) const SPUN_TICKS: u64 = 0x60;
/// The `stack_t` that the thread begins with.
pub(super) const ALT_STACK: u64 = 0x100;
/// The registers at a patched call, and those to go on with behind it: see `call.rs`.
pub(super) const SAVED: u64 = 0x140;
/// Where an FPU image is saved to and loaded from, and its size at most.
pub(super) const FPU: u64 = 0x400;
pub(super) const FPU_MAX: usize = 0xc00;

/// Values of [`TURN`] and [`EVENT`]: nothing yet, and the side that waits spins; the same, and it
/// sleeps; go on, or something has happened.
pub(super) const IDLE: u32 = 0;
pub(super) const SLEEPS: u32 = 1;
pub(super) const GO: u32 = 2;
/// More values of [`TURN`], for a thread at a patched call: go on with the registers in [`SAVED`]; load the
/// image at [`FPU`] first; save one there.
pub(super) const GO_ON: u32 = 3;
pub(super) const GO_ON_WITH_FPU: u32 = 4;
pub(super) const SAVE_FPU: u32 = 5;
/// The same as [`GO_ON`] where segment bases are as they were and the registers as behind a `syscall`: rcx has the
/// instruction pointer.
pub(super) const GO_BACK: u32 = 6;

/// What [`FROM_FRAME`] says where it is no address: the number of a patched call's site, below this; the image is
/// saved; the thread was kicked before it went on.
pub(super) const SITES_MAX: u64 = 1024;
pub(super) const FPU_SAVED: u64 = 0x1_0000;
pub(super) const WAS_KICKED: u64 = 0x1_0001;

/// Where the sites' trampolines lie, from the region's start, and bytes of each: see `patch.rs`.
pub(super) const SITES: u64 = REGION_AND_MORE / 2;
pub(super) const SITE_SIZE: u64 = 16;

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
    mov rax, [rsp + 176]            # the interrupted rip
    lea rcx, [rip + netcell_systrap_resume]
    cmp rax, rcx
    jae 9f
    lea rcx, [rip + netcell_systrap_call]
    cmp rax, rcx
    jae 10f
9:  lea rcx, [rip + netcell_systrap_start - 0x400 + 0x20000000]
    sub rax, rcx
    cmp rax, 0x4000
    jae 11f
10: # Between a patched call and its turn. What somebody has sent (si_code) can wait until then.
    cmp dword ptr [rsp + 320], 0
    jg 11f
    mov dword ptr [rbx + 0x68], 1
    add rsp, 8
    jmp netcell_systrap_restorer
11: mov [rbx + 0x48], rsp
    rdfsbase rax
    mov [rbx + 0x50], rax
    rdgsbase rax
    mov [rbx + 0x58], rax
    jmp 20f

    # A patched call, from its trampoline, which has put its number in the upper half of r11d. As
    # `syscall` does, it leaves all registers but rax, rcx and r11, and below rsp there may be a red
    # zone. The thread's area is the base of gs, where the program has none of its own.
    .hidden netcell_systrap_call
    .globl netcell_systrap_call
netcell_systrap_call:
    lahf
    seto al
    movzx eax, ax
    or eax, r11d                    # number, flags, overflow
    lea r11, [rip + netcell_systrap_start - 0x400 + 0x4000]
    rdgsbase rcx
    sub rcx, r11
    cmp rcx, 0x20000000 - 0x4000
    jae 19f
    test ecx, 0x3fff
    jnz 19f
    add rcx, r11
    mov [rcx + 0x140], r8
    mov [rcx + 0x148], r9
    mov [rcx + 0x150], r10
    mov [rcx + 0x160], r12
    mov [rcx + 0x168], r13
    mov [rcx + 0x170], r14
    mov [rcx + 0x178], r15
    mov [rcx + 0x180], rdi
    mov [rcx + 0x188], rsi
    mov [rcx + 0x190], rbp
    mov [rcx + 0x198], rbx
    mov [rcx + 0x1a0], rdx
    mov [rcx + 0x1d0], rsp
    mov rbx, rcx
    mov edx, eax
    shr edx, 16
    mov [rbx + 0x48], rdx
    rdfsbase rdx
    mov [rbx + 0x50], rdx
    lea rsp, [rbx + 0x1d0]
    add al, 127                     # OF
    sahf
    pushfq
    test byte ptr [rbx + 0x1c9], 0x40
    jz 20f
    push 2                          # NT, with which iretq is an error
    popfq
    jmp 20f
19: # There is no area: out by a trap, all as it was, and the number in r11d.
    mov r11d, eax
    shr r11d, 16
    add al, 127
    sahf
    .hidden netcell_systrap_out
    .globl netcell_systrap_out
netcell_systrap_out:
    ud2

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
    cmp eax, 2
    je 45f
    mov r14d, eax
    mov eax, [rbx + 0x28]           # the components of FPU images
    mov edx, [rbx + 0x2c]
    cmp r14d, 5
    jne netcell_systrap_resume
    xsave64 [rbx + 0x400]
    mov qword ptr [rbx + 0x48], 0x10000
    jmp 20b

    # Go on behind a patched call. From the look at the word on, the handler does not set it.
    .hidden netcell_systrap_resume
    .globl netcell_systrap_resume
netcell_systrap_resume:
    xor ecx, ecx
    xchg [rbx + 0x68], ecx
    test ecx, ecx
    jnz 44f
    cmp r14d, 6
    je 43f
    cmp r14d, 4
    jne 42f
    xrstor64 [rbx + 0x400]
42: mov rax, [rbx + 0x10]
    wrfsbase rax
    mov rax, [rbx + 0x18]
    wrgsbase rax
    cmp r14d, 6                     # no instruction below changes what this says
43: lea rsp, [rbx + 0x1b8]
    mov r8, [rbx + 0x140]
    mov r9, [rbx + 0x148]
    mov r10, [rbx + 0x150]
    mov r11, [rbx + 0x158]
    mov r12, [rbx + 0x160]
    mov r13, [rbx + 0x168]
    mov r14, [rbx + 0x170]
    mov r15, [rbx + 0x178]
    mov rdi, [rbx + 0x180]
    mov rsi, [rbx + 0x188]
    mov rbp, [rbx + 0x190]
    mov rdx, [rbx + 0x1a0]
    mov rax, [rbx + 0x1a8]
    mov rcx, [rbx + 0x1b0]
    mov rbx, [rbx + 0x198]
    je 46f
    iretq
46: lea rsp, [rsp + 0x10]           # the flags, and the stack pointer behind them
    popfq
    pop rsp
    jmp rcx
44: mov qword ptr [rbx + 0x48], 0x10001
    jmp 20b

    # Go on from a frame.
    .hidden netcell_systrap_resumed
    .globl netcell_systrap_resumed
netcell_systrap_resumed:
45: mov rax, [rbx + 0x10]
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
    static netcell_systrap_call: u8;
    static netcell_systrap_out: u8;
    static netcell_systrap_resume: u8;
    static netcell_systrap_resumed: u8;
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

/// Places in the stubs' code where a signal can meet a thread at a patched call, given the region's address.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Where trampolines go on.
    pub(super) call: u64,
    /// The instruction by which a call that cannot be handed over leaves.
    pub(super) out: u64,
    /// The way back, from which a thread that is stopped has its registers in [`SAVED`].
    pub(super) resume: Range<u64>,
    /// The trampolines.
    pub(super) sites: Range<u64>,
}

impl Places {
    pub(super) fn of(region: u64) -> Places {
        let at = |symbol| region + offset(symbol);
        let sites = region + SITES;
        Places {
            call: at(&raw const netcell_systrap_call),
            out: at(&raw const netcell_systrap_out),
            resume: at(&raw const netcell_systrap_resume)..at(&raw const netcell_systrap_resumed),
            sites: sites..sites + SITES_MAX * SITE_SIZE,
        }
    }
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

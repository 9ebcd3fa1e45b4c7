//! What this backend adds to the stubs' code: a new thread waits to be seized, and a finished one
//! ends itself.

use crate::stub::Image;
use crate::stub::code::{SHARE_ALL, THREAD_CODE, between};
use crate::stub::filter;

std::arch::global_asm!(
    r#"
    .pushsection .rodata.netcell_ptrace, "a", @progbits
    .balign 64
    .hidden netcell_ptrace_start
    .globl netcell_ptrace_start
netcell_ptrace_start:
60: # A new thread waits to be seized; it never comes back here.
    mov eax, 34                     # pause
    syscall
    jmp 60b

    .hidden netcell_ptrace_exit
    .globl netcell_ptrace_exit
netcell_ptrace_exit:
    mov eax, 60                     # exit(0): the tracer sends finished threads here
    xor edi, edi
    syscall
    ud2

    .hidden netcell_ptrace_end
    .globl netcell_ptrace_end
netcell_ptrace_end:
    .popsection
"#
);

unsafe extern "C" {
    static netcell_ptrace_start: u8;
    static netcell_ptrace_exit: u8;
    static netcell_ptrace_end: u8;
}

/// What the zygote is started with.
pub(super) fn image() -> &'static Image {
    static IMAGE: std::sync::OnceLock<Image> = std::sync::OnceLock::new();
    IMAGE.get_or_init(|| Image {
        backend: "ptrace",
        advice: "allow ptrace: set kernel.yama.ptrace_scope to 0 or 1, and in a container add the \
                 capability SYS_PTRACE or a seccomp profile that allows ptrace",
        // SAFETY: both symbols delimit one read-only section that the assembler block above defines.
        thread_code: unsafe {
            between(&raw const netcell_ptrace_start, &raw const netcell_ptrace_end)
        },
        handler: None,
        filter: |page| filter::process(page, SHARE_ALL, &[libc::SYS_pause, libc::SYS_exit]),
        // Threads are stopped at each call before the host sees it; none has a filter of its own.
        thread_filter: |_| Vec::new(),
        clone_flags: SHARE_ALL,
    })
}

/// Offset in the code page of the instructions that end a guest thread.
pub(super) fn exit_offset() -> u64 {
    let start = &raw const netcell_ptrace_start as u64;
    THREAD_CODE as u64 + (&raw const netcell_ptrace_exit as u64).wrapping_sub(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_thread_exits() {
        let at = exit_offset() as usize - THREAD_CODE;
        assert_eq!(&image().thread_code[at..][..5], &[0xb8, 60, 0, 0, 0]);
    }
}

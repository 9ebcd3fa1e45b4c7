//! The machine code of the vDSO: position independent, but it finds its parameters two pages before
//! its own first byte (the parameter page, then the page of ELF headers, then the code).

/// Where the code lies in the image.
pub const CODE_OFFSET: u64 = 0x1000;

/// Offsets in the parameter page. A reader takes the sequence (odd: being written), the other
/// words, and the sequence again.
pub(super) mod params {
    pub(in crate::vdso) const SEQUENCE: u64 = 0;
    /// 1: the other words are good.
    pub(in crate::vdso) const USABLE: u64 = 4;
    pub(in crate::vdso) const TSC_BASE: u64 = 8;
    /// Nanoseconds for each tick, times 2^32.
    pub(in crate::vdso) const SCALE: u64 = 16;
    /// The clocks at `TSC_BASE` in nanoseconds.
    pub(in crate::vdso) const MONOTONIC: u64 = 32;
    pub(in crate::vdso) const REALTIME: u64 = 40;
    /// 1: getcpu may read the processor's own number.
    pub(in crate::vdso) const HOST_CPU: u64 = 56;
}

std::arch::global_asm!(
    r#"
    .pushsection .rodata.netcell_vdso, "a", @progbits
    .balign 64
    .hidden netcell_vdso_start
    .globl netcell_vdso_start
netcell_vdso_start:

    # clock_gettime(edi: clock, rsi: struct timespec *)
    .hidden netcell_vdso_clock_gettime
    .globl netcell_vdso_clock_gettime
netcell_vdso_clock_gettime:
    cmp edi, 7
    ja 22f
    mov eax, 0xf3                   # all but the CPU-time clocks
    bt eax, edi
    jnc 22f
    mov r8d, 32
    mov eax, 0x21                   # REALTIME and REALTIME_COARSE; a sandbox never sleeps, so the
    bt eax, edi                     # others (RAW, BOOTTIME, coarse) are all the monotonic clock
    jnc 21f
    mov r8d, 40
21: call 90f
    jc 22f
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rsi], rax
    mov [rsi + 8], rdx
    xor eax, eax
    ret
22: mov eax, 228
    syscall
    ret

    # gettimeofday(rdi: struct timeval *, rsi: struct timezone *)
    .balign 16
    .hidden netcell_vdso_gettimeofday
    .globl netcell_vdso_gettimeofday
netcell_vdso_gettimeofday:
    test rsi, rsi
    jnz 32f
    test rdi, rdi
    jz 31f
    mov r8d, 40
    call 90f
    jc 32f
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rdi], rax
    mov eax, edx                    # nanoseconds, below 2^30
    xor edx, edx
    mov ecx, 1000
    div ecx
    mov [rdi + 8], rax
31: xor eax, eax
    ret
32: mov eax, 96
    syscall
    ret

    # time(rdi: time_t *)
    .balign 16
    .hidden netcell_vdso_time
    .globl netcell_vdso_time
netcell_vdso_time:
    mov r8d, 40
    call 90f
    jc 42f
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    test rdi, rdi
    jz 41f
    mov [rdi], rax
41: ret
42: mov eax, 201
    syscall
    ret

    # getcpu(rdi: unsigned *cpu, rsi: unsigned *node, rdx: unused)
    .balign 16
    .hidden netcell_vdso_getcpu
    .globl netcell_vdso_getcpu
netcell_vdso_getcpu:
    cmp dword ptr [rip + netcell_vdso_start - 0x2000 + 56], 1
    jne 53f
    mov eax, 0x7b                   # Linux keeps node and number in this segment's limit
    lsl eax, eax
    jnz 53f
    test rdi, rdi
    jz 51f
    mov ecx, eax
    and ecx, 0xfff
    mov [rdi], ecx
51: test rsi, rsi
    jz 52f
    shr eax, 12
    mov [rsi], eax
52: xor eax, eax
    ret
53: mov eax, 309
    syscall
    ret

    # clock_getres(edi: clock, rsi: struct timespec *)
    .balign 16
    .hidden netcell_vdso_clock_getres
    .globl netcell_vdso_clock_getres
netcell_vdso_clock_getres:
    mov eax, 229
    syscall
    ret

    # In: r8 the offset of a clock's base. Out: rax its nanoseconds, or carry if a system call is
    # needed: also while the parameters are being written, so that nobody spins here. Keeps rdi, rsi.
    .balign 16
90: lea r9, [rip + netcell_vdso_start - 0x2000]
91: mov r10d, [r9]
    test r10d, 1
    jnz 93f
    cmp dword ptr [r9 + 4], 1
    jne 93f
    lfence
    rdtsc
    lfence
    shl rdx, 32
    or rax, rdx
    sub rax, [r9 + 8]
    jae 92f
    xor eax, eax
92: mul qword ptr [r9 + 16]
    shrd rax, rdx, 32
    add rax, [r9 + r8]
    cmp r10d, [r9]
    jne 91b
    clc
    ret
93: stc
    ret

    .hidden netcell_vdso_end
    .globl netcell_vdso_end
netcell_vdso_end:
    .popsection
"#
);

unsafe extern "C" {
    static netcell_vdso_start: u8;
    static netcell_vdso_clock_gettime: u8;
    static netcell_vdso_gettimeofday: u8;
    static netcell_vdso_time: u8;
    static netcell_vdso_getcpu: u8;
    static netcell_vdso_clock_getres: u8;
    static netcell_vdso_end: u8;
}

/// A function of the vDSO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The name without the prefix `__vdso_`; both are exported, as on Linux.
    pub name: &'static str,
    /// Offset in [`code`].
    pub offset: u64,
    /// Bytes up to the next function.
    pub size: u64,
}

/// The machine code.
pub fn code() -> &'static [u8] {
    let start = &raw const netcell_vdso_start;
    let len = (&raw const netcell_vdso_end as usize).saturating_sub(start as usize);
    // SAFETY: both symbols delimit one read-only section that the assembler block above defines.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The functions, by address.
pub fn functions() -> [Function; 5] {
    let start = &raw const netcell_vdso_start as u64;
    let entries = [
        ("clock_gettime", &raw const netcell_vdso_clock_gettime),
        ("gettimeofday", &raw const netcell_vdso_gettimeofday),
        ("time", &raw const netcell_vdso_time),
        ("getcpu", &raw const netcell_vdso_getcpu),
        ("clock_getres", &raw const netcell_vdso_clock_getres),
    ];
    let mut end = &raw const netcell_vdso_end as u64;
    let mut functions = entries.map(|(name, at)| Function {
        name,
        offset: (at as u64).wrapping_sub(start),
        size: 0,
    });
    for function in functions.iter_mut().rev() {
        let at = start.wrapping_add(function.offset);
        function.size = end.saturating_sub(at);
        end = at;
    }
    functions
}

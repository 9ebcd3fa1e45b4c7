//! System calls and exceptions come back as the right events, with the right registers.

use std::sync::Arc;

use platform::{Access, Event, HostSignal, PAGE_SIZE, Platform, Registers};

use crate::fixture::{CODE, DATA, DATA_LEN, Guest, LOOP, SYSCALL, mov_eax, program};

crate::platform_tests!(
    syscalls_carry_arguments_and_results,
    all_registers_survive_a_syscall,
    segment_bases_are_the_guests,
    faults_tell_address_and_access,
    a_page_that_is_not_executable_faults_at_the_fetch,
    exceptions_are_signals,
    single_steps_are_traps,
    thirty_two_bit_entries_are_told_apart,
    x32_numbers_come_through,
    every_number_is_a_call_and_none_is_executed,
    vsyscall_calls_are_faults,
    the_guest_cannot_use_the_stubs_own_code,
    unaligned_calls_in_a_row_do_not_leak_host_state,
);

fn syscalls_carry_arguments_and_results(platform: Arc<dyn Platform>) {
    // mov eax, 39; syscall; mov edi, eax; mov eax, 60; syscall
    let code = program(&[&mov_eax(39), &SYSCALL, &[0x89, 0xc7], &mov_eax(60), &SYSCALL]);
    let mut guest = Guest::new(platform, &code);
    guest.expect_syscall(39);
    assert_eq!(guest.regs.rip, CODE + 7);
    guest.regs.set_result(1234);
    guest.expect_syscall(60);
    assert_eq!(guest.regs.args()[0], 1234);
}

fn all_registers_survive_a_syscall(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &program(&[&SYSCALL, &SYSCALL]));
    let set = Registers {
        rax: 500,
        rbx: 2,
        rdx: 4,
        rsi: 5,
        rdi: 6,
        rbp: 7,
        r8: 8,
        r9: 9,
        r10: 10,
        r12: 12,
        r13: 13,
        r14: 14,
        r15: 15,
        ..guest.regs
    };
    guest.regs = set;
    guest.expect_syscall(500);
    let seen = guest.regs;
    // The instruction itself changes rcx and r11.
    let expected = Registers {
        rax: seen.rax,
        rcx: CODE + 2,
        r11: seen.eflags,
        orig_rax: 500,
        rip: CODE + 2,
        ..set
    };
    assert_eq!(Registers { eflags: set.eflags, ..seen }, Registers { r11: seen.r11, ..expected });
    // The kernel may change every register, also those that `syscall` clobbers.
    guest.regs.rcx = 77;
    guest.regs.r11 = 78;
    guest.regs.rax = 501;
    guest.regs.r15 = u64::MAX;
    guest.expect_syscall(501);
    assert_eq!((guest.regs.rip, guest.regs.r15), (CODE + 4, u64::MAX));
}

fn segment_bases_are_the_guests(platform: Arc<dyn Platform>) {
    // mov rax, fs:[0]; add rax, gs:[8]; syscall
    let code = program(&[
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],
        &[0x65, 0x48, 0x03, 0x04, 0x25, 8, 0, 0, 0],
        &SYSCALL,
    ]);
    let mut guest = Guest::new(platform, &code);
    guest.set_word(0, 600);
    guest.set_word(0x108, 7);
    guest.regs.fs_base = DATA;
    guest.regs.gs_base = DATA + 0x100;
    guest.expect_syscall(607);
    assert_eq!((guest.regs.fs_base, guest.regs.gs_base), (DATA, DATA + 0x100));
}

fn faults_tell_address_and_access(platform: Arc<dyn Platform>) {
    // mov [rbx], rax; mov rax, [rbx]; syscall
    let code = program(&[&[0x48, 0x89, 0x03], &[0x48, 0x8b, 0x03], &SYSCALL]);
    let mut guest = Guest::new(platform, &code);
    let hole = DATA + DATA_LEN + 0x1238;
    guest.regs.rbx = hole;
    let write = Event::Fault { addr: hole, access: Access::Write, error_code: 6 };
    assert_eq!(guest.run(), write);
    assert_eq!(guest.regs.rip, CODE, "at the instruction");
    assert_eq!(guest.run(), write, "an unresolved fault comes again");
    guest.regs.rip += 3;
    assert_eq!(guest.run(), Event::Fault { addr: hole, access: Access::Read, error_code: 4 });
    // A write to the read-only code page.
    guest.regs.rip = CODE;
    guest.regs.rbx = CODE + 16;
    let protected = Event::Fault { addr: CODE + 16, access: Access::Write, error_code: 7 };
    assert_eq!(guest.run(), protected);
    // Resolved: it goes on.
    guest.regs.rbx = DATA + 8;
    guest.regs.rax = 321;
    guest.expect_syscall(321);
    assert_eq!(guest.word(8), 321);
}

fn a_page_that_is_not_executable_faults_at_the_fetch(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &SYSCALL);
    for target in [DATA, DATA + DATA_LEN] {
        guest.regs.rip = target;
        match guest.run() {
            Event::Fault { addr, access: Access::Execute, error_code } => {
                assert_eq!((addr, error_code & 16), (target, 16));
            }
            event => panic!("{event:?}"),
        }
    }
}

fn exceptions_are_signals(platform: Arc<dyn Platform>) {
    let cases: [(&str, &[u8], i32, u32); 4] = [
        ("ud2", &[0x0f, 0x0b], libc::SIGILL, 6),
        ("xor ecx, ecx; div ecx", &[0x31, 0xc9, 0xf7, 0xf1], libc::SIGFPE, 0),
        ("int3", &[0xcc], libc::SIGTRAP, 3),
        ("hlt", &[0xf4], libc::SIGSEGV, 13),
    ];
    for (name, code, signo, trapno) in cases {
        let mut guest = Guest::new(platform.clone(), code);
        match guest.run() {
            Event::Signal(HostSignal { signo: seen, trapno: vector, .. }) => {
                assert_eq!((seen, vector), (signo, trapno), "{name}");
            }
            event => panic!("{name}: {event:?}"),
        }
        // The context still works.
        guest.platform.memory().write_at(guest.code.start, &SYSCALL).unwrap();
        guest.regs = Registers { rax: 5, ..Registers::at_entry(CODE, 0) };
        guest.expect_syscall(5);
    }
}

fn single_steps_are_traps(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &program(&[&[0x90, 0x90], &SYSCALL]));
    guest.regs.eflags |= platform::arch::registers::FLAG_TRAP;
    for step in 1..=2 {
        assert!(matches!(guest.run(), Event::Signal(HostSignal { signo: libc::SIGTRAP, .. })));
        assert_eq!(guest.regs.rip, CODE + step);
    }
    guest.regs.eflags &= !platform::arch::registers::FLAG_TRAP;
    guest.regs.rax = 9;
    guest.expect_syscall(9);
}

fn thirty_two_bit_entries_are_told_apart(platform: Arc<dyn Platform>) {
    // mov eax, 20; int 0x80; mov eax, 39; syscall
    let code = program(&[&mov_eax(20), &[0xcd, 0x80], &mov_eax(39), &SYSCALL]);
    let mut guest = Guest::new(platform, &code);
    match guest.run() {
        Event::CompatSyscall => guest.regs.set_result(-38),
        // A host without 32-bit support.
        Event::Signal(HostSignal { signo: libc::SIGSEGV, .. }) => guest.regs.rip += 2,
        event => panic!("{event:?}"),
    }
    guest.expect_syscall(39);
}

fn x32_numbers_come_through(platform: Arc<dyn Platform>) {
    let mut guest = Guest::new(platform, &program(&[&mov_eax(0x4000_0001), &SYSCALL, &SYSCALL]));
    guest.expect_syscall(0x4000_0001);
    guest.regs.set_result(-38);
    guest.regs.rax = u64::MAX;
    guest.expect_syscall(u64::MAX);
}

fn every_number_is_a_call_and_none_is_executed(platform: Arc<dyn Platform>) {
    // 1: syscall; jmp 1b
    let mut guest = Guest::new(platform, &program(&[&SYSCALL, &[0xeb, 0xfc]]));
    for number in 0..600u64 {
        guest.regs = Registers { rax: number, rdi: number, ..guest.regs };
        assert_eq!(guest.run(), Event::Syscall, "{number}");
        assert_eq!(guest.regs.nr(), number);
        assert_eq!((guest.regs.rip, guest.regs.rdi), (CODE + 2, number));
    }
}

fn vsyscall_calls_are_faults(platform: Arc<dyn Platform>) {
    // mov rbx, 0xffffffffff600000; call rbx; syscall
    let code = program(&[&[0x48, 0xc7, 0xc3, 0x00, 0x00, 0x60, 0xff], &[0xff, 0xd3], &SYSCALL]);
    let mut guest = Guest::new(platform, &code);
    match guest.run() {
        Event::Fault { addr: 0xffff_ffff_ff60_0000, access: Access::Execute, .. } => {}
        event => panic!("{event:?}"),
    }
    assert_eq!(guest.regs.rip, 0xffff_ffff_ff60_0000);
    assert_eq!(guest.regs.rsp, DATA + DATA_LEN - 8);
    assert_eq!(guest.word(DATA_LEN - 8), CODE + 9, "the return address is on the stack");
    // The kernel emulates it: returns to the caller.
    guest.regs.rip = CODE + 9;
    guest.regs.rsp += 8;
    guest.regs.rax = 10;
    guest.expect_syscall(10);
}

fn the_guest_cannot_use_the_stubs_own_code(platform: Arc<dyn Platform>) {
    let region = platform.user_range().end;
    let mut guest = Guest::new(platform, &LOOP);
    let mut data = [0u8; 2];
    // Find every syscall instruction that the guest could reach there by reading it as a program
    // would: mov rax, [rbx]; syscall.
    let read = program(&[&[0x48, 0x8b, 0x03], &SYSCALL]);
    guest.platform.memory().write_at(guest.code.start, &read).unwrap();
    let mut found = 0;
    for offset in 0..0xbf8 {
        guest.regs = Registers { rbx: region + offset, ..Registers::at_entry(CODE, 0) };
        match guest.run() {
            Event::Syscall => data.copy_from_slice(&guest.regs.nr().to_le_bytes()[..2]),
            // A platform that hides its code altogether is fine.
            Event::Fault { .. } => return,
            event => panic!("{event:?}"),
        }
        if data == SYSCALL {
            found += 1;
            calls_are_stopped_at(&mut guest, region + offset);
        }
    }
    assert!(found > 0);
}

/// Jumps to a `syscall` instruction of the stub's own with every number: none is executed, with the
/// exception of a return from a signal where that is the instruction for it, which finds no frame.
fn calls_are_stopped_at(guest: &mut Guest, instruction: u64) {
    const RT_SIGRETURN: u64 = 15;
    let everything = [(0, 1), (u64::MAX, u64::MAX), (DATA, PAGE_SIZE)];
    for number in (0..480).chain([1 << 30, 1 << 30 | 59, u64::MAX]) {
        // The host lets these two through any filter. They are its own, and do nothing elsewhere.
        if [335, 336].contains(&number) {
            continue;
        }
        for (first, second) in everything {
            let arguments = Registers {
                rdi: first,
                rsi: second,
                rdx: second,
                r10: first,
                ..Registers::default()
            };
            guest.regs = Registers { rax: number, rip: instruction, rsp: 64, ..arguments };
            match guest.run() {
                Event::Syscall => assert_eq!(guest.regs.nr(), number),
                Event::Signal(HostSignal { signo: libc::SIGSEGV, .. })
                    if number == RT_SIGRETURN =>
                {
                    continue;
                }
                event => panic!("{number} at {instruction:#x}: {event:?}"),
            }
            assert_eq!(guest.regs.rip, instruction + 2, "stopped, not executed");
        }
    }
}

fn unaligned_calls_in_a_row_do_not_leak_host_state(platform: Arc<dyn Platform>) {
    // At the first instruction every register is what the kernel said: nothing of the stub is seen.
    let mut guest = Guest::new(platform.clone(), &SYSCALL);
    guest.regs = Registers { rax: 1, ..Registers::at_entry(CODE, 0x1230) };
    guest.expect_syscall(1);
    let clean =
        Registers { rcx: 0, r11: 0, rip: 0, rax: 0, orig_rax: 0, rsp: 0, eflags: 0, ..guest.regs };
    let zero = Registers { cs: 0x33, ss: 0x2b, eflags: 0, orig_rax: 0, ..Registers::default() };
    assert_eq!(clean, zero);
    assert!(platform.user_range().contains(&CODE));
}

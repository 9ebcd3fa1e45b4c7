//! What a program can do with the one call that systrap leaves to it, `rt_sigreturn` with a frame of its own making: it may lose
//! its process, and nobody else anything.

use platform::arch::signal_frame::{self, AltStack, FrameInput};
use platform::{Event, FileRange, FpuState, PAGE_SIZE, PlatformError, Registers};

use crate::fixture::{CODE, DATA, DATA_LEN, Guest, SYSCALL, program};

/// One that the kernel refuses as too small, without an end to the return: the old one stays.
const NO_STACK_BUT_KEPT: AltStack = AltStack { sp: 0, flags: 0, size: 1 };
/// `SS_DISABLE`
const NO_STACK: AltStack = AltStack { sp: 0, flags: 2, size: 0 };
/// Where a loop that counts stands in the program.
const AT_LOOP: u64 = CODE + 4;

/// A program that has read the stub's code, and the address of `mov eax, 15; syscall` there.
fn with_its_return() -> (Guest, u64) {
    let platform = crate::fixture::start("systrap");
    let region = platform.user_range().end;
    // rep movsb; syscall; 1: inc qword ptr [rbx]; jmp 1b
    let count = [0x48, 0xff, 0x03, 0xeb, 0xfb];
    let mut guest = Guest::new(platform, &program(&[&[0xf3, 0xa4], &SYSCALL, &count]));
    guest.regs = Registers { rsi: region, rdi: DATA, rcx: PAGE_SIZE, ..guest.regs };
    assert_eq!(guest.run(), Event::Syscall);
    let mut page = vec![0; PAGE_SIZE as usize];
    guest.platform.memory().read_at(guest.data.start, &mut page).unwrap();
    let wanted = program(&[&[0xb8, 15, 0, 0, 0], &SYSCALL]);
    let at = page.windows(wanted.len()).position(|bytes| bytes == wanted).expect("a return");
    (guest, region + at as u64)
}

/// Goes on at `rip` by a return from a signal that never was.
fn return_to(guest: &mut Guest, instruction: u64, rip: u64, mask: u64, alt_stack: AltStack) {
    let regs = Registers { rip, rsp: DATA + DATA_LEN, rbx: DATA, ..guest.regs };
    let frame = signal_frame::build(&FrameInput {
        stack_top: DATA + DATA_LEN,
        signo: 0,
        handler: 0,
        restorer: 0,
        regs: &regs,
        fpu: &FpuState::initial(),
        info: &[0; signal_frame::SIGINFO_SIZE],
        mask,
        alt_stack,
        trap: signal_frame::Trap::default(),
    });
    let frame = frame.unwrap();
    let memory = guest.platform.memory();
    memory.write_at(guest.data.start + (frame.addr - DATA), &frame.bytes).unwrap();
    guest.regs = Registers { rip: instruction, rsp: frame.addr + 8, ..Registers::default() };
}

/// Other programs, and the context in another space, go on.
fn others_go_on(mut guest: Guest) {
    let mut other = Guest::new(guest.platform.clone(), &SYSCALL);
    other.regs.rax = 7;
    other.expect_syscall(7);
    guest.space = other.space.clone();
    guest.regs = Registers { rax: 8, ..Registers::at_entry(CODE, 0) };
    guest.expect_syscall(8);
}

#[test]
fn a_return_of_its_own_making_sets_registers_and_nothing_else() {
    let (mut guest, instruction) = with_its_return();
    guest.regs.rax = 99;
    return_to(&mut guest, instruction, CODE + 2, 0, NO_STACK_BUT_KEPT);
    guest.expect_syscall(99);
}

#[test]
fn a_thread_that_has_blocked_the_kick_is_ended_with_its_process() {
    let (mut guest, instruction) = with_its_return();
    return_to(&mut guest, instruction, AT_LOOP, u64::MAX, NO_STACK_BUT_KEPT);
    guest.set_word(0, 0);
    let (kick, memory) = (guest.context.kick_handle(), guest.platform.memory().clone());
    let count = guest.data.start;
    let run = std::thread::spawn(move || {
        let result = guest.context.switch(&guest.space, &mut guest.regs);
        assert!(matches!(result, Err(PlatformError::StubCorrupted)), "{result:?}");
        assert_eq!(guest.run(), Event::Interrupted, "a kick is not lost");
        others_go_on(guest);
    });
    let mut word = [0; 8];
    while word == [0; 8] && !run.is_finished() {
        std::thread::yield_now();
        memory.read_at(count, &mut word).unwrap();
    }
    kick.kick();
    run.join().unwrap();
}

#[test]
fn a_fault_with_all_signals_blocked_ends_its_process() {
    let (mut guest, instruction) = with_its_return();
    return_to(&mut guest, instruction, 0x1000, u64::MAX, NO_STACK_BUT_KEPT);
    let result = guest.context.switch(&guest.space, &mut guest.regs);
    assert!(matches!(result, Err(PlatformError::StubDied)), "{result:?}");
    others_go_on(guest);
}

#[test]
fn a_handler_on_a_stack_of_the_programs_ends_its_process() {
    let elsewhere = AltStack { sp: DATA, flags: 0, size: DATA_LEN };
    for stack in [elsewhere, NO_STACK] {
        let (mut guest, instruction) = with_its_return();
        // What the handler takes for its area says: sleep until your turn.
        let data = guest.data;
        guest.platform.memory().zero(FileRange::new(data.start, PAGE_SIZE)).unwrap();
        return_to(&mut guest, instruction, CODE + 2, 0, stack);
        let result = guest.context.switch(&guest.space, &mut guest.regs);
        let lost = matches!(result, Err(PlatformError::StubDied | PlatformError::StubCorrupted));
        assert!(lost, "{stack:?}: {result:?}");
        others_go_on(guest);
    }
}

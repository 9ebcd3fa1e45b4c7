//! Tests of the signal frame: what is built parses back, and what a program forges stays harmless.

use super::*;

fn sample() -> Registers {
    Registers {
        r8: 8,
        r15: 15,
        rdi: 100,
        rsi: 101,
        rbp: 102,
        rbx: 103,
        rdx: 104,
        rax: 105,
        rcx: 106,
        r11: 11,
        rip: 0x40_1000,
        rsp: 0x7fff_0000_1238,
        eflags: 0x202 | 0x40 | FLAG_DIRECTION,
        fs_base: 0x7000,
        ..Registers::default()
    }
}

fn frame_of(regs: &Registers, fpu: &FpuState) -> SignalFrame {
    let mut info = [0; SIGINFO_SIZE];
    info[0] = 10;
    build(&FrameInput {
        stack_top: regs.rsp - RED_ZONE,
        signo: 10,
        handler: 0x40_2000,
        restorer: 0x40_3000,
        regs,
        fpu,
        info: &info,
        mask: 0x55,
        alt_stack: AltStack { sp: 0x9000, flags: 2, size: 8192 },
        trap: Trap { err: 6, trapno: 14, cr2: 0xdead },
    })
    .unwrap()
}

fn head_of(frame: &SignalFrame) -> [u8; FRAME_SIZE] {
    frame.bytes[..FRAME_SIZE].try_into().unwrap()
}

#[test]
fn the_handler_starts_with_the_abi_registers_below_the_red_zone() {
    let regs = sample();
    let frame = frame_of(&regs, &FpuState::initial());
    assert_eq!(frame.addr % 16, 8, "as after a call");
    assert!(frame.addr + frame.bytes.len() as u64 <= regs.rsp - RED_ZONE);
    assert_eq!(frame.regs.rdi, 10);
    assert_eq!(frame.regs.rsi, frame.addr + 312);
    assert_eq!(frame.regs.rdx, frame.addr + 8);
    assert_eq!((frame.regs.rip, frame.regs.rsp), (0x40_2000, frame.addr));
    assert_eq!(frame.regs.eflags & FLAG_DIRECTION, 0);
    assert_eq!(frame.bytes[SIGINFO], 10);
    assert_eq!(word_at(&frame.bytes, 0), 0x40_3000);
    // REG_RIP is the seventeenth word of gregs in <sys/ucontext.h>, REG_CR2 the twenty-third.
    assert_eq!(word_at(&frame.bytes, UC_MCONTEXT + 16 * 8), 0x40_1000);
    assert_eq!(word_at(&frame.bytes, UC_MCONTEXT + 22 * 8), 0xdead);
}

#[test]
fn the_layout_is_that_of_the_c_library() {
    use std::mem::offset_of;
    assert_eq!(UC_MCONTEXT - UCONTEXT, offset_of!(libc::ucontext_t, uc_mcontext));
    assert_eq!(UC_SIGMASK - UCONTEXT, offset_of!(libc::ucontext_t, uc_sigmask));
    assert_eq!(UC_STACK - UCONTEXT, offset_of!(libc::ucontext_t, uc_stack));
    assert_eq!(MC_FPSTATE - UC_MCONTEXT, offset_of!(libc::mcontext_t, fpregs));
    assert_eq!(SIGINFO + size_of::<libc::siginfo_t>(), FRAME_SIZE);
    let greg = |index: libc::c_int| UC_MCONTEXT + 8 * index as usize;
    let frame = frame_of(&sample(), &FpuState::initial());
    let cases = [
        (libc::REG_R8, 8),
        (libc::REG_R15, 15),
        (libc::REG_RDI, 100),
        (libc::REG_RSI, 101),
        (libc::REG_RBP, 102),
        (libc::REG_RBX, 103),
        (libc::REG_RDX, 104),
        (libc::REG_RAX, 105),
        (libc::REG_RCX, 106),
        (libc::REG_RSP, 0x7fff_0000_1238),
        (libc::REG_RIP, 0x40_1000),
        (libc::REG_ERR, 6),
        (libc::REG_TRAPNO, 14),
        (libc::REG_OLDMASK, 0x55),
        (libc::REG_CR2, 0xdead),
    ];
    for (index, value) in cases {
        assert_eq!(word_at(&frame.bytes, greg(index)), value, "greg {index}");
    }
}

#[test]
fn a_frame_parses_back_to_what_was_interrupted() {
    let regs = sample();
    let frame = frame_of(&regs, &FpuState::initial());
    let restored = parse(&head_of(&frame), &Registers { fs_base: 0x7000, ..Registers::default() });
    assert_eq!(restored.regs, Registers { orig_rax: NO_SYSCALL, ..regs });
    assert_eq!(restored.mask, 0x55);
    assert_eq!(restored.alt_stack, AltStack { sp: 0x9000, flags: 2, size: 8192 });
}

#[test]
fn the_fpu_image_is_aligned_and_parses_back() {
    let mut image = FpuState::initial().as_bytes().to_vec();
    image[160..176].fill(0x5a);
    let state = FpuState::from_user_xsave(&image, u64::MAX).unwrap();
    let frame = frame_of(&sample(), &state);
    let restored = parse(&head_of(&frame), &sample());
    let fpu_addr = restored.fpu_addr.unwrap();
    assert_eq!(fpu_addr % 64, 0);
    let area = &frame.bytes[(fpu_addr - frame.addr) as usize..];
    let head: [u8; FXSAVE_SIZE] = area[..FXSAVE_SIZE].try_into().unwrap();
    assert_eq!(fpu_len(&head), area.len());
    assert_eq!(parse_fpu(area), Ok(state));
}

#[test]
fn a_forged_frame_gains_no_privilege() {
    let frame = frame_of(&sample(), &FpuState::initial());
    let mut bytes = head_of(&frame);
    put(&mut bytes, UC_MCONTEXT + 17 * 8, u64::MAX);
    put(&mut bytes, MC_SEGMENTS, 0x0018_0000_0000_0010);
    let regs = parse(&bytes, &sample()).regs;
    assert_eq!((regs.cs, regs.ss), (USER_CS, USER_SS));
    assert_eq!(regs.eflags & 0x3000, 0);
}

#[test]
fn a_forged_image_size_is_not_believed() {
    let mut head = [0u8; FXSAVE_SIZE];
    put(&mut head, SW_BYTES, u64::from(FP_XSTATE_MAGIC1) | 0xffff_ffff << 32);
    put(&mut head, SW_BYTES + 16, 0xffff_fff0);
    assert_eq!(fpu_len(&head), FXSAVE_SIZE);
    put(&mut head, SW_BYTES + 16, fpu::image_size() as u64);
    assert!(fpu_len(&head) <= fpu_frame_size());
    assert!(parse_fpu(&head).is_ok(), "without the closing word it is an FXSAVE image");
    assert!(parse_fpu(&head[..100]).is_err());
}

#[test]
fn a_stack_at_the_bottom_of_memory_has_no_room() {
    let regs = Registers { rsp: 200, ..sample() };
    let fpu = FpuState::initial();
    let info = [0; SIGINFO_SIZE];
    let input = FrameInput {
        stack_top: 72,
        signo: 11,
        handler: 0,
        restorer: 0,
        regs: &regs,
        fpu: &fpu,
        info: &info,
        mask: 0,
        alt_stack: AltStack::default(),
        trap: Trap::default(),
    };
    assert!(build(&input).is_none());
}

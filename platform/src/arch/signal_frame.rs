//! The x86-64 signal frame (`rt_sigframe`): built as bytes for the kernel to write to the program's
//! stack, and parsed back in rt_sigreturn. Pure functions over buffers.
//!
//! Layout (asm/sigframe.h, asm/ucontext.h, asm/sigcontext.h): return address 8, ucontext 304
//! (flags 8, link 8, stack 24, mcontext 256, mask 8), siginfo 128; the FPU image lies above it.

use super::fpu::{self, BadFpuImage, FXSAVE_SIZE, FpuState};
use super::registers::{
    FLAG_DIRECTION, FLAG_RESUME, FLAG_TRAP, NO_SYSCALL, Registers, USER_CS, USER_SS,
};

/// Bytes below `rsp` that leaf functions use without moving it (System V ABI, the red zone).
pub const RED_ZONE: u64 = 128;
/// Bytes of the frame without the FPU image.
pub const FRAME_SIZE: usize = 440;
/// Bytes of a `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;
/// First word of the software bytes of an image with extended state.
pub const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// The word behind such an image.
pub const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;

const UCONTEXT: usize = 8;
const UC_LINK: usize = UCONTEXT + 8;
const UC_STACK: usize = UCONTEXT + 16;
const UC_MCONTEXT: usize = UCONTEXT + 40;
const UC_SIGMASK: usize = UC_MCONTEXT + 256;
const SIGINFO: usize = UC_SIGMASK + 8;
/// Offsets inside mcontext behind the eighteen register words.
const MC_SEGMENTS: usize = UC_MCONTEXT + 144;
const MC_ERR: usize = UC_MCONTEXT + 152;
const MC_FPSTATE: usize = UC_MCONTEXT + 184;
/// Software bytes inside the FXSAVE area.
const SW_BYTES: usize = 464;

/// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS.
const UC_FLAGS: u64 = 7;
/// The flags that rt_sigreturn takes from the frame: AC OF DF TF SF ZF AF PF CF RF.
const RESTORED_FLAGS: u64 = 0x0005_0dd5;

/// `stack_t`: the alternate signal stack as the frame records it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// `SS_ONSTACK`, `SS_DISABLE`, `SS_AUTODISARM`.
    pub flags: i32,
    /// Bytes.
    pub size: u64,
}

/// What the last exception left, as `err`, `trapno` and `cr2` of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trap {
    pub err: u64,
    pub trapno: u64,
    pub cr2: u64,
}

/// All that a frame is made of.
#[derive(Clone, Copy, Debug)]
pub struct FrameInput<'a> {
    /// Where the frame grows down from: `regs.rsp - RED_ZONE`, or the top of the alternate stack.
    pub stack_top: u64,
    pub signo: i32,
    /// Address of the handler.
    pub handler: u64,
    /// Address that the handler returns to (`sa_restorer`).
    pub restorer: u64,
    /// The interrupted registers.
    pub regs: &'a Registers,
    pub fpu: &'a FpuState,
    /// The `siginfo_t` of the signal.
    pub info: &'a [u8; SIGINFO_SIZE],
    /// The signal mask to restore.
    pub mask: u64,
    pub alt_stack: AltStack,
    pub trap: Trap,
}

/// A frame, ready to be written to the program's memory.
#[derive(Clone, Debug)]
pub struct SignalFrame {
    /// Address of the first byte; the handler's `rsp`.
    pub addr: u64,
    /// The frame with the FPU image at its end.
    pub bytes: Vec<u8>,
    /// The registers at the handler's first instruction.
    pub regs: Registers,
}

/// Bytes that an FPU image takes in a frame: the image and the closing magic word.
pub fn fpu_frame_size() -> usize {
    fpu::image_size() + if fpu::image_size() > FXSAVE_SIZE { 4 } else { 0 }
}

/// The largest frame with its alignment: `AT_MINSIGSTKSZ`.
pub fn min_stack_size() -> usize {
    (FRAME_SIZE + fpu_frame_size() + 64 + 16).next_multiple_of(16)
}

/// Builds a frame. `None` if it would wrap around address 0.
pub fn build(input: &FrameInput<'_>) -> Option<SignalFrame> {
    let fpu_addr = input.stack_top.checked_sub(fpu_frame_size() as u64)? & !63;
    // At the handler's entry rsp + 8 is a multiple of 16, as after a call.
    let addr = (fpu_addr.checked_sub(FRAME_SIZE as u64)? & !15).checked_sub(8)?;
    let fpu_offset = (fpu_addr - addr) as usize;
    let mut bytes = vec![0; fpu_offset + fpu_frame_size()];
    put(&mut bytes, 0, input.restorer);
    put(&mut bytes, UCONTEXT, UC_FLAGS);
    put(&mut bytes, UC_LINK, 0);
    put(&mut bytes, UC_STACK, input.alt_stack.sp);
    put(&mut bytes, UC_STACK + 8, u64::from(input.alt_stack.flags as u32));
    put(&mut bytes, UC_STACK + 16, input.alt_stack.size);
    put_registers(&mut bytes, input.regs);
    put(&mut bytes, MC_ERR, input.trap.err);
    put(&mut bytes, MC_ERR + 8, input.trap.trapno);
    put(&mut bytes, MC_ERR + 16, input.mask);
    put(&mut bytes, MC_ERR + 24, input.trap.cr2);
    put(&mut bytes, MC_FPSTATE, fpu_addr);
    put(&mut bytes, UC_SIGMASK, input.mask);
    bytes[SIGINFO..SIGINFO + SIGINFO_SIZE].copy_from_slice(input.info);
    put_fpu(&mut bytes[fpu_offset..], input.fpu);
    let regs = Registers {
        rdi: u64::from(input.signo as u32),
        rsi: addr + SIGINFO as u64,
        rdx: addr + UCONTEXT as u64,
        rax: 0,
        orig_rax: NO_SYSCALL,
        rip: input.handler,
        rsp: addr,
        cs: USER_CS,
        ss: USER_SS,
        eflags: input.regs.eflags & !(FLAG_DIRECTION | FLAG_RESUME | FLAG_TRAP),
        ..*input.regs
    };
    Some(SignalFrame { addr, bytes, regs })
}

fn put_registers(bytes: &mut [u8], regs: &Registers) {
    let others = [regs.rsp, regs.rip, regs.eflags];
    for (index, word) in regs.general().into_iter().chain(others).enumerate() {
        put(bytes, UC_MCONTEXT + 8 * index, word);
    }
    // cs, gs, fs, ss as 16-bit words; gs and fs have been 0 there since 64-bit bases exist.
    put(bytes, MC_SEGMENTS, (regs.cs & 0xffff) | (regs.ss & 0xffff) << 48);
}

fn put_fpu(area: &mut [u8], state: &FpuState) {
    let image = state.as_bytes();
    area[..image.len()].copy_from_slice(image);
    if image.len() > FXSAVE_SIZE {
        // struct _fpx_sw_bytes: magic1, extended_size, xfeatures, xstate_size.
        let sizes = (image.len() + 4) as u64;
        put(area, SW_BYTES, u64::from(FP_XSTATE_MAGIC1) | sizes << 32);
        put(area, SW_BYTES + 8, fpu::features());
        put(area, SW_BYTES + 16, image.len() as u64);
        area[image.len()..image.len() + 4].copy_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
    }
}

/// What a frame says in rt_sigreturn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredFrame {
    /// The registers to go on with. `orig_rax` says that no system call is to be restarted.
    pub regs: Registers,
    pub mask: u64,
    /// The alternate stack to restore, as sigaltstack(2) would take it (errors are ignored).
    pub alt_stack: AltStack,
    /// Where the FPU image lies; `None` means the initial state.
    pub fpu_addr: Option<u64>,
}

/// Address of the frame, given `rsp` at the rt_sigreturn call: the handler's `ret` has popped the
/// first word.
pub fn frame_addr(rsp: u64) -> u64 {
    rsp.wrapping_sub(8)
}

/// What `rsp` is at the rt_sigreturn call of a frame at `addr`: the inverse of [`frame_addr`].
pub fn stack_at_return(addr: u64) -> u64 {
    addr.wrapping_add(8)
}

/// What the host's kernel has recorded of the exception.
pub fn trap(bytes: &[u8; FRAME_SIZE]) -> Trap {
    Trap {
        err: word_at(bytes, MC_ERR),
        trapno: word_at(bytes, MC_ERR + 8),
        cr2: word_at(bytes, MC_ERR + 24),
    }
}

/// All flags, also those that rt_sigreturn does not take.
pub fn flags(bytes: &[u8; FRAME_SIZE]) -> u64 {
    word_at(bytes, UC_MCONTEXT + 8 * 17)
}

/// The frame's `siginfo_t`, as words.
pub fn siginfo_words(bytes: &[u8; FRAME_SIZE]) -> [u64; SIGINFO_SIZE / 8] {
    std::array::from_fn(|index| word_at(bytes, SIGINFO + 8 * index))
}

/// Puts other registers and another mask in a frame of the host's kernel.
pub fn replace(bytes: &mut [u8; FRAME_SIZE], regs: &Registers, mask: u64) {
    put(bytes, UCONTEXT, UC_FLAGS);
    put_registers(bytes, regs);
    put(bytes, UC_SIGMASK, mask);
}

/// Parses the frame. What a program must not choose (privilege, system flags) is taken from
/// `current`; everything else is as the frame says.
pub fn parse(bytes: &[u8; FRAME_SIZE], current: &Registers) -> RestoredFrame {
    let word = |index: usize| word_at(bytes, UC_MCONTEXT + 8 * index);
    let segments = word_at(bytes, MC_SEGMENTS);
    let mut regs = Registers {
        rsp: word(15),
        rip: word(16),
        eflags: (current.eflags & !RESTORED_FLAGS) | (word(17) & RESTORED_FLAGS),
        cs: (segments & 0xffff) | 3,
        ss: (segments >> 48) | 3,
        orig_rax: NO_SYSCALL,
        ..*current
    };
    regs.set_general(std::array::from_fn(word));
    regs.sanitize();
    RestoredFrame {
        regs,
        mask: word_at(bytes, UC_SIGMASK),
        alt_stack: AltStack {
            sp: word_at(bytes, UC_STACK),
            flags: word_at(bytes, UC_STACK + 8) as u32 as i32,
            size: word_at(bytes, UC_STACK + 16),
        },
        fpu_addr: Some(word_at(bytes, MC_FPSTATE)).filter(|addr| *addr != 0),
    }
}

/// How many bytes the FPU image at `fpu_addr` has, given its first [`FXSAVE_SIZE`] bytes: a plain
/// FXSAVE image, or one with extended state and the closing magic word. Bounded by
/// [`fpu_frame_size`].
pub fn fpu_len(head: &[u8; FXSAVE_SIZE]) -> usize {
    extended_size(head).map_or(FXSAVE_SIZE, |size| size + 4)
}

/// The size of the extended image, if the software bytes are sane (as `check_xstate_in_sigframe`
/// of Linux asks: magic, and a size between the header's end and this processor's image).
fn extended_size(head: &[u8]) -> Option<usize> {
    let magic = word_at(head, SW_BYTES) as u32;
    let extended = (word_at(head, SW_BYTES) >> 32) as usize;
    let size = word_at(head, SW_BYTES + 16) as u32 as usize;
    let sane = (FXSAVE_SIZE + 64..=fpu::image_size()).contains(&size) && size < extended;
    (magic == FP_XSTATE_MAGIC1 && sane).then_some(size)
}

/// Parses the FPU image of a frame: `bytes` are the [`fpu_len`] bytes at its address. Without the
/// closing magic word it is taken as a plain FXSAVE image, as Linux does.
pub fn parse_fpu(bytes: &[u8]) -> Result<FpuState, BadFpuImage> {
    if let Some(size) = extended_size(bytes)
        && let Some(closing) = bytes.get(size..size + 4)
        && closing == FP_XSTATE_MAGIC2.to_le_bytes()
    {
        return FpuState::from_user_xsave(&bytes[..size], word_at(bytes, SW_BYTES + 8));
    }
    FpuState::from_user_fxsave(bytes)
}

fn put(bytes: &mut [u8], offset: usize, word: u64) {
    bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
}

/// A little-endian word; what lies outside the buffer reads as zero.
fn word_at(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..offset.saturating_add(8));
    word.and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests;

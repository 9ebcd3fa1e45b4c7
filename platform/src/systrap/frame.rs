//! The kernel's signal frame on a stub thread's own stack: read when something has happened, changed
//! to go on. Its memory is the guest's to write: it is read once and checked.

use super::Corrupted;
use super::area::Area;
use super::code::{AREA_SIZE, STACK};
use crate::arch::fpu;
use crate::arch::signal_frame::{self, AltStack, FRAME_SIZE, FrameInput, Trap};
use crate::stub::HANDLED;
use crate::{FpuState, MemoryFile, Registers};

/// A copy of a frame, and where it lies.
pub(super) struct Frame {
    /// Offset in the area.
    at: u64,
    bytes: [u8; FRAME_SIZE],
}

/// What the frame says about the signal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    pub(super) signo: i32,
    pub(super) code: i32,
    /// `si_addr`; for SIGSYS the address behind the call.
    pub(super) addr: u64,
    /// For SIGSYS the call's audit architecture.
    pub(super) arch: u32,
    pub(super) trapno: u32,
    pub(super) err: u32,
}

impl Frame {
    /// Copies the frame that the thread says it stands on.
    pub(super) fn read(memory: &MemoryFile, area: &Area, address: u64) -> Result<Frame, Corrupted> {
        let at = area.offset_of(address, FRAME_SIZE as u64)?;
        let mut bytes = [0; FRAME_SIZE];
        memory.read_at(area.file + at, &mut bytes)?;
        Ok(Frame { at, bytes })
    }

    /// A frame made by hand, for a thread that begins or whose FPU state is replaced.
    pub(super) fn write_new(
        memory: &MemoryFile,
        area: &Area,
        restorer: u64,
        regs: &Registers,
        fpu: &FpuState,
    ) -> Result<Frame, Corrupted> {
        let made = signal_frame::build(&FrameInput {
            stack_top: area.addr + AREA_SIZE,
            signo: 0,
            handler: 0,
            restorer,
            regs,
            fpu,
            info: &[0; signal_frame::SIGINFO_SIZE],
            mask: signal_mask(),
            alt_stack: AltStack { sp: area.addr + STACK, flags: 0, size: AREA_SIZE - STACK },
            trap: Trap::default(),
        });
        let made = made.ok_or(Corrupted)?;
        let at = area.offset_of(made.addr, made.bytes.len() as u64)?;
        memory.write_at(area.file + at, &made.bytes)?;
        let mut bytes = [0; FRAME_SIZE];
        bytes.copy_from_slice(made.bytes.get(..FRAME_SIZE).ok_or(Corrupted)?);
        Ok(Frame { at, bytes })
    }

    /// The registers in the frame; `orig_rax` says that there is no system call.
    pub(super) fn registers(&self, fs_base: u64, gs_base: u64) -> Registers {
        let current = Registers { fs_base, gs_base, ..Registers::default() };
        let mut regs = signal_frame::parse(&self.bytes, &current).regs;
        // The kernel has saved all flags as they were.
        regs.eflags = signal_frame::flags(&self.bytes);
        regs.sanitize();
        regs
    }

    /// What has happened.
    pub(super) fn signal(&self) -> Signal {
        let trap = signal_frame::trap(&self.bytes);
        // siginfo_t: signo, errno, code, padding; an address; for SIGSYS number and architecture.
        let info = signal_frame::siginfo_words(&self.bytes);
        Signal {
            signo: info[0] as u32 as i32,
            code: info[1] as u32 as i32,
            addr: info[2],
            arch: (info[3] >> 32) as u32,
            err: trap.err as u32,
            trapno: trap.trapno as u32,
        }
    }

    /// Puts registers in place of those in the frame.
    pub(super) fn write_registers(
        &mut self,
        memory: &MemoryFile,
        area: &Area,
        regs: &Registers,
    ) -> Result<(), Corrupted> {
        signal_frame::replace(&mut self.bytes, regs, signal_mask());
        memory.write_at(area.file + self.at, &self.bytes)?;
        Ok(())
    }

    /// The FPU state of the frame.
    pub(super) fn fpu(&self, memory: &MemoryFile, area: &Area) -> Result<FpuState, Corrupted> {
        let parsed = signal_frame::parse(&self.bytes, &Registers::default());
        let address = parsed.fpu_addr.ok_or(Corrupted)?;
        // The host's image may be longer, by components that programs cannot get.
        let mut image = vec![0; fpu::image_size()];
        let at = area.offset_of(address, image.len() as u64)?;
        memory.read_at(area.file + at, &mut image)?;
        Ok(FpuState::from_stub(&image))
    }

    /// What `rsp` is at `rt_sigreturn`: the handler's return address was popped.
    pub(super) fn stack_pointer(&self, area: &Area) -> u64 {
        signal_frame::stack_at_return(area.addr + self.at)
    }
}

/// A thread of the guest gets nothing but what it is stopped by. (The kernel counts from bit 0.)
fn signal_mask() -> u64 {
    HANDLED.into_iter().fold(u64::MAX, |mask, signo| mask & !(1 << (signo - 1)))
}

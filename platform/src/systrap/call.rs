//! A thread at a patched call: its registers lie in its area as its trampoline has saved them, its FPU state is
//! still in the processor, and no signal is blocked. The code is in `code.rs`.
//!
//! A signal can meet it anywhere there. What somebody has sent is put off by the handler until its turn; so what comes
//! to the sentry is a signal of the program's own making, or a kick on the way back.

use super::Corrupted;
use super::area::Area;
use super::code::{FPU, FPU_MAX, Places, SAVED, SITE_SIZE};
use crate::arch::fpu::{self, FXSAVE_SIZE};
use crate::arch::registers::{FLAG_RESUME, FLAG_TRAP, GENERAL, USER_CS};
use crate::{FpuState, MemoryFile, Registers};

/// Words of the saved registers, the last five of which `iretq` takes.
const WORDS: usize = 20;

/// Whether the processor has what trampolines use: an FPU state that `xsave` can save, and whose image fits.
pub(super) fn is_supported() -> bool {
    // LAHF and SAHF in 64-bit mode (CPUID 0x80000001, ECX bit 0).
    let lahf = std::arch::x86_64::__cpuid(0x8000_0001).ecx & 1 == 1;
    lahf && (FXSAVE_SIZE + 1..=FPU_MAX).contains(&fpu::image_size())
}

/// The registers as the trampoline has saved them. What `syscall` leaves to the kernel (rax, rcx, r11, rip) is the
/// caller's to set.
pub(super) fn read_registers(memory: &MemoryFile, area: &Area) -> Result<Registers, Corrupted> {
    let mut bytes = [0; 8 * WORDS];
    memory.read_at(area.file + SAVED, &mut bytes)?;
    let word = |index: usize| {
        let bytes = bytes.as_chunks::<8>().0.get(index);
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let mut regs = Registers { eflags: word(17), rsp: word(18), ..Registers::default() };
    regs.set_general(std::array::from_fn(word));
    Ok(regs)
}

/// Puts registers where the thread takes them from.
pub(super) fn write_registers(
    memory: &MemoryFile,
    area: &Area,
    r: &Registers,
) -> Result<(), Corrupted> {
    let mut words = [0; WORDS];
    let (general, others) = words.split_at_mut(GENERAL);
    general.copy_from_slice(&r.general());
    others.copy_from_slice(&[r.rip, r.cs, r.eflags, r.rsp, r.ss]);
    memory.write_at(area.file + SAVED, words.map(u64::to_le_bytes).as_flattened())?;
    Ok(())
}

/// Whether registers are as behind a `syscall`, and take no more than a jump to go on with.
pub(super) fn is_plain_return(r: &Registers) -> bool {
    let stepped = r.eflags & (FLAG_TRAP | FLAG_RESUME) != 0;
    r.rcx == r.rip && r.cs == USER_CS && !stepped
}

/// The FPU state that the thread has saved.
pub(super) fn read_fpu(memory: &MemoryFile, area: &Area) -> Result<FpuState, Corrupted> {
    let mut image = vec![0; fpu::image_size().min(FPU_MAX)];
    memory.read_at(area.file + FPU, &mut image)?;
    Ok(FpuState::from_stub(&image))
}

/// Puts an FPU state where the thread takes it from.
pub(super) fn write_fpu(
    memory: &MemoryFile,
    area: &Area,
    state: &FpuState,
) -> Result<(), Corrupted> {
    let image = state.as_bytes();
    memory.write_at(area.file + FPU, &image[..image.len().min(FPU_MAX)])?;
    Ok(())
}

/// Where a signal has met a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// Elsewhere: in the program, mostly.
    Elsewhere,
    /// At the first instruction of a site's trampoline, by a single step.
    AtSite(u64),
    /// At the way out of a call of that site that cannot be handed over.
    GoingOut(u64),
    /// On the way back: its registers are still those that it was given.
    GoingOn,
}

impl Met {
    /// Judges by the registers in the signal's frame, which the program may have forged: what follows from it is
    /// about that program's registers alone.
    pub(super) fn with(regs: &Registers, places: &Places) -> Met {
        if places.resume.contains(&regs.rip) {
            return Met::GoingOn;
        }
        if regs.rip == places.out {
            return Met::GoingOut(regs.r11);
        }
        if places.sites.contains(&regs.rip) && regs.rip.is_multiple_of(SITE_SIZE) {
            return Met::AtSite((regs.rip - places.sites.start) / SITE_SIZE);
        }
        Met::Elsewhere
    }
}

const _: () = assert!(SAVED as usize + 8 * WORDS <= FPU as usize && FPU as usize + FPU_MAX <= 4096);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_where_its_instruction_pointer_says() {
        let region = 0x7f00_0000_4000;
        let places = Places::of(region);
        let met = |rip| Met::with(&Registers { rip, r11: 7, ..Registers::default() }, &places);
        assert_eq!(met(places.sites.start), Met::AtSite(0));
        assert_eq!(met(places.sites.start + SITE_SIZE * 3), Met::AtSite(3));
        assert_eq!(met(places.sites.start + 1), Met::Elsewhere);
        assert_eq!(met(places.sites.end), Met::Elsewhere);
        assert_eq!(met(places.out), Met::GoingOut(7));
        assert_eq!(met(places.resume.start), Met::GoingOn);
        assert_eq!(met(places.resume.end), Met::Elsewhere);
        assert_eq!(met(places.call), Met::Elsewhere);
        assert_eq!(met(0x40_0000), Met::Elsewhere);
    }
}

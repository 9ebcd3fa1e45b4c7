//! The areas of a stub's threads: a page shared with the sentry and a signal stack for each, in the
//! memory file and behind the stub's region.

use super::Corrupted;
use super::code::{
    ALT_STACK, AREA_SIZE, FROM_FRAME, IDLE, SPIN_TICKS, STACK, TO_COMPONENTS, TO_FRAME, TURN, areas,
};
use crate::arch::fpu;
use crate::stub::process::{Call, map_call};
use crate::{FileRange, MemoryError, MemoryFile, PAGE_SIZE, PlatformError};

/// One thread's area.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    /// Address in the stub.
    pub(super) addr: u64,
    /// Offset in the memory file.
    pub(super) file: u64,
}

impl Area {
    /// The offset of `len` bytes at an address that the stub has told, if they are in the area's
    /// signal stack and 8-byte aligned.
    pub(super) fn offset_of(&self, address: u64, len: u64) -> Result<u64, Corrupted> {
        let at = address.checked_sub(self.addr).ok_or(Corrupted)?;
        let end = at.checked_add(len).ok_or(Corrupted)?;
        let inside = at >= STACK && end <= AREA_SIZE && at.is_multiple_of(8);
        inside.then_some(at).ok_or(Corrupted)
    }

    /// Makes the shared page ready for a new thread.
    fn prepare(&self, memory: &MemoryFile) -> Result<(), MemoryError> {
        memory.zero(FileRange::new(self.file, PAGE_SIZE))?;
        // stack_t: address, flags, size.
        let stack = [self.addr + STACK, 0, AREA_SIZE - STACK];
        for (index, word) in stack.into_iter().enumerate() {
            let at = self.file + ALT_STACK + 8 * index as u64;
            memory.write_at(at, &word.to_le_bytes())?;
        }
        let components = self.file + TO_COMPONENTS;
        memory.write_at(components, &fpu::features().to_le_bytes())
    }
}

const _: () = assert!(TURN == 0 && IDLE == 0 && SPIN_TICKS < TO_FRAME && TO_FRAME < FROM_FRAME);

/// The areas of one stub's threads, which live as long as it does.
#[derive(Default)]
pub(super) struct Areas {
    made: u64,
}

impl Areas {
    /// A new area, and how the stub maps it.
    pub(super) fn make(
        &mut self,
        memory: &MemoryFile,
        region: u64,
    ) -> Result<(Area, Call), PlatformError> {
        let all = areas(region);
        let addr = all.start + self.made * AREA_SIZE;
        if addr + AREA_SIZE > all.end {
            let what = "making room for a stub thread";
            return Err(PlatformError::Host { what, errno: nix::errno::Errno::EAGAIN });
        }
        let file = memory.allocate(AREA_SIZE, PAGE_SIZE)?.start;
        self.made += 1;
        let area = Area { addr, file };
        area.prepare(memory)?;
        let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        Ok((area, map_call(addr, AREA_SIZE, file, prot, libc::MAP_POPULATE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_in_the_signal_stack_are_believed() {
        let area = Area { addr: 0x7f00_0000_4000, file: 0 };
        assert_eq!(area.offset_of(area.addr + STACK, 8), Ok(STACK));
        assert_eq!(area.offset_of(area.addr + AREA_SIZE - 16, 16), Ok(AREA_SIZE - 16));
        for (addr, len) in [
            (area.addr, 8),
            (area.addr - 8, 8),
            (area.addr + STACK + 4, 8),
            (area.addr + AREA_SIZE - 8, 16),
            (u64::MAX - 7, 16),
            (0, 8),
        ] {
            assert_eq!(area.offset_of(addr, len), Err(Corrupted), "{addr:#x}");
        }
    }
}

//! The guest's vDSO: clock_gettime, gettimeofday, time and getcpu without entering the kernel.
//!
//! [`Vdso::install`] puts a page of clock parameters and the ELF image behind it into the memory
//! file, once for a sandbox. The loader maps the parameters read-only directly before the image
//! (R-X) in every program, gives the image's address as `AT_SYSINFO_EHDR`, and must never let a
//! program make the parameter page writable: all programs share it.
//!
//! The same parameters answer the clock system calls ([`Vdso::now_ns`]), so both ways agree to the
//! nanosecond and neither sees time go back against the other.

mod clock;
mod code;
mod image;

use std::sync::Arc;
use std::time::Duration;

pub use clock::{GuestClock, TscState};
pub use code::{CODE_OFFSET, Function, code, functions};
pub use image::image;

use self::clock::Clock;
use crate::{FileRange, MemoryError, MemoryFile, PAGE_SIZE};

/// The vDSO of a sandbox.
pub struct Vdso {
    range: FileRange,
    clock: Clock,
}

impl Vdso {
    /// Writes parameters and image to the memory file. The clock works at once, by system calls; it
    /// is used without them after the first [`refresh`](Vdso::refresh) that finds the time stamp
    /// counter good.
    pub fn install(memory: &Arc<MemoryFile>) -> Result<Vdso, MemoryError> {
        let image = image();
        let range = memory.allocate(PAGE_SIZE + image.len() as u64, PAGE_SIZE)?;
        memory.write_at(range.start + PAGE_SIZE, &image)?;
        Ok(Vdso { range, clock: Clock::new(memory.clone(), range.start) })
    }

    /// The page of parameters; to be mapped readable, directly before the image.
    pub fn params(&self) -> FileRange {
        FileRange::new(self.range.start, PAGE_SIZE)
    }

    /// The pages of the ELF image; to be mapped readable and executable.
    pub fn image(&self) -> FileRange {
        FileRange::new(self.range.start + PAGE_SIZE, self.range.len - PAGE_SIZE)
    }

    /// The time of a guest clock in nanoseconds: what the vDSO would answer at this moment, or the
    /// host's clock as long as the vDSO uses system calls itself. The kernel answers the clock
    /// system calls with it.
    pub fn now_ns(&self, clock: GuestClock) -> u64 {
        self.clock.now_ns(clock)
    }

    /// Brings the parameters up to date with the host's clocks; returns after which time to do so
    /// again. Any thread may call it, best one that sleeps on a timer anyway.
    pub fn refresh(&self) -> Duration {
        self.clock.refresh()
    }

    /// Whether programs read the clock without system calls, and if not, why.
    pub fn state(&self) -> TscState {
        self.clock.state()
    }

    /// Lets getcpu read the processor's number from the processor instead of making a system call.
    /// Right only where the guest's numbers are the host's.
    pub fn expose_host_cpu_numbers(&self) {
        self.clock.expose_host_cpu_numbers();
    }
}

#[cfg(test)]
mod tests;

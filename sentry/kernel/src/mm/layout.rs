//! Where things lie in an address space, randomized as Linux does (arch/x86/mm/mmap.c), and the limits that bound it.

use core::ops::Range;

use sentry_abi::PAGE_SIZE;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// No program maps below (vm.mmap_min_addr).
const MMAP_MIN: u64 = 64 << 10;
/// Bits of a page number that are random for mmap (vm.mmap_rnd_bits).
const MMAP_RANDOM_BITS: u32 = 28;
/// Random bytes below the top of the stack: 16 GiB, as on x86-64.
const STACK_RANDOM: u64 = 16 * GIB;

/// The numbers that an address space's places are chosen by. All zero gives the fixed layout of ADDR_NO_RANDOMIZE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LayoutRandom {
    /// For mmap.
    pub mmap: u64,
    /// For the stack.
    pub stack: u64,
    /// For brk.
    pub brk: u64,
    /// For position-independent programs.
    pub image: u64,
}

/// The fixed places of an address space, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// What a program can map.
    pub user: Range<u64>,
    /// mmap places areas below this.
    pub mmap_top: u64,
    /// The stack ends here (behind its last byte).
    pub stack_top: u64,
    /// Where position-independent programs with an interpreter go.
    pub image_base: u64,
    /// Distance from the program's last byte to the first byte of brk.
    pub brk_gap: u64,
}

impl Layout {
    /// A layout in what the platform can map (`user`), with room for a stack of `stack_limit` bytes.
    pub fn new(user: Range<u64>, stack_limit: u64, random: LayoutRandom) -> Self {
        let pages = |bytes: u64| bytes / PAGE_SIZE * PAGE_SIZE;
        let user = user.start.max(MMAP_MIN)..pages(user.end);
        let span = user.end.saturating_sub(user.start);
        // A small address space (tests, odd platforms) has room for less randomness.
        let stack_random = pages(random.stack % STACK_RANDOM.min(span / 16).max(1));
        let stack_top = user.end - stack_random;
        let gap = stack_limit.saturating_add(MIB + STACK_RANDOM.min(span / 16));
        let gap = pages(gap.clamp((128 * MIB).min(span / 8), span / 6 * 5));
        let mmap_random = (random.mmap % (1 << MMAP_RANDOM_BITS) * PAGE_SIZE) % (span / 16).max(1);
        let mmap_top = user.end - gap - pages(mmap_random);
        let image_random =
            (random.image % (1 << MMAP_RANDOM_BITS) * PAGE_SIZE) % (span / 16).max(1);
        let image_base = pages(user.start + span / 3 * 2) + pages(image_random);
        let brk_gap = if random.brk == 0 { 0 } else { pages(random.brk % (32 * MIB)) };
        Self { user, mmap_top, stack_top, image_base, brk_gap }
    }

    /// True where `len` bytes at `addr` lie in what a program can map.
    pub fn holds(&self, addr: u64, len: u64) -> bool {
        addr >= self.user.start && addr.checked_add(len).is_some_and(|end| end <= self.user.end)
    }
}

/// The limits of getrlimit(2) that bound memory, in bytes; `u64::MAX` is RLIM_INFINITY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryLimits {
    /// RLIMIT_AS
    pub address_space: u64,
    /// RLIMIT_DATA
    pub data: u64,
    /// RLIMIT_STACK
    pub stack: u64,
    /// RLIMIT_MEMLOCK; `u64::MAX` also for tasks with CAP_IPC_LOCK.
    pub locked: u64,
}

impl Default for MemoryLimits {
    /// Linux's: 8 MiB of stack and of locked memory, the rest unbounded.
    fn default() -> Self {
        Self { address_space: u64::MAX, data: u64::MAX, stack: 8 * MIB, locked: 8 * MIB }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_fits_whatever_the_random_numbers_are() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let random = LayoutRandom { mmap: random, stack: random, brk: random, image: random };
            for end in [1 << 32, 0x7fff_ffff_f000] {
                for stack in [0, 8 * MIB, u64::MAX] {
                    let l = Layout::new(0..end, stack, random);
                    assert!(l.user.start < l.image_base && l.image_base < l.user.end, "{l:x?}");
                    assert!(l.user.start < l.mmap_top && l.mmap_top < l.stack_top, "{l:x?}");
                    assert!(l.stack_top <= l.user.end && l.stack_top.is_multiple_of(PAGE_SIZE));
                }
            }
        }
    }
}

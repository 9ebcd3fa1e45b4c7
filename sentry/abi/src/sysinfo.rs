//! linux/sysinfo.h

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct sysinfo`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sysinfo {
    /// Seconds since boot.
    pub uptime: i64,
    /// Load averages, 16.16 fixed point.
    pub loads: [u64; 3],
    /// Total memory in units.
    pub totalram: u64,
    /// Free memory.
    pub freeram: u64,
    /// Shared memory.
    pub sharedram: u64,
    /// Buffers.
    pub bufferram: u64,
    /// Total swap.
    pub totalswap: u64,
    /// Free swap.
    pub freeswap: u64,
    /// Number of tasks.
    pub procs: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// Total high memory.
    pub totalhigh: u64,
    /// Free high memory.
    pub freehigh: u64,
    /// Unit in bytes.
    pub mem_unit: u32,
    /// Padding.
    pub tail: u32,
}
const _: () = assert!(size_of::<Sysinfo>() == 112);

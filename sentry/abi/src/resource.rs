//! linux/resource.h: limits and usage.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::time::TimeVal;

/// RLIM_INFINITY
pub const RLIM_INFINITY: u64 = u64::MAX;
/// How many limits there are.
pub const RLIM_NLIMITS: usize = 16;

/// RLIMIT_* numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Resource {
    /// RLIMIT_CPU, seconds
    Cpu = 0,
    /// RLIMIT_FSIZE, bytes
    Fsize = 1,
    /// RLIMIT_DATA, bytes
    Data = 2,
    /// RLIMIT_STACK, bytes
    Stack = 3,
    /// RLIMIT_CORE, bytes
    Core = 4,
    /// RLIMIT_RSS, bytes
    Rss = 5,
    /// RLIMIT_NPROC, tasks of a user
    Nproc = 6,
    /// RLIMIT_NOFILE, one more than the highest descriptor
    Nofile = 7,
    /// RLIMIT_MEMLOCK, bytes
    Memlock = 8,
    /// RLIMIT_AS, bytes
    As = 9,
    /// RLIMIT_LOCKS
    Locks = 10,
    /// RLIMIT_SIGPENDING, queued signals of a user
    Sigpending = 11,
    /// RLIMIT_MSGQUEUE, bytes
    Msgqueue = 12,
    /// RLIMIT_NICE
    Nice = 13,
    /// RLIMIT_RTPRIO
    Rtprio = 14,
    /// RLIMIT_RTTIME, microseconds
    Rttime = 15,
}

impl Resource {
    /// All, in the order of their numbers.
    pub const ALL: [Resource; RLIM_NLIMITS] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// The limit of this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

/// `struct rlimit64`
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rlimit {
    /// Soft limit: what is enforced.
    pub cur: u64,
    /// Hard limit: how far the soft one can be raised.
    pub max: u64,
}
const _: () = assert!(size_of::<Rlimit>() == 16);

/// RUSAGE_SELF
pub const RUSAGE_SELF: i32 = 0;
/// RUSAGE_CHILDREN
pub const RUSAGE_CHILDREN: i32 = -1;
/// RUSAGE_THREAD
pub const RUSAGE_THREAD: i32 = 1;

/// `struct rusage`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rusage {
    /// User time.
    pub utime: TimeVal,
    /// System time.
    pub stime: TimeVal,
    /// Largest resident size in KiB.
    pub maxrss: i64,
    /// Unused by Linux.
    pub ixrss: i64,
    /// Unused by Linux.
    pub idrss: i64,
    /// Unused by Linux.
    pub isrss: i64,
    /// Page faults without I/O.
    pub minflt: i64,
    /// Page faults with I/O.
    pub majflt: i64,
    /// Unused by Linux.
    pub nswap: i64,
    /// Blocks read.
    pub inblock: i64,
    /// Blocks written.
    pub oublock: i64,
    /// Unused by Linux.
    pub msgsnd: i64,
    /// Unused by Linux.
    pub msgrcv: i64,
    /// Unused by Linux.
    pub nsignals: i64,
    /// Voluntary context switches.
    pub nvcsw: i64,
    /// Involuntary context switches.
    pub nivcsw: i64,
}
const _: () = assert!(size_of::<Rusage>() == 144);

/// PRIO_PROCESS
pub const PRIO_PROCESS: i32 = 0;
/// PRIO_PGRP
pub const PRIO_PGRP: i32 = 1;
/// PRIO_USER
pub const PRIO_USER: i32 = 2;

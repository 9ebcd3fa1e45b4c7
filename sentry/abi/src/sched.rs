//! linux/sched.h: clone flags and arguments, scheduling policies.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags::bitflags! {
    /// CLONE_* of clone(2) without the exit signal in the low byte.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct CloneFlags: u64 {
        /// CLONE_VM
        const VM = 0x100;
        /// CLONE_FS
        const FS = 0x200;
        /// CLONE_FILES
        const FILES = 0x400;
        /// CLONE_SIGHAND
        const SIGHAND = 0x800;
        /// CLONE_PIDFD
        const PIDFD = 0x1000;
        /// CLONE_PTRACE
        const PTRACE = 0x2000;
        /// CLONE_VFORK
        const VFORK = 0x4000;
        /// CLONE_PARENT
        const PARENT = 0x8000;
        /// CLONE_THREAD
        const THREAD = 0x1_0000;
        /// CLONE_NEWNS
        const NEWNS = 0x2_0000;
        /// CLONE_SYSVSEM
        const SYSVSEM = 0x4_0000;
        /// CLONE_SETTLS
        const SETTLS = 0x8_0000;
        /// CLONE_PARENT_SETTID
        const PARENT_SETTID = 0x10_0000;
        /// CLONE_CHILD_CLEARTID
        const CHILD_CLEARTID = 0x20_0000;
        /// CLONE_DETACHED: ignored
        const DETACHED = 0x40_0000;
        /// CLONE_UNTRACED
        const UNTRACED = 0x80_0000;
        /// CLONE_CHILD_SETTID
        const CHILD_SETTID = 0x100_0000;
        /// CLONE_NEWCGROUP
        const NEWCGROUP = 0x200_0000;
        /// CLONE_NEWUTS
        const NEWUTS = 0x400_0000;
        /// CLONE_NEWIPC
        const NEWIPC = 0x800_0000;
        /// CLONE_NEWUSER
        const NEWUSER = 0x1000_0000;
        /// CLONE_NEWPID
        const NEWPID = 0x2000_0000;
        /// CLONE_NEWNET
        const NEWNET = 0x4000_0000;
        /// CLONE_IO
        const IO = 0x8000_0000;
        /// CLONE_CLEAR_SIGHAND (clone3 only)
        const CLEAR_SIGHAND = 0x1_0000_0000;
        /// CLONE_INTO_CGROUP (clone3 only)
        const INTO_CGROUP = 0x2_0000_0000;
    }
}

impl CloneFlags {
    /// The flags that ask for new namespaces.
    pub const NAMESPACES: CloneFlags = Self::NEWNS
        .union(Self::NEWCGROUP)
        .union(Self::NEWUTS)
        .union(Self::NEWIPC)
        .union(Self::NEWUSER)
        .union(Self::NEWPID)
        .union(Self::NEWNET);
}

/// `struct clone_args` of clone3(2), with the fields of every version.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CloneArgs {
    /// CLONE_*
    pub flags: u64,
    /// Where a pid descriptor goes.
    pub pidfd: u64,
    /// Where the child's id goes in the child.
    pub child_tid: u64,
    /// Where the child's id goes in the parent.
    pub parent_tid: u64,
    /// Signal for the parent at exit.
    pub exit_signal: u64,
    /// Lowest byte of the stack.
    pub stack: u64,
    /// Bytes of the stack.
    pub stack_size: u64,
    /// Thread-local storage.
    pub tls: u64,
    /// Array of chosen ids.
    pub set_tid: u64,
    /// Its length.
    pub set_tid_size: u64,
    /// Descriptor of a cgroup.
    pub cgroup: u64,
}
const _: () = assert!(size_of::<CloneArgs>() == 88);
/// Size of the first version of [`CloneArgs`].
pub const CLONE_ARGS_SIZE_VER0: u64 = 64;

/// SCHED_OTHER
pub const SCHED_OTHER: i32 = 0;
/// SCHED_FIFO
pub const SCHED_FIFO: i32 = 1;
/// SCHED_RR
pub const SCHED_RR: i32 = 2;
/// SCHED_BATCH
pub const SCHED_BATCH: i32 = 3;
/// SCHED_IDLE
pub const SCHED_IDLE: i32 = 5;
/// SCHED_DEADLINE
pub const SCHED_DEADLINE: i32 = 6;
/// SCHED_RESET_ON_FORK
pub const SCHED_RESET_ON_FORK: i32 = 0x4000_0000;

/// `struct sched_attr`, first version.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SchedAttr {
    /// Bytes of this structure.
    pub size: u32,
    /// SCHED_*
    pub policy: u32,
    /// SCHED_FLAG_*
    pub flags: u64,
    /// Nice value of SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// Priority of the real-time policies.
    pub priority: u32,
    /// SCHED_DEADLINE
    pub runtime: u64,
    /// SCHED_DEADLINE
    pub deadline: u64,
    /// SCHED_DEADLINE
    pub period: u64,
}
const _: () = assert!(size_of::<SchedAttr>() == 48);

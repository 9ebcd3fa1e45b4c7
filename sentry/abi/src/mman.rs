//! Memory mapping (asm-generic/mman.h, mman-common.h, linux/mman.h, asm/mman.h for x86-64).

use bitflags::bitflags;

bitflags! {
    /// PROT_* of mmap(2), mprotect(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct ProtFlags: u32 {
        /// PROT_READ
        const READ = 0x1;
        /// PROT_WRITE
        const WRITE = 0x2;
        /// PROT_EXEC
        const EXEC = 0x4;
        /// PROT_SEM: means nothing on x86.
        const SEM = 0x8;
        /// PROT_GROWSDOWN: mprotect to the start of a growing area.
        const GROWSDOWN = 0x0100_0000;
        /// PROT_GROWSUP: no x86 area grows up.
        const GROWSUP = 0x0200_0000;
    }

    /// MAP_* of mmap(2) without the two type bits (see [`MapType`]).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct MapFlags: u32 {
        /// MAP_FIXED
        const FIXED = 0x10;
        /// MAP_ANONYMOUS
        const ANONYMOUS = 0x20;
        /// MAP_32BIT: below 2 GiB.
        const LOW_32BIT = 0x40;
        /// MAP_ABOVE4G
        const ABOVE_4G = 0x80;
        /// MAP_GROWSDOWN
        const GROWSDOWN = 0x100;
        /// MAP_DENYWRITE, ignored
        const DENYWRITE = 0x800;
        /// MAP_EXECUTABLE, ignored
        const EXECUTABLE = 0x1000;
        /// MAP_LOCKED
        const LOCKED = 0x2000;
        /// MAP_NORESERVE
        const NORESERVE = 0x4000;
        /// MAP_POPULATE
        const POPULATE = 0x8000;
        /// MAP_NONBLOCK
        const NONBLOCK = 0x1_0000;
        /// MAP_STACK, ignored
        const STACK = 0x2_0000;
        /// MAP_HUGETLB
        const HUGETLB = 0x4_0000;
        /// MAP_SYNC
        const SYNC = 0x8_0000;
        /// MAP_FIXED_NOREPLACE
        const FIXED_NOREPLACE = 0x10_0000;
        /// MAP_UNINITIALIZED, ignored
        const UNINITIALIZED = 0x400_0000;
    }

    /// MREMAP_* of mremap(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct RemapFlags: u32 {
        /// MREMAP_MAYMOVE
        const MAYMOVE = 1;
        /// MREMAP_FIXED
        const FIXED = 2;
        /// MREMAP_DONTUNMAP
        const DONTUNMAP = 4;
    }

    /// MS_* of msync(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct SyncFlags: u32 {
        /// MS_ASYNC
        const ASYNC = 1;
        /// MS_INVALIDATE
        const INVALIDATE = 2;
        /// MS_SYNC
        const SYNC = 4;
    }

    /// MLOCK_* of mlock2(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct LockFlags: u32 {
        /// MLOCK_ONFAULT
        const ONFAULT = 1;
    }

    /// MCL_* of mlockall(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct LockAllFlags: u32 {
        /// MCL_CURRENT
        const CURRENT = 1;
        /// MCL_FUTURE
        const FUTURE = 2;
        /// MCL_ONFAULT
        const ONFAULT = 4;
    }
}

/// The type bits of mmap's flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapType {
    /// MAP_SHARED
    Shared,
    /// MAP_PRIVATE
    Private,
    /// MAP_SHARED_VALIDATE: as shared, and unknown flags are refused.
    SharedValidate,
}

impl MapType {
    /// MAP_TYPE: the bits of mmap's flags that hold the type.
    pub const MASK: u32 = 0x0f;

    /// The type in mmap's flags, or `None` where Linux answers EINVAL.
    pub const fn from_bits(flags: u32) -> Option<Self> {
        match flags & Self::MASK {
            1 => Some(Self::Shared),
            2 => Some(Self::Private),
            3 => Some(Self::SharedValidate),
            _ => None,
        }
    }
}

macro_rules! advice {
    ($($name:ident = $number:literal $linux:literal,)*) => {
        /// MADV_* of madvise(2).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Advice { $(#[doc = $linux] $name,)* }

        impl Advice {
            /// The advice with this number, or `None` where Linux answers EINVAL.
            pub const fn from_number(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Linux's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $linux,)* }
            }
        }
    };
}

advice! {
    Normal = 0 "MADV_NORMAL",
    Random = 1 "MADV_RANDOM",
    Sequential = 2 "MADV_SEQUENTIAL",
    WillNeed = 3 "MADV_WILLNEED",
    DontNeed = 4 "MADV_DONTNEED",
    Free = 8 "MADV_FREE",
    Remove = 9 "MADV_REMOVE",
    DontFork = 10 "MADV_DONTFORK",
    DoFork = 11 "MADV_DOFORK",
    Mergeable = 12 "MADV_MERGEABLE",
    Unmergeable = 13 "MADV_UNMERGEABLE",
    HugePage = 14 "MADV_HUGEPAGE",
    NoHugePage = 15 "MADV_NOHUGEPAGE",
    DontDump = 16 "MADV_DONTDUMP",
    DoDump = 17 "MADV_DODUMP",
    WipeOnFork = 18 "MADV_WIPEONFORK",
    KeepOnFork = 19 "MADV_KEEPONFORK",
    Cold = 20 "MADV_COLD",
    PageOut = 21 "MADV_PAGEOUT",
    PopulateRead = 22 "MADV_POPULATE_READ",
    PopulateWrite = 23 "MADV_POPULATE_WRITE",
    DontNeedLocked = 24 "MADV_DONTNEED_LOCKED",
    Collapse = 25 "MADV_COLLAPSE",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_type_zero_and_unknown_types_are_refused() {
        assert_eq!(MapType::from_bits(0x20), None);
        assert_eq!(MapType::from_bits(0x22), Some(MapType::Private));
        assert_eq!(MapType::from_bits(0x0f), None);
        assert_eq!(Advice::from_number(7), None);
    }
}

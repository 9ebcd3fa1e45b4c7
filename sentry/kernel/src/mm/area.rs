//! One area of program memory (a VMA): where it lies, what may be done with it, what is behind it.

use std::sync::Arc;

use bitflags::bitflags;
use platform::Prot;

use crate::mm::Mappable;
use crate::vfs::Path;

bitflags! {
    /// What is special about an area.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct VmaFlags: u32 {
        /// Writes are seen by all that map the same object (MAP_SHARED).
        const SHARED = 1;
        /// Grows downwards on a fault below it (MAP_GROWSDOWN, the stack).
        const GROWSDOWN = 1 << 1;
        /// Locked in memory (mlock(2)).
        const LOCKED = 1 << 2;
        /// Locked when touched (MLOCK_ONFAULT).
        const LOCK_ON_FAULT = 1 << 3;
        /// MAP_NORESERVE
        const NORESERVE = 1 << 4;
        /// MADV_DONTFORK
        const DONTFORK = 1 << 5;
        /// MADV_WIPEONFORK
        const WIPEONFORK = 1 << 6;
        /// MADV_DONTDUMP
        const DONTDUMP = 1 << 7;
        /// May not be grown or moved with mremap (the vDSO's pages).
        const DONTEXPAND = 1 << 8;
        /// mprotect may make it readable.
        const MAY_READ = 1 << 9;
        /// mprotect may make it writable.
        const MAY_WRITE = 1 << 10;
        /// mprotect may make it executable.
        const MAY_EXEC = 1 << 11;
        /// MADV_HUGEPAGE
        const HUGEPAGE = 1 << 12;
        /// MADV_NOHUGEPAGE
        const NOHUGEPAGE = 1 << 13;
        /// MADV_MERGEABLE
        const MERGEABLE = 1 << 14;
        /// MADV_RANDOM
        const RANDOM = 1 << 15;
        /// MADV_SEQUENTIAL
        const SEQUENTIAL = 1 << 16;
    }
}

impl VmaFlags {
    /// Everything that mprotect may give.
    pub const MAY_ALL: Self = Self::MAY_READ.union(Self::MAY_WRITE).union(Self::MAY_EXEC);

    /// The MAY_* flags as a protection.
    pub fn may(self) -> Prot {
        let mut prot = Prot::empty();
        prot.set(Prot::READ, self.contains(Self::MAY_READ));
        prot.set(Prot::WRITE, self.contains(Self::MAY_WRITE));
        prot.set(Prot::EXEC, self.contains(Self::MAY_EXEC));
        prot
    }
}

/// What fills an area's pages.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes, private.
    Anonymous,
    /// A mapped object.
    Object {
        /// The object.
        object: Arc<dyn Mappable>,
        /// Offset in bytes of the area's first page.
        offset: u64,
    },
}

/// The name in /proc/PID/maps.
#[derive(Clone, Default)]
pub enum Label {
    /// None, or what follows from the place ([heap], [stack]).
    #[default]
    None,
    /// A fixed one, such as `[vdso]`.
    Fixed(&'static str),
    /// A file.
    File(Path),
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Fixed(a), Self::Fixed(b)) => a == b,
            (Self::File(a), Self::File(b)) => {
                Arc::ptr_eq(&a.dentry, &b.dentry) && Arc::ptr_eq(&a.mount, &b.mount)
            }
            _ => false,
        }
    }
}

/// An area: page-aligned, not empty.
#[derive(Clone)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What the program may do.
    pub prot: Prot,
    /// What is special.
    pub flags: VmaFlags,
    /// What is behind it.
    pub backing: Backing,
    /// Name for /proc.
    pub label: Label,
}

impl Vma {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never true: areas are not empty.
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// True where others see its writes.
    pub fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    /// True where a write makes a copy of its own: what RLIMIT_DATA counts.
    pub fn is_private_writable(&self) -> bool {
        !self.is_shared()
            && self.prot.contains(Prot::WRITE)
            && !self.flags.contains(VmaFlags::GROWSDOWN)
    }

    /// The object and the offset in it of `addr`, which lies in the area.
    pub fn object_at(&self, addr: u64) -> Option<(&Arc<dyn Mappable>, u64)> {
        match &self.backing {
            Backing::Anonymous => None,
            Backing::Object { object, offset } => {
                Some((object, offset.saturating_add(addr.saturating_sub(self.start))))
            }
        }
    }

    /// Moves the start to `addr` (inside the area); the backing's offset follows.
    pub(crate) fn cut_front(&mut self, addr: u64) {
        if let Backing::Object { offset, .. } = &mut self.backing {
            *offset = offset.saturating_add(addr - self.start);
        }
        self.start = addr;
    }

    /// True where `next` goes on where this ends, in every respect.
    pub(crate) fn continues_in(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && self.label == next.label
            && match (&self.backing, &next.backing) {
                (Backing::Anonymous, Backing::Anonymous) => true,
                (
                    Backing::Object { object: a, offset: from },
                    Backing::Object { object: b, offset: to },
                ) => Arc::ptr_eq(a, b) && from.checked_add(self.len()) == Some(*to),
                _ => false,
            }
    }
}

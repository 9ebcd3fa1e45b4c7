//! linux/futex.h: operations and robust lists.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// FUTEX_WAIT
pub const FUTEX_WAIT: u32 = 0;
/// FUTEX_WAKE
pub const FUTEX_WAKE: u32 = 1;
/// FUTEX_REQUEUE
pub const FUTEX_REQUEUE: u32 = 3;
/// FUTEX_CMP_REQUEUE
pub const FUTEX_CMP_REQUEUE: u32 = 4;
/// FUTEX_WAKE_OP
pub const FUTEX_WAKE_OP: u32 = 5;
/// FUTEX_LOCK_PI
pub const FUTEX_LOCK_PI: u32 = 6;
/// FUTEX_UNLOCK_PI
pub const FUTEX_UNLOCK_PI: u32 = 7;
/// FUTEX_TRYLOCK_PI
pub const FUTEX_TRYLOCK_PI: u32 = 8;
/// FUTEX_LOCK_PI2
pub const FUTEX_LOCK_PI2: u32 = 13;
/// FUTEX_WAIT_BITSET
pub const FUTEX_WAIT_BITSET: u32 = 9;
/// FUTEX_WAKE_BITSET
pub const FUTEX_WAKE_BITSET: u32 = 10;
/// FUTEX_PRIVATE_FLAG
pub const FUTEX_PRIVATE_FLAG: u32 = 128;
/// FUTEX_CLOCK_REALTIME
pub const FUTEX_CLOCK_REALTIME: u32 = 256;
/// FUTEX_BITSET_MATCH_ANY
pub const FUTEX_BITSET_MATCH_ANY: u32 = u32::MAX;
/// FUTEX_WAITERS
pub const FUTEX_WAITERS: u32 = 0x8000_0000;
/// FUTEX_OWNER_DIED
pub const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// FUTEX_TID_MASK
pub const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// The most entries of a robust list that are looked at.
pub const ROBUST_LIST_LIMIT: usize = 2048;

/// `struct robust_list_head`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RobustListHead {
    /// First entry; the head itself where the list is empty.
    pub next: u64,
    /// From an entry to its futex word, in bytes.
    pub futex_offset: i64,
    /// An entry that is being put on or taken off.
    pub pending: u64,
}
const _: () = assert!(size_of::<RobustListHead>() == 24);

//! asm-generic/fcntl.h, linux/fcntl.h, linux/fs.h: fcntl commands, locks, the flags of the *at calls.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// AT_FDCWD
pub const AT_FDCWD: i32 = -100;
/// AT_SYMLINK_NOFOLLOW
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// AT_EACCESS of faccessat2(2).
pub const AT_EACCESS: u32 = 0x200;
/// AT_REMOVEDIR of unlinkat(2); the same bit as AT_EACCESS.
pub const AT_REMOVEDIR: u32 = 0x200;
/// AT_SYMLINK_FOLLOW
pub const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// AT_NO_AUTOMOUNT
pub const AT_NO_AUTOMOUNT: u32 = 0x800;
/// AT_EMPTY_PATH
pub const AT_EMPTY_PATH: u32 = 0x1000;
/// AT_STATX_SYNC_TYPE
pub const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// F_DUPFD
pub const F_DUPFD: i32 = 0;
/// F_GETFD
pub const F_GETFD: i32 = 1;
/// F_SETFD
pub const F_SETFD: i32 = 2;
/// F_GETLEASE
pub const F_GETLEASE: i32 = 1025;
/// F_GETFL
pub const F_GETFL: i32 = 3;
/// F_SETFL
pub const F_SETFL: i32 = 4;
/// F_GETLK
pub const F_GETLK: i32 = 5;
/// F_SETLK
pub const F_SETLK: i32 = 6;
/// F_SETLKW
pub const F_SETLKW: i32 = 7;
/// F_SETOWN
pub const F_SETOWN: i32 = 8;
/// F_GETOWN
pub const F_GETOWN: i32 = 9;
/// F_SETSIG
pub const F_SETSIG: i32 = 10;
/// F_GETSIG
pub const F_GETSIG: i32 = 11;
/// F_SETOWN_EX
pub const F_SETOWN_EX: i32 = 15;
/// F_GETOWN_EX
pub const F_GETOWN_EX: i32 = 16;
/// F_OWNER_TID
pub const F_OWNER_TID: i32 = 0;
/// F_OWNER_PID
pub const F_OWNER_PID: i32 = 1;
/// F_OWNER_PGRP
pub const F_OWNER_PGRP: i32 = 2;
/// F_OFD_GETLK
pub const F_OFD_GETLK: i32 = 36;
/// F_OFD_SETLK
pub const F_OFD_SETLK: i32 = 37;
/// F_OFD_SETLKW
pub const F_OFD_SETLKW: i32 = 38;
/// F_DUPFD_QUERY
pub const F_DUPFD_QUERY: i32 = 1027;
/// F_DUPFD_CLOEXEC
pub const F_DUPFD_CLOEXEC: i32 = 1030;
/// F_SETPIPE_SZ
pub const F_SETPIPE_SZ: i32 = 1031;
/// F_GETPIPE_SZ
pub const F_GETPIPE_SZ: i32 = 1032;
/// F_ADD_SEALS
pub const F_ADD_SEALS: i32 = 1033;
/// F_GET_SEALS
pub const F_GET_SEALS: i32 = 1034;

/// FD_CLOEXEC
pub const FD_CLOEXEC: u64 = 1;

/// F_RDLCK
pub const F_RDLCK: i16 = 0;
/// F_WRLCK
pub const F_WRLCK: i16 = 1;
/// F_UNLCK
pub const F_UNLCK: i16 = 2;

/// LOCK_SH of flock(2)
pub const LOCK_SH: u32 = 1;
/// LOCK_EX
pub const LOCK_EX: u32 = 2;
/// LOCK_NB
pub const LOCK_NB: u32 = 4;
/// LOCK_MAND
pub const LOCK_MAND: u32 = 32;
/// LOCK_UN
pub const LOCK_UN: u32 = 8;

/// `struct flock` of x86-64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Flock {
    /// l_type
    pub kind: i16,
    /// l_whence
    pub whence: i16,
    /// Padding.
    pub pad0: i32,
    /// l_start
    pub start: i64,
    /// l_len
    pub len: i64,
    /// l_pid
    pub pid: i32,
    /// Padding.
    pub pad1: i32,
}
const _: () = assert!(size_of::<Flock>() == 32);

/// SEEK_SET
pub const SEEK_SET: i16 = 0;
/// SEEK_CUR
pub const SEEK_CUR: i16 = 1;
/// SEEK_END
pub const SEEK_END: i16 = 2;

/// CLOSE_RANGE_UNSHARE
pub const CLOSE_RANGE_UNSHARE: u32 = 2;
/// CLOSE_RANGE_CLOEXEC
pub const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// FALLOC_FL_KEEP_SIZE
pub const FALLOC_FL_KEEP_SIZE: u32 = 1;
/// FALLOC_FL_PUNCH_HOLE
pub const FALLOC_FL_PUNCH_HOLE: u32 = 2;

/// SPLICE_F_NONBLOCK
pub const SPLICE_F_NONBLOCK: u32 = 2;
/// All SPLICE_F_* bits.
pub const SPLICE_F_ALL: u32 = 0xf;

/// RWF_HIPRI
pub const RWF_HIPRI: u32 = 1;
/// RWF_DSYNC
pub const RWF_DSYNC: u32 = 2;
/// RWF_SYNC
pub const RWF_SYNC: u32 = 4;
/// RWF_NOWAIT
pub const RWF_NOWAIT: u32 = 8;
/// RWF_APPEND
pub const RWF_APPEND: u32 = 16;

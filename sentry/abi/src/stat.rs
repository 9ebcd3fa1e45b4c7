//! asm/stat.h, linux/stat.h, linux/openat2.h, linux/fs.h: what the stat family, statx and openat2 pass.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct stat` of x86-64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Stat {
    /// st_dev
    pub dev: u64,
    /// st_ino
    pub ino: u64,
    /// st_nlink
    pub nlink: u64,
    /// st_mode
    pub mode: u32,
    /// st_uid
    pub uid: u32,
    /// st_gid
    pub gid: u32,
    /// Padding.
    pub pad0: u32,
    /// st_rdev
    pub rdev: u64,
    /// st_size
    pub size: i64,
    /// st_blksize
    pub blksize: i64,
    /// st_blocks
    pub blocks: i64,
    /// st_atime, st_atime_nsec
    pub atime: [u64; 2],
    /// st_mtime, st_mtime_nsec
    pub mtime: [u64; 2],
    /// st_ctime, st_ctime_nsec
    pub ctime: [u64; 2],
    /// Reserved.
    pub unused: [i64; 3],
}
const _: () = assert!(size_of::<Stat>() == 144);

/// `struct statx_timestamp`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct StatxTimestamp {
    /// tv_sec
    pub sec: i64,
    /// tv_nsec
    pub nsec: u32,
    /// Reserved.
    pub reserved: i32,
}

/// `struct statx`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Statx {
    /// stx_mask
    pub mask: u32,
    /// stx_blksize
    pub blksize: u32,
    /// stx_attributes
    pub attributes: u64,
    /// stx_nlink
    pub nlink: u32,
    /// stx_uid
    pub uid: u32,
    /// stx_gid
    pub gid: u32,
    /// stx_mode
    pub mode: u16,
    /// Padding.
    pub spare0: u16,
    /// stx_ino
    pub ino: u64,
    /// stx_size
    pub size: u64,
    /// stx_blocks
    pub blocks: u64,
    /// stx_attributes_mask
    pub attributes_mask: u64,
    /// stx_atime
    pub atime: StatxTimestamp,
    /// stx_btime
    pub btime: StatxTimestamp,
    /// stx_ctime
    pub ctime: StatxTimestamp,
    /// stx_mtime
    pub mtime: StatxTimestamp,
    /// stx_rdev_major, stx_rdev_minor
    pub rdev: [u32; 2],
    /// stx_dev_major, stx_dev_minor
    pub dev: [u32; 2],
    /// stx_mnt_id
    pub mnt_id: u64,
    /// stx_dio_mem_align and what follows.
    pub spare: [u64; 13],
}
const _: () = assert!(size_of::<Statx>() == 256);

/// STATX_BASIC_STATS
pub const STATX_BASIC_STATS: u32 = 0x7ff;
/// STATX_BTIME
pub const STATX_BTIME: u32 = 0x800;
/// STATX_MNT_ID
pub const STATX_MNT_ID: u32 = 0x1000;
/// STATX__RESERVED
pub const STATX_RESERVED: u32 = 0x8000_0000;
/// STATX_ATTR_MOUNT_ROOT
pub const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

/// `struct open_how` of openat2(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OpenHow {
    /// O_* flags.
    pub flags: u64,
    /// Permission bits.
    pub mode: u64,
    /// RESOLVE_* flags.
    pub resolve: u64,
}
const _: () = assert!(size_of::<OpenHow>() == 24);

/// RESOLVE_NO_XDEV
pub const RESOLVE_NO_XDEV: u64 = 0x01;
/// RESOLVE_NO_MAGICLINKS
pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
/// RESOLVE_NO_SYMLINKS
pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
/// RESOLVE_BENEATH
pub const RESOLVE_BENEATH: u64 = 0x08;
/// RESOLVE_IN_ROOT
pub const RESOLVE_IN_ROOT: u64 = 0x10;
/// RESOLVE_CACHED
pub const RESOLVE_CACHED: u64 = 0x20;

/// UTIME_NOW in tv_nsec.
pub const UTIME_NOW: i64 = (1 << 30) - 1;
/// UTIME_OMIT in tv_nsec.
pub const UTIME_OMIT: i64 = (1 << 30) - 2;

/// `struct statfs` of x86-64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Statfs {
    /// f_type
    pub magic: u64,
    /// f_bsize
    pub bsize: u64,
    /// f_blocks
    pub blocks: u64,
    /// f_bfree
    pub bfree: u64,
    /// f_bavail
    pub bavail: u64,
    /// f_files
    pub files: u64,
    /// f_ffree
    pub ffree: u64,
    /// f_fsid
    pub fsid: [u32; 2],
    /// f_namelen
    pub namelen: u64,
    /// f_frsize
    pub frsize: u64,
    /// f_flags
    pub flags: u64,
    /// Reserved.
    pub spare: [u64; 4],
}
const _: () = assert!(size_of::<Statfs>() == 120);

/// ST_VALID: f_flags is filled.
pub const ST_VALID: u64 = 0x20;

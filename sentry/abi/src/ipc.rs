//! linux/ipc.h and linux/shm.h: System V shared memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A key that names nothing: always a new object.
pub const IPC_PRIVATE: i32 = 0;
/// Make it where it is not there.
pub const IPC_CREAT: u32 = 0o1000;
/// Fail where it is there.
pub const IPC_EXCL: u32 = 0o2000;
/// shmctl(2): remove.
pub const IPC_RMID: i32 = 0;
/// shmctl(2): change owner and permissions.
pub const IPC_SET: i32 = 1;
/// shmctl(2): tell.
pub const IPC_STAT: i32 = 2;
/// shmctl(2): keep in memory.
pub const SHM_LOCK: i32 = 11;
/// shmctl(2): may be paged out again.
pub const SHM_UNLOCK: i32 = 12;
/// shmget(2): huge pages.
pub const SHM_HUGETLB: u32 = 0o4000;
/// shmat(2): only to read.
pub const SHM_RDONLY: u32 = 0o10000;
/// shmat(2): round the address down to a page.
pub const SHM_RND: u32 = 0o20000;
/// shmat(2): replace what is mapped there.
pub const SHM_REMAP: u32 = 0o40000;
/// shmat(2): also to execute.
pub const SHM_EXEC: u32 = 0o100000;
/// Bit of [`IpcPerm::mode`]: removed, and gone with the last that has it attached.
pub const SHM_DEST: u32 = 0o1000;

/// `struct ipc64_perm`
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpcPerm {
    /// The key that it was made with.
    pub key: i32,
    /// Owner.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Maker.
    pub cuid: u32,
    /// Maker's group.
    pub cgid: u32,
    /// Permissions (9 bits) and SHM_DEST.
    pub mode: u32,
    /// Sequence number.
    pub seq: u16,
    /// 0
    pub pad: [u16; 3],
    /// 0
    pub unused: [u64; 2],
}
const _: () = assert!(size_of::<IpcPerm>() == 48);

/// `struct shmid64_ds`: times in seconds since the epoch.
#[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ShmidDs {
    /// Who may do what.
    pub perm: IpcPerm,
    /// Bytes, as asked.
    pub size: u64,
    /// Last shmat.
    pub atime: i64,
    /// Last shmdt.
    pub dtime: i64,
    /// Last change.
    pub ctime: i64,
    /// Process that made it.
    pub cpid: i32,
    /// Process of the last shmat or shmdt.
    pub lpid: i32,
    /// Attachments now.
    pub nattch: u64,
    /// 0
    pub unused: [u64; 2],
}
const _: () = assert!(size_of::<ShmidDs>() == 112);

//! linux/capability.h: the structures of capget(2) and capset(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// _LINUX_CAPABILITY_VERSION_1: one data element.
pub const CAPABILITY_VERSION_1: u32 = 0x1998_0330;
/// _LINUX_CAPABILITY_VERSION_2: two data elements.
pub const CAPABILITY_VERSION_2: u32 = 0x2007_1026;
/// _LINUX_CAPABILITY_VERSION_3: two data elements.
pub const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CapHeader {
    /// One of the versions.
    pub version: u32,
    /// Thread id; 0 for the caller.
    pub pid: i32,
}

/// `struct __user_cap_data_struct`: 32 capabilities of each set.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CapData {
    /// Effective set.
    pub effective: u32,
    /// Permitted set.
    pub permitted: u32,
    /// Inheritable set.
    pub inheritable: u32,
}
const _: () = assert!(size_of::<CapData>() == 12);

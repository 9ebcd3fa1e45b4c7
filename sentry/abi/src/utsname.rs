//! linux/utsname.h

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest name of a field, without its NUL.
pub const NEW_UTS_LEN: usize = 64;

/// `struct new_utsname`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NewUtsname {
    /// sysname, nodename, release, version, machine, domainname: NUL-terminated, 65 bytes each.
    pub fields: [[u8; NEW_UTS_LEN + 1]; 6],
}
const _: () = assert!(size_of::<NewUtsname>() == 390);

//! Vectors of buffers (linux/uio.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most elements of a vector: more is EINVAL.
pub const UIO_MAXIOV: usize = 1024;

/// struct iovec: a buffer in the program's memory, alleged.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct IoVec {
    /// Address of the first byte.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

const _: () = assert!(size_of::<IoVec>() == 16);

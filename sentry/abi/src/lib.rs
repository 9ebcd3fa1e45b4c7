//! Linux UAPI for x86-64: numbers, structures and user pointers. A file per header; no behaviour, no other package of ours.
//!
//! Structures are `#[repr(C)]`, derive zerocopy's traits (so that they are read and written as bytes without unsafe)
//! and are followed by a `const` assertion of their size. Flags are strict: an unknown bit is an error for the handler to answer.
#![forbid(unsafe_code)]

pub mod addr;
pub mod auxv;
pub mod elf;
pub mod errno;
pub mod if_;
pub mod in_;
pub mod mman;
pub mod netlink;
pub mod socket;
pub mod tcp;
pub mod termios;
pub mod uio;
pub mod un;

pub use addr::{PAGE_SIZE, UserAddr, UserPtr, UserSlice};
pub use errno::Errno;

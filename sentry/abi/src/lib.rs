//! Linux UAPI for x86-64: numbers, structures and user pointers. A file per header; no behaviour, no other package of ours.
//!
//! Structures are `#[repr(C)]`, derive zerocopy's traits (so that they are read and written as bytes without unsafe)
//! and are followed by a `const` assertion of their size. Flags are strict: an unknown bit is an error for the handler to answer.
#![forbid(unsafe_code)]

pub mod addr;
pub mod auxv;
pub mod capability;
pub mod diag;
pub mod dirent;
pub mod elf;
pub mod errno;
pub mod fcntl;
pub mod futex;
pub mod if_;
pub mod if_packet;
pub mod in_;
pub mod inotify;
pub mod ioctl;
pub mod ipc;
pub mod mman;
pub mod netlink;
pub mod poll;
pub mod prctl;
pub mod resource;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod stat;
pub mod sysinfo;
pub mod tcp;
pub mod termios;
pub mod time;
pub mod uio;
pub mod un;
pub mod utsname;
pub mod wait;

pub use addr::{PAGE_SIZE, UserAddr, UserPtr, UserSlice};
pub use errno::Errno;

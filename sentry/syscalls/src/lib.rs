//! The system-call table: typed arguments, a file per family of handlers, strace. It must not know any filesystem or protocol: it reaches them through the kernel's traits.
//!
//! A handler reads like the man page: types decode, then flags, permission, lookup, one call of the kernel object that owns the state, encode.
//! To add a call: a function in its family's file and a row in that file's `rows!` list.
#![forbid(unsafe_code)]

pub mod args;
mod common;
pub mod docs;
pub mod strace;
pub mod table;

mod calls;
mod cmsg;
mod cred;
mod dir;
mod epoll;
mod event;
mod fdflags;
mod file;
mod fs_path;
mod futex;
mod ipc;
mod mm;
mod mount;
mod owner;
mod pipe;
mod poll;
mod process;
mod rw;
mod sched;
mod sendrecv;
mod signal;
mod socket;
mod stat;
mod system;
mod time;
mod xattr;

pub use args::{ArgReader, Fd, FromArg};
pub use calls::Syscalls;

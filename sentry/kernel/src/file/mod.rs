//! Open files: what can be asked of one ([`FileOps`]), the description that descriptors share, the table of descriptors,
//! and the files that the kernel itself implements (pipes, epoll, eventfd, timerfd, signalfd, pidfd, memfd, inotify).

pub mod description;
pub mod epoll;
pub mod eventfd;
pub mod inotify;
pub mod locks;
pub mod memfd;
pub mod nameless;
pub mod ops;
pub mod owner;
pub mod pidfd;
pub mod pipe;
pub mod signalfd;
pub mod table;
pub mod timerfd;

#[cfg(test)]
mod tests;

pub use description::{FileDescription, SETTABLE_FLAGS, Whence};
pub use ops::{FileKind, FileOps, PathOnly, WriteAt, Written};
pub use table::{FdTable, OnExec};

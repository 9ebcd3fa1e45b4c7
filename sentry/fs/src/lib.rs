//! Filesystems of the sentry: each a folder behind the kernel's `FileSystem`, `Inode` and `FileOps` traits. They never import each other.
//!
//! * [`tmpfs`]: everything in memory; its files' pages lie in the memory file, so they can be mapped.
//! * [`host`]: a directory of the host, reached only through directory descriptors.
//! * [`overlay`]: a read-only lower tree with a writable upper one, both known only as inodes.
//! * [`dev`], [`proc`](mod@proc), [`sys`]: the trees that programs expect at /dev, /proc and /sys.
//!
//! Shared by them: [`services`] (memory and clock as arguments), [`pages`] (a file's pages), [`pseudo`] (generated files).
#![forbid(unsafe_code)]

pub mod host;
pub mod listing;
pub mod overlay;
pub mod pages;
pub mod services;
pub mod tmpfs;

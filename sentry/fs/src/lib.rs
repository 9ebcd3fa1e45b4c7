//! Filesystems of the sentry: each a folder behind the kernel's `FileSystem`, `Inode` and `FileOps` traits. They never import each other.
//!
//! * [`tmpfs`]: everything in memory; its files' pages lie in the memory file, so they can be mapped.
//! * [`host`]: a directory of the host, reached only through directory descriptors.
//! * [`overlay`]: a read-only lower tree with a writable upper one, both known only as inodes.
//! * [`dev`], [`proc`](mod@proc), [`sys`]: the trees that programs expect at /dev, /proc and /sys.
//!
//! Shared by them: [`services`] (memory and clock as arguments), [`pages`] (a file's pages), [`listing`] (a directory as one reader sees it),
//! [`tree`] (filling a fresh tree).
#![forbid(unsafe_code)]

pub mod dev;
pub mod devpts;
pub mod host;
pub mod listing;
pub mod overlay;
pub mod pages;
pub mod proc;
pub mod services;
pub mod stdio;
pub mod sys;
pub mod tmpfs;
pub mod tree;
pub mod tty;

use std::sync::Arc;

use sentry_kernel::error::Result;
use sentry_kernel::vfs::FileSystem;

use services::Services;
use tmpfs::{Options, Tmpfs};

/// A /dev with its nodes, links and mount points.
pub fn new_dev(services: &Services) -> Result<Arc<dyn FileSystem>> {
    let options = Options { mode: 0o755, ..Options::default() };
    let tmpfs = Tmpfs::with_type(services, options, "devtmpfs")?;
    dev::populate(&tmpfs.root())?;
    Ok(tmpfs)
}

/// A /sys of a machine with `cpus` processors.
pub fn new_sys(services: &Services, cpus: usize) -> Result<Arc<dyn FileSystem>> {
    let options = Options { mode: 0o555, ..Options::default() };
    let tmpfs = Tmpfs::with_type(services, options, "sysfs")?;
    sys::populate(&tmpfs.root(), cpus)?;
    Ok(tmpfs)
}

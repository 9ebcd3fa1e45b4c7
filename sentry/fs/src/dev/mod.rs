//! dev: the nodes that programs expect in /dev, filled into an empty tree, and the drivers of the memory devices (major 1).

mod memory;

use std::sync::Arc;

use sentry_kernel::device::makedev;
use sentry_kernel::error::Result;
use sentry_kernel::vfs::{FileType, Inode, NewNode};

use crate::tree;
pub use memory::{Random, devices};

/// Character devices: name, major, minor, permissions (Linux's admin-guide/devices.txt).
const NODES: [(&str, u32, u32, u32); 7] = [
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("tty", 5, 0, 0o666),
    ("console", 5, 1, 0o620),
];

/// Links: name and target.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills an empty tree. `pts` and `shm` are directories for other filesystems to be mounted on.
pub fn populate(root: &Arc<dyn Inode>) -> Result<()> {
    for (name, major, minor, permissions) in NODES {
        let rdev = makedev(major, minor);
        let made = NewNode { rdev, ..tree::node(FileType::CharDevice, permissions) };
        root.create(name.as_bytes(), &made)?;
    }
    for (name, target) in LINKS {
        tree::link(root, name, target)?;
    }
    root.create(b"pts", &tree::node(FileType::Directory, 0o755))?;
    root.create(b"shm", &tree::node(FileType::Directory, 0o1777))?;
    root.create(b"mqueue", &tree::node(FileType::Directory, 0o1777))?;
    Ok(())
}

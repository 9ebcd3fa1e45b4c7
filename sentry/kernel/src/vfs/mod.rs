//! Filesystems behind traits, and the tree that programs see: entries, mounts, the path walk, permissions, changes.
//!
//! It must not know any filesystem by name. `inode` holds the traits that filesystems implement; `lookup`, `open` and `modify`
//! are what system calls use; they take a [`ResolveCx`] instead of a task.

pub mod context;
pub mod dentry;
pub mod inode;
pub mod lookup;
pub mod modify;
pub mod mount;
pub mod open;
pub mod path;
pub mod permission;
pub mod superblock;
pub mod watch;

#[cfg(test)]
pub(crate) mod memfs;
#[cfg(test)]
mod tests;

pub use context::FsContext;
pub use dentry::Dentry;
pub use inode::{
    Access, Attributes, Change, DirEntry, DirSink, FileSystem, FileType, FsCreate, FsStat, FsType,
    Inode, MountOptions, NewNode, OpenFlags, RenameFlags, SetTime, Timespec,
};
pub use lookup::{DirRef, Last, LookupFlags, Parent, ResolveCx, resolve, resolve_parent};
pub use mount::{Mount, MountFlags, MountNamespace, Unmount};
pub use open::{OpenHow, OpenSpecial, open, open_path};
pub use path::Path;
pub use superblock::SuperBlock;

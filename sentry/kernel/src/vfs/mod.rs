//! Filesystems behind traits: what an inode and a filesystem can be asked. It must not know any filesystem by name.

pub mod inode;
pub mod path;

pub use inode::{
    Access, Attributes, Change, DirEntry, DirSink, FileSystem, FileType, FsCreate, FsStat, FsType,
    Inode, MountOptions, NewNode, OpenFlags, RenameFlags, SetTime, Timespec,
};
pub use path::{Dentry, Mount, Path};

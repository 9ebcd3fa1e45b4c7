//! Settings below /proc/sys that another part of the sentry owns: proc shows the tree, the owner reads and writes it.

use sentry_abi::Errno;

use crate::error::Result;

/// What is at a path of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// Further settings.
    Directory,
    /// A file with these permissions.
    File {
        /// Permission bits, such as 0o644.
        mode: u32,
    },
}

/// A tree of settings. Paths are relative, with slashes and without a first one; the empty path is the root.
pub trait Settings: Send + Sync {
    /// What is at a path, if anything.
    fn find(&self, path: &str) -> Option<Setting>;

    /// The names in a directory, sorted.
    fn list(&self, path: &str) -> Vec<(String, Setting)>;

    /// A file's content, with its line end. Errors: ENOENT for what went away.
    fn read(&self, path: &str) -> Result<Vec<u8>>;

    /// Sets a file's value from what a program wrote. Errors: EINVAL for what cannot be read or is out of bounds, ENOENT.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<()>;
}

/// A tree without settings.
impl Settings for () {
    fn find(&self, path: &str) -> Option<Setting> {
        path.is_empty().then_some(Setting::Directory)
    }

    fn list(&self, _: &str) -> Vec<(String, Setting)> {
        Vec::new()
    }

    fn read(&self, _: &str) -> Result<Vec<u8>> {
        Err(Errno::ENOENT.into())
    }

    fn write(&self, _: &str, _: &[u8]) -> Result<()> {
        Err(Errno::ENOENT.into())
    }
}

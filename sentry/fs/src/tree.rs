//! Makes directories, files, links and nodes in a fresh tree, as boot does for /dev and /sys.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::WriteAt;
use sentry_kernel::io::SliceSource;
use sentry_kernel::vfs::{FileType, Inode, NewNode, OpenFlags};

/// A node of root's to make.
pub fn node(file_type: FileType, permissions: u32) -> NewNode<'static> {
    NewNode { file_type, permissions, uid: 0, gid: 0, rdev: 0, target: b"" }
}

/// The directory at a relative path, made with what is missing on the way.
pub fn directory(root: &Arc<dyn Inode>, path: &str, permissions: u32) -> Result<Arc<dyn Inode>> {
    let mut at = root.clone();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = match at.lookup(name.as_bytes()) {
            Err(error) if error.is(Errno::ENOENT) => {
                at.create(name.as_bytes(), &node(FileType::Directory, permissions))?
            }
            other => other?,
        };
    }
    Ok(at)
}

/// A file with this content at a relative path, in directories that are made where they are missing.
pub fn file(root: &Arc<dyn Inode>, path: &str, content: &[u8]) -> Result<()> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let made =
        directory(root, above, 0o755)?.create(name.as_bytes(), &node(FileType::Regular, 0o444))?;
    let open = made.open(OpenFlags::WRONLY, &Credentials::root())?;
    let mut source = SliceSource::new(content);
    match open.write(WriteAt::Offset(0), &mut source)?.len == content.len() {
        true => Ok(()),
        false => Err(Errno::ENOSPC.into()),
    }
}

/// A symbolic link.
pub fn link(directory: &Arc<dyn Inode>, name: &str, target: &str) -> Result<()> {
    let target = target.as_bytes();
    let made = NewNode { target, ..node(FileType::Symlink, 0o777) };
    directory.create(name.as_bytes(), &made).map(drop)
}

//! Who may do what with an inode: owner, group, others, and the capabilities that stand above them (inode(7), capabilities(7)).

use sentry_abi::Errno;

use crate::cred::{Capabilities, Credentials};
use crate::error::Result;
use crate::vfs::inode::{Access, Attributes, FileType, Inode};
use crate::vfs::mount::MountFlags;
use crate::vfs::path::Path;

/// Checks `access` to an inode. Errors: EACCES.
pub fn check(inode: &dyn Inode, access: Access, creds: &Credentials) -> Result<()> {
    match inode.permission(access, creds) {
        Some(result) => result,
        None => check_attributes(&inode.attributes()?, access, creds),
    }
}

/// Checks `access` to a path: the inode's rule and the mount's. Errors: EACCES, EROFS.
pub fn check_path(path: &Path, access: Access, creds: &Credentials) -> Result<()> {
    let kind = path.file_type();
    let stored = matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink);
    if access.contains(Access::WRITE) && stored {
        check_writable_mount(path)?;
    }
    let noexec = path.mount.flags().contains(MountFlags::NOEXEC);
    if access.contains(Access::EXEC) && kind == FileType::Regular && noexec {
        return Err(Errno::EACCES.into());
    }
    check(&**path.inode(), access, creds)
}

/// EROFS on a read-only mount.
pub fn check_writable_mount(path: &Path) -> Result<()> {
    if path.mount.flags().contains(MountFlags::RDONLY) { Err(Errno::EROFS.into()) } else { Ok(()) }
}

/// The ordinary rules on known attributes. Errors: EACCES.
pub fn check_attributes(attrs: &Attributes, access: Access, creds: &Credentials) -> Result<()> {
    let bits = if creds.fsuid == attrs.uid {
        attrs.permissions >> 6
    } else if creds.in_group(attrs.gid) {
        attrs.permissions >> 3
    } else {
        attrs.permissions
    };
    if access.bits() & !bits & 7 == 0 {
        return Ok(());
    }
    let is_dir = attrs.file_type == FileType::Directory;
    // CAP_DAC_OVERRIDE: everything, but execution of a file needs one x bit.
    let may_exec = is_dir || attrs.permissions & 0o111 != 0;
    if creds.has(Capabilities::DAC_OVERRIDE) && (may_exec || !access.contains(Access::EXEC)) {
        return Ok(());
    }
    // CAP_DAC_READ_SEARCH: reading files, reading and searching directories.
    let reads = access == Access::READ || (is_dir && !access.contains(Access::WRITE));
    if creds.has(Capabilities::DAC_READ_SEARCH) && reads {
        return Ok(());
    }
    Err(Errno::EACCES.into())
}

/// True for the owner and for CAP_FOWNER.
pub fn owns(attrs: &Attributes, creds: &Credentials) -> bool {
    creds.fsuid == attrs.uid || creds.has(Capabilities::FOWNER)
}

/// Checks that an entry of `dir` may be removed or renamed: write and search on the directory, and the sticky bit's rule.
/// Errors: EACCES, EROFS, EPERM.
pub fn check_delete(dir: &Path, victim: &dyn Inode, creds: &Credentials) -> Result<()> {
    check_path(dir, Access::WRITE | Access::EXEC, creds)?;
    let dir = dir.inode().attributes()?;
    if dir.permissions & 0o1000 == 0 || creds.has(Capabilities::FOWNER) {
        return Ok(());
    }
    if creds.fsuid == dir.uid || creds.fsuid == victim.attributes()?.uid {
        return Ok(());
    }
    Err(Errno::EPERM.into())
}

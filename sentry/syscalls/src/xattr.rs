//! Extended attributes: get, set, list, remove.

use sentry_abi::{Errno, UserPtr, UserSlice};
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{Access, FileType, LookupFlags, Path, modify, permission};

use crate::args::Fd;
use crate::common::{any_file, file, path_at};
use crate::rows;

rows! {
    setxattr = 188 full;
    lsetxattr = 189 full;
    fsetxattr = 190 full;
    getxattr = 191 full;
    lgetxattr = 192 full;
    fgetxattr = 193 full;
    listxattr = 194 full;
    llistxattr = 195 full;
    flistxattr = 196 full;
    removexattr = 197 full;
    lremovexattr = 198 full;
    fremovexattr = 199 full;
}

/// XATTR_NAME_MAX
const NAME_MAX: usize = 255;
/// XATTR_SIZE_MAX and XATTR_LIST_MAX
const SIZE_MAX: usize = 65536;

fn followed(task: &CurrentTask, path: UserPtr<u8>) -> Result<Path> {
    path_at(task, Fd::CWD, path, LookupFlags::FOLLOW)
}

fn itself(task: &CurrentTask, path: UserPtr<u8>) -> Result<Path> {
    path_at(task, Fd::CWD, path, LookupFlags::empty())
}

fn of_fd(task: &CurrentTask, fd: Fd) -> Result<Path> {
    Ok(file(task, fd)?.path().ok_or(Errno::EOPNOTSUPP)?.clone())
}

fn read_name(task: &CurrentTask, name: UserPtr<u8>) -> Result<Vec<u8>> {
    let name = task
        .mm()
        .read_cstring(name.addr(), NAME_MAX + 1)
        .map_err(|e| if e.is(Errno::ENAMETOOLONG) { Errno::ERANGE.into() } else { e })?;
    if name.is_empty() { Err(Errno::ERANGE.into()) } else { Ok(name) }
}

/// xattr(7): who may read or change an attribute, by its name's first part. `absent` is the answer to a reader without the right.
fn check(at: &Path, name: &[u8], access: Access, creds: &Credentials) -> Result<()> {
    let writes = access.contains(Access::WRITE);
    if writes {
        permission::check_writable_mount(at)?;
    }
    if name.starts_with(b"trusted.") {
        return match creds.has(Capabilities::SYS_ADMIN) {
            true => Ok(()),
            false => Err(if writes { Errno::EPERM } else { Errno::ENODATA }.into()),
        };
    }
    if [&b"user."[..], b"trusted.", b"security.", b"system."].contains(&name) {
        return Err(Errno::EINVAL.into());
    }
    if name.starts_with(b"user.") {
        let attrs = at.inode().attributes()?;
        if !matches!(attrs.file_type, FileType::Regular | FileType::Directory) {
            return Err(if writes { Errno::EPERM } else { Errno::ENODATA }.into());
        }
        let sticky = attrs.file_type == FileType::Directory && attrs.permissions & 0o1000 != 0;
        if sticky && writes && !permission::owns(&attrs, creds) {
            return Err(Errno::EPERM.into());
        }
        return permission::check(&**at.inode(), access, creds);
    }
    if name.starts_with(b"security.") || name.starts_with(b"system.") {
        return match writes && !creds.has(Capabilities::SYS_ADMIN) && name.starts_with(b"security.")
        {
            true => Err(Errno::EPERM.into()),
            false => Ok(()),
        };
    }
    Err(Errno::EOPNOTSUPP.into())
}

/// Linux copies name and value before it looks for the file.
fn set(
    task: &CurrentTask,
    at: impl FnOnce() -> Result<Path>,
    name: UserPtr<u8>,
    value: UserSlice<u8>,
    flags: u32,
) -> Result<()> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let name = read_name(task, name)?;
    if value.len() > SIZE_MAX as u64 {
        return Err(Errno::E2BIG.into());
    }
    let mut bytes = vec![0; value.len() as usize];
    task.mm().read(value.addr(), &mut bytes)?;
    let at = at()?;
    check(&at, &name, Access::WRITE, &task.credentials())?;
    at.inode().set_xattr(&name, &bytes, flags)?;
    modify::note_attributes_changed(&at);
    Ok(())
}

fn setxattr(
    task: &CurrentTask,
    path: UserPtr<u8>,
    name: UserPtr<u8>,
    value: UserSlice<u8>,
    flags: u32,
) -> Result<()> {
    set(task, || followed(task, path), name, value, flags)
}

fn lsetxattr(
    task: &CurrentTask,
    path: UserPtr<u8>,
    name: UserPtr<u8>,
    value: UserSlice<u8>,
    flags: u32,
) -> Result<()> {
    set(task, || itself(task, path), name, value, flags)
}

fn fsetxattr(
    task: &CurrentTask,
    fd: Fd,
    name: UserPtr<u8>,
    value: UserSlice<u8>,
    flags: u32,
) -> Result<()> {
    set(task, || of_fd(task, fd), name, value, flags)
}

/// Stores a value; the size 0 only asks how long it is. Errors: ERANGE.
fn store(task: &CurrentTask, value: &[u8], out: UserSlice<u8>) -> Result<usize> {
    if out.is_empty() {
        return Ok(value.len());
    }
    if (value.len() as u64) > out.len() {
        return Err(Errno::ERANGE.into());
    }
    task.mm().write(out.addr(), value)?;
    Ok(value.len())
}

fn value(
    task: &CurrentTask,
    at: impl FnOnce() -> Result<Path>,
    name: UserPtr<u8>,
    out: UserSlice<u8>,
) -> Result<usize> {
    let name = read_name(task, name)?;
    let at = at()?;
    check(&at, &name, Access::READ, &task.credentials())?;
    store(task, &at.inode().xattr(&name)?, out)
}

fn getxattr(
    task: &CurrentTask,
    path: UserPtr<u8>,
    name: UserPtr<u8>,
    out: UserSlice<u8>,
) -> Result<usize> {
    value(task, || followed(task, path), name, out)
}

fn lgetxattr(
    task: &CurrentTask,
    path: UserPtr<u8>,
    name: UserPtr<u8>,
    out: UserSlice<u8>,
) -> Result<usize> {
    value(task, || itself(task, path), name, out)
}

fn fgetxattr(task: &CurrentTask, fd: Fd, name: UserPtr<u8>, out: UserSlice<u8>) -> Result<usize> {
    // What has no path has no attributes either, but it could be asked.
    let at = || match of_fd(task, fd) {
        Err(e) if e.is(Errno::EOPNOTSUPP) => Err(Errno::ENODATA.into()),
        at => at,
    };
    value(task, at, name, out)
}

fn list(task: &CurrentTask, at: &Path, out: UserSlice<u8>) -> Result<usize> {
    let mut bytes = Vec::new();
    let sees_trusted = task.credentials().has(Capabilities::SYS_ADMIN);
    for name in at.inode().xattr_names()? {
        if sees_trusted || !name.starts_with(b"trusted.") {
            bytes.extend_from_slice(&name);
            bytes.push(0);
        }
    }
    store(task, &bytes, out)
}

fn listxattr(task: &CurrentTask, path: UserPtr<u8>, out: UserSlice<u8>) -> Result<usize> {
    list(task, &followed(task, path)?, out)
}

fn llistxattr(task: &CurrentTask, path: UserPtr<u8>, out: UserSlice<u8>) -> Result<usize> {
    list(task, &itself(task, path)?, out)
}

fn flistxattr(task: &CurrentTask, fd: Fd, out: UserSlice<u8>) -> Result<usize> {
    match any_file(task, fd)?.path() {
        Some(_) => list(task, &of_fd(task, fd)?, out),
        None => Ok(0),
    }
}

fn remove(task: &CurrentTask, at: impl FnOnce() -> Result<Path>, name: UserPtr<u8>) -> Result<()> {
    let name = read_name(task, name)?;
    let at = at()?;
    check(&at, &name, Access::WRITE, &task.credentials())?;
    at.inode().remove_xattr(&name)?;
    modify::note_attributes_changed(&at);
    Ok(())
}

fn removexattr(task: &CurrentTask, path: UserPtr<u8>, name: UserPtr<u8>) -> Result<()> {
    remove(task, || followed(task, path), name)
}

fn lremovexattr(task: &CurrentTask, path: UserPtr<u8>, name: UserPtr<u8>) -> Result<()> {
    remove(task, || itself(task, path), name)
}

fn fremovexattr(task: &CurrentTask, fd: Fd, name: UserPtr<u8>) -> Result<()> {
    remove(task, || of_fd(task, fd), name)
}

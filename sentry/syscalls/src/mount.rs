//! mount, umount2, pivot_root.

use sentry_abi::{Errno, PAGE_SIZE, UserAddr, UserPtr};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::{LookupFlags, Mount, MountFlags, MountOptions, Path, Unmount};

use crate::args::Fd;
use crate::common::path_at;
use crate::rows;

rows! {
    pivot_root = 155 refused "EPERM: the root of a sandbox does not change";
    mount = 165 partial "registered filesystems, MS_BIND without MS_REC's deeper mounts, MS_REMOUNT; MS_MOVE answers EINVAL; propagation is always private";
    umount2 = 166 partial "MNT_EXPIRE answers EINVAL";
}

const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
/// MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED
const MS_PROPAGATION: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;
const MNT_DETACH: u32 = 2;
const MNT_EXPIRE: u32 = 4;
const UMOUNT_NOFOLLOW: u32 = 8;

fn check_admin(task: &CurrentTask) -> Result<()> {
    if task.credentials().has(Capabilities::SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM.into()) }
}

fn target(task: &CurrentTask, path: UserPtr<u8>) -> Result<Path> {
    path_at(task, Fd::CWD, path, LookupFlags::FOLLOW)
}

fn mount(
    task: &CurrentTask,
    source: UserPtr<u8>,
    at: UserPtr<u8>,
    kind: UserPtr<u8>,
    flags: u64,
    data: UserAddr,
) -> Result<()> {
    let at = target(task, at)?;
    check_admin(task)?;
    let mount_flags = MountFlags::from_bits_truncate(flags as u32);
    if flags & MS_REMOUNT != 0 {
        if !std::sync::Arc::ptr_eq(at.mount.root(), &at.dentry) {
            return Err(Errno::EINVAL.into());
        }
        at.mount.set_flags(mount_flags);
        return Ok(());
    }
    if flags & MS_BIND != 0 {
        let from = target(task, source)?;
        let bound = Mount::of(from.dentry.clone(), from.mount.source(), from.mount.flags());
        return task.fs().namespace().attach(bound, &at);
    }
    if flags & MS_PROPAGATION != 0 {
        // Nothing propagates here: private is what every mount is, the others cannot be had.
        return if flags & MS_PROPAGATION == 1 << 18 { Ok(()) } else { Err(Errno::EINVAL.into()) };
    }
    if flags & MS_MOVE != 0 {
        return Err(Errno::EINVAL.into());
    }
    let read = |ptr: UserPtr<u8>| match ptr.non_null() {
        Some(ptr) => task.mm().read_cstring(ptr.addr(), PAGE_SIZE as usize),
        None => Ok(Vec::new()),
    };
    let kind = read(kind)?;
    let fs_type = task.container().fs_type(&kind)?;
    if !fs_type.user_mountable {
        return Err(Errno::EPERM.into());
    }
    let options = MountOptions { source: read(source)?, data: read(UserPtr::new(data.0))? };
    let filesystem = (fs_type.create)(&options)?;
    task.fs().namespace().mount(filesystem, &options.source, mount_flags, &at).map(drop)
}

fn umount2(task: &CurrentTask, path: UserPtr<u8>, flags: u32) -> Result<()> {
    if flags & !(1 | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 || flags & MNT_EXPIRE != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut how = LookupFlags::empty();
    how.set(LookupFlags::FOLLOW, flags & UMOUNT_NOFOLLOW == 0);
    let at = path_at(task, Fd::CWD, path, how)?;
    check_admin(task)?;
    let how = if flags & MNT_DETACH != 0 { Unmount::Detach } else { Unmount::IfUnused };
    task.fs().namespace().unmount(&at, how)
}

fn pivot_root(_: &CurrentTask, _new: UserPtr<u8>, _old: UserPtr<u8>) -> Result<()> {
    Err(Errno::EPERM.into())
}

//! The bundle that containerd made: what its specification says of pods, and the mounts of its root filesystem.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use containerd_shim_protos::types::mount::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::Deserialize;

/// Annotations of containerd's CRI plugin, and the older ones that dockershim-like callers use.
const SANDBOX_IDS: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.sandbox.id"];

#[derive(Default, Deserialize)]
struct Annotated {
    annotations: Option<BTreeMap<String, String>>,
}

/// The sandbox of the pod to which a bundle's container belongs; none where it stands alone.
pub fn sandbox_of(bundle: &Path) -> Result<Option<String>> {
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let config: Annotated =
        serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let annotations = config.annotations.unwrap_or_default();
    Ok(SANDBOX_IDS.iter().find_map(|name| annotations.get(*name)).cloned())
}

/// Mounts a root filesystem, as the snapshotter says. Where one of several fails, none is left.
pub fn mount_root(mounts: &[Mount], target: &Path) -> Result<()> {
    std::fs::create_dir_all(target)?;
    for one in mounts {
        if let Err(error) = mount_one(one, target) {
            unmount_root(target);
            return Err(error);
        }
    }
    Ok(())
}

/// Takes away everything that is mounted there.
pub fn unmount_root(target: &Path) {
    // EINVAL: nothing is mounted there any more.
    while umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
}

fn mount_one(one: &Mount, target: &Path) -> Result<()> {
    if one.target.split('/').any(|part| part == "..") {
        bail!("the mount target {:?} leaves the root filesystem", one.target);
    }
    let target = target.join(one.target.trim_start_matches('/'));
    let (flags, data) = options(&one.options);
    let told = || {
        let long = data.len() >= 4096;
        let why = if long { " (more layers than a page has room for)" } else { "" };
        format!("cannot mount {} ({}) at {}{why}", one.source, one.type_, target.display())
    };
    let bind = flags & (MsFlags::MS_BIND | MsFlags::MS_REC);
    let data = Some(data.as_str()).filter(|data| !data.is_empty());
    mount(Some(one.source.as_str()), &target, Some(one.type_.as_str()), flags, data)
        .with_context(told)?;
    // mount(2): what a bind mount forbids is only heard when it is mounted again.
    if bind.contains(MsFlags::MS_BIND) && flags != bind {
        let again = (flags & !MsFlags::MS_REC) | MsFlags::MS_REMOUNT;
        match mount(None::<&str>, &target, None::<&str>, again, None::<&str>) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno).with_context(told),
        }
    }
    Ok(())
}

/// Flags, and what is left for the filesystem.
fn options(words: &[String]) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for word in words {
        match word.as_str() {
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "rw" | "suid" | "dev" | "exec" | "atime" | "async" | "defaults" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_from_what_the_filesystem_wants() {
        let words = ["ro", "nodev", "lowerdir=/a:/b", "index=off"].map(str::to_owned);
        let (flags, data) = options(&words);
        assert_eq!(flags, MsFlags::MS_RDONLY | MsFlags::MS_NODEV);
        assert_eq!(data, "lowerdir=/a:/b,index=off");
    }

    #[test]
    fn a_mount_does_not_leave_the_root() {
        let one = Mount { target: "/a/../../etc".into(), ..Mount::default() };
        assert!(mount_one(&one, Path::new("/nonexistent")).is_err());
    }
}

//! Mounts and the namespace that holds them (mount_namespaces(7)).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use bitflags::bitflags;
use sentry_abi::Errno;

use crate::error::Result;
use crate::sync::{Mutex, Rank};
use crate::vfs::dentry::Dentry;
use crate::vfs::inode::FileSystem;
use crate::vfs::path::Path;
use crate::vfs::superblock::SuperBlock;

bitflags! {
    /// Flags of one mount, with the values of mount(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MountFlags: u32 {
        /// MS_RDONLY
        const RDONLY = 1;
        /// MS_NOSUID
        const NOSUID = 2;
        /// MS_NODEV
        const NODEV = 4;
        /// MS_NOEXEC
        const NOEXEC = 8;
        /// MS_NOATIME
        const NOATIME = 1024;
        /// MS_NODIRATIME
        const NODIRATIME = 2048;
        /// MS_RELATIME
        const RELATIME = 1 << 21;
    }
}

impl MountFlags {
    /// The options that /proc/mounts shows, such as `rw,nosuid,relatime`.
    pub fn options(self) -> String {
        let mut text = String::from(if self.contains(Self::RDONLY) { "ro" } else { "rw" });
        let names = [
            (Self::NOSUID, ",nosuid"),
            (Self::NODEV, ",nodev"),
            (Self::NOEXEC, ",noexec"),
            (Self::NOATIME, ",noatime"),
            (Self::NODIRATIME, ",nodiratime"),
            (Self::RELATIME, ",relatime"),
        ];
        for (flag, name) in names {
            if self.contains(flag) {
                text.push_str(name);
            }
        }
        text
    }
}

/// A filesystem (or a part of one) attached to the tree.
pub struct Mount {
    id: u32,
    source: Vec<u8>,
    root: Arc<Dentry>,
    flags: AtomicU32,
    place: Mutex<Option<(Weak<Mount>, Arc<Dentry>)>>,
    children: Mutex<Vec<Arc<Mount>>>,
}

impl Mount {
    /// A mount of a filesystem's root, attached nowhere yet.
    pub fn new(filesystem: Arc<dyn FileSystem>, source: &[u8], flags: MountFlags) -> Arc<Self> {
        Self::of(Dentry::root(&SuperBlock::new(filesystem)), source, flags)
    }

    /// A mount whose top is `root`: a bind mount, or a pseudo filesystem.
    pub fn of(root: Arc<Dentry>, source: &[u8], flags: MountFlags) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(20);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            source: source.to_vec(),
            root,
            flags: AtomicU32::new(flags.bits()),
            place: Mutex::new(Rank::LEAF, None),
            children: Mutex::new(Rank::MOUNT, Vec::new()),
        })
    }

    /// Number in /proc/PID/mountinfo and statx.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The source given to mount(2), such as a device name.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The filesystem.
    pub fn filesystem(&self) -> &Arc<dyn FileSystem> {
        self.root.superblock().filesystem()
    }

    /// The entry that is its top.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// Its flags.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Acquire))
    }

    /// Changes its flags (MS_REMOUNT).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Release);
    }

    /// Where it is attached: the mount below and the covered entry; `None` for a root or a detached mount.
    pub fn attached(&self) -> Option<Path> {
        let place = self.place.lock().clone();
        let (mount, dentry) = place?;
        Some(Path { mount: mount.upgrade()?, dentry })
    }

    /// The mount that covers `dentry` of this mount.
    pub fn covering(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        let children = self.children.lock();
        children.iter().rev().find(|m| m.covers(dentry)).cloned()
    }

    fn covers(&self, dentry: &Arc<Dentry>) -> bool {
        matches!(&*self.place.lock(), Some((_, d)) if Arc::ptr_eq(d, dentry))
    }

    fn detach(&self) {
        let place = self.place.lock().take();
        if let Some((_, dentry)) = place {
            dentry.remove_mount();
        }
    }
}

/// How umount2(2) treats a mount that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmount {
    /// EBUSY.
    IfUnused,
    /// MNT_DETACH: gone from the tree now, alive until its last user ends.
    Detach,
}

/// The tree of mounts that a set of tasks sees.
pub struct MountNamespace {
    root: Arc<Mount>,
}

impl MountNamespace {
    /// A namespace whose root is `filesystem`.
    pub fn new(filesystem: Arc<dyn FileSystem>, source: &[u8]) -> Arc<Self> {
        Arc::new(Self { root: Mount::new(filesystem, source, MountFlags::RELATIME) })
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        top_of(self.root.clone())
    }

    /// Attaches `mount` at `at` (whatever covers `at` already gets covered too).
    /// Errors: ENOTDIR where a directory would cover a file or a file a directory, ENOENT where `at` was removed.
    pub fn attach(&self, mount: Arc<Mount>, at: &Path) -> Result<()> {
        let at = top_at(at.clone());
        if at.dentry.is_dir() != mount.root.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if at.dentry.is_deleted() {
            return Err(Errno::ENOENT.into());
        }
        *mount.place.lock() = Some((Arc::downgrade(&at.mount), at.dentry.clone()));
        at.dentry.add_mount();
        at.mount.children.lock().push(mount);
        Ok(())
    }

    /// Mounts a new filesystem at `at`.
    pub fn mount(
        &self,
        filesystem: Arc<dyn FileSystem>,
        source: &[u8],
        flags: MountFlags,
        at: &Path,
    ) -> Result<Arc<Mount>> {
        let mount = Mount::new(filesystem, source, flags);
        self.attach(mount.clone(), at)?;
        Ok(mount)
    }

    /// Removes the mount whose top is `path`. Errors: EINVAL where `path` is no mount's top or the root, EBUSY.
    pub fn unmount(&self, path: &Path, how: Unmount) -> Result<()> {
        let mount = path.mount.clone();
        if !Arc::ptr_eq(&mount.root, &path.dentry) {
            return Err(Errno::EINVAL.into());
        }
        let Some(below) = mount.attached() else { return Err(Errno::EINVAL.into()) };
        let superblock = mount.root.superblock();
        superblock.shrink();
        let mut siblings = below.mount.children.lock();
        // Holders: the list below, `path` and `mount` here. Any other is an open file, a working directory, a mount on top.
        let used = Arc::strong_count(&mount) > 3 || !mount.children.lock().is_empty();
        if how == Unmount::IfUnused && used {
            return Err(Errno::EBUSY.into());
        }
        siblings.retain(|m| !Arc::ptr_eq(m, &mount));
        drop(siblings);
        mount.detach();
        Ok(())
    }

    /// Every mount, parents before children: what /proc/mounts lists.
    pub fn list(&self) -> Vec<Arc<Mount>> {
        let mut all = vec![self.root.clone()];
        let mut next = 0;
        while let Some(mount) = all.get(next).cloned() {
            all.extend(mount.children.lock().iter().cloned());
            next += 1;
        }
        all
    }
}

fn top_of(mount: Arc<Mount>) -> Path {
    let dentry = mount.root.clone();
    top_at(Path { mount, dentry })
}

/// The top of the last mount that covers `path`, or `path` itself.
pub(crate) fn top_at(mut path: Path) -> Path {
    while path.dentry.is_mount_point() {
        let Some(mount) = path.mount.covering(&path.dentry) else { break };
        path = Path { dentry: mount.root.clone(), mount };
    }
    path
}

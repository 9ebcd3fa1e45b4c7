//! The files of a container: its root, its mounts in their order, device nodes, masked and read-only paths.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_fs::host::{HostFs, HostOptions, View};
use sentry_fs::services::Services;
use sentry_fs::tmpfs::{self, Tmpfs};
use sentry_kernel::device::makedev;
use sentry_kernel::error::Result;
use sentry_kernel::task::Container;
use sentry_kernel::vfs::modify::Make;
use sentry_kernel::vfs::{Dentry, FileSystem, FileType, Mount as Mounted, MountFlags, Path};

use crate::boot::{BootError, step};
use crate::config::{Access, Console, ContainerFiles, DeviceKind, DeviceNode, Mount, MountKind};
use crate::registry::Offer;
use crate::tree::{self, Tree};

/// Devices that every container has (runtime-spec, config-linux.md "Default Devices"): path, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// Links that every container has (config-linux.md "Default Devices" and runtime-linux.md "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];
/// /dev/null, which stands for masked files.
const NULL: u64 = makedev(1, 3);
/// /dev/console
const CONSOLE: u64 = makedev(5, 1);

/// What mounts are made of.
struct Builder<'a> {
    tree: Tree,
    container: &'a Arc<Container>,
    services: &'a Services,
    offer: &'a Offer,
}

/// Builds the tree of a container.
pub(crate) fn tree(
    container: &Arc<Container>,
    services: &Services,
    offer: &Offer,
    files: ContainerFiles,
) -> core::result::Result<Tree, BootError> {
    let root = HostFs::new(services, files.root, HostOptions::read_write())
        .map_err(step("open the root file system"))?;
    let builder = Builder { tree: Tree::of(root, b"rootfs"), container, services, offer };
    let has_dev = files.mounts.iter().any(|mount| mount.target == b"/dev");
    let bound_dev = files
        .mounts
        .iter()
        .any(|mount| mount.target == b"/dev" && matches!(mount.what, MountKind::Directory(_)));
    if !has_dev {
        // Device nodes cannot lie in a directory of the host.
        builder.fresh_dev().map_err(step("mount /dev"))?;
    }
    for mount in files.mounts {
        let what = format!("mount {}", String::from_utf8_lossy(&mount.target));
        builder.mount(mount).map_err(step(what))?;
    }
    if !bound_dev {
        builder.devices(&files.devices, files.console)?;
    }
    for path in &files.masked {
        let what = format!("mask {}", String::from_utf8_lossy(path));
        builder.mask(path).map_err(step(what))?;
    }
    for path in &files.read_only {
        let what = format!("make {} read-only", String::from_utf8_lossy(path));
        builder.make_read_only(path).map_err(step(what))?;
    }
    if files.root_access == Access::ReadOnly {
        let root = builder.tree.mounts.root().mount;
        root.set_flags(root.flags() | MountFlags::RDONLY);
    }
    Ok(builder.tree)
}

impl Builder<'_> {
    fn fresh_dev(&self) -> Result<()> {
        let options = tmpfs::Options { mode: 0o755, ..tmpfs::Options::default() };
        self.tree.mount(
            Tmpfs::new(self.services, options)?,
            b"tmpfs",
            MountFlags::NOSUID | MountFlags::RELATIME,
            b"/dev",
        )
    }

    fn mount(&self, mount: Mount) -> Result<()> {
        let Mount { target, what, flags } = mount;
        let (filesystem, source): (Arc<dyn FileSystem>, &[u8]) = match what {
            MountKind::Directory(directory) => {
                let options = HostOptions { writes: writes(flags), ..HostOptions::read_write() };
                (HostFs::new(self.services, directory, options)?, b"host")
            }
            MountKind::File(directory, name) => {
                let view = View::nothing().show(&name);
                let options =
                    HostOptions { writes: writes(flags), view, ..HostOptions::read_write() };
                let filesystem = HostFs::new(self.services, directory, options)?;
                let file = tree::entry(filesystem, name.as_bytes())?;
                return self.tree.mount_file(file, b"host", flags, &target);
            }
            MountKind::Device(rdev) => {
                return self.tree.mount_file(self.device(rdev)?, b"dev", flags, &target);
            }
            MountKind::Tmpfs(options) => {
                let options = tmpfs::Options::parse(options.as_bytes())?;
                (Tmpfs::new(self.services, options)?, b"tmpfs")
            }
            MountKind::Proc => (self.offer.proc(self.container, self.services), b"proc"),
            MountKind::Sysfs => (self.offer.sys(self.container.kernel(), self.services)?, b"sysfs"),
            MountKind::Devpts => (self.offer.devpts(), b"devpts"),
        };
        self.tree.mount(filesystem, source, flags, &target)
    }

    /// A node of a device in a filesystem of its own.
    fn device(&self, rdev: u64) -> Result<Arc<Dentry>> {
        tree::lone_node(self.services, FileType::CharDevice, rdev, 0o666)
    }

    fn devices(
        &self,
        asked: &[DeviceNode],
        console: Console,
    ) -> core::result::Result<(), BootError> {
        let standard = DEVICES.iter().map(|(path, major, minor)| (*path, makedev(*major, *minor)));
        let console = (console == Console::Present).then_some(("/dev/console", CONSOLE));
        let nodes = standard.chain(console).map(|(path, rdev)| DeviceNode {
            path: path.into(),
            kind: DeviceKind::Character,
            rdev,
            permissions: if rdev == CONSOLE { 0o620 } else { 0o666 },
            uid: 0,
            gid: 0,
        });
        for node in asked.iter().cloned().chain(nodes) {
            let what = format!("make the device {}", String::from_utf8_lossy(&node.path));
            self.make_device(&node).map_err(step(what))?;
        }
        for (path, target) in LINKS {
            match self.tree.make_node(path.as_bytes(), Make::Symlink(target.as_bytes()), 0o777) {
                Err(error) if !error.is(Errno::EEXIST) => {
                    return Err(step(format!("make the link {path}"))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a device node; one that is there already stays, as the configuration's own come first.
    fn make_device(&self, node: &DeviceNode) -> Result<()> {
        let kind = match node.kind {
            DeviceKind::Character => FileType::CharDevice,
            DeviceKind::Block => FileType::BlockDevice,
            DeviceKind::Fifo => FileType::Fifo,
        };
        self.tree.make_above(&node.path)?;
        match self.tree.make_node(&node.path, Make::Node(kind, node.rdev), node.permissions) {
            Ok(made) => self.tree.change_owner(&made, node.uid, node.gid),
            Err(error) if error.is(Errno::EEXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Hides what a path leads to; one that leads nowhere needs no hiding.
    fn mask(&self, path: &[u8]) -> Result<()> {
        let Some(at) = self.find_existing(path)? else { return Ok(()) };
        if at.file_type() != FileType::Directory {
            let null = self.device(NULL)?;
            return self.tree.mounts.attach(Mounted::of(null, b"dev", MountFlags::RDONLY), &at);
        }
        let options = tmpfs::Options { mode: 0o555, ..tmpfs::Options::default() };
        let empty = Tmpfs::new(self.services, options)?;
        self.tree.mounts.mount(empty, b"tmpfs", MountFlags::RDONLY, &at).map(drop)
    }

    fn make_read_only(&self, path: &[u8]) -> Result<()> {
        let Some(at) = self.find_existing(path)? else { return Ok(()) };
        let flags = at.mount.flags() | MountFlags::RDONLY;
        let bound = Mounted::of(at.dentry.clone(), at.mount.source(), flags);
        self.tree.mounts.attach(bound, &at)
    }

    fn find_existing(&self, path: &[u8]) -> Result<Option<Path>> {
        match self.tree.find(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is(Errno::ENOENT) || error.is(Errno::ENOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn writes(flags: MountFlags) -> sentry_fs::host::Writes {
    match flags.contains(MountFlags::RDONLY) {
        true => sentry_fs::host::Writes::Refused,
        false => sentry_fs::host::Writes::PassedOn,
    }
}

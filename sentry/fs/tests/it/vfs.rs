//! The filesystems below the kernel's VFS: path walk, dentry cache and lock order as programs use them.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_fs::host::HostOptions;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileDescription, FileOps};
use sentry_kernel::io::{SliceSource, VecSink};
use sentry_kernel::vfs::modify::{self, End, Make};
use sentry_kernel::vfs::{
    self, DirRef, FileSystem, FileType, FsContext, LookupFlags, MountFlags, MountNamespace,
    OpenFlags, OpenHow, OpenSpecial, RenameFlags, ResolveCx,
};

use crate::world::{Op, Scratch, Theirs, host, overlay, services, tmpfs};

struct NoDevices;

impl OpenSpecial for NoDevices {
    fn open_device(&self, _: FileType, _: u64, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO.into())
    }
}

/// A namespace with one root, seen by root.
struct Guest {
    cx: ResolveCx,
    mounts: Arc<MountNamespace>,
}

impl Guest {
    fn new(root: Arc<dyn FileSystem>) -> Self {
        let mounts = MountNamespace::new(root, b"root");
        let fs = FsContext::new(&mounts);
        Self { cx: ResolveCx::new(&fs, Arc::new(Credentials::root())), mounts }
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<FileDescription>> {
        let how = OpenHow { mode: 0o644, ..OpenHow::flags(flags) };
        vfs::open(&self.cx, &NoDevices, &DirRef::Cwd, path.as_bytes(), &how)
    }

    fn write(&self, path: &str, flags: OpenFlags, data: &[u8]) -> Result<usize> {
        self.open(path, flags | OpenFlags::WRONLY)?.write(&mut SliceSource::new(data), u64::MAX)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let mut sink = VecSink::new(1 << 20);
        self.open(path, OpenFlags::empty())?.read(&mut sink)?;
        Ok(sink.into_vec())
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.open(path, OpenFlags::DIRECTORY)?.read_dir(&mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            true
        })?;
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let end = |path| End { dir: &DirRef::Cwd, path };
        let (from, to) = (end(from.as_bytes()), end(to.as_bytes()));
        modify::rename(&self.cx, from, to, RenameFlags::empty())
    }
}

const CREATE: OpenFlags = OpenFlags::CREAT;

#[test]
fn files_live_and_die_under_the_vfs_on_every_filesystem() {
    let services = services();
    let (lower, volume) = (Scratch::new(), Scratch::new());
    let roots: [Arc<dyn FileSystem>; 3] = [
        tmpfs(&services),
        host(&services, &volume.0, HostOptions::read_write()),
        overlay(&services, &lower.0),
    ];
    for root in roots {
        let guest = Guest::new(root);
        modify::make(&guest.cx, &DirRef::Cwd, b"/dir", Make::Directory, 0o755).unwrap();
        assert_eq!(guest.write("/dir/file", CREATE, b"one").unwrap(), 3);
        assert_eq!(guest.write("/dir/file", OpenFlags::APPEND, b" two").unwrap(), 4);
        assert_eq!(guest.read("/dir/../dir/file").unwrap(), b"one two");
        let link = Make::Symlink(b"dir/file");
        modify::make(&guest.cx, &DirRef::Cwd, b"/link", link, 0).unwrap();
        assert_eq!(guest.write("/link", OpenFlags::TRUNC, b"three").unwrap(), 5);
        guest.rename("/dir/file", "/moved").unwrap();
        assert_eq!(guest.read("/moved").unwrap(), b"three");
        assert!(guest.read("/link").unwrap_err().is(Errno::ENOENT));
        assert_eq!(guest.names("/").unwrap(), ["dir", "link", "moved"]);
        assert!(guest.rename("/moved", "/dir").unwrap_err().is(Errno::EISDIR));
        assert!(guest.rename("/dir", "/dir/below").unwrap_err().is(Errno::EINVAL));
        modify::unlink(&guest.cx, &DirRef::Cwd, b"/moved").unwrap();
        modify::unlink(&guest.cx, &DirRef::Cwd, b"/link").unwrap();
        modify::rmdir(&guest.cx, &DirRef::Cwd, b"/dir").unwrap();
        assert!(guest.names("/").unwrap().is_empty());
        assert!(guest.read("/moved").unwrap_err().is(Errno::ENOENT));
    }
}

#[test]
fn an_image_below_memory_can_be_replaced_renamed_and_deleted() {
    let services = services();
    let image = Scratch::new();
    let theirs = Theirs(image.0.clone());
    for op in [
        Op::Mkdir("etc".into(), 0o755),
        Op::Mkdir("etc/apt".into(), 0o755),
        Op::Create("etc/passwd".into(), 0o644),
        Op::Write("etc/passwd".into(), 0, b"root:x:0:0".to_vec()),
        Op::Create("etc/apt/list".into(), 0o644),
    ] {
        theirs.answer(&op).unwrap();
    }
    let guest = Guest::new(overlay(&services, &image.0));
    guest.write("/etc/passwd.new", CREATE, b"replaced").unwrap();
    guest.rename("/etc/passwd.new", "/etc/passwd").unwrap();
    assert_eq!(guest.read("/etc/passwd").unwrap(), b"replaced");
    // As Linux's overlay without redirects: mv copies then.
    assert!(guest.rename("/etc/apt", "/etc/apt.old").unwrap_err().is(Errno::EXDEV));
    modify::unlink(&guest.cx, &DirRef::Cwd, b"/etc/apt/list").unwrap();
    modify::rmdir(&guest.cx, &DirRef::Cwd, b"/etc/apt").unwrap();
    modify::make(&guest.cx, &DirRef::Cwd, b"/etc/apt", Make::Directory, 0o755).unwrap();
    assert!(guest.names("/etc/apt").unwrap().is_empty());
    assert_eq!(guest.names("/etc").unwrap(), ["apt", "passwd"]);
    guest.rename("/etc/apt", "/etc/apt.old").unwrap();
    assert_eq!(guest.names("/etc").unwrap(), ["apt.old", "passwd"]);
    assert_eq!(std::fs::read(image.0.join("etc/passwd")).unwrap(), b"root:x:0:0");
    assert!(image.0.join("etc/apt/list").exists());
}

#[test]
fn a_live_volume_shows_what_the_host_does() {
    let services = services();
    let volume = Scratch::new();
    let guest = Guest::new(tmpfs(&services));
    modify::make(&guest.cx, &DirRef::Cwd, b"/vol", Make::Directory, 0o755).unwrap();
    let at = vfs::resolve(&guest.cx, &DirRef::Cwd, b"/vol", LookupFlags::empty()).unwrap();
    let mounted = host(&services, &volume.0, HostOptions::read_write());
    guest.mounts.mount(mounted, b"volume", MountFlags::empty(), &at).unwrap();
    assert!(guest.read("/vol/new").unwrap_err().is(Errno::ENOENT));
    std::fs::write(volume.0.join("new"), b"from the host").unwrap();
    assert_eq!(guest.read("/vol/new").unwrap(), b"from the host");
    std::fs::write(volume.0.join("other"), b"replaced").unwrap();
    std::fs::rename(volume.0.join("other"), volume.0.join("new")).unwrap();
    assert_eq!(guest.read("/vol/new").unwrap(), b"replaced");
    guest.write("/vol/mine", CREATE, b"from the guest").unwrap();
    assert_eq!(std::fs::read(volume.0.join("mine")).unwrap(), b"from the guest");
}

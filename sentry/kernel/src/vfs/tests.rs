//! The tree as programs see it, over a small filesystem in memory. Expected errors were taken from Linux.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::Errno;

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::{FileDescription, FileOps, Whence};
use crate::io::{SliceSource, VecSink};
use crate::vfs::memfs::{LOOKUPS, MemFs};
use crate::vfs::modify::{self, End, Make};
use crate::vfs::{
    DirRef, FileType, FsContext, LookupFlags, MountFlags, MountNamespace, OpenFlags, OpenHow,
    OpenSpecial, Path, RenameFlags, ResolveCx, Unmount, open, resolve,
};

struct NoDevices;

impl OpenSpecial for NoDevices {
    fn open_device(&self, _: FileType, _: u64, _: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO.into())
    }
}

struct World {
    namespace: Arc<MountNamespace>,
    fs: Arc<FsContext>,
    creds: Arc<Credentials>,
}

impl World {
    fn new() -> Self {
        let namespace = MountNamespace::new(MemFs::new(), b"none");
        let fs = FsContext::new(&namespace);
        Self { namespace, fs, creds: Arc::new(Credentials::root()) }
    }

    fn as_user(&self, uid: u32) -> Self {
        let creds = Arc::new(Credentials::user(uid, uid, Arc::from([])));
        Self { namespace: self.namespace.clone(), fs: self.fs.clone(), creds }
    }

    fn cx(&self) -> ResolveCx {
        ResolveCx::new(&self.fs, self.creds.clone())
    }

    fn find(&self, path: &str, flags: LookupFlags) -> Result<Path> {
        resolve(&self.cx(), &DirRef::Cwd, path.as_bytes(), flags)
    }

    fn follow(&self, path: &str) -> Result<Path> {
        self.find(path, LookupFlags::FOLLOW)
    }

    fn make(&self, path: &str, what: Make<'_>, mode: u32) -> Result<Path> {
        modify::make(&self.cx(), &DirRef::Cwd, path.as_bytes(), what, mode)
    }

    fn dir(&self, path: &str) {
        self.make(path, Make::Directory, 0o755).unwrap();
    }

    fn file(&self, path: &str) {
        self.make(path, Make::Node(FileType::Regular, 0), 0o644).unwrap();
    }

    fn symlink(&self, target: &str, path: &str) {
        self.make(path, Make::Symlink(target.as_bytes()), 0).unwrap();
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<FileDescription>> {
        let how = OpenHow { flags, mode: 0o644, resolve: LookupFlags::empty() };
        open(&self.cx(), &NoDevices, &DirRef::Cwd, path.as_bytes(), &how)
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> Result<()> {
        let from = End { dir: &DirRef::Cwd, path: from.as_bytes() };
        let to = End { dir: &DirRef::Cwd, path: to.as_bytes() };
        modify::rename(&self.cx(), from, to, flags)
    }

    fn name(&self, path: &Path) -> String {
        String::from_utf8(path.to_bytes(&self.fs.root())).unwrap()
    }
}

fn errno<T>(result: Result<T>) -> Option<Errno> {
    result.err().map(|e| e.errno())
}

const PLAIN: RenameFlags = RenameFlags::empty();

#[test]
fn paths_walk_as_on_linux() {
    let w = World::new();
    w.dir("/d");
    w.dir("/d/sub");
    w.file("/f");
    w.symlink("d", "/to_d");
    w.symlink("f", "/to_f");
    w.symlink("/d/sub/../..", "/to_root");
    w.symlink("nowhere", "/dangling");
    w.symlink("loop", "/loop");
    let table = [
        ("/d/sub", Ok("/d/sub")),
        ("d//sub/./", Ok("/d/sub")),
        ("/../../d", Ok("/d")),
        ("/to_d/sub", Ok("/d/sub")),
        ("/to_d/", Ok("/d")),
        ("/to_root/f", Ok("/f")),
        ("/to_root", Ok("/")),
        ("/f/", Err(Errno::ENOTDIR)),
        ("/to_f/", Err(Errno::ENOTDIR)),
        ("/f/x", Err(Errno::ENOTDIR)),
        ("/f/..", Err(Errno::ENOTDIR)),
        ("/none", Err(Errno::ENOENT)),
        ("/dangling", Err(Errno::ENOENT)),
        ("/loop", Err(Errno::ELOOP)),
        ("", Err(Errno::ENOENT)),
    ];
    for (path, expected) in table {
        let got = w.follow(path);
        match expected {
            Ok(name) => assert_eq!(w.name(&got.unwrap()), name, "{path}"),
            Err(e) => assert_eq!(errno(got), Some(e), "{path}"),
        }
    }
    let long = format!("/{}", "x".repeat(256));
    assert_eq!(errno(w.follow(&long)), Some(Errno::ENAMETOOLONG));
    assert_eq!(errno(w.follow(&"/d".repeat(2048))), Some(Errno::ENAMETOOLONG));
    assert_eq!(w.find("/to_f", LookupFlags::empty()).unwrap().file_type(), FileType::Symlink);
    assert_eq!(w.find("/dangling", LookupFlags::empty()).unwrap().file_type(), FileType::Symlink);
}

#[test]
fn forty_links_are_followed_and_one_more_is_a_loop() {
    let w = World::new();
    w.file("/l0");
    for i in 1..=41 {
        w.symlink(&format!("l{}", i - 1), &format!("/l{i}"));
    }
    assert!(w.follow("/l40").is_ok());
    assert_eq!(errno(w.follow("/l41")), Some(Errno::ELOOP));
}

#[test]
fn openat2_limits_the_walk() {
    let w = World::new();
    w.dir("/d");
    w.dir("/d/e");
    w.file("/d/f");
    w.symlink("..", "/d/up");
    w.symlink("/f", "/d/abs");
    w.symlink("f", "/d/rel");
    w.file("/f");
    let d = w.follow("/d").unwrap();
    let walk = |path: &str, flags| {
        let found = resolve(
            &w.cx(),
            &DirRef::Path(d.clone()),
            path.as_bytes(),
            flags | LookupFlags::FOLLOW,
        );
        found.map(|p| w.name(&p)).map_err(|e| e.errno())
    };
    let (beneath, in_root) = (LookupFlags::BENEATH, LookupFlags::IN_ROOT);
    assert_eq!(walk("e/../f", beneath), Ok("/d/f".into()));
    assert_eq!(walk("..", beneath), Err(Errno::EXDEV));
    assert_eq!(walk("up", beneath), Err(Errno::EXDEV));
    assert_eq!(walk("abs", beneath), Err(Errno::EXDEV));
    assert_eq!(walk("/d/f", beneath), Err(Errno::EXDEV));
    assert_eq!(walk("../../f", in_root), Ok("/d/f".into()));
    assert_eq!(walk("abs", in_root), Ok("/d/f".into()));
    assert_eq!(walk("up/e", in_root), Ok("/d/e".into()));
    assert_eq!(walk("rel", LookupFlags::NO_SYMLINKS), Err(Errno::ELOOP));
}

#[test]
fn mounts_cover_and_dot_dot_leaves_them() {
    let w = World::new();
    w.dir("/m");
    w.file("/m/below");
    w.namespace.mount(MemFs::new(), b"two", MountFlags::RDONLY, &w.follow("/m").unwrap()).unwrap();
    assert_eq!(errno(w.follow("/m/below")), Some(Errno::ENOENT));
    assert_eq!(w.name(&w.follow("/m/../m/.").unwrap()), "/m");
    assert_eq!(w.name(&w.follow("/m/..").unwrap()), "/");
    assert_eq!(errno(w.make("/m/new", Make::Directory, 0o755)), Some(Errno::EROFS));
    assert_eq!(errno(w.find("/m", LookupFlags::NO_XDEV)), Some(Errno::EXDEV));
    assert_eq!(errno(modify::rmdir(&w.cx(), &DirRef::Cwd, b"/m")), Some(Errno::EBUSY));
    assert_eq!(w.namespace.list().len(), 2);
    let top = w.follow("/m").unwrap();
    let held = top.clone();
    assert_eq!(errno(w.namespace.unmount(&top, Unmount::IfUnused)), Some(Errno::EBUSY));
    drop(held);
    w.namespace.unmount(&top, Unmount::IfUnused).unwrap();
    assert!(w.follow("/m/below").is_ok());
}

#[test]
fn permissions_follow_owner_group_and_others() {
    let w = World::new();
    w.dir("/private");
    w.file("/private/f");
    let at = w.follow("/private").unwrap();
    modify::chmod(&w.creds, &at, 0o700).unwrap();
    let user = w.as_user(1000);
    assert_eq!(errno(user.follow("/private/f")), Some(Errno::EACCES));
    assert_eq!(errno(user.make("/new", Make::Directory, 0o755)), Some(Errno::EACCES));
    modify::chown(&w.creds, &at, Some(1000), None).unwrap();
    assert!(user.follow("/private/f").is_ok());
    assert_eq!(errno(user.open("/private/f", OpenFlags::WRONLY)), Some(Errno::EACCES));
    assert_eq!(
        errno(modify::chmod(&user.creds, &w.follow("/private/f").unwrap(), 0o777)),
        Some(Errno::EPERM)
    );
    assert_eq!(errno(modify::chown(&user.creds, &at, Some(1), None)), Some(Errno::EPERM));
}

#[test]
fn a_sticky_directory_protects_the_files_of_others() {
    let w = World::new();
    w.dir("/tmp");
    modify::chmod(&w.creds, &w.follow("/tmp").unwrap(), 0o1777).unwrap();
    let (a, b) = (w.as_user(1), w.as_user(2));
    a.file("/tmp/a");
    a.symlink("/nowhere", "/tmp/link");
    assert_eq!(errno(modify::unlink(&b.cx(), &DirRef::Cwd, b"/tmp/a")), Some(Errno::EPERM));
    assert_eq!(errno(b.rename("/tmp/a", "/tmp/b", PLAIN)), Some(Errno::EPERM));
    assert_eq!(errno(b.follow("/tmp/link")), Some(Errno::EACCES), "protected_symlinks");
    assert!(modify::unlink(&a.cx(), &DirRef::Cwd, b"/tmp/a").is_ok());
}

#[test]
fn a_set_gid_directory_gives_its_group() {
    let w = World::new();
    w.dir("/shared");
    let at = w.follow("/shared").unwrap();
    modify::chown(&w.creds, &at, None, Some(50)).unwrap();
    modify::chmod(&w.creds, &at, 0o2777).unwrap();
    let user = w.as_user(1000);
    user.file("/shared/f");
    user.dir("/shared/d");
    let of = |path| w.follow(path).unwrap().inode().attributes().unwrap();
    assert_eq!((of("/shared/f").gid, of("/shared/f").uid), (50, 1000));
    assert_eq!(of("/shared/d").permissions & 0o2000, 0o2000);
}

#[test]
fn renames_obey_their_rules() {
    let w = World::new();
    for dir in ["/a", "/a/b", "/e", "/full"] {
        w.dir(dir);
    }
    for file in ["/f", "/g", "/full/x"] {
        w.file(file);
    }
    let plain = |from: &str, to: &str| errno(w.rename(from, to, PLAIN));
    assert_eq!(plain("/a", "/a/b/c"), Some(Errno::EINVAL));
    assert_eq!(plain("/a/b", "/a"), Some(Errno::ENOTEMPTY));
    assert_eq!(plain("/a", "/f"), Some(Errno::ENOTDIR));
    assert_eq!(plain("/f", "/a"), Some(Errno::EISDIR));
    assert_eq!(plain("/f", "/new/"), Some(Errno::ENOTDIR));
    assert_eq!(plain("/e", "/full"), Some(Errno::ENOTEMPTY));
    assert_eq!(plain("/none", "/x"), Some(Errno::ENOENT));
    assert_eq!(plain("/a/.", "/x"), Some(Errno::EBUSY));
    assert_eq!(errno(w.rename("/f", "/g", RenameFlags::NOREPLACE)), Some(Errno::EEXIST));
    assert_eq!(errno(w.rename("/f", "/n", RenameFlags::EXCHANGE)), Some(Errno::ENOENT));
    let f = w.follow("/f").unwrap();
    w.rename("/f", "/a", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(w.name(&f), "/a");
    assert_eq!(w.name(&w.follow("/f/b").unwrap()), "/f/b");
    let g = w.follow("/g").unwrap();
    w.rename("/a", "/g", PLAIN).unwrap();
    assert_eq!(w.name(&g), "/g (deleted)");
    assert_eq!(w.name(&f), "/g");
    assert_eq!(errno(w.follow("/a")), Some(Errno::ENOENT));
}

#[test]
fn two_names_of_one_file_rename_to_nothing() {
    let w = World::new();
    w.file("/one");
    let one = w.follow("/one").unwrap();
    modify::link(&w.cx(), &one, &DirRef::Cwd, b"/two").unwrap();
    w.rename("/one", "/two", PLAIN).unwrap();
    assert!(w.follow("/one").is_ok() && w.follow("/two").is_ok());
    assert_eq!(w.follow("/two").unwrap().identity(), one.identity());
    assert_eq!(
        errno(modify::link(&w.cx(), &w.follow("/").unwrap(), &DirRef::Cwd, b"/x")),
        Some(Errno::EPERM)
    );
}

#[test]
fn removals_name_the_right_error() {
    let w = World::new();
    w.dir("/d");
    w.file("/d/f");
    let unlink = |path: &str| errno(modify::unlink(&w.cx(), &DirRef::Cwd, path.as_bytes()));
    let rmdir = |path: &str| errno(modify::rmdir(&w.cx(), &DirRef::Cwd, path.as_bytes()));
    assert_eq!(unlink("/d"), Some(Errno::EISDIR));
    assert_eq!(unlink("/d/f/"), Some(Errno::ENOTDIR));
    assert_eq!(rmdir("/d/f"), Some(Errno::ENOTDIR));
    assert_eq!(rmdir("/d"), Some(Errno::ENOTEMPTY));
    assert_eq!(rmdir("/d/."), Some(Errno::EINVAL));
    assert_eq!(rmdir("/d/.."), Some(Errno::ENOTEMPTY));
    assert_eq!(rmdir("/"), Some(Errno::EBUSY));
    let d = w.follow("/d").unwrap();
    assert_eq!(unlink("/d/f"), None);
    assert_eq!(rmdir("/d"), None);
    assert_eq!(w.name(&d), "/d (deleted)");
    let inside = modify::make(&w.cx(), &DirRef::Path(d), b"x", Make::Directory, 0o755);
    assert_eq!(errno(inside), Some(Errno::ENOENT));
}

#[test]
fn open_creates_truncates_and_refuses() {
    let w = World::new();
    w.dir("/d");
    w.symlink("target", "/link");
    let create = OpenFlags::CREAT | OpenFlags::RDWR;
    assert_eq!(errno(w.open("/link", create | OpenFlags::EXCL)), Some(Errno::EEXIST));
    let file = w.open("/link", create).unwrap();
    assert_eq!(w.name(file.path().unwrap()), "/target");
    assert_eq!(file.write(&mut SliceSource::new(b"hello"), u64::MAX).unwrap(), 5);
    assert_eq!(errno(w.open("/target", create | OpenFlags::EXCL)), Some(Errno::EEXIST));
    assert_eq!(errno(w.open("/d", OpenFlags::RDWR)), Some(Errno::EISDIR));
    assert_eq!(errno(w.open("/d", create)), Some(Errno::EISDIR));
    assert_eq!(errno(w.open("/new/", create)), Some(Errno::EISDIR));
    assert_eq!(errno(w.open("/target", OpenFlags::DIRECTORY)), Some(Errno::ENOTDIR));
    assert_eq!(errno(w.open("/link", OpenFlags::NOFOLLOW)), Some(Errno::ELOOP));
    assert!(w.open("/link", OpenFlags::NOFOLLOW | OpenFlags::PATH).is_ok());
    assert_eq!(file.seek(0, Whence::End).unwrap(), 5);
    w.open("/target", OpenFlags::WRONLY | OpenFlags::TRUNC).unwrap();
    assert_eq!(file.seek(0, Whence::End).unwrap(), 0);
    assert_eq!(errno(file.seek(-1, Whence::Set)), Some(Errno::EINVAL));
}

#[test]
fn writes_append_and_stop_at_the_size_limit() {
    let w = World::new();
    let flags = OpenFlags::CREAT | OpenFlags::RDWR;
    let file = w.open("/f", flags | OpenFlags::APPEND).unwrap();
    let write = |bytes: &[u8], limit| file.write(&mut SliceSource::new(bytes), limit);
    assert_eq!(write(b"abc", u64::MAX).unwrap(), 3);
    file.seek(0, Whence::Set).unwrap();
    assert_eq!(write(b"defg", 5).unwrap(), 2);
    assert_eq!(errno(write(b"x", 5)), Some(Errno::EFBIG));
    let mut sink = VecSink::new(16);
    assert_eq!(file.pread(0, &mut sink).unwrap(), 5);
    assert_eq!(sink.into_vec(), b"abcde");
    let reader = w.open("/f", OpenFlags::empty()).unwrap();
    assert_eq!(errno(reader.write(&mut SliceSource::new(b"x"), u64::MAX)), Some(Errno::EBADF));
}

#[test]
fn a_write_by_another_user_clears_set_id_bits() {
    let w = World::new();
    w.file("/f");
    let at = w.follow("/f").unwrap();
    modify::chmod(&w.creds, &at, 0o6777).unwrap();
    modify::truncate(&w.as_user(9).creds, &at, 1).unwrap();
    assert_eq!(at.inode().attributes().unwrap().permissions, 0o777);
}

#[test]
fn absent_names_are_cached_until_they_are_made() {
    let w = World::new();
    w.dir("/d");
    assert!(w.follow("/d/x").is_err());
    // Other tests look up meanwhile: of ten tries one must have asked nobody.
    let silent = (0..10).any(|_| {
        let before = LOOKUPS.load(Ordering::Relaxed);
        assert!(w.follow("/d/x").is_err());
        LOOKUPS.load(Ordering::Relaxed) == before
    });
    assert!(silent);
    w.file("/d/x");
    assert!(w.follow("/d/x").is_ok());
}

#[test]
fn a_watch_hears_what_happens_in_its_directory() {
    use crate::file::inotify::Inotify;
    use sentry_abi::inotify::*;
    let w = World::new();
    w.dir("/d");
    let instance = Inotify::create(OpenFlags::empty());
    let inotify = Inotify::of(&**instance.ops()).unwrap();
    let wd = inotify.watch(&w.follow("/d").unwrap(), IN_ALL_EVENTS - IN_ACCESS).unwrap();
    let file = w.open("/d/f", OpenFlags::CREAT | OpenFlags::WRONLY).unwrap();
    file.write(&mut SliceSource::new(b"x"), u64::MAX).unwrap();
    drop(file);
    w.rename("/d/f", "/d/g", PLAIN).unwrap();
    modify::unlink(&w.cx(), &DirRef::Cwd, b"/d/g").unwrap();
    modify::rmdir(&w.cx(), &DirRef::Cwd, b"/d").unwrap();
    let mut sink = VecSink::new(4096);
    instance.read(&mut sink).unwrap();
    let bytes = sink.into_vec();
    let (mut masks, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let word = |i: usize| u32::from_ne_bytes(bytes[at + i..at + i + 4].try_into().unwrap());
        assert_eq!(word(0), wd as u32);
        masks.push(word(4));
        at += EVENT_HEADER + word(12) as usize;
    }
    let expected = [
        IN_CREATE,
        IN_OPEN,
        IN_MODIFY,
        IN_CLOSE_WRITE,
        IN_MOVED_FROM,
        IN_MOVED_TO,
        IN_DELETE,
        IN_DELETE_SELF,
        IN_IGNORED,
    ];
    assert_eq!(masks, expected);
    assert_eq!(errno(inotify.unwatch(wd)), Some(Errno::EINVAL));
    assert_eq!(errno(instance.read(&mut VecSink::new(64))), Some(Errno::EAGAIN));
}

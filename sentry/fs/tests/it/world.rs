//! A tree under test, driven by paths: our filesystems through their inodes, the host's through its calls.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno as HostErrno;
use platform::MemoryFile;
use platform::mem::MemoryOptions;
use sentry_abi::Errno;
use sentry_fs::host::{HostFs, HostOptions};
use sentry_fs::overlay::Overlay;
use sentry_fs::services::Services;
use sentry_fs::tmpfs::{Options, Tmpfs};
use sentry_kernel::cred::Credentials;
use sentry_kernel::file::WriteAt;
use sentry_kernel::io::{SliceSource, VecSink};
use sentry_kernel::vfs::{
    Change, FileSystem, FileType, Inode, NewNode, OpenFlags, RenameFlags, Timespec,
};

/// What both sides answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    Stat { kind: FileType, permissions: u32, nlink: u64, size: u64 },
    Names(Vec<(Vec<u8>, FileType)>),
    Bytes(Vec<u8>),
    Target(Vec<u8>),
}

pub type Answer = Result<Outcome, i32>;

/// What is asked of both sides. Paths are relative.
#[derive(Clone, Debug)]
pub enum Op {
    Create(String, u32),
    Mkdir(String, u32),
    Symlink(String, String),
    Unlink(String),
    Rmdir(String),
    Link(String, String),
    Rename(String, String, RenameFlags),
    Write(String, u64, Vec<u8>),
    Append(String, Vec<u8>),
    Truncate(String, u64),
    Punch(String, u64, u64),
    Chmod(String, u32),
    Read(String),
    Stat(String),
    List(String),
    Readlink(String),
}

/// A directory of the host that is removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sentry-fs-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub fn services() -> Services {
    let options = MemoryOptions { size_bytes: 4 << 30, limit_bytes: 1 << 30 };
    let memory = Arc::new(MemoryFile::new(options).unwrap());
    let tick = AtomicU64::new(1_700_000_000);
    let clock = move || Timespec { sec: tick.fetch_add(1, Ordering::Relaxed) as i64, nsec: 0 };
    Services::new(memory, Arc::new(clock))
}

pub fn tmpfs(services: &Services) -> Arc<Tmpfs> {
    Tmpfs::new(services, Options::default()).unwrap()
}

pub fn host(services: &Services, path: &Path, options: HostOptions) -> Arc<HostFs> {
    HostFs::new(services, std::fs::File::open(path).unwrap().into(), options).unwrap()
}

pub fn overlay(services: &Services, lower: &Path) -> Arc<Overlay> {
    let lower = host(services, lower, HostOptions::read_only());
    Overlay::new(services, lower, tmpfs(services)).unwrap()
}

/// One of our filesystems.
pub struct Ours {
    pub root: Arc<dyn Inode>,
    _filesystem: Arc<dyn FileSystem>,
}

type Kernel<T> = sentry_kernel::Result<T>;

impl Ours {
    pub fn new(filesystem: Arc<dyn FileSystem>) -> Self {
        Self { root: filesystem.root(), _filesystem: filesystem }
    }

    /// Walks to the directory of the last component.
    pub fn parent<'a>(&self, path: &'a str) -> Kernel<(Arc<dyn Inode>, &'a [u8])> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.walk(above)?, name.as_bytes()))
    }

    pub fn walk(&self, path: &str) -> Kernel<Arc<dyn Inode>> {
        let mut at = self.root.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if at.file_type() == FileType::Symlink {
                return Err(Errno::ENOENT.into());
            }
            at = at.lookup(part.as_bytes())?;
        }
        Ok(at)
    }

    /// The directory that a new name is made in: intermediate links dangle.
    fn dir_of<'a>(&self, path: &'a str) -> Kernel<(Arc<dyn Inode>, &'a [u8])> {
        let (dir, name) = self.parent(path)?;
        match dir.file_type() {
            FileType::Directory => Ok((dir, name)),
            FileType::Symlink => Err(Errno::ENOENT.into()),
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    fn regular(&self, path: &str) -> Kernel<Arc<dyn Inode>> {
        let (dir, name) = self.dir_of(path)?;
        let inode = dir.lookup(name)?;
        match inode.file_type() {
            FileType::Regular => Ok(inode),
            FileType::Directory => Err(Errno::EISDIR.into()),
            _ => Err(Errno::ENOENT.into()),
        }
    }

    pub fn names(&self, dir: &Arc<dyn Inode>) -> Kernel<Vec<(Vec<u8>, FileType, u64)>> {
        let open = dir.clone().open(OpenFlags::DIRECTORY, &Credentials::root())?;
        let mut names = Vec::new();
        open.read_dir(0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                names.push((entry.name.to_vec(), entry.file_type, entry.ino));
            }
            true
        })?;
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    pub fn read(&self, path: &str) -> Kernel<Vec<u8>> {
        let open = self.regular(path)?.open(OpenFlags::empty(), &Credentials::root())?;
        let mut sink = VecSink::new(1 << 24);
        open.read(0, &mut sink)?;
        Ok(sink.into_vec())
    }

    pub fn answer(&self, op: &Op) -> Answer {
        self.perform(op).map_err(|error| error.errno().number())
    }

    fn perform(&self, op: &Op) -> Kernel<Outcome> {
        let root = Credentials::root();
        let mode = |file_type, permissions, target| NewNode {
            file_type,
            permissions,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            rdev: 0,
            target,
        };
        match op {
            Op::Create(path, permissions) => {
                let (dir, name) = self.dir_of(path)?;
                dir.create(name, &mode(FileType::Regular, *permissions, b""))?;
            }
            Op::Mkdir(path, permissions) => {
                let (dir, name) = self.dir_of(path)?;
                dir.create(name, &mode(FileType::Directory, *permissions, b""))?;
            }
            Op::Symlink(path, target) => {
                let (dir, name) = self.dir_of(path)?;
                dir.create(name, &mode(FileType::Symlink, 0o777, target.as_bytes()))?;
            }
            Op::Unlink(path) => {
                let (dir, name) = self.dir_of(path)?;
                dir.unlink(name)?;
            }
            Op::Rmdir(path) => {
                let (dir, name) = self.dir_of(path)?;
                dir.rmdir(name)?;
            }
            Op::Link(path, new) => {
                let (dir, name) = self.dir_of(path)?;
                let inode = dir.lookup(name)?;
                let (dir, name) = self.dir_of(new)?;
                if dir.lookup(name).is_ok() {
                    return Err(Errno::EEXIST.into());
                }
                dir.link(name, &inode)?;
            }
            Op::Rename(path, new, flags) => {
                let (dir, name) = self.dir_of(path)?;
                let (new_dir, new_name) = self.dir_of(new)?;
                dir.rename(name, &new_dir, new_name, *flags)?;
            }
            Op::Write(path, offset, data) => {
                let open = self.regular(path)?.open(OpenFlags::WRONLY, &root)?;
                open.write(WriteAt::Offset(*offset), &mut SliceSource::new(data))?;
            }
            Op::Append(path, data) => {
                let flags = OpenFlags::WRONLY | OpenFlags::APPEND;
                let open = self.regular(path)?.open(flags, &root)?;
                open.write(WriteAt::End, &mut SliceSource::new(data))?;
            }
            Op::Truncate(path, size) => {
                let change = Change { size: Some(*size), ..Change::default() };
                self.regular(path)?.set_attributes(&change)?;
            }
            Op::Punch(path, offset, len) => {
                self.regular(path)?.open(OpenFlags::RDWR, &root)?.allocate(3, *offset, *len)?;
            }
            Op::Chmod(path, permissions) => {
                let inode = self.walk(path)?;
                if inode.file_type() == FileType::Symlink {
                    return Err(Errno::ENOENT.into());
                }
                let permissions = Some(*permissions);
                inode.set_attributes(&Change { permissions, ..Change::default() })?;
            }
            Op::Read(path) => return Ok(Outcome::Bytes(self.read(path)?)),
            Op::Stat(path) => {
                let (dir, name) = self.dir_of(path)?;
                let found = dir.lookup(name)?.attributes()?;
                let is_file = found.file_type == FileType::Regular;
                return Ok(Outcome::Stat {
                    kind: found.file_type,
                    permissions: found.permissions,
                    nlink: if is_file { found.nlink } else { 0 },
                    size: if is_file { found.size } else { 0 },
                });
            }
            Op::List(path) => {
                let dir = self.walk(path)?;
                match dir.file_type() {
                    FileType::Directory => {}
                    FileType::Symlink => return Err(Errno::ENOENT.into()),
                    _ => return Err(Errno::ENOTDIR.into()),
                }
                let names = self.names(&dir)?.into_iter().map(|(name, kind, _)| (name, kind));
                return Ok(Outcome::Names(names.collect()));
            }
            Op::Readlink(path) => {
                let (dir, name) = self.dir_of(path)?;
                return Ok(Outcome::Target(dir.lookup(name)?.readlink()?));
            }
        }
        Ok(Outcome::Done)
    }
}

/// The host's filesystem below a directory.
pub struct Theirs(pub PathBuf);

fn kind(mode: u32) -> FileType {
    FileType::from_mode(mode).unwrap()
}

impl Theirs {
    pub fn answer(&self, op: &Op) -> Answer {
        self.perform(op).map_err(|error| error.raw_os_error().unwrap())
    }

    fn open(&self, path: &str) -> std::io::Result<std::fs::File> {
        std::fs::File::options().write(true).open(self.0.join(path))
    }

    fn perform(&self, op: &Op) -> std::io::Result<Outcome> {
        let at = |path: &str| self.0.join(path);
        let mode = |path: &str, permissions: u32| {
            std::fs::set_permissions(at(path), PermissionsExt::from_mode(permissions))
        };
        match op {
            Op::Create(path, permissions) => {
                std::fs::File::options().write(true).create_new(true).open(at(path))?;
                mode(path, *permissions)?;
            }
            Op::Mkdir(path, permissions) => {
                std::fs::create_dir(at(path))?;
                mode(path, *permissions)?;
            }
            Op::Symlink(path, target) => std::os::unix::fs::symlink(target, at(path))?,
            Op::Unlink(path) => std::fs::remove_file(at(path))?,
            Op::Rmdir(path) => std::fs::remove_dir(at(path))?,
            Op::Link(path, new) => std::fs::hard_link(at(path), at(new))?,
            Op::Rename(path, new, flags) => {
                let flags = nix::fcntl::RenameFlags::from_bits(flags.bits()).unwrap();
                let cwd = nix::fcntl::AT_FDCWD;
                nix::fcntl::renameat2(cwd, &at(path), cwd, &at(new), flags)
                    .map_err(|error: HostErrno| std::io::Error::from(error))?;
            }
            Op::Write(path, offset, data) => self.open(path)?.write_all_at(data, *offset)?,
            Op::Append(path, data) => {
                let mut file = std::fs::File::options().append(true).open(at(path))?;
                std::io::Write::write_all(&mut file, data)?;
            }
            Op::Truncate(path, size) => self.open(path)?.set_len(*size)?,
            Op::Punch(path, offset, len) => {
                let file = self.open(path)?;
                let flags = nix::fcntl::FallocateFlags::from_bits(3).unwrap();
                nix::fcntl::fallocate(&file, flags, *offset as i64, *len as i64)?;
            }
            Op::Chmod(path, permissions) => mode(path, *permissions)?,
            Op::Read(path) => {
                std::fs::File::options().write(true).open(at(path))?;
                return Ok(Outcome::Bytes(std::fs::read(at(path))?));
            }
            Op::Stat(path) => {
                let found = std::fs::symlink_metadata(at(path))?;
                return Ok(Outcome::Stat {
                    kind: kind(found.mode()),
                    permissions: found.mode() & 0o7777,
                    nlink: if found.is_file() { found.nlink() } else { 0 },
                    size: if found.is_file() { found.len() } else { 0 },
                });
            }
            Op::List(path) => {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(at(path))? {
                    let entry = entry?;
                    let name = entry.file_name().into_encoded_bytes();
                    names.push((name, kind(entry.metadata()?.mode())));
                }
                names.sort_by(|a, b| a.0.cmp(&b.0));
                return Ok(Outcome::Names(names));
            }
            Op::Readlink(path) => {
                let target = std::fs::read_link(at(path))?;
                return Ok(Outcome::Target(target.into_os_string().into_encoded_bytes()));
            }
        }
        Ok(Outcome::Done)
    }
}

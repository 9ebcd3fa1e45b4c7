//! The inodes of proc: generated files, directories that are asked anew each time, links, magic links.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::cred::{Capabilities, Credentials};
use sentry_kernel::error::Result;
use sentry_kernel::file::{FileOps, WriteAt, Written};
use sentry_kernel::io::{Sink, Source};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::task::{self, Task};
use sentry_kernel::vfs::{
    Access, Attributes, Change, DirSink, FileSystem, FileType, Inode, OpenFlags, Path,
};

use super::Shared;
use crate::listing::{Entry, Listing};

/// Bytes that a write to a generated file may have.
const WRITE_MAX: usize = 4096;

/// Makes a file's content.
pub(super) type Read = Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;
/// Takes what is written to a file, whole.
pub(super) type Write = Box<dyn Fn(&[u8]) -> Result<()> + Send + Sync>;
/// Finds where a magic link leads.
pub(super) type Target = Box<dyn Fn() -> Result<Path> + Send + Sync>;

/// The entries of a directory.
pub(super) trait Entries: Send + Sync {
    /// Finds one. Errors: ENOENT.
    fn find(&self, name: &[u8]) -> Result<Arc<Node>>;

    /// All, without `.` and `..`.
    fn list(&self) -> Result<Vec<Entry>>;
}

/// What a node is.
pub(super) enum Body {
    File { read: Read, write: Option<Write> },
    Directory(Box<dyn Entries>),
    Link(Read),
    Magic { text: Read, target: Target },
}

/// Whose a node is.
#[derive(Clone)]
pub(super) enum Owner {
    /// Root's.
    Root,
    /// The task's user's.
    Task(Arc<Task>),
    /// The same, and only who may trace the task can look into it (ptrace(2), PTRACE_MODE_READ).
    Guarded(Arc<Task>),
}

/// An inode of proc.
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) ino: u64,
    permissions: u32,
    owner: Owner,
    body: Body,
}

/// A number for what is described by these values; the same each time.
pub(super) fn number(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    (hasher.finish() & 0x7fff_ffff_ffff) | 1 << 40
}

/// True where the caller may look into `target` (PTRACE_MODE_READ_FSCREDS).
fn may_look(target: &Task) -> bool {
    let Some(caller) = task::current() else { return true };
    if Arc::ptr_eq(caller.thread_group(), target.thread_group()) {
        return true;
    }
    let (by, of) = (caller.credentials(), target.credentials());
    if by.has(Capabilities::SYS_PTRACE) {
        return true;
    }
    [of.uid, of.euid, of.suid].iter().all(|id| *id == by.fsuid)
        && [of.gid, of.egid, of.sgid].iter().all(|id| *id == by.fsgid)
        && target.thread_group().dumpable() == 1
        && by.permitted.contains(of.permitted)
}

impl Node {
    pub(super) fn new(
        shared: &Arc<Shared>,
        ino: u64,
        permissions: u32,
        owner: Owner,
        body: Body,
    ) -> Arc<Self> {
        Arc::new(Self { shared: shared.clone(), ino, permissions, owner, body })
    }

    /// Errors: EACCES where the caller may not look into the task.
    fn check_guard(&self) -> Result<()> {
        match &self.owner {
            Owner::Guarded(task) if !may_look(task) => Err(Errno::EACCES.into()),
            _ => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let Body::Directory(entries) = &self.body else { return Err(Errno::ENOTDIR.into()) };
        let mut all = vec![
            Entry::new(b".", self.ino, FileType::Directory),
            Entry::new(b"..", self.shared.root_ino, FileType::Directory),
        ];
        all.extend(entries.list()?);
        Ok(all)
    }

    fn owner_ids(&self) -> (u32, u32) {
        match &self.owner {
            Owner::Root => (0, 0),
            Owner::Task(task) | Owner::Guarded(task) => {
                let creds = task.credentials();
                // What may not be dumped belongs to root, but for the directories themselves.
                match task.thread_group().dumpable() == 1 || self.permissions == 0o555 {
                    true => (creds.euid, creds.egid),
                    false => (0, 0),
                }
            }
        }
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let (uid, gid) = self.owner_ids();
        let now = self.shared.services.now();
        Ok(Attributes {
            dev: self.shared.dev,
            ino: self.ino,
            file_type: self.file_type(),
            permissions: self.permissions,
            nlink: if self.file_type() == FileType::Directory { 2 } else { 1 },
            uid,
            gid,
            rdev: 0,
            size: 0,
            block_size: 1024,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        match self.body {
            Body::File { .. } => FileType::Regular,
            Body::Directory(_) => FileType::Directory,
            Body::Link(_) | Body::Magic { .. } => FileType::Symlink,
        }
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        self.shared.filesystem()
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        // O_TRUNC of a shell's redirection changes nothing.
        match change {
            Change { size: Some(_), permissions: None, uid: None, gid: None, .. } => Ok(()),
            _ => Err(Errno::EPERM.into()),
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match &self.body {
            Body::Directory(entries) => {
                self.check_guard()?;
                Ok(entries.find(name)?)
            }
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    fn entries_are_stable(&self) -> bool {
        false
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.check_guard()?;
        match &self.body {
            Body::Link(text) | Body::Magic { text, .. } => text(),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    fn magic_link(&self) -> Option<Result<Path>> {
        match &self.body {
            Body::Magic { target, .. } => Some(self.check_guard().and_then(|()| target())),
            _ => None,
        }
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        self.check_guard()?;
        match &self.body {
            Body::File { .. } => {
                let content = Mutex::new(Rank::INODE, None);
                Ok(Arc::new(OpenFile { node: self, content }))
            }
            Body::Directory(_) => {
                Ok(Arc::new(OpenDirectory { node: self, listing: Listing::default() }))
            }
            _ => Err(Errno::ELOOP.into()),
        }
    }

    fn permission(&self, access: Access, _: &Credentials) -> Option<Result<()>> {
        // A task may always look at its own descriptors, also after it gave up its rights.
        match (&self.owner, &self.body) {
            (Owner::Guarded(task), Body::Directory(_)) if !access.contains(Access::WRITE) => {
                let own = task::current()
                    .is_some_and(|caller| Arc::ptr_eq(caller.thread_group(), task.thread_group()));
                own.then_some(Ok(()))
            }
            _ => None,
        }
    }
}

/// An open generated file: its content is made when it is read from the start.
struct OpenFile {
    node: Arc<Node>,
    content: Mutex<Option<Arc<Vec<u8>>>>,
}

impl FileOps for OpenFile {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        let Body::File { read, .. } = &self.node.body else { return Err(Errno::EINVAL.into()) };
        let known = if offset == 0 { None } else { self.content.lock().clone() };
        let content = match known {
            Some(content) => content,
            None => {
                let made = Arc::new(read()?);
                *self.content.lock() = Some(made.clone());
                made
            }
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        dst.write(&content[start..])
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let Body::File { write: Some(write), .. } = &self.node.body else {
            return Err(Errno::EPERM.into());
        };
        let mut bytes = vec![0; src.remaining().min(WRITE_MAX)];
        let len = src.read(&mut bytes)?;
        write(&bytes[..len])?;
        let start = if let WriteAt::Offset(offset) = at { offset } else { 0 };
        Ok(Written { len, end: start.saturating_add(len as u64) })
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(0)
    }
}

/// An open directory of proc.
struct OpenDirectory {
    node: Arc<Node>,
    listing: Listing,
}

impl FileOps for OpenDirectory {
    fn read(&self, _: u64, _: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EISDIR.into())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(i64::MAX as u64)
    }

    fn read_dir(&self, from: u64, sink: &mut DirSink<'_>) -> Result<()> {
        self.listing.emit(from, sink, || self.node.list())
    }
}

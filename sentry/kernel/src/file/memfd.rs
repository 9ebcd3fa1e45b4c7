//! memfd_create(2): a file of an in-memory filesystem without a name, with seals (fcntl(2), F_ADD_SEALS).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, UserAddr};

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::description::FileDescription;
use crate::file::nameless::nameless_path;
use crate::file::ops::{FileOps, WriteAt, Written};
use crate::io::{Sink, Source};
use crate::mm::{Mappable, MemoryManager, PageRun, Touch};
use crate::sync::{Mutex, Rank};
use crate::task::CurrentTask;
use crate::vfs::{
    Access, Attributes, Change, DirSink, FileSystem, FileType, Inode, NewNode, OpenFlags,
};

/// F_SEAL_SEAL: no more seals.
pub const SEAL_SEAL: u32 = 1;
/// F_SEAL_SHRINK
pub const SEAL_SHRINK: u32 = 2;
/// F_SEAL_GROW
pub const SEAL_GROW: u32 = 4;
/// F_SEAL_WRITE
pub const SEAL_WRITE: u32 = 8;
/// F_SEAL_FUTURE_WRITE
pub const SEAL_FUTURE_WRITE: u32 = 16;
/// F_SEAL_EXEC
pub const SEAL_EXEC: u32 = 32;
const SEALS: u32 = 63;

struct Memfd {
    inode: Arc<dyn Inode>,
    seals: AtomicU32,
    /// Who may have mapped it.
    managers: Mutex<Vec<Weak<MemoryManager>>>,
}

/// A memfd's pages, with a note of who maps them: F_SEAL_WRITE asks for writable mappings.
struct SealedMapping {
    real: Arc<dyn Mappable>,
    memfd: Arc<Memfd>,
}

impl Mappable for SealedMapping {
    fn pages(&self, offset: u64, max_len: u64, touch: Touch) -> Result<PageRun> {
        self.real.pages(offset, max_len, touch)
    }

    fn register(&self, manager: Weak<MemoryManager>) {
        let mut managers = self.memfd.managers.lock();
        managers.retain(|known| known.strong_count() > 0 && !Weak::ptr_eq(known, &manager));
        managers.push(manager.clone());
        drop(managers);
        self.real.register(manager);
    }

    fn identity(&self) -> u64 {
        self.real.identity()
    }

    fn device_and_inode(&self) -> (u64, u64) {
        self.real.device_and_inode()
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.memfd.check_write()?;
        self.real.punch_hole(offset, len)
    }

    fn sync(&self) -> Result<()> {
        self.real.sync()
    }
}

/// Makes a memfd in `filesystem` (a fresh tmpfs), with the seals that it starts with ([`SEAL_SEAL`] unless MFD_ALLOW_SEALING).
pub fn create(
    filesystem: &Arc<dyn FileSystem>,
    name: &[u8],
    permissions: u32,
    seals: u32,
    creds: &Credentials,
) -> Result<Arc<FileDescription>> {
    let node = NewNode {
        file_type: FileType::Regular,
        permissions,
        uid: creds.fsuid,
        gid: creds.fsgid,
        rdev: 0,
        target: &[],
    };
    let inode = filesystem.root().create_unnamed(&node)?;
    let memfd = Arc::new(Memfd {
        inode,
        seals: AtomicU32::new(seals),
        managers: Mutex::new(Rank::LEAF, Vec::new()),
    });
    let flags = OpenFlags::RDWR | OpenFlags::LARGEFILE;
    let ops = memfd.clone().open(flags, creds)?;
    let label = [b"/memfd:", name, b" (deleted)"].concat();
    Ok(FileDescription::new(ops, Some(nameless_path(memfd, &label)), flags))
}

impl Memfd {
    fn seals(&self) -> u32 {
        self.seals.load(Ordering::Acquire)
    }

    /// EPERM where a seal forbids a new size.
    fn check_size(&self, size: u64) -> Result<()> {
        let now = self.inode.attributes()?.size;
        let seals = self.seals();
        let forbidden =
            (size < now && seals & SEAL_SHRINK != 0) || (size > now && seals & SEAL_GROW != 0);
        if forbidden { Err(Errno::EPERM.into()) } else { Ok(()) }
    }

    fn check_write(&self) -> Result<()> {
        let sealed = self.seals() & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0;
        if sealed { Err(Errno::EPERM.into()) } else { Ok(()) }
    }
}

impl Inode for Memfd {
    fn attributes(&self) -> Result<Attributes> {
        self.inode.attributes()
    }

    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        self.inode.filesystem()
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        if let Some(size) = change.size {
            self.check_size(size)?;
        }
        let execs = |permissions: u32| permissions & 0o111;
        if let Some(permissions) = change.permissions
            && self.seals() & SEAL_EXEC != 0
            && execs(permissions) != execs(self.inode.attributes()?.permissions)
        {
            return Err(Errno::EPERM.into());
        }
        self.inode.set_attributes(change)
    }

    fn open(self: Arc<Self>, flags: OpenFlags, creds: &Credentials) -> Result<Arc<dyn FileOps>> {
        let inner = self.inode.clone().open(flags, creds)?;
        Ok(Arc::new(MemfdFile { inner, memfd: self, writable: flags.writable() }))
    }

    fn permission(&self, access: Access, creds: &Credentials) -> Option<Result<()>> {
        self.inode.permission(access, creds)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.inode.xattr(name)
    }

    fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        self.inode.xattr_names()
    }
}

struct MemfdFile {
    inner: Arc<dyn FileOps>,
    memfd: Arc<Memfd>,
    writable: bool,
}

impl FileOps for MemfdFile {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.inner.read(offset, dst)
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        self.memfd.check_write()?;
        if self.memfd.seals() & SEAL_GROW != 0 {
            let size = self.inner.end()?;
            let start = match at {
                WriteAt::Offset(offset) => offset,
                WriteAt::End => size,
            };
            if start.saturating_add(src.remaining() as u64) > size {
                return Err(Errno::EPERM.into());
            }
        }
        self.inner.write(at, src)
    }

    fn is_seekable(&self) -> bool {
        self.inner.is_seekable()
    }

    fn end(&self) -> Result<u64> {
        self.inner.end()
    }

    fn next_data(&self, offset: u64) -> Result<u64> {
        self.inner.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        self.inner.next_hole(offset)
    }

    fn read_dir(&self, from: u64, sink: &mut DirSink<'_>) -> Result<()> {
        self.inner.read_dir(from, sink)
    }

    fn ioctl(&self, task: &CurrentTask, request: u32, arg: UserAddr) -> Result<u64> {
        self.inner.ioctl(task, request, arg)
    }

    fn set_attributes(&self, change: &Change) -> Option<Result<()>> {
        match change.size.map(|size| self.memfd.check_size(size)) {
            Some(Err(e)) => Some(Err(e)),
            _ => self.inner.set_attributes(change),
        }
    }

    fn allocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.memfd.check_write()?;
        if mode == 0 {
            self.memfd.check_size(self.inner.end()?.max(offset.saturating_add(len)))?;
        }
        self.inner.allocate(mode, offset, len)
    }

    fn sync(&self) -> Result<()> {
        self.inner.sync()
    }

    fn mappable(&self) -> Result<Arc<dyn Mappable>> {
        let real = self.inner.mappable()?;
        Ok(Arc::new(SealedMapping { real, memfd: self.memfd.clone() }))
    }

    fn seals(&self) -> Result<u32> {
        Ok(self.memfd.seals())
    }

    fn add_seals(&self, seals: u32) -> Result<()> {
        if seals & !SEALS != 0 {
            return Err(Errno::EINVAL.into());
        }
        if !self.writable || self.memfd.seals() & SEAL_SEAL != 0 {
            return Err(Errno::EPERM.into());
        }
        if seals & SEAL_WRITE != 0 && self.memfd.seals() & SEAL_WRITE == 0 {
            let identity = self.inner.mappable()?.identity();
            let managers = self.memfd.managers.lock().clone();
            let maps = |manager: &Weak<MemoryManager>| {
                manager.upgrade().is_some_and(|manager| manager.may_write_shared(identity))
            };
            if managers.iter().any(maps) {
                return Err(Errno::EBUSY.into());
            }
        }
        self.memfd.seals.fetch_or(seals, Ordering::AcqRel);
        Ok(())
    }
}

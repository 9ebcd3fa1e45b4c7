//! A small filesystem in memory for the kernel's own tests: one lock around a map of nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;

use crate::cred::Credentials;
use crate::error::Result;
use crate::file::{FileOps, WriteAt, Written};
use crate::io::{Sink, Source};
use crate::sync::{Mutex, Rank};
use crate::vfs::{
    Attributes, Change, DirSink, FileSystem, FileType, FsStat, Inode, NewNode, OpenFlags,
    RenameFlags, Timespec,
};

/// The filesystem.
pub struct MemFs {
    root: Arc<Node>,
}

/// How a file's own lookups are counted, to see what the cache saves.
pub static LOOKUPS: AtomicU64 = AtomicU64::new(0);

struct State {
    permissions: u32,
    uid: u32,
    gid: u32,
    nlink: u64,
    data: Vec<u8>,
    entries: BTreeMap<Vec<u8>, Arc<Node>>,
}

/// A node.
pub struct Node {
    kind: FileType,
    ino: u64,
    rdev: u64,
    state: Mutex<State>,
    me: Weak<Node>,
}

impl MemFs {
    /// A root directory with mode 0755, owned by root.
    pub fn new() -> Arc<Self> {
        let node = NewNode {
            file_type: FileType::Directory,
            permissions: 0o755,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: &[],
        };
        Arc::new(Self { root: Node::new(&node) })
    }
}

impl FileSystem for MemFs {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat(&self) -> FsStat {
        FsStat {
            magic: 1,
            block_size: 4096,
            blocks: 0,
            blocks_free: 0,
            files: 0,
            files_free: 0,
            name_max: 255,
        }
    }

    fn type_name(&self) -> &'static str {
        "memfs"
    }
}

impl Node {
    fn new(node: &NewNode<'_>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let state = State {
            permissions: node.permissions,
            uid: node.uid,
            gid: node.gid,
            nlink: 1,
            data: node.target.to_vec(),
            entries: BTreeMap::new(),
        };
        Arc::new_cyclic(|me| Self {
            kind: node.file_type,
            ino: NEXT.fetch_add(1, Ordering::Relaxed),
            rdev: node.rdev,
            state: Mutex::new(Rank::INODE, state),
            me: me.clone(),
        })
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let state = self.state.lock();
        Ok(Attributes {
            dev: 7,
            ino: self.ino,
            file_type: self.kind,
            permissions: state.permissions,
            nlink: state.nlink,
            uid: state.uid,
            gid: state.gid,
            rdev: self.rdev,
            size: state.data.len() as u64,
            block_size: 4096,
            blocks: 0,
            atime: Timespec::default(),
            mtime: Timespec::default(),
            ctime: Timespec::default(),
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        Arc::new(MemFs { root: self.me.upgrade().unwrap() })
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        let mut state = self.state.lock();
        state.permissions = change.permissions.unwrap_or(state.permissions);
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        if let Some(size) = change.size {
            state.data.resize(size as usize, 0);
        }
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        LOOKUPS.fetch_add(1, Ordering::Relaxed);
        let found = self.state.lock().entries.get(name).cloned();
        Ok(found.ok_or(Errno::ENOENT)?)
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        let new = Node::new(node);
        self.state.lock().entries.insert(name.to_vec(), new.clone());
        Ok(new)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let any: Arc<dyn core::any::Any + Send + Sync> = target.clone();
        let node = any.downcast::<Node>().map_err(|_| Errno::EXDEV)?;
        node.state.lock().nlink += 1;
        self.state.lock().entries.insert(name.to_vec(), node);
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.state.lock().entries.remove(name).map(drop).ok_or(Errno::ENOENT.into())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        let gone = state.entries.get(name).ok_or(Errno::ENOENT)?;
        if !gone.state.lock().entries.is_empty() {
            return Err(Errno::ENOTEMPTY.into());
        }
        state.entries.remove(name);
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        let any: Arc<dyn core::any::Any + Send + Sync> = new_dir.clone();
        let new_dir = any.downcast::<Node>().map_err(|_| Errno::EXDEV)?;
        let target = new_dir.state.lock().entries.get(new_name).cloned();
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if let Some(target) = &target
            && !exchange
            && !target.state.lock().entries.is_empty()
        {
            return Err(Errno::ENOTEMPTY.into());
        }
        let moved = self.state.lock().entries.remove(name).ok_or(Errno::ENOENT)?;
        new_dir.state.lock().entries.insert(new_name.to_vec(), moved);
        if let Some(target) = target.filter(|_| exchange) {
            self.state.lock().entries.insert(name.to_vec(), target);
        }
        Ok(())
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        Ok(self.state.lock().data.clone())
    }

    fn open(self: Arc<Self>, _: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(OpenNode(self)))
    }
}

struct OpenNode(Arc<Node>);

impl FileOps for OpenNode {
    fn read(&self, offset: u64, dst: &mut dyn Sink) -> Result<usize> {
        if self.0.kind == FileType::Directory {
            return Err(Errno::EISDIR.into());
        }
        let state = self.0.state.lock();
        dst.write(state.data.get(offset as usize..).unwrap_or(&[]))
    }

    fn write(&self, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let mut bytes = vec![0; src.remaining()];
        let len = src.read(&mut bytes)?;
        let mut state = self.0.state.lock();
        let start = match at {
            WriteAt::Offset(offset) => offset as usize,
            WriteAt::End => state.data.len(),
        };
        let end = start + len;
        if state.data.len() < end {
            state.data.resize(end, 0);
        }
        state.data[start..end].copy_from_slice(&bytes[..len]);
        Ok(Written { len, end: end as u64 })
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(self.0.state.lock().data.len() as u64)
    }

    fn read_dir(&self, from: u64, sink: &mut DirSink<'_>) -> Result<()> {
        let state = self.0.state.lock();
        for (i, (name, node)) in state.entries.iter().enumerate().skip(from as usize) {
            let next = i as u64 + 1;
            let entry = crate::vfs::DirEntry { name, ino: node.ino, file_type: node.kind, next };
            if !sink(&entry) {
                break;
            }
        }
        Ok(())
    }
}

//! The inode of a host tree: found by (device, number), stat'ed and opened relative to its directory.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;
use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::io::Sink;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::{
    Attributes, Change, DirSink, FileSystem, FileType, Inode, NewNode, OpenFlags, RenameFlags,
};

use super::content::{Content, OpenFile};
use super::view::Sight;
use super::{HostFs, Key, Shared, Sharing, View, sys};
use crate::listing::{Entry, Listing};

/// Directories between a node and the root at most: a bound on a walk whose tree the host rearranges meanwhile.
const DEPTH_MAX: usize = 1 << 16;

/// Where a node was last found.
type Place = Option<(Arc<HostNode>, Box<[u8]>)>;

/// A file of the host.
pub struct HostNode {
    pub(super) this: Weak<HostNode>,
    pub(super) shared: Arc<Shared>,
    pub(super) key: Key,
    pub(super) file_type: FileType,
    view: Option<Arc<View>>,
    /// `None` for the root.
    pub(super) place: Mutex<Place>,
    /// The content while somebody has it open.
    pub(super) content: Mutex<Weak<Content>>,
    /// Held since the last name was removed through us, so that the node can still be asked.
    pub(super) pinned: Mutex<Option<Arc<OwnedFd>>>,
}

impl HostNode {
    pub(super) fn root(
        shared: &Arc<Shared>,
        stat: &FileStat,
        view: Option<Arc<View>>,
    ) -> Result<Arc<Self>> {
        Self::new(shared, stat, view, None)
    }

    fn new(
        shared: &Arc<Shared>,
        stat: &FileStat,
        view: Option<Arc<View>>,
        place: Place,
    ) -> Result<Arc<Self>> {
        let (key, file_type) = (Key::new(stat, view.as_ref()), sys::file_type(stat)?);
        Ok(Self::with_key(shared, key, file_type, view, place))
    }

    fn with_key(
        shared: &Arc<Shared>,
        key: Key,
        file_type: FileType,
        view: Option<Arc<View>>,
        place: Place,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            shared: shared.clone(),
            key,
            file_type,
            view,
            place: Mutex::new(Rank::INODE, place),
            content: Mutex::new(Rank::INODE, Weak::new()),
            pinned: Mutex::new(Rank::INODE, None),
        })
    }

    /// The node of this very tree behind an inode. Errors: EXDEV.
    pub(super) fn of(&self, inode: &Arc<dyn Inode>) -> Result<Arc<HostNode>> {
        let any: Arc<dyn core::any::Any + Send + Sync> = inode.clone();
        let node = any.downcast::<HostNode>().map_err(|_| Errno::EXDEV)?;
        if Arc::ptr_eq(&node.shared, &self.shared) { Ok(node) } else { Err(Errno::EXDEV.into()) }
    }

    /// What the view says of a name here. Errors: ENOENT where it is hidden.
    pub(super) fn sight(&self, name: &[u8]) -> Result<Option<Arc<View>>> {
        match self.view.as_ref().map_or(Sight::Whole, |view| view.see(name)) {
            Sight::Hidden => Err(Errno::ENOENT.into()),
            Sight::Whole => Ok(None),
            Sight::Part(view) => Ok(Some(view)),
        }
    }

    /// The node of a file that was found as `name` in this directory: the one that is known, or a new one.
    pub(super) fn found(
        &self,
        name: &[u8],
        stat: &FileStat,
        view: Option<Arc<View>>,
    ) -> Result<Arc<HostNode>> {
        let shared = &self.shared;
        let parent = self.this.upgrade().ok_or(Errno::ESTALE)?;
        let key = Key::new(stat, view.as_ref());
        let place = Some((parent, Box::from(name)));
        let known = shared.nodes.lock().get(&key).and_then(Weak::upgrade);
        if let Some(known) = known
            && Some(known.file_type) == FileType::from_mode(stat.st_mode)
        {
            let old = std::mem::replace(&mut *known.place.lock(), place);
            drop(old);
            return Ok(known);
        }
        let node = Self::new(shared, stat, view, place)?;
        let mut nodes = shared.nodes.lock();
        // Somebody else may have found it meanwhile: there must be one node.
        let first = nodes.get(&key).and_then(Weak::upgrade);
        if first.as_ref().is_none_or(|first| first.file_type != node.file_type) {
            nodes.insert(key, Arc::downgrade(&node));
            drop(nodes);
            return Ok(node);
        }
        drop(nodes);
        Ok(first.unwrap_or(node))
    }

    /// Directory and name that it was last found under.
    pub(super) fn whereabouts(&self) -> Option<(Arc<HostNode>, Box<[u8]>)> {
        self.place.lock().clone()
    }

    /// A descriptor (O_PATH) of this directory. Errors: ENOTDIR; ESTALE where the host has moved it away.
    pub(super) fn dir_fd(&self) -> Result<Arc<OwnedFd>> {
        if self.file_type != FileType::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        if let Some(fd) = self.known_fd() {
            return Ok(fd);
        }
        // Up to the next directory that is open, then down again.
        let mut way = Vec::new();
        let mut next = self.whereabouts();
        let mut keys = vec![self.key];
        let mut fd = loop {
            let (parent, name) = next.take().ok_or(Errno::ESTALE)?;
            way.push(name);
            if let Some(fd) = parent.known_fd() {
                break fd;
            }
            if way.len() > DEPTH_MAX {
                return Err(Errno::ESTALE.into());
            }
            keys.push(parent.key);
            next = parent.whereabouts();
        };
        while let (Some(name), Some(key)) = (way.pop(), keys.pop()) {
            let opened = sys::open_beneath(&*fd, &name, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            if !key.is(&sys::stat(&opened)?) {
                return Err(Errno::ESTALE.into());
            }
            fd = Arc::new(opened);
            let displaced = self.shared.dirs.lock().keep(key, fd.clone());
            drop(displaced);
        }
        Ok(fd)
    }

    fn known_fd(&self) -> Option<Arc<OwnedFd>> {
        if let Some(pinned) = self.pinned.lock().clone() {
            return Some(pinned);
        }
        let known = self.shared.dirs.lock().find(self.key);
        match known {
            Some(fd) => Some(fd),
            None if self.place.lock().is_none() => Some(self.shared.root_fd.clone()),
            None => None,
        }
    }

    /// stat(2) of the file as it is now. Errors: ESTALE where another file has its name.
    pub(super) fn stat(&self) -> Result<FileStat> {
        if let Some(pinned) = self.pinned.lock().clone() {
            return sys::stat(&*pinned);
        }
        let content = self.content.lock().upgrade();
        if let Some(content) = content {
            return sys::stat(&content.fd);
        }
        if self.file_type == FileType::Directory {
            return sys::stat(&*self.dir_fd()?);
        }
        let (parent, name) = self.whereabouts().ok_or(Errno::ESTALE)?;
        let stat = sys::stat_at(&*parent.dir_fd()?, &name)?;
        if self.key.is(&stat) { Ok(stat) } else { Err(Errno::ESTALE.into()) }
    }

    /// Opens the file itself with these host flags. Errors: ESTALE where another file has its name.
    pub(super) fn open_host(&self, flags: OFlag) -> Result<OwnedFd> {
        let (parent, name) = self.whereabouts().ok_or(Errno::ESTALE)?;
        let fd = sys::open_beneath(&*parent.dir_fd()?, &name, flags | OFlag::O_NONBLOCK)?;
        if self.key.is(&sys::stat(&fd)?) { Ok(fd) } else { Err(Errno::ESTALE.into()) }
    }

    /// The content, opened at least as `writable` asks; shared with everybody who has it open.
    pub(super) fn open_content(self: &Arc<Self>, writable: bool) -> Result<Arc<Content>> {
        let known = self.content.lock().upgrade();
        if let Some(known) = known
            && (known.writable || !writable)
        {
            return Ok(known);
        }
        let flags = if writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
        let fd = self.open_host(flags)?;
        if sys::file_type(&sys::stat(&fd)?)? != FileType::Regular {
            return Err(Errno::ESTALE.into());
        }
        let content = Arc::new(Content::new(self.shared.clone(), self.key, fd, writable));
        *self.content.lock() = Arc::downgrade(&content);
        Ok(content)
    }

    /// The listing of this directory as programs see it.
    fn list(&self) -> Result<Vec<Entry>> {
        let parent = self.whereabouts().map_or(self.key.ino, |(parent, _)| parent.key.ino);
        let mut entries = vec![
            Entry::new(b".", self.key.ino, FileType::Directory),
            Entry::new(b"..", parent, FileType::Directory),
        ];
        let listed = sys::list(sys::open_listing(&*self.dir_fd()?)?)?;
        entries.extend(listed.into_iter().filter(|entry| self.sight(&entry.name).is_ok()));
        Ok(entries)
    }
}

impl Drop for HostNode {
    fn drop(&mut self) {
        {
            let mut nodes = self.shared.nodes.lock();
            if nodes.get(&self.key).is_some_and(|known| known.strong_count() == 0) {
                nodes.remove(&self.key);
            }
        }
        // A long chain of directories must not be dropped by recursion.
        let mut next = self.place.get_mut().take();
        while let Some((parent, _)) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.place.get_mut().take());
        }
    }
}

impl Inode for HostNode {
    fn attributes(&self) -> Result<Attributes> {
        let stat = self.stat()?;
        let rdev = match self.file_type {
            FileType::CharDevice | FileType::BlockDevice => stat.st_rdev,
            _ => 0,
        };
        Ok(Attributes {
            dev: self.shared.device(stat.st_dev),
            ino: stat.st_ino,
            file_type: self.file_type,
            permissions: stat.st_mode & 0o7777,
            nlink: stat.st_nlink,
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev,
            size: stat.st_size.try_into().unwrap_or(0),
            block_size: stat.st_blksize.try_into().unwrap_or(4096),
            blocks: stat.st_blocks.try_into().unwrap_or(0),
            atime: sys::time(stat.st_atime, stat.st_atime_nsec),
            mtime: sys::time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: sys::time(stat.st_ctime, stat.st_ctime_nsec),
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        self.file_type
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        if let Some(filesystem) = self.shared.filesystem.lock().upgrade() {
            return filesystem;
        }
        // The mount is gone and an open file outlives it: a filesystem around its topmost directory stands for it.
        let mut top: Option<Arc<HostNode>> = None;
        let mut next = self.whereabouts();
        while let Some((parent, _)) = next {
            next = parent.whereabouts();
            top = Some(parent);
        }
        let root = top.unwrap_or_else(|| {
            Self::with_key(&self.shared, self.key, self.file_type, self.view.clone(), None)
        });
        Arc::new(HostFs { shared: self.shared.clone(), root })
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.change(change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.find(name)?)
    }

    fn entries_are_stable(&self) -> bool {
        self.shared.sharing == Sharing::Quiet
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.make(name, node)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.add_name(name, &*self.of(target)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove(name, nix::unistd::UnlinkatFlags::NoRemoveDir)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove(name, nix::unistd::UnlinkatFlags::RemoveDir)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        self.move_name(name, &*self.of(new_dir)?, new_name, flags)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.file_type != FileType::Symlink {
            return Err(Errno::EINVAL.into());
        }
        let (parent, name) = self.whereabouts().ok_or(Errno::ESTALE)?;
        sys::readlink_at(&*parent.dir_fd()?, &name)
    }

    fn open(self: Arc<Self>, flags: OpenFlags, _: &Credentials) -> Result<Arc<dyn FileOps>> {
        match self.file_type {
            FileType::Regular => {
                if flags.writable() || flags.contains(OpenFlags::TRUNC) {
                    self.shared.check_writable()?;
                }
                if flags.contains(OpenFlags::TRUNC) {
                    self.change(&Change { size: Some(0), ..Change::default() })?;
                }
                let content = self.open_content(flags.writable())?;
                Ok(Arc::new(OpenFile::new(self, content)))
            }
            FileType::Directory => {
                Ok(Arc::new(OpenDirectory { node: self, listing: Listing::default() }))
            }
            FileType::Symlink => Err(Errno::ELOOP.into()),
            // The host's own fifos, sockets and devices stay the host's.
            FileType::Fifo | FileType::Socket => Err(Errno::ENXIO.into()),
            FileType::CharDevice | FileType::BlockDevice => Err(Errno::EACCES.into()),
        }
    }
}

/// An open directory of the host.
struct OpenDirectory {
    node: Arc<HostNode>,
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

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

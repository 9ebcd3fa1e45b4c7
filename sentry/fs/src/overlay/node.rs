//! The inode of an overlay: an upper inode, a lower one, or both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::FileOps;
use sentry_kernel::sync::{Mutex, MutexGuard, Rank};
use sentry_kernel::vfs::{
    Access, Attributes, Change, FileSystem, FileType, Inode, NewNode, OpenFlags, RenameFlags,
};

use super::file::{OpenDirectory, OpenFile};
use super::{LowerKey, OPAQUE, Overlay, PRIVATE, Shared, UPPER_INO, is_whiteout, optional};

/// Where a node was last found.
pub(super) type Place = Option<(Arc<OverlayNode>, Box<[u8]>)>;

/// What changes of a node.
pub(super) struct State {
    pub(super) upper: Option<Arc<dyn Inode>>,
    /// The upper inode has no content yet: the lower one's counts.
    pub(super) data_below: bool,
    /// `None` for the root and for files without a name.
    pub(super) place: Place,
    /// Names that programs added to the lower file's, less those that they removed.
    pub(super) nlink_delta: i64,
    /// Has no name any more.
    pub(super) dead: bool,
}

/// A file of an overlay.
pub struct OverlayNode {
    pub(super) this: Weak<OverlayNode>,
    pub(super) shared: Arc<Shared>,
    pub(super) ino: u64,
    pub(super) file_type: FileType,
    pub(super) lower: Option<(LowerKey, Arc<dyn Inode>)>,
    pub(super) state: Mutex<State>,
    /// Held while content is copied up.
    pub(super) copying: Mutex<()>,
    /// Counts changes of where the content is, so that open files follow.
    pub(super) generation: AtomicU64,
}

impl OverlayNode {
    fn new(
        shared: &Arc<Shared>,
        ino: u64,
        file_type: FileType,
        lower: Option<(LowerKey, Arc<dyn Inode>)>,
        state: State,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            shared: shared.clone(),
            ino,
            file_type,
            lower,
            state: Mutex::new(Rank::INODE, state),
            copying: Mutex::new(Rank::INODE, ()),
            generation: AtomicU64::new(0),
        })
    }

    pub(super) fn root(
        shared: &Arc<Shared>,
        upper: Arc<dyn Inode>,
        lower: Arc<dyn Inode>,
        below: &Attributes,
    ) -> Arc<Self> {
        let upper = Some(upper);
        let state = State { upper, data_below: false, place: None, nlink_delta: 0, dead: false };
        let lower = Some(((below.dev, below.ino), lower));
        Self::new(shared, below.ino, FileType::Directory, lower, state)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn upper(&self) -> Option<Arc<dyn Inode>> {
        self.state().upper.clone()
    }

    pub(super) fn lower(&self) -> Option<&Arc<dyn Inode>> {
        self.lower.as_ref().map(|(_, lower)| lower)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// The inode that has the attributes.
    fn real(&self) -> Result<Arc<dyn Inode>> {
        self.upper().or_else(|| self.lower().cloned()).ok_or(Errno::EIO.into())
    }

    /// The inode that has the content.
    pub(super) fn real_content(&self) -> Result<Arc<dyn Inode>> {
        let state = self.state();
        let upper = state.upper.as_ref().filter(|_| !state.data_below);
        upper.or(self.lower()).cloned().ok_or(Errno::EIO.into())
    }

    /// The node of this very overlay behind an inode. Errors: EXDEV.
    pub(super) fn of(&self, inode: &Arc<dyn Inode>) -> Result<Arc<OverlayNode>> {
        let any: Arc<dyn core::any::Any + Send + Sync> = inode.clone();
        let node = any.downcast::<OverlayNode>().map_err(|_| Errno::EXDEV)?;
        if Arc::ptr_eq(&node.shared, &self.shared) { Ok(node) } else { Err(Errno::EXDEV.into()) }
    }

    pub(super) fn set_place(&self, place: Place) {
        let old = std::mem::replace(&mut self.state().place, place);
        drop(old);
    }

    /// Finds an entry. Errors: ENOENT, ENOTDIR.
    pub(super) fn find(&self, name: &[u8]) -> Result<Arc<OverlayNode>> {
        if !self.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if let Some(upper) = self.upper()
            && let Some(found) = optional(upper.lookup(name))?
        {
            if is_whiteout(&found) {
                return Err(Errno::ENOENT.into());
            }
            return self.adopt_named(name, found);
        }
        let lower = self.lower().ok_or(Errno::ENOENT)?;
        self.adopt_lower(name, lower.lookup(name)?)
    }

    /// The node of an upper inode that was found as `name` here.
    pub(super) fn adopt_named(
        &self,
        name: &[u8],
        upper: Arc<dyn Inode>,
    ) -> Result<Arc<OverlayNode>> {
        let this = self.this.upgrade().ok_or(Errno::ESTALE)?;
        self.adopt_upper(Some((this, name.into())), upper)
    }

    /// The node of an upper inode at a place, or without one.
    pub(super) fn adopt_upper(
        &self,
        place: Place,
        upper: Arc<dyn Inode>,
    ) -> Result<Arc<OverlayNode>> {
        let number = upper.attributes()?.ino;
        let (known, origin) = {
            let nodes = self.shared.nodes.lock();
            let known = nodes.by_upper.get(&number).and_then(Weak::upgrade);
            (known, nodes.origins.get(&number).cloned())
        };
        if let Some(known) = known {
            if place.is_some() {
                known.set_place(place);
            }
            return Ok(known);
        }
        let file_type = upper.file_type();
        let data_below = origin.as_ref().is_some_and(|origin| origin.data_below);
        let ino = origin.as_ref().map_or(UPPER_INO + number, |origin| origin.ino);
        let nlink_delta = origin.as_ref().map_or(0, |origin| origin.nlink_delta);
        let mut lower = origin.map(|origin| (origin.key, origin.lower));
        if lower.is_none()
            && file_type == FileType::Directory
            && upper.xattr(OPAQUE).is_err()
            && let (Some(below), Some((_, name))) = (self.lower(), &place)
            && let Some(found) = optional(below.lookup(name))?
            && found.file_type() == FileType::Directory
        {
            let attributes = found.attributes()?;
            lower = Some(((attributes.dev, attributes.ino), found));
        }
        let upper = Some(upper);
        let state = State { upper, data_below, place, nlink_delta, dead: false };
        let node = Self::new(&self.shared, ino, file_type, lower, state);
        let mut nodes = self.shared.nodes.lock();
        // Somebody else may have found it meanwhile: there must be one node.
        let first = nodes.by_upper.get(&number).and_then(Weak::upgrade);
        if first.is_none() {
            nodes.by_upper.insert(number, Arc::downgrade(&node));
        }
        drop(nodes);
        Ok(first.unwrap_or(node))
    }

    /// The node of a lower inode that was found as `name` here.
    fn adopt_lower(&self, name: &[u8], lower: Arc<dyn Inode>) -> Result<Arc<OverlayNode>> {
        let this = self.this.upgrade().ok_or(Errno::ESTALE)?;
        let attributes = lower.attributes()?;
        let key = (attributes.dev, attributes.ino);
        let place = Some((this, Box::from(name)));
        let known = self.shared.nodes.lock().by_lower.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.file_type == attributes.file_type
        {
            known.set_place(place);
            return Ok(known);
        }
        let ino = self.shared.lower_ino(key);
        let state = State { upper: None, data_below: true, place, nlink_delta: 0, dead: false };
        let lower = Some((key, lower));
        let node = Self::new(&self.shared, ino, attributes.file_type, lower, state);
        let mut nodes = self.shared.nodes.lock();
        let first = nodes.by_lower.get(&key).and_then(Weak::upgrade);
        let same = first.as_ref().is_some_and(|first| first.file_type == node.file_type);
        if !same {
            nodes.by_lower.insert(key, Arc::downgrade(&node));
        }
        // Nodes are dropped without the lock: their drop takes it.
        drop(nodes);
        Ok(first.filter(|_| same).unwrap_or(node))
    }
}

impl Drop for OverlayNode {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let number = state.upper.as_ref().and_then(|upper| upper.attributes().ok());
        let mut gone = None;
        {
            let mut nodes = self.shared.nodes.lock();
            if let Some((key, _)) = &self.lower
                && nodes.by_lower.get(key).is_some_and(|known| known.strong_count() == 0)
            {
                nodes.by_lower.remove(key);
            }
            if let Some(upper) = number {
                if nodes.by_upper.get(&upper.ino).is_some_and(|known| known.strong_count() == 0) {
                    nodes.by_upper.remove(&upper.ino);
                }
                if state.dead {
                    gone = nodes.origins.remove(&upper.ino);
                }
            }
        }
        drop(gone);
        // A long chain of directories must not be dropped by recursion.
        let mut next = state.place.take();
        while let Some((parent, _)) = next {
            next =
                Arc::into_inner(parent).and_then(|mut parent| parent.state.get_mut().place.take());
        }
    }
}

impl Inode for OverlayNode {
    fn attributes(&self) -> Result<Attributes> {
        let (upper, data_below, delta, dead) = {
            let state = self.state();
            (state.upper.clone(), state.data_below, state.nlink_delta, state.dead)
        };
        let (dev, ino) = (self.shared.dev, self.ino);
        let mut attributes = match (&upper, self.lower()) {
            (Some(upper), lower) => {
                let mut attributes = upper.attributes()?;
                if let Some(lower) = lower
                    && !self.is_dir()
                {
                    let below = lower.attributes()?;
                    attributes.nlink = below.nlink.saturating_add_signed(delta);
                    if data_below && self.file_type == FileType::Regular {
                        (attributes.size, attributes.blocks) = (below.size, below.blocks);
                    }
                } else if lower.is_some() {
                    // As Linux's overlay: the count of a merged directory is not known.
                    attributes.nlink = 1;
                }
                attributes
            }
            (None, Some(lower)) => {
                let mut attributes = lower.attributes()?;
                if !self.is_dir() {
                    attributes.nlink = attributes.nlink.saturating_add_signed(delta);
                }
                attributes
            }
            (None, None) => return Err(Errno::EIO.into()),
        };
        if dead {
            attributes.nlink = 0;
        }
        Ok(Attributes { dev, ino, ..attributes })
    }

    fn file_type(&self) -> FileType {
        self.file_type
    }

    fn filesystem(&self) -> Arc<dyn FileSystem> {
        if let Some(filesystem) = self.shared.filesystem.lock().upgrade() {
            return filesystem;
        }
        // The mount is gone and an open file outlives it: its topmost directory stands for the root.
        let mut top = self.this.upgrade();
        while let Some((parent, _)) = top.as_ref().and_then(|node| node.state().place.clone()) {
            top = Some(parent);
        }
        match top {
            Some(root) => Arc::new(Overlay { shared: self.shared.clone(), root }),
            None => self.shared.upper.clone(),
        }
    }

    fn set_attributes(&self, change: &Change) -> Result<()> {
        self.change(change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.find(name)?)
    }

    fn entries_are_stable(&self) -> bool {
        self.lower().is_none_or(|lower| lower.entries_are_stable())
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.make(name, node)?)
    }

    fn create_unnamed(&self, node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.make_unnamed(node)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.add_name(name, &*self.of(target)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_file(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_directory(name)
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
        self.real()?.readlink()
    }

    fn open(self: Arc<Self>, flags: OpenFlags, creds: &Credentials) -> Result<Arc<dyn FileOps>> {
        match self.file_type {
            FileType::Directory => Ok(Arc::new(OpenDirectory::new(self))),
            FileType::Regular => {
                if flags.contains(OpenFlags::TRUNC) {
                    self.change(&Change { size: Some(0), ..Change::default() })?;
                } else if flags.writable() {
                    self.copy_up_content(u64::MAX)?;
                }
                let flags = flags.difference(OpenFlags::TRUNC);
                Ok(Arc::new(OpenFile::new(self, flags, creds)?))
            }
            _ => self.real()?.open(flags, creds),
        }
    }

    fn permission(&self, access: Access, creds: &Credentials) -> Option<Result<()>> {
        match self.real() {
            Ok(real) => real.permission(access, creds),
            Err(error) => Some(Err(error)),
        }
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::ENODATA.into());
        }
        self.real()?.xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EPERM.into());
        }
        self.copy_up()?.set_xattr(name, value, flags)
    }

    fn xattr_names(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = self.real()?.xattr_names()?;
        names.retain(|name| !name.starts_with(PRIVATE));
        Ok(names)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.xattr(name)?;
        self.copy_up()?.remove_xattr(name)
    }
}

impl OverlayNode {
    /// Says that the content is elsewhere now.
    pub(super) fn content_moved(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

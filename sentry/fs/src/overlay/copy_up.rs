//! Copying up: an upper inode for what only the lower tree has, its attributes at once, its content when it is written.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::file::WriteAt;
use sentry_kernel::io::{SliceSink, SliceSource};
use sentry_kernel::vfs::{Attributes, Change, FileType, Inode, OpenFlags, RenameFlags, SetTime};

use super::node::OverlayNode;
use super::{Origin, node_like};

/// The name under which a copy is made in the work directory; the tree is locked meanwhile.
const COPY: &[u8] = b"copy";
/// Bytes of content copied at a time.
const CHUNK: usize = 1 << 20;

/// Gives `to` the access and modification times in `from`.
pub(super) fn copy_times(from: &Attributes, to: &Arc<dyn Inode>) -> Result<()> {
    let (atime, mtime) = (Some(SetTime::To(from.atime)), Some(SetTime::To(from.mtime)));
    to.set_attributes(&Change { atime, mtime, ..Change::default() })
}

impl OverlayNode {
    /// The upper inode, made where there is none. Errors: those of the upper filesystem.
    pub(super) fn copy_up(&self) -> Result<Arc<dyn Inode>> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let _tree = self.shared.tree.lock();
        self.copy_up_locked()
    }

    /// The same for a caller that holds the tree: the directories above come first.
    pub(super) fn copy_up_locked(&self) -> Result<Arc<dyn Inode>> {
        let mut above = Vec::new();
        let mut next = self.state().place.clone();
        while let Some((parent, _)) = next {
            if parent.upper().is_some() {
                break;
            }
            next = parent.state().place.clone();
            above.push(parent);
        }
        while let Some(directory) = above.pop() {
            directory.copy_up_one()?;
        }
        self.copy_up_one()
    }

    /// Copies this node up into its directory, which has an upper inode. The copy is made elsewhere and takes its place when it is known:
    /// whoever looks it up meanwhile finds this node.
    fn copy_up_one(&self) -> Result<Arc<dyn Inode>> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let (_, lower) = self.lower.as_ref().ok_or(Errno::EIO)?;
        let below = lower.attributes()?;
        let work = &self.shared.work;
        let place = self.state().place.clone();
        let Some((parent, name)) = place else {
            // A file whose last name is gone but that somebody has open.
            if self.file_type != FileType::Regular {
                return Err(Errno::ESTALE.into());
            }
            let upper = work.create_unnamed(&node_like(&below, b""))?;
            self.dress(&upper, &below)?;
            self.register(&upper, &below)?;
            return Ok(upper);
        };
        let parent = parent.upper().ok_or(Errno::ESTALE)?;
        let before = parent.attributes()?;
        let target = match self.file_type {
            FileType::Symlink => lower.readlink()?,
            _ => Vec::new(),
        };
        let upper = work.create(COPY, &node_like(&below, &target))?;
        let placed = self.dress(&upper, &below).and_then(|()| {
            self.register(&upper, &below)?;
            work.rename(COPY, &parent, &name, RenameFlags::empty())
        });
        if let Err(error) = placed {
            self.unregister(&upper);
            if self.is_dir() {
                work.rmdir(COPY)?
            } else {
                work.unlink(COPY)?
            }
            return Err(error);
        }
        copy_times(&before, &parent)?;
        Ok(upper)
    }

    /// Gives a copy the attributes of the lower inode.
    fn dress(&self, upper: &Arc<dyn Inode>, below: &Attributes) -> Result<()> {
        if let Some(lower) = self.lower() {
            copy_xattrs(lower, upper)?;
        }
        if below.nlink > 1 && !self.is_dir() {
            // Keeps the upper inode linkable whichever of its names goes.
            let number = upper.attributes()?.ino;
            self.shared.work.link(format!("#{number}").as_bytes(), upper)?;
        }
        copy_times(below, upper)
    }

    /// Makes a copy this node's upper inode.
    fn register(&self, upper: &Arc<dyn Inode>, below: &Attributes) -> Result<()> {
        let (key, lower) = self.lower.clone().ok_or(Errno::EIO)?;
        let (number, ino) = (upper.attributes()?.ino, self.ino);
        let data_below = self.file_type == FileType::Regular && below.size > 0;
        let nlink_delta = {
            let mut state = self.state();
            state.upper = Some(upper.clone());
            state.data_below = data_below;
            state.nlink_delta
        };
        let pin = self.this.upgrade().filter(|_| below.nlink > 1 && !self.is_dir());
        let mut nodes = self.shared.nodes.lock();
        nodes.by_upper.insert(number, self.this.clone());
        nodes.origins.insert(number, Origin { ino, key, lower, data_below, nlink_delta });
        let old = pin.and_then(|pin| nodes.pinned.insert(key, pin));
        drop(nodes);
        drop(old);
        self.content_moved();
        Ok(())
    }

    /// Takes back what [`Self::register`] did, for a copy that could not take its place.
    fn unregister(&self, upper: &Arc<dyn Inode>) {
        let Ok(Attributes { ino: number, .. }) = upper.attributes() else { return };
        {
            let mut state = self.state();
            state.upper = None;
            state.data_below = true;
        }
        let mut nodes = self.shared.nodes.lock();
        nodes.by_upper.remove(&number);
        let origin = nodes.origins.remove(&number);
        drop(nodes);
        drop(origin);
        // There is such a link only for files with several names.
        let _ = self.shared.work.unlink(format!("#{number}").as_bytes());
        self.content_moved();
    }

    /// Makes the content the upper inode's own: its first `keep` bytes. Errors: those of both filesystems.
    pub(super) fn copy_up_content(&self, keep: u64) -> Result<Arc<dyn Inode>> {
        let upper = self.copy_up()?;
        let _copying = self.copying.lock();
        if !self.state().data_below {
            return Ok(upper);
        }
        let lower = self.lower().ok_or(Errno::EIO)?;
        let before = upper.attributes()?;
        if let Err(error) = copy_content(lower, &upper, keep) {
            upper.set_attributes(&Change { size: Some(0), ..Change::default() })?;
            copy_times(&before, &upper)?;
            return Err(error);
        }
        copy_times(&before, &upper)?;
        self.state().data_below = false;
        if let Some(origin) = self.shared.nodes.lock().origins.get_mut(&before.ino) {
            origin.data_below = false;
        }
        self.content_moved();
        Ok(upper)
    }
}

/// Copies content but for holes, and the size.
fn copy_content(lower: &Arc<dyn Inode>, upper: &Arc<dyn Inode>, keep: u64) -> Result<()> {
    let root = Credentials::root();
    let size = lower.attributes()?.size.min(keep);
    if size == 0 {
        return Ok(());
    }
    let from = lower.clone().open(OpenFlags::empty(), &root)?;
    let to = upper.clone().open(OpenFlags::WRONLY, &root)?;
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    let mut offset = 0;
    while offset < size {
        match from.next_data(offset) {
            Ok(data) => offset = data,
            Err(error) if error.is(Errno::ENXIO) => break,
            Err(_) => {}
        }
        let want = usize::try_from(size.saturating_sub(offset)).unwrap_or(CHUNK).min(buffer.len());
        let n = from.read(offset, &mut SliceSink::new(&mut buffer[..want]))?;
        if n == 0 {
            break;
        }
        let mut source = SliceSource::new(&buffer[..n]);
        let written = to.write(WriteAt::Offset(offset), &mut source)?;
        if written.len < n {
            return Err(Errno::ENOSPC.into());
        }
        offset += n as u64;
    }
    upper.set_attributes(&Change { size: Some(size), ..Change::default() })
}

fn copy_xattrs(lower: &Arc<dyn Inode>, upper: &Arc<dyn Inode>) -> Result<()> {
    for name in lower.xattr_names()? {
        match upper.set_xattr(&name, &lower.xattr(&name)?, 0) {
            Err(error) if !error.is(Errno::EOPNOTSUPP) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

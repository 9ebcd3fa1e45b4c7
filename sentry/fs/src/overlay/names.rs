//! Names in an overlay: listing, making and removing entries, with whiteouts for what lies below.

use std::collections::HashSet;
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::cred::Credentials;
use sentry_kernel::error::Result;
use sentry_kernel::vfs::{DirEntry, FileType, Inode, NewNode, OpenFlags, RenameFlags};

use super::node::OverlayNode;
use super::{OPAQUE, WHITEOUT, is_whiteout, optional};
use crate::listing::Entry;

/// The name under which an entry is made in the work directory; the tree is locked meanwhile.
const TEMPORARY: &[u8] = b"new";

/// All entries of a real directory but `.` and `..`.
fn list_real(directory: &Arc<dyn Inode>) -> Result<Vec<Entry>> {
    let open = directory.clone().open(OpenFlags::DIRECTORY, &Credentials::root())?;
    let mut entries = Vec::new();
    open.read_dir(0, &mut |entry: &DirEntry<'_>| {
        if entry.name != b"." && entry.name != b".." {
            entries.push(Entry::new(entry.name, entry.ino, entry.file_type));
        }
        true
    })?;
    Ok(entries)
}

impl OverlayNode {
    /// The merged listing, with `.` and `..`.
    pub(super) fn list(&self) -> Result<Vec<Entry>> {
        if self.state().dead {
            return Err(Errno::ENOENT.into());
        }
        let parent = self.state().place.as_ref().map_or(self.ino, |(parent, _)| parent.ino);
        let mut entries = vec![
            Entry::new(b".", self.ino, FileType::Directory),
            Entry::new(b"..", parent, FileType::Directory),
        ];
        entries.extend(self.list_names()?);
        Ok(entries)
    }

    fn list_names(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut covered = HashSet::new();
        if let Some(upper) = self.upper() {
            for entry in list_real(&upper)? {
                let gone = entry.file_type == FileType::CharDevice
                    && upper.lookup(&entry.name).is_ok_and(|inode| is_whiteout(&inode));
                if self.lower.is_some() {
                    covered.insert(entry.name.clone());
                }
                if !gone {
                    entries.push(Entry { ino: self.shared.upper_ino(entry.ino), ..entry });
                }
            }
        }
        if let Some(lower) = self.lower() {
            let below = list_real(lower)?;
            entries.extend(below.into_iter().filter(|entry| !covered.contains(&entry.name)));
        }
        Ok(entries)
    }

    /// True where the lower tree has something under this name here.
    pub(super) fn has_below(&self, name: &[u8]) -> Result<bool> {
        match self.lower() {
            Some(lower) => Ok(optional(lower.lookup(name))?.is_some()),
            None => Ok(false),
        }
    }

    /// Errors: ENOENT for a removed directory, EEXIST for a taken name.
    fn check_free(&self, name: &[u8]) -> Result<()> {
        if self.state().dead {
            return Err(Errno::ENOENT.into());
        }
        match optional(self.find(name))? {
            Some(_) => Err(Errno::EEXIST.into()),
            None => Ok(()),
        }
    }

    /// Makes an entry. Errors: EEXIST, ENOENT, and those of the upper filesystem.
    pub(super) fn make(&self, name: &[u8], new: &NewNode<'_>) -> Result<Arc<OverlayNode>> {
        let _tree = self.shared.tree.lock();
        self.check_free(name)?;
        let upper = self.copy_up_locked()?;
        let made = if optional(upper.lookup(name))?.is_some() {
            // A whiteout is there: the new entry is made elsewhere and changes places with it.
            let work = &self.shared.work;
            let made = work.create(TEMPORARY, new)?;
            let placed = self
                .mark_opaque(&made)
                .and_then(|()| work.rename(TEMPORARY, &upper, name, RenameFlags::EXCHANGE));
            if placed.is_err() && made.file_type() == FileType::Directory {
                work.rmdir(TEMPORARY)?;
            } else {
                work.unlink(TEMPORARY)?;
            }
            placed?;
            made
        } else {
            let made = upper.create(name, new)?;
            self.mark_opaque(&made)?;
            made
        };
        self.adopt_named(name, made)
    }

    /// Hides whatever lies below a directory that is made or moved here.
    pub(super) fn mark_opaque(&self, made: &Arc<dyn Inode>) -> Result<()> {
        match made.file_type() == FileType::Directory && self.lower.is_some() {
            true => made.set_xattr(OPAQUE, b"y", 0),
            false => Ok(()),
        }
    }

    /// Makes a file without a name. Errors: those of the upper filesystem.
    pub(super) fn make_unnamed(&self, new: &NewNode<'_>) -> Result<Arc<OverlayNode>> {
        let upper = self.copy_up()?;
        self.adopt_upper(None, upper.create_unnamed(new)?)
    }

    /// Another name for a file. Errors: EPERM, EEXIST, ENOENT, and those of the upper filesystem.
    pub(super) fn add_name(&self, name: &[u8], target: &OverlayNode) -> Result<()> {
        let _tree = self.shared.tree.lock();
        if target.is_dir() {
            return Err(Errno::EPERM.into());
        }
        self.check_free(name)?;
        if target.state().dead {
            return Err(Errno::ENOENT.into());
        }
        let below = target.copy_up_locked()?;
        let upper = self.copy_up_locked()?;
        if optional(upper.lookup(name))?.is_some() {
            let work = &self.shared.work;
            work.link(TEMPORARY, &below)?;
            work.rename(TEMPORARY, &upper, name, RenameFlags::empty())?;
        } else {
            upper.link(name, &below)?;
        }
        let this = self.this.upgrade();
        let mut state = target.state();
        if target.lower.is_some() {
            state.nlink_delta += 1;
        }
        if state.place.is_none() {
            state.place = this.map(|this| (this, Box::from(name)));
        }
        let delta = state.nlink_delta;
        drop(state);
        self.shared.keep_nlink(Some(below), delta);
        Ok(())
    }

    /// unlink(2). Errors: ENOENT, EISDIR.
    pub(super) fn remove_file(&self, name: &[u8]) -> Result<()> {
        let _tree = self.shared.tree.lock();
        let node = self.find(name)?;
        if node.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        self.cover(name)?;
        node.lost_name();
        Ok(())
    }

    /// rmdir(2). Errors: ENOENT, ENOTDIR, ENOTEMPTY.
    pub(super) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        let _tree = self.shared.tree.lock();
        let node = self.find(name)?;
        node.check_empty()?;
        self.cover(name)?;
        node.lost_name();
        Ok(())
    }

    /// Errors: ENOTDIR, ENOTEMPTY.
    pub(super) fn check_empty(&self) -> Result<()> {
        if !self.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        match self.list_names()?.is_empty() {
            true => Ok(()),
            false => Err(Errno::ENOTEMPTY.into()),
        }
    }

    /// A name of this node is gone.
    pub(super) fn lost_name(&self) {
        let nlink = match self.upper().filter(|_| self.lower.is_none()) {
            Some(upper) => upper.attributes().map_or(0, |attributes| attributes.nlink),
            None => {
                let below = self.lower().and_then(|lower| lower.attributes().ok());
                let mut state = self.state();
                state.nlink_delta -= 1;
                let below = below.map_or(1, |below| below.nlink);
                below.saturating_add_signed(state.nlink_delta)
            }
        };
        let delta = self.state().nlink_delta;
        self.shared.keep_nlink(self.upper(), delta);
        let gone = self.is_dir() || nlink == 0;
        let place = {
            let mut state = self.state();
            state.dead |= gone;
            state.place.take()
        };
        drop(place);
        let Some((key, _)) = &self.lower else { return };
        let upper = self.upper().and_then(|upper| upper.attributes().ok());
        let mut nodes = self.shared.nodes.lock();
        let released = if gone {
            nodes.pinned.remove(key)
        } else {
            self.this.upgrade().and_then(|this| nodes.pinned.insert(*key, this))
        };
        drop(nodes);
        if gone && let Some(upper) = upper {
            // There is such a link only for files that had several names.
            let _ = self.shared.work.unlink(format!("#{}", upper.ino).as_bytes());
        }
        drop(released);
    }

    /// Takes the upper entry away and covers the lower one, whichever there are. Directories are empty.
    fn cover(&self, name: &[u8]) -> Result<()> {
        let below = self.has_below(name)?;
        let upper = if below { Some(self.copy_up_locked()?) } else { self.upper() };
        let upper = upper.ok_or(Errno::ENOENT)?;
        let work = &self.shared.work;
        let there = optional(upper.lookup(name))?;
        if let Some(there) = &there {
            purge_whiteouts(there)?;
        }
        let is_dir = there.as_ref().is_some_and(|there| there.file_type() == FileType::Directory);
        match (there.is_some(), below) {
            (false, true) => drop(upper.create(name, &WHITEOUT)?),
            (false, false) => return Err(Errno::ENOENT.into()),
            (true, false) if is_dir => upper.rmdir(name)?,
            (true, false) => upper.unlink(name)?,
            (true, true) => {
                work.create(TEMPORARY, &WHITEOUT)?;
                let exchanged = work.rename(TEMPORARY, &upper, name, RenameFlags::EXCHANGE);
                if exchanged.is_ok() && is_dir {
                    work.rmdir(TEMPORARY)?;
                } else {
                    work.unlink(TEMPORARY)?;
                }
                exchanged?;
            }
        }
        Ok(())
    }
}

/// Empties an upper directory that holds nothing but whiteouts; nothing for other inodes.
pub(super) fn purge_whiteouts(upper: &Arc<dyn Inode>) -> Result<()> {
    if upper.file_type() != FileType::Directory {
        return Ok(());
    }
    for entry in list_real(upper)? {
        upper.unlink(&entry.name)?;
    }
    Ok(())
}

//! Changes of attributes and moves in an overlay.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::vfs::{Change, FileType, Inode, RenameFlags};

use super::names::purge_whiteouts;
use super::node::OverlayNode;
use super::{is_whiteout, optional};

impl OverlayNode {
    /// Changes attributes, on a copy in the upper tree. Errors: those of the upper filesystem.
    pub(super) fn change(&self, change: &Change) -> Result<()> {
        if let Some(size) = change.size {
            if self.is_dir() {
                return Err(Errno::EISDIR.into());
            }
            if self.file_type == FileType::Regular {
                self.copy_up_content(size)?;
            }
        }
        self.copy_up()?.set_attributes(change)
    }

    /// renameat2(2). Errors: ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL; EXDEV for a directory that the lower tree has, as Linux's overlay
    /// without redirects (programs then copy it).
    pub(super) fn move_name(
        &self,
        name: &[u8],
        new_dir: &OverlayNode,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        let _tree = self.shared.tree.lock();
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::EINVAL.into());
        }
        if new_dir.state().dead {
            return Err(Errno::ENOENT.into());
        }
        let node = self.find(name)?;
        let target = optional(new_dir.find(new_name))?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if let Some(target) = &target {
            if flags.contains(RenameFlags::NOREPLACE) {
                return Err(Errno::EEXIST.into());
            }
            if std::ptr::eq(&**target, &*node) {
                return Ok(());
            }
            if !exchange {
                node.check_replaces(target)?;
            }
        } else if exchange {
            return Err(Errno::ENOENT.into());
        }
        let merged = |node: &OverlayNode| node.is_dir() && node.lower.is_some();
        if merged(&node) || exchange && target.as_ref().is_some_and(|target| merged(target)) {
            return Err(Errno::EXDEV.into());
        }
        let moving = self.copy_up_name(name, &node)?;
        new_dir.mark_opaque(&moving)?;
        let (from, to) = (self.copy_up_locked()?, new_dir.copy_up_locked()?);
        let here = self.this.upgrade().map(|dir| (dir, Box::from(name)));
        let there = new_dir.this.upgrade().map(|dir| (dir, Box::from(new_name)));
        if exchange {
            let Some(target) = target else { return Err(Errno::ENOENT.into()) };
            self.mark_opaque(&new_dir.copy_up_name(new_name, &target)?)?;
            from.rename(name, &to, new_name, RenameFlags::EXCHANGE)?;
            target.set_place(here);
            node.set_place(there);
            return Ok(());
        }
        let below = self.has_below(name)?;
        let covered = optional(to.lookup(new_name))?;
        if let Some(covered) = &covered {
            purge_whiteouts(covered)?;
        }
        if node.is_dir() && covered.as_ref().is_some_and(is_whiteout) {
            // A directory cannot replace a whiteout, but change places with it: then it covers the old name.
            from.rename(name, &to, new_name, RenameFlags::EXCHANGE)?;
            if !below {
                from.unlink(name)?;
            }
        } else {
            let flags = if below { RenameFlags::WHITEOUT } else { RenameFlags::empty() };
            from.rename(name, &to, new_name, flags)?;
        }
        node.set_place(there);
        if let Some(target) = target {
            target.lost_name();
        }
        Ok(())
    }

    /// Copies `node` up, and this name of it: a lower file with several names may have been copied up under another one.
    fn copy_up_name(&self, name: &[u8], node: &OverlayNode) -> Result<Arc<dyn Inode>> {
        let inode = node.copy_up_locked()?;
        let directory = self.copy_up_locked()?;
        if optional(directory.lookup(name))?.is_none() {
            directory.link(name, &inode)?;
        }
        Ok(inode)
    }

    /// Errors: ENOTDIR, EISDIR, ENOTEMPTY where this cannot take the other's name.
    fn check_replaces(&self, target: &OverlayNode) -> Result<()> {
        match (self.is_dir(), target.is_dir()) {
            (true, false) => Err(Errno::ENOTDIR.into()),
            (false, true) => Err(Errno::EISDIR.into()),
            (true, true) => target.check_empty(),
            (false, false) => Ok(()),
        }
    }
}

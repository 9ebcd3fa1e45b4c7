//! renameat2(2) in tmpfs: replace, exchange, leave a whiteout.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::vfs::{FileType, NewNode, RenameFlags};

use super::node::Node;

impl Node {
    /// Moves a name. Errors: ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ENOSPC.
    pub(super) fn move_name(
        &self,
        name: &[u8],
        new_dir: &Arc<Node>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        let _names = self.shared.names.lock();
        let node = self.directory()?.find(name).ok_or(Errno::ENOENT)?;
        let target = {
            let directory = new_dir.directory()?;
            if directory.dead {
                return Err(Errno::ENOENT.into());
            }
            directory.find(new_name)
        };
        if flags.contains(RenameFlags::EXCHANGE) {
            if flags != RenameFlags::EXCHANGE {
                return Err(Errno::EINVAL.into());
            }
            let target = target.ok_or(Errno::ENOENT)?;
            self.directory()?.replace(name, target.clone());
            new_dir.directory()?.replace(new_name, node.clone());
            self.moved(&node, new_dir);
            new_dir.moved(&target, self);
            return Ok(());
        }
        if let Some(target) = &target {
            if flags.contains(RenameFlags::NOREPLACE) {
                return Err(Errno::EEXIST.into());
            }
            // rename(2): if both are links to the same file, it does nothing and succeeds.
            if Arc::ptr_eq(target, &node) {
                return Ok(());
            }
        }
        let whiteout = match flags.contains(RenameFlags::WHITEOUT) {
            true => Some(self.whiteout()?),
            false => None,
        };
        if let Some(target) = &target {
            node.displace(new_dir, target)?;
        }
        match whiteout {
            Some(whiteout) => drop(self.directory()?.replace(name, whiteout)),
            None => drop(self.directory()?.remove(name)),
        }
        if new_dir.directory()?.replace(new_name, node.clone()).is_none() {
            new_dir.directory()?.insert(new_name, node.clone());
        }
        self.moved(&node, new_dir);
        Ok(())
    }

    /// A character device 0:0, which overlays read as "nothing here".
    fn whiteout(&self) -> Result<Arc<Node>> {
        let file_type = FileType::CharDevice;
        let new = NewNode { file_type, permissions: 0, uid: 0, gid: 0, rdev: 0, target: b"" };
        Node::new(&self.shared, &new)
    }

    /// Takes the target's name from it in favour of this node, as far as the types permit.
    fn displace(&self, new_dir: &Node, target: &Node) -> Result<()> {
        match (self.is_dir(), target.is_dir()) {
            (true, false) => Err(Errno::ENOTDIR.into()),
            (false, true) => Err(Errno::EISDIR.into()),
            (true, true) => {
                target.bury()?;
                new_dir.relink(-1);
                Ok(())
            }
            (false, false) => {
                target.relink(-1);
                Ok(())
            }
        }
    }

    /// Link counts, parents and times after `node` went from here to `new_dir`.
    fn moved(&self, node: &Node, new_dir: &Node) {
        if node.is_dir() {
            self.relink(-1);
            new_dir.relink(1);
            node.set_parent(&new_dir.this);
        }
        node.relink(0);
        self.touch();
        new_dir.touch();
    }
}

//! A place in the tree of mounts: a directory entry on a mount.

use std::sync::{Arc, Weak};

use crate::sync::{Mutex, Rank};
use crate::vfs::inode::{FileSystem, Inode};

/// A name in a directory, with the inode it leads to.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    place: Mutex<Place>,
}

struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
}

impl Dentry {
    /// A filesystem's root: without name and parent.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Self> {
        let place = Mutex::new(Rank::DENTRY, Place { name: Vec::new(), parent: None });
        Arc::new(Self { inode, place })
    }

    /// An entry of `parent`.
    pub fn child(parent: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Self> {
        let place = Place { name: name.to_vec(), parent: Some(parent.clone()) };
        Arc::new(Self { inode, place: Mutex::new(Rank::DENTRY, place) })
    }

    /// What it leads to.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// Its last component; empty for a root.
    pub fn name(&self) -> Vec<u8> {
        self.place.lock().name.clone()
    }

    /// The directory that holds it; `None` for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }
}

/// A filesystem attached to the tree.
pub struct Mount {
    /// What is mounted.
    pub filesystem: Arc<dyn FileSystem>,
    /// The entry that is its top.
    pub root: Arc<Dentry>,
    /// Where it is attached: mount and covered entry. `None` for the namespace's root.
    pub attached: Option<(Weak<Mount>, Arc<Dentry>)>,
}

/// A directory entry on a mount.
#[derive(Clone)]
pub struct Path {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The entry.
    pub dentry: Arc<Dentry>,
}

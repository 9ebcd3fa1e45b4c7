//! overlay: a read-only lower tree and a writable upper one seen as one tree. Both are known only as inodes; nothing here knows what they are.
//!
//! A name in the upper tree covers the same name below; a whiteout there (a character device 0:0) says that there is nothing. A directory that
//! is marked opaque hides what the lower tree has in its place. What is changed is copied up first: attributes at once, content when it is first written.

mod change;
mod copy_up;
mod file;
mod names;
mod node;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::error::Result;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::{Attributes, FileSystem, FileType, FsStat, Inode, NewNode};

use crate::services::Services;
pub use node::OverlayNode;

/// OVERLAYFS_SUPER_MAGIC (linux/magic.h).
const MAGIC: u64 = 0x794c_7630;
/// Marks an upper directory that hides the lower one of the same name.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// Attributes with this prefix are the overlay's own and not shown.
const PRIVATE: &[u8] = b"trusted.overlay.";
/// Numbers of inodes without a lower origin start here, above those of the lower tree.
const UPPER_INO: u64 = 1 << 40;
/// Numbers of lower inodes on other devices than the lower root's start here.
const FOREIGN_INO: u64 = 1 << 48;

/// Names a lower inode: its device and number.
type LowerKey = (u64, u64);

/// What an upper inode was copied from.
#[derive(Clone)]
struct Origin {
    ino: u64,
    key: LowerKey,
    lower: Arc<dyn Inode>,
    /// The content is still the lower one's.
    data_below: bool,
    /// As in the node's state.
    nlink_delta: i64,
}

/// The nodes that are known, and what must be remembered while they are not.
#[derive(Default)]
struct Nodes {
    by_lower: HashMap<LowerKey, Weak<OverlayNode>>,
    by_upper: HashMap<u64, Weak<OverlayNode>>,
    /// By number of the upper inode.
    origins: HashMap<u64, Origin>,
    foreign: HashMap<LowerKey, u64>,
    /// Lower files with several names of which one was changed: the node must stay the same under all of them.
    pinned: HashMap<LowerKey, Arc<OverlayNode>>,
}

/// What all nodes of one overlay share.
struct Shared {
    dev: u64,
    upper: Arc<dyn FileSystem>,
    /// Kept, so that its inodes have a filesystem.
    _lower: Arc<dyn FileSystem>,
    lower_dev: u64,
    /// A directory of the upper filesystem outside of the tree, where entries are made before they take their place.
    work: Arc<dyn Inode>,
    /// Held by everything that changes names or copies up.
    tree: Mutex<()>,
    nodes: Mutex<Nodes>,
    filesystem: Mutex<Weak<Overlay>>,
}

impl Shared {
    /// The number that programs see for a lower inode.
    fn lower_ino(&self, key: LowerKey) -> u64 {
        if key.0 == self.lower_dev {
            return key.1;
        }
        let mut nodes = self.nodes.lock();
        let next = FOREIGN_INO + nodes.foreign.len() as u64;
        *nodes.foreign.entry(key).or_insert(next)
    }

    /// Remembers a copied-up file's count of names beyond its node's life.
    fn keep_nlink(&self, upper: Option<Arc<dyn Inode>>, delta: i64) {
        let Some(upper) = upper.and_then(|upper| upper.attributes().ok()) else { return };
        if let Some(origin) = self.nodes.lock().origins.get_mut(&upper.ino) {
            origin.nlink_delta = delta;
        }
    }

    /// The number that programs see for an upper inode.
    fn upper_ino(&self, upper: u64) -> u64 {
        self.nodes.lock().origins.get(&upper).map_or(UPPER_INO + upper, |origin| origin.ino)
    }
}

/// An overlay.
pub struct Overlay {
    shared: Arc<Shared>,
    root: Arc<OverlayNode>,
}

impl Overlay {
    /// An overlay of `lower` with `upper`, an empty writable filesystem that nobody else uses (a tmpfs).
    /// Errors: ENOTDIR, and those of making two directories in `upper`.
    pub fn new(
        services: &Services,
        lower: Arc<dyn FileSystem>,
        upper: Arc<dyn FileSystem>,
    ) -> Result<Arc<Self>> {
        let lower_root = lower.root();
        let below = lower_root.attributes()?;
        let top = upper.root().create(b"upper", &node_like(&below, b""))?;
        let work = NewNode {
            file_type: FileType::Directory,
            permissions: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: b"",
        };
        let work = upper.root().create(b"work", &work)?;
        copy_up::copy_times(&below, &top)?;
        let shared = Arc::new(Shared {
            dev: services.anonymous_device(),
            upper,
            _lower: lower,
            lower_dev: below.dev,
            work,
            tree: Mutex::new(Rank::INODE, ()),
            nodes: Mutex::new(Rank::LEAF, Nodes::default()),
            filesystem: Mutex::new(Rank::LEAF, Weak::new()),
        });
        let root = OverlayNode::root(&shared, top, lower_root, &below);
        let overlay = Arc::new(Self { shared: shared.clone(), root });
        *shared.filesystem.lock() = Arc::downgrade(&overlay);
        Ok(overlay)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Pinned nodes hold the shared state that holds them.
        let pinned = std::mem::take(&mut self.shared.nodes.lock().pinned);
        drop(pinned);
    }
}

impl FileSystem for Overlay {
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat(&self) -> FsStat {
        FsStat { magic: MAGIC, ..self.shared.upper.stat() }
    }

    fn type_name(&self) -> &'static str {
        "overlay"
    }
}

/// A node to make with the attributes of another.
fn node_like<'a>(attributes: &Attributes, target: &'a [u8]) -> NewNode<'a> {
    NewNode {
        file_type: attributes.file_type,
        permissions: attributes.permissions,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        target,
    }
}

/// The node that says "nothing here".
const WHITEOUT: NewNode<'static> = NewNode {
    file_type: FileType::CharDevice,
    permissions: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    target: b"",
};

/// True for a whiteout.
fn is_whiteout(inode: &Arc<dyn Inode>) -> bool {
    inode.file_type() == FileType::CharDevice && inode.attributes().is_ok_and(|a| a.rdev == 0)
}

/// `None` in place of ENOENT.
fn optional<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

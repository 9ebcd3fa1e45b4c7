//! What a task (or several, with CLONE_FS) sees as its root, its working directory and its umask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sync::{Mutex, Rank};
use crate::vfs::mount::MountNamespace;
use crate::vfs::path::Path;

/// Root, working directory, umask and mount namespace (fs_struct of Linux).
pub struct FsContext {
    namespace: Arc<MountNamespace>,
    places: Mutex<Places>,
    umask: AtomicU32,
}

#[derive(Clone)]
struct Places {
    root: Path,
    cwd: Path,
}

impl FsContext {
    /// A context at the namespace's root, with umask 022.
    pub fn new(namespace: &Arc<MountNamespace>) -> Arc<Self> {
        let root = namespace.root();
        let places = Places { cwd: root.clone(), root };
        Arc::new(Self {
            namespace: namespace.clone(),
            places: Mutex::new(Rank::LEAF, places),
            umask: AtomicU32::new(0o022),
        })
    }

    /// A copy for a task that does not share (fork, unshare(CLONE_FS)).
    pub fn fork(&self) -> Arc<Self> {
        Arc::new(Self {
            namespace: self.namespace.clone(),
            places: Mutex::new(Rank::LEAF, self.places.lock().clone()),
            umask: AtomicU32::new(self.umask()),
        })
    }

    /// The mounts it sees.
    pub fn namespace(&self) -> &Arc<MountNamespace> {
        &self.namespace
    }

    /// The root directory.
    pub fn root(&self) -> Path {
        self.places.lock().root.clone()
    }

    /// The working directory.
    pub fn cwd(&self) -> Path {
        self.places.lock().cwd.clone()
    }

    /// Sets the root directory (chroot(2)).
    pub fn set_root(&self, root: Path) {
        let old = core::mem::replace(&mut self.places.lock().root, root);
        drop(old);
    }

    /// Sets the working directory (chdir(2)).
    pub fn set_cwd(&self, cwd: Path) {
        let old = core::mem::replace(&mut self.places.lock().cwd, cwd);
        drop(old);
    }

    /// The umask.
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the umask; returns the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }
}

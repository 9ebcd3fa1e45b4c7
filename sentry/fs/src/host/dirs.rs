//! Directory descriptors that are kept open: as many as a bound, the ones used last.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Key;

/// Open descriptors by directory, with the time of their last use.
pub(super) struct DirFds {
    open: HashMap<Key, (u64, Arc<OwnedFd>)>,
    uses: u64,
    max: usize,
}

impl DirFds {
    /// Keeps at most `max`.
    pub(super) fn new(max: usize) -> Self {
        Self { open: HashMap::new(), uses: 0, max: max.max(4) }
    }

    /// The descriptor of a directory, if it is open.
    pub(super) fn find(&mut self, key: Key) -> Option<Arc<OwnedFd>> {
        self.uses += 1;
        let entry = self.open.get_mut(&key)?;
        entry.0 = self.uses;
        Some(entry.1.clone())
    }

    /// Keeps a descriptor; returns those that it displaces, for the caller to drop outside its lock.
    #[must_use]
    pub(super) fn keep(&mut self, key: Key, fd: Arc<OwnedFd>) -> Vec<Arc<OwnedFd>> {
        let mut displaced = Vec::new();
        if self.open.len() >= self.max {
            let mut uses: Vec<_> = self.open.iter().map(|(key, (used, _))| (*used, *key)).collect();
            uses.sort_unstable_by_key(|(used, _)| *used);
            for (_, key) in uses.iter().take(self.max / 4 + 1) {
                displaced.extend(self.open.remove(key).map(|(_, fd)| fd));
            }
        }
        self.uses += 1;
        self.open.insert(key, (self.uses, fd));
        displaced
    }

    /// Forgets a directory that is gone.
    pub(super) fn forget(&mut self, key: Key) -> Option<Arc<OwnedFd>> {
        self.open.remove(&key).map(|(_, fd)| fd)
    }
}

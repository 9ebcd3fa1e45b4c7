//! Who is told of listeners that come and go.

use core::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;

/// What became of a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listens {
    /// It is there.
    Begins,
    /// It is gone.
    Ends,
}

/// Is told of listeners. Called with locks of sockets held: it may only take note.
pub trait ListenHook: Send + Sync {
    /// A listener on this address, which may be unspecified, came or went; one of both families is told twice. Several may have
    /// the same address.
    fn listens(&self, local: SocketAddr, what: Listens);
}

/// The hook of a stack.
#[derive(Default)]
pub struct ListenWatch(RwLock<Option<Arc<dyn ListenHook>>>);

impl ListenWatch {
    /// Tells this one from now on; None tells nobody.
    pub fn set(&self, hook: Option<Arc<dyn ListenHook>>) {
        *self.0.write() = hook;
    }

    /// Tells of a listener.
    pub fn tell(&self, local: SocketAddr, what: Listens) {
        if let Some(hook) = &*self.0.read() {
            hook.listens(local, what);
        }
    }
}

//! Who is bound to which name, for one network namespace: abstract names, and sockets by the inode that bind(2) made.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::sync::{Mutex, Rank};

use super::address::Name;
use super::socket::UnixSocket;
use crate::netns::NetNamespace;

/// Most files on their way through sockets at once; sendmsg(2) answers ETOOMANYREFS beyond it.
pub const IN_FLIGHT_MAX: usize = 16_384;

/// What identifies a bound name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// An abstract name.
    Abstract(Vec<u8>),
    /// Device and inode number of a socket inode.
    Inode(u64, u64),
}

/// The bound names, and the count of files in flight.
pub struct Names {
    /// Whose names they are: any socket of a namespace tells of its interfaces.
    net: Weak<NetNamespace>,
    bound: Mutex<HashMap<Key, Weak<UnixSocket>>>,
    next_automatic: AtomicU32,
    in_flight: Arc<AtomicUsize>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            net: Weak::new(),
            bound: Mutex::new(Rank::SOCKET, HashMap::new()),
            next_automatic: AtomicU32::new(1),
            in_flight: Arc::default(),
        }
    }
}

impl Names {
    /// The names of a namespace.
    pub fn of(net: &Arc<NetNamespace>) -> Self {
        Self { net: Arc::downgrade(net), ..Self::default() }
    }

    /// The namespace; none where the names stand alone.
    pub fn net(&self) -> Option<Arc<NetNamespace>> {
        self.net.upgrade()
    }

    /// Binds a socket to a key. Errors: EADDRINUSE.
    pub fn bind(&self, key: Key, socket: &Weak<UnixSocket>) -> Result<()> {
        let mut bound = self.bound.lock();
        // A name whose socket is just going away is free.
        if bound.get(&key).is_some_and(|old| old.strong_count() > 0) {
            return Err(Errno::EADDRINUSE.into());
        }
        bound.insert(key, socket.clone());
        Ok(())
    }

    /// Binds to a free abstract name of five hexadecimal digits (autobind). Errors: ENOSPC.
    pub fn bind_automatic(&self, socket: &Weak<UnixSocket>) -> Result<(Name, Key)> {
        for _ in 0..0x10_0000 {
            let number = self.next_automatic.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
            let name = format!("{number:05x}").into_bytes();
            let key = Key::Abstract(name.clone());
            if self.bind(key.clone(), socket).is_ok() {
                return Ok((Name::Abstract(name), key));
            }
        }
        Err(Errno::ENOSPC.into())
    }

    /// Frees a name, if this socket has it.
    pub fn unbind(&self, key: &Key, socket: &Weak<UnixSocket>) {
        let mut bound = self.bound.lock();
        if bound.get(key).is_some_and(|owner| owner.ptr_eq(socket)) {
            bound.remove(key);
        }
    }

    /// The socket bound to a key. Errors: ECONNREFUSED.
    pub fn find(&self, key: &Key) -> Result<Arc<UnixSocket>> {
        let found = self.bound.lock().get(key).cloned();
        found.and_then(|weak| weak.upgrade()).ok_or_else(|| Errno::ECONNREFUSED.into())
    }

    /// The counter of files in flight.
    pub(super) fn in_flight(&self) -> &Arc<AtomicUsize> {
        &self.in_flight
    }
}

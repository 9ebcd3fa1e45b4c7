//! The sockets of a kernel that plays, by their handles.

use super::kernel::Handle;

/// Sockets; handles of those that are gone are given again.
pub struct Table<S> {
    sockets: Vec<Option<S>>,
    free: Vec<Handle>,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self { sockets: Vec::new(), free: Vec::new() }
    }
}

impl<S> Table<S> {
    /// Keeps a socket.
    pub fn put(&mut self, socket: S) -> Handle {
        let handle = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        self.sockets[handle] = Some(socket);
        handle
    }

    /// That of a handle.
    pub fn get(&self, handle: Handle) -> Option<&S> {
        self.sockets.get(handle)?.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut S> {
        self.sockets.get_mut(handle)?.as_mut()
    }

    /// Takes it out: the handle is gone.
    pub fn take(&mut self, handle: Handle) -> Option<S> {
        let socket = self.sockets.get_mut(handle)?.take()?;
        self.free.push(handle);
        Some(socket)
    }

    /// All that are there.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.sockets.iter().flatten()
    }
}

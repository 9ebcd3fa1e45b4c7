//! Sockets named by path: the inode that bind(2) makes and connect(2) finds through the VFS.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;

use super::address::Name;
use super::names::Key;
use super::socket::UnixSocket;

/// Binds to a path. Errors: EADDRINUSE where it exists, and those of mknod(2).
pub fn bind(task: &CurrentTask, socket: &UnixSocket, spelled: Vec<u8>) -> Result<()> {
    let _ = (task, socket, spelled);
    Err(Errno::EOPNOTSUPP.into())
}

/// Finds the socket that an address names. Errors: EINVAL for no name, ECONNREFUSED, EACCES, and those of a path walk.
pub fn find(task: &CurrentTask, socket: &UnixSocket, name: Name) -> Result<Arc<UnixSocket>> {
    let _ = task;
    match name {
        Name::Unnamed => Err(Errno::EINVAL.into()),
        Name::Abstract(bytes) => socket.names.find(&Key::Abstract(bytes)),
        Name::Path(_) => Err(Errno::EOPNOTSUPP.into()),
    }
}

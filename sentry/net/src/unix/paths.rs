//! Sockets named by path: the inode that bind(2) makes and connect(2) finds through the VFS.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::Result;
use sentry_kernel::task::CurrentTask;
use sentry_kernel::vfs::modify::{Make, make};
use sentry_kernel::vfs::{self, Access, DirRef, FileType, LookupFlags, permission};

use super::address::Name;
use super::names::Key;
use super::socket::UnixSocket;

/// Binds to a path. Errors: EADDRINUSE where it exists, EINVAL where the socket is bound, and those of mknod(2).
pub fn bind(task: &CurrentTask, socket: &UnixSocket, spelled: Vec<u8>) -> Result<()> {
    if socket.state.lock().local != Name::Unnamed {
        return Err(Errno::EINVAL.into());
    }
    let cx = task.resolve_cx();
    let made = make(&cx, &DirRef::Cwd, &spelled, Make::Node(FileType::Socket, 0), 0o777);
    match made {
        Err(error) if error.is(Errno::EEXIST) => Err(Errno::EADDRINUSE.into()),
        Err(error) => Err(error),
        Ok(path) => socket.bind_path(spelled, path),
    }
}

/// Finds the socket that an address names. Errors: EINVAL for no name, ECONNREFUSED, EACCES, and those of a path walk.
pub fn find(task: &CurrentTask, socket: &UnixSocket, name: Name) -> Result<Arc<UnixSocket>> {
    match name {
        Name::Unnamed => Err(Errno::EINVAL.into()),
        Name::Abstract(bytes) => socket.names.find(&Key::Abstract(bytes)),
        Name::Path(spelled) => {
            let cx = task.resolve_cx();
            let path = vfs::resolve(&cx, &DirRef::Cwd, &spelled, LookupFlags::FOLLOW)?;
            permission::check_path(&path, Access::WRITE, &cx.creds)?;
            if path.file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED.into());
            }
            let attributes = path.inode().attributes()?;
            socket.names.find(&Key::Inode(attributes.dev, attributes.ino))
        }
    }
}

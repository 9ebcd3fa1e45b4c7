//! AF_UNIX: stream, datagram and seqpacket sockets with descriptors and credentials (unix(7)).
//! It must not know any filesystem: names by path go through the VFS.

pub mod address;
pub mod message;
pub mod names;
pub mod paths;
pub mod socket;

mod connect;
mod listing;
mod ops;
mod transfer;

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::socket::AF_UNIX;
use sentry_kernel::Result;
use sentry_kernel::socket::{Socket, SocketFamily};
use sentry_kernel::task::CurrentTask;

pub use names::Names;
pub use socket::{Kind, UnixSocket};
pub use transfer::Outgoing;

use crate::identity;
use crate::netns::NetNamespace;

/// The family's row in the registry; it owns the names of its namespace.
pub struct UnixFamily {
    names: Arc<Names>,
}

impl UnixFamily {
    /// The family of a namespace.
    pub fn new(net: &Arc<NetNamespace>) -> Self {
        Self { names: Arc::new(Names::of(net)) }
    }
}

/// The only protocols are 0 and PF_UNIX itself. Errors: EPROTONOSUPPORT.
fn check_protocol(protocol: i32) -> Result<()> {
    if protocol == 0 || protocol == AF_UNIX { Ok(()) } else { Err(Errno::EPROTONOSUPPORT.into()) }
}

impl SocketFamily for UnixFamily {
    fn family(&self) -> i32 {
        AF_UNIX
    }

    fn socket(&self, task: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        check_protocol(protocol)?;
        let kind = Kind::from_number(kind)?;
        Ok(UnixSocket::new(&self.names, kind, identity::peer_cred_of(task)))
    }

    fn pair(
        &self,
        task: &CurrentTask,
        kind: i32,
        protocol: i32,
    ) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
        check_protocol(protocol)?;
        let kind = Kind::from_number(kind)?;
        let (a, b) = UnixSocket::pair(&self.names, kind, identity::peer_cred_of(task));
        Ok((a, b))
    }
}

#[cfg(test)]
mod tests;

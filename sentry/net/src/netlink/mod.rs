//! AF_NETLINK (netlink(7)): sockets, groups and acknowledgments here; rtnetlink in `route`, sock_diag in `diag`, genetlink's
//! controller in `generic`. `table` lists protocols and messages; everything else is refused as Linux refuses what it lacks.

mod build;
mod bus;
mod diag;
mod generic;
mod options;
mod parse;
mod process;
mod route;
mod socket;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::socket::{AF_NETLINK, SOCK_DGRAM, SOCK_RAW};
use sentry_kernel::Result;
use sentry_kernel::socket::{Socket, SocketFamily};
use sentry_kernel::task::CurrentTask;

use crate::netns::NetNamespace;
pub use bus::Bus;
use socket::NetlinkSocket;

/// AF_NETLINK of a namespace: a row of the registry.
pub struct NetlinkFamily {
    net: Arc<NetNamespace>,
}

impl NetlinkFamily {
    /// The family over a namespace.
    pub fn new(net: &Arc<NetNamespace>) -> Self {
        Self { net: net.clone() }
    }
}

impl SocketFamily for NetlinkFamily {
    fn family(&self) -> i32 {
        AF_NETLINK
    }

    fn socket(&self, _: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        if kind != SOCK_RAW && kind != SOCK_DGRAM {
            return Err(Errno::ESOCKTNOSUPPORT.into());
        }
        let row = table::PROTOCOLS.iter().find(|row| row.number == protocol);
        let row = row.ok_or(Errno::EPROTONOSUPPORT)?;
        Ok(NetlinkSocket::new(&self.net, row, kind))
    }
}

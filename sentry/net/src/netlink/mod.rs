//! AF_NETLINK (netlink(7)): sockets, groups and acknowledgments here; rtnetlink in `route`, sock_diag in `diag`, genetlink's
//! controller in `generic`. `table` lists protocols and messages; everything else is refused as Linux refuses what it lacks.

mod build;
mod bus;
mod diag;
mod generic;
pub(crate) mod host;
mod notify;
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

use netstack::stack::{NicInfo, Stack};

use crate::netns::NetNamespace;
pub use bus::Bus;
pub(crate) use route::tables::PACKET_COST;
use socket::NetlinkSocket;

/// AF_NETLINK of a namespace: a row of the registry.
pub struct NetlinkFamily {
    net: Arc<NetNamespace>,
}

impl NetlinkFamily {
    /// The family over a namespace; its groups hear of changes from now on.
    pub fn new(net: &Arc<NetNamespace>) -> Self {
        notify::Notifier::attach(net);
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

/// Sets IFF_* of an interface as RTM_SETLINK does, for ioctl(2). Errors: ENODEV, EOPNOTSUPP.
pub fn change_link_flags(stack: &Stack, nic: &NicInfo, wanted: u32) -> Result<()> {
    route::link::change_flags(stack, nic, wanted).map_err(|refusal| refusal.errno.into())
}

/// Sets the MTU of an interface as RTM_SETLINK does, for ioctl(2). Errors: EINVAL.
pub fn change_link_mtu(stack: &Stack, nic: &NicInfo, mtu: u32) -> Result<()> {
    route::link::change_mtu(stack, nic, mtu).map_err(|refusal| refusal.errno.into())
}

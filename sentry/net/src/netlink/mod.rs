//! AF_NETLINK, the route family read-only: dumps of links, addresses, routes and neighbours (netlink(7), rtnetlink(7)).
//! Everything else is answered with an error message, as Linux does for what it does not support.

mod answer;
mod build;
mod socket;

use std::collections::HashSet;
use std::sync::Arc;

use sentry_abi::Errno;
use sentry_abi::netlink::NETLINK_ROUTE;
use sentry_abi::socket::{AF_NETLINK, SOCK_DGRAM, SOCK_RAW};
use sentry_kernel::Result;
use sentry_kernel::socket::{Socket, SocketFamily};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::task::CurrentTask;

use crate::netns::NetNamespace;
use socket::NetlinkSocket;

/// Port ids in use.
pub(crate) struct Ports(Mutex<HashSet<u32>>);

impl Ports {
    /// Takes a port id: `wanted`, or one near `near` where it is 0. Errors: EADDRINUSE.
    fn take(&self, wanted: u32, near: u32) -> Result<u32> {
        let mut used = self.0.lock();
        if wanted != 0 {
            return if used.insert(wanted) { Ok(wanted) } else { Err(Errno::EADDRINUSE.into()) };
        }
        // Linux gives the process id first, then numbers that look negative.
        let others = (0x8000_0000..u32::MAX).rev();
        let free = core::iter::once(near.max(1)).chain(others).find(|id| used.insert(*id));
        free.ok_or_else(|| Errno::EADDRINUSE.into())
    }

    fn release(&self, id: u32) {
        self.0.lock().remove(&id);
    }
}

/// AF_NETLINK of a namespace: a row of the registry.
pub struct NetlinkFamily {
    net: Arc<NetNamespace>,
    ports: Arc<Ports>,
}

impl NetlinkFamily {
    /// The family over a namespace.
    pub fn new(net: &Arc<NetNamespace>) -> Self {
        let ports = Arc::new(Ports(Mutex::new(Rank::LEAF, HashSet::new())));
        Self { net: net.clone(), ports }
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
        if protocol != NETLINK_ROUTE {
            return Err(Errno::EPROTONOSUPPORT.into());
        }
        Ok(Arc::new(NetlinkSocket::new(&self.net, &self.ports, kind)))
    }
}

//! AF_PACKET on netstack: frames as they pass the sandbox's interfaces (packet(7)).

mod ops;
mod option;
mod ring;
mod socket;

use std::sync::Arc;

use netstack::socket::packet::{Form, PacketSocket};
use sentry_abi::Errno;
use sentry_abi::socket::{AF_PACKET, SOCK_DGRAM, SOCK_RAW};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::socket::{Socket, SocketFamily};
use sentry_kernel::task::CurrentTask;

use crate::identity;
use crate::netns::NetNamespace;

pub use socket::FrameSocket;

/// AF_PACKET of a namespace: a row of the registry.
pub struct PacketFamily {
    net: Arc<NetNamespace>,
}

impl PacketFamily {
    /// The family over a namespace.
    pub fn new(net: &Arc<NetNamespace>) -> Self {
        Self { net: net.clone() }
    }
}

impl SocketFamily for PacketFamily {
    fn family(&self) -> i32 {
        AF_PACKET
    }

    fn socket(&self, task: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        if !identity::credentials(task).has(Capabilities::NET_RAW) {
            return Err(Errno::EPERM.into());
        }
        let form = match kind {
            SOCK_RAW => Form::Raw,
            SOCK_DGRAM => Form::Cooked,
            _ => return Err(Errno::ESOCKTNOSUPPORT.into()),
        };
        // The protocol is a number of 16 bits in network order.
        let protocol = u16::from_be(protocol as u16);
        let endpoint = PacketSocket::new(self.net.stack().clone(), form, protocol);
        Ok(FrameSocket::new(&self.net, endpoint, kind))
    }
}

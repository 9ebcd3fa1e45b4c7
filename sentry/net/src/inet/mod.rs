//! AF_INET and AF_INET6 on netstack: streams, datagrams, ping and raw sockets (ip(7), ipv6(7), tcp(7), udp(7), raw(7), icmp(7)).

pub mod sockaddr;

pub(crate) mod endpoint;
pub mod listing;
pub mod netdev;
mod ops;
mod option;
mod socket;
pub(crate) mod tcp_info;
mod transfer;

use std::sync::Arc;

use netstack::ip::{Family, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};
use sentry_abi::Errno;
use sentry_abi::socket::{AF_INET, AF_INET6, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM};
use sentry_kernel::Result;
use sentry_kernel::cred::Capabilities;
use sentry_kernel::socket::{Socket, SocketFamily};
use sentry_kernel::task::CurrentTask;

use crate::identity;
use crate::netns::NetNamespace;
use endpoint::Endpoint;

pub use socket::InetSocket;

/// AF_INET or AF_INET6 of a namespace: a row of the registry.
pub struct InetFamily {
    net: Arc<NetNamespace>,
    family: Family,
}

impl InetFamily {
    /// AF_INET
    pub fn v4(net: &Arc<NetNamespace>) -> Self {
        Self { net: net.clone(), family: Family::V4 }
    }

    /// AF_INET6
    pub fn v6(net: &Arc<NetNamespace>) -> Self {
        Self { net: net.clone(), family: Family::V6 }
    }

    /// The endpoint of a type and protocol, with the protocol that SO_PROTOCOL tells.
    fn endpoint(&self, task: &CurrentTask, kind: i32, protocol: i32) -> Result<(Endpoint, i32)> {
        let stack = self.net.stack();
        let family = self.family;
        let icmp = match family {
            Family::V4 => i32::from(PROTO_ICMP),
            Family::V6 => i32::from(PROTO_ICMPV6),
        };
        let (tcp, udp) = (i32::from(PROTO_TCP), i32::from(PROTO_UDP));
        Ok(match (kind, protocol) {
            (SOCK_STREAM, p) if p == 0 || p == tcp => {
                (Endpoint::Tcp(stack.tcp_socket(family)), tcp)
            }
            (SOCK_DGRAM, p) if p == 0 || p == udp => (Endpoint::Udp(stack.udp_socket(family)), udp),
            // net.ipv4.ping_group_range is open: every group may.
            (SOCK_DGRAM, p) if p == icmp => (Endpoint::Ping(stack.ping_socket(family)), icmp),
            (SOCK_RAW, 0) => return Err(Errno::EPROTONOSUPPORT.into()),
            (SOCK_RAW, p) => {
                if !identity::credentials(task).has(Capabilities::NET_RAW) {
                    return Err(Errno::EPERM.into());
                }
                let number = u8::try_from(p).map_err(|_| Errno::EINVAL)?;
                (Endpoint::Raw(stack.raw_socket(family, number)), p)
            }
            (SOCK_STREAM | SOCK_DGRAM, _) => return Err(Errno::EPROTONOSUPPORT.into()),
            (SOCK_SEQPACKET, _) => return Err(Errno::ESOCKTNOSUPPORT.into()),
            _ => return Err(Errno::ESOCKTNOSUPPORT.into()),
        })
    }
}

impl SocketFamily for InetFamily {
    fn family(&self) -> i32 {
        match self.family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        }
    }

    fn socket(&self, task: &CurrentTask, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        let (endpoint, protocol) = self.endpoint(task, kind, protocol)?;
        Ok(InetSocket::new(&self.net, self.family, endpoint, (kind, protocol)))
    }
}

#[cfg(test)]
mod tests;

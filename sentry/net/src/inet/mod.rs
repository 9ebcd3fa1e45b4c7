//! AF_INET and AF_INET6 on netstack: streams, datagrams, ping and raw sockets (ip(7), ipv6(7), tcp(7), udp(7), raw(7), icmp(7)).

pub mod sockaddr;

pub(crate) mod ancillary;
pub(crate) mod endpoint;
mod errqueue;
pub mod listing;
mod netadmin;
pub mod netdev;
mod ops;
mod option;
pub mod rtentry;
mod socket;
pub(crate) mod tcp_info;
pub(crate) mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use netstack::ip::{Family, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};
use netstack::socket::{IpOption, OptionValue, SocketOption};
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
pub(crate) use socket::events_of;

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
            (SOCK_DGRAM, p) if p == icmp => {
                let creds = identity::credentials(task);
                if !self.net.limits.may_ping(&creds) {
                    return Err(Errno::EACCES.into());
                }
                (Endpoint::Ping(stack.ping_socket(family)), icmp)
            }
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

impl InetFamily {
    /// What a new socket has by net.core and net.ipv6.bindv6only, where that is not what the stack gives.
    fn begin(&self, endpoint: &Endpoint) {
        let (limits, now) = (&self.net.limits, self.net.now());
        let of = |limit: &AtomicI64| usize::try_from(limit.load(Ordering::Relaxed)).unwrap_or(0);
        let mut wanted: Vec<OptionValue> = Vec::new();
        if endpoint.tcp().is_none() {
            wanted.push(SocketOption::ReceiveBuffer(of(&limits.rmem_default)).into());
            wanted.push(SocketOption::SendBuffer(of(&limits.wmem_default)).into());
        }
        if self.family == Family::V6 && of(&limits.bind_v6_only) != 0 {
            wanted.push(IpOption::V6Only(true).into());
        }
        for value in wanted {
            // A raw socket has no such choice as V6Only: it is of its family alone.
            let _ = endpoint.set_option(now, value);
        }
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
        self.begin(&endpoint);
        Ok(InetSocket::new(&self.net, self.family, endpoint, (kind, protocol)))
    }
}

#[cfg(test)]
pub(crate) mod tests;

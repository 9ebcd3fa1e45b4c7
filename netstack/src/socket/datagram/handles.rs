//! The handles of message sockets: cheap to clone, each of its own type.

use core::ops::Deref;
use std::sync::Arc;

use super::{Datagram, Kind};
use crate::ip::Family;
use crate::transport::Host;

/// Declares a handle over the common endpoint.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<Datagram>);

        impl Deref for $name {
            type Target = Datagram;
            fn deref(&self) -> &Datagram {
                &self.0
            }
        }
    };
}

handle! {
    /// A UDP socket. An IPv6 one also speaks IPv4 unless V6Only is set.
    UdpSocket
}

handle! {
    /// A ping socket: it sends echo requests and receives the replies to them, with the ICMP header.
    PingSocket
}

handle! {
    /// A raw socket: it receives every packet of its protocol, over IPv4 with the IP header.
    RawSocket
}

impl UdpSocket {
    /// An unbound socket.
    pub fn new(host: Arc<dyn Host>, family: Family) -> UdpSocket {
        UdpSocket(Datagram::new(host, family, Kind::Udp))
    }
}

impl PingSocket {
    /// An unbound socket.
    pub fn new(host: Arc<dyn Host>, family: Family) -> PingSocket {
        PingSocket(Datagram::new(host, family, Kind::Ping))
    }
}

impl RawSocket {
    /// A socket of an IP protocol, receiving from now on.
    pub fn new(host: Arc<dyn Host>, family: Family, protocol: u8) -> RawSocket {
        RawSocket(Datagram::new(host, family, Kind::Raw(protocol)))
    }
}

//! Making sockets.

use std::sync::Arc;

use super::Stack;
use crate::ip::Family;
use crate::socket::packet::{Form, PacketSocket};
use crate::socket::tcp::TcpSocket;
use crate::socket::{PingSocket, RawSocket, UdpSocket};

impl Stack {
    /// A TCP socket.
    pub fn tcp_socket(self: &Arc<Self>, family: Family) -> TcpSocket {
        TcpSocket::new(self.clone(), family)
    }

    /// A UDP socket.
    pub fn udp_socket(self: &Arc<Self>, family: Family) -> UdpSocket {
        UdpSocket::new(self.clone(), family)
    }

    /// A ping socket (SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6).
    pub fn ping_socket(self: &Arc<Self>, family: Family) -> PingSocket {
        PingSocket::new(self.clone(), family)
    }

    /// A packet socket for a protocol (EtherType, or 3 for all); 0 sees nothing.
    pub fn packet_socket(self: &Arc<Self>, form: Form, protocol: u16) -> Arc<PacketSocket> {
        PacketSocket::new(self.clone(), form, protocol)
    }

    /// A raw socket of a protocol; 255 only sends.
    pub fn raw_socket(self: &Arc<Self>, family: Family, protocol: u8) -> RawSocket {
        RawSocket::new(self.clone(), family, protocol)
    }
}

//! Making sockets.

use std::sync::Arc;

use super::Stack;
use crate::ip::Family;
use crate::socket::options::MtuDiscover;
use crate::socket::packet::{Form, PacketSocket};
use crate::socket::tcp::TcpSocket;
use crate::socket::{Datagram, IpOption, PingSocket, RawSocket, UdpSocket};
use crate::time::Instant;

impl Stack {
    /// A TCP socket.
    pub fn tcp_socket(self: &Arc<Self>, family: Family) -> TcpSocket {
        let socket = TcpSocket::new(self.clone(), family);
        if let Some(lets_cut) = self.first_discovery(family) {
            // Every stream takes it.
            let _ = socket.set_option(Instant::ZERO, lets_cut);
        }
        socket
    }

    /// How sockets deal with the path's MTU from their beginning: `ip_no_pmtu_disc`, of IPv4.
    fn first_discovery(&self, family: Family) -> Option<IpOption> {
        let off = self.topology().tunables().ip.ip_no_pmtu_disc != 0;
        (off && family == Family::V4).then_some(IpOption::MtuDiscover(MtuDiscover::Dont))
    }

    fn begin_datagram(&self, socket: &Datagram) {
        if let Some(lets_cut) = self.first_discovery(socket.family()) {
            // Every message socket takes it.
            let _ = socket.set_option(Instant::ZERO, lets_cut.into());
        }
    }

    /// A UDP socket.
    pub fn udp_socket(self: &Arc<Self>, family: Family) -> UdpSocket {
        let socket = UdpSocket::new(self.clone(), family);
        self.begin_datagram(&socket);
        socket
    }

    /// A ping socket (SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6).
    pub fn ping_socket(self: &Arc<Self>, family: Family) -> PingSocket {
        let socket = PingSocket::new(self.clone(), family);
        self.begin_datagram(&socket);
        socket
    }

    /// A packet socket for a protocol (EtherType, or 3 for all); 0 sees nothing.
    pub fn packet_socket(self: &Arc<Self>, form: Form, protocol: u16) -> Arc<PacketSocket> {
        PacketSocket::new(self.clone(), form, protocol)
    }

    /// A raw socket of a protocol; 255 only sends.
    pub fn raw_socket(self: &Arc<Self>, family: Family, protocol: u8) -> RawSocket {
        let socket = RawSocket::new(self.clone(), family, protocol);
        self.begin_datagram(&socket);
        socket
    }
}

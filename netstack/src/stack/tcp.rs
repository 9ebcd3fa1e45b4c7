//! Where TCP segments meet the stack.

use core::net::SocketAddr;

use super::Stack;
use super::receive::Rx;
use crate::buffer::PacketBuffer;
use crate::filter::Program;
use crate::ip::{Cast, IpInfo, PROTO_TCP};
use crate::socket::tcp::{pass_remnant, refuse};
use crate::transport::Key;
use crate::wire::tcp::{HEADER_LEN, header_len};

impl Stack {
    /// Gives a segment to its connection or listener.
    pub(super) fn deliver_tcp(&self, rx: &Rx<'_>, info: &IpInfo, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.tcp;
        stats.in_segs.inc();
        // RFC 9293 MUST-57: a SYN to a broadcast or multicast address is ignored; so is everything else there.
        let Some([s0, s1, d0, d1]) = packet.peek::<4>().filter(|_| info.cast == Cast::Unicast)
        else {
            return stats.in_errs.inc();
        };
        let local = SocketAddr::new(info.dst, u16::from_be_bytes([d0, d1]));
        let remote = SocketAddr::new(info.src, u16::from_be_bytes([s0, s1]));
        let connected = Key::connected(PROTO_TCP, local, remote);
        if let Some(connection) = self.shared.demux.exact(&connected, info.nic, 0) {
            return connection.deliver(rx.now, info, packet);
        }
        let rest = pass_remnant(self, rx.now, info, packet, (local, remote));
        let Some(mut packet) = rest else { return };
        let header = packet.pull(HEADER_LEN).and_then(|bytes| header_len(bytes).ok());
        let header = header.unwrap_or(HEADER_LEN);
        let choose = |program: &Program| self.choose(program, info, &packet, header);
        let demux = &self.shared.demux;
        match demux.listener_by(PROTO_TCP, (local, remote), info.nic, &choose) {
            Some(endpoint) => endpoint.deliver(rx.now, info, packet),
            None => refuse(self, rx.now, info, packet),
        }
    }
}

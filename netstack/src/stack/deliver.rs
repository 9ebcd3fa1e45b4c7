//! From a whole IP packet to endpoints: UDP, raw sockets, and what has no taker.

use core::net::{IpAddr, SocketAddr};

use super::Stack;
use super::groups::PROTO_IGMP;
use super::receive::{Headers, Rx};
use crate::buffer::PacketBuffer;
use crate::filter::Program;
use crate::ip::{Cast, Family, IpInfo, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};
use crate::stats::UdpStats;
use crate::transport::judge::judge;
use crate::transport::{Key, udp};
use crate::wire::icmp::{v4, v6};

/// Whether a raw socket took a copy of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RawTaken {
    Yes,
    No,
}

impl Stack {
    /// What the program of a group says of a packet: it sees what follows the transport's header (Linux's reuseport_select_sock).
    pub(super) fn choose(
        &self,
        program: &Program,
        info: &IpInfo,
        packet: &PacketBuffer,
        header_len: usize,
    ) -> u32 {
        let mut payload = packet.clone();
        let header = payload.to_vec_up_to(header_len);
        payload.advance(header.len());
        judge(self, program, (info, &header), &payload)
    }

    /// Gives every raw socket of the protocol a copy: of IPv4 with its header, of IPv6 without.
    pub(super) fn deliver_raw(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        packet: &PacketBuffer,
    ) -> RawTaken {
        if self.shared.raw.is_empty() {
            return RawTaken::No;
        }
        let any = SocketAddr::new(Family::of(info.dst).unspecified(), 0);
        let endpoints = self.shared.raw.members(&Key::bound(info.protocol, any), rx.nic.id);
        let taken = if endpoints.is_empty() { RawTaken::No } else { RawTaken::Yes };
        for endpoint in endpoints {
            endpoint.deliver(rx.now, info, packet.clone());
        }
        taken
    }

    /// Gives a packet to its transport. The packet's front is the transport header.
    pub(super) fn deliver(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        headers: &Headers,
        packet: PacketBuffer,
        raw: RawTaken,
    ) {
        let stats = self.ip_stats(info.dst);
        match (info.protocol, info.dst) {
            (PROTO_UDP, _) => self.deliver_udp(rx, info, headers, packet),
            (PROTO_TCP, _) => self.deliver_tcp(rx, info, packet),
            (PROTO_ICMP, IpAddr::V4(_)) => self.receive_icmp_v4(rx, info, packet),
            (PROTO_ICMPV6, IpAddr::V6(_)) => self.receive_icmp_v6(rx, info, packet),
            (PROTO_IGMP, IpAddr::V4(_)) => self.receive_igmp(rx, info, &packet),
            _ if raw == RawTaken::Yes => {}
            _ => {
                stats.in_unknown_protos.inc();
                return self.unknown_protocol(rx, info, headers, packet);
            }
        }
        stats.in_delivers.inc();
    }

    fn unknown_protocol(
        &self,
        rx: &Rx<'_>,
        info: &IpInfo,
        headers: &Headers,
        packet: PacketBuffer,
    ) {
        let message = match info.dst {
            IpAddr::V4(_) => (v4::UNREACHABLE, v4::CODE_PROTOCOL, [0; 4]),
            // RFC 8200 section 4: Parameter Problem code 1, pointing at the field that named the header. Without
            // extension headers that is byte 6.
            IpAddr::V6(_) => (v6::PARAMETER_PROBLEM, v6::CODE_NEXT_HEADER, [0, 0, 0, 6]),
        };
        self.send_error(rx, info, headers, &packet, message, false);
    }

    pub(super) fn udp_stats(&self, address: IpAddr) -> &UdpStats {
        match address {
            IpAddr::V4(_) => &self.shared.stats.udp,
            IpAddr::V6(_) => &self.shared.stats.udp6,
        }
    }

    fn deliver_udp(&self, rx: &Rx<'_>, info: &IpInfo, headers: &Headers, mut packet: PacketBuffer) {
        let stats = self.udp_stats(info.dst);
        let header = match udp::verify(info, &mut packet) {
            Ok(header) => header,
            Err(udp::Malformed::Header) => return stats.in_errors.inc(),
            Err(udp::Malformed::Checksum) => {
                stats.in_csum_errors.inc();
                return stats.in_errors.inc();
            }
        };
        let local = SocketAddr::new(info.dst, header.dst_port);
        let remote = SocketAddr::new(info.src, header.src_port);
        if info.cast != Cast::Unicast {
            let endpoints = self.shared.demux.all(PROTO_UDP, local, remote, info.nic);
            if endpoints.is_empty() {
                stats.ignored_multi.inc();
            }
            for endpoint in endpoints {
                endpoint.deliver(rx.now, info, packet.clone());
            }
            return;
        }
        let demux = &self.shared.demux;
        let connected = demux.exact(&Key::connected(PROTO_UDP, local, remote), info.nic, 0);
        let choose = |program: &Program| self.choose(program, info, &packet, udp::HEADER_LEN);
        let found =
            connected.or_else(|| demux.listener_by(PROTO_UDP, (local, remote), info.nic, &choose));
        match found {
            Some(endpoint) => endpoint.deliver(rx.now, info, packet),
            // RFC 8200 section 8.1: receivers must discard UDP packets over IPv6 with a zero checksum, but for those that ask for them.
            None if header.checksum == 0 && info.dst.is_ipv6() => {
                stats.in_csum_errors.inc();
                stats.in_errors.inc();
            }
            None => {
                stats.no_ports.inc();
                let message = match info.dst {
                    IpAddr::V4(_) => (v4::UNREACHABLE, v4::CODE_PORT, [0; 4]),
                    IpAddr::V6(_) => (v6::UNREACHABLE, v6::CODE_PORT, [0; 4]),
                };
                self.send_error(rx, info, headers, &packet, message, false);
            }
        }
    }
}

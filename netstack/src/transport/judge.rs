//! Filters over packets without their IP header (socket(7), SO_ATTACH_FILTER): what a program may ask besides the bytes is made from
//! what is known of the packet.

use core::net::IpAddr;

use super::Host;
use crate::buffer::PacketBuffer;
use crate::filter::{Program, View};
use crate::ip::{Cast, IpInfo};
use crate::link::NicKind;
use crate::wire::ethernet::{TYPE_IPV4, TYPE_IPV6};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};

/// What a program says of a packet: as a filter how many bytes it keeps. Before the packet lie `hidden` bytes of its transport header
/// and its IP header as far as it is known (without identification and options).
pub fn judge(
    host: &dyn Host,
    program: &Program,
    (info, hidden): (&IpInfo, &[u8]),
    packet: &PacketBuffer,
) -> u32 {
    let len = hidden.len() + packet.len();
    let mut before = match (info.src, info.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = [0; ipv4::HEADER_LEN];
            let header = Ipv4 {
                header_len: ipv4::HEADER_LEN as u8,
                tos: info.tos,
                total_len: u16::try_from(len + ipv4::HEADER_LEN).unwrap_or(u16::MAX),
                ident: 0,
                dont_fragment: false,
                more_fragments: false,
                fragment_offset: 0,
                ttl: info.ttl,
                protocol: info.protocol,
                src,
                dst,
            };
            header.emit(&mut bytes);
            bytes.to_vec()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = [0; ipv6::HEADER_LEN];
            let header = Ipv6 {
                traffic_class: info.tos,
                flow_label: info.flow_info & 0xf_ffff,
                payload_len: u16::try_from(len).unwrap_or(u16::MAX),
                next_header: info.protocol,
                hop_limit: info.ttl,
                src,
                dst,
            };
            header.emit(&mut bytes);
            bytes.to_vec()
        }
        _ => Vec::new(),
    };
    before.extend_from_slice(hidden);
    run(host, program, info, packet, &before)
}

/// The same of a packet with its IP header.
pub fn judge_whole(
    host: &dyn Host,
    program: &Program,
    info: &IpInfo,
    packet: &PacketBuffer,
) -> u32 {
    run(host, program, info, packet, &[])
}

fn run(
    host: &dyn Host,
    program: &Program,
    info: &IpInfo,
    packet: &PacketBuffer,
    before: &[u8],
) -> u32 {
    program.run(&View {
        packet,
        before,
        network_at: -(before.len() as i64),
        link_at: None,
        protocol: if info.dst.is_ipv4() { TYPE_IPV4 } else { TYPE_IPV6 },
        packet_type: match info.cast {
            Cast::Unicast => 0,
            Cast::Broadcast => 1,
            Cast::Multicast => 2,
        },
        ifindex: info.nic.0,
        hardware_type: host
            .link(info.nic)
            .map_or(NicKind::Ethernet, |link| link.kind)
            .hardware_type(),
        mark: packet.tags.mark,
        random: &|| host.shared().random() as u32,
    })
}

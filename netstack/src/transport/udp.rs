//! UDP (RFC 768): the header of a datagram, and its checksum.

use core::net::SocketAddr;

use crate::buffer::{Chain, ChecksumOffload, PacketBuffer};
use crate::ip::{IpInfo, PROTO_UDP};
use crate::wire::checksum::Checksum;
use crate::wire::udp::{CHECKSUM_OFFSET, Udp};

pub use crate::wire::udp::HEADER_LEN;

/// The largest payload over IPv4: 65,535 less the IP and UDP headers.
pub const MAX_PAYLOAD_V4: usize = 65_507;
/// The largest payload over IPv6.
pub const MAX_PAYLOAD_V6: usize = 65_527;

/// Whether a datagram has a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealing {
    /// It has one, which the device or the link layer completes.
    Checksum,
    /// It has none (SO_NO_CHECK; only IPv4 allows it).
    None,
}

/// Puts the UDP header before a payload of at most [`MAX_PAYLOAD_V4`] or [`MAX_PAYLOAD_V6`] bytes.
pub fn encapsulate(
    local: SocketAddr,
    remote: SocketAddr,
    payload: Chain,
    sealing: Sealing,
) -> PacketBuffer {
    let mut packet = PacketBuffer::new(payload);
    let len = packet.len() + HEADER_LEN;
    let checksum = match sealing {
        Sealing::Checksum => {
            Checksum::pseudo_header(local.ip(), remote.ip(), PROTO_UDP, len).partial()
        }
        Sealing::None => 0,
    };
    let header = Udp {
        src_port: local.port(),
        dst_port: remote.port(),
        len: u16::try_from(len).unwrap_or(u16::MAX),
        checksum,
    };
    header.emit(packet.prepend());
    if sealing == Sealing::Checksum {
        packet.offload.checksum = ChecksumOffload::Partial { start: 0, offset: CHECKSUM_OFFSET };
    }
    packet
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Its lengths make no sense, or it goes to port 0.
    Header,
    /// Its checksum does not fit.
    Checksum,
}

/// Reads and verifies the header at the front of a packet, and cuts what the datagram does not cover.
pub fn verify(info: &IpInfo, packet: &mut PacketBuffer) -> Result<Udp, Malformed> {
    let bytes = packet.peek::<HEADER_LEN>().ok_or(Malformed::Header)?;
    let header = Udp::parse(&bytes);
    let len = usize::from(header.len);
    if len < HEADER_LEN || len > packet.len() || header.dst_port == 0 {
        return Err(Malformed::Header);
    }
    packet.truncate(len);
    // RFC 6935 section 5: an IPv6 socket may be configured for datagrams without a checksum; it sees to that itself.
    if packet.offload.rx_verified || header.checksum == 0 {
        return Ok(header);
    }
    let mut sum = packet.sum_from(0);
    sum.add(Checksum::pseudo_header(info.src, info.dst, PROTO_UDP, packet.len()));
    if sum.finish() != 0 {
        return Err(Malformed::Checksum);
    }
    packet.offload.rx_verified = true;
    Ok(header)
}

/// The most segments of one send (UDP_MAX_SEGMENTS).
pub const MAX_SEGMENTS: usize = 128;

//! ICMP messages on their way out: the header and its checksum, and the echo requests of ping sockets.

use core::net::IpAddr;

use crate::buffer::{Chain, ChecksumOffload, PacketBuffer};
use crate::ip::{PROTO_ICMP, PROTO_ICMPV6};
use crate::wire::checksum::Checksum;
use crate::wire::icmp::{CHECKSUM_OFFSET, HEADER_LEN, Icmp, v4, v6};

/// ICMP's number in the family of an address.
pub fn protocol_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { PROTO_ICMP } else { PROTO_ICMPV6 }
}

/// Puts an ICMP header with its checksum before a body. Messages are small or may be cut into fragments, so
/// the checksum is complete.
pub fn encapsulate(header: Icmp, src: IpAddr, dst: IpAddr, body: Chain) -> PacketBuffer {
    let mut packet = PacketBuffer::new(body);
    let checksum = match dst {
        IpAddr::V4(_) => 0,
        // RFC 4443 section 2.3: ICMPv6 sums a pseudo-header too.
        IpAddr::V6(_) => {
            let len = packet.len() + HEADER_LEN;
            Checksum::pseudo_header(src, dst, PROTO_ICMPV6, len).partial()
        }
    };
    Icmp { checksum, ..header }.emit(packet.prepend());
    packet.offload.checksum = ChecksumOffload::Partial { start: 0, offset: CHECKSUM_OFFSET };
    packet.complete_checksum();
    packet
}

/// Makes the echo request that a program wrote into one of its socket's: the identifier becomes the socket's.
/// None when it is no echo request.
pub fn echo_request(message: Chain, ident: u16, src: IpAddr, dst: IpAddr) -> Option<PacketBuffer> {
    let mut packet = PacketBuffer::new(message);
    let header = Icmp::parse(&packet.peek::<HEADER_LEN>()?);
    let echo = if dst.is_ipv4() { v4::ECHO } else { v6::ECHO };
    if (header.kind, header.code) != (echo, 0) {
        return None;
    }
    packet.advance(HEADER_LEN);
    let [high, low] = ident.to_be_bytes();
    let rest = [high, low, header.rest[2], header.rest[3]];
    Some(encapsulate(Icmp::new(echo, 0, rest), src, dst, packet.into_chain()))
}

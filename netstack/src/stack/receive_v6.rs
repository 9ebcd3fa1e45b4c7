//! IPv6 packets on their way in: extension headers, reassembly, delivery.

use core::net::IpAddr;

use super::Stack;
use super::receive::{Headers, Origin, Rx};
use crate::buffer::PacketBuffer;
use crate::ip::fragment::{FragmentKey, Piece};
use crate::ip::{Cast, IpInfo};
use crate::wire::icmp::v6;
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6::{
    FRAGMENT_LEN, FragmentHeader, HEADER_LEN, Ipv6, NEXT_DESTINATION, NEXT_FRAGMENT,
    NEXT_HOP_BY_HOP, NEXT_NONE, NEXT_ROUTING, OptionsVerdict, judge_options,
};

/// How many extension headers a packet may have.
const MAX_EXTENSIONS: usize = 8;

/// A packet while its extension headers are walked.
struct Walk {
    header: Ipv6,
    cast: Cast,
    headers: Headers,
    /// Bytes of the headers so far: where a Parameter Problem points.
    at: usize,
    next: u8,
    /// Where the next-header field lies that told `next`.
    next_at: usize,
}

/// What a header asks for.
enum Step {
    Continue,
    Stop,
    Problem { code: u8, pointer: usize },
}

impl Stack {
    /// Handles an IPv6 packet.
    pub(super) fn receive_ipv6(&self, rx: &Rx<'_>, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.ip6;
        stats.in_receives.inc();
        let Some(bytes) = packet.peek::<HEADER_LEN>() else { return stats.in_hdr_errors.inc() };
        let Some(header) = Ipv6::parse(&bytes) else { return stats.in_hdr_errors.inc() };
        let total = HEADER_LEN + usize::from(header.payload_len);
        if total > packet.len() {
            return stats.in_truncated_pkts.inc();
        }
        packet.truncate(total);
        let Some(cast) = self.judge_v6(rx, &header) else { return stats.in_addr_errors.inc() };
        if cast == Cast::Multicast && rx.link_cast != Cast::Unicast {
            stats.in_mcast_pkts.inc();
        }
        packet.advance(HEADER_LEN);
        let walk = Walk {
            header,
            cast,
            headers: Headers::new(&bytes),
            at: HEADER_LEN,
            next: header.next_header,
            next_at: 6,
        };
        self.walk_extensions(rx, walk, packet);
    }

    fn judge_v6(&self, rx: &Rx<'_>, header: &Ipv6) -> Option<Cast> {
        let (src, dst) = (header.src, header.dst);
        let loopback = rx.nic.is_loopback();
        if src.is_multicast() || (!loopback && (src.is_loopback() || dst.is_loopback())) {
            return None;
        }
        // Our own address from outside is forged.
        if rx.origin == Origin::Wire && !loopback && rx.topology.is_local(src.into()) {
            return None;
        }
        // Interface-local groups never cross a link, and IPv4-mapped addresses never appear on the wire.
        let mapped = src.to_ipv4_mapped().is_some() || dst.to_ipv4_mapped().is_some();
        if mapped || (dst.is_multicast() && dst.octets()[1] & 0x0f <= 1 && !loopback) {
            return None;
        }
        rx.topology.accepts_v6(rx.nic, dst)
    }

    fn walk_extensions(&self, rx: &Rx<'_>, mut walk: Walk, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.ip6;
        for position in 0..=MAX_EXTENSIONS {
            let step = match walk.next {
                // RFC 8200 section 4.1: hop-by-hop options come first or not at all.
                NEXT_HOP_BY_HOP if position > 0 => {
                    Step::Problem { code: v6::CODE_NEXT_HEADER, pointer: walk.next_at }
                }
                NEXT_HOP_BY_HOP | NEXT_DESTINATION => self.options_header(&mut walk, &mut packet),
                NEXT_ROUTING => self.routing_header(&mut walk, &mut packet),
                NEXT_FRAGMENT => return self.reassemble_v6(rx, walk, packet),
                NEXT_NONE => return,
                _ => return self.deliver_ipv6(rx, walk, packet),
            };
            match step {
                Step::Continue => {}
                Step::Stop => return stats.in_hdr_errors.inc(),
                Step::Problem { code, pointer } => {
                    stats.in_hdr_errors.inc();
                    return self.parameter_problem(rx, &walk, &packet, (code, pointer));
                }
            }
        }
        stats.in_hdr_errors.inc();
    }

    /// Consumes a header with a length field and gives its bytes.
    fn take_extension(walk: &mut Walk, packet: &mut PacketBuffer) -> Option<Vec<u8>> {
        let [next, len] = packet.peek::<2>()?;
        let len = (usize::from(len) + 1) * 8;
        if len > packet.len() {
            return None;
        }
        let bytes = packet.to_vec_up_to(len);
        packet.advance(len);
        walk.headers.push(&bytes);
        (walk.next, walk.next_at) = (next, walk.at);
        walk.at += len;
        Some(bytes)
    }

    fn options_header(&self, walk: &mut Walk, packet: &mut PacketBuffer) -> Step {
        let start = walk.at;
        let Some(bytes) = Stack::take_extension(walk, packet) else { return Step::Stop };
        match judge_options(&bytes) {
            OptionsVerdict::Continue => Step::Continue,
            OptionsVerdict::Discard => Step::Stop,
            OptionsVerdict::ReportUnicast(_) if walk.cast != Cast::Unicast => Step::Stop,
            OptionsVerdict::Report(at) | OptionsVerdict::ReportUnicast(at) => {
                Step::Problem { code: v6::CODE_OPTION, pointer: start + at }
            }
            OptionsVerdict::Malformed(at) => Step::Problem { code: 0, pointer: start + at },
        }
    }

    fn routing_header(&self, walk: &mut Walk, packet: &mut PacketBuffer) -> Step {
        let start = walk.at;
        let Some(bytes) = Stack::take_extension(walk, packet) else { return Step::Stop };
        match bytes.get(3) {
            // RFC 8200 section 4.4: "If Segments Left is zero, the node must ignore the Routing header".
            Some(0) => Step::Continue,
            // We route for nobody; type 0 is deprecated (RFC 5095) and answered alike.
            _ => Step::Problem { code: 0, pointer: start + 2 },
        }
    }

    fn reassemble_v6(&self, rx: &Rx<'_>, walk: Walk, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.ip6;
        let Some(bytes) = packet.peek::<FRAGMENT_LEN>() else { return stats.in_hdr_errors.inc() };
        let fragment = FragmentHeader::parse(&bytes);
        if fragment.more && !(packet.len() - FRAGMENT_LEN).is_multiple_of(8) {
            // RFC 8200 section 4.5: a fragment of a length that is no multiple of 8 is discarded and a
            // Parameter Problem points to the payload length field.
            stats.reasm_fails.inc();
            return self.parameter_problem(rx, &walk, &packet, (0, 4));
        }
        packet.advance(FRAGMENT_LEN);
        if fragment.offset == 0 && !fragment.more {
            // RFC 6946: an atomic fragment is handled alone.
            let walk = Walk { next: fragment.next_header, next_at: walk.at, ..walk };
            return self.after_fragment(rx, walk, packet);
        }
        let key = FragmentKey {
            src: walk.header.src.into(),
            dst: walk.header.dst.into(),
            ident: fragment.ident,
            protocol: 0,
            nic: rx.nic.id,
        };
        let piece = Piece {
            offset: u32::from(fragment.offset),
            more: fragment.more,
            header: walk.headers.to_vec(),
            protocol: fragment.next_header,
            payload: packet.into_chain(),
        };
        let Some((_, next, payload)) = self.reassemble(rx, key, piece) else { return };
        let mut walk = Walk { next, ..walk };
        // The whole has no fragment header any more: what names it names what follows, also where an error quotes it.
        walk.headers.set(walk.next_at, next);
        let len = u16::try_from(walk.at - HEADER_LEN + payload.len()).unwrap_or(0);
        for (at, byte) in (4..).zip(len.to_be_bytes()) {
            walk.headers.set(at, byte);
        }
        self.after_fragment(rx, walk, PacketBuffer::new(payload));
    }

    /// After reassembly only destination options may stand before the transport.
    fn after_fragment(&self, rx: &Rx<'_>, mut walk: Walk, mut packet: PacketBuffer) {
        for _ in 0..MAX_EXTENSIONS {
            let step = match walk.next {
                NEXT_DESTINATION => self.options_header(&mut walk, &mut packet),
                NEXT_ROUTING => self.routing_header(&mut walk, &mut packet),
                NEXT_HOP_BY_HOP | NEXT_FRAGMENT => Step::Stop,
                NEXT_NONE => return,
                _ => return self.deliver_ipv6(rx, walk, packet),
            };
            match step {
                Step::Continue => {}
                Step::Stop => break,
                Step::Problem { code, pointer } => {
                    return self.parameter_problem(rx, &walk, &packet, (code, pointer));
                }
            }
        }
        self.shared.stats.ip6.in_hdr_errors.inc();
    }

    fn deliver_ipv6(&self, rx: &Rx<'_>, walk: Walk, packet: PacketBuffer) {
        let info = walk.info(rx);
        let raw = self.deliver_raw(rx, &info, &packet);
        self.deliver(rx, &info, walk.headers, packet, raw);
    }

    fn parameter_problem(
        &self,
        rx: &Rx<'_>,
        walk: &Walk,
        packet: &PacketBuffer,
        (code, pointer): (u8, usize),
    ) {
        let pointer = u32::try_from(pointer).unwrap_or(u32::MAX).to_be_bytes();
        let message = (v6::PARAMETER_PROBLEM, code, pointer);
        self.shared.stats.icmp6.out_parm_probs.inc();
        let always = code == v6::CODE_OPTION;
        self.send_error(rx, &walk.info(rx), &walk.headers, packet, message, always);
    }
}

impl Walk {
    fn info(&self, rx: &Rx<'_>) -> IpInfo {
        IpInfo {
            src: IpAddr::V6(self.header.src),
            dst: IpAddr::V6(self.header.dst),
            protocol: self.next,
            ttl: self.header.hop_limit,
            tos: self.header.traffic_class,
            flow_info: u32::from(self.header.traffic_class) << 20 | self.header.flow_label,
            nic: rx.nic.id,
            cast: self.cast,
            options: Options::NONE,
        }
    }
}

//! IPv6 packets on their way in: extension headers, reassembly, delivery.

use core::net::IpAddr;

use super::Stack;
use super::forward::Passing;
use super::input::{Input, Onward};
use super::receive::{Headers, Rx};
use crate::buffer::PacketBuffer;
use crate::ip::fragment::{FragmentKey, Piece};
use crate::ip::{Cast, IpInfo, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};
use crate::wire::icmp::v6;
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6::{
    FRAGMENT_LEN, FragmentHeader, HEADER_LEN, Ipv6, NEXT_DESTINATION, NEXT_FRAGMENT,
    NEXT_HOP_BY_HOP, NEXT_NONE, NEXT_ROUTING, OptionLimits, OptionsHeader, OptionsVerdict,
    judge_options,
};

/// How many extension headers a packet may have.
const MAX_EXTENSIONS: usize = 8;

/// A packet while its extension headers are walked.
#[derive(Clone)]
struct Walk {
    header: Ipv6,
    cast: Cast,
    headers: Headers,
    /// Bytes of the headers so far: where a Parameter Problem points.
    at: usize,
    next: u8,
    /// Where the next-header field lies that told `next`.
    next_at: usize,
    /// Whether it came in fragments.
    fragmented: bool,
    /// The extension headers, each after its kind.
    extensions: Vec<u8>,
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
        let available = packet.len();
        stats.in_octets.add(available as u64);
        let Some(bytes) = packet.peek::<HEADER_LEN>() else { return stats.in_hdr_errors.inc() };
        let Some(header) = Ipv6::parse(&bytes) else { return stats.in_hdr_errors.inc() };
        let total = HEADER_LEN + usize::from(header.payload_len);
        if total > packet.len() {
            return stats.in_truncated_pkts.inc();
        }
        stats.count_ecn(header.traffic_class);
        packet.truncate(total);
        let headers = Headers::new(&bytes);
        packet.advance(HEADER_LEN);
        let next = header.next_header;
        let walk = Walk {
            header,
            cast: Cast::Unicast,
            headers,
            at: HEADER_LEN,
            next,
            next_at: 6,
            fragmented: false,
            extensions: Vec::new(),
        };
        match self.input_v6(rx, &header, &packet) {
            Input::Local(cast) => {
                stats.count_cast(cast, available);
                self.walk_extensions(rx, Walk { cast, ..walk }, packet);
            }
            Input::Forward(onward) => self.pass_on(rx, walk, &onward, packet),
            Input::Refused(refusal) => {
                let info = walk.info(rx);
                let passing = Passing { info: &info, headers: &walk.headers, rest: &packet };
                self.no_way_on(rx, &passing, refusal);
            }
            Input::Dropped => {}
        }
    }

    /// Looks at the hop-by-hop options of a packet that goes on; no other header concerns a router.
    fn pass_on(&self, rx: &Rx<'_>, walk: Walk, onward: &Onward, packet: PacketBuffer) {
        if walk.next == NEXT_HOP_BY_HOP {
            let (mut seen, mut rest) = (walk.clone(), packet.clone());
            match self.options_header(rx, &mut seen, &mut rest) {
                Step::Continue => {}
                Step::Stop => return self.shared.stats.ip6.in_hdr_errors.inc(),
                Step::Problem { code, pointer } => {
                    self.shared.stats.ip6.in_hdr_errors.inc();
                    return self.parameter_problem(rx, &seen, &rest, (code, pointer));
                }
            }
        }
        self.forward_v6(rx, (&walk.header, &walk.headers), onward, packet);
    }

    fn walk_extensions(&self, rx: &Rx<'_>, mut walk: Walk, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.ip6;
        for position in 0..=MAX_EXTENSIONS {
            let step = match walk.next {
                // RFC 8200 section 4.1: hop-by-hop options come first or not at all.
                NEXT_HOP_BY_HOP if position > 0 => {
                    Step::Problem { code: v6::CODE_NEXT_HEADER, pointer: walk.next_at }
                }
                NEXT_HOP_BY_HOP | NEXT_DESTINATION => {
                    self.options_header(rx, &mut walk, &mut packet)
                }
                NEXT_ROUTING => self.routing_header(rx, &mut walk, &mut packet),
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
        walk.extensions.push(walk.next);
        walk.extensions.extend_from_slice(&bytes);
        (walk.next, walk.next_at) = (next, walk.at);
        walk.at += len;
        Some(bytes)
    }

    fn options_header(&self, rx: &Rx<'_>, walk: &mut Walk, packet: &mut PacketBuffer) -> Step {
        let start = walk.at;
        let conf = &rx.topology.tunables().ip;
        let (number, length) = (conf.max_hbh_opts_number, conf.max_hbh_length);
        let (which, limits) = match walk.next {
            NEXT_HOP_BY_HOP => (
                OptionsHeader::HopByHop { payload_len: walk.header.payload_len },
                OptionLimits { number, length },
            ),
            _ => (
                OptionsHeader::Destination,
                OptionLimits { number: conf.max_dst_opts_number, length: conf.max_dst_opts_length },
            ),
        };
        let Some(bytes) = Stack::take_extension(walk, packet) else { return Step::Stop };
        match judge_options(&bytes, which, limits) {
            OptionsVerdict::Continue => Step::Continue,
            OptionsVerdict::Discard => Step::Stop,
            OptionsVerdict::ReportUnicast(_) if walk.cast != Cast::Unicast => Step::Stop,
            OptionsVerdict::Report(at) | OptionsVerdict::ReportUnicast(at) => {
                Step::Problem { code: v6::CODE_OPTION, pointer: start + at }
            }
            OptionsVerdict::Malformed(at) => Step::Problem { code: 0, pointer: start + at },
        }
    }

    fn routing_header(&self, rx: &Rx<'_>, walk: &mut Walk, packet: &mut PacketBuffer) -> Step {
        let start = walk.at;
        if walk.cast != Cast::Unicast || rx.link_cast != Cast::Unicast {
            return Step::Stop;
        }
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
        if usize::from(fragment.offset) + packet.len() - FRAGMENT_LEN > 65_535 {
            // "... or if the length and offset of a fragment are such that the Payload Length ... would exceed 65,535 octets":
            // the pointer is at the fragment offset.
            stats.reasm_fails.inc();
            return self.parameter_problem(rx, &walk, &packet, (0, walk.at + 2));
        }
        packet.advance(FRAGMENT_LEN);
        if fragment.offset == 0 && lacks_headers(fragment.next_header, &mut packet) {
            // RFC 7112 section 5: a first fragment without the whole header chain is discarded, with code 3.
            stats.in_hdr_errors.inc();
            let mut walk = walk;
            walk.headers.push(&bytes);
            return self.parameter_problem(rx, &walk, &packet, (v6::CODE_INCOMPLETE, 0));
        }
        if fragment.offset == 0 && !fragment.more {
            // RFC 6946: an atomic fragment is handled alone.
            let next = fragment.next_header;
            let walk = Walk { next, next_at: walk.at, fragmented: true, ..walk };
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
            tos: walk.header.traffic_class,
            whole_len: u32::from(walk.header.payload_len) + HEADER_LEN as u32,
            payload: packet.into_chain(),
        };
        let Some((_, first, payload)) = self.reassemble(rx, key, piece) else { return };
        let next = first.protocol;
        let mut walk = Walk { next, fragmented: true, ..walk };
        walk.header.traffic_class |= first.ecn;
        // The whole has no fragment header any more: what names it names what follows, also where an error quotes it.
        walk.headers.set(walk.next_at, next);
        let len = u16::try_from(walk.at - HEADER_LEN + payload.len()).unwrap_or(0);
        for (at, byte) in (4..).zip(len.to_be_bytes()) {
            walk.headers.set(at, byte);
        }
        let mut whole = PacketBuffer::new(payload);
        whole.tags.largest_fragment = first.largest;
        self.after_fragment(rx, walk, whole);
    }

    /// After reassembly only destination options may stand before the transport.
    fn after_fragment(&self, rx: &Rx<'_>, mut walk: Walk, mut packet: PacketBuffer) {
        for _ in 0..MAX_EXTENSIONS {
            let step = match walk.next {
                NEXT_DESTINATION => self.options_header(rx, &mut walk, &mut packet),
                NEXT_ROUTING => self.routing_header(rx, &mut walk, &mut packet),
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

    fn deliver_ipv6(&self, rx: &Rx<'_>, walk: Walk, mut packet: PacketBuffer) {
        // RFC 6980 section 5: "Nodes MUST silently ignore the following Neighbor Discovery messages if the packets carrying
        // them include an IPv6 Fragmentation Header".
        if walk.fragmented && walk.next == PROTO_ICMPV6 {
            let discovery = |kind: u8| (v6::ROUTER_SOLICIT..=v6::REDIRECT).contains(&kind);
            let suppress = rx.topology.of_nic(rx.nic.id).ipv6.suppress_frag_ndisc;
            if suppress && packet.peek::<1>().is_some_and(|[kind]| discovery(kind)) {
                return self.shared.stats.icmp6.in_errors.inc();
            }
        }
        let info = walk.info(rx);
        if !walk.extensions.is_empty() {
            packet.tags.extensions = Some(walk.extensions.into());
        }
        let raw = self.deliver_raw(rx, &info, &packet);
        self.deliver(rx, &info, &walk.headers, packet, raw);
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
        let always = code == v6::CODE_OPTION;
        self.send_error(rx, &walk.info(rx), &walk.headers, packet, message, always);
    }
}

/// Whether a first fragment ends before the transport's header does. Extension headers are stepped over.
fn lacks_headers(mut next: u8, packet: &mut PacketBuffer) -> bool {
    let bytes = packet.to_vec_up_to(MAX_EXTENSIONS * 256);
    let mut rest = bytes.as_slice();
    loop {
        let needed = match next {
            NEXT_HOP_BY_HOP | NEXT_DESTINATION | NEXT_ROUTING => {
                let Some([following, len, ..]) = rest.first_chunk::<8>() else { return true };
                let len = (usize::from(*len) + 1) * 8;
                let Some(after) = rest.get(len..) else {
                    // What lies beyond the bytes that were looked at is there.
                    return bytes.len() == packet.len();
                };
                (next, rest) = (*following, after);
                continue;
            }
            NEXT_NONE => 0,
            PROTO_TCP => 20,
            PROTO_UDP | PROTO_ICMPV6 => 8,
            _ => 1,
        };
        return rest.len() < needed && bytes.len() == packet.len();
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

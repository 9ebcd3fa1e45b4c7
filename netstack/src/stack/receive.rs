//! Frames and IPv4 packets on their way in.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Stack;
use super::forward::Passing;
use super::input::Input;
use super::nic::Nic;
use super::packet::packet_type;
use super::topology::Topology;
use crate::buffer::PacketBuffer;
use crate::ip::fragment::{First, FragmentKey, Outcome, Piece};
use crate::ip::{Cast, IpInfo};
use crate::link::{Direction, MacAddr, NicKind};
use crate::time::Instant;
use crate::transport::packet::PacketType;
use crate::wire::ethernet::{self, Ethernet, TYPE_ARP, TYPE_IPV4, TYPE_IPV6};
use crate::wire::icmp::v4;
use crate::wire::ipv4::{HEADER_LEN, Ipv4, Malformed};
use crate::wire::ipv4_options::{Kinds, Options};

/// Where a packet came from, for everything that handles it.
#[derive(Clone, Copy)]
pub(super) struct Rx<'a> {
    pub now: Instant,
    pub topology: &'a Topology,
    pub nic: &'a Arc<Nic>,
    /// How the frame was addressed.
    pub link_cast: Cast,
    /// Whether it came over the link or is a copy of what we sent.
    pub origin: Origin,
}

/// Where a packet was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It came over the link.
    Wire,
    /// We sent it to ourselves.
    Own,
}

/// The IP headers of a packet, kept for ICMP errors and raw sockets. A plain header allocates nothing.
#[derive(Clone)]
pub(super) struct Headers {
    fixed: [u8; 60],
    fixed_len: usize,
    more: Vec<u8>,
}

impl Headers {
    pub(super) fn new(fixed: &[u8]) -> Headers {
        let mut headers =
            Headers { fixed: [0; 60], fixed_len: fixed.len().min(60), more: Vec::new() };
        let len = headers.fixed_len;
        headers.fixed[..len].copy_from_slice(&fixed[..len]);
        headers
    }

    /// The options of an IPv4 header with this host recorded. Broken ones count as none.
    fn options(&self, here: Ipv4Addr, time: u32, owns: impl Fn(Ipv4Addr) -> bool) -> Options {
        let bytes = self.fixed.get(HEADER_LEN..self.fixed_len).unwrap_or_default();
        let mut options = Options::parse(bytes).unwrap_or(Options::NONE);
        options.record(here, time, owns);
        options
    }

    /// The options before the first that is broken, and how many bytes they are. `at` lies within that one.
    fn sound_options(&self, at: usize) -> (Options, usize) {
        let bytes = self.fixed.get(HEADER_LEN..self.fixed_len).unwrap_or_default();
        let before = |end: usize| Some((Options::parse(bytes.get(..end)?)?, end));
        let most = at.saturating_sub(HEADER_LEN);
        (0..=most).rev().find_map(before).unwrap_or((Options::NONE, 0))
    }

    /// Writes options where they were read, as Linux does: what an error quotes shows this host in them.
    fn note(&mut self, options: &Options, len: usize) {
        let noted = options.as_slice().get(..len).unwrap_or_default();
        if let Some(place) = self.fixed.get_mut(HEADER_LEN..HEADER_LEN + noted.len()) {
            place.copy_from_slice(noted);
        }
    }

    pub(super) fn push(&mut self, extension: &[u8]) {
        self.more.extend_from_slice(extension);
    }

    /// Changes one byte, counted from the start of the fixed header.
    pub(super) fn set(&mut self, at: usize, byte: u8) {
        let more = at.checked_sub(self.fixed_len).and_then(|at| self.more.get_mut(at));
        if let Some(place) = more.or_else(|| self.fixed.get_mut(at)) {
            *place = byte;
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        [&self.fixed[..self.fixed_len], &self.more].concat()
    }

    /// The headers and what follows, at most `max` bytes: what an ICMP error quotes.
    pub(super) fn quote(&self, packet: &PacketBuffer, max: usize) -> Vec<u8> {
        let mut quoted = self.to_vec();
        quoted.truncate(max);
        quoted.extend(packet.to_vec_up_to(max - quoted.len()));
        quoted
    }
}

impl Stack {
    /// Lets a frame pass the link's filter where it has one; calls `receive` for each frame that comes in then.
    pub(super) fn filter(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        frame: PacketBuffer,
        receive: &mut dyn FnMut(PacketBuffer),
    ) {
        if nic.capabilities.filters_received {
            nic.link.filter_received(now, frame, &mut |frame| {
                if self.admit(now, nic, &frame) {
                    receive(frame);
                }
            });
            self.schedule(nic.link.next_deadline());
        } else if self.admit(now, nic, &frame) {
            receive(frame);
        }
    }

    /// Counts a frame that came over the link and shows it to the taps; false where the interface is down.
    pub(super) fn admit(&self, now: Instant, nic: &Nic, frame: &PacketBuffer) -> bool {
        if !nic.is_up() {
            nic.stats.rx_dropped.inc();
            return false;
        }
        nic.stats.rx_packets.inc();
        nic.stats.rx_bytes.add(frame.len() as u64);
        self.tap(now, nic, Direction::Received, frame);
        true
    }

    /// Handles a frame that was admitted, or several that became one.
    pub(super) fn receive(
        &self,
        now: Instant,
        (topology, nic): (&Topology, &Arc<Nic>),
        mut frame: PacketBuffer,
    ) {
        if nic.kind == NicKind::Loopback {
            let (link_cast, origin) = (Cast::Unicast, Origin::Own);
            let rx = Rx { now, topology, nic, link_cast, origin };
            return self.receive_ip(&rx, frame);
        }
        let Some(header) = frame.peek::<{ ethernet::HEADER_LEN }>() else {
            nic.stats.rx_errors.inc();
            return;
        };
        let header = Ethernet::parse(&header);
        self.show(now, nic, (packet_type(nic, header.dst), None), &frame);
        let link_cast = match header.dst {
            MacAddr::BROADCAST => Cast::Broadcast,
            dst if dst.is_multicast() => Cast::Multicast,
            dst if dst == nic.mac => Cast::Unicast,
            _ => {
                nic.stats.rx_other_host.inc();
                return;
            }
        };
        if link_cast == Cast::Multicast {
            nic.stats.rx_multicast.inc();
        }
        frame.advance(ethernet::HEADER_LEN);
        let rx = Rx { now, topology, nic, link_cast, origin: Origin::Wire };
        match header.ethertype {
            TYPE_IPV4 => self.receive_ipv4(&rx, frame),
            TYPE_IPV6 => self.receive_ipv6(&rx, frame),
            TYPE_ARP => self.receive_arp(now, topology, nic, frame),
            _ => nic.stats.rx_dropped.inc(),
        }
    }

    /// Handles a packet that we sent to ourselves.
    pub(super) fn receive_looped(
        &self,
        now: Instant,
        topology: &Topology,
        nic: &Arc<Nic>,
        packet: PacketBuffer,
    ) {
        if nic.is_loopback() {
            nic.stats.rx_packets.inc();
            nic.stats.rx_bytes.add(packet.len() as u64);
            self.show(now, nic, (PacketType::Host, None), &packet);
        }
        let (link_cast, origin) = (Cast::Unicast, Origin::Own);
        let rx = Rx { now, topology, nic, link_cast, origin };
        self.receive_ip(&rx, packet);
    }

    fn receive_ip(&self, rx: &Rx<'_>, mut packet: PacketBuffer) {
        match packet.peek::<1>() {
            Some([first]) if first >> 4 == 4 => self.receive_ipv4(rx, packet),
            Some([first]) if first >> 4 == 6 => self.receive_ipv6(rx, packet),
            _ => rx.nic.stats.rx_errors.inc(),
        }
    }

    /// Handles an IPv4 packet.
    fn receive_ipv4(&self, rx: &Rx<'_>, mut packet: PacketBuffer) {
        let stats = &self.shared.stats.ip;
        stats.in_receives.inc();
        let available = packet.len();
        stats.in_octets.add(available as u64);
        let header_len = packet.peek::<1>().and_then(|[first]| Ipv4::header_len(first));
        let Some(bytes) = header_len.and_then(|len| packet.pull(len)) else {
            stats.in_hdr_errors.inc();
            return;
        };
        let header = match Ipv4::parse(bytes, available) {
            Ok(header) => header,
            Err(Malformed::Truncated) => return stats.in_truncated_pkts.inc(),
            Err(Malformed::Header) => return stats.in_hdr_errors.inc(),
            Err(Malformed::Checksum) => {
                stats.in_csum_errors.inc();
                return stats.in_hdr_errors.inc();
            }
        };
        stats.count_ecn(header.tos);
        let mut headers = Headers::new(bytes);
        let options = Options::check(bytes.get(HEADER_LEN..).unwrap_or_default());
        packet.truncate(usize::from(header.total_len));
        match options {
            Ok(Kinds::Harmless) => {}
            // RFC 7126 section 4.3: packets with source routes are dropped (`accept_source_route` = 0: this stack follows none).
            Ok(Kinds::SourceRoute) => return stats.in_hdr_errors.inc(),
            Err(at) => {
                stats.in_hdr_errors.inc();
                return self.bad_option(rx, (&header, &headers), packet, HEADER_LEN + at);
            }
        }
        let multicast = rx.link_cast != Cast::Unicast && !header.dst.is_multicast();
        if multicast && rx.drops_unicast_in_multicast(&header) {
            return stats.in_discards.inc();
        }
        match self.input_v4(rx, &header, &packet) {
            Input::Local(cast) => {
                stats.count_cast(cast, available);
                match header.is_fragment() {
                    true => self.reassemble_v4(rx, cast, &header, &headers, packet),
                    false => self.deliver_ipv4(rx, cast, &header, &mut headers, packet),
                }
            }
            Input::Forward(onward) => self.forward_v4(rx, (&header, &headers), &onward, packet),
            Input::Refused(refusal) => {
                packet.advance(usize::from(header.header_len));
                let info = info_of(rx, Cast::Unicast, &header, Options::NONE);
                let passing = Passing { info: &info, headers: &headers, rest: &packet };
                self.no_way_on(rx, &passing, refusal);
            }
            Input::Dropped => {}
        }
    }

    /// Tells the sender where its options are broken (RFC 1122 section 3.2.2.5).
    fn bad_option(
        &self,
        rx: &Rx<'_>,
        (header, headers): (&Ipv4, &Headers),
        mut packet: PacketBuffer,
        at: usize,
    ) {
        packet.advance(usize::from(header.header_len));
        let (mut options, len) = headers.sound_options(at);
        let owns = |at: Ipv4Addr| rx.topology.is_local(at.into());
        options.record(header.dst, self.time_of_day(rx.now), owns);
        let mut headers = headers.clone();
        headers.note(&options, len);
        let info = info_of(rx, rx.link_cast, header, options);
        let pointer = u8::try_from(at).unwrap_or(u8::MAX);
        let message = (v4::PARAMETER_PROBLEM, 0, [pointer, 0, 0, 0]);
        self.send_error(rx, &info, &headers, &packet, message, false);
    }

    fn reassemble_v4(
        &self,
        rx: &Rx<'_>,
        cast: Cast,
        header: &Ipv4,
        headers: &Headers,
        mut packet: PacketBuffer,
    ) {
        let key = FragmentKey {
            src: header.src.into(),
            dst: header.dst.into(),
            ident: u32::from(header.ident),
            protocol: header.protocol,
            nic: rx.nic.id,
        };
        packet.advance(usize::from(header.header_len));
        let piece = Piece {
            offset: u32::from(header.fragment_offset),
            more: header.more_fragments,
            header: headers.to_vec(),
            protocol: header.protocol,
            tos: header.tos,
            whole_len: u32::from(header.total_len),
            payload: packet.into_chain(),
        };
        let Some((first, tos, payload)) = self.reassemble(rx, key, piece) else { return };
        let Some(mut whole) = Ipv4::parse_quoted(&first) else { return };
        whole.tos |= tos.ecn;
        let total = payload.len() + HEADER_LEN;
        let Ok(total_len) = u16::try_from(total) else {
            return self.shared.stats.ip.reasm_fails.inc();
        };
        // The options of the first fragment have been looked at; the datagram goes on without them.
        whole.header_len = HEADER_LEN as u8;
        whole.total_len = total_len;
        whole.more_fragments = false;
        whole.fragment_offset = 0;
        let mut packet = PacketBuffer::new(payload);
        packet.tags.largest_fragment = tos.largest;
        let mut bytes = [0; HEADER_LEN];
        whole.emit(&mut bytes);
        packet.prepend_slice(&bytes);
        self.deliver_ipv4(rx, cast, &whole, &mut Headers::new(&bytes), packet);
    }

    /// Adds a fragment; gives the datagram when it is whole.
    pub(super) fn reassemble(
        &self,
        rx: &Rx<'_>,
        key: FragmentKey,
        piece: Piece,
    ) -> Option<(Vec<u8>, First, crate::buffer::Chain)> {
        let stats = self.ip_stats(key.dst);
        stats.reasm_reqds.inc();
        let mut table = self.reassembly.lock();
        let outcome = table.add(rx.now, &rx.topology.tunables().ip, (key, piece));
        let deadline = table.next_deadline();
        drop(table);
        self.schedule(deadline);
        match outcome {
            Outcome::Waiting => None,
            Outcome::Complete { header, first, payload } => {
                stats.reasm_oks.inc();
                Some((header, first, payload))
            }
            Outcome::Duplicate => None,
            Outcome::Overlap => {
                stats.reasm_overlaps.inc();
                stats.reasm_fails.inc();
                None
            }
            Outcome::Invalid => {
                stats.reasm_fails.inc();
                None
            }
        }
    }

    /// Gives a whole IPv4 packet to raw sockets and its transport.
    fn deliver_ipv4(
        &self,
        rx: &Rx<'_>,
        cast: Cast,
        header: &Ipv4,
        headers: &mut Headers,
        mut packet: PacketBuffer,
    ) {
        let mut options = Options::NONE;
        if usize::from(header.header_len) > HEADER_LEN {
            let owns = |at: Ipv4Addr| rx.topology.is_local(at.into());
            options = headers.options(header.dst, self.time_of_day(rx.now), owns);
            headers.note(&options, options.len());
        }
        let info = info_of(rx, cast, header, options);
        let raw = self.deliver_raw(rx, &info, &packet);
        packet.advance(usize::from(header.header_len));
        self.deliver(rx, &info, headers, packet, raw);
    }
}

/// What endpoints are told of a packet.
fn info_of(rx: &Rx<'_>, cast: Cast, header: &Ipv4, options: Options) -> IpInfo {
    IpInfo {
        src: IpAddr::V4(header.src),
        dst: IpAddr::V4(header.dst),
        protocol: header.protocol,
        ttl: header.ttl,
        tos: header.tos,
        flow_info: 0,
        nic: rx.nic.id,
        cast,
        options,
    }
}

impl Rx<'_> {
    /// RFC 1122 section 3.3.6: "a host SHOULD silently discard a datagram that is received via a link-layer broadcast ... but
    /// does not specify an IP multicast or broadcast destination address"; on Linux a tunable.
    fn drops_unicast_in_multicast(&self, header: &Ipv4) -> bool {
        let drop = self.topology.of_nic(self.nic.id).ipv4.drop_unicast_in_l2_multicast
            || self.topology.tunables().ipv4_all.drop_unicast_in_l2_multicast;
        drop && !self.topology.is_broadcast(self.nic.id, header.dst)
    }
}

//! Packets that go on to another link: Linux's `ip_forward` and `ip6_forward` (RFC 1812, RFC 8200).

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Stack;
use super::input::Onward;
use super::nic::Nic;
use super::offload::gso;
use super::receive::{Headers, Rx};
use crate::buffer::PacketBuffer;
use crate::ip::tables::Refusal;
use crate::ip::{Cast, IpInfo, RouteInfo};
use crate::wire::checksum;
use crate::wire::icmp::{v4, v6};
use crate::wire::ipv4::{HEADER_LEN, Ipv4};
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6::{self, Ipv6};

/// A packet with its header read, as an error about it needs it.
pub(super) struct Passing<'a> {
    pub info: &'a IpInfo,
    pub headers: &'a Headers,
    /// What follows the headers.
    pub rest: &'a PacketBuffer,
}

impl Stack {
    /// Passes an IPv4 packet on, header included.
    pub(super) fn forward_v4(
        &self,
        rx: &Rx<'_>,
        (header, headers): (&Ipv4, &Headers),
        onward: &Onward,
        mut packet: PacketBuffer,
    ) {
        let stats = &self.shared.stats.ip;
        let Some(out) = rx.topology.nic(onward.nic) else { return stats.in_discards.inc() };
        let longest = gso::longest(&mut packet, 0).unwrap_or(packet.len());
        let info = plain_info(rx, (header.src.into(), header.dst.into()), header.protocol);
        let info = IpInfo { tos: header.tos, ttl: header.ttl, ..info };
        let mut rest = packet.clone();
        rest.advance(usize::from(header.header_len));
        let passing = Passing { info: &info, headers, rest: &rest };
        // RFC 1812 section 5.3.1: "If the TTL is reduced to zero (or less), the packet MUST be discarded, and if the
        // destination is not a multicast address the router MUST send an ICMP Time Exceeded message".
        if header.ttl <= 1 {
            stats.in_hdr_errors.inc();
            return self.refuse(rx, &passing, (v4::TIME_EXCEEDED, 0, [0; 4]));
        }
        let route = self.onward_route(rx, out, &info, onward);
        let too_big = longest > route.mtu as usize;
        if too_big && header.dont_fragment {
            stats.frag_fails.inc();
            let mtu = u16::try_from(route.mtu).unwrap_or(u16::MAX).to_be_bytes();
            let rest = [0, 0, mtu[0], mtu[1]];
            return self.refuse(rx, &passing, (v4::UNREACHABLE, v4::CODE_FRAGMENTATION, rest));
        }
        if too_big && packet.offload.gso.is_some() {
            return self.forward_segments(rx, onward, packet);
        }
        if onward.nic == rx.nic.id {
            self.redirect_v4(rx, &passing, onward);
        }
        stats.forw_datagrams.inc();
        let mut bytes = headers.to_vec();
        let mut options = Options::parse(bytes.get(HEADER_LEN..).unwrap_or_default());
        if let Some(options) = options.as_mut().filter(|options| !options.is_empty())
            && let Some(here) = self.address_towards(rx, out)
        {
            options.record(here, self.time_of_day(rx.now), |at| rx.topology.is_local(at.into()));
            bytes.truncate(HEADER_LEN);
            bytes.extend_from_slice(options.as_slice());
        }
        if let Some(ttl) = bytes.get_mut(8) {
            *ttl -= 1;
        }
        let pieces = match too_big {
            true => cut(&bytes, header, rest, route.mtu as usize),
            false => vec![whole(bytes, rest)],
        };
        if too_big {
            stats.frag_oks.inc();
            stats.frag_creates.add(pieces.len() as u64);
        }
        for piece in pieces {
            if self.emit(rx.now, out, &route, piece).is_err() {
                return stats.out_discards.inc();
            }
        }
    }

    /// Passes the packets of an IPv4 train on one by one: each must be cut into fragments.
    fn forward_segments(&self, rx: &Rx<'_>, onward: &Onward, train: PacketBuffer) {
        let Some(segments) = gso::Segments::of(train, 0) else {
            return self.shared.stats.ip.in_discards.inc();
        };
        for mut segment in segments {
            let header_len = segment.peek::<1>().and_then(|[first]| Ipv4::header_len(first));
            let Some(bytes) = header_len.and_then(|len| segment.pull(len)) else { continue };
            let Some(header) = Ipv4::parse_quoted(bytes) else { continue };
            let headers = Headers::new(bytes);
            self.forward_v4(rx, (&header, &headers), onward, segment);
        }
    }

    /// Passes an IPv6 packet on; `packet` begins after the fixed header.
    pub(super) fn forward_v6(
        &self,
        rx: &Rx<'_>,
        (header, headers): (&Ipv6, &Headers),
        onward: &Onward,
        mut packet: PacketBuffer,
    ) {
        let stats = &self.shared.stats.ip6;
        let Some(out) = rx.topology.nic(onward.nic) else { return stats.in_discards.inc() };
        let longest = gso::longest(&mut packet, 0).unwrap_or(packet.len());
        let info = plain_info(rx, (header.src.into(), header.dst.into()), header.next_header);
        let info = IpInfo { tos: header.traffic_class, ttl: header.hop_limit, ..info };
        let passing = Passing { info: &info, headers, rest: &packet };
        if header.hop_limit <= 1 {
            stats.in_hdr_errors.inc();
            return self.refuse(rx, &passing, (v6::TIME_EXCEEDED, 0, [0; 4]));
        }
        if header.src.is_unspecified() {
            return stats.in_addr_errors.inc();
        }
        // RFC 4291 section 2.5.6: "Routers must not forward any packets with Link-Local source or destination addresses to
        // other links"; RFC 4443 section 3.1 has the code for it.
        if header.src.is_unicast_link_local() && onward.nic != rx.nic.id {
            stats.in_addr_errors.inc();
            return self.refuse(rx, &passing, (v6::UNREACHABLE, v6::CODE_BEYOND_SCOPE, [0; 4]));
        }
        let route = self.onward_route(rx, out, &info, onward);
        let longest = longest + ipv6::HEADER_LEN;
        if longest > route.mtu as usize {
            stats.in_too_big_errors.inc();
            stats.frag_fails.inc();
            return self.refuse(rx, &passing, (v6::TOO_BIG, 0, route.mtu.to_be_bytes()));
        }
        if onward.nic == rx.nic.id {
            self.redirect_v6(rx, &passing, onward);
        }
        stats.forw_datagrams.inc();
        Ipv6 { hop_limit: header.hop_limit - 1, ..*header }.emit(packet.prepend());
        if self.emit(rx.now, out, &route, packet).is_err() {
            stats.out_discards.inc();
        }
    }

    /// Tells the sender that no route leads on.
    pub(super) fn no_way_on(&self, rx: &Rx<'_>, passing: &Passing<'_>, refusal: Refusal) {
        self.ip_stats(passing.info.dst).in_no_routes.inc();
        let code = match (passing.info.dst, refusal) {
            (_, Refusal::Blackhole) => return,
            (IpAddr::V4(_), Refusal::NoRoute | Refusal::Unreachable) => 0,
            (IpAddr::V4(_), Refusal::HostUnreachable) => v4::CODE_HOST,
            (IpAddr::V4(_), Refusal::Prohibited) => v4::CODE_PROHIBITED,
            (IpAddr::V6(_), Refusal::Prohibited) => v6::CODE_PROHIBITED,
            (IpAddr::V6(_), _) => 0,
        };
        let kind = match passing.info.dst {
            IpAddr::V4(_) => v4::UNREACHABLE,
            IpAddr::V6(_) => v6::UNREACHABLE,
        };
        self.refuse(rx, passing, (kind, code, [0; 4]));
    }

    fn refuse(&self, rx: &Rx<'_>, passing: &Passing<'_>, message: (u8, u8, [u8; 4])) {
        self.send_error(rx, passing.info, passing.headers, passing.rest, message, false);
    }

    /// The way on as the sending side wants it.
    fn onward_route(&self, rx: &Rx<'_>, out: &Nic, info: &IpInfo, onward: &Onward) -> RouteInfo {
        let link_mtu = if info.dst.is_ipv4() { out.mtu() } else { out.mtu_v6() };
        let mut mtu = match onward.metrics.mtu {
            0 => link_mtu,
            told => told.min(link_mtu),
        };
        if rx.topology.tunables().ip.ip_forward_use_pmtu {
            mtu = self.path_mtus.mtu(rx.now, info.dst, mtu);
        }
        RouteInfo {
            src: info.src,
            dst: info.dst,
            next_hop: onward.next_hop,
            nic: out.id,
            mtu,
            link_mtu,
            max_gso: out.max_gso(),
            cast: super::route::cast_of(rx.topology, out, info.dst),
            holds_back: false,
            metrics: onward.metrics,
        }
    }

    /// The address of ours on an interface, for options that record it.
    fn address_towards(&self, rx: &Rx<'_>, out: &Arc<Nic>) -> Option<Ipv4Addr> {
        let near = Ipv4Addr::UNSPECIFIED;
        match rx.topology.select_v4(out.id, near, crate::ip::route::Scope::UNIVERSE) {
            Some(IpAddr::V4(here)) => Some(here),
            _ => None,
        }
    }
}

fn plain_info(rx: &Rx<'_>, (src, dst): (IpAddr, IpAddr), protocol: u8) -> IpInfo {
    let (nic, cast, options) = (rx.nic.id, Cast::Unicast, Options::NONE);
    IpInfo { src, dst, protocol, ttl: 0, tos: 0, flow_info: 0, nic, cast, options }
}

/// Puts a header whose fields changed before its packet.
fn whole(mut header: Vec<u8>, mut rest: PacketBuffer) -> PacketBuffer {
    seal(&mut header);
    rest.prepend_slice(&header);
    rest
}

/// Writes the checksum of an IPv4 header.
fn seal(header: &mut [u8]) {
    if let Some(sum) = header.get_mut(10..12) {
        sum.fill(0);
    }
    let sum = checksum::of(header).to_be_bytes();
    if let Some(place) = header.get_mut(10..12) {
        place.copy_from_slice(&sum);
    }
}

/// Cuts a packet, which may itself be a fragment, into fragments that fit.
fn cut(bytes: &[u8], header: &Ipv4, mut rest: PacketBuffer, mtu: usize) -> Vec<PacketBuffer> {
    rest.complete_checksum();
    let mut rest = rest.into_chain();
    let first =
        Options::parse(bytes.get(HEADER_LEN..).unwrap_or_default()).unwrap_or(Options::NONE);
    let mut pieces = Vec::new();
    let mut at = 0;
    while !rest.is_empty() {
        let options = if at == 0 { first } else { first.of_later_fragments() };
        let mut head = bytes.get(..HEADER_LEN).unwrap_or_default().to_vec();
        head.extend_from_slice(options.as_slice());
        // An MTU of less than 68 does not exist.
        let room = (mtu.saturating_sub(head.len()) & !7).max(8);
        let part = rest.split_to(room.min(rest.len()));
        let more = header.more_fragments || !rest.is_empty();
        let offset = u32::from(header.fragment_offset) + at as u32;
        let flags = u16::from(more) << 13 | (offset >> 3) as u16 & 0x1fff;
        let total = (head.len() + part.len()) as u16;
        head[0] = 0x40 | (head.len() / 4) as u8;
        head[2..4].copy_from_slice(&total.to_be_bytes());
        head[6..8].copy_from_slice(&flags.to_be_bytes());
        at += part.len();
        pieces.push(whole(head, PacketBuffer::new(part)));
    }
    pieces
}

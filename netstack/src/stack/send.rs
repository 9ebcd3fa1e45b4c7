//! Packets on their way out: IP headers, fragments, and the frame on the link.

use core::net::IpAddr;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use super::offload::gso;
use super::packet::with_loopback_header;
use super::topology::Topology;
use crate::buffer::{Chain, ChecksumOffload, PacketBuffer, Step};
use crate::ip::{
    Cast, Family, Fragment, IpError, IpMeta, IpOutput, KeptPath, LinkInfo, PROTO_TCP, RouteInfo,
    RouteQuery, SourceFilter, Unmade,
};
use crate::link::{ChecksumSupport, Direction, LinkError, MacAddr, NicId, NicKind};
use crate::stats::IpStats;
use crate::time::Instant;
use crate::transport::packet::{PacketType, Place as PacketPlace};
use crate::wire::ethernet::{self, Ethernet, TYPE_IPV4, TYPE_IPV6};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv4_options::Options;
use crate::wire::ipv6::{self, FragmentHeader, Ipv6, NEXT_FRAGMENT, NEXT_HOP_BY_HOP};

/// How many packets may wait on the loopback interface (they are handled at once; this bounds a storm).
const MAX_LOOPED: usize = 16_384;
/// The largest IP packet.
const MAX_PACKET: usize = 65_535;

impl IpOutput for Stack {
    fn route(&self, now: Instant, query: &RouteQuery) -> Result<RouteInfo, IpError> {
        let found = self.cached_route(now, query);
        found.inspect_err(|error| self.count_unroutable(query.dst, error))
    }

    fn route_again(
        &self,
        now: Instant,
        query: &RouteQuery,
        kept: &mut Option<Box<KeptPath>>,
    ) -> Result<RouteInfo, IpError> {
        let found = self.kept_route(now, query, kept);
        found.inspect_err(|error| self.count_unroutable(query.dst, error))
    }

    fn send(
        &self,
        now: Instant,
        route: &RouteInfo,
        meta: &IpMeta,
        packet: PacketBuffer,
    ) -> Result<(), IpError> {
        let sent = self.send_payload(now, route, meta, packet);
        self.drain_looped(now);
        sent
    }

    fn send_with_header(
        &self,
        now: Instant,
        route: &RouteInfo,
        packet: PacketBuffer,
    ) -> Result<(), IpError> {
        if packet.len() > route.link_mtu as usize {
            return Err(IpError::MessageTooLong { mtu: route.link_mtu });
        }
        let topology = self.topology();
        let nic = topology.nic(route.nic).ok_or(IpError::NetworkUnreachable)?;
        self.ip_stats(route.dst).out_requests.inc();
        let sent = self.emit(now, nic, route, packet);
        self.drain_looped(now);
        sent
    }

    fn link(&self, nic: NicId) -> Option<LinkInfo> {
        self.link_info(nic)
    }

    fn send_frame(
        &self,
        now: Instant,
        nic: NicId,
        frame: PacketBuffer,
        sender: Option<u64>,
    ) -> Result<(), IpError> {
        self.transmit_frame(now, nic, frame, sender)
    }

    fn busy_until(&self, now: Instant, route: &RouteInfo, stream: u32) -> Option<Instant> {
        self.topology().nic(route.nic).and_then(|nic| nic.link.busy_until(now, stream))
    }

    fn confirm(&self, now: Instant, route: &RouteInfo) {
        let topology = self.topology();
        if let Some(nic) = topology.nic(route.nic).filter(|nic| !nic.is_loopback()) {
            nic.neighbours.lock().confirm(now, route.next_hop);
        }
    }

    fn unwatched(&self) -> Option<u64> {
        self.unwatched()
    }

    fn stays_inside(&self, route: &RouteInfo) -> bool {
        self.stays_inside(route)
    }

    fn count_unmade(&self, nic: NicId, unmade: &Unmade) {
        self.count_unmade(nic, unmade);
    }

    fn is_local(&self, address: IpAddr) -> bool {
        self.topology().is_local(address)
    }

    fn may_bind(&self, address: IpAddr) -> bool {
        let topology = self.topology();
        let broadcast = |dst| topology.nics().any(|nic| topology.is_broadcast(nic.id, dst));
        let conf = &topology.tunables().ip;
        match address {
            IpAddr::V4(dst) if conf.ip_nonlocal_bind || broadcast(dst) => true,
            IpAddr::V6(_) if conf.ip6_nonlocal_bind => true,
            _ => topology.is_local(address),
        }
    }

    fn change_membership(
        &self,
        now: Instant,
        at: (IpAddr, Option<NicId>),
        change: (Option<&SourceFilter>, Option<&SourceFilter>),
    ) -> Result<NicId, IpError> {
        self.change_groups(now, at, change)
    }
}

/// Takes the hop-by-hop options from the front of a packet that is to be cut up; empty where there are none.
fn take_hop_by_hop(meta: &IpMeta, packet: &mut PacketBuffer) -> Vec<u8> {
    if meta.protocol != NEXT_HOP_BY_HOP {
        return Vec::new();
    }
    let len = packet.peek::<2>().map_or(0, |[_, len]| (usize::from(len) + 1) * 8);
    let options = packet.to_vec_up_to(len);
    packet.advance(options.len());
    options
}

impl Stack {
    /// Puts an IPv4 header before a packet, with options in which this host is recorded.
    fn emit_v4(
        &self,
        now: Instant,
        header: &Ipv4,
        mut options: Options,
        packet: &mut PacketBuffer,
    ) {
        if options.is_empty() {
            return header.emit(packet.prepend());
        }
        let topology = self.topology();
        let owns = |at: core::net::Ipv4Addr| topology.is_local(at.into());
        options.stamp(header.src, self.time_of_day(now), owns);
        let (len, bytes) = header.with_options(&options);
        packet.prepend_slice(&bytes[..len]);
    }

    fn count_unroutable(&self, dst: IpAddr, error: &IpError) {
        if matches!(error, IpError::NetworkUnreachable) {
            self.ip_stats(dst).out_no_routes.inc();
        }
    }

    /// The counters of a family.
    pub(super) fn ip_stats(&self, address: IpAddr) -> &IpStats {
        match address {
            IpAddr::V4(_) => &self.shared.stats.ip,
            IpAddr::V6(_) => &self.shared.stats.ip6,
        }
    }

    /// As `send`, without handling what came back over loopback: for use while a frame is being handled.
    pub(super) fn send_payload(
        &self,
        now: Instant,
        route: &RouteInfo,
        meta: &IpMeta,
        mut packet: PacketBuffer,
    ) -> Result<(), IpError> {
        let topology = self.topology();
        let nic = topology.nic(route.nic).ok_or(IpError::NetworkUnreachable)?;
        let stats = self.ip_stats(route.dst);
        stats.out_requests.inc();
        let train = packet.offload.gso.is_some();
        if !train && meta.protocol != PROTO_TCP && !nic.is_loopback() {
            // Messages are small: their sum costs little, and an ICMP error that quotes one then quotes it with its sum.
            packet.complete_checksum();
        }
        let header_len = match route.dst {
            IpAddr::V4(_) => ipv4::HEADER_LEN + meta.options.len(),
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        };
        let total = packet.len() + header_len;
        let payload_bound = if route.dst.is_ipv4() { total } else { packet.len() };
        if payload_bound > MAX_PACKET {
            return Err(IpError::MessageTooLong { mtu: route.mtu });
        }
        let mtu = if meta.fragment == Fragment::Probe { route.link_mtu } else { route.mtu };
        if total <= mtu as usize || train {
            self.add_header(now, &topology, (route, meta), &mut packet);
            return self.emit_looping(now, &topology, nic, (route, meta), packet);
        }
        if !matches!(meta.fragment, Fragment::Allow | Fragment::Anywhere) {
            stats.frag_fails.inc();
            return Err(IpError::MessageTooLong { mtu });
        }
        self.send_fragments(now, (&topology, nic), (route, meta), packet)
    }

    /// Cuts a packet into fragments that fit the path and sends them.
    fn send_fragments(
        &self,
        now: Instant,
        (topology, nic): (&Topology, &Arc<Nic>),
        (route, meta): (&RouteInfo, &IpMeta),
        mut packet: PacketBuffer,
    ) -> Result<(), IpError> {
        let stats = self.ip_stats(route.dst);
        packet.complete_checksum();
        let overhead = match route.dst {
            IpAddr::V4(_) => ipv4::HEADER_LEN + meta.options.len(),
            IpAddr::V6(_) => ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN,
        };
        let ident = self.next_ident(route, meta.protocol, 1);
        let hop_by_hop = take_hop_by_hop(meta, &mut packet);
        let overhead = overhead + hop_by_hop.len();
        let room = (route.mtu as usize).saturating_sub(overhead) & !7;
        if room == 0 {
            stats.frag_fails.inc();
            return Err(IpError::MessageTooLong { mtu: route.mtu });
        }
        let mut tags = core::mem::take(&mut packet.tags);
        let mut rest = packet.into_chain();
        let mut offset = 0;
        while !rest.is_empty() {
            let part = rest.split_to(room);
            let len = part.len();
            let place = Place { ident, offset, more: !rest.is_empty() };
            let parts = (hop_by_hop.as_slice(), part);
            let mut fragment = self.fragment(now, topology, (route, meta), parts, place);
            fragment.tags = tags.of_piece();
            offset += len;
            stats.frag_creates.inc();
            self.emit_looping(now, topology, nic, (route, meta), fragment)?;
        }
        stats.frag_oks.inc();
        Ok(())
    }

    /// One fragment with its headers.
    fn fragment(
        &self,
        now: Instant,
        topology: &Topology,
        (route, meta): (&RouteInfo, &IpMeta),
        (hop_by_hop, part): (&[u8], Chain),
        place: Place,
    ) -> PacketBuffer {
        let mut packet = PacketBuffer::new(part);
        match (route.src, route.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let options = match place.offset {
                    0 => meta.options,
                    _ => meta.options.of_later_fragments(),
                };
                let header_len = ipv4::HEADER_LEN + options.len();
                let header = Ipv4 {
                    header_len: header_len as u8,
                    tos: meta.tos,
                    total_len: (packet.len() + header_len) as u16,
                    ident: place.ident as u16,
                    dont_fragment: false,
                    more_fragments: place.more,
                    fragment_offset: place.offset as u16,
                    ttl: topology.ttl(route, meta),
                    protocol: meta.protocol,
                    src,
                    dst,
                };
                self.emit_v4(now, &header, options, &mut packet);
            }
            _ => {
                let header = FragmentHeader {
                    next_header: hop_by_hop.first().copied().unwrap_or(meta.protocol),
                    offset: place.offset as u16,
                    more: place.more,
                    ident: place.ident,
                };
                header.emit(packet.prepend());
                // RFC 8200 section 4.5: hop-by-hop options are in each fragment, before its fragment header.
                let first = match hop_by_hop.split_first() {
                    Some((_, options)) => {
                        packet.prepend_slice(options);
                        *packet.prepend::<1>() = [NEXT_FRAGMENT];
                        NEXT_HOP_BY_HOP
                    }
                    None => NEXT_FRAGMENT,
                };
                let meta = IpMeta { protocol: first, ..*meta };
                self.add_header(now, topology, (route, &meta), &mut packet);
            }
        }
        packet
    }

    /// Puts the IP header before a packet.
    pub(super) fn add_header(
        &self,
        now: Instant,
        topology: &Topology,
        (route, meta): (&RouteInfo, &IpMeta),
        packet: &mut PacketBuffer,
    ) {
        let ttl = topology.ttl(route, meta);
        match (route.src, route.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let dont_fragment = meta.fragment != Fragment::Anywhere;
                // RFC 6864 section 4: the identification of an atomic datagram may have any value.
                let pieces = packet.offload.gso.map_or(1, |gso| {
                    u32::try_from(packet.len().div_ceil(usize::from(gso.size.max(1)))).unwrap_or(1)
                });
                let ident = match dont_fragment {
                    true => 0,
                    false => self.next_ident(route, meta.protocol, pieces),
                };
                let header_len = ipv4::HEADER_LEN + meta.options.len();
                let header = Ipv4 {
                    header_len: header_len as u8,
                    tos: meta.tos,
                    total_len: (packet.len() + header_len) as u16,
                    ident: ident as u16,
                    dont_fragment,
                    more_fragments: false,
                    fragment_offset: 0,
                    ttl,
                    protocol: meta.protocol,
                    src,
                    dst,
                };
                self.emit_v4(now, &header, meta.options, packet);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6 {
                    traffic_class: meta.tos,
                    flow_label: meta.flow_label,
                    payload_len: packet.len() as u16,
                    next_header: meta.protocol,
                    hop_limit: ttl,
                    src,
                    dst,
                };
                header.emit(packet.prepend());
            }
            // A route never mixes families: `find_route` refuses it.
            _ => {}
        }
    }

    /// The first of the next `count` identifications between two addresses: counters behind a keyed hash, so that one pair tells
    /// nothing of another (RFC 7739 section 5.3).
    fn next_ident(&self, route: &RouteInfo, protocol: u8, count: u32) -> u32 {
        let hash = self.ident_key.hash_one((route.src, route.dst, protocol));
        let counter = &self.idents[(hash >> 58) as usize % self.idents.len()];
        (hash as u32).wrapping_add(counter.fetch_add(count, Ordering::Relaxed))
    }

    /// Emits a packet, and gives our own members of a group or receivers of a broadcast a copy.
    fn emit_looping(
        &self,
        now: Instant,
        topology: &Topology,
        nic: &Arc<Nic>,
        (route, meta): (&RouteInfo, &IpMeta),
        packet: PacketBuffer,
    ) -> Result<(), IpError> {
        let to_us = match (route.cast, route.dst) {
            (Cast::Unicast, _) => false,
            (_, IpAddr::V4(dst)) => topology.accepts_v4(nic, dst).is_some(),
            (_, IpAddr::V6(dst)) => topology.accepts_v6(nic, dst).is_some(),
        };
        let loops = route.cast == Cast::Broadcast || meta.multicast_loop;
        if to_us && loops && !nic.is_loopback() && !route.src.is_unspecified() {
            self.loop_back(nic, packet.clone());
        }
        self.emit(now, nic, route, packet)
    }

    /// Sends an IP packet over an interface.
    pub(super) fn emit(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        route: &RouteInfo,
        mut packet: PacketBuffer,
    ) -> Result<(), IpError> {
        if !nic.is_up() {
            return Err(IpError::NetworkDown);
        }
        self.ip_stats(route.dst).count_departure(route.cast, packet.len());
        match (nic.kind, route.cast) {
            (NicKind::Loopback, _) => {
                self.count_sent(nic, &packet);
                self.tap(now, nic, Direction::Sent, &packet);
                self.show(now, nic, (PacketType::Outgoing, None), &packet);
                if let Some(departure) = packet.tags.departure.take() {
                    let frame = with_loopback_header(&packet);
                    departure.departs(now, Step::Scheduled, &frame);
                    departure.departs(now, Step::Sent, &frame);
                }
                self.loop_back(nic, packet);
                Ok(())
            }
            (NicKind::Ethernet, Cast::Unicast) => {
                self.send_to_neighbour(now, nic, route.next_hop, packet)
            }
            (NicKind::Ethernet, Cast::Multicast) => {
                let mac = MacAddr::of_multicast(route.dst);
                self.transmit_ip(now, nic, mac, Family::of(route.dst), &mut packet)
            }
            (NicKind::Ethernet, Cast::Broadcast) => {
                self.transmit_ip(now, nic, MacAddr::BROADCAST, Family::V4, &mut packet)
            }
        }
    }

    /// Puts the Ethernet header before an IP packet and transmits.
    pub(super) fn transmit_ip(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        dst: MacAddr,
        family: Family,
        packet: &mut PacketBuffer,
    ) -> Result<(), IpError> {
        let ethertype = match family {
            Family::V4 => TYPE_IPV4,
            Family::V6 => TYPE_IPV6,
        };
        self.transmit(now, nic, dst, ethertype, packet)
    }

    /// Puts the Ethernet header before a packet and gives the frame to the link.
    pub(super) fn transmit(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        dst: MacAddr,
        ethertype: u16,
        packet: &mut PacketBuffer,
    ) -> Result<(), IpError> {
        Ethernet { dst, src: nic.mac, ethertype }.emit(packet.prepend());
        if !nic.cuts(packet) {
            return self.transmit_one(now, nic, packet, None);
        }
        let Some(segments) = gso::Segments::of(
            core::mem::replace(packet, PacketBuffer::new(Chain::new())),
            ethernet::HEADER_LEN,
        ) else {
            nic.stats.tx_dropped.inc();
            return Err(IpError::Invalid);
        };
        let mut sent = Ok(());
        for mut segment in segments {
            // As with several packets, what a full link drops is lost, and the others go.
            sent = sent.and(self.transmit_one(now, nic, &mut segment, None));
        }
        sent
    }

    /// Gives a frame to the link that its device takes as it is; `sender` is the packet socket that made it.
    pub(super) fn transmit_one(
        &self,
        now: Instant,
        nic: &Nic,
        packet: &mut PacketBuffer,
        sender: Option<PacketPlace>,
    ) -> Result<(), IpError> {
        if nic.capabilities.checksum == ChecksumSupport::Software {
            packet.complete_checksum();
        }
        self.tap(now, nic, Direction::Sent, packet);
        self.show(now, nic, (PacketType::Outgoing, sender), packet);
        let departure = packet.tags.departure.take();
        if let Some(departure) = &departure {
            departure.departs(now, Step::Scheduled, packet);
        }
        let sent = nic.link.transmit(now, packet);
        if nic.capabilities.filters_received {
            self.schedule(nic.link.next_deadline());
        }
        match sent {
            Ok(()) => {
                if let Some(departure) = departure {
                    departure.departs(now, Step::Sent, packet);
                }
                self.count_sent(nic, packet);
                Ok(())
            }
            Err(error) => {
                nic.stats.tx_dropped.inc();
                Err(match error {
                    LinkError::Full => IpError::NoBuffers,
                    LinkError::Down => IpError::NetworkDown,
                    LinkError::TooLarge => IpError::MessageTooLong { mtu: nic.mtu() },
                })
            }
        }
    }

    pub(super) fn count_sent(&self, nic: &Nic, frame: &PacketBuffer) {
        nic.stats.tx_packets.inc();
        nic.stats.tx_bytes.add(frame.len() as u64);
    }

    /// Queues an IP packet for ourselves; `drain_looped` handles it once no lock is held.
    pub(super) fn loop_back(&self, nic: &Nic, mut packet: PacketBuffer) {
        // The packet never left our memory: its checksum needs neither computing nor checking.
        packet.offload.rx_verified = packet.offload.checksum != ChecksumOffload::None;
        let mut looped = self.looped.lock();
        if looped.len() < MAX_LOOPED {
            looped.push_back((nic.id, packet));
            self.looping.store(looped.len(), Ordering::SeqCst);
        } else {
            drop(looped);
            nic.stats.rx_dropped.inc();
        }
    }

    /// Handles the packets that we sent to ourselves, and those that they cause. One thread at a time does;
    /// a send within it only queues.
    pub(super) fn drain_looped(&self, now: Instant) {
        loop {
            // Who queues looks at `draining` after `looping`, who ends a turn the other way round: one sees the other.
            if self.looping.load(Ordering::SeqCst) == 0
                || self.draining.swap(true, Ordering::SeqCst)
            {
                return;
            }
            loop {
                let mut looped = self.looped.lock();
                let next = looped.pop_front();
                self.looping.store(looped.len(), Ordering::SeqCst);
                drop(looped);
                let Some((nic, packet)) = next else { break };
                let topology = self.topology();
                if let Some(nic) = topology.nic(nic) {
                    self.receive_looped(now, &topology, nic, packet);
                }
            }
            self.draining.store(false, Ordering::SeqCst);
        }
    }
}

impl Topology {
    /// The time to live or hop limit of a packet.
    fn ttl(&self, route: &RouteInfo, meta: &IpMeta) -> u8 {
        let default = || match (route.cast, route.metrics.hop_limit) {
            (Cast::Multicast, _) => 1,
            (_, 0) => self.default_hop_limit(route),
            (_, limit) => limit,
        };
        meta.ttl.unwrap_or_else(default)
    }

    /// What a packet begins with when nobody says: `ip_default_ttl`, or the interface's hop limit.
    fn default_hop_limit(&self, route: &RouteInfo) -> u8 {
        match route.dst {
            IpAddr::V4(_) => self.tunables().ip.ip_default_ttl,
            IpAddr::V6(_) => self.of_nic(route.nic).ipv6.hop_limit,
        }
    }
}

/// Where a fragment lies in its datagram.
struct Place {
    ident: u32,
    offset: usize,
    more: bool,
}

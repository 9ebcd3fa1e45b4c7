//! What the network brings to a message socket.

use core::net::{IpAddr, SocketAddr};

use super::{Datagram, Kind, Message, State};
use crate::buffer::{Chain, GsoKind, PacketBuffer};
use crate::filter::Program;
use crate::ip::{Cast, Family, IpInfo, PROTO_ICMP, PROTO_ICMPV6};
use crate::link::NicKind;
use crate::socket::options::{Asks, MtuDiscover};
use crate::socket::{ErrorReport, Report, SocketError};
use crate::time::Instant;
use crate::transport::{Endpoint, IcmpError, Severity, judge};
use crate::wire::checksum::Checksum;
use crate::wire::icmp_extensions as extensions;
use crate::wire::udp::{HEADER_LEN, Udp};

/// What a queued message costs of the receive buffer besides its bytes.
const OVERHEAD: usize = 512;
/// The most bytes of datagrams that come as one message, and how many there may be.
const MAX_COALESCED: usize = 65_535 - HEADER_LEN;
const MAX_SEGMENTS: usize = 64;

/// What became of a message that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queued {
    Yes,
    BufferFull,
    MemoryShort,
    Filtered,
}

/// What a message costs of the receive buffer.
pub(super) fn cost(payload: &Chain) -> usize {
    payload.held() + OVERHEAD
}

impl Endpoint for Datagram {
    fn deliver(&self, now: Instant, info: &IpInfo, mut packet: PacketBuffer) {
        let (header_len, from_port) = match self.kind {
            Kind::Udp => {
                let Some(bytes) = packet.peek::<HEADER_LEN>() else { return };
                let header = Udp::parse(&bytes);
                if header.checksum == 0 && info.dst.is_ipv6() && !self.takes_no_checksum() {
                    return self.count_missing_checksum();
                }
                (HEADER_LEN, header.src_port)
            }
            Kind::Ping => (0, 0),
            Kind::Raw(_) if !self.raw_checksum_holds(info, &packet) => return,
            Kind::Raw(_) => (0, 0),
        };
        let from = SocketAddr::new(info.src, from_port);
        let icmp_type = self.icmp_type(info, &mut packet);
        let mut state = self.state.lock();
        if !self.wants(&state, info, from, icmp_type) {
            return;
        }
        if let Some(filter) = &state.settings.filter {
            let kept = self.judge(filter, info, &packet);
            if kept == 0 {
                state.drops = state.drops.wrapping_add(1);
                drop(state);
                return self.count(info, Queued::Filtered);
            }
            // Linux keeps at least the transport header.
            packet.truncate(kept.max(header_len));
        }
        packet.advance(header_len);
        let tags = core::mem::take(&mut packet.tags);
        let segment = packet.offload.gso.filter(|gso| gso.kind == GsoKind::Udp).map(|gso| gso.size);
        let message = Message {
            payload: packet.into_chain().compacted(),
            from,
            dst: info.dst,
            nic: info.nic,
            ttl: info.ttl,
            tos: info.tos,
            options: info.options,
            at: now,
            flow: info.flow_info,
            segment: None,
            drops: state.drops,
            mark: tags.mark,
            priority: tags.priority,
            largest_fragment: tags.largest_fragment,
            extensions: tags.extensions,
        };
        let accepted = self.enqueue_all(&mut state, message, segment);
        let readiness = state.readiness();
        drop(state);
        self.count(info, accepted);
        if accepted == Queued::Yes {
            self.wake(readiness);
        }
    }

    fn icmp_error(&self, _now: Instant, error: &IcmpError) {
        let mut state = self.state.lock();
        let connected = match state.remote {
            Some(remote) if remote.ip() != error.remote.ip() => return,
            remote => remote.is_some(),
        };
        let local = state.local.ip();
        if state.closed || (!local.is_unspecified() && local != error.local.ip()) {
            return;
        }
        let too_long = error.error == SocketError::MessageTooLong;
        let left_to_routers = state.settings.mtu_discover == MtuDiscover::Dont;
        if too_long && left_to_routers && error.remote.is_ipv4() {
            return;
        }
        let hard = match error.severity {
            Severity::Hard => true,
            // A path's MTU is news to who did not leave it to the routers.
            Severity::Soft => too_long && !left_to_routers,
        };
        let asks = state.settings.asks.of(error.remote.ip());
        if asks.contains(Asks::ERRORS) {
            let skip = if self.kind == Kind::Udp { HEADER_LEN } else { 0 };
            let payload = error.quoted.get(skip..).unwrap_or_default().to_vec();
            let at = error.extensions_at.and_then(|at| at.checked_sub(skip));
            let at = at.filter(|_| asks.contains(Asks::ERROR_EXTENSIONS));
            let room = state.settings.receive_buffer;
            let report = ErrorReport {
                error: error.error,
                icmp: error.icmp,
                offender: error.offender,
                destination: error.remote,
                mtu: error.mtu,
                extensions: at.and_then(|at| extensions::find(&payload, at)),
                carrier: error.carrier,
                payload,
            };
            state.reports.push(Report::Error(report), room);
        } else if !(connected && hard) {
            return;
        }
        state.error = Some(error.error);
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
    }
}

impl Datagram {
    /// Whether a packet that the demux found for this socket is really for it.
    fn wants(&self, state: &State, info: &IpInfo, from: SocketAddr, icmp_type: Option<u8>) -> bool {
        if state.closed {
            return false;
        }
        if let Some(remote) = state.remote {
            let same_port = self.kind != Kind::Udp || remote.port() == from.port();
            // A peer that is a group or a broadcast address answers from its own.
            let one = !remote.ip().is_multicast();
            if one && (remote.ip() != from.ip() || !same_port) {
                return false;
            }
        }
        if info.cast == Cast::Multicast {
            let joined = state
                .groups
                .iter()
                .find(|group| group.address == info.dst && group.nic == info.nic);
            // ip(7), IP_MULTICAST_ALL: "The default value is 1 (delivers messages from all groups joined on the whole system)".
            if !joined.map_or(state.settings.multicast_all, |group| group.hears(info.src)) {
                return false;
            }
        }
        if let Kind::Raw(_) = self.kind {
            let local = state.local.ip();
            let settings = &state.settings;
            let filtered = icmp_type.is_some_and(|kind| match self.family {
                Family::V4 => kind < 32 && settings.icmp_filter >> kind & 1 == 1,
                Family::V6 => {
                    let word = settings.icmp6_filter.get(usize::from(kind >> 5)).copied();
                    word.unwrap_or(0) >> (kind & 31) & 1 == 1
                }
            });
            return !filtered
                && (local.is_unspecified() || local == info.dst)
                && Family::of(info.dst) == self.family;
        }
        true
    }

    /// The ICMP type of a packet (over IPv4 one with its IP header), for the filter of raw sockets.
    fn icmp_type(&self, info: &IpInfo, packet: &mut PacketBuffer) -> Option<u8> {
        if self.kind == Kind::Raw(PROTO_ICMPV6) && info.dst.is_ipv6() {
            return packet.peek::<1>().map(|[kind]| kind);
        }
        if self.kind != Kind::Raw(PROTO_ICMP) || info.dst.is_ipv6() {
            return None;
        }
        let [first] = packet.peek::<1>()?;
        let len = crate::wire::ipv4::Ipv4::header_len(first)?;
        packet.pull(len + 1)?.last().copied()
    }

    fn takes_no_checksum(&self) -> bool {
        self.state.lock().settings.no_check6_receive
    }

    fn count_missing_checksum(&self) {
        let stats = &self.host.shared().stats.udp6;
        stats.in_csum_errors.inc();
        stats.in_errors.inc();
    }

    /// How many bytes of a packet the filter keeps; 0 drops it. Raw sockets of IPv4 see the IP header themselves.
    fn judge(&self, filter: &Program, info: &IpInfo, packet: &PacketBuffer) -> usize {
        let kept = match (self.kind, info.dst) {
            (Kind::Raw(_), IpAddr::V4(_)) => judge::judge_whole(&*self.host, filter, info, packet),
            _ => judge::judge(&*self.host, filter, (info, &[]), packet),
        };
        (kept as usize).min(packet.len())
    }

    /// Queues a message; one that is several datagrams in one (`segment` bytes each) is taken apart where the socket does not want
    /// them so (UDP_GRO).
    fn enqueue_all(&self, state: &mut State, mut message: Message, segment: Option<u16>) -> Queued {
        let size = usize::from(segment.unwrap_or(0));
        let several = size > 0 && message.payload.len() > size;
        if state.settings.coalesce {
            message.segment = segment.filter(|_| several);
            if !several && self.coalesces(state, &message) {
                return state.append(message);
            }
        } else if several {
            let mut rest = core::mem::take(&mut message.payload);
            let mut accepted = Queued::Yes;
            while !rest.is_empty() {
                let one = Message { payload: rest.split_to(size), ..message.clone() };
                match state.enqueue(one) {
                    Queued::Yes => {}
                    refused => accepted = refused,
                }
            }
            return accepted;
        }
        state.enqueue(message)
    }

    /// Whether a datagram continues the message that came last: the same flow and size, from a real link, as a device's receive
    /// offload would have it.
    fn coalesces(&self, state: &State, message: &Message) -> bool {
        let Some(last) = state.queue.back() else { return false };
        let size = last.segment.map_or(last.payload.len(), usize::from);
        let total = last.payload.len() + message.payload.len();
        let same = (last.from, last.dst, last.nic, last.ttl, last.tos, last.flow)
            == (message.from, message.dst, message.nic, message.ttl, message.tos, message.flow);
        same && size > 0
            && !message.payload.is_empty()
            && message.payload.len() <= size
            && last.payload.len().is_multiple_of(size)
            && total <= MAX_COALESCED
            && total.div_ceil(size) <= MAX_SEGMENTS
            && self.host.link(message.nic).is_some_and(|link| link.kind == NicKind::Ethernet)
    }

    fn count(&self, info: &IpInfo, accepted: Queued) {
        if self.kind != Kind::Udp {
            return;
        }
        let stats = &self.host.shared().stats;
        let stats = if info.dst.is_ipv4() { &stats.udp } else { &stats.udp6 };
        match accepted {
            Queued::Yes => return stats.in_datagrams.inc(),
            Queued::BufferFull => stats.rcvbuf_errors.inc(),
            Queued::MemoryShort => stats.mem_errors.inc(),
            Queued::Filtered => {}
        }
        stats.in_errors.inc();
    }
}

impl State {
    /// Adds a datagram to the message that came last.
    fn append(&mut self, message: Message) -> Queued {
        let total = self.queued + message.payload.held();
        if total > self.settings.receive_buffer || total > self.account.pool().allowance() {
            return self.refuse(Queued::BufferFull);
        }
        let Some(last) = self.queue.back_mut() else { return Queued::BufferFull };
        let before = cost(&last.payload);
        let size = last.payload.len();
        last.segment = last.segment.or(u16::try_from(size).ok());
        last.payload.append(message.payload);
        self.queued = (self.queued + cost(&last.payload)).saturating_sub(before);
        self.account.settle(self.queued);
        Queued::Yes
    }

    fn refuse(&mut self, why: Queued) -> Queued {
        self.drops = self.drops.wrapping_add(1);
        why
    }

    /// Takes a message while the receive buffer has room; one always fits an empty queue.
    fn enqueue(&mut self, message: Message) -> Queued {
        let cost = cost(&message.payload);
        if !self.queue.is_empty() {
            let total = self.queued + cost;
            if total > self.settings.receive_buffer {
                return self.refuse(Queued::BufferFull);
            }
            if total > self.account.pool().allowance() {
                return self.refuse(Queued::MemoryShort);
            }
        }
        self.queued += cost;
        self.account.settle(self.queued);
        self.queue.push_back(message);
        Queued::Yes
    }
}

impl Datagram {
    /// Raw IPv6 sockets see only messages whose checksum is right, where they have one: ICMPv6, and what the program says
    /// (RFC 3542 section 3.1, IPV6_CHECKSUM).
    fn raw_checksum_holds(&self, info: &IpInfo, packet: &PacketBuffer) -> bool {
        let IpAddr::V6(_) = info.dst else { return true };
        let summed =
            info.protocol == PROTO_ICMPV6 || self.state.lock().settings.checksum_offset.is_some();
        if !summed || packet.offload.rx_verified {
            return true;
        }
        let mut sum = packet.sum_from(0);
        sum.add(Checksum::pseudo_header(info.src, info.dst, info.protocol, packet.len()));
        sum.finish() == 0
    }
}

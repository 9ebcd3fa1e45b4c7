//! What the network brings to a message socket.

use core::net::{IpAddr, SocketAddr};

use super::{Datagram, ErrorReport, Kind, Message, State};
use crate::buffer::{Chain, PacketBuffer};
use crate::ip::{Cast, Family, IpInfo, PROTO_ICMP, PROTO_ICMPV6};
use crate::socket::SocketError;
use crate::socket::options::MtuDiscover;
use crate::time::Instant;
use crate::transport::{Endpoint, IcmpError, Severity};
use crate::wire::checksum::Checksum;
use crate::wire::udp::{HEADER_LEN, Udp};

/// What a queued message costs of the receive buffer besides its bytes.
const OVERHEAD: usize = 512;
/// How many error reports wait.
const MAX_REPORTS: usize = 64;

/// What became of a message that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queued {
    Yes,
    BufferFull,
    MemoryShort,
}

/// What a message costs of the receive buffer.
pub(super) fn cost(payload: &Chain) -> usize {
    payload.held() + OVERHEAD
}

impl Endpoint for Datagram {
    fn deliver(&self, now: Instant, info: &IpInfo, mut packet: PacketBuffer) {
        let from_port = match self.kind {
            Kind::Udp => {
                let Some(bytes) = packet.peek::<HEADER_LEN>() else { return };
                packet.advance(HEADER_LEN);
                Udp::parse(&bytes).src_port
            }
            Kind::Ping => 0,
            Kind::Raw(_) => {
                if !raw_checksum_holds(info, &packet) {
                    return;
                }
                0
            }
        };
        let from = SocketAddr::new(info.src, from_port);
        let icmp_type = self.icmp_type(info, &mut packet);
        let message = Message {
            payload: packet.into_chain().compacted(),
            from,
            dst: info.dst,
            nic: info.nic,
            ttl: info.ttl,
            tos: info.tos,
            options: info.options,
            at: now,
        };
        let mut state = self.state.lock();
        if !self.wants(&state, info, from, icmp_type) {
            return;
        }
        let accepted = state.enqueue(message);
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
        let hard = match error.severity {
            Severity::Hard => true,
            // A path's MTU is news to who did not leave it to the routers.
            Severity::Soft => too_long && state.settings.mtu_discover != MtuDiscover::Dont,
        };
        if state.settings.receive_errors {
            let skip = if self.kind == Kind::Udp { HEADER_LEN } else { 0 };
            state.report(ErrorReport {
                error: error.error,
                icmp: error.icmp,
                offender: error.offender,
                destination: error.remote,
                mtu: error.mtu,
                payload: error.quoted.get(skip..).unwrap_or_default().to_vec(),
            });
        } else if !(connected && hard) {
            return;
        }
        state.error = Some(error.error);
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
    }
}

impl State {
    /// Queues a report; the oldest makes room.
    pub(super) fn report(&mut self, report: ErrorReport) {
        if self.reports.len() >= MAX_REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
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
        if info.cast == Cast::Multicast && self.kind == Kind::Udp {
            let joined = state.groups.iter().any(|membership| {
                membership.group == info.dst && membership.nic.is_none_or(|nic| nic == info.nic)
            });
            // Linux's IP_MULTICAST_ALL is on: a group that somebody on the host joined reaches wildcards too.
            if !joined && state.local.ip() != info.dst && !state.local.ip().is_unspecified() {
                return false;
            }
        }
        if let Kind::Raw(_) = self.kind {
            let local = state.local.ip();
            let filtered = icmp_type
                .is_some_and(|kind| kind < 32 && state.settings.icmp_filter >> kind & 1 == 1);
            return !filtered
                && (local.is_unspecified() || local == info.dst)
                && Family::of(info.dst) == self.family;
        }
        true
    }

    /// The ICMPv4 type of a packet with its IP header, for the filter of raw sockets.
    fn icmp_type(&self, info: &IpInfo, packet: &mut PacketBuffer) -> Option<u8> {
        if self.kind != Kind::Raw(PROTO_ICMP) || info.dst.is_ipv6() {
            return None;
        }
        let [first] = packet.peek::<1>()?;
        let len = crate::wire::ipv4::Ipv4::header_len(first)?;
        packet.pull(len + 1)?.last().copied()
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
        }
        stats.in_errors.inc();
    }
}

impl State {
    /// Takes a message while the receive buffer has room; one always fits an empty queue.
    fn enqueue(&mut self, message: Message) -> Queued {
        let cost = cost(&message.payload);
        if !self.queue.is_empty() {
            let total = self.queued + cost;
            if total > self.settings.receive_buffer {
                return Queued::BufferFull;
            }
            if total > self.account.pool().allowance() {
                return Queued::MemoryShort;
            }
        }
        self.queued += cost;
        self.account.settle(self.queued);
        self.queue.push_back(message);
        Queued::Yes
    }
}

/// Raw ICMPv6 sockets see only messages whose checksum is right (RFC 3542 section 3.1).
fn raw_checksum_holds(info: &IpInfo, packet: &PacketBuffer) -> bool {
    if info.protocol != PROTO_ICMPV6 || packet.offload.rx_verified {
        return true;
    }
    let IpAddr::V6(_) = info.dst else { return true };
    let mut sum = packet.sum_from(0);
    sum.add(Checksum::pseudo_header(info.src, info.dst, PROTO_ICMPV6, packet.len()));
    sum.finish() == 0
}

//! Streams between two sockets of this stack: when they may do without packets, and what is counted of packets that were not made.

use super::Stack;
use crate::ip::{Cast, RouteInfo, Unmade};
use crate::link::NicId;
use crate::wire::{ipv4, ipv6};

impl Stack {
    /// A number that changes with interfaces, addresses, rules and routes; None while a capture, a packet socket or a raw socket looks
    /// at packets.
    pub(super) fn unwatched(&self) -> Option<u64> {
        let shared = &self.shared;
        let watched = self.is_tapped() || !shared.packets.is_empty() || !shared.raw.is_empty();
        (!watched).then(|| self.routes.generation())
    }

    /// Whether packets of a route only come back to this stack.
    pub(super) fn stays_inside(&self, route: &RouteInfo) -> bool {
        let topology = self.topology();
        let looped = topology.nic(route.nic).is_some_and(|nic| nic.is_loopback() && nic.is_up());
        looped && route.cast == Cast::Unicast
    }

    /// Counts packets on the loopback interface that were not made.
    pub(super) fn count_unmade(&self, nic: NicId, unmade: &Unmade) {
        let Unmade { packets, bytes, dst } = *unmade;
        let header_len = if dst.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
        let bytes = bytes + packets * header_len as u64;
        let stats = self.ip_stats(dst);
        stats.out_requests.add(packets);
        stats.in_receives.add(packets);
        stats.in_delivers.add(packets);
        // No stream between sockets of one stack is marked.
        stats.in_no_ect_pkts.add(packets);
        stats.in_octets.add(bytes);
        stats.out_transmits.add(packets);
        stats.out_octets.add(bytes);
        if let Some(nic) = self.topology().nic(nic) {
            nic.stats.tx_packets.add(packets);
            nic.stats.tx_bytes.add(bytes);
            nic.stats.rx_packets.add(packets);
            nic.stats.rx_bytes.add(bytes);
        }
    }
}

//! TCP connections that no program holds: handshakes, those that wait to be accepted, orphans, TIME-WAIT.

use core::net::SocketAddr;

use super::Stack;
use crate::ip::PROTO_TCP;
use crate::socket::tcp::Listing;
use crate::time::Instant;
use crate::transport::Key;
use crate::transport::tcp::listen::FlowKey;

impl Stack {
    /// All of them, for a listing. Those that programs hold are asked through their sockets.
    pub fn unheld_connections(&self) -> Vec<Listing> {
        let all = self.shared.demux.endpoints();
        let tcp = all.iter().filter(|(key, _)| key.protocol == PROTO_TCP);
        let mut listings: Vec<_> = tcp.filter_map(|(_, endpoint)| endpoint.listing()).collect();
        let requests = self.shared.tcp.requests.list();
        listings.extend(requests.iter().map(|(flow, at, retries)| {
            Listing::of_request(flow.local(), flow.remote(), *at, *retries)
        }));
        let remnants = self.shared.tcp.time_wait.list();
        listings.extend(remnants.iter().map(Listing::of_remnant));
        listings
    }

    /// Ends one of them (SOCK_DESTROY); answers whether there was one.
    pub fn destroy_connection(&self, now: Instant, local: SocketAddr, peer: SocketAddr) -> bool {
        let key = Key::connected(PROTO_TCP, local, peer);
        // An endpoint bound to an interface is found by its key alone, too.
        let all = self.shared.demux.endpoints();
        let found = all.iter().find(|(of, _)| *of == key);
        if found.is_some_and(|(_, endpoint)| endpoint.destroy(now)) {
            return true;
        }
        let Some((_, lease)) = self.shared.tcp.time_wait.remove(now, &FlowKey::new(local, peer))
        else {
            return false;
        };
        if let Some(lease) = lease {
            self.shared.ports.release(&lease);
        }
        true
    }
}

//! Internet sockets as `/proc/net` and sock_diag list them: those of programs, and connections that no program holds.

use core::net::SocketAddr;
use std::sync::Arc;

use netstack::ip::Family;
use netstack::socket::tcp::Listing;
use netstack::time::Instant;
use netstack::transport::tcp::Info;
use sentry_abi::tcp::{TCP_CLOSE, TCP_ESTABLISHED};
use sentry_kernel::Result;

use super::endpoint::Endpoint;
use super::sockaddr;
use super::socket::InetSocket;
use crate::identity::Inode;
use crate::netns::NetNamespace;

/// Which table a socket is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
    /// Ping sockets.
    Ping,
    /// Raw sockets.
    Raw,
}

/// A timer as Linux numbers it: 0 none, 1 retransmission, 2 keepalive, 3 TIME-WAIT, 4 window probe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timer {
    /// The number.
    pub kind: u8,
    /// Milliseconds until it runs.
    pub expires_ms: u32,
    /// How often it ran without success.
    pub retries: u32,
}

/// A socket in a listing.
#[derive(Clone)]
pub struct Listed {
    /// AF_INET or AF_INET6 sockets.
    pub family: Family,
    /// Our end; for a raw socket the port is its protocol.
    pub local: SocketAddr,
    /// The peer's; unspecified without one.
    pub peer: SocketAddr,
    /// TCP_* of linux/tcp_states.h.
    pub state: u8,
    /// Bytes (for a listener, connections) to be taken.
    pub unread: usize,
    /// Bytes that the peer has not acknowledged; for a listener, the backlog.
    pub unsent: usize,
    /// The timer that runs.
    pub timer: Timer,
    /// Interface that it is bound to, or 0.
    pub interface: u32,
    /// RCV_SHUTDOWN (1) and SEND_SHUTDOWN (2).
    pub shut: u8,
    /// Owner.
    pub uid: u32,
    /// Inode number; 0 where it is no file.
    pub inode: u32,
    /// Cookie.
    pub cookie: u64,
    /// Datagrams that found no room.
    pub drops: u64,
    /// The socket, where a program holds it.
    pub socket: Option<Arc<InetSocket>>,
    /// What TCP_INFO would tell, where none does.
    pub info: Option<Box<Info>>,
}

fn timer(now: Instant, listing: &Listing) -> Timer {
    let Some(pending) = listing.timer else { return Timer::default() };
    let left = pending.at.nanos().saturating_sub(now.nanos()) / 1_000_000;
    let expires_ms = u32::try_from(left).unwrap_or(u32::MAX);
    Timer { kind: pending.kind as u8, expires_ms, retries: pending.retries }
}

impl Listed {
    fn of_tcp(
        now: Instant,
        family: Family,
        listing: &Listing,
        (inode, cookie): (&Inode, u64),
    ) -> Listed {
        let (receive, send) = listing.shut;
        Listed {
            family,
            local: listing.local,
            peer: listing.peer,
            state: listing.state as u8,
            unread: listing.unread,
            unsent: listing.unacknowledged,
            timer: timer(now, listing),
            interface: listing.nic.map_or(0, |nic| nic.0),
            shut: u8::from(receive) | u8::from(send) << 1,
            uid: inode.uid(),
            inode: inode.number(),
            cookie,
            drops: 0,
            socket: None,
            info: listing.info.map(Box::new),
        }
    }

    /// Whether a protocol's table of AF_INET6 sockets shows it as one that speaks IPv4.
    pub fn is_mapped(&self) -> bool {
        matches!(self.local, SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some())
    }
}

impl InetSocket {
    /// Which table it is in.
    pub fn table(&self) -> Table {
        match &self.endpoint {
            Endpoint::Tcp(_) => Table::Tcp,
            Endpoint::Udp(_) => Table::Udp,
            Endpoint::Ping(_) => Table::Ping,
            Endpoint::Raw(_) => Table::Raw,
        }
    }

    /// Its row, if it is in a table: a stream has a state, a datagram socket a port.
    pub fn listed(self: &Arc<Self>, now: Instant) -> Option<Listed> {
        let datagram = match &self.endpoint {
            Endpoint::Tcp(socket) => {
                let known = (&self.inode, self.options.cookie());
                let mut listed = Listed::of_tcp(now, self.family, &socket.listing(), known);
                listed.socket = Some(self.clone());
                return (listed.state != TCP_CLOSE).then_some(listed);
            }
            Endpoint::Udp(socket) => socket.listing(),
            Endpoint::Ping(socket) => socket.listing(),
            Endpoint::Raw(socket) => socket.listing(),
        };
        let mut local = self.endpoint.local_addr();
        if self.table() == Table::Raw {
            local.set_port(u16::try_from(self.protocol).unwrap_or(0));
        }
        let peer = self.endpoint.peer_addr();
        let listed = Listed {
            family: self.family,
            local,
            peer: peer.unwrap_or(sockaddr::unspecified(self.family)),
            state: if peer.is_some() { TCP_ESTABLISHED } else { TCP_CLOSE },
            unread: datagram.unread,
            unsent: 0,
            timer: Timer::default(),
            interface: datagram.nic.map_or(0, |nic| nic.0),
            shut: u8::from(datagram.shut.0) | u8::from(datagram.shut.1) << 1,
            uid: self.inode.uid(),
            inode: self.inode.number(),
            cookie: self.options.cookie(),
            drops: datagram.drops,
            socket: Some(self.clone()),
            info: None,
        };
        (listed.local.port() != 0).then_some(listed)
    }

    /// An option as getsockopt(2) gives it. Errors: those of getsockopt(2).
    pub fn read_option(&self, level: i32, name: i32) -> Result<Vec<u8>> {
        // Room for the largest that is asked for, struct tcp_info.
        self.load(level, name, &[0; 512])
    }

    /// What it is to the stack.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its protocol.
    pub fn protocol_number(&self) -> i32 {
        self.protocol
    }

    /// Ends it as an administrator does (SOCK_DESTROY): ECONNABORTED for the program, a reset for a stream's peer.
    pub fn destroy(&self) {
        let now = self.net.now();
        match &self.endpoint {
            Endpoint::Tcp(socket) => drop(socket.destroy(now)),
            Endpoint::Udp(socket) => socket.destroy(now),
            Endpoint::Ping(socket) => socket.destroy(now),
            Endpoint::Raw(socket) => socket.destroy(now),
        }
    }
}

/// The sockets of a table in both families: listeners first, then the rest, as Linux walks its hashes.
pub fn list(net: &NetNamespace, table: Table) -> Vec<Listed> {
    let now = net.now();
    let sockets = net.sockets().all();
    let mut all: Vec<Listed> = sockets
        .iter()
        .filter(|socket| socket.table() == table)
        .filter_map(|socket| socket.listed(now))
        .collect();
    if table == Table::Tcp {
        let nobody = Inode::default();
        let unheld = net.stack().unheld_connections();
        all.extend(unheld.iter().map(|listing| {
            let family = Family::of(listing.local.ip());
            Listed::of_tcp(now, family, listing, (&nobody, 0))
        }));
        all.sort_by_key(|listed| listed.state != sentry_abi::tcp::TCP_LISTEN);
    }
    all
}

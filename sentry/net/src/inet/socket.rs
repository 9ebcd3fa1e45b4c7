//! One internet socket of the sandbox: an endpoint of the stack, its options, and who waits for it.

use core::net::SocketAddr;
use std::sync::{Arc, Weak};

use netstack::ip::Family;
use netstack::socket::{Readiness, Wake};
use sentry_abi::socket::SOCK_STREAM;
use sentry_abi::tcp::{TCP_CLOSE, TCP_ESTABLISHED};
use sentry_kernel::wait::{Events, WaitQueue};

use super::endpoint::Endpoint;
use crate::netns::NetNamespace;
use crate::sockopt::{Common, Sorts};

/// An internet socket.
pub struct InetSocket {
    pub(crate) net: Arc<NetNamespace>,
    pub(super) family: Family,
    pub(crate) endpoint: Endpoint,
    /// SO_TYPE
    pub(crate) kind: i32,
    /// SO_PROTOCOL
    pub(crate) protocol: i32,
    pub(super) options: Common,
    pub(super) waiters: WaitQueue,
}

/// A socket as a table of /proc/net shows it.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's; unspecified without one.
    pub peer: SocketAddr,
    /// TCP_* of linux/tcp_states.h.
    pub state: u8,
    /// Bytes (for a listener, connections) to be taken.
    pub unread: usize,
    /// Bytes that the peer has not acknowledged (for a listener, none).
    pub unsent: usize,
}

/// Passes the stack's wake-ups to those who wait for a socket.
struct Waker(Weak<InetSocket>);

impl Wake for Waker {
    fn wake(&self, readiness: Readiness) {
        if let Some(socket) = self.0.upgrade() {
            socket.waiters.notify(socket.shown(readiness));
        }
    }
}

/// The stack's readiness with the bits that poll(2) shows for it.
pub(super) fn events_of(readiness: Readiness) -> Events {
    let rows = [
        (Readiness::IN, Events::IN | Events::RDNORM),
        (Readiness::OUT, Events::OUT | Events::WRNORM | Events::WRBAND),
        (Readiness::PRI, Events::PRI | Events::RDBAND),
        (Readiness::ERR, Events::ERR),
        (Readiness::HUP, Events::HUP),
        (Readiness::RDHUP, Events::RDHUP),
    ];
    let met = rows.iter().filter(|(from, _)| readiness.contains(*from));
    met.fold(Events::empty(), |all, (_, to)| all | *to)
}

impl InetSocket {
    /// A socket over an endpoint, with its type and protocol.
    pub fn new(
        net: &Arc<NetNamespace>,
        family: Family,
        endpoint: Endpoint,
        identity: (i32, i32),
    ) -> Arc<InetSocket> {
        let sort = match endpoint {
            Endpoint::Tcp(_) => Sorts::TCP,
            Endpoint::Udp(_) => Sorts::UDP,
            Endpoint::Ping(_) => Sorts::PING,
            Endpoint::Raw(_) => Sorts::RAW,
        };
        Self::with_options(net, family, endpoint, identity, Common::new(sort))
    }

    /// What poll(2) shows for a readiness: streams have no priority band to write to.
    pub(super) fn shown(&self, readiness: Readiness) -> Events {
        let events = events_of(readiness);
        if self.kind == SOCK_STREAM { events - Events::WRBAND } else { events }
    }

    pub(super) fn with_options(
        net: &Arc<NetNamespace>,
        family: Family,
        endpoint: Endpoint,
        (kind, protocol): (i32, i32),
        options: Common,
    ) -> Arc<InetSocket> {
        let (net, waiters) = (net.clone(), WaitQueue::new());
        let socket =
            Arc::new(InetSocket { net, family, endpoint, kind, protocol, options, waiters });
        socket.endpoint.set_waker(Arc::new(Waker(Arc::downgrade(&socket))));
        socket.net.list(&socket);
        socket
    }

    fn listed(
        &self,
        family: Family,
        state: u8,
        (unread, unsent): (usize, usize),
    ) -> Option<Listed> {
        let local = self.endpoint.local_addr();
        let peer = self.endpoint.peer_addr().unwrap_or(super::sockaddr::unspecified(family));
        (self.family == family).then_some(Listed { local, peer, state, unread, unsent })
    }

    /// Its row of /proc/net/tcp, if it is a stream of this family that has a state to show.
    pub fn listed_tcp(&self, family: Family) -> Option<Listed> {
        let socket = self.endpoint.tcp()?;
        let state = socket.state() as u8;
        let queues = match socket.backlog() {
            Some((waiting, _)) => (waiting, 0),
            None => socket.queued(),
        };
        self.listed(family, state, queues).filter(|row| row.state != TCP_CLOSE)
    }

    /// Its row of /proc/net/udp, if it is a bound UDP socket of this family.
    pub fn listed_udp(&self, family: Family) -> Option<Listed> {
        let Endpoint::Udp(socket) = &self.endpoint else { return None };
        let connected = socket.peer_addr().is_some();
        let state = if connected { TCP_ESTABLISHED } else { TCP_CLOSE };
        self.listed(family, state, (socket.next_len(), 0)).filter(|row| row.local.port() != 0)
    }
}

impl Drop for InetSocket {
    fn drop(&mut self) {
        self.endpoint.close(self.net.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_shows_the_bits_that_linux_shows_together() {
        assert_eq!(events_of(Readiness::IN), Events::IN | Events::RDNORM);
        let both = events_of(Readiness::OUT | Readiness::HUP);
        assert_eq!(both, Events::OUT | Events::WRNORM | Events::WRBAND | Events::HUP);
        assert_eq!(events_of(Readiness::empty()), Events::empty());
    }
}

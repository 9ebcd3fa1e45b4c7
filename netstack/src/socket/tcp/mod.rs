//! TCP sockets: handles over an endpoint that joins a [`crate::transport::tcp::Connection`] or a listener to
//! the demux, the timers and the network. It must not know how a program waits.
//!
//! Lock order: a connection's lock, then its listener's; of two that are each other's peer by address. Neither is held while segments are sent or wakers
//! called, because over loopback the answer comes within the call.

mod accounting;
mod counters;
mod endpoint;
mod fast_open;
mod incoming;
mod listing;
mod open;
mod option;
mod remnant;
mod reports;
mod request;
mod splice;
mod transfer;
mod wire;

use core::net::SocketAddr;
use std::sync::Arc;

use crate::ip::Family;
use crate::socket::{Readiness, SocketError, Wake, to_family};
use crate::transport::Host;
use crate::transport::tcp::StateName;

use endpoint::{Holder, Role};

pub use endpoint::TcpEndpoint;
pub use listing::Listing;
pub use remnant::pass_remnant;
pub use wire::refuse;

/// A TCP socket. Clones are handles of the same one; [`TcpSocket::close`] ends it, dropping handles does not.
#[derive(Clone)]
pub struct TcpSocket(Arc<TcpEndpoint>);

impl TcpSocket {
    /// A socket that is neither bound nor connected. One of IPv6 also does IPv4 unless IPV6_V6ONLY is set.
    pub fn new(host: Arc<dyn Host>, family: Family) -> TcpSocket {
        TcpSocket(TcpEndpoint::new(host, family, Holder::Program))
    }

    /// The family it was made for.
    pub fn family(&self) -> Family {
        self.0.family
    }

    /// Our end; unspecified before it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        let any = SocketAddr::new(self.0.family.unspecified(), 0);
        let local = self.0.inner.lock().local.unwrap_or(any);
        match local.ip().is_unspecified() {
            // A dual-stack wildcard is shown as it was bound.
            true => SocketAddr::new(self.0.family.unspecified(), local.port()),
            false => to_family(self.0.family, local),
        }
    }

    /// The peer's end, while there is a connection.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let inner = self.0.inner.lock();
        let Role::Stream(connection) = &inner.role else { return None };
        // TIME-WAIT is no state of a socket on Linux: the socket is closed then.
        let unnamed = matches!(
            connection.state_name(),
            StateName::Closed | StateName::SynSent | StateName::TimeWait
        );
        inner.peer.filter(|_| !unnamed).map(|peer| to_family(self.0.family, peer))
    }

    /// The state.
    pub fn state(&self) -> StateName {
        match &self.0.inner.lock().role {
            Role::Idle => StateName::Closed,
            Role::Listener(_) => StateName::Listen,
            Role::Stream(connection) => connection.state_name(),
        }
    }

    /// Takes the pending error (SO_ERROR).
    pub fn take_error(&self) -> Option<SocketError> {
        let mut inner = self.0.inner.lock();
        let Role::Stream(connection) = &mut inner.role else { return None };
        connection.take_error().map(SocketError::from)
    }

    /// What the socket is ready for.
    pub fn readiness(&self) -> Readiness {
        self.0.inner.lock().readiness()
    }

    /// Sets who is told of changes of readiness, and of each arrival.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        self.0.set_waker(Some(waker));
    }

    /// Bytes that can be read (SIOCINQ), and bytes that the peer has not acknowledged (SIOCOUTQ).
    pub fn queued(&self) -> (usize, usize) {
        match &self.0.inner.lock().role {
            Role::Stream(connection) => (connection.readable_to_mark(), connection.send_queued()),
            Role::Idle | Role::Listener(_) => (0, 0),
        }
    }

    /// Bytes that were not read, before and behind an urgent mark.
    pub fn unread(&self) -> usize {
        match &self.0.inner.lock().role {
            Role::Stream(connection) => connection.readable(),
            Role::Idle | Role::Listener(_) => 0,
        }
    }

    /// Whether the program has read up to the urgent mark (SIOCATMARK).
    pub fn is_at_mark(&self) -> bool {
        matches!(&self.0.inner.lock().role, Role::Stream(connection) if connection.is_at_mark())
    }

    /// Connections that wait to be accepted, and the backlog; None for a socket that does not listen.
    pub fn backlog(&self) -> Option<(usize, usize)> {
        match &self.0.inner.lock().role {
            Role::Listener(queue) => Some((queue.len(), queue.backlog())),
            Role::Idle | Role::Stream(_) => None,
        }
    }
}

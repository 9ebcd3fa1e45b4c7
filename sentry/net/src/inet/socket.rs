//! One internet socket of the sandbox: an endpoint of the stack, its options, and who waits for it.

use std::sync::{Arc, Weak};

use netstack::ip::Family;
use netstack::socket::{Readiness, Wake};
use sentry_kernel::wait::{Events, WaitQueue};

use super::endpoint::Endpoint;
use crate::netns::NetNamespace;
use crate::sockopt::Common;

/// An internet socket.
pub struct InetSocket {
    pub(super) net: Arc<NetNamespace>,
    pub(super) family: Family,
    pub(super) endpoint: Endpoint,
    /// SO_TYPE
    pub(super) kind: i32,
    /// SO_PROTOCOL
    pub(super) protocol: i32,
    pub(super) options: Common,
    pub(super) waiters: WaitQueue,
}

/// Passes the stack's wake-ups to those who wait for a socket.
struct Waker(Weak<InetSocket>);

impl Wake for Waker {
    fn wake(&self, readiness: Readiness) {
        if let Some(socket) = self.0.upgrade() {
            socket.waiters.notify(events_of(readiness));
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
        Self::with_options(net, family, endpoint, identity, Common::default())
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
        socket
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

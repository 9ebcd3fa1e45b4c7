//! One internet socket of the sandbox: an endpoint of the stack, its options, and who waits for it.

use core::sync::atomic::AtomicI64;
use std::sync::{Arc, Weak};

use netstack::ip::Family;
use netstack::socket::{Readiness, Wake};
use sentry_abi::socket::{SO_SELECT_ERR_QUEUE, SOCK_STREAM, SOL_SOCKET};
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::wait::{Events, WaitQueue};

use super::endpoint::Endpoint;
use crate::identity::Inode;
use crate::netns::NetNamespace;
use crate::sockopt::filter::FilterLock;
use crate::sockopt::headers::Sticky;
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
    pub(super) filter_lock: FilterLock,
    /// IPv6 extension headers of what it sends.
    pub(crate) sticky: Mutex<Sticky>,
    /// When the message came that was taken last, by the wall clock in nanoseconds; 0 before the first one.
    pub(super) stamp_ns: AtomicI64,
    pub(super) waiters: WaitQueue,
    /// Those who are told of urgent data.
    pub(super) urgent: WaitQueue,
    pub(crate) inode: Inode,
}

/// Passes the stack's wake-ups to those who wait for a socket.
struct Waker(Weak<InetSocket>);

impl Wake for Waker {
    fn wake(&self, readiness: Readiness) {
        if let Some(socket) = self.0.upgrade() {
            socket.waiters.notify(socket.shown(readiness));
        }
    }

    fn urgent(&self) {
        if let Some(socket) = self.0.upgrade() {
            socket.urgent.notify(Events::PRI);
        }
    }
}

/// The stack's readiness with the bits that poll(2) shows for it.
pub(crate) fn events_of(readiness: Readiness) -> Events {
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
    /// The family it was made for.
    pub fn family(&self) -> Family {
        self.family
    }

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
        let mut events = events_of(readiness);
        if events.contains(Events::ERR) && self.options.is_on(SOL_SOCKET, SO_SELECT_ERR_QUEUE) {
            events |= Events::PRI;
        }
        if self.kind == SOCK_STREAM { events - Events::WRBAND } else { events }
    }

    pub(super) fn with_options(
        net: &Arc<NetNamespace>,
        family: Family,
        endpoint: Endpoint,
        (kind, protocol): (i32, i32),
        options: Common,
    ) -> Arc<InetSocket> {
        let (net, waiters, inode) = (net.clone(), WaitQueue::new(), Inode::default());
        let filter_lock = FilterLock::default();
        let socket = Arc::new(InetSocket {
            net,
            family,
            endpoint,
            kind,
            protocol,
            options,
            filter_lock,
            sticky: Mutex::new(Rank::LEAF, Sticky::default()),
            stamp_ns: AtomicI64::new(0),
            waiters,
            urgent: WaitQueue::new(),
            inode,
        });
        socket.endpoint.set_waker(Arc::new(Waker(Arc::downgrade(&socket))));
        socket.net.sockets().add(Arc::downgrade(&socket));
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

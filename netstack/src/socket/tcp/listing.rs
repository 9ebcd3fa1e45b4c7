//! What `ss` and `/proc/net/tcp` show of a TCP socket, and its end by an administrator (SOCK_DESTROY).

use core::net::SocketAddr;

use super::TcpSocket;
use super::endpoint::{Holder, Inner, Role, TcpEndpoint};
use super::wire::Flow;
use crate::link::NicId;
use crate::socket::to_family;
use crate::time::Instant;
use crate::transport::tcp::{Awaits, Error, Info, Listed, PendingTimer, StateName, TimerKind};

/// A TCP socket in a listing. Sizes are bytes; addresses are in the socket's own family.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// Our end; unspecified before a bind.
    pub local: SocketAddr,
    /// The peer's; unspecified without one.
    pub peer: SocketAddr,
    /// The state.
    pub state: StateName,
    /// The interface that it is bound to.
    pub nic: Option<NicId>,
    /// To be read; for a listener, connections to be accepted.
    pub unread: usize,
    /// Not acknowledged; for a listener, its backlog.
    pub unacknowledged: usize,
    /// Of that, not sent.
    pub unsent: usize,
    /// Whether the program, or the peer, has ended a direction: receiving, sending.
    pub shut: (bool, bool),
    /// The timer that runs.
    pub timer: Option<PendingTimer>,
    /// What TCP_INFO would tell, where no program holds the socket and there is a connection.
    pub info: Option<Info>,
}

impl Listing {
    /// A connection that is no more than its addresses, a state and a timer.
    fn compact(flow: Flow, state: StateName, timer: PendingTimer) -> Listing {
        Listing {
            local: flow.local,
            peer: flow.remote,
            state,
            nic: None,
            unread: 0,
            unacknowledged: 0,
            unsent: 0,
            shut: (false, false),
            timer: Some(timer),
            info: None,
        }
    }

    /// What is left of a connection: TIME-WAIT, or FIN-WAIT-2 that nobody holds.
    pub fn of_remnant(listed: &Listed) -> Listing {
        let state = match listed.awaits {
            Awaits::Fin => StateName::FinWait2,
            Awaits::Silence => StateName::TimeWait,
        };
        let timer = PendingTimer { kind: TimerKind::TimeWait, at: listed.expires, retries: 0 };
        let of_family = |address| to_family(listed.family, address);
        let flow = Flow { local: of_family(listed.local), remote: of_family(listed.remote) };
        Listing::compact(flow, state, timer)
    }

    /// A handshake whose SYN-ACK is repeated at `at`.
    pub fn of_request(local: SocketAddr, peer: SocketAddr, at: Instant, retries: u8) -> Listing {
        let timer = PendingTimer { kind: TimerKind::Retransmit, at, retries: u32::from(retries) };
        Listing::compact(Flow { local, remote: peer }, StateName::SynReceived, timer)
    }
}

impl TcpEndpoint {
    fn listed(&self, inner: &Inner) -> Listing {
        let any = SocketAddr::new(self.family.unspecified(), 0);
        let shown = |address: Option<SocketAddr>| match address {
            None => any,
            Some(address) if address.ip().is_unspecified() => {
                SocketAddr::new(self.family.unspecified(), address.port())
            }
            Some(address) => to_family(self.family, address),
        };
        let mut listing = Listing {
            local: shown(inner.local),
            peer: any,
            state: StateName::Closed,
            nic: inner.socket.nic,
            unread: 0,
            unacknowledged: 0,
            unsent: 0,
            shut: (false, false),
            timer: None,
            info: None,
        };
        match &inner.role {
            Role::Idle => {}
            Role::Listener(queue) => {
                listing.state = StateName::Listen;
                (listing.unread, listing.unacknowledged) = (queue.len(), queue.backlog());
            }
            Role::Stream(connection) => {
                listing.state = connection.state_name();
                listing.peer = shown(inner.peer);
                listing.unread = connection.readable();
                listing.unacknowledged = connection.send_queued();
                listing.unsent = connection.unsent();
                listing.shut = (connection.is_receive_shut(), connection.is_send_shut());
                listing.timer = connection.pending_timer();
            }
        }
        listing
    }

    /// Its listing, where no program holds it: a handshake, a connection that nobody has accepted, an orphan.
    pub(super) fn listed_unheld(&self) -> Option<Listing> {
        let inner = self.inner.lock();
        let info = match &inner.role {
            _ if inner.holder == Holder::Program => return None,
            Role::Stream(connection) => Some(connection.info()),
            _ => None,
        };
        Some(Listing { info, ..self.listed(&inner) })
    }

    /// Ends it where no program holds it; answers whether that was so.
    pub(super) fn destroy_unheld(&self, now: Instant) -> bool {
        if self.inner.lock().holder == Holder::Program {
            return false;
        }
        self.abort(now);
        true
    }
}

impl TcpSocket {
    /// What a listing shows of it.
    pub fn listing(&self) -> Listing {
        self.0.listed(&self.0.inner.lock())
    }

    /// Ends it as an administrator does: the peer gets a reset, the program ECONNABORTED (tcp_abort). Answers false where
    /// there is neither a connection nor a listener.
    pub fn destroy(&self, now: Instant) -> bool {
        let mut inner = self.0.inner.lock();
        match &mut inner.role {
            Role::Idle => return false,
            Role::Listener(_) => {
                drop(inner);
                self.0.stop_listening(now);
            }
            Role::Stream(connection) => {
                if connection.state_name() == StateName::Closed {
                    return false;
                }
                connection.abort_with(Error::Aborted);
                inner.news = true;
                drop(inner);
            }
        }
        self.0.flush(now);
        true
    }
}

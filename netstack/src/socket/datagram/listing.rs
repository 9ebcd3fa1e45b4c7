//! What `ss` and `/proc/net` show of a datagram socket, and its end by an administrator (SOCK_DESTROY).

use super::Datagram;
use crate::link::NicId;
use crate::socket::SocketError;
use crate::time::Instant;

/// A datagram socket in a listing, beyond its addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct DatagramListing {
    /// Bytes in the receive queue.
    pub unread: usize,
    /// Datagrams that found no room in it.
    pub drops: u64,
    /// The interface that it is bound to.
    pub nic: Option<NicId>,
    /// Which directions are shut: receiving, sending.
    pub shut: (bool, bool),
}

impl Datagram {
    /// What a listing shows of it.
    pub fn listing(&self) -> DatagramListing {
        let state = self.state.lock();
        DatagramListing {
            unread: state.queued,
            drops: 0,
            nic: state.settings.device,
            shut: (state.shut_read, state.shut_write),
        }
    }

    /// Ends the association as an administrator does: the program gets ECONNABORTED (udp_abort).
    pub fn destroy(&self, now: Instant) {
        self.disconnect(now);
        let mut state = self.state.lock();
        state.error = Some(SocketError::ConnectionAborted);
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
    }
}

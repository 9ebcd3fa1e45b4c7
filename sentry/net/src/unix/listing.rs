//! Local sockets as `/proc/net/unix` and sock_diag list them.

use sentry_abi::tcp::{TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN};

use super::address::Name;
use super::names::Key;
use super::socket::{Role, UnixSocket};

/// A local socket in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// SOCK_*
    pub kind: i32,
    /// TCP_ESTABLISHED, TCP_LISTEN or TCP_CLOSE, as Linux borrows them.
    pub state: u8,
    /// Its name.
    pub name: Name,
    /// Device and inode number of what it is bound to.
    pub place: Option<(u64, u64)>,
    /// The peer's inode number.
    pub peer: Option<u32>,
    /// For a listener, the inode numbers of those who wait to be accepted.
    pub waiting: Option<Vec<u32>>,
    /// Bytes to be read; for a listener, connections.
    pub unread: u32,
    /// Bytes that the peer has not read; for a listener, the backlog.
    pub unsent: u32,
    /// SO_RCVBUF
    pub rcvbuf: u32,
    /// SO_SNDBUF
    pub sndbuf: u32,
    /// RCV_SHUTDOWN (1) and SEND_SHUTDOWN (2).
    pub shut: u8,
    /// Owner.
    pub uid: u32,
    /// Inode number; 0 where it is no file.
    pub inode: u32,
    /// Cookie.
    pub cookie: u64,
    /// Whether it listens (SO_ACCEPTCON).
    pub listens: bool,
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl UnixSocket {
    /// What a listing shows of it.
    pub fn listed(&self) -> Listed {
        // The peer is asked without our lock: at most one socket's state is locked at a time.
        let peer = self.peer();
        let pending = match &self.state.lock().role {
            Role::Listening(listener) => Some(listener.pending.iter().cloned().collect::<Vec<_>>()),
            _ => None,
        };
        let waiting = pending.as_ref().map(|pending| {
            // Linux names the clients, which are files; the server's ends are not yet.
            let client = |end: &std::sync::Arc<UnixSocket>| end.peer();
            pending
                .iter()
                .map(|end| client(end).map_or(0, |client| client.inode.number()))
                .collect()
        });
        let state = self.state.lock();
        let (unread, unsent) = match &state.role {
            Role::Listening(listener) => (listener.pending.len(), listener.backlog),
            _ if self.kind.is_connected_kind() => (state.queue.bytes(), 0),
            _ => (state.queue.first_len(), 0),
        };
        let listens = matches!(state.role, Role::Listening(_));
        let listed = Listed {
            kind: self.kind.number(),
            state: match state.role {
                Role::Listening(_) => TCP_LISTEN,
                Role::Connected => TCP_ESTABLISHED,
                Role::Idle => TCP_CLOSE,
            },
            name: state.local.clone(),
            place: match &state.key {
                Some(Key::Inode(device, inode)) => Some((*device, *inode)),
                _ => None,
            },
            peer: peer.as_ref().map(|peer| peer.inode.number()),
            waiting,
            unread: count(unread),
            unsent: count(unsent),
            rcvbuf: count(self.options.rcvbuf()),
            sndbuf: count(self.options.sndbuf()),
            shut: u8::from(state.shut_read) | u8::from(state.shut_write) << 1,
            uid: self.inode.uid(),
            inode: self.inode.number(),
            cookie: self.options.cookie(),
            listens,
        };
        drop(state);
        drop(pending);
        match (listens, peer) {
            (false, Some(_)) => Listed { unsent: count(self.unsent()), ..listed },
            _ => listed,
        }
    }
}

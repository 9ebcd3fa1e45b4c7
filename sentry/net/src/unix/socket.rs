//! One local socket: its state, readiness as Linux's unix_poll tells it, and its end.
//!
//! At most one socket's state is locked at a time. Arcs of peers are never dropped with a state locked, because the last one runs the peer's end.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use sentry_abi::Errno;
use sentry_abi::socket::{SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, UCred};
use sentry_kernel::Result;
use sentry_kernel::socket::Shutdown;
use sentry_kernel::sync::{Mutex, Rank};
use sentry_kernel::vfs::Path;
use sentry_kernel::wait::{Events, WaitQueue};

use super::address::Name;
use super::message::Queue;
use super::names::{Key, Names};
use crate::identity::Inode;
use crate::sockopt::{Common, Sorts};

/// net.unix.max_dgram_qlen: datagrams that wait in a queue before senders wait.
pub const DATAGRAMS_MAX: usize = 10;
/// What a reader gets from a stream, whatever happened.
const READABLE: Events = Events::IN.union(Events::RDNORM);
const WRITABLE: Events = Events::OUT.union(Events::WRNORM).union(Events::WRBAND);

/// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// SOCK_STREAM
    Stream,
    /// SOCK_DGRAM
    Datagram,
    /// SOCK_SEQPACKET
    SeqPacket,
}

impl Kind {
    /// From the number of socket(2); SOCK_RAW is a datagram socket here. Errors: ESOCKTNOSUPPORT.
    pub fn from_number(number: i32) -> Result<Kind> {
        match number {
            SOCK_STREAM => Ok(Kind::Stream),
            SOCK_DGRAM | sentry_abi::socket::SOCK_RAW => Ok(Kind::Datagram),
            SOCK_SEQPACKET => Ok(Kind::SeqPacket),
            _ => Err(Errno::ESOCKTNOSUPPORT.into()),
        }
    }

    /// SO_TYPE
    pub fn number(self) -> i32 {
        match self {
            Kind::Stream => SOCK_STREAM,
            Kind::Datagram => SOCK_DGRAM,
            Kind::SeqPacket => SOCK_SEQPACKET,
        }
    }

    /// Whether it listens and connects.
    pub fn is_connected_kind(self) -> bool {
        self != Kind::Datagram
    }
}

/// What a listener has.
#[derive(Default)]
pub(super) struct Listener {
    /// listen(2)'s number: one more than this may wait.
    pub backlog: usize,
    /// Our ends of connections that wait for accept(2).
    pub pending: VecDeque<Arc<UnixSocket>>,
    /// Sockets whose connect(2) waits for room.
    pub waiting: Vec<Weak<UnixSocket>>,
}

/// Where a socket stands.
#[derive(Default)]
pub(super) enum Role {
    /// Neither connected nor listening.
    #[default]
    Idle,
    /// listen(2) was called.
    Listening(Listener),
    /// Connected, or was.
    Connected,
}

#[derive(Default)]
pub(super) struct State {
    pub local: Name,
    pub key: Option<Key>,
    /// Keeps the bound inode alive, so that its number is not given again.
    pub path: Option<Path>,
    pub role: Role,
    pub peer: Weak<UnixSocket>,
    /// The peer's name when it was last seen.
    pub peer_name: Name,
    pub peer_cred: Option<UCred>,
    pub queue: Queue,
    pub shut_read: bool,
    pub shut_write: bool,
    pub error: Option<Errno>,
    /// Senders of datagrams that wait for room in our queue.
    pub blocked: Vec<Weak<UnixSocket>>,
}

/// A local socket.
pub struct UnixSocket {
    pub(super) me: Weak<UnixSocket>,
    pub(super) inode: Inode,
    pub(super) kind: Kind,
    pub(super) names: Arc<Names>,
    pub(super) options: Common,
    pub(super) waiters: WaitQueue,
    /// One reader at a time, so that the copy to the program's memory needs no state lock.
    pub(super) reading: Mutex<()>,
    /// Who made it.
    pub(super) owner: UCred,
    pub(super) state: Mutex<State>,
}

impl UnixSocket {
    /// A socket of this kind, made by `owner`.
    pub fn new(names: &Arc<Names>, kind: Kind, owner: UCred) -> Arc<UnixSocket> {
        Self::with_options(names, kind, owner, Common::new(Sorts::UNIX))
    }

    pub(super) fn with_options(
        names: &Arc<Names>,
        kind: Kind,
        owner: UCred,
        options: Common,
    ) -> Arc<UnixSocket> {
        let socket = Arc::new_cyclic(|me| UnixSocket {
            me: me.clone(),
            inode: Inode::default(),
            kind,
            names: names.clone(),
            options,
            waiters: WaitQueue::new(),
            reading: Mutex::new(Rank::SOCKET_IO, ()),
            owner,
            state: Mutex::new(Rank::SOCKET, State::default()),
        });
        if let Some(net) = names.net() {
            net.local_sockets().add(socket.me.clone());
        }
        socket
    }

    /// Two sockets connected to each other (socketpair(2)).
    pub fn pair(
        names: &Arc<Names>,
        kind: Kind,
        owner: UCred,
    ) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
        let (a, b) = (Self::new(names, kind, owner), Self::new(names, kind, owner));
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut state = one.state.lock();
            state.role = Role::Connected;
            state.peer = Arc::downgrade(other);
            state.peer_cred = Some(owner);
        }
        (a, b)
    }

    /// The peer, if it lives.
    pub(super) fn peer(&self) -> Option<Arc<UnixSocket>> {
        let weak = self.state.lock().peer.clone();
        weak.upgrade()
    }

    /// Whether the socket's peer is `other`.
    pub(super) fn is_peer(&self, other: &UnixSocket) -> bool {
        self.state.lock().peer.ptr_eq(&other.me)
    }

    /// Whether our queue takes no more datagrams from `sender`. Linux lets a mutual pair go on until the send buffer is full.
    pub(super) fn is_full_for(&self, sender: &UnixSocket) -> bool {
        let limit = sender.options.sndbuf();
        let state = self.state.lock();
        let mutual = state.peer.ptr_eq(&sender.me);
        state.queue.cost() >= limit || (!mutual && state.queue.len() > DATAGRAMS_MAX)
    }

    /// Notes that `sender` wants to know of room in our queue.
    pub(super) fn block(&self, sender: &UnixSocket) {
        let mut state = self.state.lock();
        state.blocked.retain(|s| s.strong_count() > 0 && !s.ptr_eq(&sender.me));
        state.blocked.push(sender.me.clone());
    }

    /// What poll(2) tells.
    pub fn events(&self) -> Events {
        let (mut events, peer, may_write) = {
            let state = self.state.lock();
            let mut events = Events::empty();
            if state.error.is_some() {
                events |= Events::ERR;
            }
            if state.shut_read && state.shut_write {
                events |= Events::HUP;
            }
            if state.shut_read {
                events |= Events::RDHUP | READABLE;
            }
            let may_write = match &state.role {
                Role::Listening(listener) => {
                    if !listener.pending.is_empty() {
                        events |= READABLE;
                    }
                    false
                }
                Role::Idle if self.kind.is_connected_kind() => {
                    events |= Events::HUP;
                    true
                }
                _ => true,
            };
            if !state.queue.is_empty() {
                events |= READABLE;
            }
            (events, state.peer.clone(), may_write)
        };
        if may_write && self.has_room(peer.upgrade().as_deref()) {
            events |= WRITABLE;
        }
        events
    }

    /// Whether a writer may go on: at most a quarter of the send buffer is used, and a datagram's receiver takes more.
    fn has_room(&self, peer: Option<&UnixSocket>) -> bool {
        let Some(peer) = peer else { return true };
        if self.kind == Kind::Stream {
            let used = peer.state.lock().queue.bytes();
            return used.saturating_mul(4) <= self.options.sndbuf();
        }
        if !peer.is_full_for(self) {
            return true;
        }
        peer.block(self);
        // The reader may have made room before it could see us.
        !peer.is_full_for(self)
    }

    /// Tells those who wait for room in our queue, after something was taken from it.
    pub(super) fn room_was_made(&self) {
        if self.kind == Kind::Stream {
            let Some(peer) = self.peer() else { return };
            let used = self.state.lock().queue.bytes();
            if used.saturating_mul(4) <= peer.options.sndbuf() {
                peer.waiters.notify(WRITABLE);
            }
            return;
        }
        let blocked = std::mem::take(&mut self.state.lock().blocked);
        for sender in blocked {
            if let Some(sender) = sender.upgrade() {
                sender.waiters.notify(WRITABLE);
            }
        }
    }

    /// shutdown(2). Errors: ENOTCONN.
    pub fn shut(&self, how: Shutdown) -> Result<()> {
        let (read, write) = match how {
            Shutdown::Read => (true, false),
            Shutdown::Write => (false, true),
            Shutdown::Both => (true, true),
        };
        {
            let mut state = self.state.lock();
            state.shut_read |= read;
            state.shut_write |= write;
        }
        if self.kind.is_connected_kind()
            && let Some(peer) = self.peer()
        {
            {
                let mut state = peer.state.lock();
                state.shut_write |= read;
                state.shut_read |= write;
            }
            peer.waiters.notify(READABLE | WRITABLE | Events::RDHUP | Events::HUP);
        }
        self.waiters.notify(READABLE | WRITABLE | Events::RDHUP | Events::HUP);
        self.room_was_made();
        Ok(())
    }

    /// The peer of a connected socket went away; `reset` where it left bytes unread.
    fn peer_ended(&self, reset: bool) {
        {
            let mut state = self.state.lock();
            state.shut_read = true;
            state.shut_write = true;
            if reset {
                state.error = Some(Errno::ECONNRESET);
            }
        }
        let failed = if reset { Events::ERR } else { Events::empty() };
        self.waiters.notify(READABLE | WRITABLE | Events::RDHUP | Events::HUP | failed);
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let me = self.me.clone();
        let state = self.state.get_mut();
        if let Some(key) = state.key.take() {
            self.names.unbind(&key, &me);
        }
        let unread = !state.queue.is_empty();
        let messages = state.queue.drain();
        let blocked = std::mem::take(&mut state.blocked);
        let peer = std::mem::take(&mut state.peer);
        let role = std::mem::take(&mut state.role);
        if self.kind.is_connected_kind()
            && let Some(peer) = peer.upgrade()
            && peer.is_peer(self)
        {
            peer.peer_ended(unread);
        }
        if let Role::Listening(listener) = role {
            for embryo in listener.pending {
                // Linux resets connections that nobody accepted.
                if let Some(client) = embryo.peer() {
                    client.peer_ended(true);
                }
            }
            wake_all(listener.waiting);
        }
        wake_all(blocked);
        drop(messages);
    }
}

/// Lets waiting connectors or senders try again.
pub(super) fn wake_all(sockets: Vec<Weak<UnixSocket>>) {
    for socket in sockets {
        if let Some(socket) = socket.upgrade() {
            socket.waiters.notify(WRITABLE);
        }
    }
}

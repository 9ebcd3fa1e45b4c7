//! A listener's queues: connections whose handshake is under way, and those that wait to be accepted.

use std::collections::VecDeque;

/// Linux's net.core.somaxconn.
pub const MAX_BACKLOG: usize = 4096;

/// Whether a connection request may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Admit,
    /// The accept queue is full.
    AcceptQueueFull,
    /// Too many handshakes are under way.
    SynQueueFull,
}

/// The queues of a listener over handles `T` of connections.
#[derive(Debug)]
pub struct ListenQueue<T> {
    backlog: usize,
    handshakes: usize,
    ready: VecDeque<T>,
}

impl<T> ListenQueue<T> {
    /// Empty queues; `backlog` is bounded as on Linux.
    pub fn new(backlog: usize) -> ListenQueue<T> {
        ListenQueue { backlog: backlog.min(MAX_BACKLOG), handshakes: 0, ready: VecDeque::new() }
    }

    /// Another `listen` changes the backlog and keeps what is queued.
    pub fn set_backlog(&mut self, backlog: usize) {
        self.backlog = backlog.min(MAX_BACKLOG);
    }

    /// The backlog in force.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// Linux's sk_acceptq_is_full: one more than the backlog fits.
    pub fn is_full(&self) -> bool {
        self.ready.len() > self.backlog
    }

    /// Whether a SYN may start a handshake now; the caller then reports it with [`ListenQueue::begin`].
    pub fn admit(&self) -> Admission {
        if self.is_full() {
            Admission::AcceptQueueFull
        } else if self.handshakes > self.backlog.max(8) {
            Admission::SynQueueFull
        } else {
            Admission::Admit
        }
    }

    /// A handshake began.
    pub fn begin(&mut self) {
        self.handshakes += 1;
    }

    /// A handshake ended without a connection.
    pub fn give_up(&mut self) {
        self.handshakes = self.handshakes.saturating_sub(1);
    }

    /// A handshake ended with a connection that waits to be accepted.
    pub fn complete(&mut self, connection: T) {
        self.give_up();
        self.ready.push_back(connection);
    }

    /// The oldest connection.
    pub fn accept(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// Connections that wait to be accepted.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Handshakes under way.
    pub fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// Takes all that wait: the listener is closed.
    pub fn drain(&mut self) -> Vec<T> {
        self.ready.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_the_backlog_fits_as_on_linux() {
        let mut queue = ListenQueue::new(1);
        for n in 0..2 {
            assert_eq!(queue.admit(), Admission::Admit);
            queue.begin();
            queue.complete(n);
        }
        assert_eq!(queue.admit(), Admission::AcceptQueueFull);
        assert_eq!(queue.accept(), Some(0));
        assert_eq!(queue.admit(), Admission::Admit);
    }

    #[test]
    fn handshakes_are_bounded_too() {
        let mut queue = ListenQueue::<()>::new(2);
        while queue.admit() == Admission::Admit {
            queue.begin();
        }
        assert_eq!((queue.handshakes(), queue.admit()), (9, Admission::SynQueueFull));
        queue.give_up();
        assert_eq!(queue.admit(), Admission::Admit);
    }
}

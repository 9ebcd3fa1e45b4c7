//! Where both ends of a connection are sockets of one stack, and nobody looks at packets, data goes from one to the other without
//! packets. Whether anybody looks is asked anew each time something is sent, so a capture sees all from then on.
//!
//! Lock order of the two ends: by their addresses.

use std::sync::{Arc, Weak};

use parking_lot::MutexGuard;

use super::endpoint::{Inner, Role, TcpEndpoint};
use super::wire::Flow;
use crate::ip::{PROTO_TCP, Unmade};
use crate::link::NicId;
use crate::time::Instant;
use crate::transport::Key;
use crate::transport::tcp::Spliced;

/// What is known of the other end. The number is that of [`crate::ip::IpOutput::unwatched`] when it was looked for.
#[derive(Clone)]
pub(super) enum OtherEnd {
    /// Nothing.
    Unknown,
    /// It is not here.
    Elsewhere(u64),
    /// It is this socket, by way of this interface.
    Here(u64, NicId, Weak<TcpEndpoint>),
}

impl Inner {
    /// Whether the socket judges the packets that come to it, so that there must be some.
    fn looks_at_packets(&self) -> bool {
        self.socket.filter.is_some() || self.socket.min_hops != [0; 2]
    }
}

impl TcpEndpoint {
    /// Sends what it can straight to the other end. Answers whether nothing is left that needs packets.
    pub(super) fn splice(&self, now: Instant, inner: &mut MutexGuard<'_, Inner>) -> bool {
        loop {
            let Some((nic, peer)) = self.other_end(now, inner) else { return false };
            let mut other = self.lock_other(inner, &peer);
            let flow = inner.flow();
            let theirs = other.flow().map(Flow::reversed);
            let joined = flow.is_some() && flow == theirs && other.has_place();
            if inner.looks_at_packets() || other.looks_at_packets() {
                return false;
            }
            other.update_allowance();
            let (Role::Stream(one), Role::Stream(two), true) =
                (&mut inner.role, &mut other.role, joined)
            else {
                inner.other_end = OtherEnd::Unknown;
                return false;
            };
            let spliced = one.splice(now, two);
            let rests = one.is_at_rest();
            if spliced.is_nothing() {
                return rests;
            }
            if spliced.payload > 0 {
                other.news = true;
                other.note_arrival(now);
            }
            other.stamp_progress(now);
            let tells = spliced.tells > 0;
            self.count_spliced(nic, flow, &spliced);
            MutexGuard::unlocked(inner, || {
                peer.settle(other);
                if tells {
                    // It may send more now.
                    peer.flush(now);
                }
            });
        }
    }

    fn count_spliced(&self, nic: NicId, flow: Option<Flow>, spliced: &Spliced) {
        let Some(flow) = flow else { return };
        let stats = &self.host.shared().stats.tcp;
        stats.out_segs.add(spliced.segments());
        stats.in_segs.add(spliced.segments());
        let (packets, bytes) = (spliced.segments(), spliced.bytes());
        self.host.count_unmade(nic, &Unmade { packets, bytes, dst: flow.remote.ip() });
    }

    /// The other end, where it is a socket of this stack and nobody looks.
    fn other_end(&self, now: Instant, inner: &mut Inner) -> Option<(NicId, Arc<TcpEndpoint>)> {
        let watch = self.host.unwatched()?;
        match &inner.other_end {
            OtherEnd::Here(at, nic, peer) if *at == watch => {
                return peer.upgrade().map(|peer| (*nic, peer));
            }
            OtherEnd::Elsewhere(at) if *at == watch => return None,
            _ => {}
        }
        let Role::Stream(connection) = &inner.role else { return None };
        if !connection.state().is_synchronized() {
            return None;
        }
        let flow = inner.flow()?;
        let route = self.host.route(now, &inner.query(flow)).ok()?;
        if !self.host.stays_inside(&route) {
            inner.other_end = OtherEnd::Elsewhere(watch);
            return None;
        }
        let there = Key::connected(PROTO_TCP, flow.remote, flow.local);
        // It may be a request of a listener still.
        let peer = self.host.shared().demux.exact(&there, route.nic, 0)?.stream()?;
        if core::ptr::eq(self, &*peer) {
            // A socket that is connected to itself.
            inner.other_end = OtherEnd::Elsewhere(watch);
            return None;
        }
        inner.other_end = OtherEnd::Here(watch, route.nic, Arc::downgrade(&peer));
        Some((route.nic, peer))
    }

    /// Locks the other end, too. Our own lock may be given up meanwhile.
    fn lock_other<'a>(
        &self,
        inner: &mut MutexGuard<'_, Inner>,
        peer: &'a TcpEndpoint,
    ) -> MutexGuard<'a, Inner> {
        if core::ptr::from_ref(self) < core::ptr::from_ref(peer) {
            return peer.inner.lock();
        }
        match peer.inner.try_lock() {
            Some(other) => other,
            None => MutexGuard::unlocked(inner, || peer.inner.lock()),
        }
    }
}

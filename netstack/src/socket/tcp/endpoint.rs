//! What a TCP socket is made of: one lock around a role, a timer, a waker. Segments are polled under the lock
//! and sent without it; whoever is sending goes on until there is nothing more, so that the order is kept.

use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::reports::Reports;
use super::splice::OtherEnd;
use super::wire::{self, Flow, IpSettings};
use crate::filter::Program;
use crate::ip::{Family, KeptPath, RouteQuery};
use crate::lazy::{Cow, Lazy, Plain};
use crate::link::NicId;
use crate::memory::Account;
use crate::socket::{Readiness, SocketError, Wake};
use crate::time::{Duration, Instant};
use crate::transport::burst::Flush;
use crate::transport::tcp::fast_open::FastOpenKeys;
use crate::transport::tcp::listen::{ListenQueue, Listens};
use crate::transport::tcp::{Connection, Error, Settings, State};
use crate::transport::{Host, OnTimer, PortLease, Registration, RegistrationId, Shared, Timer};

impl From<Error> for SocketError {
    fn from(error: Error) -> SocketError {
        match error {
            Error::Refused => SocketError::ConnectionRefused,
            Error::Reset => SocketError::ConnectionReset,
            Error::BrokenPipe => SocketError::BrokenPipe,
            Error::TimedOut => SocketError::TimedOut,
            Error::HostUnreachable => SocketError::HostUnreachable,
            Error::NetworkUnreachable => SocketError::NetworkUnreachable,
            Error::ProtocolUnreachable => SocketError::ProtocolUnreachable,
            Error::Prohibited => SocketError::AccessDenied,
            Error::Protocol => SocketError::Protocol,
            Error::Aborted => SocketError::ConnectionAborted,
        }
    }
}

/// After so long without anything to do a connection gives back what memory it can.
const REST: Duration = Duration::from_secs(1);

/// So long a sign of the peer says that its neighbour is reachable: no longer than an entry waits for one before it asks (Linux's
/// `delay_first_probe_time`).
const FRESH: Duration = Duration::from_secs(5);

/// What a socket is at present.
pub(super) enum Role {
    /// Fresh, or bound.
    Idle,
    /// Accepting connections.
    Listener(Box<ListenQueue<Arc<TcpEndpoint>>>),
    /// A connection, or what is left of one.
    Stream(Box<Connection>),
}

/// How far a connect has come, as the program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connecting {
    /// There is none.
    No,
    /// The program was told that it is in progress.
    Pending,
    /// The program knows that the connection stands.
    Told,
    /// It had ended when the program shut it down, before the program knew how it went.
    Undone,
}

/// Who holds the endpoint besides the demux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A program, through a handle.
    Program,
    /// A listener: the handshake is under way, or nobody has accepted it.
    Listener,
    /// Nobody: the handle is closed.
    Nobody,
}

/// Options of the socket that are not the connection's.
#[derive(Clone, Debug)]
pub(super) struct SocketSettings {
    pub reuse_address: bool,
    pub reuse_port: bool,
    pub v6_only: bool,
    pub free_bind: bool,
    pub bind_no_port: bool,
    /// SO_PEEK_OFF: where the next look begins; None when off.
    pub peek_offset: Option<usize>,
    pub broadcast: bool,
    /// The least time to live of what is taken over IPv4, and the least hop limit over IPv6 (RFC 5082).
    pub min_hops: [u8; 2],
    /// SO_ATTACH_FILTER
    pub filter: Option<Program>,
    /// SO_ATTACH_REUSEPORT_CBPF
    pub chooser: Option<Program>,
    pub nic: Option<NicId>,
    pub receive_low_water: usize,
    pub not_sent_low_water: Option<usize>,
    pub port_range: Option<(u16, u16)>,
    pub fast_open_queue: usize,
    pub fast_open_connect: bool,
    pub fast_open_no_cookie: bool,
    pub fast_open_keys: Option<FastOpenKeys>,
    pub ip: IpSettings,
}

impl SocketSettings {
    /// TCP_NOTSENT_LOWAT, or tcp_notsent_lowat: so many bytes wait unsent at most before no more are taken. None for any number.
    pub(super) fn unsent_limit(&self, connection: &Connection) -> Option<usize> {
        let limit = self.not_sent_low_water.unwrap_or(connection.config().not_sent_low_water);
        (limit < u32::MAX as usize).then_some(limit)
    }
}

impl Plain for SocketSettings {
    const PLAIN: &'static SocketSettings = &SocketSettings {
        reuse_address: false,
        reuse_port: false,
        v6_only: false,
        free_bind: false,
        bind_no_port: false,
        peek_offset: None,
        broadcast: false,
        min_hops: [0; 2],
        filter: None,
        chooser: None,
        nic: None,
        receive_low_water: 1,
        not_sent_low_water: None,
        port_range: None,
        fast_open_queue: 0,
        fast_open_connect: false,
        fast_open_no_cookie: false,
        fast_open_keys: None,
        ip: IpSettings::DEFAULT,
    };
}

/// What the lock protects.
pub(super) struct Inner {
    pub role: Role,
    pub local: Option<SocketAddr>,
    pub peer: Option<SocketAddr>,
    pub lease: Option<PortLease>,
    /// Whether the program chose the port, which then stays the socket's until it is closed.
    pub bound: bool,
    /// Where a listener is found.
    pub places: Lazy<Vec<Registration>>,
    /// Where a connection is found: under its addresses.
    pub place: Option<RegistrationId>,
    pub settings: Cow<Settings>,
    pub socket: Cow<SocketSettings>,
    pub connecting: Connecting,
    /// Receiving was shut down while there was no connection: `poll` tells so.
    pub shut_unconnected: bool,
    pub holder: Holder,
    pub parent: Option<Weak<TcpEndpoint>>,
    /// The listener that counts this fast open connection until its handshake is complete.
    pub fast_open_parent: Option<Weak<TcpEndpoint>>,
    /// Something happened that edge-triggered waiters must hear of though the readiness is the same.
    pub news: bool,
    /// The peer made progress since the last segment was sent.
    pub confirmed: bool,
    /// What the stack was told that the socket holds.
    pub account: Account,
    pub other_end: OtherEnd,
    /// The way that segments took last, while there are any.
    path: Option<Box<KeptPath>>,
    /// The error queue and the times that are told in it, once anybody asked for either.
    pub reports: Option<Box<Reports>>,
    told: Readiness,
    transmitting: bool,
    counted: bool,
    /// It waits for the end of a burst.
    deferred: bool,
    /// Whether it is counted among the connections that no program holds.
    orphan: bool,
}

/// A TCP socket's shared part.
pub struct TcpEndpoint {
    pub(super) host: Arc<dyn Host>,
    pub(super) family: Family,
    pub(super) inner: Mutex<Inner>,
    /// Held while bytes are copied to the program, so that two readers do not get the same.
    pub(super) reading: Mutex<()>,
    pub(super) me: Weak<TcpEndpoint>,
    waker: Mutex<Option<Arc<dyn Wake>>>,
    timer: Timer,
}

impl TcpEndpoint {
    pub(super) fn new(host: Arc<dyn Host>, family: Family, holder: Holder) -> Arc<TcpEndpoint> {
        Arc::new_cyclic(|me: &Weak<TcpEndpoint>| TcpEndpoint {
            timer: Timer::default(),
            family,
            inner: Mutex::new(Inner {
                role: Role::Idle,
                local: None,
                peer: None,
                lease: None,
                bound: false,
                places: Lazy::PLAIN,
                place: None,
                settings: Cow::PLAIN,
                socket: Cow::PLAIN,
                connecting: Connecting::No,
                shut_unconnected: false,
                holder,
                parent: None,
                fast_open_parent: None,
                news: false,
                confirmed: false,
                account: Account::new(host.shared().memory.tcp.clone()),
                other_end: OtherEnd::Unknown,
                path: None,
                reports: None,
                told: Readiness::empty(),
                transmitting: false,
                counted: false,
                deferred: false,
                orphan: false,
            }),
            reading: Mutex::new(()),
            me: me.clone(),
            waker: Mutex::new(None),
            host,
        })
    }

    /// Sends what the connection has to send, then brings timer, places and readiness up to date.
    pub(super) fn flush(&self, now: Instant) {
        self.flush_with(now, self.inner.lock());
    }

    /// The same for who has the lock, which is given up.
    pub(super) fn flush_with<'a>(&'a self, now: Instant, mut inner: MutexGuard<'a, Inner>) {
        if inner.transmitting {
            // The one who transmits polls again before it stops.
            return;
        }
        inner.transmitting = true;
        if !self.splice(now, &mut inner) {
            self.transmit(now, &mut inner);
        }
        inner.transmitting = false;
        inner.stamp_progress(now);
        if matches!(&inner.role, Role::Stream(connection) if !connection.is_closed()) {
            self.host.shared().timers.rest_by(self, now + REST);
        }
        self.settle(inner);
    }

    /// Sends segments as long as there are any.
    fn transmit(&self, now: Instant, inner: &mut MutexGuard<'_, Inner>) {
        if let Role::Stream(connection) = &mut inner.role
            && connection.has_nothing_to_send(now)
        {
            return;
        }
        let inner_now = &mut **inner;
        let route = inner_now.flow().and_then(|flow| {
            let query = inner_now.query(flow);
            let route = self.host.route_again(now, &query, &mut inner_now.path);
            Some((flow, route.ok()?))
        });
        if let Some((flow, route)) = route {
            if core::mem::take(&mut inner.confirmed) && inner.heard_lately(now) {
                MutexGuard::unlocked(inner, || self.host.confirm(now, &route));
            }
            let limits = wire::limits(&route, inner.socket.ip);
            while let Role::Stream(connection) = &mut inner.role {
                if route.holds_back
                    && connection.may_be_held_back()
                    && let Some(until) = self.host.busy_until(now, &route, flow.number())
                {
                    connection.hold_back(until);
                    break;
                }
                let mut next = connection.poll_transmit(now, limits);
                let Some(segment) = &mut next else { break };
                let ip = inner.socket.ip;
                MutexGuard::unlocked(inner, || {
                    // A segment that cannot be sent is lost; the timers of the connection see to it.
                    let _ = wire::emit(&*self.host, now, &route, flow, &ip, segment);
                });
            }
        } else if let Role::Stream(connection) = &mut inner.role {
            connection.on_no_route(now);
        }
    }

    /// As [`Self::flush`], at the end of the burst where there is one and nothing is lost by waiting.
    pub(super) fn flush_in_burst<'a>(
        &'a self,
        now: Instant,
        nic: NicId,
        mut inner: MutexGuard<'a, Inner>,
        waits: bool,
    ) {
        let burst = &self.host.shared().burst;
        if waits && burst.is_under_way(nic) {
            if core::mem::replace(&mut inner.deferred, true) {
                return;
            }
            drop(inner);
            let waiting = self.me.upgrade().is_some_and(|me| burst.defer(nic, me).is_ok());
            if !waiting {
                self.flush_after_burst(now);
            }
            return;
        }
        self.flush_with(now, inner);
    }

    /// After anything that may have changed the state. Wakes without the lock.
    pub(super) fn settle(&self, mut inner: MutexGuard<'_, Inner>) {
        let deadline = match &inner.role {
            Role::Stream(connection) => connection.next_deadline(),
            Role::Listener(queue) => queue.next_deadline(),
            Role::Idle => None,
        };
        self.host.shared().timers.arm(self, deadline);
        self.account(&mut inner);
        self.count_established(&mut inner);
        let orphaned_child = self.clean_up(&mut inner);
        self.count_orphan(&mut inner);
        let opened_fast =
            if is_opening(&inner.role) { None } else { inner.fast_open_parent.take() };
        let readiness = inner.readiness();
        let wake = core::mem::take(&mut inner.news) || readiness != inner.told;
        inner.told = readiness;
        let urgent = match &mut inner.role {
            Role::Stream(connection) => connection.take_urgent_news(),
            _ => false,
        };
        drop(inner);
        if let Some(parent) = opened_fast.and_then(|parent| parent.upgrade()) {
            parent.end_fast();
        }
        if let Some(parent) = orphaned_child {
            parent.handshake_failed();
        }
        if wake || urgent {
            let waker = self.waker.lock().clone();
            if let Some(waker) = waker {
                if urgent {
                    waker.urgent();
                }
                waker.wake(readiness);
            }
        }
    }

    fn count_established(&self, inner: &mut Inner) {
        let established = match &inner.role {
            Role::Stream(connection) => {
                matches!(connection.state(), State::Established(_) | State::CloseWait(_))
            }
            _ => false,
        };
        if established != inner.counted {
            let gauge = &self.host.shared().stats.tcp.curr_estab;
            if established {
                gauge.inc()
            } else {
                gauge.dec()
            }
            inner.counted = established;
        }
    }

    fn count_orphan(&self, inner: &mut Inner) {
        let alive = matches!(&inner.role, Role::Stream(connection) if !connection.is_closed());
        let orphan = alive && inner.holder == Holder::Nobody;
        if orphan != inner.orphan {
            let orphans = &self.host.shared().tcp.orphans;
            match orphan {
                true => orphans.fetch_add(1, Ordering::Relaxed),
                false => orphans.fetch_sub(1, Ordering::Relaxed),
            };
            inner.orphan = orphan;
        }
    }

    /// Gives back what a connection that is over, or in TIME-WAIT without a program, needs no more. Returns the
    /// listener whose handshake thereby failed.
    fn clean_up(&self, inner: &mut Inner) -> Option<Arc<TcpEndpoint>> {
        let Role::Stream(connection) = &inner.role else { return None };
        let waits_or_ended = matches!(
            connection.state(),
            State::FinWait2(_) | State::TimeWait(_) | State::Closed(_)
        );
        if !waits_or_ended {
            return None;
        }
        let remnant = connection.remnant(inner.socket.nic);
        if let (Some(remnant), Some(flow)) = (remnant, inner.flow()) {
            self.host.shared().timers.arm(self, None);
            // First in its new place, then out of the old one: there is no moment without any.
            self.leave_remnant(inner, flow, &remnant);
            if let Role::Stream(connection) = &mut inner.role {
                connection.retire();
            }
        }
        let Role::Stream(connection) = &inner.role else { return None };
        if !connection.is_closed() {
            return None;
        }
        self.release(inner, Keep::BoundPort);
        let parent = inner.parent.take()?;
        inner.holder = Holder::Nobody;
        self.host.shared().stats.tcp.attempt_fails.inc();
        parent.upgrade()
    }

    /// Leaves the demux and gives the port back.
    pub(super) fn release(&self, inner: &mut Inner, keep: Keep) {
        let shared = self.host.shared();
        inner.other_end = OtherEnd::Unknown;
        inner.leave_places(shared);
        let keeps = keep == Keep::BoundPort && inner.bound && inner.holder == Holder::Program;
        if !keeps && let Some(lease) = inner.lease.take() {
            shared.ports.release(&lease);
        }
    }

    /// A handshake of this listener ended without a connection.
    pub(super) fn handshake_failed(&self) {
        if let Role::Listener(queue) = &mut self.inner.lock().role {
            queue.unreserve();
        }
    }

    pub(super) fn set_waker(&self, waker: Option<Arc<dyn Wake>>) {
        *self.waker.lock() = waker;
    }

    /// Brings timer, places and readiness up to date where nothing is to be sent.
    pub(super) fn refresh(&self) {
        self.settle(self.inner.lock());
    }

    /// Ends the connection with a reset, whoever holds it.
    pub(super) fn abort(&self, now: Instant) {
        let mut inner = self.inner.lock();
        inner.holder = Holder::Nobody;
        if let Role::Stream(connection) = &mut inner.role {
            connection.abort();
        }
        drop(inner);
        self.flush(now);
    }
}

/// What [`TcpEndpoint::release`] leaves to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The port, where the program chose it and holds the socket.
    BoundPort,
    /// Nothing.
    Nothing,
}

impl Flush for TcpEndpoint {
    fn flush_after_burst(&self, now: Instant) {
        self.inner.lock().deferred = false;
        self.flush(now);
    }
}

fn is_opening(role: &Role) -> bool {
    matches!(role, Role::Stream(connection) if matches!(connection.state(), State::SynReceived(_)))
}

impl OnTimer for TcpEndpoint {
    fn timer(&self) -> &Timer {
        &self.timer
    }

    fn handle(&self) -> Weak<dyn OnTimer> {
        self.me.clone()
    }

    fn on_timer(&self, now: Instant) {
        self.on_listener_timer(now);
        let mut inner = self.inner.lock();
        if let Role::Stream(connection) = &mut inner.role {
            connection.on_timeout(now);
            if connection.error() == Some(Error::TimedOut) {
                self.host.shared().stats.tcp_ext.tcp_abort_on_timeout.inc();
            }
            self.suspect_black_hole(now, connection);
        }
        self.flush_with(now, inner);
    }

    fn on_rest(&self) {
        let mut inner = self.inner.lock();
        inner.path = None;
        if let Role::Stream(connection) = &mut inner.role {
            connection.rest();
        }
    }
}

impl Inner {
    /// The way to a peer from where the socket is bound.
    pub(super) fn query_to(&self, remote: SocketAddr) -> RouteQuery {
        let local = self.local.unwrap_or(SocketAddr::new(remote.ip(), 0));
        let flow = Flow { local, remote };
        let query = self.query(flow);
        let src = self.local.map(|local| local.ip()).filter(|ip| !ip.is_unspecified());
        RouteQuery { src, ..query }
    }

    /// The two ends, once both are known.
    pub(super) fn flow(&self) -> Option<Flow> {
        Some(Flow { local: self.local?, remote: self.peer? })
    }

    /// Whether the peer was heard so short a time ago that its neighbour entry is fresh.
    fn heard_lately(&self, now: Instant) -> bool {
        matches!(&self.role, Role::Stream(connection) if now.since(connection.heard_at()) < FRESH)
    }

    /// Is found nowhere from now on.
    pub(super) fn leave_places(&mut self, shared: &Shared) {
        let demux = &shared.demux;
        if let Some((id, flow)) = self.place.take().zip(self.flow()) {
            demux.remove(&Registration::of(flow.connected(), id));
        }
        for place in self.places.iter() {
            demux.remove(place);
            shared.tcp.listen_watch.tell(place.key().local.into(), Listens::Ends);
        }
        self.places.reset();
    }

    /// Whether packets can find it.
    pub(super) fn has_place(&self) -> bool {
        self.place.is_some() || !self.places.is_empty()
    }

    /// The way of its segments.
    pub(super) fn query(&self, flow: Flow) -> RouteQuery {
        self.socket.ip.query(&flow, self.socket.nic)
    }

    /// What `poll` tells.
    pub(super) fn readiness(&self) -> Readiness {
        let tells = self.reports.as_ref().is_some_and(|reports| !reports.is_empty());
        let reports = if tells { Readiness::ERR } else { Readiness::empty() };
        self.stream_readiness() | reports
    }

    /// What it tells of the connection, by the rules of Linux's tcp_poll.
    fn stream_readiness(&self) -> Readiness {
        let connection = match &self.role {
            // A socket that was never connected hangs up and takes bytes, to fail.
            Role::Idle if self.shut_unconnected => {
                return Readiness::IN | Readiness::OUT | Readiness::HUP | Readiness::RDHUP;
            }
            Role::Idle => return Readiness::OUT | Readiness::HUP,
            Role::Listener(queue) if queue.is_empty() => return Readiness::empty(),
            Role::Listener(_) => return Readiness::IN,
            Role::Stream(connection) => connection,
        };
        let mut readiness = Readiness::empty();
        let closed = matches!(connection.state(), State::Closed(_));
        let (send_shut, receive_shut) = (connection.is_send_shut(), connection.is_receive_shut());
        if closed || send_shut && receive_shut {
            readiness |= Readiness::HUP;
        }
        if receive_shut {
            readiness |= Readiness::IN | Readiness::RDHUP;
        }
        if connection.error().is_some() {
            readiness |= Readiness::ERR;
        }
        if connection.waits_for_data() {
            return readiness | Readiness::OUT;
        }
        if connection.is_connecting() {
            return readiness;
        }
        if connection.is_readable(self.socket.receive_low_water) {
            readiness |= Readiness::IN;
        }
        readiness.set(Readiness::PRI, connection.is_urgent());
        let few_unsent =
            self.socket.unsent_limit(connection).is_none_or(|limit| connection.unsent() < limit);
        if send_shut || connection.is_writable() && few_unsent {
            readiness |= Readiness::OUT;
        }
        readiness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_small_beside_its_connection() {
        assert!(size_of::<TcpEndpoint>() <= 304, "{} bytes", size_of::<TcpEndpoint>());
    }
}

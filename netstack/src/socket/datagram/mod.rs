//! Sockets that carry whole messages: UDP, ping and raw. One endpoint serves the three; what differs is asked
//! of its [`Kind`].

mod groups;
mod handles;
mod inbound;
mod listing;
mod option;
mod receive;
mod settings;
mod stamps;
mod transfer;

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::error_queue::ErrorQueue;
use super::{
    BindError, Connect, ConnectError, How, Readiness, ShutdownError, SocketError, Wake,
    from_mapped, scope_of, to_family,
};
use crate::buffer::Chain;
use crate::ip::route::Scope;
use crate::ip::{
    Cast, Family, Flow, IpError, PROTO_ICMP, PROTO_ICMPV6, PROTO_RAW, PROTO_UDP, RouteQuery,
};
use crate::link::NicId;
use crate::memory::Account;
use crate::rng::SipKey;
use crate::time::Instant;
use crate::transport::{
    DualStack, Host, Key, PortError, PortLease, PortRequest, Registration, Reuse, Sharing,
};
use crate::wire::ipv4_options::Options;

pub use groups::{FilterMode, SourceChange};
pub use handles::{PingSocket, RawSocket, UdpSocket};
pub use listing::DatagramListing;
pub use receive::Received;
pub use settings::AskedFor;
pub use transfer::{Ancillary, Headers};

use groups::Group;
use settings::Settings;
use transfer::Pending;

/// Which protocol a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// UDP.
    Udp,
    /// ICMP echo requests; the identifier is the port.
    Ping,
    /// Anything of one IP protocol.
    Raw(u8),
}

/// A message in the receive queue.
#[derive(Clone)]
struct Message {
    payload: Chain,
    from: SocketAddr,
    dst: IpAddr,
    nic: NicId,
    ttl: u8,
    tos: u8,
    options: Options,
    at: Instant,
    // Flow label and traffic class of IPv6.
    flow: u32,
    // Bytes of each datagram where it is several.
    segment: Option<u16>,
    // How many were lost before it.
    drops: u32,
    // SO_MARK and SO_PRIORITY of a sender on this host.
    mark: u32,
    priority: u32,
    largest_fragment: u32,
    // IPv6 extension headers, each after its kind.
    extensions: Option<Arc<[u8]>>,
}

struct State {
    local: SocketAddr,
    // Whether the program chose the address, so that a disconnect keeps it.
    address_chosen: bool,
    // Whether packets can come from the local address: not from a group or a broadcast address.
    can_send_from: bool,
    remote: Option<SocketAddr>,
    lease: Option<PortLease>,
    places: Vec<Registration>,
    // Whether it was in a group of its port when it took its places.
    balanced: bool,
    queue: VecDeque<Message>,
    queued: usize,
    account: Account,
    error: Option<SocketError>,
    reports: ErrorQueue,
    // IPv6 extension headers of what is sent.
    headers: Headers,
    // The number of the next send whose times are told.
    next_stamp: u32,
    // The MTU that a message did not fit, and where it went (IPV6_RECVPATHMTU).
    path_mtu: Option<(SocketAddr, u32)>,
    shut_read: bool,
    shut_write: bool,
    closed: bool,
    groups: Vec<Group>,
    // Messages that found no room.
    drops: u32,
    // What is gathered for one datagram (UDP_CORK, MSG_MORE).
    pending: Option<Pending>,
    settings: Settings,
}

/// A message socket. Its handles are [`UdpSocket`], [`PingSocket`] and [`RawSocket`].
pub struct Datagram {
    host: Arc<dyn Host>,
    kind: Kind,
    family: Family,
    state: Mutex<State>,
    waker: Mutex<Option<Arc<dyn Wake>>>,
    me: Weak<Datagram>,
    // For flow labels.
    flow_key: SipKey,
}

impl Datagram {
    fn new(host: Arc<dyn Host>, family: Family, kind: Kind) -> Arc<Datagram> {
        let state = State {
            local: SocketAddr::new(family.unspecified(), 0),
            address_chosen: false,
            can_send_from: true,
            remote: None,
            lease: None,
            places: Vec::new(),
            balanced: false,
            queue: VecDeque::new(),
            queued: 0,
            account: Account::new(host.shared().memory.udp.clone()),
            error: None,
            reports: ErrorQueue::default(),
            headers: Headers::default(),
            next_stamp: 0,
            path_mtu: None,
            shut_read: false,
            shut_write: false,
            closed: false,
            groups: Vec::new(),
            drops: 0,
            pending: None,
            settings: Settings::default(),
        };
        let (state, waker) = (Mutex::new(state), Mutex::new(None));
        let flow_key = SipKey::derive(&host.shared().seed, 18);
        let socket = Arc::new_cyclic(|me: &Weak<Datagram>| {
            let me = me.clone();
            Datagram { host, kind, family, state, waker, me, flow_key }
        });
        let mut state = socket.state.lock();
        match kind {
            // raw(7): "A protocol of IPPROTO_RAW implies enabled IP_HDRINCL ... Receiving ... is not possible".
            Kind::Raw(PROTO_RAW) => state.settings.header_included = true,
            // Any other raw socket receives from the moment it exists; raw keys are always shared.
            Kind::Raw(_) => drop(socket.register(&mut state)),
            Kind::Udp | Kind::Ping => {}
        }
        drop(state);
        socket
    }

    /// AF_INET or AF_INET6.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Which protocol it speaks.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The IP protocol number to an address.
    fn protocol(&self, address: IpAddr) -> u8 {
        match self.kind {
            Kind::Udp => PROTO_UDP,
            Kind::Ping if address.is_ipv4() => PROTO_ICMP,
            Kind::Ping => PROTO_ICMPV6,
            Kind::Raw(protocol) => protocol,
        }
    }

    /// An address as the stack uses it, when the socket's family allows it.
    fn accept_address(&self, state: &State, address: SocketAddr) -> Option<SocketAddr> {
        let plain = from_mapped(address);
        let fits = match (self.family, address, plain) {
            (Family::V4, SocketAddr::V4(_), _) => true,
            (Family::V4, SocketAddr::V6(_), _) => false,
            (Family::V6, SocketAddr::V4(_), _) => false,
            (Family::V6, _, SocketAddr::V4(_)) => self.kind == Kind::Udp && !state.settings.v6_only,
            (Family::V6, ..) => true,
        };
        fits.then_some(plain)
    }

    /// Gives the socket a local address and port; port 0 chooses one.
    pub fn bind(&self, address: SocketAddr) -> Result<(), BindError> {
        let mut state = self.state.lock();
        let plain = self.accept_address(&state, address).ok_or(BindError::Family)?;
        let raw = matches!(self.kind, Kind::Raw(_));
        if state.lease.is_some() || state.closed {
            return Err(BindError::AlreadyBound);
        }
        let ip = plain.ip();
        let free = ip.is_unspecified() || ip.is_multicast() || state.settings.free_bind;
        if !free && !self.host.may_bind(ip) {
            return Err(BindError::AddressNotAvailable);
        }
        if let Some(nic) = scope_of(address) {
            state.settings.device = Some(nic);
        }
        // An unspecified IPv4-mapped address binds the IPv4 side alone.
        state.local = if raw { SocketAddr::new(ip, 0) } else { plain };
        state.address_chosen = !ip.is_unspecified();
        state.can_send_from =
            ip.is_unspecified() || state.settings.free_bind || self.host.is_local(ip);
        if raw {
            return Ok(());
        }
        let bound = self.take_port(&mut state);
        if bound.is_err() {
            state.local = SocketAddr::new(self.family.unspecified(), 0);
            state.address_chosen = false;
            state.can_send_from = true;
        }
        bound
    }

    /// Reserves the port of `state.local`, or an ephemeral one, and registers the socket.
    fn take_port(&self, state: &mut State) -> Result<(), BindError> {
        let settings = &state.settings;
        let dual = self.is_dual(state);
        let request = PortRequest {
            protocol: self.protocol(state.local.ip()),
            address: state.local.ip(),
            dual_stack: if dual { DualStack::Yes } else { DualStack::No },
            port: state.local.port(),
            reuse_address: Reuse::from(settings.reuse_address),
            reuse_port: Reuse::from(settings.reuse_port),
            nic: settings.device,
            range: settings.port_range,
        };
        let lease = self.host.shared().ports.reserve(&request)?;
        state.local.set_port(lease.port());
        state.lease = Some(lease);
        let registered = self.register(state);
        if registered.is_err() {
            self.release_port(state);
        }
        registered
    }

    /// Whether a wildcard socket also takes IPv4.
    fn is_dual(&self, state: &State) -> bool {
        self.kind == Kind::Udp
            && self.family == Family::V6
            && !state.settings.v6_only
            && state.local.ip().is_unspecified()
            && state.local.is_ipv6()
    }

    fn release_port(&self, state: &mut State) {
        if let Some(lease) = state.lease.take() {
            self.host.shared().ports.release(&lease);
        }
    }

    /// The keys under which packets find the socket now.
    fn keys(&self, state: &State) -> Vec<Key> {
        let protocol = self.protocol(state.local.ip());
        let bound = |local| Key::bound(protocol, local);
        match (self.kind, state.remote) {
            (Kind::Raw(_), _) => vec![bound(SocketAddr::new(self.family.unspecified(), 0))],
            (Kind::Udp, Some(remote)) => vec![Key::connected(protocol, state.local, remote)],
            _ if self.is_dual(state) => {
                Key::wildcard(protocol, state.local.port(), &[Family::V6, Family::V4])
            }
            _ => vec![bound(state.local)],
        }
    }

    /// Puts the socket into the demux under its keys, in place of the old ones.
    fn register(&self, state: &mut State) -> Result<(), BindError> {
        self.unregister(state);
        let Some(me) = self.me.upgrade() else { return Ok(()) };
        let shared = self.host.shared();
        let demux = if matches!(self.kind, Kind::Raw(_)) { &shared.raw } else { &shared.demux };
        let sharing = if state.settings.reuse_port { Sharing::Balanced } else { Sharing::Shared };
        state.balanced = state.settings.reuse_port;
        for key in self.keys(state) {
            let place = demux.insert(key, me.clone(), state.settings.device, sharing);
            let place = place.map_err(|_| BindError::InUse)?;
            if let Some(chooser) = &state.settings.chooser {
                demux.offer_chooser(&place, chooser);
            }
            state.places.push(place);
        }
        Ok(())
    }

    fn unregister(&self, state: &mut State) {
        let shared = self.host.shared();
        let demux = if matches!(self.kind, Kind::Raw(_)) { &shared.raw } else { &shared.demux };
        for place in state.places.drain(..) {
            demux.remove(&place);
        }
    }

    /// Binds to an ephemeral port if the socket has none.
    fn auto_bind(&self, state: &mut State) -> Result<(), PortError> {
        if state.lease.is_some() || matches!(self.kind, Kind::Raw(_)) {
            return Ok(());
        }
        self.take_port(state).map_err(|_| PortError::Exhausted)
    }

    /// Sets the peer: packets come only from it, and sends need no destination.
    pub fn connect(&self, now: Instant, address: SocketAddr) -> Result<Connect, ConnectError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(ConnectError::Invalid);
        }
        let remote = self.accept_address(&state, address).ok_or(ConnectError::Family)?;
        let chosen = state.source();
        let device = scope_of(address).or(state.settings.device);
        let query = RouteQuery { src: chosen, nic: device, ..self.query(&state, remote) };
        let ask = |query: &RouteQuery| {
            self.host.route(now, query).map_err(|error| match error {
                IpError::AddressNotAvailable => ConnectError::AddressNotAvailable,
                IpError::Invalid => ConnectError::Invalid,
                other => ConnectError::Network(other.into()),
            })
        };
        let mut route = ask(&query)?;
        // Linux's ip_route_connect asks again once the source is known: a rule may look at it.
        if query.src.is_none() && remote.is_ipv4() {
            route = ask(&RouteQuery { src: Some(route.src), ..query })?;
        }
        if route.cast == Cast::Broadcast && !state.settings.broadcast {
            return Err(ConnectError::AccessDenied);
        }
        self.auto_bind(&mut state).map_err(|_| ConnectError::AddressNotAvailable)?;
        if !state.address_chosen {
            let port = state.local.port();
            state.local = SocketAddr::new(route.src, port);
        }
        if scope_of(address).is_some() {
            state.settings.device = device;
        }
        state.remote = Some(SocketAddr::new(route.dst, remote.port()));
        self.register(&mut state).map_err(|_| ConnectError::InUse)?;
        Ok(Connect::Done)
    }

    /// By what rules tell messages to a peer apart: no ports where there are none.
    fn flow(&self, state: &State, remote: SocketAddr) -> Flow {
        let settings = &state.settings;
        let tos = if remote.is_ipv4() { settings.tos } else { settings.traffic_class };
        let (sport, dport) = match self.kind {
            Kind::Udp => (state.local.port(), remote.port()),
            Kind::Ping | Kind::Raw(_) => (0, 0),
        };
        let protocol = match self.kind {
            Kind::Raw(_) if settings.header_included => PROTO_RAW,
            _ => self.protocol(remote.ip()),
        };
        let (mark, uid, label) = (settings.mark, settings.uid, 0);
        Flow { mark, tos, protocol, sport, dport, uid, label }
    }

    /// Forgets the peer (connect with AF_UNSPEC).
    pub fn disconnect(&self, _now: Instant) {
        let mut state = self.state.lock();
        state.remote = None;
        state.error = None;
        if !state.address_chosen {
            let port = state.local.port();
            state.local = SocketAddr::new(self.family.unspecified(), port);
        }
        if !state.places.is_empty() {
            // The port is held, so its keys are ours to take.
            let _ = self.register(&mut state);
        }
    }

    /// Closes one or both directions; only a connected socket has any (ENOTCONN otherwise, yet they close).
    pub fn shutdown(&self, _now: Instant, how: How) -> Result<(), ShutdownError> {
        let mut state = self.state.lock();
        state.shut_read |= how.reads();
        state.shut_write |= how.writes();
        let connected = state.remote.is_some();
        let readiness = state.readiness();
        drop(state);
        self.wake(readiness);
        if connected { Ok(()) } else { Err(ShutdownError::NotConnected) }
    }

    /// Ends the socket: its owner is gone. Its port is free and nothing arrives any more.
    pub fn close(&self, now: Instant) {
        let mut state = self.state.lock();
        state.closed = true;
        self.unregister(&mut state);
        self.release_port(&mut state);
        state.queue.clear();
        state.queued = 0;
        state.account.settle(0);
        let groups = core::mem::take(&mut state.groups);
        drop(state);
        for group in groups {
            self.give_up(now, &group);
        }
        *self.waker.lock() = None;
    }

    /// As [`Datagram::close`]: there is no peer to tell.
    pub fn abort(&self, now: Instant) {
        self.close(now);
    }

    /// The local address; unspecified with port 0 before a bind.
    pub fn local_addr(&self) -> SocketAddr {
        to_family(self.family, self.state.lock().local)
    }

    /// The peer, if the socket is connected.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.state.lock().remote.map(|remote| to_family(self.family, remote))
    }

    /// Takes the pending error (SO_ERROR).
    pub fn take_error(&self) -> Option<SocketError> {
        self.state.lock().error.take()
    }

    /// What the socket is ready for.
    pub fn readiness(&self) -> Readiness {
        self.state.lock().readiness()
    }

    /// Sets who is told about readiness.
    pub fn set_waker(&self, waker: Arc<dyn Wake>) {
        *self.waker.lock() = Some(waker);
    }

    /// Bytes of the next message in the queue (FIONREAD); 0 when there is none.
    pub fn next_len(&self) -> usize {
        self.state.lock().queue.front().map_or(0, |message| message.payload.len())
    }

    /// The question for the way to a peer, without source and interface.
    fn query(&self, state: &State, remote: SocketAddr) -> RouteQuery {
        let settings = &state.settings;
        let flow = self.flow(state, remote);
        let scope = if settings.dont_route { Scope::LINK } else { Scope::UNIVERSE };
        RouteQuery { flow, scope, prefer: settings.sources, ..RouteQuery::to(remote.ip()) }
    }

    fn wake(&self, readiness: Readiness) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake(readiness);
        }
    }
}

impl State {
    /// The source address that a bind chose.
    fn source(&self) -> Option<IpAddr> {
        (self.address_chosen && self.can_send_from).then(|| self.local.ip())
    }

    fn readiness(&self) -> Readiness {
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, !self.queue.is_empty() || self.shut_read);
        // A send never waits: what the link cannot take is dropped, as the protocols allow.
        ready.insert(Readiness::OUT);
        ready.set(Readiness::ERR, self.error.is_some() || !self.reports.is_empty());
        ready.set(Readiness::RDHUP, self.shut_read);
        ready.set(Readiness::HUP, self.shut_read && self.shut_write);
        ready
    }
}

//! How a socket gets its ends: bind, connect, listen, accept.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::TcpSocket;
use super::endpoint::{Connecting, Holder, Inner, Keep, Role, TcpEndpoint};
use super::wire::{self, Flow};
use crate::ip::{Cast, Family, PROTO_TCP, RouteInfo, RouteQuery};
use crate::socket::{
    AcceptError, BindError, Connect, ConnectError, ListenError, SocketError, from_mapped, scope_of,
};
use crate::time::Instant;
use crate::transport::tcp::fast_open;
use crate::transport::tcp::listen::{ListenQueue, Listens};
use crate::transport::tcp::{Connection, Error, State, TimeWaitReuse};
use crate::transport::{DualStack, Endpoint, Key, PortRequest, Registration, Reuse, Sharing};

impl TcpSocket {
    /// Takes an address and a port; port 0 takes an ephemeral one.
    pub fn bind(&self, address: SocketAddr) -> Result<(), BindError> {
        let endpoint = &self.0;
        let mut inner = endpoint.inner.lock();
        if inner.local.is_some() || !matches!(inner.role, Role::Idle) {
            return Err(BindError::AlreadyBound);
        }
        let address = endpoint.own_family(&inner, address).ok_or(BindError::Family)?;
        let ip = address.ip();
        if !ip.is_unspecified() && !inner.socket.free_bind && !endpoint.host.may_bind(ip) {
            return Err(BindError::AddressNotAvailable);
        }
        if address.port() == 0 && inner.socket.bind_no_port {
            // IP_BIND_ADDRESS_NO_PORT: connect chooses the port, knowing the peer.
            inner.local = Some(address);
            return Ok(());
        }
        let mut request = endpoint.port_request(&inner, ip);
        request.port = address.port();
        let lease = endpoint.host.shared().ports.reserve(&request)?;
        inner.local = Some(SocketAddr::new(ip, lease.port()));
        inner.lease = Some(lease);
        inner.bound = true;
        Ok(())
    }

    /// Opens a connection. [`Connect::InProgress`] ends with readiness OUT, or ERR and a pending error.
    pub fn connect(&self, now: Instant, address: SocketAddr) -> Result<Connect, ConnectError> {
        let endpoint = &self.0;
        let mut inner = endpoint.inner.lock();
        if let Some(known) = endpoint.check_connecting(&mut inner) {
            return known;
        }
        endpoint.begin_connect(now, &mut inner, address)?;
        if endpoint.begin_fast_connect(now, &mut inner, address) {
            return Ok(Connect::Done);
        }
        drop(inner);
        endpoint.flush(now);
        let mut inner = endpoint.inner.lock();
        match endpoint.check_connecting(&mut inner) {
            None | Some(Err(ConnectError::Already)) => Ok(Connect::InProgress),
            Some(known) => known,
        }
    }

    /// Begins to accept connections, or changes the backlog.
    pub fn listen(&self, backlog: usize) -> Result<(), ListenError> {
        let endpoint = &self.0;
        let mut inner = endpoint.inner.lock();
        match &mut inner.role {
            Role::Listener(queue) => {
                queue.set_backlog(backlog.min(endpoint.host.shared().tcp.config().somaxconn));
                return Ok(());
            }
            Role::Stream(_) => return Err(ListenError::Invalid),
            Role::Idle => {}
        }
        endpoint.begin_listen(&mut inner, backlog)?;
        drop(inner);
        endpoint.refresh();
        Ok(())
    }

    /// Takes the oldest connection that waits.
    pub fn accept(&self, _now: Instant) -> Result<TcpSocket, AcceptError> {
        let endpoint = &self.0;
        let mut inner = endpoint.inner.lock();
        let Role::Listener(queue) = &mut inner.role else { return Err(AcceptError::NotListening) };
        let child = queue.accept().ok_or(AcceptError::WouldBlock)?;
        drop(inner);
        child.inner.lock().holder = Holder::Program;
        endpoint.refresh();
        child.refresh();
        Ok(TcpSocket(child))
    }
}

impl TcpEndpoint {
    /// The address as the stack uses it, where this socket may use it.
    fn own_family(&self, inner: &Inner, address: SocketAddr) -> Option<SocketAddr> {
        let address = from_mapped(address);
        let fits = match (self.family, Family::of(address.ip())) {
            (Family::V6, Family::V4) => !inner.socket.v6_only,
            (own, theirs) => own == theirs,
        };
        fits.then_some(address)
    }

    fn port_request(&self, inner: &Inner, ip: IpAddr) -> PortRequest {
        let both = self.family == Family::V6 && !inner.socket.v6_only && ip.is_unspecified();
        PortRequest {
            dual_stack: if both && ip.is_ipv6() { DualStack::Yes } else { DualStack::No },
            reuse_address: Reuse::from(inner.socket.reuse_address),
            reuse_port: Reuse::from(inner.socket.reuse_port),
            nic: inner.socket.nic,
            range: inner.socket.port_range,
            ..PortRequest::new(PROTO_TCP, ip, 0)
        }
    }

    /// The answer to a connect that is not the first; None where a new one may begin.
    pub(super) fn check_connecting(
        &self,
        inner: &mut Inner,
    ) -> Option<Result<Connect, ConnectError>> {
        let connection = match &mut inner.role {
            Role::Idle => return None,
            Role::Listener(_) => return Some(Err(ConnectError::IsConnected)),
            Role::Stream(connection) => connection,
        };
        match inner.connecting {
            Connecting::Pending if connection.is_connecting() => Some(Err(ConnectError::Already)),
            Connecting::Pending => {
                if !matches!(connection.state(), State::Closed(_) | State::TimeWait(_)) {
                    inner.connecting = Connecting::Told;
                    return Some(Ok(Connect::Done));
                }
                // Where the program took the failure from SO_ERROR before, Linux still tells that there was one.
                let error = connection.take_error().unwrap_or(Error::Aborted);
                self.forget(inner);
                Some(Err(ConnectError::Network(error.into())))
            }
            Connecting::Undone => Some(Err(ConnectError::Invalid)),
            Connecting::No | Connecting::Told => Some(Err(ConnectError::IsConnected)),
        }
    }

    /// A connection that failed or was undone leaves the socket as it was before.
    pub(super) fn forget(&self, inner: &mut Inner) {
        self.release(inner, Keep::BoundPort);
        inner.role = Role::Idle;
        inner.connecting = Connecting::No;
        inner.peer = None;
        if !inner.bound {
            inner.local = None;
        }
    }

    pub(super) fn begin_connect(
        &self,
        now: Instant,
        inner: &mut Inner,
        address: SocketAddr,
    ) -> Result<(), ConnectError> {
        let address = self.own_family(inner, address).ok_or_else(|| {
            // An IPv6-only socket has no way to IPv4 addresses.
            match (self.family, Family::of(from_mapped(address).ip())) {
                (Family::V6, Family::V4) => SocketError::NetworkUnreachable.into(),
                _ => ConnectError::Family,
            }
        })?;
        let remote = SocketAddr::new(loopback_for_any(address.ip()), address.port());
        let asked = inner.query_to(remote);
        let query = RouteQuery { nic: asked.nic.or(scope_of(address)), ..asked };
        let route = self.host.route(now, &query).map_err(SocketError::from)?;
        if route.cast != Cast::Unicast {
            return Err(ConnectError::Network(SocketError::NetworkUnreachable));
        }
        let place = self.claim(now, inner, route.src, remote)?;
        let local = SocketAddr::new(route.src, place.key().local.1);
        let route = match self.route_of_port(now, (local, &query), route) {
            Ok(route) => route,
            Err(error) => {
                self.host.shared().demux.remove(&place);
                self.forget(inner);
                return Err(error);
            }
        };
        let shared = self.host.shared();
        let predecessor = shared.tcp.time_wait.remove(now, &Flow { local, remote }.key());
        if let Some((_, Some(lease))) = &predecessor {
            shared.ports.release(lease);
        }
        inner.local = Some(local);
        inner.peer = Some(remote);
        inner.place = Some(place.id());
        inner.connecting = Connecting::Pending;
        inner.shut_unconnected = false;
        let mut secrets = shared.tcp.keys.secrets(now, local, remote);
        if let Some((remnant, _)) = predecessor {
            shared.stats.tcp_ext.tw_recycled.inc();
            secrets.iss = remnant.successor_iss().0;
        }
        inner.role = Role::Stream(Box::new(Connection::connect(
            now,
            shared.tcp.config(),
            inner.settings.clone(),
            secrets,
            wire::limits(&route, inner.socket.ip),
        )));
        shared.stats.tcp.active_opens.inc();
        debug_assert_eq!(inner.flow(), Some(Flow { local, remote }));
        Ok(())
    }

    /// The way once source and port are chosen: a rule may look at them (Linux's `ip_route_connect` and `ip_route_newports`).
    fn route_of_port(
        &self,
        now: Instant,
        (local, query): (SocketAddr, &RouteQuery),
        route: RouteInfo,
    ) -> Result<RouteInfo, ConnectError> {
        if query.flow.sport == local.port() && query.src.is_some() {
            return Ok(route);
        }
        let flow = crate::ip::Flow { sport: local.port(), ..query.flow };
        let query = RouteQuery { src: Some(local.ip()), flow, ..*query };
        Ok(self.host.route(now, &query).map_err(SocketError::from)?)
    }

    /// Takes the place of the four-tuple in the demux; chooses the port, where the program has not.
    fn claim(
        &self,
        now: Instant,
        inner: &mut Inner,
        src: IpAddr,
        remote: SocketAddr,
    ) -> Result<Registration, ConnectError> {
        let shared = self.host.shared();
        let me = self.me.upgrade().ok_or(ConnectError::Invalid)?;
        let nic = inner.socket.nic;
        let reuse = match shared.tcp.config().time_wait_reuse {
            TimeWaitReuse::Off => false,
            TimeWaitReuse::All => true,
            TimeWaitReuse::Loopback => src.is_loopback() || remote.ip().is_loopback(),
        };
        let take = |port, chosen_by: ChosenBy| {
            // A connection in TIME-WAIT makes way where timestamps keep old segments out; always for a port that
            // the program insists on (Linux's tcp_twsk_unique).
            let flow = Flow { local: SocketAddr::new(src, port), remote };
            let way = shared.tcp.time_wait.with(now, &flow.key(), |remnant| match chosen_by {
                ChosenBy::Program => remnant.recent.is_some(),
                ChosenBy::Stack => reuse && remnant.makes_way(now),
            });
            if way == Some(false) {
                return None;
            }
            let key = Key::connected(PROTO_TCP, SocketAddr::new(src, port), remote);
            shared.demux.insert(key, me.clone(), nic, Sharing::Exclusive).ok()
        };
        if let Some(lease) = &inner.lease {
            return take(lease.port(), ChosenBy::Program).ok_or(ConnectError::AddressNotAvailable);
        }
        // To look and to take must be one step: another thread may be looking, too.
        let mut place: Option<Registration> = None;
        let mut usable = |port| {
            if let Some(unused) = place.take() {
                shared.demux.remove(&unused);
            }
            place = take(port, ChosenBy::Stack);
            place.is_some()
        };
        let request = self.port_request(inner, src);
        let far = (remote.ip(), remote.port());
        let lease = shared.ports.reserve_for_connect(&request, far, &mut usable);
        match (lease, place) {
            (Ok(lease), Some(place)) => {
                inner.lease = Some(lease);
                Ok(place)
            }
            (_, place) => {
                place.iter().for_each(|unused| shared.demux.remove(unused));
                Err(ConnectError::AddressNotAvailable)
            }
        }
    }

    fn begin_listen(&self, inner: &mut Inner, backlog: usize) -> Result<(), ListenError> {
        let shared = self.host.shared();
        if inner.lease.is_none() {
            // As on Linux, a listener that was not bound takes an ephemeral port on all addresses.
            let ip = inner.local.map_or(self.family.unspecified(), |local| local.ip());
            let lease = shared.ports.reserve(&self.port_request(inner, ip));
            let lease = lease.map_err(|_| ListenError::InUse)?;
            inner.local = Some(SocketAddr::new(ip, lease.port()));
            inner.lease = Some(lease);
        }
        let (Some(lease), Some(local)) = (&inner.lease, inner.local) else {
            return Err(ListenError::Invalid);
        };
        shared.ports.listen(lease).map_err(|_| ListenError::InUse)?;
        let families: &[Family] = match (local.ip(), inner.socket.v6_only) {
            (IpAddr::V6(ip), false) if ip.is_unspecified() => &[Family::V6, Family::V4],
            (IpAddr::V6(_), _) => &[Family::V6],
            (IpAddr::V4(_), _) => &[Family::V4],
        };
        let keys = match local.ip().is_unspecified() {
            true => Key::wildcard(PROTO_TCP, local.port(), families),
            false => vec![Key::bound(PROTO_TCP, local)],
        };
        let sharing = match inner.socket.reuse_port {
            true => Sharing::Balanced,
            // The port table has agreed that the address is free of other listeners.
            false => Sharing::Shared,
        };
        let me: Arc<TcpEndpoint> = self.me.upgrade().ok_or(ListenError::Invalid)?;
        for key in keys {
            match shared.demux.insert(key, me.clone(), inner.socket.nic, sharing) {
                Ok(place) => {
                    if let Some(chooser) = &inner.socket.chooser {
                        shared.demux.offer_chooser(&place, chooser);
                    }
                    shared.tcp.listen_watch.tell(place.key().local.into(), Listens::Begins);
                    inner.places.push(place);
                }
                Err(_) => {
                    inner.leave_places(shared);
                    return Err(ListenError::InUse);
                }
            }
        }
        let weak: std::sync::Weak<dyn Endpoint> = self.me.clone();
        let id = shared.tcp.requests.enter(weak);
        let config = shared.tcp.config();
        let backlog = backlog.min(config.somaxconn);
        let every = fast_open::SERVER | fast_open::SERVER_EVERY_LISTENER;
        if config.fast_open & every == every && inner.socket.fast_open_queue == 0 {
            inner.socket.fast_open_queue = backlog;
        }
        inner.role = Role::Listener(Box::new(ListenQueue::new(id, backlog)));
        Ok(())
    }

    /// Stops accepting: connections that wait are reset, handshakes end by themselves.
    pub(super) fn stop_listening(&self, now: Instant) {
        let mut inner = self.inner.lock();
        if !matches!(inner.role, Role::Listener(_)) {
            return;
        }
        let shared = self.host.shared();
        inner.leave_places(shared);
        if let Some(lease) = &inner.lease {
            shared.ports.unlisten(lease);
        }
        let waiting = self.drop_requests(inner);
        waiting.iter().for_each(|child| child.abort(now));
        self.refresh();
    }
}

/// Who chose the port of a connect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChosenBy {
    /// The program, by bind.
    Program,
    /// Nobody yet.
    Stack,
}

/// As on Linux, connecting to "any" connects to this host.
fn loopback_for_any(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}

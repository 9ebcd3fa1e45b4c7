//! Fast open at the socket: data with the SYN, from a client that has a cookie and to a listener that gave it
//! (RFC 7413, tcp(7)).

use super::TcpSocket;
use super::endpoint::{Connecting, Inner, Role, TcpEndpoint};
use super::request::{Heritage, ToListener};
use super::wire;
use crate::buffer::Chain;
use crate::socket::{
    Connect, ConnectError, OptionError, SendError, SendFlags, SocketError, Source, TcpOption,
};
use crate::time::Instant;
use crate::transport::tcp::fast_open::{self, FastOpen, FastOpenKeys, Verdict};
use crate::transport::tcp::{Connection, StateName};
use crate::wire::tcp::FastOpenCookie;
use core::net::SocketAddr;

/// What a listener does with a SYN beyond the ordinary.
pub(super) enum Plan {
    /// Nothing.
    Ordinary,
    /// It tells a cookie in the SYN-ACK.
    Offer(FastOpenCookie),
    /// It makes the connection at once, and may tell a new cookie.
    Open(Option<FastOpenCookie>),
}

impl TcpSocket {
    /// Connects and sends at once (MSG_FASTOPEN): gives how many bytes went with the SYN. Without a cookie the
    /// handshake asks for one, and [`SendError::InProgress`] tells to send again once it is complete.
    pub fn fast_open(
        &self,
        now: Instant,
        source: &mut dyn Source,
        address: SocketAddr,
        flags: SendFlags,
    ) -> Result<usize, SendError> {
        let endpoint = &self.0;
        let config = endpoint.host.shared().tcp.config();
        if config.fast_open & fast_open::CLIENT == 0 {
            return Err(SendError::NotSupported);
        }
        let connecting = {
            let inner = endpoint.inner.lock();
            match &inner.role {
                Role::Idle => None,
                Role::Listener(_) => return Err(SendError::IsConnected),
                Role::Stream(_) => Some(inner.connecting),
            }
        };
        match connecting {
            None => {}
            Some(Connecting::Pending) => return self.send_after_connect(now, source, flags),
            Some(_) => return Err(SendError::IsConnected),
        }
        let fast = endpoint.client_plan(now, &endpoint.inner.lock(), address);
        let data = endpoint.syn_data(now, source, address, &fast)?;
        let len = data.len();
        {
            let mut inner = endpoint.inner.lock();
            if !matches!(inner.role, Role::Idle) {
                return Err(SendError::IsConnected);
            }
            endpoint.begin_connect(now, &mut inner, address).map_err(of_connect)?;
            if let Role::Stream(connection) = &mut inner.role {
                connection.set_fast_open(fast);
                connection.push_syn_data(data);
            }
        }
        endpoint.flush(now);
        match len {
            0 => self.send_after_connect(now, source, flags),
            _ => Ok(len),
        }
    }

    /// Sends what the handshake did not carry, if it is complete.
    fn send_after_connect(
        &self,
        now: Instant,
        source: &mut dyn Source,
        flags: SendFlags,
    ) -> Result<usize, SendError> {
        let known = self.0.check_connecting(&mut self.0.inner.lock());
        match known {
            Some(Err(ConnectError::Already)) | None => Err(SendError::InProgress),
            Some(Ok(Connect::InProgress)) => Err(SendError::InProgress),
            Some(Ok(Connect::Done)) | Some(Err(ConnectError::IsConnected)) => {
                self.send(now, source, flags)
            }
            Some(Err(error)) => Err(of_connect(error)),
        }
    }

    /// The first send of a socket with TCP_FASTOPEN_CONNECT, whose SYN waited for it: None for any other send.
    pub(super) fn send_with_syn(
        &self,
        now: Instant,
        source: &mut dyn Source,
    ) -> Option<Result<usize, SendError>> {
        let endpoint = &self.0;
        let (fast, peer) = {
            let inner = endpoint.inner.lock();
            let Role::Stream(connection) = &inner.role else { return None };
            if !connection.waits_for_data() {
                return None;
            }
            (connection.fast_open(), inner.peer?)
        };
        let data = match endpoint.syn_data(now, source, peer, &fast) {
            Ok(data) => data,
            Err(error) => return Some(Err(error)),
        };
        let len = data.len();
        if let Role::Stream(connection) = &mut endpoint.inner.lock().role {
            connection.push_syn_data(data);
        }
        endpoint.flush(now);
        Some(Ok(len))
    }
}

fn of_connect(error: ConnectError) -> SendError {
    match error {
        ConnectError::IsConnected => SendError::IsConnected,
        ConnectError::Already => SendError::InProgress,
        ConnectError::Family => SendError::Family,
        ConnectError::AddressNotAvailable | ConnectError::InUse => {
            SendError::Network(SocketError::AddressNotAvailable)
        }
        ConnectError::AccessDenied => SendError::AccessDenied,
        ConnectError::Invalid => SendError::Invalid,
        ConnectError::Network(error) => SendError::Network(error),
    }
}

impl TcpEndpoint {
    /// What a client's SYN to a server carries.
    pub(super) fn client_plan(&self, now: Instant, inner: &Inner, to: SocketAddr) -> FastOpen {
        let shared = &self.host.shared().tcp;
        let config = shared.config();
        if shared.fast_open.is_paused(now, &config) {
            return FastOpen::default();
        }
        let server = crate::socket::from_mapped(to).ip();
        let known = shared.fast_open.cookie_for(now, server);
        let free = config.fast_open & fast_open::CLIENT_NO_COOKIE != 0;
        if free || inner.socket.fast_open_no_cookie {
            let mss = known.map_or(0, |(_, mss)| mss);
            return FastOpen { carries_data: true, mss, ..FastOpen::default() };
        }
        match known {
            Some((cookie, mss)) => {
                FastOpen { option: Some(cookie), carries_data: true, mss, ..FastOpen::default() }
            }
            None => FastOpen::asking(),
        }
    }

    /// The data that a SYN takes with it.
    fn syn_data(
        &self,
        now: Instant,
        source: &mut dyn Source,
        to: SocketAddr,
        fast: &FastOpen,
    ) -> Result<Chain, SendError> {
        if !fast.carries_data {
            return Ok(Chain::new());
        }
        let remote = crate::socket::from_mapped(to);
        let (ip, query) = {
            let inner = self.inner.lock();
            (inner.socket.ip, inner.query_to(remote))
        };
        let route = self.host.route(now, &query).map_err(SocketError::from)?;
        let limits = wire::limits(&route, ip);
        let room = Connection::syn_room(fast, limits).min(source.remaining());
        Ok(Chain::from_source(&self.host.shared().slabs, source, room)?)
    }

    /// The SYN-ACK came: what the server told is remembered, and how the data fared is counted.
    pub(super) fn learn_fast_open(&self, now: Instant, inner: &Inner) {
        let (Role::Stream(connection), Some(peer)) = (&inner.role, inner.peer) else { return };
        let fared = connection.syn_data();
        if !fared.tried {
            return;
        }
        let shared = self.host.shared();
        let lost = fared.sent > 0 && !fared.acked;
        let dropped = fared.retransmitted && fared.cookie.is_none() && lost;
        let told = (fared.cookie, fared.peer_mss);
        shared.tcp.fast_open.learn(now, peer.ip(), told, dropped);
        if lost {
            shared.stats.tcp_ext.tcp_fast_open_active_fail.inc();
        } else if fared.acked {
            shared.tcp.fast_open.succeeded();
            shared.stats.tcp_ext.tcp_fast_open_active.inc();
        }
    }

    /// A timer expired: the third timeout of a fast open connection is a sign of a middlebox that drops it.
    pub(super) fn suspect_black_hole(&self, now: Instant, connection: &Connection) {
        if !connection.syn_data().tried || connection.info().retries != 2 {
            return;
        }
        let shared = self.host.shared();
        if shared.tcp.fast_open.suspect_black_hole(now, &shared.tcp.config()) {
            shared.stats.tcp_ext.tcp_fast_open_blackhole.inc();
        }
    }

    /// Sets an option of fast open; None for any other.
    pub(super) fn set_fast_open(
        &self,
        inner: &mut Inner,
        value: TcpOption,
    ) -> Option<Result<(), OptionError>> {
        let config = self.host.shared().tcp.config();
        let (idle, connected) = match inner.role {
            Role::Idle => (true, false),
            Role::Listener(_) => (false, false),
            Role::Stream(_) => (false, true),
        };
        match value {
            // As on Linux, before a connection and up to somaxconn.
            TcpOption::FastOpen(_) | TcpOption::FastOpenNoCookie(_) if connected => {
                return Some(Err(OptionError::Invalid));
            }
            TcpOption::FastOpen(queue) => {
                inner.socket.fast_open_queue = (queue as usize).min(config.somaxconn);
            }
            TcpOption::FastOpenNoCookie(on) => inner.socket.fast_open_no_cookie = on,
            TcpOption::FastOpenConnect(_) if config.fast_open & fast_open::CLIENT == 0 => {
                return Some(Err(OptionError::OperationNotSupported));
            }
            TcpOption::FastOpenConnect(_) if !idle => return Some(Err(OptionError::Invalid)),
            TcpOption::FastOpenConnect(on) => inner.socket.fast_open_connect = on,
            TcpOption::FastOpenKey(keys) => inner.socket.fast_open_keys = Some(keys),
            _ => return None,
        }
        Some(Ok(()))
    }

    fn fast_open_keys(&self, heritage: &Heritage) -> FastOpenKeys {
        heritage.socket.fast_open_keys.unwrap_or_else(|| self.host.shared().tcp.fast_open.keys())
    }

    /// What a listener does with a SYN (Linux's tcp_try_fastopen).
    pub(super) fn server_plan(&self, to: &ToListener<'_>, heritage: &Heritage) -> Plan {
        let shared = self.host.shared();
        let (config, stats) = (shared.tcp.config(), &shared.stats.tcp_ext);
        let syn = &to.arrived.segment;
        let option = syn.options.fast_open;
        if option.is_some_and(|cookie| cookie.is_request()) {
            stats.tcp_fast_open_cookie_reqd.inc();
        }
        let asked = option.is_some() || !syn.payload.is_empty();
        let most = heritage.socket.fast_open_queue;
        if config.fast_open & fast_open::SERVER == 0 || !asked || most == 0 {
            return Plan::Ordinary;
        }
        let (keys, flow) = (self.fast_open_keys(heritage), to.arrived.flow);
        let (local, remote) = (flow.local.ip(), flow.remote.ip());
        let fresh = keys.cookie(local, remote);
        let free = config.fast_open & fast_open::SERVER_NO_COOKIE != 0;
        let verdict = match option {
            _ if (free || heritage.socket.fast_open_no_cookie) && !syn.payload.is_empty() => {
                Verdict::Valid
            }
            None => return Plan::Ordinary,
            Some(cookie) if cookie.is_request() => return Plan::Offer(fresh),
            Some(cookie) => keys.check(local, remote, &cookie),
        };
        let renewed = match verdict {
            Verdict::Invalid => {
                stats.tcp_fast_open_passive_fail.inc();
                return Plan::Offer(fresh);
            }
            Verdict::Old => Some(fresh),
            Verdict::Valid => None,
        };
        let room = match &mut self.inner.lock().role {
            Role::Listener(queue) => queue.begin_fast(most),
            _ => false,
        };
        if !room {
            stats.tcp_fast_open_listen_overflow.inc();
            return Plan::Ordinary;
        }
        if renewed.is_some() {
            stats.tcp_fast_open_passive_alt_key.inc();
        }
        Plan::Open(renewed)
    }

    /// Makes the connection of a SYN with a good cookie, and queues it to be accepted.
    pub(super) fn open_fast(
        &self,
        to: &ToListener<'_>,
        heritage: Heritage,
        id: u64,
        cookie: Option<FastOpenCookie>,
    ) -> Option<()> {
        let now = to.now;
        let stats = &self.host.shared().stats.tcp_ext;
        let request = self.request(to, id);
        let reserved = match &mut self.inner.lock().role {
            Role::Listener(queue) => {
                queue.reserve();
                true
            }
            _ => false,
        };
        let child = reserved.then(|| self.make_child(now, heritage, to.arrived.flow, &request));
        let Some(Some(child)) = child else {
            self.end_fast();
            self.unreserve();
            stats.tcp_fast_open_passive_fail.inc();
            return None;
        };
        {
            let mut young = child.inner.lock();
            young.parent = None;
            young.fast_open_parent = Some(self.me.clone());
            if let Role::Stream(connection) = &mut young.role {
                let payload = to.arrived.segment.payload.clone();
                connection.become_fast(now, payload, cookie);
            }
        }
        stats.tcp_fast_open_passive.inc();
        child.flush(now);
        child.join(now, self.me.upgrade());
        Some(())
    }

    /// A fast open connection of this listener completed its handshake, or failed.
    pub(super) fn end_fast(&self) {
        if let Role::Listener(queue) = &mut self.inner.lock().role {
            queue.end_fast();
        }
    }

    /// Begins a connect that asks for a cookie or waits for data (TCP_FASTOPEN_CONNECT). Gives whether it waits.
    pub(super) fn begin_fast_connect(
        &self,
        now: Instant,
        inner: &mut Inner,
        to: SocketAddr,
    ) -> bool {
        let config = self.host.shared().tcp.config();
        if !inner.socket.fast_open_connect || config.fast_open & fast_open::CLIENT == 0 {
            return false;
        }
        let fast = self.client_plan(now, inner, to);
        let waits = fast.carries_data;
        if let Role::Stream(connection) = &mut inner.role
            && connection.state_name() == StateName::SynSent
        {
            connection.set_fast_open(FastOpen { waits_for_data: waits, ..fast });
        }
        if waits {
            inner.connecting = Connecting::Told;
        }
        waits
    }
}

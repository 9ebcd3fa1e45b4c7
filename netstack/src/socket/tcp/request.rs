//! A listener at work: SYNs become requests or cookies, SYN-ACKs are repeated, and the acknowledgment that completes
//! a handshake makes the connection.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::endpoint::{Connecting, Holder, Inner, Role, SocketSettings, TcpEndpoint};
use super::fast_open::Plan;
use super::wire::{self, Arrived, Flow, IpSettings};
use crate::buffer::PacketBuffer;
use crate::ip::{IpInfo, PROTO_TCP, RouteInfo};
use crate::lazy::Cow;
use crate::link::NicId;
use crate::time::Instant;
use crate::transport::tcp::listen::{
    Admission, FlowKey, ListenQueue, Proven, Request, RequestDisposition, cookie,
};
use crate::transport::tcp::state::{Listen, ListenDisposition};
use crate::transport::tcp::{Connection, Segment, Seq, Settings};
use crate::transport::{Key, PortLease, Sharing};
use crate::wire::tcp::{FastOpenCookie, Flags};

/// What a listener hands to the connections that it takes.
pub(super) struct Heritage {
    pub settings: Cow<Settings>,
    pub socket: Cow<SocketSettings>,
    lease: Option<PortLease>,
}

impl Heritage {
    fn of(inner: &Inner) -> Heritage {
        Heritage {
            settings: inner.settings.clone(),
            socket: inner.socket.clone(),
            lease: inner.lease,
        }
    }
}

impl Flow {
    pub(super) fn key(&self) -> FlowKey {
        FlowKey::new(self.local, self.remote)
    }
}

/// A link-local peer is reached only where it was heard.
fn scope(flow: Flow, bound: Option<NicId>, heard: NicId) -> Option<NicId> {
    let local = matches!(flow.remote.ip(), core::net::IpAddr::V6(ip) if ip.is_unicast_link_local());
    bound.or(local.then_some(heard))
}

/// A segment for a listener, and all that may have to be known of it.
pub(super) struct ToListener<'a> {
    pub now: Instant,
    pub info: &'a IpInfo,
    pub arrived: Arrived,
    pub packet: PacketBuffer,
}

impl TcpEndpoint {
    /// A segment for a listener.
    pub(super) fn on_listener(&self, to: ToListener<'_>) {
        let shared = self.host.shared();
        let key = to.arrived.flow.key();
        let Some(owner) = shared.tcp.requests.with(&key, |request| request.listener) else {
            return self.on_unknown(to);
        };
        let mine = matches!(&self.inner.lock().role, Role::Listener(queue) if queue.id() == owner);
        match (mine, shared.tcp.requests.listener(owner)) {
            (false, Some(listener)) => listener.deliver(to.now, to.info, to.packet),
            _ => self.on_request(to),
        }
    }

    /// A segment that belongs to no request.
    fn on_unknown(&self, to: ToListener<'_>) {
        let flow = to.arrived.flow;
        if !to.arrived.segment.syn() {
            // Another thread may have completed the handshake since the demux was asked.
            let connected = Key::connected(PROTO_TCP, flow.local, flow.remote);
            if let Some(child) = self.host.shared().demux.exact(&connected, to.info.nic, 0) {
                return child.deliver(to.now, to.info, to.packet);
            }
            if let Some(request) = self.check_cookie(&to) {
                return self.complete(to, request);
            }
        }
        match Listen.on_segment(&to.arrived.segment) {
            ListenDisposition::Ignore => {}
            ListenDisposition::SendReset(reset) => {
                wire::emit_stray(&*self.host, to.now, flow, reset);
            }
            ListenDisposition::Request => self.admit(&to),
        }
    }

    /// A SYN: it is remembered, answered by a cookie, or dropped.
    fn admit(&self, to: &ToListener<'_>) {
        let shared = self.host.shared();
        let config = shared.tcp.config();
        let stats = &shared.stats.tcp_ext;
        // A SYN that succeeds a connection in TIME-WAIT comes from a peer that is known to be real.
        let predecessor = shared.tcp.time_wait.remove(to.now, &to.arrived.flow.key());
        if let Some((_, Some(lease))) = &predecessor {
            shared.ports.release(lease);
        }
        let iss = predecessor.map(|(remnant, _)| remnant.successor_iss());
        let proven = if iss.is_some() { Proven::Yes } else { Proven::No };
        let mut inner = self.inner.lock();
        let heritage = Heritage::of(&inner);
        let Role::Listener(queue) = &mut inner.role else { return };
        let (id, admission) = (queue.id(), queue.admit(&config, proven));
        match admission {
            Admission::Admit => {}
            Admission::Cookie => {
                stats.tcp_req_q_full_do_cookies.inc();
                queue.cookie_sent(to.now);
            }
            Admission::SynQueueFull => stats.tcp_req_q_full_drop.inc(),
            Admission::AcceptQueueFull => stats.listen_overflows.inc(),
            Admission::Reserved => {}
        }
        drop(inner);
        let answered = match admission {
            Admission::Admit => match self.server_plan(to, &heritage) {
                Plan::Ordinary => self.remember(to, heritage, (id, iss), None),
                Plan::Offer(cookie) => self.remember(to, heritage, (id, iss), Some(cookie)),
                Plan::Open(renewed) => self.open_fast(to, heritage, id, renewed),
            },
            Admission::Cookie => self.answer_by_cookie(to, heritage, id),
            _ => None,
        };
        if answered.is_none() {
            stats.listen_drops.inc();
        }
    }

    /// The request of a SYN, before anything was answered.
    pub(super) fn request(&self, to: &ToListener<'_>, id: u64) -> Request {
        let flow = to.arrived.flow;
        let secrets = self.host.shared().tcp.keys.secrets(to.now, flow.local, flow.remote);
        let mut request = Request::new(to.now, id, to.info.nic, &to.arrived.segment);
        request.timestamp_offset = secrets.timestamp_offset;
        request.ours.iss = Seq(secrets.iss);
        request
    }

    /// Answers a SYN by a cookie. None where there is no way to the peer.
    fn answer_by_cookie(&self, to: &ToListener<'_>, heritage: Heritage, id: u64) -> Option<()> {
        let shared = self.host.shared();
        let (now, flow, syn) = (to.now, to.arrived.flow, &to.arrived.segment);
        let route = self.route_back(now, flow, to.info.nic, &heritage.socket)?;
        let mut request = self.request(to, id);
        let most = syn.options.mss.unwrap_or(0);
        request.ours.iss = shared.tcp.cookies.make(now, &flow.key(), syn.seq, most).0;
        let mut segment = self.syn_ack(now, &heritage.settings, &route, &request);
        match &mut segment.options.timestamps {
            Some(stamp) => {
                let ecn = segment.flags.contains(Flags::ECE);
                stamp.value = cookie::stamp(stamp.value, &syn.options, ecn);
            }
            // Without timestamps nothing but the segment size comes back.
            None => {
                segment.options.window_scale = None;
                segment.options.sack_permitted = false;
                segment.flags.remove(Flags::ECE);
            }
        }
        shared.stats.tcp_ext.syncookies_sent.inc();
        // What cannot be sent is lost, as any segment may be.
        let _ = wire::emit(&*self.host, now, &route, flow, &heritage.socket.ip, &mut segment);
        Some(())
    }

    /// Remembers a SYN and sends the first SYN-ACK. None where there is no way to the peer.
    fn remember(
        &self,
        to: &ToListener<'_>,
        heritage: Heritage,
        (id, iss): (u64, Option<Seq>),
        fast_open: Option<FastOpenCookie>,
    ) -> Option<()> {
        let shared = self.host.shared();
        let (now, flow) = (to.now, to.arrived.flow);
        let route = self.route_back(now, flow, to.info.nic, &heritage.socket)?;
        let mut request = self.request(to, id);
        request.ours.iss = iss.unwrap_or(request.ours.iss);
        let mut segment = self.syn_ack(now, &heritage.settings, &route, &request);
        request.sent(&segment);
        segment.options.fast_open = fast_open;
        {
            let mut inner = self.inner.lock();
            let Role::Listener(queue) = &mut inner.role else { return None };
            if !shared.tcp.requests.insert(flow.key(), request) {
                // Another thread was faster with the same SYN.
                return Some(());
            }
            queue.begin(now, flow.key());
        }
        self.refresh();
        let _ = wire::emit(&*self.host, now, &route, flow, &heritage.socket.ip, &mut segment);
        Some(())
    }

    /// The way back to who asks, as the listener's settings choose it.
    fn route_back(
        &self,
        now: Instant,
        flow: Flow,
        heard: NicId,
        settings: &SocketSettings,
    ) -> Option<RouteInfo> {
        let query = settings.ip.query(&flow, scope(flow, settings.nic, heard));
        self.host.route(now, &query).ok()
    }

    /// The SYN-ACK of a request: what a connection made from it would send.
    fn syn_ack(
        &self,
        now: Instant,
        settings: &Cow<Settings>,
        route: &RouteInfo,
        request: &Request,
    ) -> Segment {
        let config = self.host.shared().tcp.config();
        let limits = wire::limits(route, IpSettings::DEFAULT);
        Connection::syn_ack(now, config, settings.clone(), limits, request)
    }

    /// A segment for one of this listener's requests.
    fn on_request(&self, to: ToListener<'_>) {
        let shared = self.host.shared();
        let config = shared.tcp.config();
        let stats = &shared.stats;
        let key = to.arrived.flow.key();
        let wait = self.inner.lock().settings.defer_accept;
        let disposition = shared.tcp.requests.with(&key, |request| {
            let defers = wait.is_some_and(|wait| to.now < request.began + wait);
            let quiet = config.invalid_ratelimit;
            let disposition = request.on_segment(to.now, &to.arrived.segment, defers, quiet);
            (disposition, request.clone())
        });
        let Some((disposition, request)) = disposition else { return self.on_unknown(to) };
        let flow = to.arrived.flow;
        match disposition {
            RequestDisposition::Ignore => {}
            RequestDisposition::TooOld(answer) => {
                stats.tcp_ext.paws_estab.inc();
                self.answer_stray(to.now, flow, answer);
            }
            RequestDisposition::Forged(answer) => {
                stats.tcp_ext.ts_ecr_rejected.inc();
                self.answer_stray(to.now, flow, answer);
            }
            RequestDisposition::Challenged(answer) => {
                stats.tcp_ext.tcp_challenge_ack.add(u64::from(answer.is_some()));
                self.answer_stray(to.now, flow, answer);
            }
            RequestDisposition::OutOfWindow(answer) | RequestDisposition::Stray(answer) => {
                self.answer_stray(to.now, flow, answer);
            }
            RequestDisposition::Repeat => {
                self.postpone(to.now, key, &request);
                self.repeat(to.now, key, &request);
            }
            RequestDisposition::Deferred => stats.tcp_ext.tcp_defer_accept_drop.inc(),
            RequestDisposition::End(answer) => {
                stats.tcp.attempt_fails.inc();
                stats.tcp_ext.embryonic_rsts.inc();
                self.end_request(&key, request.listener);
                self.answer_stray(to.now, flow, answer);
            }
            RequestDisposition::Complete => self.complete(to, request),
        }
    }

    fn answer_stray(&self, now: Instant, flow: Flow, answer: Option<Segment>) {
        if let Some(segment) = answer {
            wire::emit_stray(&*self.host, now, flow, segment);
        }
    }

    /// Forgets a request, and counts it out of the queue.
    fn end_request(&self, key: &FlowKey, id: u64) -> bool {
        let requests = &self.host.shared().tcp.requests;
        let Some(request) = requests.remove(key, id) else { return false };
        if let Role::Listener(queue) = &mut self.inner.lock().role
            && queue.id() == id
        {
            queue.end(request.retries, |flow, at| {
                requests.with(flow, |request| request.deadline == at).unwrap_or(false)
            });
        }
        true
    }

    /// The wait for the next SYN-ACK begins anew, as on Linux where a SYN that came again was answered (tcp_check_req).
    fn postpone(&self, now: Instant, key: FlowKey, request: &Request) {
        let deadline = ListenQueue::<()>::deadline(now, request.retries);
        let requests = &self.host.shared().tcp.requests;
        let Role::Listener(queue) = &mut self.inner.lock().role else { return };
        requests.with(&key, |request| request.deadline = deadline);
        queue.postpone(now, key, request.retries, |flow, at| {
            requests.with(flow, |request| request.deadline == at).unwrap_or(false)
        });
    }

    /// Sends the SYN-ACK of a request again.
    fn repeat(&self, now: Instant, key: FlowKey, request: &Request) {
        let flow = Flow { local: key.local(), remote: key.remote() };
        let heritage = Heritage::of(&self.inner.lock());
        let route = self.route_back(now, flow, request.nic, &heritage.socket);
        let Some(route) = route else { return };
        let mut segment = self.syn_ack(now, &heritage.settings, &route, request);
        // What was promised stays.
        segment.window = request.ours.window;
        if segment.options.window_scale.is_some() {
            segment.options.window_scale = Some(request.ours.shift);
        }
        segment.retransmission = true;
        let shared = self.host.shared();
        shared.tcp.requests.with(&key, |request| {
            request.repeats = request.repeats.saturating_add(1);
            request.sent(&segment);
        });
        shared.stats.tcp_ext.tcp_syn_retrans.inc();
        let _ = wire::emit(&*self.host, now, &route, flow, &heritage.socket.ip, &mut segment);
    }

    /// Time passed: repeats the SYN-ACKs that are due, gives up what was repeated too often.
    pub(super) fn on_listener_timer(&self, now: Instant) {
        let shared = self.host.shared();
        let config = shared.tcp.config();
        loop {
            let mut inner = self.inner.lock();
            let wait = inner.settings.defer_accept;
            let Role::Listener(queue) = &mut inner.role else { return };
            let Some((key, at)) = queue.take_due(now) else { return };
            let id = queue.id();
            let due = shared.tcp.requests.with(&key, |request| {
                (request.listener == id && request.deadline == at).then(|| request.clone())
            });
            let Some(Some(request)) = due else { continue };
            let limit = queue.retry_limit(config.synack_retries.min(127) as u8);
            // TCP_DEFER_ACCEPT: who has acknowledged is asked again only when the wait is over.
            let deferred = request.acked && wait.is_some_and(|wait| now < request.began + wait);
            if request.retries >= limit && !deferred {
                drop(inner);
                shared.stats.tcp.attempt_fails.inc();
                self.end_request(&key, id);
                continue;
            }
            let retries = request.retries.saturating_add(1);
            queue.repeat(now, key, retries);
            let deadline = ListenQueue::<()>::deadline(now, retries);
            shared.tcp.requests.with(&key, |request| {
                request.retries = retries;
                request.deadline = deadline;
            });
            drop(inner);
            if !deferred {
                self.repeat(now, key, &request);
            }
        }
    }

    /// The acknowledgment of a cookie brings back what the listener did not remember.
    fn check_cookie(&self, to: &ToListener<'_>) -> Option<Request> {
        use crate::transport::tcp::SynCookies;
        let shared = self.host.shared();
        let segment = &to.arrived.segment;
        let ack = segment.acknowledges().filter(|_| !segment.rst() && !segment.syn())?;
        if shared.tcp.config().syncookies == SynCookies::Off {
            return None;
        }
        let id = match &self.inner.lock().role {
            Role::Listener(queue) if queue.expects_cookie(to.now) => queue.id(),
            _ => return None,
        };
        let (flow, cookie) = (to.arrived.flow, ack - 1usize);
        let mss = shared.tcp.cookies.check(to.now, &flow.key(), segment.seq - 1usize, cookie);
        let Some(mss) = mss else {
            shared.stats.tcp_ext.syncookies_failed.inc();
            return None;
        };
        shared.stats.tcp_ext.syncookies_recv.inc();
        let echo = segment.options.timestamps.map(|stamp| stamp.echo).filter(|echo| *echo != 0);
        let echoed = echo.map(cookie::read_stamp);
        let nic = (id, to.info.nic);
        let mut request = Request::from_cookie(to.now, nic, segment, mss, echoed);
        let secrets = shared.tcp.keys.secrets(to.now, flow.local, flow.remote);
        request.ours.iss = cookie;
        request.timestamp_offset = secrets.timestamp_offset;
        Some(request)
    }

    /// The handshake is complete: makes the connection, if the accept queue has room, and gives it the segment.
    fn complete(&self, to: ToListener<'_>, request: Request) {
        let shared = self.host.shared();
        let stats = &shared.stats.tcp_ext;
        let key = to.arrived.flow.key();
        let mut inner = self.inner.lock();
        let heritage = Heritage::of(&inner);
        let Role::Listener(queue) = &mut inner.role else { return };
        if queue.is_full() {
            drop(inner);
            stats.listen_overflows.inc();
            stats.listen_drops.inc();
            return self.overflow(&to, &request);
        }
        queue.reserve();
        drop(inner);
        let child = self.make_child(to.now, heritage, to.arrived.flow, &request);
        if !request.from_cookie {
            self.end_request(&key, request.listener);
        }
        match child {
            Some(child) => {
                let young = child.inner.lock();
                let ToListener { now, info, mut arrived, packet } = to;
                child.on_segment(now, info, young, &mut arrived, packet);
                child.settle_birth(to.now);
            }
            None => {
                self.unreserve();
                // Another thread has made it.
                let flow = to.arrived.flow;
                let connected = Key::connected(PROTO_TCP, flow.local, flow.remote);
                match shared.demux.exact(&connected, to.info.nic, 0) {
                    Some(child) => child.deliver(to.now, to.info, to.packet),
                    None => stats.listen_drops.inc(),
                }
            }
        }
        self.refresh();
    }

    /// The accept queue is full: the acknowledgment is dropped as if it had been lost, or answered by a reset
    /// (tcp_abort_on_overflow).
    fn overflow(&self, to: &ToListener<'_>, request: &Request) {
        let shared = self.host.shared();
        let key = to.arrived.flow.key();
        if shared.tcp.config().abort_on_overflow {
            if self.end_request(&key, request.listener) {
                shared.stats.tcp_ext.embryonic_rsts.inc();
            }
            let reset = to.arrived.segment.answer_with_reset();
            return self.answer_stray(to.now, to.arrived.flow, reset);
        }
        shared.tcp.requests.with(&key, |request| request.acked = true);
    }

    pub(super) fn unreserve(&self) {
        if let Role::Listener(queue) = &mut self.inner.lock().role {
            queue.unreserve();
        }
    }

    /// The connection of a request, in SYN-RECEIVED. None where there is no way to the peer or its flow is taken.
    pub(super) fn make_child(
        &self,
        now: Instant,
        heritage: Heritage,
        flow: Flow,
        request: &Request,
    ) -> Option<Arc<TcpEndpoint>> {
        let shared = self.host.shared();
        let route = self.route_back(now, flow, request.nic, &heritage.socket)?;
        let nic = scope(flow, heritage.socket.nic, request.nic);
        let child = TcpEndpoint::new(self.host.clone(), self.family, Holder::Listener);
        let mut young = child.inner.lock();
        let (config, limits) = (shared.tcp.config(), wire::limits(&route, heritage.socket.ip));
        young.role = Role::Stream(Box::new(Connection::from_request(
            now,
            config,
            heritage.settings,
            limits,
            request,
        )));
        young.local = Some(flow.local);
        young.peer = Some(flow.remote);
        young.socket = heritage.socket;
        if young.socket.nic != nic {
            young.socket.nic = nic;
        }
        young.connecting = Connecting::Told;
        // In the demux only once it is whole: the next segment may come on another thread.
        let place =
            shared.demux.insert(flow.connected(), child.clone(), nic, Sharing::Exclusive).ok()?;
        young.place = Some(place.id());
        young.lease = heritage.lease.as_ref().and_then(|lease| shared.ports.share(lease));
        young.parent = Some(self.me.clone());
        drop(young);
        Some(child)
    }

    /// A connection that the segment which made it did not open is no use.
    fn settle_birth(&self, now: Instant) {
        let parent = self.inner.lock().parent.take();
        if let Some(parent) = parent {
            if let Some(parent) = parent.upgrade() {
                parent.unreserve();
            }
            self.abort(now);
        }
    }

    /// The handshake is complete: the connection waits to be accepted.
    pub(super) fn join(&self, now: Instant, parent: Option<Arc<TcpEndpoint>>) {
        let taken = parent.is_some_and(|parent| {
            let Some(me) = self.me.upgrade() else { return false };
            let mut inner = parent.inner.lock();
            let Role::Listener(queue) = &mut inner.role else { return false };
            queue.complete(me);
            inner.news = true;
            drop(inner);
            parent.refresh();
            true
        });
        if taken {
            self.host.shared().stats.tcp.passive_opens.inc();
        } else {
            self.abort(now);
        }
    }

    /// The listener ended: its requests do, too.
    pub(super) fn drop_requests(&self, mut inner: MutexGuard<'_, Inner>) -> Vec<Arc<TcpEndpoint>> {
        let Role::Listener(queue) = &mut inner.role else { return Vec::new() };
        let (id, flows, waiting) = (queue.id(), queue.drain_requests(), queue.drain());
        let requests = &self.host.shared().tcp.requests;
        inner.role = Role::Idle;
        drop(inner);
        requests.leave(id);
        for flow in &flows {
            requests.remove(flow, id);
        }
        waiting
    }
}

//! What a listener holds: the handshakes under way (as compact requests, not connections), by the time of their next
//! SYN-ACK, and the connections that wait to be accepted.

pub mod cookie;
mod request;
mod table;
mod watch;

use std::collections::VecDeque;

use crate::time::{Duration, Instant};

pub use request::{Request, RequestDisposition, SynAck};
pub use table::{FlowKey, RequestTable};
pub use watch::{ListenHook, ListenWatch, Listens};

use super::config::{SynCookies, TcpConfig};

/// The first SYN-ACK is repeated after this time, and each further one after twice the time before (Linux's
/// TCP_TIMEOUT_INIT).
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// The most that Linux waits between two (TCP_RTO_MAX).
const LAST_TIMEOUT: Duration = Duration::from_secs(120);
/// How many different waits there are: 1, 2, 4 … 64 and 120 s.
const LEVELS: usize = 8;
/// So many entries of ended requests may stay in a queue of waits.
const SPARE_WAITS: usize = 256;
/// A cookie is taken only so long after the listener last sent one (Linux's TCP_SYNCOOKIE_VALID).
const COOKIES_SINCE: Duration = Duration::from_secs(120);

/// What to do with a connection request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Remember it and answer.
    Admit,
    /// Answer by a cookie and remember nothing.
    Cookie,
    /// Drop it: the accept queue is full.
    AcceptQueueFull,
    /// Drop it: too many handshakes are under way, and cookies are off.
    SynQueueFull,
    /// Drop it: the last quarter of tcp_max_syn_backlog is kept for known peers while cookies are off.
    Reserved,
}

/// When a request wants attention. Entries of requests that ended meanwhile are skipped.
#[derive(Clone, Copy, Debug)]
struct Wait {
    at: Instant,
    flow: FlowKey,
}

/// The queues of a listener over handles `T` of connections.
#[derive(Debug)]
pub struct ListenQueue<T> {
    /// Who it is in the table of requests.
    id: u64,
    backlog: usize,
    handshakes: usize,
    /// Of these, how many have not had to repeat their SYN-ACK (Linux's qlen_young).
    young: usize,
    /// Places in the accept queue given to connections that are being made.
    coming: usize,
    ready: VecDeque<T>,
    /// Requests by the number of their repeats: those of one level wait equally long, so each queue is in order of time.
    waits: [VecDeque<Wait>; LEVELS],
    cookie_at: Option<Instant>,
    /// Fast open connections whose handshake is not complete.
    fast: usize,
}

impl<T> ListenQueue<T> {
    /// Empty queues of the listener `id`; the caller has bounded the backlog by somaxconn.
    pub fn new(id: u64, backlog: usize) -> ListenQueue<T> {
        ListenQueue {
            id,
            backlog,
            handshakes: 0,
            young: 0,
            coming: 0,
            ready: VecDeque::new(),
            waits: core::array::from_fn(|_| VecDeque::new()),
            cookie_at: None,
            fast: 0,
        }
    }

    /// Who it is in the table of requests.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Another `listen` changes the backlog and keeps what is queued.
    pub fn set_backlog(&mut self, backlog: usize) {
        self.backlog = backlog;
    }

    /// The backlog in force.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// Linux's sk_acceptq_is_full: one more than the backlog fits.
    pub fn is_full(&self) -> bool {
        self.ready.len() + self.coming > self.backlog
    }

    /// What to do with a SYN, in the order of Linux's tcp_conn_request. `proven` tells a SYN that succeeds a
    /// connection in TIME-WAIT: its peer is real.
    pub fn admit(&self, config: &TcpConfig, proven: Proven) -> Admission {
        let cookies = config.syncookies;
        let crowded = cookies == SynCookies::Always || self.handshakes > self.backlog;
        let mut admission = Admission::Admit;
        if crowded && proven == Proven::No {
            admission = match cookies {
                SynCookies::Off => return Admission::SynQueueFull,
                SynCookies::WhenFull | SynCookies::Always => Admission::Cookie,
            };
        }
        if self.is_full() {
            return Admission::AcceptQueueFull;
        }
        let most = config.max_syn_backlog;
        let nearly_full = most.saturating_sub(self.handshakes) < most >> 2;
        if cookies == SynCookies::Off && proven == Proven::No && nearly_full {
            return Admission::Reserved;
        }
        admission
    }

    /// A handshake began at `now`.
    pub fn begin(&mut self, now: Instant, flow: FlowKey) {
        self.handshakes += 1;
        self.young += 1;
        self.schedule(now, flow, 0);
    }

    /// A handshake ended, with or without a connection, after so many repeats of its SYN-ACK. `waits` tells
    /// whether the request of a flow still waits for that time.
    pub fn end(&mut self, retries: u8, waits: impl Fn(&FlowKey, Instant) -> bool) {
        self.handshakes = self.handshakes.saturating_sub(1);
        if retries == 0 {
            self.young = self.young.saturating_sub(1);
        }
        self.forget_waits(waits);
    }

    /// Entries that count no more never outnumber the requests by more than a constant.
    fn forget_waits(&mut self, waits: impl Fn(&FlowKey, Instant) -> bool) {
        for queue in &mut self.waits {
            if queue.len() > 2 * self.handshakes + SPARE_WAITS {
                queue.retain(|wait| waits(&wait.flow, wait.at));
            }
        }
    }

    /// The SYN-ACK of a request was due to be repeated: it is no longer young, and waits for the next repeat.
    pub fn repeat(&mut self, now: Instant, flow: FlowKey, retries: u8) {
        if retries == 1 {
            self.young = self.young.saturating_sub(1);
        }
        self.schedule(now, flow, retries);
    }

    /// A request waits from now on for its next SYN-ACK, of which there were so many; what it waited for before counts no more.
    pub fn postpone(
        &mut self,
        now: Instant,
        flow: FlowKey,
        retries: u8,
        waits: impl Fn(&FlowKey, Instant) -> bool,
    ) {
        self.schedule(now, flow, retries);
        self.forget_waits(waits);
    }

    fn schedule(&mut self, now: Instant, flow: FlowKey, retries: u8) {
        let level = usize::from(retries).min(LEVELS - 1);
        self.waits[level].push_back(Wait { at: Self::deadline(now, retries), flow });
    }

    /// When a SYN-ACK that is repeated now for the `retries`th time is due again.
    pub fn deadline(now: Instant, retries: u8) -> Instant {
        let level = usize::from(retries).min(LEVELS - 1);
        now + FIRST_TIMEOUT.saturating_mul(1 << level).min(LAST_TIMEOUT)
    }

    /// When the next SYN-ACK is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waits.iter().filter_map(|queue| queue.front()).map(|wait| wait.at).min()
    }

    /// Takes the flow of a request whose time has come, if there is one. Its request may have ended, or have been
    /// answered later: the table tells.
    pub fn take_due(&mut self, now: Instant) -> Option<(FlowKey, Instant)> {
        let queue =
            self.waits.iter_mut().find(|queue| queue.front().is_some_and(|w| w.at <= now))?;
        queue.pop_front().map(|wait| (wait.flow, wait.at))
    }

    /// How often a SYN-ACK may be repeated now: fewer times the more requests are old (Linux's reqsk_timer_handler).
    pub fn retry_limit(&self, retries: u8) -> u8 {
        let mut limit = retries;
        if self.handshakes * 2 > self.backlog.max(8) {
            let mut young = self.young * 2;
            while limit > 2 && self.handshakes >= young {
                limit -= 1;
                young = young.saturating_mul(2).max(1);
            }
        }
        limit
    }

    /// Counts a fast open connection, where fewer than `most` have an incomplete handshake.
    pub fn begin_fast(&mut self, most: usize) -> bool {
        let room = self.fast < most;
        self.fast += usize::from(room);
        room
    }

    /// The handshake of a fast open connection is complete, or it failed.
    pub fn end_fast(&mut self) {
        self.fast = self.fast.saturating_sub(1);
    }

    /// A cookie goes out.
    pub fn cookie_sent(&mut self, now: Instant) {
        self.cookie_at = Some(now);
    }

    /// Whether a cookie may come back: one was sent lately.
    pub fn expects_cookie(&self, now: Instant) -> bool {
        self.cookie_at.is_some_and(|at| now.since(at) <= COOKIES_SINCE)
    }

    /// Keeps a place for a connection that is being made.
    pub fn reserve(&mut self) {
        self.coming += 1;
    }

    /// Gives the place back.
    pub fn unreserve(&mut self) {
        self.coming = self.coming.saturating_sub(1);
    }

    /// The connection that a place was kept for waits to be accepted.
    pub fn complete(&mut self, connection: T) {
        self.unreserve();
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

    /// Takes the flows of all requests, and perhaps of some that ended.
    pub fn drain_requests(&mut self) -> Vec<FlowKey> {
        let flows = self.waits.iter_mut().flat_map(|queue| queue.drain(..)).map(|wait| wait.flow);
        let flows = flows.collect();
        self.handshakes = 0;
        self.young = 0;
        flows
    }
}

/// Whether a SYN's sender is known to be where it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proven {
    /// No.
    No,
    /// It had a connection that is in TIME-WAIT.
    Yes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> FlowKey {
        let end = |port| core::net::SocketAddr::from(([10, 0, 0, 1], port));
        FlowKey::new(end(80), end(port))
    }

    fn config(syncookies: SynCookies) -> TcpConfig {
        TcpConfig { syncookies, ..TcpConfig::default() }
    }

    #[test]
    fn one_more_than_the_backlog_fits_as_on_linux() {
        let config = config(SynCookies::WhenFull);
        let mut queue = ListenQueue::new(1, 1);
        for n in 0..2 {
            assert_eq!(queue.admit(&config, Proven::No), Admission::Admit);
            queue.begin(Instant::ZERO, flow(n));
            queue.end(0, |_, _| false);
            queue.reserve();
            queue.complete(n);
        }
        assert_eq!(queue.admit(&config, Proven::No), Admission::AcceptQueueFull);
        assert_eq!(queue.accept(), Some(0));
        assert_eq!(queue.admit(&config, Proven::No), Admission::Admit);
    }

    #[test]
    fn one_handshake_more_than_the_backlog_then_cookies_or_nothing() {
        for (cookies, then) in
            [(SynCookies::WhenFull, Admission::Cookie), (SynCookies::Off, Admission::SynQueueFull)]
        {
            let config = config(cookies);
            let mut queue = ListenQueue::<()>::new(1, 1);
            while queue.admit(&config, Proven::No) == Admission::Admit {
                queue.begin(Instant::ZERO, flow(0));
            }
            assert_eq!((queue.handshakes(), queue.admit(&config, Proven::No)), (2, then));
            assert_eq!(queue.admit(&config, Proven::Yes), Admission::Admit);
            queue.end(0, |_, _| false);
            assert_eq!(queue.admit(&config, Proven::No), Admission::Admit);
        }
        let mut queue = ListenQueue::<()>::new(1, 1000);
        let config = TcpConfig { max_syn_backlog: 8, ..config(SynCookies::Off) };
        while queue.admit(&config, Proven::No) == Admission::Admit {
            queue.begin(Instant::ZERO, flow(0));
        }
        assert_eq!(
            (queue.handshakes(), queue.admit(&config, Proven::No)),
            (7, Admission::Reserved)
        );
    }

    #[test]
    fn waits_double_and_come_up_in_order() {
        let mut queue = ListenQueue::<()>::new(1, 100);
        let start = Instant::from_secs(10);
        queue.begin(start, flow(1));
        queue.begin(start, flow(2));
        let second = Duration::from_secs(1);
        assert_eq!(queue.next_deadline(), Some(start + second));
        assert_eq!(queue.take_due(start), None);
        let now = start + second;
        assert_eq!(queue.take_due(now).map(|due| due.0), Some(flow(1)));
        queue.repeat(now, flow(1), 1);
        assert_eq!(queue.take_due(now).map(|due| due.0), Some(flow(2)));
        assert_eq!(queue.next_deadline(), Some(now + 2 * second));
        queue.repeat(now, flow(1), 200);
        assert_eq!(queue.drain_requests().len(), 2);
    }

    #[test]
    fn waits_that_begin_anew_stay_few() {
        let mut queue = ListenQueue::<()>::new(1, 100);
        queue.begin(Instant::ZERO, flow(1));
        for n in 1..10_000 {
            let now = Instant::ZERO + Duration::from_nanos(n);
            let latest = ListenQueue::<()>::deadline(now, 0);
            queue.postpone(now, flow(1), 0, |_, at| at == latest);
        }
        assert!(queue.waits[0].len() <= SPARE_WAITS + 3, "{}", queue.waits[0].len());
    }

    #[test]
    fn old_requests_get_fewer_repeats_in_a_crowd() {
        let mut queue = ListenQueue::<()>::new(1, 100);
        assert_eq!(queue.retry_limit(5), 5);
        for n in 0..100 {
            queue.begin(Instant::ZERO, flow(n));
            queue.repeat(Instant::ZERO, flow(n), 1);
        }
        assert_eq!(queue.retry_limit(5), 2);
    }
}

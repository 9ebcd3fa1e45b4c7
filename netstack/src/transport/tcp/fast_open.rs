//! TCP Fast Open (RFC 7413): the cookies that a server gives, those that a client has got, and when it is better not
//! to try. What the handshake does with them is in `state` and `connection`.

use core::net::IpAddr;
use std::collections::HashMap;

use parking_lot::{Mutex, RwLock};

use super::config::{PathLimits, TcpConfig};
use super::connection::Connection;
use super::receive::{AckDue, Text};
use super::segment::Segment;
use super::send::Sender;
use super::state::{Origin, State, SynReceived};
use super::tcb::Tcb;
use crate::buffer::Chain;
use crate::lazy::Plain;
use crate::rng::{KeyedState, Seed, SipKey};
use crate::time::{Duration, Instant};
use crate::wire::tcp::{FastOpenCookie, MAX_OPTIONS_LEN};

/// tcp_fastopen: a client may.
pub const CLIENT: u32 = 1;
/// tcp_fastopen: a server may.
pub const SERVER: u32 = 2;
/// tcp_fastopen: a client sends data without a cookie.
pub const CLIENT_NO_COOKIE: u32 = 4;
/// tcp_fastopen: a server takes data without a cookie.
pub const SERVER_NO_COOKIE: u32 = 0x200;
/// tcp_fastopen: every listener is a fast open one, without TCP_FASTOPEN.
pub const SERVER_EVERY_LISTENER: u32 = 0x400;

/// Peers whose cookies are remembered at most; the one that was used least lately makes way.
const CACHE: usize = 1024;
/// The segment size of a server that is not known (Linux's TCP_MSS_DEFAULT).
const LEAST_KNOWN_MSS: usize = 536;
const DOMAIN_KEY: u64 = 0x7466_6f6b;
const DOMAIN_CACHE: u64 = 0x7466_6f63;

/// The secrets of a server's cookies: what it gives out is made with the first, what it takes with either (RFC 7413
/// section 4.1.2: keys are to be changed now and then).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FastOpenKeys {
    /// The key in use.
    pub primary: [u8; 16],
    /// The one before.
    pub backup: Option<[u8; 16]>,
}

/// What a server thinks of a cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is good.
    Valid,
    /// It is good, but made with the old key: the peer should get a new one.
    Old,
    /// It is not.
    Invalid,
}

fn cookie_of(key: &[u8; 16], local: IpAddr, remote: IpAddr) -> FastOpenCookie {
    let half = |at: usize| {
        key[at..at + 8].iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte))
    };
    let hash = SipKey::new(half(0), half(8)).hash_one((remote, local));
    FastOpenCookie::new(&hash.to_le_bytes()).unwrap_or_default()
}

impl FastOpenKeys {
    /// The cookie of a peer.
    pub fn cookie(&self, local: IpAddr, remote: IpAddr) -> FastOpenCookie {
        cookie_of(&self.primary, local, remote)
    }

    /// Whether a peer's cookie is one of these keys'.
    pub fn check(&self, local: IpAddr, remote: IpAddr, cookie: &FastOpenCookie) -> Verdict {
        if *cookie == self.cookie(local, remote) {
            return Verdict::Valid;
        }
        match self.backup.map(|key| cookie_of(&key, local, remote)) {
            Some(old) if old == *cookie => Verdict::Old,
            _ => Verdict::Invalid,
        }
    }
}

/// What a client knows of a server.
#[derive(Clone, Copy, Debug)]
struct Known {
    cookie: FastOpenCookie,
    mss: u16,
    used_at: Instant,
    /// SYNs with data that seem to have been dropped, and when the last one.
    drops: u32,
    dropped_at: Instant,
}

#[derive(Default)]
struct BlackHole {
    times: u32,
    since: Option<Instant>,
}

/// What all sockets of a stack share of fast open.
pub struct FastOpenShared {
    keys: RwLock<FastOpenKeys>,
    known: Mutex<HashMap<IpAddr, Known, KeyedState>>,
    black_hole: Mutex<BlackHole>,
}

impl FastOpenShared {
    /// A key derived from the stack's seed, and no cookies.
    pub fn new(seed: &Seed) -> FastOpenShared {
        let key = SipKey::derive(seed, DOMAIN_KEY);
        let words = [key.hash_words(&[0]).to_le_bytes(), key.hash_words(&[1]).to_le_bytes()];
        let mut primary = [0; 16];
        primary[..8].copy_from_slice(&words[0]);
        primary[8..].copy_from_slice(&words[1]);
        let hasher = KeyedState::new(SipKey::derive(seed, DOMAIN_CACHE));
        FastOpenShared {
            keys: RwLock::new(FastOpenKeys { primary, backup: None }),
            known: Mutex::new(HashMap::with_hasher(hasher)),
            black_hole: Mutex::default(),
        }
    }

    /// The keys of listeners that have none of their own (tcp_fastopen_key).
    pub fn keys(&self) -> FastOpenKeys {
        *self.keys.read()
    }

    /// Sets them.
    pub fn set_keys(&self, keys: FastOpenKeys) {
        *self.keys.write() = keys;
    }

    /// The cookie of a server and the segment size that it told, if data may go with the SYN now.
    pub fn cookie_for(&self, now: Instant, server: IpAddr) -> Option<(FastOpenCookie, u16)> {
        let mut known = self.known.lock();
        let known = known.get_mut(&server)?;
        // Linux's tcp_fastopen_cookie_check: after two drops wait ever longer, from two minutes on.
        let pause = Duration::from_secs(60).saturating_mul(1 << known.drops.min(16));
        if known.drops > 1 && now.since(known.dropped_at) < pause || known.cookie.is_request() {
            return None;
        }
        known.used_at = now;
        Some((known.cookie, known.mss))
    }

    /// A server's SYN-ACK came: with a cookie or without, and perhaps after a sign that SYNs with data are dropped.
    pub fn learn(
        &self,
        now: Instant,
        server: IpAddr,
        (cookie, mss): (Option<FastOpenCookie>, u16),
        dropped: bool,
    ) {
        let mut all = self.known.lock();
        let cookie = cookie.filter(|cookie| !cookie.is_request());
        if cookie.is_none() && !dropped && !all.contains_key(&server) {
            return;
        }
        if all.len() >= CACHE && !all.contains_key(&server) {
            let oldest = all.iter().min_by_key(|(_, known)| known.used_at).map(|(ip, _)| *ip);
            oldest.map(|ip| all.remove(&ip));
        }
        let known = all.entry(server).or_insert(Known {
            cookie: FastOpenCookie::default(),
            mss,
            used_at: now,
            drops: 0,
            dropped_at: now,
        });
        known.mss = mss;
        if let Some(cookie) = cookie {
            known.cookie = cookie;
        }
        if dropped {
            known.drops = known.drops.saturating_add(1);
            known.dropped_at = now;
        } else {
            known.drops = 0;
        }
    }

    /// Timeouts make a middlebox likely that drops such connections: no fast open for a while, longer each time.
    /// Answers whether it is paused (tcp_fastopen_blackhole_timeout_sec is not 0).
    pub fn suspect_black_hole(&self, now: Instant, config: &TcpConfig) -> bool {
        if config.fast_open_blackhole.is_zero() {
            return false;
        }
        let mut hole = self.black_hole.lock();
        hole.times = hole.times.saturating_add(1);
        hole.since = Some(now);
        true
    }

    /// Whether fast open is paused.
    pub fn is_paused(&self, now: Instant, config: &TcpConfig) -> bool {
        let hole = self.black_hole.lock();
        let doublings = hole.times.saturating_sub(1).min(6);
        let pause = config.fast_open_blackhole.saturating_mul(1 << doublings);
        hole.since.is_some_and(|since| now.since(since) < pause)
    }

    /// Data went with a SYN and arrived: there is no black hole.
    pub fn succeeded(&self) {
        *self.black_hole.lock() = BlackHole::default();
    }
}

/// What fast open puts into the first SYN or SYN-ACK of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FastOpen {
    /// The option: a cookie, or a client's request of one; None with TCP_FASTOPEN_NO_COOKIE.
    pub option: Option<FastOpenCookie>,
    /// Whether a client's data may go with the SYN.
    pub carries_data: bool,
    /// The server's segment size, as it was told before.
    pub mss: u16,
    /// TCP_FASTOPEN_CONNECT: the SYN waits for the first data.
    pub waits_for_data: bool,
}

impl Plain for FastOpen {
    const PLAIN: &'static FastOpen =
        &FastOpen { option: None, carries_data: false, mss: 0, waits_for_data: false };
}

impl FastOpen {
    /// A client's SYN that asks for a cookie.
    pub fn asking() -> FastOpen {
        FastOpen { option: Some(FastOpenCookie::default()), ..FastOpen::default() }
    }

    /// Whether a client tries fast open in any way.
    pub fn is_tried(&self) -> bool {
        self.option.is_some() || self.carries_data
    }
}

impl Sender {
    /// The data that goes with a SYN.
    pub(super) fn syn_payload(&self, room: usize) -> Chain {
        self.queue.range(0, room.min(self.queue.len()))
    }

    /// The SYN-ACK acknowledged so much of the data that went with our SYN.
    pub(super) fn syn_data_acked(&mut self, bytes: usize) {
        self.queue.advance(bytes);
        self.queue_start += bytes;
        self.una += bytes;
        self.nxt = self.una;
        self.bytes_sent += bytes as u64;
        self.bytes_acked += bytes as u64;
    }
}

impl Connection {
    /// An active open with fast open: what the SYN may carry is given by [`Connection::push_syn_data`].
    pub fn set_fast_open(&mut self, fast_open: FastOpen) {
        *self.tcb.fast_open = fast_open;
        if fast_open.is_tried() {
            self.tcb.syn_data.tried = true;
        }
    }

    /// Whether the SYN waits for the first data (TCP_FASTOPEN_CONNECT).
    pub fn waits_for_data(&self) -> bool {
        matches!(self.state, State::SynSent(_)) && self.tcb.fast_open.waits_for_data
    }

    /// Data for the SYN, which goes out now; what finds no room in it follows the handshake.
    pub fn push_syn_data(&mut self, data: Chain) {
        self.tcb.fast_open.waits_for_data = false;
        if matches!(self.state, State::SynSent(_)) {
            self.tcb.send.push(data);
        }
    }

    /// Payload that the SYN takes on a path (Linux's tcp_send_syn_data: less all the room that options may take).
    pub fn syn_room(fast_open: &FastOpen, limits: PathLimits) -> usize {
        let known = if fast_open.mss == 0 { LEAST_KNOWN_MSS } else { usize::from(fast_open.mss) };
        limits.mss.min(known).saturating_sub(MAX_OPTIONS_LEN)
    }

    /// How the data of the SYN fared.
    pub fn syn_data(&self) -> SynData {
        SynData { retransmitted: self.tcb.syn_transmissions > 1, ..*self.tcb.syn_data }
    }

    /// A connection whose SYN brought a good cookie: the data counts at once, and the SYN-ACK may tell a new cookie.
    pub fn become_fast(&mut self, now: Instant, payload: Chain, cookie: Option<FastOpenCookie>) {
        self.state = State::SynReceived(SynReceived { origin: Origin::FastOpen });
        let tcb = &mut self.tcb;
        let (pace, seq) = (tcb.pace(), tcb.receive.nxt);
        if !payload.is_empty() {
            tcb.syn_data.acked = true;
        }
        tcb.receive.accept(now, &pace, Text { seq, data: payload, fin: false, push: true });
        tcb.receive.ack_due = AckDue::No;
        tcb.pending.syn = true;
        tcb.syn_transmissions = 0;
        tcb.syn_sent_at = now;
        if cookie.is_some() {
            tcb.fast_open.option = cookie;
        }
    }

    /// What the SYN carries.
    pub fn fast_open(&self) -> FastOpen {
        *self.tcb.fast_open
    }
}

impl Tcb {
    /// The SYN-ACK came: takes what it says of fast open and of the data that went with the SYN.
    pub(super) fn take_fast_open(&mut self, syn_ack: &Segment) {
        if !self.syn_data.tried && syn_ack.options.fast_open.is_none() {
            return;
        }
        self.syn_data.cookie = syn_ack.options.fast_open;
        self.syn_data.peer_mss = self.peer_mss.min(usize::from(u16::MAX)) as u16;
        let acked = syn_ack.ack.since(self.send.iss + 1).min(self.syn_data.sent);
        if acked > 0 {
            self.send.syn_data_acked(acked);
            self.syn_data.acked = true;
        }
    }
}

/// How data in a SYN fared, for TCP_INFO, the counters and the memory of servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynData {
    /// Whether fast open was tried in any way.
    pub tried: bool,
    /// Bytes that went with our SYN.
    pub sent: usize,
    /// Whether data of a SYN, ours or the peer's, was taken.
    pub acked: bool,
    /// The cookie of the peer's SYN-ACK.
    pub cookie: Option<FastOpenCookie>,
    /// The peer's segment size.
    pub peer_mss: u16,
    /// Whether the SYN was sent again.
    pub retransmitted: bool,
}

impl Plain for SynData {
    const PLAIN: &'static SynData = &SynData {
        tried: false,
        sent: 0,
        acked: false,
        cookie: None,
        peer_mss: 0,
        retransmitted: false,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::seed_from;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_cookie_is_good_for_its_peer_and_for_the_old_key() {
        let shared = FastOpenShared::new(&seed_from(1));
        let keys = shared.keys();
        let cookie = keys.cookie(ip(1), ip(2));
        assert_eq!(keys.check(ip(1), ip(2), &cookie), Verdict::Valid);
        assert_eq!(keys.check(ip(1), ip(3), &cookie), Verdict::Invalid);
        let rotated = FastOpenKeys { primary: [9; 16], backup: Some(keys.primary) };
        assert_eq!(rotated.check(ip(1), ip(2), &cookie), Verdict::Old);
        let changed = FastOpenKeys { primary: [9; 16], backup: None };
        assert_eq!(changed.check(ip(1), ip(2), &cookie), Verdict::Invalid);
    }

    #[test]
    fn servers_are_remembered_up_to_a_bound_and_drops_make_cautious() {
        let shared = FastOpenShared::new(&seed_from(1));
        let cookie = FastOpenCookie::new(&[7; 8]);
        let start = Instant::from_secs(1000);
        for n in 0..3000u32 {
            let server = IpAddr::from(n.to_be_bytes());
            shared.learn(
                start + Duration::from_millis(u64::from(n)),
                server,
                (cookie, 1460),
                false,
            );
        }
        assert_eq!(shared.known.lock().len(), CACHE);
        let server = IpAddr::from(2999u32.to_be_bytes());
        assert_eq!(shared.cookie_for(start, server), cookie.map(|cookie| (cookie, 1460)));
        shared.learn(start, server, (None, 1460), true);
        assert!(shared.cookie_for(start, server).is_some());
        shared.learn(start, server, (None, 1460), true);
        assert!(shared.cookie_for(start, server).is_none());
        assert!(shared.cookie_for(start + Duration::from_secs(241), server).is_some());
    }

    #[test]
    fn a_black_hole_pauses_twice_as_long_each_time() {
        let shared = FastOpenShared::new(&seed_from(1));
        let off = TcpConfig::default();
        let now = Instant::from_secs(1000);
        assert!(!shared.suspect_black_hole(now, &off));
        let hour = Duration::from_secs(3600);
        let config = TcpConfig { fast_open_blackhole: hour, ..off };
        assert!(shared.suspect_black_hole(now, &config) && shared.is_paused(now, &config));
        assert!(!shared.is_paused(now + hour, &config));
        shared.suspect_black_hole(now, &config);
        assert!(
            shared.is_paused(now + hour, &config) && !shared.is_paused(now + hour * 2, &config)
        );
        shared.succeeded();
        assert!(!shared.is_paused(now, &config));
    }
}

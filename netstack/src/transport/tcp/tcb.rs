//! The transmission control block: what all states of one connection share.

use super::accounts::Accounts;
use super::acking::DELAYED_ACK_MAX;
use super::config::{Error, PathLimits, Secrets, Settings, TcpConfig};
use super::congestion;
use super::connection::Connection;
use super::ecn::Ecn;
use super::fast_open::{FastOpen, SynData};
use super::mtu_search::{MtuSearch, MtuVerdict};
use super::receive::{AckDue, Pace, Receiver};
use super::rtt::{Bounds, Rtt};
use super::segment::Segment;
use super::send::Sender;
use super::seq::Seq;
use crate::buffer::Chain;
use crate::lazy::{Cow, Lazy};
use crate::memory;
use crate::time::{Duration, Instant, Span};
use crate::wire::tcp::{Flags, Options, Timestamps};
use std::sync::Arc;

/// RFC 7323 section 5.5: a recent timestamp is worthless after 24 days.
const TIMESTAMP_LIFE: Duration = Duration::from_secs(24 * 24 * 3600);
/// Options that Linux counts in tcp_min_snd_mss: timestamps.
const LEAST_OPTIONS: usize = TIMESTAMPS_LEN;
/// Payload that timestamps take from each segment.
const TIMESTAMPS_LEN: usize = 12;

/// The state of timestamps, once offered.
#[derive(Clone, Copy, Debug)]
pub struct Timestamping {
    /// Added to our clock.
    pub offset: u32,
    /// TS.Recent.
    pub recent: u32,
    /// When it was taken.
    pub recent_at: Instant,
}

/// A segment that waits to go out besides data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The SYN or SYN-ACK, first or again.
    pub syn: bool,
    /// A probe of a closed window or of an idle peer.
    pub probe: bool,
    /// A reset with our next sequence number.
    pub reset: bool,
}

/// What all states share.
#[derive(Debug)]
pub struct Tcb {
    /// Configuration of the stack.
    pub config: Arc<TcpConfig>,
    /// What it has done so far.
    pub accounts: Accounts,
    /// What the program set.
    pub settings: Cow<Settings>,
    /// The sending half.
    pub send: Sender,
    /// The receiving half.
    pub receive: Receiver,
    /// Explicit congestion notification.
    pub ecn: Ecn,
    /// The round-trip estimator.
    pub rtt: Rtt,
    /// Timestamps: Some while offered or agreed.
    pub timestamps: Option<Timestamping>,
    /// Sizes of the path, as last seen.
    pub limits: PathLimits,
    /// What the peer takes (its MSS option, or the default of RFC 9293 section 3.7.1).
    pub peer_mss: usize,
    /// What waits to go out.
    pub pending: Pending,
    /// Why the connection is over.
    pub error: Option<Error>,
    /// What ICMP said, told when the connection times out.
    pub soft_error: Option<Error>,
    /// Whether the program has closed the socket.
    pub orphan: bool,
    /// Whether the program has shut its receiving direction.
    pub shut_read: bool,
    /// When the peer was last heard.
    pub heard_at: Instant,
    /// When to probe an idle peer.
    pub keepalive_at: Option<Instant>,
    /// Probes of an idle peer without an answer.
    pub keepalive_probes: u32,
    /// Transmissions of the SYN or SYN-ACK.
    pub syn_transmissions: u32,
    /// When the SYN was first sent, for the round-trip sample of the handshake.
    pub syn_sent_at: Instant,
    pub(super) challenge_at: Option<Instant>,
    stamped_at: Instant,
    /// What fast open puts into the first SYN.
    pub fast_open: Lazy<FastOpen>,
    /// How the data of the SYN fared.
    pub syn_data: Lazy<SynData>,
    /// The search for the path's MTU.
    pub mtu: MtuSearch,
    /// What the stack lets the connection hold, both ways.
    pub allowance: usize,
}

/// The least payload of a segment that a peer or a path can talk us into.
fn least_mss(config: &TcpConfig) -> usize {
    config.min_send_mss.saturating_sub(LEAST_OPTIONS).max(1)
}

impl Tcb {
    /// A block before any segment.
    pub fn new(
        now: Instant,
        config: Arc<TcpConfig>,
        mut settings: Cow<Settings>,
        secrets: Secrets,
        limits: PathLimits,
    ) -> Tcb {
        // As on Linux the route's word is above the program's (tcp_ca_dst_init), which may change it later.
        let own = settings.congestion;
        if own.is_some() && limits.congestion.is_some() && own != limits.congestion {
            settings.congestion = limits.congestion;
        }
        let name = limits.congestion.or(own).unwrap_or(config.congestion);
        let mss = limits.mss.max(least_mss(&config));
        let iss = Seq(secrets.iss);
        let mut send = Sender::new(now, iss, mss, congestion::Control::new(now, name, mss, iss));
        if let Some(segments) = limits.first_window {
            send.congestion.set_first_window(segments);
        }
        send.detects_spurious_timeouts = config.detect_spurious_timeouts;
        send.slow_start_after_idle = config.slow_start_after_idle;
        send.max_pacing_rate = settings.max_pacing_rate;
        let capacity = settings.receive_buffer.unwrap_or(config.receive_buffer);
        let capacity_max = settings.receive_buffer.unwrap_or(config.receive_buffer_max);
        let offset = secrets.timestamp_offset;
        let timestamps =
            config.timestamps.then_some(Timestamping { offset, recent: 0, recent_at: now });
        let mut receive = Receiver::new(now, capacity, capacity_max);
        receive.space.locked = settings.receive_buffer.is_some();
        receive.set_window_clamp(limits.clamp(&settings));
        receive.mss_limit = mss;
        let mut tcb = Tcb {
            accounts: Accounts::new(now),
            send,
            receive,
            ecn: Ecn::default(),
            rtt: Rtt::default(),
            timestamps,
            limits,
            peer_mss: 536,
            pending: Pending { syn: true, ..Pending::default() },
            error: None,
            soft_error: None,
            orphan: false,
            shut_read: false,
            heard_at: now,
            keepalive_at: None,
            keepalive_probes: 0,
            syn_transmissions: 0,
            syn_sent_at: now,
            challenge_at: None,
            stamped_at: now,
            fast_open: Lazy::PLAIN,
            syn_data: Lazy::PLAIN,
            mtu: MtuSearch::new(now, &config),
            allowance: usize::MAX,
            config,
            settings,
        };
        tcb.apply_bounds();
        tcb
    }

    /// What is known of the path's round trip.
    pub fn pace(&self) -> Pace {
        // Linux's tcp_delack_max: a timeout of the peer's like ours would be too soon.
        let tick = Duration::from_millis(4);
        let by_timeout = self.rtt.bounds().least.saturating_sub(tick).max(tick);
        let most = self.settings.delayed_ack_max.unwrap_or(DELAYED_ACK_MAX).min(by_timeout);
        Pace { smoothed: self.rtt.smoothed(), rto: self.rtt.rto(), most }
    }

    /// Our clock for timestamps, in milliseconds.
    fn clock(&self, now: Instant) -> u32 {
        let offset = self.timestamps.map_or(0, |timestamps| timestamps.offset);
        (now.millis() as u32).wrapping_add(offset)
    }

    /// The timestamps option of a segment that goes out now.
    ///
    /// A thread that read the clock and was then held up does not turn it back: the peer would drop its segment as an old duplicate
    /// (PAWS, RFC 7323 section 5.3), and a window update that is lost so stalls the stream.
    fn stamp(&mut self, now: Instant) -> Option<Timestamps> {
        let timestamps = self.timestamps?;
        self.stamped_at = self.stamped_at.max(now);
        Some(Timestamps { value: self.clock(self.stamped_at), echo: timestamps.recent })
    }

    /// Lets the peer, a connection of the same stack, know the timestamp of a segment that is not made.
    pub(super) fn stamp_for(&mut self, now: Instant, peer: &mut Tcb) {
        if let (Some(stamps), Some(theirs)) = (self.stamp(now), &mut peer.timestamps) {
            theirs.recent = stamps.value;
            theirs.recent_at = now;
        }
    }

    /// The round-trip time that an echoed timestamp tells.
    pub fn echo_rtt(&self, now: Instant, segment: &Segment) -> Option<Duration> {
        self.timestamps?;
        let echo = segment.options.timestamps?.echo;
        if echo == 0 {
            return None;
        }
        let elapsed = self.clock(now).wrapping_sub(echo);
        (elapsed < 1 << 30).then(|| Duration::from_millis(u64::from(elapsed)))
    }

    /// Whether the segment echoes a timestamp that no SYN of ours had, as Linux's tcp_rcv_synsent_state_process looks
    /// at it.
    pub fn is_foreign_echo(&self, now: Instant, segment: &Segment) -> bool {
        let (Some(_), Some(theirs)) = (self.timestamps, segment.options.timestamps) else {
            return false;
        };
        let first = self.clock(self.syn_sent_at);
        let last = self.clock(now.max(self.stamped_at));
        theirs.echo != 0 && theirs.echo.wrapping_sub(first) > last.wrapping_sub(first)
    }

    /// RFC 7323 section 5.3 R1: whether the segment is older than one that was accepted.
    pub fn is_old_duplicate(&self, now: Instant, segment: &Segment) -> bool {
        let (Some(ours), Some(theirs)) = (self.timestamps, segment.options.timestamps) else {
            return false;
        };
        let behind = (theirs.value.wrapping_sub(ours.recent) as i32) < 0;
        behind && now.since(ours.recent_at) < TIMESTAMP_LIFE && !segment.rst()
    }

    /// RFC 7323 section 5.3 R3: "If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent, save it".
    pub fn note_timestamp(&mut self, now: Instant, segment: &Segment) {
        let (Some(ours), Some(theirs)) = (&mut self.timestamps, segment.options.timestamps) else {
            return;
        };
        let fresh = (theirs.value.wrapping_sub(ours.recent) as i32) >= 0
            || now.since(ours.recent_at) >= TIMESTAMP_LIFE;
        if fresh && segment.seq <= self.receive.acked {
            ours.recent = theirs.value;
            ours.recent_at = now;
        }
    }

    /// Takes the peer's SYN: its sequence number, window and options, and settles what both can do.
    pub fn take_syn(&mut self, now: Instant, syn: &Segment) {
        self.receive.start(syn.seq);
        match syn.acknowledges() {
            Some(_) => self.ecn.on_syn_ack(syn.flags, syn.ecn),
            None => self.ecn.on_syn(self.config.ecn, syn.flags, syn.ecn),
        }
        let options = &syn.options;
        self.peer_mss = options.mss.map_or(536, usize::from).max(self.config.min_send_mss);
        self.timestamps = match (self.timestamps, options.timestamps) {
            (Some(ours), Some(theirs)) => {
                Some(Timestamping { recent: theirs.value, recent_at: now, ..ours })
            }
            _ => None,
        };
        self.send.sack = self.config.sack && options.sack_permitted;
        self.receive.sack = self.send.sack;
        match options.window_scale {
            Some(shift) if self.config.window_scaling => {
                self.send.window_shift = shift;
                self.receive.window_shift = self.window_shift();
            }
            _ => {
                self.send.window_shift = 0;
                self.receive.window_shift = 0;
            }
        }
        // "The window field in a segment where the SYN bit is set must not be scaled" (RFC 7323 section 2.2).
        self.send.set_window(syn.seq, usize::from(syn.window));
        self.apply_limits(self.limits);
    }

    /// The shift that lets the largest buffer be offered.
    fn window_shift(&self) -> u8 {
        let most = self.receive.space.reachable();
        (0u8..14).find(|shift| most >> shift <= usize::from(u16::MAX)).unwrap_or(14)
    }

    /// Takes the sizes of the path; returns whether segments got smaller.
    pub fn apply_limits(&mut self, limits: PathLimits) {
        let raised = limits.mss > self.limits.mss;
        self.limits = limits;
        self.apply_bounds();
        self.receive.mss_limit = self.offered_mss();
        self.receive.set_always_quick(limits.quick_ack);
        let mut mss = limits.mss.min(self.peer_mss);
        if let Some(most) = self.settings.max_segment {
            mss = mss.min(usize::from(most));
        }
        let options = if self.timestamps.is_some() { TIMESTAMPS_LEN } else { 0 };
        let mss = mss.saturating_sub(options).max(least_mss(&self.config));
        if raised {
            self.mtu.reset_limit(mss);
        }
        let mss = self.mtu.bound(mss).max(least_mss(&self.config));
        if mss != self.send.mss {
            self.send.set_mss(mss);
        }
    }

    /// A probe of the path's MTU arrived or was lost.
    pub fn judge_mtu_probe(&mut self, verdict: MtuVerdict) {
        match verdict {
            MtuVerdict::Arrived => self.send.counters.mtu_probes_arrived += 1,
            MtuVerdict::Lost => self.send.counters.mtu_probes_lost += 1,
            MtuVerdict::Unclear => {}
        }
        self.mtu.judge(verdict);
        self.apply_limits(self.limits);
    }

    /// The segment size that our SYN names: what the path takes, the route lets us say (RTAX_ADVMSS), and the program wants.
    fn offered_mss(&self) -> usize {
        let wanted = [self.limits.offered_mss, self.settings.max_segment];
        wanted.into_iter().flatten().map(usize::from).fold(self.limits.mss, usize::min)
    }

    /// The window field of a segment, in bytes.
    pub fn scaled_window(&self, segment: &Segment) -> usize {
        usize::from(segment.window) << self.send.window_shift
    }

    /// The SYN, or with `Flags::ACK` the SYN-ACK.
    pub fn build_syn(&mut self, now: Instant, flags: Flags) -> Segment {
        let first = !flags.contains(Flags::ACK);
        let shift = self.window_shift();
        let agreed = self.receive.window_shift > 0 || self.send.window_shift > 0;
        let again = self.syn_transmissions > 0 && self.config.ecn_fallback;
        let ecn = if first { self.ecn.ask(self.config.ecn, again) } else { self.ecn.grant() };
        let flags = flags | Flags::SYN | ecn;
        let mut segment = Segment::control(self.send.iss, self.receive.nxt, flags);
        let mss = self.offered_mss();
        segment.options = Options {
            mss: Some(mss.min(usize::from(u16::MAX)) as u16),
            window_scale: (self.config.window_scaling && (first || agreed)).then_some(shift),
            sack_permitted: if first { self.config.sack } else { self.send.sack },
            timestamps: self.stamp(now),
            ..Options::default()
        };
        if first {
            segment.options.timestamps =
                segment.options.timestamps.map(|stamp| Timestamps { echo: 0, ..stamp });
        }
        let options = if !first && self.timestamps.is_some() { TIMESTAMPS_LEN } else { 0 };
        let first_offer = self.limits.first_offer.map(usize::from);
        segment.window = self.receive.offer_first(mss.saturating_sub(options), first_offer);
        if !first {
            self.receive.acked = self.receive.nxt;
        }
        if self.syn_transmissions == 0 {
            segment.options.fast_open = self.fast_open.option;
            if first && self.fast_open.carries_data {
                let room = Connection::syn_room(&self.fast_open, self.limits);
                segment.payload = self.send.syn_payload(room);
                self.syn_data.sent = segment.payload.len();
            }
        }
        segment.retransmission = self.syn_transmissions > 0;
        if self.syn_transmissions == 0 {
            self.syn_sent_at = now;
        }
        self.syn_transmissions += 1;
        self.send.syn_sent(now);
        segment
    }

    /// A segment at `seq` that acknowledges all that arrived.
    pub fn build(&mut self, now: Instant, seq: Seq, payload: Chain, flags: Flags) -> Segment {
        let ecn = self.ecn.flags(flags.contains(Flags::CWR));
        let flags = flags.difference(Flags::CWR) | Flags::ACK | ecn;
        let mut segment = Segment::control(seq, self.receive.nxt, flags);
        segment.options.timestamps = self.stamp(now);
        segment.window = self.receive.offer();
        let room =
            if payload.is_empty() { if self.timestamps.is_some() { 3 } else { 4 } } else { 0 };
        segment.options.sack = self.receive.acknowledged(if self.send.sack { room } else { 0 });
        if payload.is_empty() && segment.options.sack.is_empty() {
            segment.options.accurate_ecn = self.ecn.option();
        }
        segment.payload = payload;
        segment.mss = self.send.mss;
        if let Some(pointer) = self.send.urgent_pointer(seq) {
            segment.flags |= Flags::URG;
            segment.urgent = pointer;
        }
        segment
    }

    /// The reset that tells the peer that this end gave up: with window and options, as Linux's tcp_send_active_reset.
    pub fn build_reset(&mut self, now: Instant) -> Segment {
        self.build(now, self.send.nxt, Chain::new(), Flags::RST)
    }

    /// The peer was heard: the clock of keepalive starts anew.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.keepalive_probes = 0;
        self.arm_keepalive(now);
    }

    /// Arms or disarms the keepalive timer by the settings.
    pub fn arm_keepalive(&mut self, now: Instant) {
        self.keepalive_at = match (self.settings.keep_alive, self.keepalive_probes) {
            (false, _) => None,
            (true, 0) => Some(self.heard_at + self.keep_idle()),
            (true, _) => {
                let interval = self.settings.keep_interval.unwrap_or(self.config.keep_interval);
                Some(now + interval)
            }
        };
    }

    /// TCP_KEEPIDLE, or what the stack has.
    pub fn keep_idle(&self) -> Duration {
        self.settings.keep_idle.unwrap_or(self.config.keep_idle)
    }

    /// TCP_KEEPCNT, or what the stack has.
    pub fn keep_count(&self) -> u32 {
        self.settings.keep_count.unwrap_or(self.config.keep_count)
    }

    /// The bounds of timeouts by the settings, the route and the configuration.
    pub fn apply_bounds(&mut self) {
        let (settings, config) = (&self.settings, &self.config);
        let route = self.limits.rto_min.map(Span::get);
        let least = route.or(settings.rto_min).unwrap_or(config.rto_min);
        let most = settings.rto_max.unwrap_or(config.rto_max);
        self.rtt.set_bounds(Bounds { least, most, window: config.min_rtt_window });
    }

    /// The earliest deadline of the timers that live here.
    pub fn next_deadline(&self) -> Option<Instant> {
        let delayed = match self.receive.ack_due {
            AckDue::At(at) => Some(at),
            AckDue::Now | AckDue::No => None,
        };
        // One comparison after the other: gathered in an array first, this was a fifth of a short connection's time.
        let earlier = |best: Instant, at: Option<Instant>| at.map_or(best, |at| at.min(best));
        let mut best = earlier(Instant::MAX, self.send.rto_at);
        best = earlier(best, self.send.probe_at);
        best = earlier(best, self.send.reorder_at);
        best = earlier(best, self.send.persist_at);
        best = earlier(best, self.send.pace_at);
        best = earlier(best, self.keepalive_at);
        best = earlier(best, delayed);
        (best < Instant::MAX).then_some(best)
    }

    /// The connection is over: drops data and timers, keeps what can still be read.
    pub fn stop(&mut self) {
        self.send.clear();
        self.receive.ack_due = AckDue::No;
        self.keepalive_at = None;
        self.pending = Pending { reset: self.pending.reset, ..Pending::default() };
    }

    /// Bytes that the send buffer holds at most.
    pub fn send_capacity(&self) -> usize {
        let allowed = self.allowance.saturating_sub(self.receive.held()).max(memory::LEAST);
        match self.settings.send_buffer {
            Some(bytes) => bytes.min(allowed),
            // Twice the window keeps the pipe full while acknowledgments are under way.
            None => (2 * self.send.congestion.window())
                .clamp(self.config.send_buffer, self.config.send_buffer_max)
                .min(allowed),
        }
    }
}

impl Tcb {
    /// Our SYN is acknowledged by `segment`, whose window is `window` bytes.
    pub fn complete_handshake(&mut self, now: Instant, segment: &Segment, window: usize) {
        if self.syn_transmissions <= 1 {
            self.rtt.sample(now, now.since(self.syn_sent_at));
        } else if let Some(sample) = self.echo_rtt(now, segment) {
            self.rtt.sample_coarse(sample);
        } else {
            self.rtt.syn_was_retransmitted();
        }
        self.pending.syn = false;
        self.receive.establish(now);
        self.send.syn_acked(segment.seq, window);
        self.heard(now);
    }
}

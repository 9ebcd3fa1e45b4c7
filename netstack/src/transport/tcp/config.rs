//! What a connection is told at its birth, what a program may set on it, and how it ends.

use super::challenge::ChallengeBudget;
use super::ecn::EcnPolicy;
use super::rtt::{MIN_RTT_WINDOW, RTO_MAX, RTO_MIN};
use super::send::Push;
use crate::lazy::Plain;
use crate::time::{Duration, Span};
use std::sync::Arc;

/// Bounds and habits that all connections of a stack share; the defaults are Linux's.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Send buffer at the start, in bytes.
    pub send_buffer: usize,
    /// How far it grows by itself (tcp_wmem[2]).
    pub send_buffer_max: usize,
    /// Receive buffer at the start, in bytes (tcp_rmem[1]).
    pub receive_buffer: usize,
    /// How far it grows by itself (tcp_rmem[2]).
    pub receive_buffer_max: usize,
    /// Timestamps (tcp_timestamps).
    pub timestamps: bool,
    /// SACK (tcp_sack).
    pub sack: bool,
    /// Window scaling (tcp_window_scaling).
    pub window_scaling: bool,
    /// Retransmissions of a SYN (tcp_syn_retries).
    pub syn_retries: u32,
    /// Retransmissions of a SYN-ACK (tcp_synack_retries).
    pub synack_retries: u32,
    /// Time-outs of a SYN that do not double the next one (tcp_syn_linear_timeouts).
    pub syn_linear_timeouts: u32,
    /// Retransmissions of data (tcp_retries2).
    pub retries: u32,
    /// Retransmissions once the program has closed the socket (tcp_orphan_retries; 0 stands for 8 on Linux).
    pub orphan_retries: u32,
    /// The least retransmission timeout (tcp_rto_min_us).
    pub rto_min: Duration,
    /// The longest (tcp_rto_max_ms).
    pub rto_max: Duration,
    /// Whether time-outs of streams with few segments out do not double (tcp_thin_linear_timeouts).
    pub thin_linear_timeouts: bool,
    /// How long a least round-trip time holds (tcp_min_rtt_wlen).
    pub min_rtt_window: Duration,
    /// When an idle peer is probed where SO_KEEPALIVE is on (tcp_keepalive_time).
    pub keep_idle: Duration,
    /// The time between such probes (tcp_keepalive_intvl).
    pub keep_interval: Duration,
    /// Probes without an answer that end the connection (tcp_keepalive_probes).
    pub keep_count: u32,
    /// Unsent bytes at which a socket is no longer writable (tcp_notsent_lowat).
    pub not_sent_low_water: usize,
    /// How long a closed socket waits for the peer's FIN (tcp_fin_timeout).
    pub fin_timeout: Duration,
    /// How long TIME-WAIT lasts (Linux's TCP_TIMEWAIT_LEN).
    pub time_wait: Duration,
    /// The congestion controller's name (tcp_congestion_control).
    pub congestion: &'static str,
    /// Whether a window that was not used shrinks (tcp_slow_start_after_idle).
    pub slow_start_after_idle: bool,
    /// F-RTO (tcp_frto).
    pub detect_spurious_timeouts: bool,
    /// Explicit congestion notification (tcp_ecn).
    pub ecn: EcnPolicy,
    /// Whether a SYN that is sent again asks for no ECN (tcp_ecn_fallback).
    pub ecn_fallback: bool,
    /// The longest backlog of a listener (net.core.somaxconn).
    pub somaxconn: usize,
    /// Handshakes under way at which unknown peers are dropped while cookies are off (tcp_max_syn_backlog).
    pub max_syn_backlog: usize,
    /// SYN cookies (tcp_syncookies).
    pub syncookies: SynCookies,
    /// Whether a full accept queue answers by a reset (tcp_abort_on_overflow).
    pub abort_on_overflow: bool,
    /// Whether the requests of a closed listener go to another of its group (tcp_migrate_req).
    pub migrate_requests: bool,
    /// Bits of tcp_fastopen: 1 client, 2 server, 4 client without a cookie, 0x200 server without one, 0x400 every
    /// listener.
    pub fast_open: u32,
    /// How long fast open is not tried after a sign of a middlebox that drops it; doubles (tcp_fastopen_blackhole_timeout_sec).
    pub fast_open_blackhole: Duration,
    /// Challenge acknowledgments of the whole stack in a second (tcp_challenge_ack_limit).
    pub challenge_ack_limit: u32,
    /// What is left of that in this second.
    pub challenges: Arc<ChallengeBudget>,
    /// The least time between two acknowledgments of invalid segments of one connection (tcp_invalid_ratelimit).
    pub invalid_ratelimit: Duration,
    /// Which connections may take the place of one in TIME-WAIT (tcp_tw_reuse).
    pub time_wait_reuse: TimeWaitReuse,
    /// Whether a reset ends TIME-WAIT (it does unless tcp_rfc1337).
    pub rfc1337: bool,
    /// Connections in TIME-WAIT, beyond which none is kept (tcp_max_tw_buckets).
    pub max_time_wait: usize,
    /// Connections that no program holds, beyond which they are reset (tcp_max_orphans).
    pub max_orphans: usize,
    /// Retransmissions after which the path is doubted (tcp_retries1).
    pub retries_soft: u32,
    /// Whether the path MTU is searched by segments (tcp_mtu_probing).
    pub mtu_probing: MtuProbing,
    /// The least segment size with all its options that a path or a peer can talk us into (tcp_min_snd_mss).
    pub min_send_mss: usize,
    /// The segment size that a search begins with (tcp_base_mss).
    pub base_mss: usize,
    /// The least segment size that timeouts lead to (tcp_mtu_probe_floor).
    pub mtu_probe_floor: usize,
    /// When a search that has ended begins anew (tcp_probe_interval).
    pub mtu_probe_interval: Duration,
    /// The interval of sizes in which a search ends (tcp_probe_threshold).
    pub mtu_probe_threshold: usize,
}

/// When the path MTU is searched by segments (tcp_mtu_probing 0, 1, 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MtuProbing {
    /// Never: ICMP tells it.
    #[default]
    Off,
    /// Once timeouts show a path that swallows large segments.
    BlackHole,
    /// From the start.
    Always,
}

/// When SYN cookies are sent (tcp_syncookies 0, 1, 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SynCookies {
    /// Never.
    Off,
    /// Where a listener has too many handshakes under way.
    #[default]
    WhenFull,
    /// Always, to test.
    Always,
}

/// Which connections may take the place of one in TIME-WAIT (tcp_tw_reuse 0, 1, 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeWaitReuse {
    /// None.
    Off,
    /// All.
    All,
    /// Those over loopback.
    #[default]
    Loopback,
}

impl Default for TcpConfig {
    fn default() -> TcpConfig {
        TcpConfig {
            send_buffer: 128 << 10,
            send_buffer_max: 4 << 20,
            receive_buffer: 128 << 10,
            receive_buffer_max: 6 << 20,
            timestamps: true,
            sack: true,
            window_scaling: true,
            syn_retries: 6,
            synack_retries: 5,
            syn_linear_timeouts: 4,
            retries: 15,
            orphan_retries: 8,
            rto_min: RTO_MIN,
            rto_max: RTO_MAX,
            thin_linear_timeouts: false,
            min_rtt_window: MIN_RTT_WINDOW,
            keep_idle: Duration::from_secs(7200),
            keep_interval: Duration::from_secs(75),
            keep_count: 9,
            not_sent_low_water: u32::MAX as usize,
            fin_timeout: Duration::from_secs(60),
            time_wait: Duration::from_secs(60),
            somaxconn: 4096,
            max_syn_backlog: 2048,
            syncookies: SynCookies::default(),
            abort_on_overflow: false,
            migrate_requests: false,
            fast_open: 1,
            fast_open_blackhole: Duration::ZERO,
            challenge_ack_limit: i32::MAX as u32,
            challenges: Arc::default(),
            invalid_ratelimit: Duration::from_millis(500),
            time_wait_reuse: TimeWaitReuse::default(),
            rfc1337: false,
            max_time_wait: 131_072,
            max_orphans: 131_072,
            retries_soft: 3,
            mtu_probing: MtuProbing::Off,
            min_send_mss: 48,
            base_mss: 1024,
            mtu_probe_floor: 48,
            mtu_probe_interval: Duration::from_secs(600),
            mtu_probe_threshold: 8,
            congestion: "cubic",
            slow_start_after_idle: true,
            detect_spurious_timeouts: true,
            ecn: EcnPolicy::default(),
            ecn_fallback: true,
        }
    }
}

/// What a program sets on a socket; a listener hands it to the connections that it accepts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// TCP_NODELAY.
    pub no_delay: bool,
    /// TCP_CORK.
    pub cork: bool,
    /// SO_KEEPALIVE.
    pub keep_alive: bool,
    /// TCP_KEEPIDLE; None for the configuration's.
    pub keep_idle: Option<Duration>,
    /// TCP_KEEPINTVL; None for the configuration's.
    pub keep_interval: Option<Duration>,
    /// TCP_KEEPCNT; None for the configuration's.
    pub keep_count: Option<u32>,
    /// TCP_RTO_MIN_US; None for the configuration's.
    pub rto_min: Option<Duration>,
    /// TCP_RTO_MAX_MS; None for the configuration's.
    pub rto_max: Option<Duration>,
    /// TCP_DELACK_MAX_US; None for Linux's own.
    pub delayed_ack_max: Option<Duration>,
    /// TCP_THIN_LINEAR_TIMEOUTS.
    pub thin_linear_timeouts: bool,
    /// TCP_USER_TIMEOUT; None for the number of retries.
    pub user_timeout: Option<Duration>,
    /// TCP_MAXSEG; None when not set.
    pub max_segment: Option<u16>,
    /// TCP_SYNCNT; None for the configuration's.
    pub syn_count: Option<u32>,
    /// TCP_LINGER2; None for the configuration's, zero for no FIN-WAIT-2 at all.
    pub fin_timeout: Option<Duration>,
    /// SO_LINGER.
    pub linger: Option<Duration>,
    /// SO_RCVBUF; None lets the buffer grow by itself.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF; None lets the buffer grow by itself.
    pub send_buffer: Option<usize>,
    /// TCP_DEFER_ACCEPT.
    pub defer_accept: Option<Duration>,
    /// TCP_CONGESTION.
    pub congestion: Option<&'static str>,
    /// TCP_WINDOW_CLAMP; None for none.
    pub window_clamp: Option<usize>,
    /// SO_OOBINLINE: urgent data stays in the stream.
    pub oob_inline: bool,
    /// SO_MAX_PACING_RATE in bytes a second.
    pub max_pacing_rate: Option<u64>,
    /// MSG_MORE of the last send: as TCP_CORK until the next one.
    pub more: bool,
}

impl Plain for Settings {
    const PLAIN: &'static Settings = &Settings {
        no_delay: false,
        cork: false,
        keep_alive: false,
        keep_idle: None,
        keep_interval: None,
        keep_count: None,
        rto_min: None,
        rto_max: None,
        delayed_ack_max: None,
        thin_linear_timeouts: false,
        user_timeout: None,
        max_segment: None,
        syn_count: None,
        fin_timeout: None,
        linger: None,
        receive_buffer: None,
        send_buffer: None,
        defer_accept: None,
        congestion: None,
        window_clamp: None,
        oob_inline: false,
        max_pacing_rate: None,
        more: false,
    };
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::PLAIN.clone()
    }
}

impl Settings {
    /// How eagerly small segments go out.
    pub fn push(&self) -> Push {
        match (self.cork || self.more, self.no_delay) {
            (true, _) => Push::Cork,
            (false, true) => Push::NoDelay,
            (false, false) => Push::Nagle,
        }
    }
}

/// Sizes that the path allows, asked anew before each transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathLimits {
    /// The path's MTU less the IP header and the fixed TCP header.
    pub mss: usize,
    /// The most payload that the link takes in one piece; 0 when it cannot cut segments.
    pub gso_max: usize,
    /// The segment size that the route lets us offer (RTAX_ADVMSS); None for what fits.
    pub offered_mss: Option<u16>,
    /// The least retransmission timeout of the route (RTAX_RTO_MIN).
    pub rto_min: Option<Span>,
    /// The first congestion window of the route in segments (RTAX_INITCWND).
    pub first_window: Option<u16>,
    /// The first receive window of the route in segments (RTAX_INITRWND).
    pub first_offer: Option<u16>,
    /// The largest window that the route lets us offer (RTAX_WINDOW).
    pub most_offered: Option<u32>,
    /// The congestion control that the route wants (RTAX_CC_ALGO).
    pub congestion: Option<&'static str>,
    /// Whether the route wants acknowledgments without delay (RTAX_QUICKACK).
    pub quick_ack: bool,
}

impl PathLimits {
    /// The largest window to offer: the route's where the program sets none (tcp_connect_init).
    pub fn clamp(&self, settings: &Settings) -> Option<usize> {
        settings.window_clamp.or(self.most_offered.map(|most| most as usize))
    }

    /// A path of which nothing else is known.
    pub const fn new(mss: usize, gso_max: usize) -> PathLimits {
        PathLimits {
            mss,
            gso_max,
            offered_mss: None,
            rto_min: None,
            first_window: None,
            first_offer: None,
            most_offered: None,
            congestion: None,
            quick_ack: false,
        }
    }
}

/// Secrets that a connection starts with, drawn by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The initial sequence number (RFC 6528).
    pub iss: u32,
    /// The offset of its timestamps (RFC 7323 section 5.4).
    pub timestamp_offset: u32,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer refused it (ECONNREFUSED).
    #[error("connection refused")]
    Refused,
    /// The peer reset it (ECONNRESET).
    #[error("connection reset by peer")]
    Reset,
    /// The peer reset it after it had ended its stream (EPIPE).
    #[error("broken pipe")]
    BrokenPipe,
    /// Nothing was heard for too long (ETIMEDOUT).
    #[error("connection timed out")]
    TimedOut,
    /// A router or host says so (EHOSTUNREACH).
    #[error("no route to host")]
    HostUnreachable,
    /// A router says so (ENETUNREACH).
    #[error("network is unreachable")]
    NetworkUnreachable,
    /// The peer's host does not speak TCP (ENOPROTOOPT).
    #[error("protocol not available")]
    ProtocolUnreachable,
    /// A router forbids it (EACCES).
    #[error("permission denied")]
    Prohibited,
    /// A router found the header wrong (EPROTO).
    #[error("protocol error")]
    Protocol,
    /// The local end gave it up (ECONNABORTED).
    #[error("software caused connection abort")]
    Aborted,
}

/// What an ICMP error about a segment of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The destination cannot be reached, for now or for good.
    Unreachable(Error),
    /// The path takes smaller packets only.
    PacketTooBig {
        /// The payload that fits them beside headers without options.
        mss: usize,
    },
}

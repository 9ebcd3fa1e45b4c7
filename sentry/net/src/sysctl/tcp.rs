//! net.ipv4.tcp_*: what connections that begin later do.

use core::time::Duration;

use netstack::memory::{Limits, Pool};
use netstack::transport::Host;
use netstack::transport::tcp::congestion;
use netstack::transport::tcp::{EcnPolicy, MtuProbing, SynCookies, TimeWaitReuse};
use sentry_abi::Errno;
use sentry_kernel::Result;

use super::row::{Number, Row, number, numbers, shown, text};

/// The bytes of a page, in which tcp_mem counts.
const PAGE: i64 = 4096;
const BYTE: (i64, i64) = (0, 255);
const ANY: (i64, i64) = (0, i32::MAX as i64);
/// Linux's TCP_MIN_SND_MSS and the largest segment.
const MSS: (i64, i64) = (48, 65_535);
/// The seconds of a day.
const DAY: i64 = 24 * 3600;
const LATER: &str = "for connections that begin later";

/// A number of the configuration.
macro_rules! field {
    ($path:literal, $bounds:expr, $field:ident) => {
        number(
            $path,
            $bounds,
            |at| Ok(at.tcp().$field.number()),
            |at, n| at.edit_tcp(|tcp| tcp.$field = Number::of(n)),
        )
    };
}

/// A time of the configuration, in the unit of these two functions.
macro_rules! time {
    ($path:literal, $field:ident, $from:ident, $to:ident) => {
        number(
            $path,
            ANY,
            |at| Ok(i64::try_from(at.tcp().$field.$to()).unwrap_or(i64::MAX)),
            |at, n| {
                let time = Duration::$from(u64::try_from(n).unwrap_or(0));
                at.edit_tcp(|tcp| tcp.$field = time)
            },
        )
    };
}

/// The rows.
pub const ROWS: &[Row] = &[
    field!("ipv4/tcp_abort_on_overflow", BYTE, abort_on_overflow),
    shown("ipv4/tcp_allowed_congestion_control", |_| Ok(congestion::AVAILABLE.join(" "))),
    shown("ipv4/tcp_available_congestion_control", |_| Ok(congestion::AVAILABLE.join(" "))),
    field!("ipv4/tcp_base_mss", ANY, base_mss),
    field!("ipv4/tcp_challenge_ack_limit", ANY, challenge_ack_limit),
    text(
        "ipv4/tcp_congestion_control",
        |at| Ok(at.tcp().congestion.to_owned()),
        |at, name| {
            let known = congestion::known(name.as_bytes()).ok_or(Errno::ENOENT)?;
            at.edit_tcp(|tcp| tcp.congestion = known)
        },
    )
    .note(LATER),
    number(
        "ipv4/tcp_ecn",
        (0, 2),
        |at| {
            Ok(match at.tcp().ecn {
                EcnPolicy::Off => 0,
                EcnPolicy::Request => 1,
                EcnPolicy::Grant => 2,
                EcnPolicy::RequestAccurate => 3,
            })
        },
        |at, n| {
            let policy = match n {
                0 => EcnPolicy::Off,
                1 => EcnPolicy::Request,
                _ => EcnPolicy::Grant,
            };
            at.edit_tcp(|tcp| tcp.ecn = policy)
        },
    ),
    field!("ipv4/tcp_ecn_fallback", (0, 1), ecn_fallback),
    field!("ipv4/tcp_fastopen", ANY, fast_open),
    time!("ipv4/tcp_fastopen_blackhole_timeout_sec", fast_open_blackhole, from_secs, as_secs),
    time!("ipv4/tcp_fin_timeout", fin_timeout, from_secs, as_secs),
    field!("ipv4/tcp_frto", BYTE, detect_spurious_timeouts),
    time!("ipv4/tcp_invalid_ratelimit", invalid_ratelimit, from_millis, as_millis),
    time!("ipv4/tcp_keepalive_intvl", keep_interval, from_secs, as_secs),
    field!("ipv4/tcp_keepalive_probes", BYTE, keep_count),
    time!("ipv4/tcp_keepalive_time", keep_idle, from_secs, as_secs),
    field!("ipv4/tcp_max_orphans", ANY, max_orphans),
    field!("ipv4/tcp_max_syn_backlog", ANY, max_syn_backlog),
    field!("ipv4/tcp_max_tw_buckets", ANY, max_time_wait),
    numbers(
        "ipv4/tcp_mem",
        (0, i64::MAX / PAGE),
        |at| pages(&at.net.stack().shared().memory.tcp),
        |at, levels| {
            set_pages(&at.net.stack().shared().memory.tcp, levels);
            Ok(())
        },
    ),
    number(
        "ipv4/tcp_min_rtt_wlen",
        (0, DAY),
        |at| Ok(i64::try_from(at.tcp().min_rtt_window.as_secs()).unwrap_or(i64::MAX)),
        |at, n| {
            let window = Duration::from_secs(u64::try_from(n).unwrap_or(0));
            at.edit_tcp(|tcp| tcp.min_rtt_window = window)
        },
    ),
    field!("ipv4/tcp_min_snd_mss", MSS, min_send_mss),
    field!("ipv4/tcp_mtu_probe_floor", MSS, mtu_probe_floor),
    number(
        "ipv4/tcp_mtu_probing",
        BYTE,
        |at| {
            Ok(match at.tcp().mtu_probing {
                MtuProbing::Off => 0,
                MtuProbing::BlackHole => 1,
                MtuProbing::Always => 2,
            })
        },
        |at, n| {
            let when = match n {
                0 => MtuProbing::Off,
                1 => MtuProbing::BlackHole,
                _ => MtuProbing::Always,
            };
            at.edit_tcp(|tcp| tcp.mtu_probing = when)
        },
    ),
    field!("ipv4/tcp_notsent_lowat", (0, u32::MAX as i64), not_sent_low_water),
    number(
        "ipv4/tcp_orphan_retries",
        BYTE,
        // Linux writes 0 for its default of 8.
        |at| Ok(if at.tcp().orphan_retries == 8 { 0 } else { at.tcp().orphan_retries.number() }),
        |at, n| at.edit_tcp(|tcp| tcp.orphan_retries = if n == 0 { 8 } else { Number::of(n) }),
    ),
    time!("ipv4/tcp_probe_interval", mtu_probe_interval, from_secs, as_secs),
    field!("ipv4/tcp_probe_threshold", ANY, mtu_probe_threshold),
    field!("ipv4/tcp_retries1", BYTE, retries_soft),
    field!("ipv4/tcp_retries2", BYTE, retries),
    number(
        "ipv4/tcp_rfc1337",
        BYTE,
        |at| Ok(i64::from(at.tcp().rfc1337)),
        |at, n| at.edit_tcp(|tcp| tcp.rfc1337 = n != 0),
    ),
    numbers(
        "ipv4/tcp_rmem",
        (1, i32::MAX as i64),
        |at| {
            vec![
                LEAST_BUFFER,
                at.tcp().receive_buffer.number(),
                at.tcp().receive_buffer_max.number(),
            ]
        },
        |at, sizes| {
            let [least, first, most] = *sizes else { return Err(Errno::EINVAL.into()) };
            check_least(least)?;
            at.edit_tcp(|tcp| {
                tcp.receive_buffer = Number::of(first);
                tcp.receive_buffer_max = Number::of(most);
            })
        },
    )
    .partial(FIXED_LEAST),
    number(
        "ipv4/tcp_rto_max_ms",
        (1000, 120_000),
        |at| Ok(i64::try_from(at.tcp().rto_max.as_millis()).unwrap_or(i64::MAX)),
        |at, n| {
            let time = Duration::from_millis(u64::try_from(n).unwrap_or(0));
            at.edit_tcp(|tcp| tcp.rto_max = time)
        },
    ),
    number(
        "ipv4/tcp_rto_min_us",
        (1, i32::MAX as i64),
        |at| Ok(i64::try_from(at.tcp().rto_min.as_micros()).unwrap_or(i64::MAX)),
        |at, n| {
            let time = Duration::from_micros(u64::try_from(n).unwrap_or(0));
            at.edit_tcp(|tcp| tcp.rto_min = time)
        },
    ),
    field!("ipv4/tcp_sack", BYTE, sack),
    field!("ipv4/tcp_slow_start_after_idle", BYTE, slow_start_after_idle),
    field!("ipv4/tcp_syn_linear_timeouts", (0, 127), syn_linear_timeouts),
    field!("ipv4/tcp_syn_retries", (1, 127), syn_retries),
    field!("ipv4/tcp_synack_retries", BYTE, synack_retries),
    number(
        "ipv4/tcp_syncookies",
        (0, 2),
        |at| {
            Ok(match at.tcp().syncookies {
                SynCookies::Off => 0,
                SynCookies::WhenFull => 1,
                SynCookies::Always => 2,
            })
        },
        |at, n| {
            let when = match n {
                0 => SynCookies::Off,
                1 => SynCookies::WhenFull,
                _ => SynCookies::Always,
            };
            at.edit_tcp(|tcp| tcp.syncookies = when)
        },
    ),
    field!("ipv4/tcp_thin_linear_timeouts", BYTE, thin_linear_timeouts),
    field!("ipv4/tcp_timestamps", (0, 1), timestamps)
        .partial("2, which leaves out the random offset of each connection, is refused"),
    number(
        "ipv4/tcp_tw_reuse",
        (0, 2),
        |at| {
            Ok(match at.tcp().time_wait_reuse {
                TimeWaitReuse::Off => 0,
                TimeWaitReuse::All => 1,
                TimeWaitReuse::Loopback => 2,
            })
        },
        |at, n| {
            let who = match n {
                0 => TimeWaitReuse::Off,
                1 => TimeWaitReuse::All,
                _ => TimeWaitReuse::Loopback,
            };
            at.edit_tcp(|tcp| tcp.time_wait_reuse = who)
        },
    ),
    field!("ipv4/tcp_window_scaling", BYTE, window_scaling),
    numbers(
        "ipv4/tcp_wmem",
        (1, i32::MAX as i64),
        |at| vec![LEAST_BUFFER, at.tcp().send_buffer.number(), at.tcp().send_buffer_max.number()],
        |at, sizes| {
            let [least, first, most] = *sizes else { return Err(Errno::EINVAL.into()) };
            check_least(least)?;
            at.edit_tcp(|tcp| {
                tcp.send_buffer = Number::of(first);
                tcp.send_buffer_max = Number::of(most);
            })
        },
    )
    .partial(FIXED_LEAST),
];

/// What each socket may hold also under memory pressure, in bytes.
const LEAST_BUFFER: i64 = netstack::memory::LEAST as i64;
const FIXED_LEAST: &str =
    "the first number is what every socket may hold: it is 4096, and another is refused";

fn check_least(least: i64) -> Result<()> {
    if least == LEAST_BUFFER { Ok(()) } else { Err(Errno::EINVAL.into()) }
}

/// The levels of a pool in pages.
pub(super) fn pages(pool: &Pool) -> Vec<i64> {
    let limits = pool.limits();
    [limits.low, limits.pressure, limits.high].map(|bytes| bytes.number() / PAGE).to_vec()
}

/// Sets the levels of a pool from pages.
pub(super) fn set_pages(pool: &Pool, levels: &[i64]) {
    if let [low, pressure, high] = levels {
        let bytes = |pages: &i64| Number::of(pages.saturating_mul(PAGE));
        pool.set_limits(Limits { low: bytes(low), pressure: bytes(pressure), high: bytes(high) });
    }
}

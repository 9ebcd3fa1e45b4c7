//! Level IPPROTO_TCP (tcp(7)).

use core::time::Duration;

use netstack::socket::options::{TcpOption, TcpOptionKind};
use netstack::socket::{OptionError, OptionValue};
use netstack::transport::tcp::fast_open::FastOpenKeys;
use netstack::transport::tcp::{StateName, congestion};
use sentry_abi::Errno;
use sentry_abi::socket::{SO_MAX_PACING_RATE, SOL_SOCKET};
use sentry_abi::tcp::*;
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};

use super::row::{Call, Row, Shape, Target, flag, number, own, refused, shown, zero_or_one};
use super::{row, value};
use crate::errno;
use crate::inet::tcp_info;

/// Longest name of a congestion control with its zero byte (TCP_CA_NAME_MAX).
const CA_NAME_MAX: usize = 16;
/// MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL in seconds.
const MAX_SECONDS: i32 = 32_767;
/// Linux's bounds of TCP_MAXSEG (TCP_MIN_MSS, MAX_TCP_WINDOW).
const MAX_SEGMENT: core::ops::RangeInclusive<i32> = 88..=32_767;
/// The first SYN-ACK's time-out and the longest, in seconds (TCP_TIMEOUT_INIT, TCP_RTO_MAX).
const SYNACK_SECONDS: i64 = 1;
const SYNACK_SECONDS_MAX: i64 = 120;
/// TCP_FIN_TIMEOUT_MAX in seconds.
const FIN_TIMEOUT_MAX: i32 = 120;

/// A tick of Linux's clock where it ticks 250 times a second, as Debian's does.
const TICK_US: i64 = 4000;
/// TCP_TIMEOUT_MIN, and TCP_RTO_MIN or TCP_DELACK_MAX.
const TIMEOUT_MIN_US: i64 = 2 * TICK_US;
const DELAY_MAX_US: i64 = 200_000;

const INT: Shape = Shape::Int;
const NO_REPAIR: &str =
    "connections are not taken over: the error is that of a caller without CAP_NET_ADMIN";
const NO_SIGNATURES: &str = "as in a kernel without TCP signatures";

/// The rows, by number.
pub const ROWS: &[Row] = &[
    flag("TCP_NODELAY", TCP_NODELAY, INT).tells(|n| TcpOption::NoDelay(n != 0).into()),
    number("TCP_MAXSEG", TCP_MAXSEG, INT, |_, n| match n {
        n if n == 0 || MAX_SEGMENT.contains(&n) => Ok(i64::from(n)),
        _ => Err(Errno::EINVAL.into()),
    })
    .live(|call| stack(call, TcpOptionKind::MaxSegment))
    .tells(|n| TcpOption::MaxSegment(n as u16).into()),
    flag("TCP_CORK", TCP_CORK, INT).tells(|n| TcpOption::Cork(n != 0).into()),
    number("TCP_KEEPIDLE", TCP_KEEPIDLE, INT, |_, n| seconds(n))
        .live(|call| stack(call, TcpOptionKind::KeepIdle))
        .tells(|n| TcpOption::KeepIdle(Duration::from_secs(n as u64)).into()),
    number("TCP_KEEPINTVL", TCP_KEEPINTVL, INT, |_, n| seconds(n))
        .live(|call| stack(call, TcpOptionKind::KeepInterval))
        .tells(|n| TcpOption::KeepInterval(Duration::from_secs(n as u64)).into()),
    number("TCP_KEEPCNT", TCP_KEEPCNT, INT, |_, n| count(n))
        .live(|call| stack(call, TcpOptionKind::KeepCount))
        .tells(|n| TcpOption::KeepCount(n as u8).into()),
    number("TCP_SYNCNT", TCP_SYNCNT, INT, |_, n| count(n))
        .live(|call| stack(call, TcpOptionKind::SynCount))
        .tells(|n| TcpOption::SynCount(n as u8).into()),
    number("TCP_LINGER2", TCP_LINGER2, INT, |_, n| Ok(i64::from(n.clamp(-1, FIN_TIMEOUT_MAX))))
        .live(|call| match call.stored() {
            0 => Ok(call.inet()?.net.stack().tcp_config().fin_timeout.as_secs() as i64),
            seconds => Ok(seconds),
        })
        .tells(|n| TcpOption::Linger2(u64::try_from(n).ok().map(Duration::from_secs)).into()),
    number("TCP_DEFER_ACCEPT", TCP_DEFER_ACCEPT, INT, |_, n| Ok(synack_seconds(i64::from(n))))
        .tells(|n| TcpOption::DeferAccept(Duration::from_secs(n as u64)).into()),
    number("TCP_WINDOW_CLAMP", TCP_WINDOW_CLAMP, INT, |call, n| {
        match call.inet()?.endpoint.tcp().map(|tcp| tcp.state()) {
            // There is no connection without a clamp.
            Some(state) if state != StateName::Closed && n == 0 => Err(Errno::EINVAL.into()),
            _ => Ok(i64::from(n)),
        }
    })
    .live(|call| stack(call, TcpOptionKind::WindowClamp))
    .tells(|n| {
        // A negative number is less than any clamp may be.
        TcpOption::WindowClamp(if n == 0 { 0 } else { u32::try_from(n).unwrap_or(1) }).into()
    }),
    own(
        "TCP_INFO",
        TCP_INFO,
        "struct tcp_info",
        None,
        Some(|call| {
            let socket = call.inet()?.endpoint.tcp().ok_or(Errno::ENOPROTOOPT)?;
            let rate = call.socket.options().number(SOL_SOCKET, SO_MAX_PACING_RATE);
            let rate = rate.map_or(u64::MAX, |rate| rate as u64);
            Ok(value::from_object(&tcp_info::of(socket, call.inet()?.net.now(), rate)))
        }),
    ),
    flag("TCP_QUICKACK", TCP_QUICKACK, INT)
        .live(|call| match call.inet()?.endpoint.tcp().map(|tcp| tcp.state()) {
            Some(StateName::Closed | StateName::Listen) => {
                Ok(call.socket.options().number(call.level, TCP_QUICKACK).unwrap_or(1))
            }
            _ => stack(call, TcpOptionKind::QuickAck),
        })
        .tells(|n| TcpOption::QuickAck(n != 0).into()),
    own("TCP_CONGESTION", TCP_CONGESTION, "a name", Some(set_congestion), Some(congestion_name)),
    refused("TCP_MD5SIG", TCP_MD5SIG, Errno::ENOPROTOOPT, NO_SIGNATURES),
    zero_or_one("TCP_THIN_LINEAR_TIMEOUTS", TCP_THIN_LINEAR_TIMEOUTS, INT)
        .tells(|n| TcpOption::ThinLinearTimeouts(n != 0).into()),
    number("TCP_THIN_DUPACK", TCP_THIN_DUPACK, INT, |_, n| match n {
        0 | 1 => Ok(0),
        _ => Err(Errno::EINVAL.into()),
    })
    .note("does nothing on Linux either, since 4.11"),
    number("TCP_USER_TIMEOUT", TCP_USER_TIMEOUT, INT, |_, n| match n {
        0.. => Ok(i64::from(n)),
        _ => Err(Errno::EINVAL.into()),
    })
    .tells(|n| TcpOption::UserTimeout(Duration::from_millis(n as u64)).into()),
    own(
        "TCP_REPAIR",
        TCP_REPAIR,
        "int",
        Some(|_| Err(Errno::EPERM.into())),
        Some(|_| Ok(value::from_int(0))),
    )
    .partial(NO_REPAIR),
    refused("TCP_REPAIR_QUEUE", TCP_REPAIR_QUEUE, Errno::EPERM, NO_REPAIR).reads(Errno::EINVAL),
    own(
        "TCP_QUEUE_SEQ",
        TCP_QUEUE_SEQ,
        "u32",
        Some(|call| match call.inet()?.endpoint.tcp().map(|tcp| tcp.state()) {
            Some(StateName::Closed) => Err(Errno::EINVAL.into()),
            _ => Err(Errno::EPERM.into()),
        }),
        Some(|_| Err(Errno::EINVAL.into())),
    )
    .note(NO_REPAIR),
    refused("TCP_REPAIR_OPTIONS", TCP_REPAIR_OPTIONS, Errno::EINVAL, NO_REPAIR)
        .reads(Errno::ENOPROTOOPT),
    number("TCP_FASTOPEN", TCP_FASTOPEN, INT, |_, n| match n {
        0.. => Ok(i64::from(n)),
        _ => Err(Errno::EINVAL.into()),
    })
    .live(|call| stack(call, TcpOptionKind::FastOpen))
    .tells(|n| TcpOption::FastOpen(n as u32).into()),
    refused("TCP_TIMESTAMP", TCP_TIMESTAMP, Errno::EPERM, "the connection's clock is not told")
        .reads(Errno::ENOPROTOOPT),
    number("TCP_NOTSENT_LOWAT", TCP_NOTSENT_LOWAT, INT, |_, n| Ok(i64::from(n)))
        .tells(|n| TcpOption::NotSentLowWater(n as u32).into()),
    own("TCP_CC_INFO", TCP_CC_INFO, "union tcp_cc_info", None, Some(|_| Ok(Vec::new())))
        .note("empty, as for a controller without information of its own"),
    refused("TCP_SAVE_SYN", TCP_SAVE_SYN, Errno::ENOPROTOOPT, "the headers of a SYN are not kept"),
    refused(
        "TCP_SAVED_SYN",
        TCP_SAVED_SYN,
        Errno::ENOPROTOOPT,
        "the headers of a SYN are not kept",
    ),
    refused("TCP_REPAIR_WINDOW", TCP_REPAIR_WINDOW, Errno::EPERM, NO_REPAIR).reads(Errno::EINVAL),
    zero_or_one("TCP_FASTOPEN_CONNECT", TCP_FASTOPEN_CONNECT, INT)
        .tells(|n| TcpOption::FastOpenConnect(n != 0).into()),
    own(
        "TCP_ULP",
        TCP_ULP,
        "a name",
        Some(|call| match call.bytes {
            [] => Err(Errno::EINVAL.into()),
            _ => Err(Errno::ENOENT.into()),
        }),
        Some(|_| Ok(Vec::new())),
    )
    .note("ENOENT: there is no upper-layer protocol, as in a kernel without TLS"),
    refused("TCP_MD5SIG_EXT", TCP_MD5SIG_EXT, Errno::ENOPROTOOPT, NO_SIGNATURES),
    own(
        "TCP_FASTOPEN_KEY",
        TCP_FASTOPEN_KEY,
        "16 or 32 bytes",
        Some(set_fast_open_keys),
        Some(fast_open_keys),
    ),
    zero_or_one("TCP_FASTOPEN_NO_COOKIE", TCP_FASTOPEN_NO_COOKIE, INT)
        .tells(|n| TcpOption::FastOpenNoCookie(n != 0).into()),
    refused(
        "TCP_ZEROCOPY_RECEIVE",
        TCP_ZEROCOPY_RECEIVE,
        Errno::ENOPROTOOPT,
        "as in a kernel without an MMU: read instead",
    ),
    zero_or_one("TCP_INQ", TCP_INQ, INT),
    number("TCP_TX_DELAY", TCP_TX_DELAY, INT, |_, n| match n {
        // "val < 0 || val >= (1U << (31 - 3))": the smoothed time has three more bits.
        0..0x1000_0000 => Ok(i64::from(n)),
        _ => Err(Errno::EINVAL.into()),
    })
    .note("stored; as on Linux only the fq queueing discipline acts on it"),
    refused("TCP_AO_ADD_KEY", TCP_AO_ADD_KEY, Errno::ENOPROTOOPT, NO_SIGNATURES),
    refused("TCP_AO_DEL_KEY", TCP_AO_DEL_KEY, Errno::ENOPROTOOPT, NO_SIGNATURES),
    refused("TCP_AO_INFO", TCP_AO_INFO, Errno::ENOPROTOOPT, NO_SIGNATURES),
    refused("TCP_AO_GET_KEYS", TCP_AO_GET_KEYS, Errno::ENOPROTOOPT, NO_SIGNATURES),
    own(
        "TCP_AO_REPAIR",
        TCP_AO_REPAIR,
        "struct tcp_ao_repair",
        Some(no_signatures),
        Some(|call| no_signatures(call).map(|()| Vec::new())),
    )
    .note(NO_SIGNATURES),
    shown("TCP_IS_MPTCP", TCP_IS_MPTCP, |_| Ok(0)),
    number("TCP_RTO_MAX_MS", TCP_RTO_MAX_MS, INT, |_, n| match n {
        1000..=120_000 => Ok(ticks(i64::from(n), TICK_US / 1000)),
        _ => Err(Errno::EINVAL.into()),
    })
    .live(|call| Ok(stack(call, TcpOptionKind::RtoMax)? / 1000))
    .tells(|n| TcpOption::RtoMax(Duration::from_millis(n as u64)).into()),
    number("TCP_RTO_MIN_US", TCP_RTO_MIN_US, INT, |_, n| short_time(n))
        .live(|call| stack(call, TcpOptionKind::RtoMin))
        .tells(|n| TcpOption::RtoMin(Duration::from_micros(n as u64)).into()),
    number("TCP_DELACK_MAX_US", TCP_DELACK_MAX_US, INT, |_, n| short_time(n))
        .live(|call| stack(call, TcpOptionKind::DelayedAckMax))
        .tells(|n| TcpOption::DelayedAckMax(Duration::from_micros(n as u64)).into()),
];

/// setsockopt(2) at this level. Errors: EINVAL for a value shorter than an int, whatever the option; those of the row.
pub fn set(socket: &dyn Target, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
    let has_int = !matches!(name, TCP_CONGESTION | TCP_ULP | TCP_FASTOPEN_KEY);
    if has_int && bytes.len() < 4 {
        return Err(Errno::EINVAL.into());
    }
    row::set(ROWS, socket, creds, (sentry_abi::socket::SOL_TCP, name), bytes)
}

/// tcp_can_repair_sock: the first thing that is asked about repair.
fn no_signatures(call: &Call<'_>) -> Result<()> {
    let listens = call.inet()?.endpoint.tcp().map(|tcp| tcp.state()) == Some(StateName::Listen);
    let may = call.creds.is_none() || call.may(&[Capabilities::NET_ADMIN]);
    Err(if listens || !may { Errno::EPERM } else { Errno::ENOPROTOOPT }.into())
}

/// Seconds within Linux's bounds. Errors: EINVAL.
fn seconds(number: i32) -> Result<i64> {
    if !(1..=MAX_SECONDS).contains(&number) {
        return Err(Errno::EINVAL.into());
    }
    Ok(i64::from(number))
}

/// A number of so many in whole ticks of Linux's clock, rounded up.
fn ticks(number: i64, tick: i64) -> i64 {
    (number + tick - 1) / tick * tick
}

/// Microseconds, from two ticks of Linux's clock (TCP_TIMEOUT_MIN) to its delays of old. Errors: EINVAL.
fn short_time(number: i32) -> Result<i64> {
    match ticks(i64::from(number.max(0)), TICK_US) {
        kept @ TIMEOUT_MIN_US..=DELAY_MAX_US => Ok(kept),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// A count from 1 to 127. Errors: EINVAL.
fn count(number: i32) -> Result<i64> {
    match u8::try_from(number) {
        Ok(count @ 1..=127) => Ok(i64::from(count)),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// TCP_DEFER_ACCEPT counts in retransmissions of the SYN-ACK: the time after which the last of as many as cover `asked` seconds is due.
fn synack_seconds(asked: i64) -> i64 {
    if asked <= 0 {
        return 0;
    }
    let (mut period, mut timeout, mut count) = (SYNACK_SECONDS, SYNACK_SECONDS, 1);
    while asked > period && count < u8::MAX {
        timeout = (timeout * 2).min(SYNACK_SECONDS_MAX);
        period += timeout;
        count += 1;
    }
    period
}

/// What the connection has, as a number.
fn stack(call: &Call<'_>, kind: TcpOptionKind) -> Result<i64> {
    let whole_seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Ok(match call.inet()?.ask(kind.into()).map_err(errno::of_option)? {
        OptionValue::TcpOption(option) => match option {
            TcpOption::MaxSegment(bytes) => i64::from(bytes),
            TcpOption::KeepIdle(time) | TcpOption::KeepInterval(time) => whole_seconds(time),
            TcpOption::KeepCount(n) | TcpOption::SynCount(n) => i64::from(n),
            TcpOption::QuickAck(on) => i64::from(on),
            TcpOption::WindowClamp(bytes) => i64::from(bytes as i32),
            TcpOption::RtoMin(time) | TcpOption::RtoMax(time) | TcpOption::DelayedAckMax(time) => {
                i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
            }
            TcpOption::FastOpen(queue) => i64::from(queue),
            _ => return Err(errno::of_option(OptionError::NotSupported)),
        },
        _ => return Err(errno::of_option(OptionError::NotSupported)),
    })
}

/// A congestion control by name. Errors: EINVAL for no bytes at all, ENOENT for one that is not there.
fn set_congestion(call: &Call<'_>) -> Result<()> {
    if call.bytes.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    let name = call.bytes.get(..call.bytes.len().min(CA_NAME_MAX - 1)).unwrap_or_default();
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let name = congestion::known(name).ok_or(Errno::ENOENT)?;
    call.inet()?.tell(TcpOption::Congestion(name).into())
}

/// One key of fast open, or the key in use and the one before. Errors: EINVAL for another length.
fn set_fast_open_keys(call: &Call<'_>) -> Result<()> {
    let key = |at: usize| call.bytes.get(at..at + 16).and_then(|key| key.try_into().ok());
    let keys = match (call.bytes.len(), key(0)) {
        (16, Some(primary)) => FastOpenKeys { primary, backup: None },
        (32, Some(primary)) => FastOpenKeys { primary, backup: key(16) },
        _ => return Err(Errno::EINVAL.into()),
    };
    call.inet()?.tell(TcpOption::FastOpenKey(keys).into())
}

fn fast_open_keys(call: &Call<'_>) -> Result<Vec<u8>> {
    match call.inet()?.ask(TcpOptionKind::FastOpenKey.into()).map_err(errno::of_option)? {
        OptionValue::TcpOption(TcpOption::FastOpenKey(keys)) => {
            Ok([&keys.primary[..], keys.backup.as_ref().map_or(&[], |key| &key[..])].concat())
        }
        _ => Err(Errno::ENOPROTOOPT.into()),
    }
}

fn congestion_name(call: &Call<'_>) -> Result<Vec<u8>> {
    match call.inet()?.ask(TcpOptionKind::Congestion.into()).map_err(errno::of_option)? {
        OptionValue::TcpOption(TcpOption::Congestion(name)) => {
            let mut name = name.as_bytes().to_vec();
            name.resize(CA_NAME_MAX, 0);
            Ok(name)
        }
        _ => Err(Errno::ENOPROTOOPT.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferred_accept_is_rounded_to_whole_retransmissions() {
        for (asked, kept) in [(-1, 0), (0, 0), (1, 1), (2, 3), (8, 15), (64, 127), (1300, 1327)] {
            assert_eq!(synack_seconds(asked), kept, "{asked} s");
        }
    }
}

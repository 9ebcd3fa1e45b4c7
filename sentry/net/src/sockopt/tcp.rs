//! Level IPPROTO_TCP: numbers, layouts and the stack's variants (tcp(7)).

use core::time::Duration;

use netstack::socket::options::{TcpOption, TcpOptionKind};
use netstack::transport::tcp::congestion;
use sentry_abi::Errno;
use sentry_abi::tcp::*;
use sentry_kernel::Result;

use super::value;

/// Longest name of a congestion control with its zero byte (TCP_CA_NAME_MAX).
const CA_NAME_MAX: usize = 16;
const MAX_SECONDS: i32 = 32_767;

/// Seconds within Linux's bounds. Errors: EINVAL.
fn seconds(number: i32) -> Result<Duration> {
    if !(1..=MAX_SECONDS).contains(&number) {
        return Err(Errno::EINVAL.into());
    }
    Ok(Duration::from_secs(number as u64))
}

/// A count from 1 to 127. Errors: EINVAL.
fn count(number: i32) -> Result<u8> {
    match u8::try_from(number) {
        Ok(count @ 1..=127) => Ok(count),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// A congestion control's name, cut at TCP_CA_NAME_MAX and at its zero byte. Errors: EINVAL for no bytes, ENOENT for one
/// that is not there.
fn congestion(bytes: &[u8]) -> Result<&'static str> {
    if bytes.is_empty() {
        return Err(Errno::EINVAL.into());
    }
    let name = bytes.get(..bytes.len().min(CA_NAME_MAX - 1)).unwrap_or_default();
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    Ok(congestion::known(name).ok_or(Errno::ENOENT)?)
}

/// A value that setsockopt(2) gives. Errors: EINVAL, ENOENT, ENOPROTOOPT for an option that the stack does not have.
// tidy: table
pub fn decode(name: i32, bytes: &[u8]) -> Result<TcpOption> {
    if name == TCP_CONGESTION {
        return Ok(TcpOption::Congestion(congestion(bytes)?));
    }
    let number = value::int(bytes)?;
    Ok(match name {
        TCP_NODELAY => TcpOption::NoDelay(number != 0),
        TCP_CORK => TcpOption::Cork(number != 0),
        TCP_QUICKACK => TcpOption::QuickAck(number != 0),
        // Linux: at least TCP_MIN_MSS, at most MAX_TCP_WINDOW.
        TCP_MAXSEG => match u16::try_from(number) {
            Ok(mss @ 88..=32_767) => TcpOption::MaxSegment(mss),
            _ => return Err(Errno::EINVAL.into()),
        },
        TCP_KEEPIDLE => TcpOption::KeepIdle(seconds(number)?),
        TCP_KEEPINTVL => TcpOption::KeepInterval(seconds(number)?),
        TCP_KEEPCNT => TcpOption::KeepCount(count(number)?),
        TCP_SYNCNT => TcpOption::SynCount(count(number)?),
        TCP_LINGER2 => match u64::try_from(number) {
            Ok(secs) => TcpOption::Linger2(Some(Duration::from_secs(secs.min(120)))),
            Err(_) => TcpOption::Linger2(None),
        },
        TCP_DEFER_ACCEPT => TcpOption::DeferAccept(Duration::from_secs(number.max(0) as u64)),
        TCP_WINDOW_CLAMP => TcpOption::WindowClamp(number.max(0) as u32),
        TCP_USER_TIMEOUT => match u64::try_from(number) {
            Ok(ms) => TcpOption::UserTimeout(Duration::from_millis(ms)),
            Err(_) => return Err(Errno::EINVAL.into()),
        },
        TCP_NOTSENT_LOWAT => TcpOption::NotSentLowWater(number as u32),
        _ => return Err(Errno::ENOPROTOOPT.into()),
    })
}

/// What getsockopt(2) asks for. Errors: ENOPROTOOPT.
// tidy: table
pub fn kind(name: i32) -> Result<TcpOptionKind> {
    Ok(match name {
        TCP_NODELAY => TcpOptionKind::NoDelay,
        TCP_CORK => TcpOptionKind::Cork,
        TCP_QUICKACK => TcpOptionKind::QuickAck,
        TCP_MAXSEG => TcpOptionKind::MaxSegment,
        TCP_KEEPIDLE => TcpOptionKind::KeepIdle,
        TCP_KEEPINTVL => TcpOptionKind::KeepInterval,
        TCP_KEEPCNT => TcpOptionKind::KeepCount,
        TCP_SYNCNT => TcpOptionKind::SynCount,
        TCP_LINGER2 => TcpOptionKind::Linger2,
        TCP_DEFER_ACCEPT => TcpOptionKind::DeferAccept,
        TCP_WINDOW_CLAMP => TcpOptionKind::WindowClamp,
        TCP_USER_TIMEOUT => TcpOptionKind::UserTimeout,
        TCP_CONGESTION => TcpOptionKind::Congestion,
        TCP_NOTSENT_LOWAT => TcpOptionKind::NotSentLowWater,
        _ => return Err(Errno::ENOPROTOOPT.into()),
    })
}

fn whole_seconds(duration: &Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// The layout of a value.
// tidy: table
pub fn encode(option: &TcpOption) -> Vec<u8> {
    value::from_int(match option {
        TcpOption::NoDelay(on) | TcpOption::Cork(on) | TcpOption::QuickAck(on) => i32::from(*on),
        TcpOption::MaxSegment(mss) => i32::from(*mss),
        TcpOption::KeepIdle(time)
        | TcpOption::KeepInterval(time)
        | TcpOption::DeferAccept(time) => whole_seconds(time),
        TcpOption::KeepCount(n) | TcpOption::SynCount(n) => i32::from(*n),
        TcpOption::Linger2(time) => time.as_ref().map_or(-1, whole_seconds),
        TcpOption::WindowClamp(n) | TcpOption::NotSentLowWater(n) => *n as i32,
        TcpOption::UserTimeout(time) => i32::try_from(time.as_millis()).unwrap_or(i32::MAX),
        TcpOption::Congestion(name) => {
            let mut name = name.as_bytes().to_vec();
            name.resize(CA_NAME_MAX, 0);
            return name;
        }
    })
}

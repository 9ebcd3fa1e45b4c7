//! Options of sockets by Linux's numbers: those that scripts set and read.

use std::time::Duration;

use netstack::socket::options::MtuDiscover;
use netstack::socket::{
    IpOption, IpOptionKind, OptionError, OptionKind, OptionValue, SocketOption, SocketOptionKind,
    TcpOption, TcpOptionKind,
};
use netstack::transport::tcp::congestion;
use netstack::transport::tcp::fast_open::FastOpenKeys;
use nix::libc;

use crate::script::numbers;

/// net.core.rmem_max and wmem_max, and the least buffers (SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF), in bytes.
const BUFFER_MAX: i32 = 212_992;
const RECEIVE_LEAST: usize = 2304;
const SEND_LEAST: usize = 4608;
/// Of linux/tcp.h, not in libc.
const RTO_MAX_MS: i32 = 44;
const RTO_MIN_US: i32 = 45;
const DELACK_MAX_US: i32 = 46;
const MINHOPCOUNT: i32 = 73;

fn int(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

fn buffer(n: i32, least: usize) -> usize {
    // "We double it on the way in to account for "struct sk_buff" etc. overhead" (net/core/sock.c).
    (n.clamp(0, BUFFER_MAX) as usize * 2).max(least)
}

/// What the stack is told. Errors: EINVAL and the like by the stack's own names; `None` for an option that scripts do not set here.
// tidy: table
pub fn to_stack(level: i32, name: i32, bytes: &[u8]) -> Option<Result<OptionValue, OptionError>> {
    let invalid = Some(Err(OptionError::Invalid));
    match (level, name) {
        (libc::SOL_TCP, libc::TCP_CONGESTION) => {
            let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            let known = congestion::known(name).ok_or(OptionError::NotFound);
            return Some(known.map(|name| TcpOption::Congestion(name).into()));
        }
        (libc::SOL_TCP, libc::TCP_FASTOPEN_KEY) => {
            let Ok(primary) = bytes.try_into() else { return invalid };
            return Some(Ok(TcpOption::FastOpenKey(FastOpenKeys { primary, backup: None }).into()));
        }
        (libc::SOL_SOCKET, libc::SO_LINGER) => {
            let (Some(on), Some(seconds)) = (int(bytes), bytes.get(4..).and_then(int)) else {
                return invalid;
            };
            let time = Duration::from_secs(u64::from(seconds.max(0).unsigned_abs()));
            return Some(Ok(SocketOption::Linger((on != 0).then_some(time)).into()));
        }
        _ => {}
    }
    // A byte will do for the options of ip(7).
    let n = match (int(bytes), bytes) {
        (Some(n), _) => n,
        (None, [byte, ..]) if level == libc::SOL_IP => i32::from(*byte),
        _ => return invalid,
    };
    let on = n != 0;
    let positive = u64::try_from(n).unwrap_or(0);
    let small = u8::try_from(n).map_err(|_| OptionError::Invalid);
    let seconds = Duration::from_secs(positive);
    Some(Ok(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => SocketOption::ReuseAddress(on).into(),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT) => SocketOption::ReusePort(on).into(),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => SocketOption::KeepAlive(on).into(),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE) => SocketOption::OobInline(on).into(),
        (libc::SOL_SOCKET, libc::SO_BROADCAST) => SocketOption::Broadcast(on).into(),
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => {
            SocketOption::ReceiveBuffer(buffer(n, RECEIVE_LEAST)).into()
        }
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => {
            SocketOption::SendBuffer(buffer(n, SEND_LEAST)).into()
        }
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT) => {
            SocketOption::ReceiveLowWater(if n < 0 { i32::MAX as usize } else { n.max(1) as usize })
                .into()
        }
        (libc::SOL_SOCKET, libc::SO_PRIORITY) => SocketOption::Priority(n as u32).into(),
        (libc::SOL_SOCKET, libc::SO_MARK) => SocketOption::Mark(n as u32).into(),
        (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE) => {
            SocketOption::MaxPacingRate(if n == -1 { u64::MAX } else { u64::from(n as u32) }).into()
        }
        (libc::SOL_IP, libc::IP_TOS) => IpOption::Tos(n as u8).into(),
        (libc::SOL_IP, libc::IP_TTL) if n == -1 => IpOption::Ttl(None).into(),
        (libc::SOL_IP, libc::IP_TTL) => match small {
            Ok(ttl) => IpOption::Ttl(Some(ttl)).into(),
            Err(error) => return Some(Err(error)),
        },
        (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS) => IpOption::Ttl(u8::try_from(n).ok()).into(),
        (libc::SOL_IPV6, libc::IPV6_TCLASS) => IpOption::TrafficClass(n as u8).into(),
        (libc::SOL_IPV6, libc::IPV6_V6ONLY) => IpOption::V6Only(on).into(),
        (libc::SOL_IP, libc::IP_FREEBIND) => IpOption::FreeBind(on).into(),
        (libc::SOL_IP, libc::IP_MINTTL) => match small {
            Ok(ttl) => IpOption::MinTtl(ttl).into(),
            Err(error) => return Some(Err(error)),
        },
        (libc::SOL_IPV6, MINHOPCOUNT) => match small {
            Ok(hops) => IpOption::MinHops(hops).into(),
            Err(error) => return Some(Err(error)),
        },
        (libc::SOL_IP, libc::IP_MTU_DISCOVER) | (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER) => {
            IpOption::MtuDiscover(match n {
                0 => MtuDiscover::Dont,
                1 => MtuDiscover::Want,
                2 => MtuDiscover::Do,
                3 => MtuDiscover::Probe,
                4 => MtuDiscover::Interface,
                5 => MtuDiscover::Omit,
                _ => return invalid,
            })
            .into()
        }
        (libc::SOL_TCP, libc::TCP_NODELAY) => TcpOption::NoDelay(on).into(),
        (libc::SOL_TCP, libc::TCP_CORK) => TcpOption::Cork(on).into(),
        (libc::SOL_TCP, libc::TCP_QUICKACK) => TcpOption::QuickAck(on).into(),
        (libc::SOL_TCP, libc::TCP_MAXSEG) => match u16::try_from(n) {
            Ok(mss) => TcpOption::MaxSegment(mss).into(),
            Err(_) => return invalid,
        },
        (libc::SOL_TCP, libc::TCP_KEEPIDLE) => TcpOption::KeepIdle(seconds).into(),
        (libc::SOL_TCP, libc::TCP_KEEPINTVL) => TcpOption::KeepInterval(seconds).into(),
        (libc::SOL_TCP, libc::TCP_KEEPCNT) => match small {
            Ok(count) => TcpOption::KeepCount(count).into(),
            Err(error) => return Some(Err(error)),
        },
        (libc::SOL_TCP, libc::TCP_SYNCNT) => match small {
            Ok(count) => TcpOption::SynCount(count).into(),
            Err(error) => return Some(Err(error)),
        },
        (libc::SOL_TCP, libc::TCP_LINGER2) => {
            TcpOption::Linger2(u64::try_from(n).ok().map(Duration::from_secs)).into()
        }
        (libc::SOL_TCP, libc::TCP_DEFER_ACCEPT) => TcpOption::DeferAccept(seconds).into(),
        (libc::SOL_TCP, libc::TCP_WINDOW_CLAMP) => TcpOption::WindowClamp(n.max(0) as u32).into(),
        (libc::SOL_TCP, libc::TCP_USER_TIMEOUT) if n < 0 => return invalid,
        (libc::SOL_TCP, libc::TCP_USER_TIMEOUT) => {
            TcpOption::UserTimeout(Duration::from_millis(positive)).into()
        }
        (libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT) => TcpOption::NotSentLowWater(n as u32).into(),
        (libc::SOL_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS) => TcpOption::ThinLinearTimeouts(on).into(),
        (libc::SOL_TCP, libc::TCP_FASTOPEN) if n < 0 => return invalid,
        (libc::SOL_TCP, libc::TCP_FASTOPEN) => TcpOption::FastOpen(n as u32).into(),
        (libc::SOL_TCP, libc::TCP_FASTOPEN_CONNECT) => TcpOption::FastOpenConnect(on).into(),
        (libc::SOL_TCP, libc::TCP_FASTOPEN_NO_COOKIE) => TcpOption::FastOpenNoCookie(on).into(),
        (libc::SOL_TCP, RTO_MAX_MS) => TcpOption::RtoMax(Duration::from_millis(positive)).into(),
        (libc::SOL_TCP, RTO_MIN_US) => TcpOption::RtoMin(Duration::from_micros(positive)).into(),
        (libc::SOL_TCP, DELACK_MAX_US) => {
            TcpOption::DelayedAckMax(Duration::from_micros(positive)).into()
        }
        _ => return None,
    }))
}

/// Options whose value the stack knows, whatever was set.
pub fn kind(level: i32, name: i32) -> Option<OptionKind> {
    Some(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => SocketOptionKind::ReceiveBuffer.into(),
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => SocketOptionKind::SendBuffer.into(),
        (libc::SOL_IP, libc::IP_MTU) | (libc::SOL_IPV6, libc::IPV6_MTU) => IpOptionKind::Mtu.into(),
        (libc::SOL_TCP, libc::TCP_MAXSEG) => TcpOptionKind::MaxSegment.into(),
        (libc::SOL_TCP, libc::TCP_QUICKACK) => TcpOptionKind::QuickAck.into(),
        (libc::SOL_TCP, libc::TCP_KEEPIDLE) => TcpOptionKind::KeepIdle.into(),
        (libc::SOL_TCP, libc::TCP_KEEPINTVL) => TcpOptionKind::KeepInterval.into(),
        (libc::SOL_TCP, libc::TCP_KEEPCNT) => TcpOptionKind::KeepCount.into(),
        (libc::SOL_TCP, libc::TCP_SYNCNT) => TcpOptionKind::SynCount.into(),
        (libc::SOL_TCP, libc::TCP_WINDOW_CLAMP) => TcpOptionKind::WindowClamp.into(),
        (libc::SOL_TCP, libc::TCP_FASTOPEN) => TcpOptionKind::FastOpen.into(),
        (libc::SOL_TCP, libc::TCP_CONGESTION) => TcpOptionKind::Congestion.into(),
        _ => return None,
    })
}

/// A value of the stack as bytes.
pub fn bytes(value: OptionValue) -> Option<Vec<u8>> {
    let number = |n: i64| Some((n as i32).to_ne_bytes().to_vec());
    let seconds = |time: Duration| number(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match value {
        OptionValue::SocketOption(
            SocketOption::ReceiveBuffer(bytes) | SocketOption::SendBuffer(bytes),
        ) => number(bytes as i64),
        OptionValue::IpOption(IpOption::Mtu(mtu)) => number(i64::from(mtu)),
        OptionValue::TcpOption(option) => match option {
            TcpOption::MaxSegment(mss) => number(i64::from(mss)),
            TcpOption::QuickAck(on) => number(i64::from(on)),
            TcpOption::KeepIdle(time) | TcpOption::KeepInterval(time) => seconds(time),
            TcpOption::KeepCount(count) | TcpOption::SynCount(count) => number(i64::from(count)),
            TcpOption::WindowClamp(bytes) | TcpOption::FastOpen(bytes) => number(i64::from(bytes)),
            TcpOption::Congestion(name) => {
                let mut name = name.as_bytes().to_vec();
                name.resize(16, 0);
                Some(name)
            }
            _ => None,
        },
        _ => None,
    }
}

/// An option in words, for an error.
pub fn told(level: i32, name: i32) -> String {
    let prefix = match level {
        libc::SOL_SOCKET => "SO_",
        libc::SOL_TCP => "TCP_",
        libc::SOL_IP => "IP_",
        libc::SOL_IPV6 => "IPV6_",
        _ => "",
    };
    format!("option {} of level {level}", numbers::named(i64::from(name), prefix))
}

//! Level SOL_SOCKET: what every family has alike (socket(7)).

use core::time::Duration;

use netstack::socket::options::{Asks, Level};
use netstack::socket::{
    DatagramOption, DatagramOptionKind, OptionValue, SocketOption, SocketOptionKind,
};
use netstack::transport::tcp::StateName;
use sentry_abi::Errno;
use sentry_abi::if_::IFNAMSIZ;
use sentry_abi::socket::*;
use sentry_kernel::Result;
use sentry_kernel::cred::{Capabilities, Credentials};

use super::row::{
    Call, Row, Shape, Sorts, Target, asks, flag, number, own, refused, shown, zero_or_one,
};
use super::timestamping::{self, STAMPING, STAMPING_PARTIAL};
use super::{row, value};
use crate::errno;

/// The bits that SO_TIMESTAMP and its kin keep under SO_TIMESTAMP's number: any, in nanoseconds, of the new numbers.
pub(super) const STAMP: i64 = 1;
pub(super) const STAMP_NS: i64 = 2;
pub(super) const STAMP_NEW: i64 = 4;
const STAMP_ALL: i64 = STAMP | STAMP_NS | STAMP_NEW;

const SNDBUF_MIN: i64 = 4608;
const RCVBUF_MIN: i64 = 2304;
/// The bits of SO_BUF_LOCK.
const SNDBUF_LOCK: i64 = 1;
const RCVBUF_LOCK: i64 = 2;
/// Flags of struct sock_txtime (SOF_TXTIME_FLAGS_MASK), and the clock that needs no right (CLOCK_MONOTONIC).
const TXTIME_FLAGS: u32 = 3;
const CLOCK_MONOTONIC: i32 = 1;
/// What a classic filter can load besides the packet (SKF_AD_MAX).
const BPF_EXTENSIONS: i64 = 64;

const INT: Shape = Shape::Int;
const ADMIN: &[Capabilities] = &[Capabilities::NET_ADMIN];
const ADMIN_OR_RAW: &[Capabilities] = &[Capabilities::NET_ADMIN, Capabilities::NET_RAW];
const NO_POLLING: &str = "stored: a blocked reader polls the device by itself; Linux without NAPI busy polling does the same";
const UNIX_ONLY: &str = "only local sockets have credentials and files to pass";

/// The rows, by number.
pub const ROWS: &[Row] = &[
    number("SO_DEBUG", SO_DEBUG, INT, |call, n| match n != 0 && !call.may(ADMIN) {
        true => Err(Errno::EACCES.into()),
        false => Ok(i64::from(n != 0)),
    })
    .note("stored; as on Linux nothing is printed"),
    flag("SO_REUSEADDR", SO_REUSEADDR, INT)
        .live(|call| Ok(call.socket.options().number(SOL_SOCKET, SO_REUSEADDR).unwrap_or_else(|| reuse_default(call))))
        .tells(|n| SocketOption::ReuseAddress(n != 0).into()),
    shown("SO_TYPE", SO_TYPE, |call| Ok(i64::from(call.inet()?.kind))),
    shown("SO_ERROR", SO_ERROR, |call| {
        let pending = call.socket.inet().and_then(|inet| inet.endpoint.take_error());
        Ok(pending.map(errno::of_socket).map_or(0, |errno| i64::from(errno.number())))
    }),
    flag("SO_DONTROUTE", SO_DONTROUTE, INT).tells(|n| SocketOption::DontRoute(n != 0).into()),
    flag("SO_BROADCAST", SO_BROADCAST, INT)
        .tells(|n| SocketOption::Broadcast(n != 0).into())
        .inert(Sorts::TCP),
    number("SO_SNDBUF", SO_SNDBUF, INT, |call, n| buffer(call, n, SO_SNDBUF))
        .live(|call| buffer_now(call, SocketOptionKind::SendBuffer))
        .tells(|n| SocketOption::SendBuffer(n as usize).into()),
    number("SO_RCVBUF", SO_RCVBUF, INT, |call, n| buffer(call, n, SO_RCVBUF))
        .live(|call| buffer_now(call, SocketOptionKind::ReceiveBuffer))
        .tells(|n| SocketOption::ReceiveBuffer(n as usize).into()),
    flag("SO_KEEPALIVE", SO_KEEPALIVE, INT)
        .tells(|n| SocketOption::KeepAlive(n != 0).into())
        .inert(Sorts::MESSAGES),
    flag("SO_OOBINLINE", SO_OOBINLINE, INT)
        .tells(|n| SocketOption::OobInline(n != 0).into())
        .inert(Sorts::MESSAGES),
    flag("SO_NO_CHECK", SO_NO_CHECK, INT)
        .tells(|n| SocketOption::NoCheck(n != 0).into())
        .inert(Sorts::TCP.union(Sorts::PING).union(Sorts::RAW)),
    number("SO_PRIORITY", SO_PRIORITY, INT, |call, n| match n {
        0..=6 => Ok(i64::from(n)),
        _ if call.may(ADMIN_OR_RAW) => Ok(i64::from(n)),
        _ => Err(Errno::EPERM.into()),
    })
    .tells(|n| SocketOption::Priority(n as u32).into())
    .inert(Sorts::TCP)
    .note("stored, and set by IP_TOS; as on Linux it orders nothing on a device without a queueing discipline"),
    own("SO_LINGER", SO_LINGER, "struct linger", Some(set_linger), Some(linger)),
    number("SO_BSDCOMPAT", SO_BSDCOMPAT, INT, |_, _| Ok(0)).note("does nothing on Linux either"),
    flag("SO_REUSEPORT", SO_REUSEPORT, INT).tells(|n| SocketOption::ReusePort(n != 0).into()),
    flag("SO_PASSCRED", SO_PASSCRED, INT)
        .only(Sorts::UNIX.union(Sorts::NETLINK), Errno::EOPNOTSUPP, Errno::EOPNOTSUPP)
        .note(UNIX_ONLY),
    own("SO_PEERCRED", SO_PEERCRED, "struct ucred", None, Some(|_| {
        // What Linux tells of a peer that may be anywhere.
        Ok(value::from_object(&UCred { pid: 0, uid: u32::MAX, gid: u32::MAX }))
    })),
    number("SO_RCVLOWAT", SO_RCVLOWAT, INT, low_water)
        .default(1)
        .tells(|n| SocketOption::ReceiveLowWater(n as usize).into()),
    shown("SO_SNDLOWAT", SO_SNDLOWAT, |_| Ok(1)),
    own("SO_RCVTIMEO_OLD", SO_RCVTIMEO_OLD, "struct timeval", Some(|call| set_timeout(call, SO_RCVTIMEO_OLD)), Some(|call| timeout(call, SO_RCVTIMEO_OLD))),
    own("SO_SNDTIMEO_OLD", SO_SNDTIMEO_OLD, "struct timeval", Some(|call| set_timeout(call, SO_SNDTIMEO_OLD)), Some(|call| timeout(call, SO_SNDTIMEO_OLD))),
    refused("SO_SECURITY_AUTHENTICATION", 22, Errno::ENOPROTOOPT, "never was in Linux"),
    refused("SO_SECURITY_ENCRYPTION_TRANSPORT", 23, Errno::ENOPROTOOPT, "never was in Linux"),
    refused("SO_SECURITY_ENCRYPTION_NETWORK", 24, Errno::ENOPROTOOPT, "never was in Linux"),
    own("SO_BINDTODEVICE", SO_BINDTODEVICE, "an interface's name", Some(bind_to_device), Some(bound_device)),
    refused("SO_ATTACH_FILTER", SO_ATTACH_FILTER, Errno::ENOPROTOOPT, "struct sock_fprog: internet and packet sockets take it; the others refuse it"),
    refused("SO_DETACH_FILTER", SO_DETACH_FILTER, Errno::ENOENT, "on sockets that take no filter none is attached").reads(Errno::ENOPROTOOPT),
    own("SO_PEERNAME", SO_PEERNAME, "struct sockaddr", None, Some(peer_name)),
    own("SO_TIMESTAMP_OLD", SO_TIMESTAMP_OLD, "flag", Some(|call| timestamping::set_stamp(call, STAMP)), Some(|call| timestamping::stamp(call, STAMP))),
    shown("SO_ACCEPTCONN", SO_ACCEPTCONN, |call| {
        let tcp = call.socket.inet().and_then(|inet| inet.endpoint.tcp());
        Ok(i64::from(tcp.is_some_and(|tcp| tcp.state() == StateName::Listen)))
    }),
    refused("SO_PEERSEC", SO_PEERSEC, Errno::ENOPROTOOPT, "there is no security module"),
    number("SO_SNDBUFFORCE", SO_SNDBUFFORCE, INT, |call, n| forced(call, n, SO_SNDBUF)).unreadable(),
    number("SO_RCVBUFFORCE", SO_RCVBUFFORCE, INT, |call, n| forced(call, n, SO_RCVBUF)).unreadable(),
    flag("SO_PASSSEC", SO_PASSSEC, INT)
        .only(Sorts::UNIX, Errno::EOPNOTSUPP, Errno::EOPNOTSUPP)
        .note("stored; as on Linux without a security module no label comes"),
    own("SO_TIMESTAMPNS_OLD", SO_TIMESTAMPNS_OLD, "flag", Some(|call| timestamping::set_stamp(call, STAMP | STAMP_NS)), Some(|call| timestamping::stamp(call, STAMP | STAMP_NS))),
    number("SO_MARK", SO_MARK, INT, |call, n| match call.may(ADMIN_OR_RAW) {
        true => Ok(i64::from(n)),
        false => Err(Errno::EPERM.into()),
    })
    .tells(|n| SocketOption::Mark(n as u32).into()),
    own("SO_TIMESTAMPING_OLD", SO_TIMESTAMPING_OLD, STAMPING, Some(|call| timestamping::set(call, 0)), Some(timestamping::get)).partial(STAMPING_PARTIAL),
    shown("SO_PROTOCOL", SO_PROTOCOL, |call| Ok(i64::from(call.inet()?.protocol))),
    shown("SO_DOMAIN", SO_DOMAIN, |call| Ok(i64::from(call.inet()?.domain()))),
    asks!(SO_RXQ_OVFL, INT, Level::Socket, Asks::DROPS)
        .partial("message sockets of the internet only"),
    flag("SO_WIFI_STATUS", SO_WIFI_STATUS, INT).note("stored; as on Linux only a wireless device acts on it"),
    number("SO_PEEK_OFF", SO_PEEK_OFF, INT, |_, n| Ok(i64::from(n)))
        .default(-1)
        .live(peek_offset)
        .tells(|n| DatagramOption::PeekOffset(u32::try_from(n).ok()).into())
        .inert(Sorts::TCP)
        .only(
            Sorts::TCP.union(Sorts::UDP).union(Sorts::UNIX),
            Errno::EOPNOTSUPP,
            Errno::EOPNOTSUPP,
        )
        .note("of streams, UDP and local sockets, as on Linux"),
    flag("SO_NOFCS", SO_NOFCS, INT).note("stored; as on Linux only packet sockets on a device with the feature act on it"),
    flag("SO_LOCK_FILTER", SO_LOCK_FILTER, INT).note("on sockets that take no filter there is nothing to lock"),
    flag("SO_SELECT_ERR_QUEUE", SO_SELECT_ERR_QUEUE, INT),
    number("SO_BUSY_POLL", SO_BUSY_POLL, INT, |_, n| at_least_zero(n)).note(NO_POLLING),
    own("SO_MAX_PACING_RATE", SO_MAX_PACING_RATE, "u32 or u64 in bytes a second", Some(set_pacing), Some(pacing))
        .partial("streams refuse it with EOPNOTSUPP"),
    shown("SO_BPF_EXTENSIONS", SO_BPF_EXTENSIONS, |_| Ok(BPF_EXTENSIONS)),
    number("SO_INCOMING_CPU", SO_INCOMING_CPU, INT, |_, n| Ok(i64::from(n)))
        .default(-1)
        .partial("what was set is told; packets are of no processor"),
    own("SO_ATTACH_BPF", SO_ATTACH_BPF, "a descriptor", Some(no_bpf), None).note(NO_EBPF),
    own("SO_ATTACH_REUSEPORT_CBPF", SO_ATTACH_REUSEPORT_CBPF, "struct sock_fprog", Some(|_| Err(Errno::EINVAL.into())), None)
        .note("streams and UDP; others have no groups"),
    own("SO_ATTACH_REUSEPORT_EBPF", SO_ATTACH_REUSEPORT_EBPF, "a descriptor", Some(no_bpf), None).note(NO_EBPF),
    number("SO_CNX_ADVICE", SO_CNX_ADVICE, INT, |_, n| Ok(i64::from(n)))
        .unreadable()
        .note("a route is asked anew for every burst, so that bad advice has nothing to forget"),
    own("SO_MEMINFO", SO_MEMINFO, "nine u32", None, Some(memory)),
    shown("SO_INCOMING_NAPI_ID", SO_INCOMING_NAPI_ID, |_| Ok(0)).note("0, as for a device without NAPI"),
    own("SO_COOKIE", SO_COOKIE, "u64", None, Some(|call| {
        at_least(call, 8)?;
        Ok(call.socket.options().cookie().to_ne_bytes().to_vec())
    })),
    refused("SO_PEERGROUPS", SO_PEERGROUPS, Errno::ENOPROTOOPT, "the groups of a local socket's peer are not kept").reads(Errno::ENODATA),
    zero_or_one("SO_ZEROCOPY", SO_ZEROCOPY, INT)
        .only_set(Sorts::TCP.union(Sorts::UDP), Errno::EOPNOTSUPP)
        .note("sends are copied, and the completion says so (SO_EE_CODE_ZEROCOPY_COPIED)"),
    own("SO_TXTIME", SO_TXTIME, "struct sock_txtime", Some(set_txtime), Some(txtime))
        .note("stored; as on Linux only the fq and etf queueing disciplines act on it"),
    number("SO_BINDTOIFINDEX", SO_BINDTOIFINDEX, INT, bind_to_index)
        .live(|call| Ok(bound_nic(call).map_or(0, |nic| i64::from(nic.0))))
        .tells(|n| SocketOption::BindToDevice(u32::try_from(n).ok().filter(|n| *n != 0).map(netstack::link::NicId)).into()),
    own("SO_TIMESTAMP_NEW", SO_TIMESTAMP_NEW, "flag", Some(|call| timestamping::set_stamp(call, STAMP | STAMP_NEW)), Some(|call| timestamping::stamp(call, STAMP | STAMP_NEW))),
    own("SO_TIMESTAMPNS_NEW", SO_TIMESTAMPNS_NEW, "flag", Some(|call| timestamping::set_stamp(call, STAMP_ALL)), Some(|call| timestamping::stamp(call, STAMP_ALL))),
    own("SO_TIMESTAMPING_NEW", SO_TIMESTAMPING_NEW, STAMPING, Some(|call| timestamping::set(call, STAMP_NEW)), Some(timestamping::get)).partial(STAMPING_PARTIAL),
    own("SO_RCVTIMEO_NEW", SO_RCVTIMEO_NEW, "struct __kernel_sock_timeval", Some(|call| set_timeout(call, SO_RCVTIMEO_OLD)), Some(|call| timeout(call, SO_RCVTIMEO_OLD))),
    own("SO_SNDTIMEO_NEW", SO_SNDTIMEO_NEW, "struct __kernel_sock_timeval", Some(|call| set_timeout(call, SO_SNDTIMEO_OLD)), Some(|call| timeout(call, SO_SNDTIMEO_OLD))),
    refused("SO_DETACH_REUSEPORT_BPF", SO_DETACH_REUSEPORT_BPF, Errno::EINVAL, "no program is ever attached").reads(Errno::ENOPROTOOPT),
    number("SO_PREFER_BUSY_POLL", SO_PREFER_BUSY_POLL, INT, |call, n| match n != 0 && !call.may(ADMIN) {
        true => Err(Errno::EPERM.into()),
        false => Ok(i64::from(n != 0)),
    })
    .note(NO_POLLING),
    number("SO_BUSY_POLL_BUDGET", SO_BUSY_POLL_BUDGET, INT, |call, n| match u16::try_from(n) {
        // The right is asked for first, but only for more than there is.
        _ if i64::from(n) > call.stored() && !call.may(ADMIN) => Err(Errno::EPERM.into()),
        Ok(budget) => Ok(i64::from(budget)),
        Err(_) => Err(Errno::EINVAL.into()),
    })
    .unreadable()
    .note(NO_POLLING),
    own("SO_NETNS_COOKIE", SO_NETNS_COOKIE, "u64", None, Some(|call| match call.bytes.len() {
        8 => Ok(call.inet()?.net.cookie().to_ne_bytes().to_vec()),
        _ => Err(Errno::EINVAL.into()),
    })),
    number("SO_BUF_LOCK", SO_BUF_LOCK, INT, |_, n| match n {
        0..=3 => Ok(i64::from(n)),
        _ => Err(Errno::EINVAL.into()),
    })
    .partial("the bits follow SO_SNDBUF and SO_RCVBUF; to set them does not start or stop the tuning of a connection's buffers"),
    number("SO_RESERVE_MEM", SO_RESERVE_MEM, INT, |_, n| match n {
        ..0 => Err(Errno::EINVAL.into()),
        _ => Err(Errno::EOPNOTSUPP.into()),
    })
    .note("EOPNOTSUPP to set, as for a socket outside of a memory control group"),
    number("SO_TXREHASH", SO_TXREHASH, INT, |_, n| match n {
        0 | 1 => Ok(i64::from(n)),
        -1 => Ok(1),
        _ => Err(Errno::EINVAL.into()),
    })
    .default(1)
    .only(Sorts::TCP, Errno::EOPNOTSUPP, Errno::EOPNOTSUPP)
    .partial("stored; a connection's flow label stays the same"),
    asks!(SO_RCVMARK, INT, Level::Socket, Asks::MARK),
    refused("SO_PASSPIDFD", SO_PASSPIDFD, Errno::EOPNOTSUPP, UNIX_ONLY),
    refused("SO_PEERPIDFD", SO_PEERPIDFD, Errno::ENOPROTOOPT, UNIX_ONLY).reads(Errno::ENODATA),
    refused("SO_DEVMEM_LINEAR", 78, Errno::ENOPROTOOPT, "no device memory"),
    refused("SO_DEVMEM_DMABUF", 79, Errno::ENOPROTOOPT, "no device memory"),
    refused("SO_DEVMEM_DONTNEED", 80, Errno::ENOPROTOOPT, "no device memory"),
    asks!(SO_RCVPRIORITY, INT, Level::Socket, Asks::PRIORITY),
    refused("SO_PASSRIGHTS", SO_PASSRIGHTS, Errno::EOPNOTSUPP, UNIX_ONLY),
    refused("SO_INQ", SO_INQ, Errno::ENOPROTOOPT, "as before Linux 6.17"),
];

const NO_EBPF: &str = "EOPNOTSUPP, as in a kernel without bpf(2)";

/// setsockopt(2) at this level. Errors: EINVAL for a value shorter than an int, whatever the option; those of the row.
pub fn set(socket: &dyn Target, creds: &Credentials, name: i32, bytes: &[u8]) -> Result<()> {
    if bytes.len() < 4 && name != SO_BINDTODEVICE {
        return Err(Errno::EINVAL.into());
    }
    row::set(ROWS, socket, creds, (SOL_SOCKET, name), bytes)
}

fn at_least_zero(number: i32) -> Result<i64> {
    if number < 0 { Err(Errno::EINVAL.into()) } else { Ok(i64::from(number)) }
}

fn at_least(call: &Call<'_>, bytes: usize) -> Result<()> {
    if call.bytes.len() < bytes { Err(Errno::EINVAL.into()) } else { Ok(()) }
}

/// Linux makes raw and ping sockets with the option on (INET_PROTOSW_REUSE).
fn reuse_default(call: &Call<'_>) -> i64 {
    i64::from((Sorts::RAW | Sorts::PING).contains(call.socket.options().sort()))
}

/// What a buffer option stores: twice the wish (Linux counts its own overhead), within bounds; the size is the program's from now on.
fn buffer(call: &Call<'_>, asked: i32, which: i32) -> Result<i64> {
    let most = call.socket.inet().map_or(BUFFER_MAX, |inet| inet.net.buffer_max(which));
    let asked = if asked < 0 { most } else { i64::from(asked).min(most) };
    Ok(sized(call, asked, which))
}

/// net.core.wmem_max and rmem_max in bytes, where no namespace says otherwise.
pub const BUFFER_MAX: i64 = 4 << 20;

/// SO_SNDBUFFORCE and SO_RCVBUFFORCE: the same without the upper bound.
fn forced(call: &Call<'_>, asked: i32, which: i32) -> Result<i64> {
    if !call.may(ADMIN) {
        return Err(Errno::EPERM.into());
    }
    // "No negative values (to prevent underflow, as val will be multiplied by 2)."
    let bytes = sized(call, i64::from(asked.clamp(0, i32::MAX / 2)), which);
    let told = match which {
        SO_SNDBUF => SocketOption::SendBuffer(bytes as usize),
        _ => SocketOption::ReceiveBuffer(bytes as usize),
    };
    if let Some(inet) = call.socket.inet() {
        inet.tell(told.into())?;
    }
    call.socket.options().put(SOL_SOCKET, which, bytes);
    Ok(bytes)
}

fn sized(call: &Call<'_>, asked: i64, which: i32) -> i64 {
    let (least, lock) =
        if which == SO_SNDBUF { (SNDBUF_MIN, SNDBUF_LOCK) } else { (RCVBUF_MIN, RCVBUF_LOCK) };
    let options = call.socket.options();
    let locks = options.number(SOL_SOCKET, SO_BUF_LOCK).unwrap_or(0);
    options.put(SOL_SOCKET, SO_BUF_LOCK, locks | lock);
    (asked * 2).max(least)
}

/// The size of a buffer as the stack has it now, where it tunes it by itself.
fn buffer_now(call: &Call<'_>, kind: SocketOptionKind) -> Result<i64> {
    let told = call.socket.inet().map(|inet| inet.ask(kind.into()));
    match told {
        Some(Ok(OptionValue::SocketOption(
            SocketOption::SendBuffer(bytes) | SocketOption::ReceiveBuffer(bytes),
        ))) => Ok(i64::try_from(bytes).unwrap_or(i64::MAX)),
        _ => Ok(call
            .socket
            .options()
            .number(call.level, call.row.number)
            .unwrap_or(super::common::BUFFER_DEFAULT as i64)),
    }
}

/// SO_RCVLOWAT: negative means all that is possible, zero means one; a stream takes what its receive buffer can hold.
fn low_water(call: &Call<'_>, asked: i32) -> Result<i64> {
    let asked = if asked < 0 { i32::MAX } else { asked.max(1) };
    let cap = match call.socket.inet() {
        Some(inet) if inet.endpoint.tcp().is_some() => inet.low_water_max(),
        _ => i64::from(i32::MAX),
    };
    Ok(i64::from(asked).min(cap))
}

fn set_linger(call: &Call<'_>) -> Result<()> {
    let linger: Linger = value::object(call.bytes)?;
    let on = linger.onoff != 0;
    let options = call.socket.options();
    if let Some(inet) = call.socket.inet()
        && inet.endpoint.tcp().is_some()
    {
        let time = Duration::from_secs(u64::try_from(linger.linger).unwrap_or(0));
        inet.tell(SocketOption::Linger(on.then_some(time)).into())?;
    }
    // Off leaves the time as it was.
    let seconds = if on { i64::from(linger.linger) } else { linger_stored(call) & 0xffff_ffff };
    options.put(SOL_SOCKET, SO_LINGER, i64::from(on) << 32 | seconds & 0xffff_ffff);
    Ok(())
}

fn linger_stored(call: &Call<'_>) -> i64 {
    call.socket.options().number(SOL_SOCKET, SO_LINGER).unwrap_or(0)
}

fn linger(call: &Call<'_>) -> Result<Vec<u8>> {
    let kept = linger_stored(call);
    Ok(value::from_object(&Linger { onoff: (kept >> 32) as i32, linger: kept as i32 }))
}

fn set_timeout(call: &Call<'_>, which: i32) -> Result<()> {
    let ns = match value::timeout_ns(call.bytes)? {
        None => 0,
        // A negative time-out, which reads as none.
        Some(0) => -1,
        Some(ns) => i64::try_from(ns).unwrap_or(i64::MAX),
    };
    call.socket.options().put(SOL_SOCKET, which, ns);
    Ok(())
}

fn timeout(call: &Call<'_>, which: i32) -> Result<Vec<u8>> {
    let ns = call.socket.options().number(SOL_SOCKET, which).unwrap_or(0);
    Ok(value::from_timeout_ns(u64::try_from(ns).ok()))
}

fn bound_nic(call: &Call<'_>) -> Option<netstack::link::NicId> {
    match call.socket.inet()?.ask(SocketOptionKind::BindToDevice.into()) {
        Ok(OptionValue::SocketOption(SocketOption::BindToDevice(nic))) => nic,
        _ => None,
    }
}

fn bind_to_device(call: &Call<'_>) -> Result<()> {
    let name = call.bytes.get(..call.bytes.len().min(IFNAMSIZ - 1)).unwrap_or_default();
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let inet = call.inet()?;
    let nic = match name {
        b"" => None,
        _ => {
            let nics = inet.net.stack().nics();
            let found = nics.iter().find(|nic| nic.name.as_bytes() == name);
            Some(found.ok_or(Errno::ENODEV)?.id)
        }
    };
    may_rebind(call)?;
    inet.tell(SocketOption::BindToDevice(nic).into())
}

/// A socket that is bound to a device is bound to another only with CAP_NET_RAW (sock_bindtoindex_locked). Errors: EPERM.
fn may_rebind(call: &Call<'_>) -> Result<()> {
    match bound_nic(call).is_none() || call.may(&[Capabilities::NET_RAW]) {
        true => Ok(()),
        false => Err(Errno::EPERM.into()),
    }
}

fn bind_to_index(call: &Call<'_>, index: i32) -> Result<i64> {
    may_rebind(call)?;
    at_least_zero(index)
}

fn bound_device(call: &Call<'_>) -> Result<Vec<u8>> {
    let Some(nic) = bound_nic(call) else { return Ok(Vec::new()) };
    at_least(call, IFNAMSIZ)?;
    let nics = call.inet()?.net.stack().nics();
    let info = nics.iter().find(|info| info.id == nic).ok_or(Errno::ENODEV)?;
    let mut bytes = info.name.clone().into_bytes();
    bytes.push(0);
    Ok(bytes)
}

fn peer_name(call: &Call<'_>) -> Result<Vec<u8>> {
    let name = call.inet()?.peer_name()?;
    // "if (lv < len) return -EINVAL": who has more room than the address is long asks wrongly.
    if name.len() < call.bytes.len() { Err(Errno::EINVAL.into()) } else { Ok(name) }
}

/// The rate that is none (~0UL).
const UNPACED: u64 = u64::MAX;

fn set_pacing(call: &Call<'_>) -> Result<()> {
    let rate = match call.bytes.first_chunk::<8>() {
        Some(bytes) if call.bytes.len() == 8 => u64::from_ne_bytes(*bytes),
        _ => match value::int(call.bytes)? as u32 {
            u32::MAX => UNPACED,
            rate => u64::from(rate),
        },
    };
    if let Some(inet) = call.socket.inet() {
        inet.pace(rate)?;
    }
    call.socket.options().put(SOL_SOCKET, SO_MAX_PACING_RATE, rate as i64);
    Ok(())
}

fn pacing(call: &Call<'_>) -> Result<Vec<u8>> {
    let kept = call.socket.options().number(SOL_SOCKET, SO_MAX_PACING_RATE);
    let rate = kept.map_or(UNPACED, |rate| rate as u64);
    match call.bytes.len() {
        8.. => Ok(rate.to_ne_bytes().to_vec()),
        _ => Ok(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes().to_vec()),
    }
}

fn set_txtime(call: &Call<'_>) -> Result<()> {
    let (Some(clock), Some(flags)) = (
        call.bytes.get(..4).and_then(|b| b.first_chunk::<4>()),
        call.bytes.get(4..8).and_then(|b| b.first_chunk::<4>()),
    ) else {
        return Err(Errno::EINVAL.into());
    };
    let (clock, flags) = (i32::from_ne_bytes(*clock), u32::from_ne_bytes(*flags));
    if call.bytes.len() != 8 || flags & !TXTIME_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    if clock != CLOCK_MONOTONIC && !call.may(ADMIN) {
        return Err(Errno::EPERM.into());
    }
    call.socket.options().put(
        SOL_SOCKET,
        SO_TXTIME,
        i64::from(flags) << 32 | i64::from(clock as u32),
    );
    Ok(())
}

fn txtime(call: &Call<'_>) -> Result<Vec<u8>> {
    let kept = call.socket.options().number(SOL_SOCKET, SO_TXTIME).unwrap_or(0);
    Ok(kept.to_ne_bytes().to_vec())
}

/// Where the next peek begins: the stack moves it.
fn peek_offset(call: &Call<'_>) -> Result<i64> {
    match call.socket.inet().map(|inet| inet.ask(DatagramOptionKind::PeekOffset.into())) {
        Some(Ok(OptionValue::DatagramOption(DatagramOption::PeekOffset(offset)))) => {
            // Any number below zero is off, and is told as it was given.
            Ok(offset.map_or(call.stored().min(-1), i64::from))
        }
        _ => Ok(call.stored()),
    }
}

/// An eBPF program's descriptor: none can be made here.
fn no_bpf(call: &Call<'_>) -> Result<()> {
    if call.bytes.len() != 4 {
        return Err(Errno::EINVAL.into());
    }
    Err(Errno::EOPNOTSUPP.into())
}

/// SK_MEMINFO_*: rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops.
fn memory(call: &Call<'_>) -> Result<Vec<u8>> {
    let (received, queued) = call.socket.inet().map_or((0, 0), |inet| inet.queued());
    let buffer = |kind| buffer_now(call, kind).map(|bytes| bytes as u32);
    let count = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let numbers = [
        count(received),
        buffer(SocketOptionKind::ReceiveBuffer)?,
        count(queued),
        buffer(SocketOptionKind::SendBuffer)?,
        0,
        count(queued),
        0,
        0,
        0,
    ];
    Ok(numbers.iter().flat_map(|n| n.to_ne_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Common;
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn common_options_have_linux_defaults_layouts_and_errors() {
        let root = Credentials::root();
        let user = Credentials::user(1000, 1000, std::sync::Arc::from([]));
        // name, default, a value to set (as an int), what is read back
        let rows = [
            (SO_SNDBUF, 212_992, 10_000, 20_000),
            (SO_RCVBUF, 212_992, 1, 2304),
            (SO_RCVLOWAT, 1, 0, 1),
            (SO_REUSEADDR, 0, 5, 1),
            (SO_KEEPALIVE, 0, 1, 1),
            (SO_BROADCAST, 0, 1, 1),
            (SO_PRIORITY, 0, 6, 6),
            (SO_PASSCRED, 0, -1, 1),
        ];
        for (name, default, set, read) in rows {
            let common = Common::new(Sorts::UNIX);
            let get = |name| common.option(name, &[0; 4]).unwrap();
            assert_eq!(get(name), value::from_int(default), "default of {name}");
            assert!(common.set(&user, name, &[1, 2]).unwrap_err().is(Errno::EINVAL));
            common.set(&user, name, &value::from_int(set)).unwrap();
            assert_eq!(get(name), value::from_int(read), "option {name}");
        }
        let common = Common::new(Sorts::UNIX);
        assert!(common.set(&user, SO_PRIORITY, &value::from_int(7)).unwrap_err().is(Errno::EPERM));
        common.set(&root, SO_PRIORITY, &value::from_int(7)).unwrap();
        assert!(common.set(&root, 9999, &[0; 4]).unwrap_err().is(Errno::ENOPROTOOPT));
        assert!(common.option(9999, &[0; 4]).unwrap_err().is(Errno::ENOPROTOOPT));
    }

    #[test]
    fn timeouts_are_nanoseconds_and_zero_is_for_ever() {
        let (common, root) = (Common::new(Sorts::UNIX), Credentials::root());
        let time = SockTimeval { sec: 1, usec: 500_000 };
        common.set(&root, SO_RCVTIMEO_OLD, time.as_bytes()).unwrap();
        assert_eq!(common.timeouts_ns(), (Some(1_500_000_000), None));
        assert_eq!(common.option(SO_RCVTIMEO_OLD, &[0; 16]).unwrap(), time.as_bytes());
        let bad = SockTimeval { sec: 1, usec: 1_000_000 };
        assert!(common.set(&root, SO_SNDTIMEO_OLD, bad.as_bytes()).unwrap_err().is(Errno::EDOM));
        let negative = SockTimeval { sec: -1, usec: 0 };
        common.set(&root, SO_SNDTIMEO_OLD, negative.as_bytes()).unwrap();
        assert_eq!(common.timeouts_ns(), (Some(1_500_000_000), Some(0)));
        common.set(&root, SO_RCVTIMEO_OLD, SockTimeval::default().as_bytes()).unwrap();
        assert_eq!(common.timeouts_ns().0, None);
    }

    #[test]
    fn a_cookie_stays_and_is_nobody_elses() {
        let (a, b) = (Common::new(Sorts::UDP), Common::new(Sorts::UDP));
        let inherited = Common::inherit(&a);
        assert_eq!(a.cookie(), a.cookie());
        assert_ne!(a.cookie(), b.cookie());
        assert_ne!(a.cookie(), inherited.cookie());
        assert!(a.option(SO_COOKIE, &[0; 7]).unwrap_err().is(Errno::EINVAL));
    }

    #[test]
    fn the_last_time_stamp_option_says_how_times_are_told() {
        let (common, root) = (Common::new(Sorts::UNIX), Credentials::root());
        let on = value::from_int(1);
        common.set(&root, SO_TIMESTAMP_OLD, &on).unwrap();
        common.set(&root, SO_TIMESTAMPNS_NEW, &on).unwrap();
        let get = |name| common.option(name, &[0; 4]).unwrap();
        assert_eq!(get(SO_TIMESTAMP_OLD), value::from_int(0));
        assert_eq!(get(SO_TIMESTAMPNS_NEW), value::from_int(1));
        let told = common.time_stamps();
        assert!(told.wanted && told.nanoseconds && told.new);
    }
}

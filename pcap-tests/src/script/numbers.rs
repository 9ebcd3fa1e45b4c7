//! Names of Linux's headers and their numbers, as far as scripts use them.

use nix::errno::Errno;
use nix::libc;

macro_rules! names {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as i64)),*] };
}

/// The constants that libc has.
const NAMES: &[(&str, i64)] = names! {
    AF_INET AF_INET6 AF_UNSPEC PF_INET PF_INET6
    SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_NONBLOCK SOCK_CLOEXEC
    IPPROTO_TCP IPPROTO_UDP IPPROTO_IP IPPROTO_IPV6 IPPROTO_ICMP IPPROTO_ICMPV6
    SOL_SOCKET SOL_TCP SOL_IP SOL_IPV6 SOL_UDP
    SHUT_RD SHUT_WR SHUT_RDWR
    F_GETFL F_SETFL O_RDWR O_NONBLOCK
    MSG_DONTWAIT MSG_OOB MSG_MORE MSG_PEEK MSG_TRUNC MSG_NOSIGNAL MSG_WAITALL MSG_FASTOPEN MSG_EOR MSG_ERRQUEUE MSG_ZEROCOPY
    MSG_CTRUNC
    POLLIN POLLOUT POLLPRI POLLERR POLLHUP POLLRDHUP POLLNVAL POLLRDNORM POLLWRNORM POLLRDBAND POLLWRBAND
    EPOLLIN EPOLLOUT EPOLLPRI EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLET EPOLLONESHOT EPOLLRDNORM EPOLLWRNORM
    EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD
    SO_REUSEADDR SO_REUSEPORT SO_KEEPALIVE SO_OOBINLINE SO_RCVBUF SO_SNDBUF SO_RCVLOWAT SO_LINGER SO_PRIORITY SO_MARK
    SO_BROADCAST SO_RCVTIMEO SO_SNDTIMEO SO_MAX_PACING_RATE SO_ERROR SO_TYPE SO_ACCEPTCONN SO_PROTOCOL SO_DOMAIN
    IP_TOS IP_TTL IP_MTU_DISCOVER IP_MTU IP_RECVERR IP_FREEBIND IP_MINTTL IP_BIND_ADDRESS_NO_PORT
    IP_PMTUDISC_DONT IP_PMTUDISC_WANT IP_PMTUDISC_DO IP_PMTUDISC_PROBE
    IPV6_V6ONLY IPV6_UNICAST_HOPS IPV6_TCLASS IPV6_MTU_DISCOVER IPV6_MTU IPV6_RECVERR
    TCP_NODELAY TCP_CORK TCP_QUICKACK TCP_MAXSEG TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2
    TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_USER_TIMEOUT TCP_CONGESTION TCP_NOTSENT_LOWAT TCP_FASTOPEN TCP_FASTOPEN_CONNECT
    TCP_FASTOPEN_NO_COOKIE TCP_FASTOPEN_KEY TCP_INFO TCP_THIN_LINEAR_TIMEOUTS TCP_INQ
};

/// Those that it has not, from linux/sockios.h, linux/in6.h, linux/in.h and linux/tcp.h.
const MORE: &[(&str, i64)] = &[
    ("SIOCINQ", 0x541b),
    ("SIOCOUTQ", 0x5411),
    ("FIONREAD", 0x541b),
    ("SIOCOUTQNSD", 0x894b),
    ("IPV6_MINHOPCOUNT", 73),
    ("IP_PMTUDISC_INTERFACE", 4),
    ("IP_PMTUDISC_OMIT", 5),
    ("TCP_RTO_MAX_MS", 44),
    ("TCP_RTO_MIN_US", 45),
    ("TCP_DELACK_MAX_US", 46),
];

/// The number of a name.
pub fn constant(name: &str) -> Option<i64> {
    let found = NAMES.iter().chain(MORE).find(|(known, _)| *known == name);
    found.map(|(_, number)| *number)
}

/// errno by its name.
pub fn errno(name: &str) -> Option<i32> {
    let name = if name == "EWOULDBLOCK" { "EAGAIN" } else { name };
    (1..=133).find(|number| format!("{:?}", Errno::from_raw(*number)) == name)
}

/// An error as strace tells it.
pub fn error_text(errno: i32) -> String {
    let errno = Errno::from_raw(errno);
    format!("-1 {errno:?} ({})", errno.desc())
}

/// The name of a number among those that begin so, or the number.
pub fn named(value: i64, prefix: &str) -> String {
    let mut all = NAMES.iter().chain(MORE);
    let found = all.find(|(name, number)| *number == value && name.starts_with(prefix));
    found.map_or_else(|| value.to_string(), |(name, _)| (*name).to_owned())
}

/// Bits as names joined by `|`.
pub fn bits(value: i64, prefix: &str) -> String {
    let mut rest = value;
    let mut names = Vec::new();
    for (name, number) in NAMES.iter().filter(|(name, _)| name.starts_with(prefix)) {
        if *number != 0 && rest & number == *number {
            names.push(*name);
            rest &= !number;
        }
    }
    if rest != 0 || names.is_empty() {
        return value.to_string();
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        assert_eq!(constant("SOL_SOCKET"), Some(1));
        assert_eq!(constant("NO_SUCH"), None);
        assert_eq!(errno("EINPROGRESS"), Some(115));
        assert_eq!(errno("EWOULDBLOCK"), errno("EAGAIN"));
        assert_eq!(errno("ENONSENSE"), None);
        assert!(error_text(111).starts_with("-1 ECONNREFUSED ("));
        assert_eq!(bits(5, "POLL"), "POLLIN|POLLOUT");
        assert_eq!(bits(0, "POLL"), "0");
    }
}

//! The files of /proc/net that list sockets: tcp, udp, raw, icmp in both families, unix, netlink (proc_pid_net(5)).
//! Kernel addresses are zeros, as Linux shows them to those who may not see them.

use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

use netstack::ip::Family;
use sentry_abi::socket::SOL_TCP;
use sentry_abi::tcp::*;
use zerocopy::FromBytes;

use crate::inet::listing::{self, Listed, Table};
use crate::netns::NetNamespace;
use crate::unix::address::Name;

/// Milliseconds of a clock tick as programs count them (USER_HZ is 100).
const TICK_MS: u32 = 10;
/// Width of the lines of /proc/net/tcp, and of those of udp and icmp (seq_setwidth).
const TCP_WIDTH: usize = 149;
const DATAGRAM_WIDTH: usize = 127;

const V6_HEADER: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
const V4_COLUMNS: &str =
    "local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

/// ADDRESS:PORT in hexadecimal, each 32-bit word of the address in memory order.
fn hex_socket(family: Family, address: SocketAddr) -> String {
    let mut out = String::new();
    match family {
        Family::V4 => {
            let word = u32::from_ne_bytes(crate::inet::sockaddr::octets4(address.ip()));
            let _ = write!(out, "{word:08X}");
        }
        Family::V6 => {
            // What is not a mapped address is an IPv6 one here, the unspecified one included.
            let octets = match address.ip() {
                IpAddr::V4(v4) if v4.is_unspecified() => [0; 16],
                ip => crate::inet::sockaddr::octets6(ip),
            };
            for word in octets.as_chunks::<4>().0 {
                let _ = write!(out, "{:08X}", u32::from_ne_bytes(*word));
            }
        }
    }
    let _ = write!(out, ":{:04X}", address.port());
    out
}

/// The columns that all tables share, up to the inode.
fn common(listed: &Listed, unsent: usize) -> String {
    let timer = &listed.timer;
    // Linux shows the time to the next run of a TIME-WAIT's or handshake's timer too.
    let left = if timer.kind == 0 { 0 } else { timer.expires_ms / TICK_MS };
    let (retries, probes) = match timer.kind {
        2 | 4 => (0, timer.retries),
        _ => (timer.retries, 0),
    };
    format!(
        "{} {} {:02X} {:08X}:{:08X} {:02X}:{left:08X} {retries:08X} {:5} {probes:8} {}",
        hex_socket(listed.family, listed.local),
        hex_socket(listed.family, listed.peer),
        listed.state,
        unsent,
        listed.unread,
        timer.kind,
        listed.uid,
        listed.inode,
    )
}

fn info(listed: &Listed) -> Option<TcpInfo> {
    let bytes = listed.socket.as_ref()?.read_option(SOL_TCP, TCP_INFO).ok()?;
    TcpInfo::read_from_prefix(&bytes).ok().map(|(info, _)| info)
}

/// What follows the inode in /proc/net/tcp: references, address, timeout, delayed acknowledgments, window, threshold.
fn stream_tail(listed: &Listed) -> String {
    const POINTER: &str = "0000000000000000";
    match listed.state {
        TCP_TIME_WAIT => return format!("3 {POINTER}"),
        TCP_SYN_RECV => return format!("0 {POINTER}"),
        TCP_LISTEN => return format!("1 {POINTER} 100 0 0 10 0"),
        _ => {}
    }
    let info = info(listed).unwrap_or_default();
    let ticks = |micros: u32| micros / (TICK_MS * 1000);
    // tcp_in_initial_slowstart: a threshold that no loss has set.
    let threshold = match info.snd_ssthresh {
        0 | 0x7fff_ffff.. => -1,
        segments => i64::from(segments),
    };
    format!("1 {POINTER} {} {} 0 {} {threshold}", ticks(info.rto), ticks(info.ato), info.snd_cwnd)
}

fn rows(net: &NetNamespace, table: Table, family: Family) -> Vec<Listed> {
    let mut all = listing::list(net, table);
    all.retain(|listed| listed.family == family);
    all
}

/// /proc/net/tcp, /proc/net/tcp6
pub fn tcp(net: &NetNamespace, family: Family) -> String {
    let (header, width) = match family {
        Family::V4 => (format!("  sl  {V4_COLUMNS}"), TCP_WIDTH),
        Family::V6 => (V6_HEADER.to_owned(), 0),
    };
    let mut out = format!("{header:<width$}\n");
    for (number, listed) in rows(net, Table::Tcp, family).iter().enumerate() {
        let unsent = if listed.state == TCP_LISTEN { 0 } else { listed.unsent };
        let line = format!("{number:4}: {} {}", common(listed, unsent), stream_tail(listed));
        let _ = writeln!(out, "{line:<width$}");
    }
    out
}

/// The heading of message sockets, and how wide their lines are.
fn datagram_heading(table: Table, family: Family) -> (String, usize) {
    let tail = "ref pointer drops";
    match (family, table) {
        (Family::V6, _) => (format!("{V6_HEADER} {tail}"), 0),
        (Family::V4, Table::Raw) => (format!("  sl  {V4_COLUMNS} {tail}"), 0),
        (Family::V4, _) => (format!("   sl  {V4_COLUMNS} {tail}"), DATAGRAM_WIDTH),
    }
}

/// /proc/net/udplite, udplite6: there are no such sockets.
pub fn no_datagrams(family: Family) -> String {
    let (header, width) = datagram_heading(Table::Udp, family);
    format!("{header:<width$}\n")
}

/// /proc/net/udp, udp6, icmp, icmp6, raw, raw6
pub fn datagrams(net: &NetNamespace, table: Table, family: Family) -> String {
    let (header, width) = datagram_heading(table, family);
    let mut out = format!("{header:<width$}\n");
    for listed in &rows(net, table, family) {
        // Linux shows the bucket of its hash, which is the port or protocol as far as it goes.
        let bucket = match (table, family) {
            (Table::Raw, Family::V4) => format!("{:4}", listed.local.port()),
            _ => format!("{:5}", listed.local.port()),
        };
        let line = format!("{bucket}: {} 2 0000000000000000 {}", common(listed, 0), listed.drops);
        let _ = writeln!(out, "{line:<width$}");
    }
    out
}

/// /proc/net/unix
pub fn unix(net: &NetNamespace) -> Vec<u8> {
    const ACCEPTS: u32 = 0x1_0000;
    let mut out = b"Num       RefCount Protocol Flags    Type St Inode Path\n".to_vec();
    for socket in net.local_sockets().all() {
        let listed = socket.listed();
        let connected = listed.state == TCP_ESTABLISHED;
        // SS_UNCONNECTED, SS_CONNECTED; what nobody has accepted is SS_CONNECTING or SS_DISCONNECTING.
        let state = match (listed.inode != 0, connected) {
            (true, false) => 1,
            (true, true) => 3,
            (false, true) => 2,
            (false, false) => 4,
        };
        let flags = if listed.listens { ACCEPTS } else { 0 };
        let line = format!(
            "0000000000000000: {:08X} 00000000 {flags:08X} {:04X} {state:02X} {:5}",
            // The table's and the file's references, and the peer's.
            2 + u32::from(connected),
            listed.kind,
            listed.inode
        );
        out.extend_from_slice(line.as_bytes());
        match &listed.name {
            Name::Unnamed => {}
            Name::Path(path) => {
                out.push(b' ');
                out.extend_from_slice(path);
            }
            Name::Abstract(name) => {
                out.extend_from_slice(b" @");
                out.extend(name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }));
            }
        }
        out.push(b'\n');
    }
    out
}

/// /proc/net/netlink
pub fn netlink(net: &NetNamespace) -> String {
    let mut out = String::from(
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n",
    );
    for row in net.netlink().listed() {
        let _ = writeln!(
            out,
            "0000000000000000 {:<3} {:<10} {:08x} {:<8} {:<8} {:<5} {:<8} {:<8} {:<8}",
            row.protocol,
            row.port,
            row.groups,
            row.unread,
            0,
            u8::from(row.dumping),
            2,
            row.drops,
            row.inode,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_words_in_memory_order() {
        let local = "127.0.0.1:80".parse().unwrap();
        assert_eq!(hex_socket(Family::V4, local), "0100007F:0050");
        assert_eq!(
            hex_socket(Family::V6, "[::1]:80".parse().unwrap()),
            "00000000000000000000000001000000:0050"
        );
        assert_eq!(
            hex_socket(Family::V6, "10.0.0.1:80".parse().unwrap()),
            "0000000000000000FFFF00000100000A:0050"
        );
    }

    #[test]
    fn a_row_has_the_columns_that_linux_prints() {
        let listed = Listed {
            family: Family::V4,
            local: "10.0.0.1:80".parse().unwrap(),
            peer: "10.0.0.2:4242".parse().unwrap(),
            state: TCP_FIN_WAIT1,
            unread: 1,
            unsent: 7,
            timer: crate::inet::listing::Timer { kind: 1, expires_ms: 2500, retries: 3 },
            interface: 0,
            shut: 2,
            uid: 0,
            inode: 0,
            cookie: 5,
            drops: 0,
            socket: None,
            info: None,
        };
        assert_eq!(
            common(&listed, 7),
            "0100000A:0050 0200000A:1092 04 00000007:00000001 01:000000FA 00000003     0        0 0"
        );
        assert!(stream_tail(&Listed { state: TCP_LISTEN, ..listed }).ends_with("100 0 0 10 0"));
    }
}

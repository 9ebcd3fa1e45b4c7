//! The files of /proc/net: what the stack's tables look like as the text that tools parse (proc_pid_net(5)).

use core::fmt::Write as _;
use core::net::IpAddr;
use std::sync::{Arc, Weak};

use netstack::ip::Family;
use netstack::ip::cidr::mask;
use netstack::ip::route::{Route, RouteType};
use netstack::stack::Stack;
use sentry_abi::Errno;
use sentry_kernel::Result;

use crate::inet::listing::Table;
use crate::netns::NetNamespace;
use crate::proc_sockets;
use crate::{proc_counters, proc_groups, proc_misc};

/// Makes a file's content at each reading.
pub type Generator = Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;

/// The flags of a route that /proc/net/route shows (RTF_*).
const RTF_UP: u32 = 1;
const RTF_GATEWAY: u32 = 2;
const RTF_HOST: u32 = 4;
const RTF_REJECT: u32 = 0x200;

/// All files by name, for proc to show under /proc/PID/net.
pub fn files(net: &Arc<NetNamespace>) -> Vec<(&'static str, Generator)> {
    let file = |make: fn(&NetNamespace) -> String| -> Generator {
        let weak: Weak<NetNamespace> = Arc::downgrade(net);
        Arc::new(move || {
            let net = weak.upgrade().ok_or(Errno::ESRCH)?;
            Ok(make(&net).into_bytes())
        })
    };
    let bytes = |make: fn(&NetNamespace) -> Vec<u8>| -> Generator {
        let weak: Weak<NetNamespace> = Arc::downgrade(net);
        Arc::new(move || Ok(make(&*weak.upgrade().ok_or(Errno::ESRCH)?)))
    };
    vec![
        ("dev", file(|net| dev(net.stack()))),
        ("route", file(|net| route(net.stack()))),
        ("ipv6_route", file(|net| ipv6_route(net.stack()))),
        ("if_inet6", file(|net| if_inet6(net.stack()))),
        ("arp", file(|net| arp(net.stack()))),
        ("netstat", file(proc_counters::netstat)),
        ("snmp", file(proc_counters::snmp)),
        ("snmp6", file(proc_counters::snmp6)),
        ("sockstat", file(proc_counters::sockstat)),
        ("sockstat6", file(proc_counters::sockstat6)),
        ("tcp", file(|net| proc_sockets::tcp(net, Family::V4))),
        ("tcp6", file(|net| proc_sockets::tcp(net, Family::V6))),
        ("udp", file(|net| proc_sockets::datagrams(net, Table::Udp, Family::V4))),
        ("udp6", file(|net| proc_sockets::datagrams(net, Table::Udp, Family::V6))),
        ("raw", file(|net| proc_sockets::datagrams(net, Table::Raw, Family::V4))),
        ("raw6", file(|net| proc_sockets::datagrams(net, Table::Raw, Family::V6))),
        ("icmp", file(|net| proc_sockets::datagrams(net, Table::Ping, Family::V4))),
        ("icmp6", file(|net| proc_sockets::datagrams(net, Table::Ping, Family::V6))),
        ("igmp", file(proc_groups::igmp)),
        ("igmp6", file(proc_groups::igmp6)),
        ("mcfilter", file(proc_groups::mcfilter)),
        ("mcfilter6", file(proc_groups::mcfilter6)),
        ("dev_mcast", file(proc_groups::dev_mcast)),
        ("netlink", file(proc_sockets::netlink)),
        ("unix", bytes(proc_sockets::unix)),
        ("udplite", file(|_| proc_sockets::no_datagrams(Family::V4))),
        ("udplite6", file(|_| proc_sockets::no_datagrams(Family::V6))),
        ("packet", file(proc_misc::packet)),
        ("ptype", file(proc_misc::ptype)),
        ("anycast6", file(proc_misc::anycast6)),
        ("rt_cache", file(proc_misc::rt_cache)),
        ("ip6_flowlabel", file(proc_misc::ip6_flowlabel)),
        ("psched", file(proc_misc::psched)),
        ("fib_trie", file(proc_misc::fib_trie)),
    ]
}

fn dev(stack: &Stack) -> String {
    let mut out = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    );
    stack.count_lost();
    for nic in stack.nics() {
        let n = |name| nic.counters.value("Nic", name);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:>6}: {:7} {:7} {:4} {:4} {:4} {:5} {:10} {:9} {:8} {:7} {:4} {:4} {:4} {:5} {:7} {:10}",
            nic.name,
            n("rx_bytes"),
            n("rx_packets"),
            n("rx_errors"),
            n("rx_dropped") + n("rx_missed_errors"),
            0,
            0,
            0,
            0,
            n("tx_bytes"),
            n("tx_packets"),
            n("tx_errors"),
            n("tx_dropped"),
            0,
            0,
            0,
            0,
        );
    }
    out
}

/// An IPv4 address as the kernel prints it: the number in memory order.
fn hex4(address: IpAddr) -> u32 {
    u32::from_ne_bytes(crate::inet::sockaddr::octets4(address))
}

fn route(stack: &Stack) -> String {
    let mut out = padded(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
            .into(),
        127,
    );
    let nics = stack.nics();
    let hidden = |kind| matches!(kind, RouteType::Broadcast | RouteType::Multicast);
    let v4 = |route: &Route| route.dst.address().is_ipv4() && !hidden(route.kind);
    for route in stack.main_routes().into_iter().filter(v4) {
        let nic = nics.iter().find(|nic| Some(nic.id) == route.nic());
        let mut flags = RTF_UP;
        if matches!(route.kind, RouteType::Unreachable | RouteType::Prohibit) {
            flags |= RTF_REJECT;
        }
        flags |= if route.via().is_some() { RTF_GATEWAY } else { 0 };
        flags |= if route.dst.prefix_len() == 32 { RTF_HOST } else { 0 };
        let netmask = mask(IpAddr::from([255; 4]), route.dst.prefix_len());
        let metrics = &route.metrics;
        let line = format!(
            "{}\t{:08X}\t{:08X}\t{:04X}\t0\t0\t{}\t{:08X}\t{}\t{}\t{}",
            nic.map_or("*", |nic| nic.name.as_str()),
            hex4(route.dst.address()),
            route.via().map_or(0, hex4),
            flags,
            route.metric,
            hex4(netmask),
            if metrics.advmss == 0 { 0 } else { metrics.advmss + 40 },
            metrics.window,
            metrics.rtt >> 3,
        );
        out.push_str(&padded(line, 127));
    }
    out
}

/// All tables of IPv6 (rt6_info_route of net/ipv6/route.c).
fn ipv6_route(stack: &Stack) -> String {
    const RTF_NONEXTHOP: u32 = 0x20_0000;
    const RTF_LOCAL: u32 = 0x8000_0000;
    const RTF_ANYCAST: u32 = 0x10_0000;
    let mut out = String::new();
    let nics = stack.nics();
    let bits = |address: IpAddr| u128::from_be_bytes(crate::inet::sockaddr::octets6(address));
    for route in stack.routes().iter().filter(|route| route.dst.address().is_ipv6()) {
        let own = match route.kind {
            RouteType::Local => RTF_LOCAL | RTF_NONEXTHOP,
            RouteType::Anycast => RTF_ANYCAST | RTF_NONEXTHOP,
            RouteType::Unicast | RouteType::Multicast | RouteType::Broadcast => 0,
            _ => RTF_REJECT | RTF_NONEXTHOP,
        };
        let gateway = if route.via().is_some() { RTF_GATEWAY } else { 0 };
        let nic = nics.iter().find(|nic| Some(nic.id) == route.nic());
        let _ = writeln!(
            out,
            "{:032x} {:02x} {:032x} 00 {:032x} {:08x} {:08x} {:08x} {:08x} {:>8}",
            bits(route.dst.address()),
            route.dst.prefix_len(),
            0,
            route.via().map_or(0, bits),
            route.metric,
            1,
            0,
            RTF_UP | own | gateway,
            nic.map_or("lo", |nic| nic.name.as_str()),
        );
    }
    out
}

/// A line of a fixed width, as seq_pad makes them.
fn padded(line: String, width: usize) -> String {
    format!("{line:<width$}\n")
}

fn if_inet6(stack: &Stack) -> String {
    let mut out = String::new();
    let nics = stack.nics();
    for (id, own) in stack.addresses() {
        let IpAddr::V6(v6) = own.ip() else { continue };
        let Some(nic) = nics.iter().find(|nic| nic.id == id) else { continue };
        // IPV6_ADDR_LOOPBACK, IPV6_ADDR_LINKLOCAL, IPV6_ADDR_SITELOCAL
        let scope = match v6 {
            _ if v6.is_loopback() => 0x10,
            _ if v6.is_unicast_link_local() => 0x20,
            _ if v6.segments()[0] & 0xffc0 == 0xfec0 => 0x40,
            _ => 0,
        };
        let _ = writeln!(
            out,
            "{:032x} {:02x} {:02x} {:02x} {:02x} {:>8}",
            v6.to_bits(),
            id.0,
            own.cidr.prefix_len(),
            scope,
            own.flags.bits() as u8,
            nic.name
        );
    }
    out
}

fn arp(stack: &Stack) -> String {
    let mut out = String::from(
        "IP address       HW type     Flags       HW address            Mask     Device\n",
    );
    let nics = stack.nics();
    for (nic, neighbour) in stack.neighbours() {
        let Some(nic) = nics.iter().find(|info| info.id == nic) else { continue };
        if neighbour.address.is_ipv6() {
            continue;
        }
        let flags = format!("0x{:x}", crate::inet::rtentry::arp_flags(&neighbour));
        let [a, b, c, d, e, f] = neighbour.mac.map_or([0; 6], |mac| mac.0);
        let _ = writeln!(
            out,
            "{:<16} 0x1         {flags:<12}{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}     *        {}",
            neighbour.address.to_string(),
            nic.name
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::link::{MacAddr, NicKind, NullLink};
    use netstack::stack::{Config, NicConfig};

    #[test]
    fn tables_look_as_tools_parse_them() {
        let stack = Stack::new(Config::new([5; 32]));
        let nic = NicConfig {
            name: "eth0".into(),
            kind: NicKind::Ethernet,
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            mtu: 1500,
            link: Arc::new(NullLink),
        };
        let id = stack.add_nic(nic).unwrap();
        stack.add_address(id, "10.9.0.2/24".parse().unwrap()).unwrap();
        let lines = route(&stack);
        let fields: Vec<_> = lines.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(fields[..4], ["eth0", "0000090A", "00000000", "0001"]);
        assert_eq!(fields[7], "00FFFFFF");
        assert!(lines.lines().all(|line| line.len() == 127));
        let dev = dev(&stack);
        let fields: Vec<_> = dev.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!((fields[0], fields.len()), ("eth0:", 17));
        // Permanent, and tentative until nobody objects.
        assert_eq!(
            if_inet6(&stack).lines().next(),
            Some("fe80000000000000000000fffe000009 01 40 20 c0     eth0")
        );
    }
}

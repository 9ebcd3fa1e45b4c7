//! Files of /proc/net about what is neither a counter nor an internet socket: packet sockets, protocol handlers, the trie of IPv4
//! routes, anycast addresses; and those that are a heading alone, since there is nothing for them to list.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr};

use netstack::ip::route::{Route, RouteType, Scope, TABLE_LOCAL, TABLE_MAIN};

use crate::netns::NetNamespace;

/// ETH_P_ALL: what a packet socket of every protocol has.
const EVERY_PROTOCOL: u16 = 3;

/// /proc/net/packet (packet_seq_show of net/packet/af_packet.c)
pub fn packet(net: &NetNamespace) -> String {
    let mut out = String::from("sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n");
    for socket in net.packet_sockets().all() {
        let listed = socket.listed();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "0000000000000000 {:<6} {:<4} {:04x}   {:<5} {} {:<6} {:<6} {:<6}",
            3,
            listed.kind,
            listed.protocol,
            listed.nic.map_or(0, |nic| nic.0),
            u8::from(listed.protocol != 0),
            listed.unread,
            listed.uid,
            listed.inode,
        );
    }
    out
}

/// /proc/net/ptype: who takes frames of which protocol, packet sockets first (ptype_seq_show of net/core/net-procfs.c).
pub fn ptype(net: &NetNamespace) -> String {
    let mut out = String::from("Type Device      Function\n");
    let nics = net.stack().nics();
    for socket in net.packet_sockets().all() {
        let listed = socket.listed();
        let protocol = match listed.protocol {
            0 => continue,
            EVERY_PROTOCOL => "ALL ".to_owned(),
            protocol => format!("{protocol:04x}"),
        };
        let nic = nics.iter().find(|nic| Some(nic.id) == listed.nic);
        let name = nic.map_or("", |nic| nic.name.as_str());
        let _ = writeln!(out, "{protocol} {name:<8} packet_rcv");
    }
    for (protocol, taker) in [(0x0800, "ip_rcv"), (0x0806, "arp_rcv"), (0x86dd, "ipv6_rcv")] {
        let _ = writeln!(out, "{protocol:04x} {:<8} {taker}", "");
    }
    out
}

/// /proc/net/anycast6 (ac6_seq_show of net/ipv6/anycast.c)
pub fn anycast6(net: &NetNamespace) -> String {
    let nics = net.stack().nics();
    let mut out = String::new();
    for route in net.stack().routes().iter().filter(|route| route.kind == RouteType::Anycast) {
        let Some(nic) = nics.iter().find(|nic| Some(nic.id) == route.nic()) else { continue };
        let IpAddr::V6(address) = route.dst.address() else { continue };
        let _ =
            writeln!(out, "{:<4} {:<15} {:032x} {:5}", nic.id.0, nic.name, address.to_bits(), 1);
    }
    out
}

/// /proc/net/rt_cache: Linux has no cache of routes either, since 3.6.
pub fn rt_cache(_: &NetNamespace) -> String {
    let titles = "Iface\tDestination\tGateway \tFlags\t\tRefCnt\tUse\tMetric\tSource\t\tMTU\tWindow\tIRTT\tTOS\tHHRef\tHHUptod\tSpecDst";
    format!("{titles:<127}\n")
}

/// /proc/net/ip6_flowlabel: no socket holds a label of its own.
pub fn ip6_flowlabel(_: &NetNamespace) -> String {
    "Label S Owner  Users  Linger Expires  Dst                              Opt\n".to_owned()
}

/// /proc/net/psched: ticks of the clock of packet schedulers (psched_show of net/sched/sch_api.c).
pub fn psched(_: &NetNamespace) -> String {
    "000003e8 00000040 000f4240 3b9aca00\n".to_owned()
}

/// /proc/net/fib_trie: the tables "main" and "local" as binary tries. Linux's are compressed by levels too: the leaves are the
/// same and in the same order, the nodes between them are not.
pub fn fib_trie(net: &NetNamespace) -> String {
    let mut out = String::new();
    let routes = net.stack().routes();
    // Until somebody adds a rule, Linux has one trie for both.
    let numbers = [TABLE_MAIN, TABLE_LOCAL];
    let joined = net.stack().rules(netstack::ip::Family::V4).len() == FIRST_RULES;
    for (number, title) in [(TABLE_MAIN, "Main"), (TABLE_LOCAL, "Local")] {
        let of = |route: &&Route| {
            let here = if joined { numbers.contains(&route.table) } else { route.table == number };
            here && route.dst.address().is_ipv4()
        };
        let mut leaves: Vec<Leaf<'_>> = Vec::new();
        for route in routes.iter().filter(of) {
            let IpAddr::V4(address) = route.dst.address() else { continue };
            match leaves.iter_mut().find(|leaf| leaf.address == address) {
                Some(leaf) => leaf.routes.push(route),
                None => leaves.push(Leaf { address, routes: vec![route] }),
            }
        }
        leaves.sort_by_key(|leaf| leaf.address);
        leaves
            .iter_mut()
            .for_each(|leaf| leaf.routes.sort_by_key(|r| core::cmp::Reverse(r.dst.prefix_len())));
        if !leaves.is_empty() {
            let _ = writeln!(out, "{title}:");
            show_trie(&mut out, &leaves, 1);
        }
    }
    out
}

/// How many rules IPv4 begins with.
const FIRST_RULES: usize = 3;

/// The routes whose prefixes begin with one address.
struct Leaf<'a> {
    address: Ipv4Addr,
    routes: Vec<&'a Route>,
}

/// A node over leaves, which are sorted, and all below it. No deeper than an address has bits.
fn show_trie(out: &mut String, leaves: &[Leaf<'_>], depth: usize) {
    let indent = "   ".repeat(depth.saturating_sub(1));
    let ([first, ..], [.., last]) = (leaves, leaves) else { return };
    let (low, high) = (first.address.to_bits(), last.address.to_bits());
    let shared = (low ^ high).leading_zeros();
    if shared == u32::BITS {
        let _ = writeln!(out, "{indent}  |-- {}", first.address);
        for route in &first.routes {
            let (scope, kind) = (scope_name(route.scope), kind_name(route.kind));
            let _ = writeln!(out, "{indent}     /{} {scope} {kind}", route.dst.prefix_len());
        }
        return;
    }
    let prefix = low & !(u32::MAX >> shared);
    let middle = leaves.partition_point(|leaf| leaf.address.to_bits() & (1 << (31 - shared)) == 0);
    let (left, right) = leaves.split_at(middle);
    let full = [left, right].iter().filter(|half| half.len() > 1).count();
    let _ = writeln!(out, "{indent}  +-- {}/{shared} 1 {full} 0", Ipv4Addr::from_bits(prefix));
    show_trie(out, left, depth + 1);
    show_trie(out, right, depth + 1);
}

fn scope_name(scope: Scope) -> String {
    match scope {
        Scope::UNIVERSE => "universe".to_owned(),
        Scope::SITE => "site".to_owned(),
        Scope::LINK => "link".to_owned(),
        Scope::HOST => "host".to_owned(),
        Scope::NOWHERE => "nowhere".to_owned(),
        Scope(other) => format!("scope={other}"),
    }
}

fn kind_name(kind: RouteType) -> &'static str {
    match kind {
        RouteType::Unicast => "UNICAST",
        RouteType::Local => "LOCAL",
        RouteType::Broadcast => "BROADCAST",
        RouteType::Anycast => "ANYCAST",
        RouteType::Multicast => "MULTICAST",
        RouteType::Blackhole => "BLACKHOLE",
        RouteType::Unreachable => "UNREACHABLE",
        RouteType::Prohibit => "PROHIBIT",
        RouteType::Throw => "THROW",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inet::tests::namespace;

    #[test]
    fn the_trie_has_the_leaves_of_linux() {
        let net = namespace();
        let text = fib_trie(&net);
        let leaf = |at: &str, below: &str| {
            let mut lines = text.lines().skip_while(|line| !line.ends_with(&format!("|-- {at}")));
            lines.nth(1).is_some_and(|line| line.trim() == below)
        };
        assert!(text.starts_with("Main:\n  +-- "), "{text}");
        assert!(leaf("127.0.0.1", "/32 host LOCAL"), "{text}");
        assert!(leaf("127.255.255.255", "/32 link BROADCAST"), "{text}");
        assert!(leaf("127.0.0.0", "/8 host LOCAL"), "{text}");
    }
}

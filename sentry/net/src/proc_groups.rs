//! The files of /proc/net about multicast groups: igmp, igmp6, mcfilter, mcfilter6, dev_mcast (`ip maddress`, `netstat -g`).

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;

use netstack::ip::multicast::GroupListing;
use netstack::link::{MacAddr, NicKind};
use netstack::stack::Memberships;
use netstack::time::Instant;

use crate::netns::NetNamespace;

/// Flags of a group in igmp6 (MAF_*).
const TIMER_RUNNING: u32 = 1;
const LAST_REPORTER: u32 = 2;
const LOADED: u32 = 4;
const NO_REPORT: u32 = 8;
/// Ticks a second, in which igmp and igmp6 tell times (USER_HZ).
const TICKS: u128 = 100;

/// Ticks until a question is answered, where one was asked.
fn ticks_left(now: Instant, group: &GroupListing) -> Option<u128> {
    group.answer_at.map(|at| at.since(now).as_millis() * TICKS / 1000)
}

/// The groups of a family, the last address first: about as Linux, which has the newest first.
fn of_family(nic: &Memberships, v4: bool) -> impl Iterator<Item = &GroupListing> {
    nic.groups.iter().rev().filter(move |group| group.address.is_ipv4() == v4)
}

fn hex(address: &Ipv6Addr) -> String {
    address.octets().iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// /proc/net/igmp
pub fn igmp(net: &NetNamespace) -> String {
    let now = net.now();
    let mut out = String::from("Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n");
    for nic in net.stack().memberships(now) {
        let count = of_family(&nic, true).count();
        if count == 0 {
            continue;
        }
        let version = format!("V{}", nic.igmp_version);
        let _ = writeln!(out, "{}\t{:<10}: {count:5} {version:>7}", nic.nic.0, nic.name);
        for group in of_family(&nic, true) {
            let IpAddr::V4(address) = group.address else { continue };
            let word = u32::from_ne_bytes(address.octets());
            let left = ticks_left(now, group);
            let _ = writeln!(
                out,
                "\t\t\t\t{word:08X} {:5} {}:{:08X}\t\t{}",
                group.users,
                u8::from(left.is_some()),
                left.unwrap_or(0),
                u8::from(group.last_reporter),
            );
        }
    }
    out
}

/// /proc/net/igmp6
pub fn igmp6(net: &NetNamespace) -> String {
    let now = net.now();
    let mut out = String::new();
    for nic in net.stack().memberships(now) {
        for group in of_family(&nic, false) {
            let IpAddr::V6(address) = group.address else { continue };
            let scope = address.octets()[1] & 0xf;
            let all_nodes = address.segments() == [0xff02, 0, 0, 0, 0, 0, 0, 1];
            let left = ticks_left(now, group);
            let rows = [
                (TIMER_RUNNING, left.is_some()),
                (LAST_REPORTER, group.last_reporter),
                // Groups of the host alone are in no device's filter.
                (LOADED, scope >= 2),
                (NO_REPORT, all_nodes || scope < 2),
            ];
            let flags = rows.iter().filter(|(_, on)| *on).fold(0, |all, (flag, _)| all | flag);
            let _ = writeln!(
                out,
                "{:<4} {:<15} {} {:5} {flags:08X} {}",
                nic.nic.0,
                nic.name,
                hex(&address),
                group.users,
                left.unwrap_or(0),
            );
        }
    }
    out
}

/// /proc/net/mcfilter
pub fn mcfilter(net: &NetNamespace) -> String {
    let mut out = String::from("Idx Device        MCA        SRC    INC    EXC\n");
    for nic in net.stack().memberships(net.now()) {
        for group in of_family(&nic, true) {
            for (source, include, exclude) in &group.sources {
                let (IpAddr::V4(to), IpAddr::V4(from)) = (group.address, source) else { continue };
                let _ = writeln!(
                    out,
                    "{:3} {:>6.6} {:#010x} {:#010x} {include:6} {exclude:6}",
                    nic.nic.0,
                    nic.name,
                    to.to_bits(),
                    from.to_bits(),
                );
            }
        }
    }
    out
}

/// /proc/net/mcfilter6
pub fn mcfilter6(net: &NetNamespace) -> String {
    let mut out = String::from(
        "Idx Device                Multicast Address                   Source Address    INC    EXC\n",
    );
    for nic in net.stack().memberships(net.now()) {
        for group in of_family(&nic, false) {
            for (source, include, exclude) in &group.sources {
                let (IpAddr::V6(to), IpAddr::V6(from)) = (group.address, source) else { continue };
                let _ = writeln!(
                    out,
                    "{:3} {:>6.6} {} {} {include:6} {exclude:6}",
                    nic.nic.0,
                    nic.name,
                    hex(&to),
                    hex(from),
                );
            }
        }
    }
    out
}

/// /proc/net/dev_mcast: the link-layer addresses that devices listen to, with how many groups each serves.
pub fn dev_mcast(net: &NetNamespace) -> String {
    let mut out = String::new();
    for nic in net.stack().memberships(net.now()) {
        if nic.kind != NicKind::Ethernet {
            continue;
        }
        // How many groups each serves, and whether an administrator asked for it.
        let mut filter: BTreeMap<MacAddr, (usize, usize)> = BTreeMap::new();
        for group in &nic.groups {
            let of_host = matches!(group.address, IpAddr::V6(v6) if v6.octets()[1] & 0xf < 2);
            if !of_host {
                filter.entry(MacAddr::of_multicast(group.address)).or_default().0 += 1;
            }
        }
        for mac in &nic.listened {
            let (users, asked) = filter.entry(*mac).or_default();
            (*users, *asked) = (*users + 1, 1);
        }
        for (mac, (users, asked)) in filter {
            let mac: String = mac.0.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(out, "{:<4} {:<15} {users:<5} {asked:<5} {mac}", nic.nic.0, nic.name);
        }
    }
    out
}

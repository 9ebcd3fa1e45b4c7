//! net.core, and of net.ipv4 and net.ipv6 what has one value and is not TCP's.

use core::sync::atomic::Ordering;
use core::time::Duration;

use netstack::ip::Family;
use netstack::ip::conf::ConfTarget;
use netstack::transport::Host;
use sentry_abi::Errno;
use sentry_kernel::Result;

use super::row::{At, Number, Row, flush, number, numbers, parse, ranges, text};
use super::tcp::{pages, set_pages};

const ANY: (i64, i64) = (0, i32::MAX as i64);
const BYTE: (i64, i64) = (0, 255);
/// The least min_pmtu: 20 bytes of header, 8 of fragment, and 40 for options (ip_min_valid_pmtu).
const MIN_PMTU_LEAST: i64 = 68;
const ONE: (i64, i64) = (0, 1);
const GROUP_MAX: i64 = u32::MAX as i64 - 1;

/// A number of the Internet layer's configuration.
macro_rules! ip {
    ($path:literal, $bounds:expr, $($field:ident).+ $([$at:literal])?) => {
        number($path, $bounds, |at| Ok(at.net.stack().tunables().ip.$($field).+ $([$at])?.number()), |at, n| {
            at.net.stack().edit_ip_conf(|ip| ip.$($field).+ $([$at])? = Number::of(n));
            Ok(())
        })
    };
}

/// A time of it in seconds.
macro_rules! seconds {
    ($path:literal, $($field:ident).+ $([$at:literal])?) => {
        number(
            $path,
            ANY,
            |at| Ok(at.net.stack().tunables().ip.$($field).+ $([$at])?.as_secs().number()),
            |at, n| {
                at.net.stack().edit_ip_conf(|ip| ip.$($field).+ $([$at])? = Duration::from_secs(Number::of(n)));
                Ok(())
            },
        )
    };
}

/// A number that the namespace keeps for its sockets.
macro_rules! limit {
    ($path:literal, $bounds:expr, $field:ident) => {
        number(
            $path,
            $bounds,
            |at| Ok(at.net.limits.$field.load(Ordering::Relaxed)),
            |at, n| {
                at.net.limits.$field.store(n, Ordering::Relaxed);
                Ok(())
            },
        )
    };
}

/// The rows.
pub const ROWS: &[Row] = &[
    limit!("core/rmem_default", (2304, i32::MAX as i64), rmem_default),
    limit!("core/rmem_max", (2304, i32::MAX as i64), rmem_max),
    number(
        "core/somaxconn",
        ANY,
        |at| Ok(at.tcp().somaxconn.number()),
        |at, n| at.edit_tcp(|tcp| tcp.somaxconn = Number::of(n)),
    ),
    limit!("core/wmem_default", (4608, i32::MAX as i64), wmem_default),
    limit!("core/wmem_max", (4608, i32::MAX as i64), wmem_max),
    number("ipv4/fib_multipath_hash_policy", ONE, |at| Ok(hash(at, 0)), |at, n| set_hash(at, 0, n))
        .partial("0 and 1: addresses, or addresses and ports"),
    ip!("ipv4/fib_multipath_use_neigh", ONE, fib_multipath_use_neigh),
    ip!("ipv4/icmp_echo_ignore_all", ONE, icmp_echo_ignore_all),
    ip!("ipv4/icmp_echo_ignore_broadcasts", ONE, icmp_echo_ignore_broadcasts),
    ip!("ipv4/icmp_errors_use_inbound_ifaddr", ONE, icmp_errors_use_inbound_ifaddr),
    ip!("ipv4/icmp_msgs_burst", ANY, icmp_msgs_burst),
    ip!("ipv4/icmp_msgs_per_sec", ANY, icmp_msgs_per_sec),
    ip!("ipv4/icmp_ratelimit", ANY, icmp_ratelimit),
    ip!("ipv4/icmp_ratemask", (0, u32::MAX as i64), icmp_ratemask),
    ip!("ipv4/igmp_link_local_mcast_reports", ONE, igmp_link_local_mcast_reports),
    ip!("ipv4/igmp_max_memberships", ANY, igmp_max_memberships),
    ip!("ipv4/igmp_max_msf", ANY, igmp_max_msf),
    ip!("ipv4/igmp_qrv", (1, 255), igmp_qrv),
    ip!("ipv4/ip_default_ttl", (1, 255), ip_default_ttl),
    number(
        "ipv4/ip_forward",
        ANY,
        |at| {
            let all = at.net.stack().ipv4_conf(ConfTarget::All).map_err(|_| Errno::ENOENT)?;
            Ok(i64::from(all.forwarding))
        },
        |at, n| {
            let edit =
                at.net.stack().edit_ipv4_conf(ConfTarget::All, |all| all.forwarding = n != 0);
            Ok(edit.map_err(|_| Errno::ENOENT)?)
        },
    ),
    ip!("ipv4/ip_forward_use_pmtu", BYTE, ip_forward_use_pmtu),
    ip!("ipv4/ip_no_pmtu_disc", BYTE, ip_no_pmtu_disc),
    ip!("ipv4/ip_nonlocal_bind", BYTE, ip_nonlocal_bind),
    numbers(
        "ipv4/ip_local_port_range",
        (1, 65_535),
        |at| {
            let (first, last) = at.net.stack().shared().ports.ephemeral_range();
            vec![i64::from(first), i64::from(last)]
        },
        |at, ends| {
            let [first, last] = *ends else { return Err(Errno::EINVAL.into()) };
            // "Ensure that the upper limit is not smaller than the lower, and that the lower does not encroach upon the privileged port limit."
            let privileged = at.net.limits.unprivileged_port_start.load(Ordering::Relaxed);
            if last < first || first < privileged {
                return Err(Errno::EINVAL.into());
            }
            at.net.stack().shared().ports.set_ephemeral_range(first as u16, last as u16);
            Ok(())
        },
    ),
    text(
        "ipv4/ip_local_reserved_ports",
        |at| Ok(ranges::show(&at.net.stack().shared().ports.reserved())),
        |at, text| {
            at.net.stack().shared().ports.set_reserved(&ranges::read(text, u16::MAX)?);
            Ok(())
        },
    ),
    number(
        "ipv4/ip_unprivileged_port_start",
        (0, 65_535),
        |at| Ok(at.net.limits.unprivileged_port_start.load(Ordering::Relaxed)),
        |at, n| {
            // "Ports below the range of ephemeral ones only."
            if n > i64::from(at.net.stack().shared().ports.ephemeral_range().0) {
                return Err(Errno::EINVAL.into());
            }
            at.net.limits.unprivileged_port_start.store(n, Ordering::Relaxed);
            Ok(())
        },
    ),
    ip!("ipv4/ipfrag_high_thresh", (0, i64::MAX), ipfrag.high_thresh),
    ip!("ipv4/ipfrag_low_thresh", (0, i64::MAX), ipfrag.low_thresh)
        .note("as on Linux since 4.17 nothing looks at it"),
    ip!("ipv4/ipfrag_max_dist", ANY, ipfrag.max_dist),
    seconds!("ipv4/ipfrag_time", ipfrag.time),
    seconds!("ipv4/neigh/default/gc_interval", neigh_gc_v4.gc_interval),
    ip!("ipv4/neigh/default/gc_thresh1", ANY, neigh_gc_v4.gc_thresh1),
    ip!("ipv4/neigh/default/gc_thresh2", ANY, neigh_gc_v4.gc_thresh2),
    ip!("ipv4/neigh/default/gc_thresh3", ANY, neigh_gc_v4.gc_thresh3),
    numbers(
        "ipv4/ping_group_range",
        (0, GROUP_MAX + 1),
        |at| {
            let (first, last) = at.net.limits.ping_groups();
            vec![first, last]
        },
        |at, ends| {
            let [first, last] = *ends else { return Err(Errno::EINVAL.into()) };
            if first > GROUP_MAX || last > GROUP_MAX {
                return Err(Errno::EINVAL.into());
            }
            // "data[1] < data[0]": nobody.
            let (first, last) = if last < first { (1, 0) } else { (first, last) };
            at.net.limits.set_ping_groups(first, last);
            Ok(())
        },
    )
    .note("open to every group at first; Linux leaves that to its distribution"),
    // Anything will do.
    flush("ipv4/route/flush", |at, _| {
        at.net.stack().flush_paths(Family::V4);
        Ok(())
    }),
    ip!("ipv4/route/min_pmtu", (MIN_PMTU_LEAST, i32::MAX as i64), min_pmtu),
    seconds!("ipv4/route/mtu_expires", mtu_expires[0]),
    numbers(
        "ipv4/udp_mem",
        (0, i64::MAX / 4096),
        |at| pages(&at.net.stack().shared().memory.udp),
        |at, levels| {
            set_pages(&at.net.stack().shared().memory.udp, levels);
            Ok(())
        },
    ),
    ip!("ipv6/anycast_src_echo_reply", ONE, anycast_src_echo_reply),
    limit!("ipv6/bindv6only", ONE, bind_v6_only),
    number("ipv6/fib_multipath_hash_policy", ONE, |at| Ok(hash(at, 1)), |at, n| set_hash(at, 1, n))
        .partial("0 and 1: addresses, or addresses and ports"),
    ip!("ipv6/icmp/echo_ignore_all", ONE, icmp6_echo_ignore_all),
    ip!("ipv6/icmp/echo_ignore_anycast", ONE, icmp6_echo_ignore_anycast),
    ip!("ipv6/icmp/echo_ignore_multicast", ONE, icmp6_echo_ignore_multicast),
    ip!("ipv6/icmp/ratelimit", ANY, icmp6_ratelimit),
    text(
        "ipv6/icmp/ratemask",
        |at| Ok(ranges::show(&bits(&at.net.stack().tunables().ip.icmp6_ratemask))),
        |at, text| {
            let wanted = ranges::read(text, 255)?;
            at.net.stack().edit_ip_conf(|ip| ip.icmp6_ratemask = mask(&wanted));
            Ok(())
        },
    ),
    ip!("ipv6/ip6frag_high_thresh", (0, i64::MAX), ip6frag.high_thresh),
    ip!("ipv6/ip6frag_low_thresh", (0, i64::MAX), ip6frag.low_thresh)
        .note("as on Linux since 4.17 nothing looks at it"),
    seconds!("ipv6/ip6frag_time", ip6frag.time),
    ip!("ipv6/ip_nonlocal_bind", ONE, ip6_nonlocal_bind),
    ip!("ipv6/max_dst_opts_length", ANY, max_dst_opts_length),
    ip!("ipv6/max_dst_opts_number", (i32::MIN as i64, i32::MAX as i64), max_dst_opts_number),
    ip!("ipv6/max_hbh_length", ANY, max_hbh_length),
    ip!("ipv6/max_hbh_opts_number", (i32::MIN as i64, i32::MAX as i64), max_hbh_opts_number),
    ip!("ipv6/mld_max_msf", ANY, mld_max_msf),
    ip!("ipv6/mld_qrv", (1, 255), mld_qrv),
    seconds!("ipv6/neigh/default/gc_interval", neigh_gc_v6.gc_interval),
    ip!("ipv6/neigh/default/gc_thresh1", ANY, neigh_gc_v6.gc_thresh1),
    ip!("ipv6/neigh/default/gc_thresh2", ANY, neigh_gc_v6.gc_thresh2),
    ip!("ipv6/neigh/default/gc_thresh3", ANY, neigh_gc_v6.gc_thresh3),
    // It must be a number.
    flush("ipv6/route/flush", |at, bytes| {
        parse(bytes, 1)?.first().ok_or(Errno::EINVAL)?;
        at.net.stack().flush_paths(Family::V6);
        Ok(())
    }),
    seconds!("ipv6/route/mtu_expires", mtu_expires[1]),
];

/// The policy of IPv4 (0) or IPv6 (1).
fn hash(at: &At<'_>, family: usize) -> i64 {
    i64::from(at.net.stack().tunables().ip.fib_multipath_hash_policy[family])
}

fn set_hash(at: &At<'_>, family: usize, policy: i64) -> Result<()> {
    let policy = Number::of(policy);
    at.net.stack().edit_ip_conf(|ip| ip.fib_multipath_hash_policy[family] = policy);
    Ok(())
}

/// The numbers whose bit is set, as ranges.
fn bits(words: &[u64; 4]) -> Vec<(u16, u16)> {
    let is_set = |n: u16| words[usize::from(n / 64)] >> (n % 64) & 1 == 1;
    let mut out: Vec<(u16, u16)> = Vec::new();
    for n in (0..256).filter(|n| is_set(*n)) {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => out.push((n, n)),
        }
    }
    out
}

fn mask(ranges: &[(u16, u16)]) -> [u64; 4] {
    let mut words = [0; 4];
    for n in ranges.iter().flat_map(|(first, last)| *first..=*last) {
        if let Some(word) = words.get_mut(usize::from(n / 64)) {
            *word |= 1 << (n % 64);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_types_go_to_ranges_and_back() {
        let set = [(0, 1), (3, 127), (255, 255)];
        assert_eq!(bits(&mask(&set)), set);
    }
}

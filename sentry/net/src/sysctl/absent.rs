//! What Linux has below /proc/sys/net and this stack has not, with the reason.

/// Paths, `*` for any text, and why they are absent. A row of the tables goes before; of these the first that fits counts.
// tidy: table
pub const ABSENT: &[(&[&str], &str)] = &[
    (&["core/optmem_max"], "what options and control messages may hold is fixed"),
    (&["core/rps_default_mask"], "there are no queues to spread"),
    (&["core/tstamp_allow_data"], "every program may have its own data back with a time stamp"),
    (&["core/txrehash", "ipv4/tcp_plb_*"], "a connection keeps its flow label"),
    (
        &[
            "core/xfrm_*",
            "*/disable_policy",
            "*/disable_xfrm",
            "ipv4/xfrm4_gc_thresh",
            "ipv6/xfrm6_gc_thresh",
        ],
        "no IPsec",
    ),
    (&["*/accept_source_route"], "source routes are refused (RFC 7126, RFC 5095)"),
    (
        &["*/arp_evict_nocarrier", "*/ndisc_evict_nocarrier", "*/ignore_routes_with_linkdown"],
        "a link that is up has its carrier",
    ),
    (&["*/bootp_relay"], "nothing is relayed for who has no address yet"),
    (
        &["*/medium_id", "*/proxy_arp_pvlan"],
        "proxied addresses are those that are routed elsewhere, or set by hand",
    ),
    (
        &["*/src_valid_mark", "*/fwmark_reflect", "ipv4/tcp_fwmark_accept"],
        "packets that come in have no mark",
    ),
    (&["ipv4/conf/*/tag"], "a number that no kernel reads"),
    (&["*/fib_multipath_hash_fields"], "hash policies 2 and 3 are not there"),
    (&["*/fib_multipath_hash_seed"], "the seed is the stack's secret"),
    (&["*/fib_notify_on_flag_change"], "no hardware has routes"),
    (&["*/icmp_echo_enable_probe"], "no extended echo (RFC 8335)"),
    (&["*/icmp_ignore_bogus_error_responses"], "nothing is logged"),
    (&["*/ip_autobind_reuse", "*/ip_dynaddr"], "not there"),
    (
        &["*_early_demux", "*_hash_entries", "*_ehash_entries"],
        "sockets are found by one table that grows",
    ),
    (&["*/ip_forward_update_priority"], "queues have no priorities"),
    (
        &["*/neigh/*/anycast_delay", "*/neigh/*/proxy_delay", "*/neigh/*/proxy_qlen"],
        "questions are answered at once",
    ),
    (&["*/neigh/*/app_solicit"], "no daemon is asked"),
    (&["*/neigh/*/interval_probe_time_ms"], "no managed neighbours (NTF_MANAGED)"),
    (&["*/nexthop_compat_mode"], "no next-hop objects"),
    (&["*_l3mdev_accept"], "no VRF"),
    (&["*/min_adv_mss"], "fixed"),
    (&["*/udp_rmem_min", "*/udp_wmem_min"], "what every socket may hold is fixed"),
    (
        &["ipv6/auto_flowlabels", "ipv6/flowlabel_*"],
        "labels are made for each flow (IPV6_AUTOFLOWLABEL), and not leased",
    ),
    (&["ipv6/conf/*/force_forwarding"], "`forwarding` of the interface does it"),
    (
        &["*/ioam6_*", "*/seg6_*", "*/rpl_seg_enabled"],
        "headers for which nothing is kept (RFC 8754, RFC 6554, RFC 9197)",
    ),
    (&["*/ra_honor_pio_*", "*/router_probe_interval"], "as their defaults, fixed"),
    (&["*/error_anycast_as_unicast"], "as its default, fixed"),
    (&["ipv6/idgen_*"], "another identifier is tried three times, at once"),
    (&["ipv6/route/*"], "there is no cache of routes"),
    (&["ipv4/tcp_*"], "TCP decides by itself"),
];

/// Why a path is absent.
pub fn reason(path: &str) -> Option<&'static str> {
    let fits = |patterns: &[&str]| patterns.iter().any(|pattern| matches(pattern, path));
    ABSENT.iter().find(|(patterns, _)| fits(patterns)).map(|(_, reason)| *reason)
}

/// Whether a path fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == path };
    let Some(rest) = path.strip_prefix(before) else { return false };
    // The star takes as little as it can, then more.
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        assert!(matches("core/optmem_max", "core/optmem_max"));
        assert!(!matches("core/optmem_max", "core/optmem_max2"));
        assert!(matches("*/neigh/*/proxy_delay", "ipv4/neigh/eth0/proxy_delay"));
        assert!(matches("ipv4/tcp_*", "ipv4/tcp_anything"));
        assert!(!matches("*/tag", "ipv4/conf/lo/tags"));
        assert_eq!(reason("ipv4/conf/lo/tag"), Some("a number that no kernel reads"));
        assert_eq!(reason("ipv4/nothing"), None);
    }
}

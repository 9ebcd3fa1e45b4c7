//! Counters, named as in RFC 1213 and Linux's `/proc/net/snmp`, `snmp6` and `netstat`.

use core::sync::atomic::{AtomicU64, Ordering};

/// A counter that any thread may add to.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes one away (for gauges such as CurrEstab); stays at zero.
    pub fn dec(&self) {
        let less = |n: u64| Some(n.saturating_sub(1));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Takes over a count that is kept elsewhere.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a group: a struct of counters, and a walk over them by their Linux names.
macro_rules! group {
    ($(#[$doc:meta])* $group:ident { $($field:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Default, Debug)]
        pub struct $group {
            $(#[doc = $name] pub $field: Counter,)*
        }

        impl $group {
            fn each(&self, group: &'static str, out: &mut Vec<(&'static str, &'static str, u64)>) {
                $(out.push((group, $name, self.$field.value()));)*
            }
        }
    };
}

group! {
    /// `Ip:` of `/proc/net/snmp` (and the same names for `Ip6`).
    IpStats {
        in_receives = "InReceives", in_hdr_errors = "InHdrErrors", in_addr_errors = "InAddrErrors",
        in_unknown_protos = "InUnknownProtos", in_discards = "InDiscards", in_delivers = "InDelivers",
        in_truncated_pkts = "InTruncatedPkts", in_csum_errors = "InCsumErrors",
        in_mcast_pkts = "InMcastPkts", in_bcast_pkts = "InBcastPkts",
        out_requests = "OutRequests", out_discards = "OutDiscards", out_no_routes = "OutNoRoutes",
        reasm_timeout = "ReasmTimeout", reasm_reqds = "ReasmReqds", reasm_oks = "ReasmOKs",
        reasm_fails = "ReasmFails", reasm_overlaps = "ReasmOverlaps",
        frag_oks = "FragOKs", frag_fails = "FragFails", frag_creates = "FragCreates",
        forw_datagrams = "ForwDatagrams", in_no_routes = "InNoRoutes",
        in_too_big_errors = "InTooBigErrors", reverse_path_filter = "IPReversePathFilter",
    }
}

group! {
    /// `/proc/net/stat/rt_cache`: addresses that are impossible.
    RtCacheStats {
        in_martian_src = "in_martian_src", in_martian_dst = "in_martian_dst",
    }
}

group! {
    /// `Icmp:` of `/proc/net/snmp` (and the same names for `Icmp6`).
    IcmpStats {
        in_msgs = "InMsgs", in_errors = "InErrors", in_csum_errors = "InCsumErrors",
        in_dest_unreachs = "InDestUnreachs", in_time_excds = "InTimeExcds",
        in_parm_probs = "InParmProbs", in_pkt_too_bigs = "InPktTooBigs",
        in_redirects = "InRedirects", in_echos = "InEchos", in_echo_reps = "InEchoReps",
        in_router_advertisements = "InRouterAdvertisements",
        in_neighbor_solicits = "InNeighborSolicits", in_neighbor_advertisements = "InNeighborAdvertisements",
        out_msgs = "OutMsgs", out_errors = "OutErrors", out_rate_limited = "OutRateLimitHost",
        out_rate_limit_global = "OutRateLimitGlobal", out_redirects = "OutRedirects",
        out_pkt_too_bigs = "OutPktTooBigs",
        in_timestamps = "InTimestamps", out_timestamp_reps = "OutTimestampReps",
        out_dest_unreachs = "OutDestUnreachs", out_time_excds = "OutTimeExcds",
        out_parm_probs = "OutParmProbs", out_echos = "OutEchos", out_echo_reps = "OutEchoReps",
        out_router_solicits = "OutRouterSolicits", out_neighbor_solicits = "OutNeighborSolicits",
        out_neighbor_advertisements = "OutNeighborAdvertisements",
    }
}

group! {
    /// `Udp:` of `/proc/net/snmp` (and the same names for `Udp6`).
    UdpStats {
        in_datagrams = "InDatagrams", no_ports = "NoPorts", in_errors = "InErrors",
        out_datagrams = "OutDatagrams", rcvbuf_errors = "RcvbufErrors", sndbuf_errors = "SndbufErrors",
        in_csum_errors = "InCsumErrors", ignored_multi = "IgnoredMulti", mem_errors = "MemErrors",
    }
}

group! {
    /// `Tcp:` of `/proc/net/snmp`.
    TcpStats {
        active_opens = "ActiveOpens", passive_opens = "PassiveOpens", attempt_fails = "AttemptFails",
        estab_resets = "EstabResets", curr_estab = "CurrEstab", in_segs = "InSegs",
        out_segs = "OutSegs", retrans_segs = "RetransSegs", in_errs = "InErrs", out_rsts = "OutRsts",
        in_csum_errors = "InCsumErrors",
    }
}

group! {
    /// `TcpExt:` of `/proc/net/netstat`, the ones that this stack counts.
    TcpExtStats {
        tw = "TW", tcp_time_wait_overflow = "TCPTimeWaitOverflow", tw_recycled = "TWRecycled", tw_killed = "TWKilled", paws_active = "PAWSActive", paws_estab = "PAWSEstab",
        paws_old_ack = "PAWSOldAck",
        paws_timewait = "PAWSTimewait", ts_ecr_rejected = "TSEcrRejected",
        tcp_abort_on_memory = "TCPAbortOnMemory", tcp_min_ttl_drop = "TCPMinTTLDrop",
        delayed_acks = "DelayedACKs", listen_overflows = "ListenOverflows", listen_drops = "ListenDrops",
        syncookies_sent = "SyncookiesSent", syncookies_recv = "SyncookiesRecv",
        syncookies_failed = "SyncookiesFailed", embryonic_rsts = "EmbryonicRsts",
        tcp_req_q_full_do_cookies = "TCPReqQFullDoCookies", tcp_req_q_full_drop = "TCPReqQFullDrop",
        tcp_defer_accept_drop = "TCPDeferAcceptDrop", tcp_syn_retrans = "TCPSynRetrans",
        tcp_fast_open_active = "TCPFastOpenActive", tcp_fast_open_active_fail = "TCPFastOpenActiveFail",
        tcp_fast_open_passive = "TCPFastOpenPassive", tcp_fast_open_passive_fail = "TCPFastOpenPassiveFail",
        tcp_fast_open_listen_overflow = "TCPFastOpenListenOverflow",
        tcp_fast_open_cookie_reqd = "TCPFastOpenCookieReqd",
        tcp_fast_open_blackhole = "TCPFastOpenBlackhole",
        tcp_fast_open_passive_alt_key = "TCPFastOpenPassiveAltKey",
        tcp_timeouts = "TCPTimeouts", tcp_loss_probes = "TCPLossProbes", tcp_fast_retrans = "TCPFastRetrans",
        tcp_slow_start_retrans = "TCPSlowStartRetrans", tcp_spurious_rtos = "TCPSpuriousRTOs",
        tcp_sack_recovery = "TCPSackRecovery", tcp_reno_recovery = "TCPRenoRecovery",
        tcp_loss_probe_recovery = "TCPLossProbeRecovery", tcp_full_undo = "TCPFullUndo",
        tcp_partial_undo = "TCPPartialUndo", tcp_dsack_undo = "TCPDSACKUndo", tcp_loss_undo = "TCPLossUndo",
        tcp_dsack_recv_segs = "TCPDSACKRecvSegs",
        tcp_lost_retransmit = "TCPLostRetransmit", tcp_ofo_queue = "TCPOFOQueue", tcp_ofo_drop = "TCPOFODrop",
        tcp_rcv_q_drop = "TCPRcvQDrop", tcp_challenge_ack = "TCPChallengeACK",
        tcp_syn_challenge = "TCPSYNChallenge", tcp_dsack_old_sent = "TCPDSACKOldSent",
        tcp_dsack_recv = "TCPDSACKRecv", tcp_abort_on_data = "TCPAbortOnData",
        tcp_abort_on_close = "TCPAbortOnClose", tcp_abort_on_timeout = "TCPAbortOnTimeout",
        tcp_abort_on_linger = "TCPAbortOnLinger", tcp_abort_failed = "TCPAbortFailed",
        tcp_keepalive = "TCPKeepAlive", tcp_win_probe = "TCPWinProbe",
        tcp_from_zero_window_adv = "TCPFromZeroWindowAdv", tcp_to_zero_window_adv = "TCPToZeroWindowAdv",
        prune_called = "PruneCalled", rcv_pruned = "RcvPruned", ofo_pruned = "OfoPruned",
        tcp_ofo_merge = "TCPOFOMerge", tcp_rcv_coalesce = "TCPRcvCoalesce",
        tcp_dsack_ofo_sent = "TCPDSACKOfoSent", delayed_ack_lost = "DelayedACKLost",
        tcp_ack_compressed = "TCPAckCompressed", tcp_want_zero_window_adv = "TCPWantZeroWindowAdv",
        tcp_mtup_success = "TCPMTUPSuccess", tcp_mtup_fail = "TCPMTUPFail",
        tcp_memory_pressures = "TCPMemoryPressures",
        tcp_backlog_drop = "TCPBacklogDrop", tcp_pure_acks = "TCPPureAcks", tcp_hp_hits = "TCPHPHits",
    }
}

group! {
    /// Counters that Linux keeps elsewhere: ARP and the neighbour caches.
    NeighbourStats {
        arp_in = "ArpInPkts", arp_out = "ArpOutPkts", arp_bad = "ArpInErrors",
        lookups = "lookups", resolve_failed = "res_failed", unresolved_discards = "unresolved_discards",
        table_full = "table_fulls",
    }
}

group! {
    /// `/proc/net/dev` of one network interface.
    NicStats {
        rx_packets = "rx_packets", rx_bytes = "rx_bytes", rx_errors = "rx_errors", rx_dropped = "rx_dropped",
        rx_multicast = "multicast", rx_other_host = "rx_otherhost_dropped",
        tx_packets = "tx_packets", tx_bytes = "tx_bytes", tx_errors = "tx_errors", tx_dropped = "tx_dropped",
    }
}

/// All counters of a stack.
#[derive(Default, Debug)]
pub struct Stats {
    /// `Ip`
    pub ip: IpStats,
    /// `Ip6`
    pub ip6: IpStats,
    /// `Icmp`
    pub icmp: IcmpStats,
    /// `Icmp6`
    pub icmp6: IcmpStats,
    /// `Udp`
    pub udp: UdpStats,
    /// `Udp6`
    pub udp6: UdpStats,
    /// `Tcp`
    pub tcp: TcpStats,
    /// `TcpExt`
    pub tcp_ext: TcpExtStats,
    /// `Neigh`
    pub neigh: NeighbourStats,
    /// `RtCache`
    pub rt_cache: RtCacheStats,
}

impl Stats {
    /// The values now.
    pub fn snapshot(&self) -> Snapshot {
        let mut values = Vec::with_capacity(128);
        self.ip.each("Ip", &mut values);
        self.icmp.each("Icmp", &mut values);
        self.tcp.each("Tcp", &mut values);
        self.udp.each("Udp", &mut values);
        self.ip6.each("Ip6", &mut values);
        self.icmp6.each("Icmp6", &mut values);
        self.udp6.each("Udp6", &mut values);
        self.tcp_ext.each("TcpExt", &mut values);
        self.neigh.each("Neigh", &mut values);
        self.rt_cache.each("RtCache", &mut values);
        Snapshot { values }
    }
}

impl NicStats {
    /// The values now, in the group "Nic".
    pub fn snapshot(&self) -> Snapshot {
        let mut values = Vec::with_capacity(10);
        self.each("Nic", &mut values);
        Snapshot { values }
    }
}

/// The values of counters at one moment: (group, name, value), in the order of Linux's files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    values: Vec<(&'static str, &'static str, u64)>,
}

impl Snapshot {
    /// One value by its Linux group and name, such as ("Udp", "NoPorts"); 0 for a name that is not kept.
    pub fn value(&self, group: &str, name: &str) -> u64 {
        self.iter().find(|(g, n, _)| *g == group && *n == name).map_or(0, |(_, _, value)| value)
    }

    /// All values: (group, name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.values.iter().copied()
    }

    /// The values of one group: (name, value).
    pub fn group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = (&'static str, u64)> + 'a {
        self.iter().filter(move |(g, _, _)| *g == group).map(|(_, name, value)| (name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_finds_values_by_their_linux_names() {
        let stats = Stats::default();
        stats.udp.no_ports.add(3);
        stats.tcp.curr_estab.dec();
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.value("Udp", "NoPorts"), 3);
        assert_eq!(snapshot.value("Tcp", "CurrEstab"), 0);
        assert_eq!(snapshot.group("Udp6").filter(|(_, value)| *value > 0).count(), 0);
    }
}

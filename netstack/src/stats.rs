//! Counters, named as in RFC 1213 and Linux's `/proc/net/snmp`, `snmp6` and `netstat`.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::ip::Cast;

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
        in_octets = "InOctets", in_mcast_pkts = "InMcastPkts", in_mcast_octets = "InMcastOctets",
        in_bcast_pkts = "InBcastPkts", in_bcast_octets = "InBcastOctets",
        in_no_ect_pkts = "InNoECTPkts", in_ect1_pkts = "InECT1Pkts", in_ect0_pkts = "InECT0Pkts",
        in_ce_pkts = "InCEPkts",
        out_transmits = "OutTransmits", out_octets = "OutOctets", out_mcast_pkts = "OutMcastPkts",
        out_mcast_octets = "OutMcastOctets", out_bcast_pkts = "OutBcastPkts",
        out_bcast_octets = "OutBcastOctets", out_requests = "OutRequests", out_discards = "OutDiscards", out_no_routes = "OutNoRoutes",
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
    /// What `Icmp:` of `/proc/net/snmp` (and the same names for `Icmp6`) counts of no type.
    IcmpTotals {
        in_msgs = "InMsgs", in_errors = "InErrors", in_csum_errors = "InCsumErrors",
        out_msgs = "OutMsgs", out_errors = "OutErrors", out_rate_limited = "OutRateLimitHost",
        out_rate_limit_global = "OutRateLimitGlobal",
    }
}

/// ICMP's counters: the totals, and how many messages of each type came and went.
#[derive(Debug)]
pub struct IcmpStats {
    totals: IcmpTotals,
    came: [Counter; 256],
    went: [Counter; 256],
}

impl Default for IcmpStats {
    fn default() -> Self {
        let none = || core::array::from_fn(|_| Counter::default());
        Self { totals: IcmpTotals::default(), came: none(), went: none() }
    }
}

impl core::ops::Deref for IcmpStats {
    type Target = IcmpTotals;
    fn deref(&self) -> &IcmpTotals {
        &self.totals
    }
}

impl IpStats {
    /// Counts a packet by its ECN field (RFC 3168 section 5), the low bits of `tos`.
    pub fn count_ecn(&self, tos: u8) {
        let counter = match tos & 3 {
            0 => &self.in_no_ect_pkts,
            1 => &self.in_ect1_pkts,
            2 => &self.in_ect0_pkts,
            _ => &self.in_ce_pkts,
        };
        counter.inc();
    }

    /// Counts a packet of so many bytes for us where it was for several.
    pub fn count_cast(&self, cast: Cast, len: usize) {
        let (packets, octets) = match cast {
            Cast::Unicast => return,
            Cast::Multicast => (&self.in_mcast_pkts, &self.in_mcast_octets),
            Cast::Broadcast => (&self.in_bcast_pkts, &self.in_bcast_octets),
        };
        packets.inc();
        octets.add(len as u64);
    }

    /// Counts a packet of so many bytes, or a train of them as one, that goes to its link.
    pub fn count_departure(&self, cast: Cast, len: usize) {
        self.out_transmits.inc();
        self.out_octets.add(len as u64);
        let (packets, octets) = match cast {
            Cast::Unicast => return,
            Cast::Multicast => (&self.out_mcast_pkts, &self.out_mcast_octets),
            Cast::Broadcast => (&self.out_bcast_pkts, &self.out_bcast_octets),
        };
        packets.inc();
        octets.add(len as u64);
    }
}

impl IcmpStats {
    /// A message of a type came, whole.
    pub fn came(&self, kind: u8) {
        self.came[usize::from(kind)].inc();
    }

    /// A message of a type was sent.
    pub fn went(&self, kind: u8) {
        self.totals.out_msgs.inc();
        self.went[usize::from(kind)].inc();
    }

    fn each(
        &self,
        group: &'static str,
        named: &[Named],
        out: &mut Vec<(&'static str, &'static str, u64)>,
    ) {
        self.totals.each(group, out);
        for (kind, came, went) in named {
            let at = usize::from(*kind);
            out.push((group, came, self.came[at].value()));
            out.push((group, went, self.went[at].value()));
        }
    }

    /// The types that came and went at least once: (way, type, how many).
    fn types(&self) -> Vec<(Way, u8, u64)> {
        let of = |way: Way, counters: &[Counter; 256]| {
            let values = (0..=u8::MAX).zip(counters).map(|(kind, count)| (kind, count.value()));
            values.filter(|(_, n)| *n > 0).map(|(kind, n)| (way, kind, n)).collect::<Vec<_>>()
        };
        [of(Way::In, &self.came), of(Way::Out, &self.went)].concat()
    }
}

/// A type that has names of its own: type, and Linux's names of its counters.
type Named = (u8, &'static str, &'static str);

/// The named types of ICMP for IPv4 (Linux's icmpmibmap).
const NAMED_V4: &[Named] = &[
    (3, "InDestUnreachs", "OutDestUnreachs"),
    (11, "InTimeExcds", "OutTimeExcds"),
    (12, "InParmProbs", "OutParmProbs"),
    (4, "InSrcQuenchs", "OutSrcQuenchs"),
    (5, "InRedirects", "OutRedirects"),
    (8, "InEchos", "OutEchos"),
    (0, "InEchoReps", "OutEchoReps"),
    (13, "InTimestamps", "OutTimestamps"),
    (14, "InTimestampReps", "OutTimestampReps"),
    (17, "InAddrMasks", "OutAddrMasks"),
    (18, "InAddrMaskReps", "OutAddrMaskReps"),
];

/// The named types of ICMPv6 (Linux's icmp6type2name).
const NAMED_V6: &[Named] = &[
    (1, "InDestUnreachs", "OutDestUnreachs"),
    (2, "InPktTooBigs", "OutPktTooBigs"),
    (3, "InTimeExcds", "OutTimeExcds"),
    (4, "InParmProblems", "OutParmProblems"),
    (128, "InEchos", "OutEchos"),
    (129, "InEchoReplies", "OutEchoReplies"),
    (130, "InGroupMembQueries", "OutGroupMembQueries"),
    (131, "InGroupMembResponses", "OutGroupMembResponses"),
    (132, "InGroupMembReductions", "OutGroupMembReductions"),
    (133, "InRouterSolicits", "OutRouterSolicits"),
    (134, "InRouterAdvertisements", "OutRouterAdvertisements"),
    (135, "InNeighborSolicits", "OutNeighborSolicits"),
    (136, "InNeighborAdvertisements", "OutNeighborAdvertisements"),
    (137, "InRedirects", "OutRedirects"),
    (143, "InMLDv2Reports", "OutMLDv2Reports"),
];

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// It came.
    In,
    /// It was sent.
    Out,
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
        rx_missed = "rx_missed_errors", rx_multicast = "multicast", rx_other_host = "rx_otherhost_dropped",
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
        let mut values = Vec::with_capacity(300);
        self.ip.each("Ip", &mut values);
        self.icmp.each("Icmp", NAMED_V4, &mut values);
        self.tcp.each("Tcp", &mut values);
        self.udp.each("Udp", &mut values);
        self.ip6.each("Ip6", &mut values);
        self.icmp6.each("Icmp6", NAMED_V6, &mut values);
        self.udp6.each("Udp6", &mut values);
        self.tcp_ext.each("TcpExt", &mut values);
        self.neigh.each("Neigh", &mut values);
        self.rt_cache.each("RtCache", &mut values);
        let icmp_types = [self.icmp.types(), self.icmp6.types()];
        Snapshot { values, icmp_types }
    }
}

impl NicStats {
    /// The values now, in the group "Nic".
    pub fn snapshot(&self) -> Snapshot {
        let mut values = Vec::with_capacity(10);
        self.each("Nic", &mut values);
        Snapshot { values, ..Snapshot::default() }
    }
}

/// The values of counters at one moment: (group, name, value), in the order of Linux's files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    values: Vec<(&'static str, &'static str, u64)>,
    icmp_types: [Vec<(Way, u8, u64)>; 2],
}

impl Snapshot {
    /// One value by its Linux group and name, such as ("Udp", "NoPorts"); 0 for a name that is not kept.
    pub fn value(&self, group: &str, name: &str) -> u64 {
        self.iter().find(|(g, n, _)| *g == group && *n == name).map_or(0, |(_, _, value)| value)
    }

    /// The types of ICMP messages that came and went at least once, in order: (way, type, how many). The groups are "Icmp" and
    /// "Icmp6".
    pub fn icmp_types(&self, group: &str) -> &[(Way, u8, u64)] {
        let [v4, v6] = &self.icmp_types;
        if group == "Icmp6" { v6 } else { v4 }
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

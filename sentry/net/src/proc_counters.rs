//! The counters of a namespace as files of /proc/net: snmp, netstat, snmp6, sockstat and sockstat6, with Linux's columns in Linux's order
//! (RFC 1213; net/ipv4/proc.c, net/ipv6/proc.c). What this stack never does counts zero.

use core::fmt::Write as _;

use netstack::ip::Family;
use netstack::ip::conf::ConfTarget;
use netstack::stats::{Snapshot, Way};
use netstack::transport::Host;
use netstack::transport::tcp::StateName;

use sentry_abi::tcp::{
    TCP_CLOSING, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_SYN_RECV, TCP_TIME_WAIT,
};

use crate::inet::InetSocket;
use crate::inet::listing::{self, Listed, Table};
use crate::netns::NetNamespace;
use crate::sockopt::{Sorts, Target};

/// `Ip:` of snmp, after Forwarding and DefaultTTL.
const IP: &str = "InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests \
     OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates \
     OutTransmits";
/// `Icmp:` of snmp.
const ICMP: &str = "InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos \
     InEchoReps InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal \
     OutRateLimitHost OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps \
     OutTimestamps OutTimestampReps OutAddrMasks OutAddrMaskReps";
/// `Tcp:` of snmp, after the four constants.
const TCP: &str = "ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts \
     InCsumErrors";
/// `Udp:` and `UdpLite:` of snmp.
const UDP: &str = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors";
/// `TcpExt:` of netstat.
const TCP_EXT: &str = "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps \
     LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab BeyondWindow TSEcrRejected PAWSOldAck \
     PAWSTimewait DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows ListenDrops TCPHPHits TCPPureAcks \
     TCPHPAcks TCPRenoRecovery TCPSackRecovery TCPSACKReneging TCPSACKReorder TCPRenoReorder TCPTSReorder \
     TCPFullUndo TCPPartialUndo TCPDSACKUndo TCPLossUndo TCPLostRetransmit TCPRenoFailures TCPSackFailures \
     TCPLossFailures TCPFastRetrans TCPSlowStartRetrans TCPTimeouts TCPLossProbes TCPLossProbeRecovery \
     TCPRenoRecoveryFail TCPSackRecoveryFail TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent \
     TCPDSACKRecv TCPDSACKOfoRecv TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout \
     TCPAbortOnLinger TCPAbortFailed TCPMemoryPressures TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld \
     TCPDSACKIgnoredNoUndo TCPSpuriousRTOs TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted \
     TCPSackMerged TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop TCPMinTTLDrop TCPDeferAcceptDrop \
     IPReversePathFilter TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop TCPRetransFail TCPRcvCoalesce \
     TCPOFOQueue TCPOFODrop TCPOFOMerge TCPChallengeACK TCPSYNChallenge TCPFastOpenActive TCPFastOpenActiveFail \
     TCPFastOpenPassive TCPFastOpenPassiveFail TCPFastOpenListenOverflow TCPFastOpenCookieReqd \
     TCPFastOpenBlackhole TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv \
     TCPToZeroWindowAdv TCPWantZeroWindowAdv TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect \
     TCPHystartTrainCwnd TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv TCPACKSkippedPAWS \
     TCPACKSkippedSeq TCPACKSkippedFinWait2 TCPACKSkippedTimeWait TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive \
     TCPMTUPFail TCPMTUPSuccess TCPDelivered TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop \
     TCPWqueueTooBig TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash TCPDSACKRecvSegs \
     TCPDSACKIgnoredDubious TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired TCPAOBad \
     TCPAOKeyNotFound TCPAOGood TCPAODroppedIcmps";
/// `IpExt:` of netstat.
const IP_EXT: &str = "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets \
     OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts \
     ReasmOverlaps";
/// `Ip6` of snmp6.
const IP6: &str = "InReceives InHdrErrors InTooBigErrors InNoRoutes InAddrErrors InUnknownProtos InTruncatedPkts InDiscards \
     InDelivers OutForwDatagrams OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails \
     FragOKs FragFails FragCreates InMcastPkts OutMcastPkts InOctets OutOctets InMcastOctets OutMcastOctets \
     InBcastOctets OutBcastOctets InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts OutTransmits";
/// `Icmp6` of snmp6, without the counts by type.
const ICMP6: &str = "InMsgs InErrors OutMsgs OutErrors InCsumErrors OutRateLimitHost InDestUnreachs InPktTooBigs InTimeExcds \
     InParmProblems InEchos InEchoReplies InGroupMembQueries InGroupMembResponses InGroupMembReductions \
     InRouterSolicits InRouterAdvertisements InNeighborSolicits InNeighborAdvertisements InRedirects \
     InMLDv2Reports OutDestUnreachs OutPktTooBigs OutTimeExcds OutParmProblems OutEchos OutEchoReplies \
     OutGroupMembQueries OutGroupMembResponses OutGroupMembReductions OutRouterSolicits OutRouterAdvertisements \
     OutNeighborSolicits OutNeighborAdvertisements OutRedirects OutMLDv2Reports";
/// `Udp6` of snmp6.
const UDP6: &str = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors";

/// The page in which memory is counted, in bytes.
const PAGE: usize = 4096;
/// tcpRtoAlgorithm of RFC 1213: Van Jacobson's; then the least and the longest time-out in milliseconds, and no bound of connections.
const TCP_CONSTANTS: &str = "1 200 120000 -1";

const REVERSE_PATH_FILTER: &str = "IPReversePathFilter";

/// Two lines: names, then values.
fn pair(out: &mut String, title: &str, names: &str, group: &str, stats: &Snapshot) {
    let _ = writeln!(out, "{title}: {names}");
    let _ = write!(out, "{title}:");
    for name in names.split_whitespace() {
        // Linux shows this one of IPv4 among TCP's.
        let group = if name == REVERSE_PATH_FILTER { "Ip" } else { group };
        let _ = write!(out, " {}", stats.value(group, name));
    }
    out.push('\n');
}

/// The types of ICMP messages that came and went, in Linux's words.
fn by_type(stats: &Snapshot, group: &str) -> Vec<(String, u64)> {
    let word = |way: &Way| match way {
        Way::In => "InType",
        Way::Out => "OutType",
    };
    let types = stats.icmp_types(group).iter();
    types.map(|(way, kind, count)| (format!("{}{kind}", word(way)), *count)).collect()
}

/// /proc/net/snmp
pub fn snmp(net: &NetNamespace) -> String {
    let stats = net.stack().stats();
    let mut out = String::new();
    let forwards = net.stack().ipv4_conf(ConfTarget::All).is_ok_and(|all| all.forwarding);
    // ipForwarding of RFC 1213: 1 forwards, 2 does not.
    let constants = format!("{} {}", if forwards { 1 } else { 2 }, net.default_ttl());
    with_constants(&mut out, "Ip", ("Forwarding DefaultTTL", &constants), IP, &stats);
    pair(&mut out, "Icmp", ICMP, "Icmp", &stats);
    let types = by_type(&stats, "Icmp");
    if !types.is_empty() {
        let (names, values): (Vec<_>, Vec<_>) =
            types.iter().map(|(name, count)| (name.as_str(), count.to_string())).unzip();
        let _ = writeln!(out, "IcmpMsg: {}\nIcmpMsg: {}", names.join(" "), values.join(" "));
    }
    let titles = "RtoAlgorithm RtoMin RtoMax MaxConn";
    with_constants(&mut out, "Tcp", (titles, TCP_CONSTANTS), TCP, &stats);
    pair(&mut out, "Udp", UDP, "Udp", &stats);
    pair(&mut out, "UdpLite", UDP, "UdpLite", &stats);
    out
}

fn with_constants(
    out: &mut String,
    group: &str,
    (titles, constants): (&str, &str),
    names: &str,
    stats: &Snapshot,
) {
    let mut lines = String::new();
    pair(&mut lines, group, names, group, stats);
    // The constants come first in both lines.
    let mut first = [titles, constants].into_iter();
    for line in lines.lines() {
        let values = line.split_once(": ").map_or("", |(_, values)| values);
        let _ = writeln!(out, "{group}: {} {values}", first.next().unwrap_or_default());
    }
}

/// /proc/net/netstat
pub fn netstat(net: &NetNamespace) -> String {
    let stats = net.stack().stats();
    let mut out = String::new();
    pair(&mut out, "TcpExt", TCP_EXT, "TcpExt", &stats);
    pair(&mut out, "IpExt", IP_EXT, "Ip", &stats);
    out
}

/// /proc/net/snmp6
pub fn snmp6(net: &NetNamespace) -> String {
    let stats = net.stack().stats();
    let mut out = String::new();
    for (group, names) in [("Ip6", IP6), ("Icmp6", ICMP6), ("Udp6", UDP6)] {
        for name in names.split_whitespace() {
            let _ = writeln!(out, "{:<32}\t{}", format!("{group}{name}"), stats.value(group, name));
        }
        if group == "Icmp6" {
            for (name, count) in by_type(&stats, group) {
                let _ = writeln!(out, "{:<32}\t{count}", format!("{group}{name}"));
            }
        }
    }
    for name in UDP6.split_whitespace().filter(|name| *name != "IgnoredMulti") {
        let _ = writeln!(out, "{:<32}\t0", format!("UdpLite6{name}"));
    }
    out
}

/// How many sockets of a sort and family live, and how many of them are bound or connected.
fn count(net: &NetNamespace, sort: Sorts, family: Option<Family>) -> (usize, usize) {
    let of = |socket: &&std::sync::Arc<InetSocket>| {
        socket.options().sort() == sort && family.is_none_or(|family| socket.family() == family)
    };
    let in_use = |socket: &std::sync::Arc<InetSocket>| match socket.endpoint.tcp() {
        Some(tcp) => tcp.state() != StateName::Closed,
        None => socket.own_number() != 0,
    };
    let sockets = net.sockets().all();
    let all: Vec<_> = sockets.iter().filter(of).collect();
    (all.len(), all.iter().filter(|socket| in_use(socket)).count())
}

/// The streams of a family that are in the tables, without those of a handshake or in TIME-WAIT: how many, and how many of them nobody
/// holds any more.
fn streams(net: &NetNamespace, family: Family) -> (usize, usize) {
    let small = |listed: &Listed| matches!(listed.state, TCP_SYN_RECV | TCP_TIME_WAIT);
    let unheld = |listed: &Listed| listed.socket.is_none();
    // What waits to be accepted cannot have been closed by a program.
    let closed = |listed: &Listed| {
        matches!(listed.state, TCP_FIN_WAIT1 | TCP_FIN_WAIT2 | TCP_CLOSING | TCP_LAST_ACK)
    };
    let mut all = listing::list(net, Table::Tcp);
    // FIN-WAIT-2 that nobody holds is kept as TIME-WAIT is, and counted with it.
    all.retain(|listed| {
        listed.family == family
            && !small(listed)
            && (listed.socket.is_some() || listed.info.is_some())
    });
    let orphans = all.iter().filter(|listed| unheld(listed) && closed(listed)).count();
    (all.len(), orphans)
}

/// /proc/net/sockstat
pub fn sockstat(net: &NetNamespace) -> String {
    let stack = net.stack();
    let memory = &stack.shared().memory;
    let pages = |bytes: usize| bytes.div_ceil(PAGE);
    let of = |sort| count(net, sort, Some(Family::V4)).1;
    let (v4, v6) = (streams(net, Family::V4), streams(net, Family::V6));
    // The sockets of programs that are in no table are allocated, too.
    let (held, in_use) = count(net, Sorts::TCP, None);
    let alloc = v4.0 + v6.0 + (held - in_use);
    let (fragments, fragment_bytes) = stack.reassembly_of(Family::V4);
    format!(
        "sockets: used {}\nTCP: inuse {} orphan {} tw {} alloc {alloc} mem {}\nUDP: inuse {} mem {}\nUDPLITE: inuse 0\nRAW: inuse {}\n\
         FRAG: inuse {fragments} memory {fragment_bytes}\n",
        net.sockets().all().len() + net.local_sockets().all().len(),
        v4.0,
        v4.1 + v6.1,
        stack.shared().tcp.time_wait.len(),
        pages(memory.tcp.used()),
        of(Sorts::UDP),
        pages(memory.udp.used()),
        of(Sorts::RAW),
    )
}

/// /proc/net/sockstat6
pub fn sockstat6(net: &NetNamespace) -> String {
    let of = |sort| count(net, sort, Some(Family::V6)).1;
    let (fragments, bytes) = net.stack().reassembly_of(Family::V6);
    format!(
        "TCP6: inuse {}\nUDP6: inuse {}\nUDPLITE6: inuse 0\nRAW6: inuse {}\nFRAG6: inuse {fragments} memory {bytes}\n",
        streams(net, Family::V6).0,
        of(Sorts::UDP),
        of(Sorts::RAW),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inet::tests::namespace;

    #[test]
    fn counters_have_linux_columns_and_a_value_under_each() {
        let net = namespace();
        for text in [snmp(&net), netstat(&net)] {
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len() % 2, 0);
            for pair in lines.chunks(2) {
                let (names, values) = (pair[0].split(' '), pair[1].split(' '));
                assert_eq!(names.clone().count(), values.clone().count(), "{}", pair[0]);
                assert_eq!(names.clone().next(), values.clone().next());
                assert!(values.skip(1).all(|value| value.parse::<i64>().is_ok()), "{}", pair[1]);
            }
        }
        assert!(snmp(&net).starts_with("Ip: Forwarding DefaultTTL InReceives"));
        assert!(snmp6(&net).lines().all(|line| line.split('\t').count() == 2));
    }

    #[test]
    fn every_counter_of_the_stack_has_a_column() {
        let net = namespace();
        let shown = |group: &str, name: &str| {
            let has = |names: &str| names.split_whitespace().any(|known| known == name);
            match group {
                // What only IPv6 counts stands in the groups of both families.
                "Ip" => {
                    has(IP)
                        || has(IP_EXT)
                        || name == REVERSE_PATH_FILTER
                        || name == "InTooBigErrors"
                }
                "Icmp" => has(ICMP),
                "Icmp6" => has(ICMP6) || name == "OutRateLimitGlobal",
                "Tcp" => has(TCP),
                "Udp" => has(UDP),
                "TcpExt" => has(TCP_EXT),
                _ => true,
            }
        };
        let stats = net.stack().stats();
        let hidden: Vec<_> = stats.iter().filter(|(group, name, _)| !shown(group, name)).collect();
        assert!(hidden.is_empty(), "counted and shown nowhere: {hidden:?}");
    }
}

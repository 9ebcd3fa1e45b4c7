//! The counters of a namespace as files of /proc/net: snmp, netstat, snmp6, sockstat and sockstat6, with Linux's columns in Linux's order
//! (RFC 1213; net/ipv4/proc.c, net/ipv6/proc.c). What this stack never does counts zero.

use core::fmt::Write as _;

use netstack::ip::Family;
use netstack::ip::conf::ConfTarget;
use netstack::stats::Snapshot;
use netstack::transport::Host;
use netstack::transport::tcp::StateName;

use crate::inet::InetSocket;
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

/// Names of the counters that this stack has under another of Linux's names.
fn own_name(name: &str) -> &str {
    match name {
        "InParmProblems" => "InParmProbs",
        "OutParmProblems" => "OutParmProbs",
        "InEchoReplies" => "InEchoReps",
        "OutEchoReplies" => "OutEchoReps",
        _ => name,
    }
}

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

/// /proc/net/snmp
pub fn snmp(net: &NetNamespace) -> String {
    let stats = net.stack().stats();
    let mut out = String::new();
    let forwards = net.stack().ipv4_conf(ConfTarget::All).is_ok_and(|all| all.forwarding);
    // ipForwarding of RFC 1213: 1 forwards, 2 does not.
    let constants = format!("{} {}", if forwards { 1 } else { 2 }, net.default_ttl());
    with_constants(&mut out, "Ip", ("Forwarding DefaultTTL", &constants), IP, &stats);
    pair(&mut out, "Icmp", ICMP, "Icmp", &stats);
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
            let own = if group == "Icmp6" { own_name(name) } else { name };
            let _ = writeln!(out, "{:<32}\t{}", format!("{group}{name}"), stats.value(group, own));
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

/// /proc/net/sockstat. Connections that no program holds are not told apart from the rest.
pub fn sockstat(net: &NetNamespace) -> String {
    let stack = net.stack();
    let memory = &stack.shared().memory;
    let pages = |bytes: usize| bytes.div_ceil(PAGE);
    let (alloc, _) = count(net, Sorts::TCP, None);
    let of = |sort| count(net, sort, Some(Family::V4)).1;
    let (fragments, fragment_bytes) = stack.reassembly_of(Family::V4);
    format!(
        "sockets: used {}\nTCP: inuse {} orphan 0 tw {} alloc {alloc} mem {}\nUDP: inuse {} mem {}\nUDPLITE: inuse 0\nRAW: inuse {}\n\
         FRAG: inuse {fragments} memory {fragment_bytes}\n",
        net.sockets().all().len() + net.local_sockets().all().len(),
        of(Sorts::TCP),
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
        of(Sorts::TCP),
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
                "Icmp" => {
                    has(ICMP)
                        || name.ends_with("PktTooBigs")
                        || name.contains("Router")
                        || name.contains("Neighbor")
                }
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

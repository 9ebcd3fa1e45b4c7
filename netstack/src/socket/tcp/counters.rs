//! What a connection counts of its sending goes to the stack's counters, by Linux's names.

use crate::stats::TcpExtStats;
use crate::transport::tcp::SendCounters;

/// Adds what happened between two looks at a connection's counters.
pub(super) fn publish(stats: &TcpExtStats, before: &SendCounters, after: &SendCounters) {
    let pairs = [
        (&stats.tcp_timeouts, before.timeouts, after.timeouts),
        (&stats.tcp_loss_probes, before.loss_probes, after.loss_probes),
        (&stats.tcp_keepalive, before.keepalives, after.keepalives),
        (&stats.tcp_win_probe, before.window_probes, after.window_probes),
        (&stats.tcp_loss_probe_recovery, before.loss_probe_recoveries, after.loss_probe_recoveries),
        (&stats.tcp_fast_retrans, before.fast_retransmissions, after.fast_retransmissions),
        (
            &stats.tcp_slow_start_retrans,
            before.slow_start_retransmissions,
            after.slow_start_retransmissions,
        ),
        (&stats.tcp_sack_recovery, before.recoveries, after.recoveries),
        (&stats.tcp_reno_recovery, before.reno_recoveries, after.reno_recoveries),
        (&stats.tcp_lost_retransmit, before.lost_retransmissions, after.lost_retransmissions),
        (&stats.tcp_dsack_recv, before.duplicates_reported, after.duplicates_reported),
        (
            &stats.tcp_dsack_recv_segs,
            before.duplicate_segments_reported,
            after.duplicate_segments_reported,
        ),
        (&stats.tcp_full_undo, before.undone_wholly, after.undone_wholly),
        (&stats.tcp_partial_undo, before.undone_partially, after.undone_partially),
        (&stats.tcp_dsack_undo, before.undone_by_report, after.undone_by_report),
        (&stats.tcp_loss_undo, before.undone_losses, after.undone_losses),
        (&stats.tcp_mtup_success, before.mtu_probes_arrived, after.mtu_probes_arrived),
        (&stats.tcp_mtup_fail, before.mtu_probes_lost, after.mtu_probes_lost),
        (&stats.tcp_spurious_rtos, before.spurious_timeouts, after.spurious_timeouts),
    ];
    for (counter, before, after) in pairs {
        if before != after {
            counter.add(u64::from(after.wrapping_sub(before)));
        }
    }
}

//! What `%{ }%` blocks know of a connection of the stack: members of struct tcp_info.

use std::time::Duration;

use netstack::socket::tcp::TcpSocket;
use netstack::transport::tcp::{EcnMode, Info, Phase};

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The members by name. Bytes in flight are told in segments, as Linux does.
pub fn of(socket: &TcpSocket) -> Vec<(String, i64)> {
    let mut members = vec![("tcpi_state", socket.state() as i64)];
    if let Some(info) = socket.info() {
        members.extend(members_of(&info));
    }
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

// tidy: table
fn members_of(info: &Info) -> Vec<(&'static str, i64)> {
    let segments = |bytes: usize| count(bytes.div_ceil(info.mss.max(1)));
    let ca_state = match info.phase {
        Phase::Open if info.sacked > 0 => 1,
        Phase::Open => 0,
        Phase::Cwr { .. } => 2,
        Phase::Recovery { .. } => 3,
        Phase::Loss { .. } => 4,
    };
    let has_scale = info.send_shift > 0 || info.receive_shift > 0;
    let options = i64::from(info.timestamps)
        | i64::from(info.sack) << 1
        | i64::from(has_scale) << 2
        | i64::from(info.ecn != EcnMode::Off) << 3
        | i64::from(info.ecn_seen) << 4
        | i64::from(info.syn_data) << 5;
    let (accounts, counters) = (&info.accounts, &info.counters);
    vec![
        ("tcpi_ca_state", ca_state),
        ("tcpi_retransmits", i64::from(info.retries)),
        ("tcpi_probes", i64::from(info.probes)),
        ("tcpi_backoff", i64::from(info.backoff)),
        ("tcpi_options", options),
        ("tcpi_snd_wscale", i64::from(info.send_shift)),
        ("tcpi_rcv_wscale", i64::from(info.receive_shift)),
        ("tcpi_rto", micros(info.rto)),
        ("tcpi_ato", micros(info.ack_delay)),
        ("tcpi_snd_mss", count(info.mss)),
        ("tcpi_rcv_mss", count(info.peer_mss)),
        ("tcpi_advmss", count(info.path_mss)),
        ("tcpi_unacked", segments(info.outstanding)),
        ("tcpi_sacked", segments(info.sacked)),
        ("tcpi_lost", segments(info.lost)),
        ("tcpi_rtt", micros(info.rtt)),
        ("tcpi_rttvar", micros(info.rtt_variation)),
        ("tcpi_min_rtt", micros(info.min_rtt)),
        ("tcpi_snd_ssthresh", segments(info.ssthresh)),
        ("tcpi_snd_cwnd", segments(info.window)),
        ("tcpi_rcv_space", count(info.receive_space)),
        ("tcpi_rcv_ssthresh", count(info.receive_ssthresh)),
        ("tcpi_total_retrans", i64::from(counters.retransmissions)),
        ("tcpi_bytes_retrans", counters.bytes_retransmitted as i64),
        ("tcpi_dsack_dups", i64::from(counters.duplicate_segments_reported)),
        ("tcpi_segs_out", i64::from(accounts.segments_out)),
        ("tcpi_segs_in", i64::from(accounts.segments_in)),
        ("tcpi_data_segs_out", i64::from(accounts.data_segments_out)),
        ("tcpi_data_segs_in", i64::from(accounts.data_segments_in)),
        ("tcpi_notsent_bytes", count(info.unsent)),
        ("tcpi_retrans", segments(info.retransmissions_out)),
        ("tcpi_reordering", i64::from(info.reordering)),
        ("tcpi_reord_seen", i64::from(info.reorderings)),
        ("tcpi_delivered_ce", i64::from(info.counters.delivered_marked)),
        ("tcpi_snd_wnd", count(info.send_window)),
        ("tcpi_rcv_wnd", count(info.receive_window)),
        ("tcpi_rcv_ooopack", i64::from(accounts.out_of_order)),
    ]
}

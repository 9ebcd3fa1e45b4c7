//! struct tcp_info of a connection (tcp(7), TCP_INFO).

use core::net::SocketAddr;
use core::time::Duration;

use netstack::ip::Family;
use netstack::socket::tcp::TcpSocket;
use netstack::time::Instant;
use netstack::transport::tcp::{EcnMode, Info, Phase, StateName};
use sentry_abi::tcp::*;

/// Bytes of the TCP header without options.
const TCP_HEADER: usize = 20;
/// Bytes of the timestamp option with its padding.
const TIMESTAMPS: usize = 12;
/// What tcp_reordering is of a fresh Linux.
const DEFAULT_REORDERING: u32 = 3;
/// Segments of the congestion window of a socket without a connection (TCP_INIT_CWND).
const INITIAL_WINDOW: u32 = 10;

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn long_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Bytes a second that Linux would send at (tcp_update_pacing_rate): a window a round trip, and more while that is to grow.
fn pacing_rate(info: &Info) -> u64 {
    let rtt_us = info.rtt.as_micros();
    if rtt_us == 0 {
        return u64::MAX;
    }
    let percent = if info.window < info.ssthresh / 2 { 200 } else { 120 };
    let rate = info.window as u128 * percent * 10_000 / rtt_us;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// What the stack knows of a socket's connection (Linux's tcp_get_info).
pub fn of(socket: &TcpSocket, now: Instant, max_pacing_rate: u64) -> TcpInfo {
    let Some(info) = socket.info() else { return unconnected(socket, max_pacing_rate) };
    let v4 = socket.family() == Family::V4 || is_mapped(socket.local_addr());
    let mut out = of_connection(&info, if v4 { Family::V4 } else { Family::V6 }, now);
    out.max_pacing_rate = max_pacing_rate;
    out.pacing_rate = out.pacing_rate.min(max_pacing_rate);
    out
}

/// "Report meaningful fields for all TCP states, including listeners": of those the queue of connections, and its bound.
fn unconnected(socket: &TcpSocket, max_pacing_rate: u64) -> TcpInfo {
    let state = socket.state();
    let mut out = TcpInfo {
        state: state as u8,
        reordering: DEFAULT_REORDERING,
        snd_cwnd: INITIAL_WINDOW,
        pacing_rate: u64::MAX,
        max_pacing_rate,
        ..TcpInfo::default()
    };
    if state == StateName::Listen {
        let listing = socket.listing();
        (out.unacked, out.sacked) = (count(listing.unread), count(listing.unacknowledged));
    }
    out
}

/// What is told of a connection of a family, with bytes in flight told in segments, as Linux does.
pub fn of_connection(info: &Info, family: Family, now: Instant) -> TcpInfo {
    let mut out =
        TcpInfo { state: info.state as u8, max_pacing_rate: u64::MAX, ..TcpInfo::default() };
    out.ca_state = match info.phase {
        Phase::Open if info.sacked > 0 => TCP_CA_DISORDER,
        Phase::Open => TCP_CA_OPEN,
        Phase::Cwr { .. } => TCP_CA_CWR,
        Phase::Recovery { .. } => TCP_CA_RECOVERY,
        Phase::Loss { .. } => TCP_CA_LOSS,
    };
    let small = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    let segments = |bytes: usize| count(bytes.div_ceil(info.mss.max(1)));
    out.retransmits = small(info.retries);
    out.probes = small(info.probes);
    out.backoff = small(info.backoff);
    if info.timestamps {
        out.options |= TCPI_OPT_TIMESTAMPS;
    }
    if info.sack {
        out.options |= TCPI_OPT_SACK;
    }
    if info.send_shift > 0 || info.receive_shift > 0 {
        out.options |= TCPI_OPT_WSCALE;
    }
    if info.syn_data {
        out.options |= TCPI_OPT_SYN_DATA;
    }
    out.wscale = (info.send_shift & 0xf) | (info.receive_shift << 4);
    out.rto = micros(info.rto);
    out.snd_mss = count(info.mss);
    out.rcv_mss = count(info.peer_mss);
    // Linux takes the timestamps off, which every segment carries.
    let stamps = if info.timestamps { TIMESTAMPS } else { 0 };
    out.advmss = count(info.path_mss.saturating_sub(stamps));
    let ip_header = if family == Family::V4 { 20 } else { 40 };
    out.pmtu = count(info.path_mss + TCP_HEADER + ip_header);
    out.unacked = segments(info.outstanding);
    out.sacked = segments(info.sacked);
    out.lost = segments(info.lost);
    out.rtt = micros(info.rtt);
    out.rttvar = micros(info.rtt_variation);
    out.snd_ssthresh = segments(info.ssthresh);
    out.snd_cwnd = segments(info.window);
    out.rcv_ssthresh = count(info.receive_ssthresh);
    out.rcv_rtt = micros(info.receive_rtt);
    out.rcv_space = count(info.receive_space);
    out.reordering = info.reordering;
    out.retrans = segments(info.retransmissions_out);
    out.delivered_ce = info.counters.delivered_marked;
    out.pacing_rate = pacing_rate(info);
    out.bytes_received = info.bytes_received + u64::from(info.fin_received);
    out.notsent_bytes = count(info.unsent);
    out.min_rtt = micros(info.min_rtt);
    out.snd_wnd = count(info.send_window);
    out.rcv_wnd = count(info.receive_window);
    out.ato = micros(info.ack_delay);
    let (rate, app_limited) = info.delivery_rate.unwrap_or((0, true));
    out.delivery_rate = rate;
    // The first bit of the byte (tcpi_delivery_rate_app_limited).
    out.flags |= u8::from(app_limited);
    // What went out is delivered, lost or under way; Linux counts the SYN and the FIN with the segments.
    let out_segments = info.accounts.data_segments_out + 1 + u32::from(info.fin_acked);
    let lost = usize::try_from(info.lost_so_far).unwrap_or(usize::MAX);
    let flying = segments(info.outstanding.saturating_sub(info.sacked + info.lost));
    out.delivered = out_segments.saturating_sub(segments(lost).saturating_add(flying));
    out.reord_seen = info.reorderings;
    add_ecn(&mut out, info);
    add_accounts(&mut out, info, now);
    out
}

/// Explicit congestion notification: what was agreed on and what came.
fn add_ecn(out: &mut TcpInfo, info: &Info) {
    if info.ecn != EcnMode::Off {
        out.options |= TCPI_OPT_ECN;
    }
    if info.ecn_seen {
        out.options |= TCPI_OPT_ECN_SEEN;
    }
    if let Some((packets, [ect0, ce, ect1])) = info.ecn_received {
        out.received_ce = packets;
        (out.received_e0_bytes, out.received_ce_bytes, out.received_e1_bytes) = (ect0, ce, ect1);
    }
}

/// What has been counted.
fn add_accounts(out: &mut TcpInfo, info: &Info, now: Instant) {
    let (accounts, counters) = (&info.accounts, &info.counters);
    let ago = |at: Option<Instant>| {
        let since = now.since(at.unwrap_or(accounts.started));
        u32::try_from(since.as_millis()).unwrap_or(u32::MAX)
    };
    out.last_data_sent = ago(accounts.data_sent_at);
    out.last_data_recv = ago(accounts.data_received_at);
    out.last_ack_recv = ago(accounts.ack_received_at);
    out.segs_out = accounts.segments_out;
    out.segs_in = accounts.segments_in;
    out.data_segs_out = accounts.data_segments_out;
    out.data_segs_in = accounts.data_segments_in;
    let [busy, window_limited, buffer_limited] = accounts.times(now);
    out.busy_time = long_micros(busy);
    out.rwnd_limited = long_micros(window_limited);
    out.sndbuf_limited = long_micros(buffer_limited);
    out.rcv_ooopack = accounts.out_of_order;
    out.total_rto_recoveries = u16::try_from(counters.timeout_series).unwrap_or(u16::MAX);
    let open = info.stalled_since.filter(|_| info.retries > 0);
    let open = open.map_or(0, |since| now.since(since).as_millis() as u32);
    out.total_rto_time = counters.timeout_time_ms.wrapping_add(open);
    out.bytes_sent = counters.bytes_sent;
    // As on Linux a SYN of ours counts as a byte, and a FIN each way.
    let ends = u64::from(accounts.active) + u64::from(info.fin_acked);
    out.bytes_acked = counters.bytes_acked + ends;
    out.bytes_retrans = counters.bytes_retransmitted;
    out.total_retrans = counters.retransmissions;
    out.dsack_dups = counters.duplicate_segments_reported;
    out.total_rto = u16::try_from(counters.timeouts).unwrap_or(u16::MAX);
}

/// Whether a socket at an address speaks IPv4.
pub fn is_mapped(local: SocketAddr) -> bool {
    match local {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(local) => local.ip().to_ipv4_mapped().is_some(),
    }
}

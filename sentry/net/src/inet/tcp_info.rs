//! struct tcp_info of a connection (tcp(7), TCP_INFO).

use core::time::Duration;

use netstack::socket::tcp::TcpSocket;
use sentry_abi::tcp::{
    TCPI_OPT_SACK, TCPI_OPT_SYN_DATA, TCPI_OPT_TIMESTAMPS, TCPI_OPT_WSCALE, TcpInfo,
};

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// What the stack knows of a socket's connection; bytes in flight are told in segments, as Linux does.
pub fn of(socket: &TcpSocket) -> TcpInfo {
    let mut out = TcpInfo { state: socket.state() as u8, ..TcpInfo::default() };
    let Some(info) = socket.info() else { return out };
    let small = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
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
    out.advmss = count(info.path_mss);
    out.unacked = segments(info.outstanding);
    out.sacked = segments(info.sacked);
    out.lost = segments(info.lost);
    out.rtt = micros(info.rtt);
    out.rttvar = micros(info.rtt_variation);
    out.snd_ssthresh = segments(info.ssthresh);
    out.snd_cwnd = segments(info.window);
    out.rcv_ssthresh = count(info.receive_window);
    out.rcv_space = count(info.receive_capacity);
    out.reordering = 3;
    out.bytes_received = info.bytes_received;
    out.notsent_bytes = count(info.unsent);
    out.min_rtt = micros(info.min_rtt);
    out.snd_wnd = count(info.send_window);
    out.rcv_wnd = count(info.receive_window);
    out
}

//! Options and information of TCP sockets (linux/tcp.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { i32:
    TCP_NODELAY = 1; TCP_MAXSEG = 2; TCP_CORK = 3; TCP_KEEPIDLE = 4; TCP_KEEPINTVL = 5; TCP_KEEPCNT = 6; TCP_SYNCNT = 7; TCP_LINGER2 = 8;
    TCP_DEFER_ACCEPT = 9; TCP_WINDOW_CLAMP = 10; TCP_INFO = 11; TCP_QUICKACK = 12; TCP_CONGESTION = 13; TCP_MD5SIG = 14;
    TCP_THIN_LINEAR_TIMEOUTS = 16; TCP_THIN_DUPACK = 17; TCP_USER_TIMEOUT = 18; TCP_REPAIR = 19; TCP_FASTOPEN = 23; TCP_TIMESTAMP = 24;
    TCP_NOTSENT_LOWAT = 25; TCP_CC_INFO = 26; TCP_SAVE_SYN = 27; TCP_SAVED_SYN = 28; TCP_FASTOPEN_CONNECT = 30; TCP_ULP = 31;
    TCP_REPAIR_QUEUE = 20; TCP_QUEUE_SEQ = 21; TCP_REPAIR_OPTIONS = 22; TCP_REPAIR_WINDOW = 29; TCP_MD5SIG_EXT = 32; TCP_FASTOPEN_KEY = 33;
    TCP_AO_ADD_KEY = 38; TCP_AO_DEL_KEY = 39; TCP_AO_INFO = 40; TCP_AO_GET_KEYS = 41; TCP_AO_REPAIR = 42; TCP_IS_MPTCP = 43;
    TCP_RTO_MAX_MS = 44; TCP_RTO_MIN_US = 45; TCP_DELACK_MAX_US = 46;
    TCP_FASTOPEN_NO_COOKIE = 34; TCP_ZEROCOPY_RECEIVE = 35; TCP_INQ = 36; TCP_CM_INQ = 36; TCP_TX_DELAY = 37;
}

numbers! { u8:
    TCP_ESTABLISHED = 1; TCP_SYN_SENT = 2; TCP_SYN_RECV = 3; TCP_FIN_WAIT1 = 4; TCP_FIN_WAIT2 = 5; TCP_TIME_WAIT = 6; TCP_CLOSE = 7;
    TCP_CLOSE_WAIT = 8; TCP_LAST_ACK = 9; TCP_LISTEN = 10; TCP_CLOSING = 11;
    TCPI_OPT_TIMESTAMPS = 1; TCPI_OPT_SACK = 2; TCPI_OPT_WSCALE = 4; TCPI_OPT_ECN = 8; TCPI_OPT_ECN_SEEN = 16; TCPI_OPT_SYN_DATA = 32; TCPI_OPT_USEC_TS = 64; TCPI_OPT_TFO_CHILD = 128;
    TCP_CA_OPEN = 0; TCP_CA_DISORDER = 1; TCP_CA_CWR = 2; TCP_CA_RECOVERY = 3; TCP_CA_LOSS = 4;
}

/// struct tcp_info of Linux 6.18. Times in microseconds, but `last_*` in milliseconds; counts in segments unless said.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of tcp(7)")]
pub struct TcpInfo {
    pub state: u8,
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    pub options: u8,
    /// Send scale in the low, receive scale in the high four bits.
    pub wscale: u8,
    pub flags: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub fackets: u32,
    pub last_data_sent: u32,
    pub last_ack_sent: u32,
    pub last_data_recv: u32,
    pub last_ack_recv: u32,
    pub pmtu: u32,
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    pub rcv_space: u32,
    pub total_retrans: u32,
    /// Bytes a second.
    pub pacing_rate: u64,
    /// Bytes a second.
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    /// Bytes a second.
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub snd_wnd: u32,
    pub rcv_wnd: u32,
    pub rehash: u32,
    pub total_rto: u16,
    pub total_rto_recoveries: u16,
    /// Milliseconds.
    pub total_rto_time: u32,
    pub received_ce: u32,
    pub delivered_e1_bytes: u32,
    pub delivered_e0_bytes: u32,
    pub delivered_ce_bytes: u32,
    pub received_e1_bytes: u32,
    pub received_e0_bytes: u32,
    pub received_ce_bytes: u32,
    pub accecn_fail_mode: u16,
    pub accecn_opt_seen: u16,
}
const _: () = assert!(size_of::<TcpInfo>() == 280);

//! Sockets: families, types, levels, options, message flags and the structures of sendmsg(2) (linux/socket.h, asm-generic/socket.h, linux/sockios.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! numbers {
    ($ty:ty: $($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* #[doc = stringify!($name)] pub const $name: $ty = $value;)*
    };
}
pub(crate) use numbers;

numbers! { i32:
    AF_UNSPEC = 0; AF_UNIX = 1; AF_INET = 2; AF_INET6 = 10; AF_NETLINK = 16; AF_PACKET = 17; AF_VSOCK = 40; AF_MAX = 46;
    SOCK_STREAM = 1; SOCK_DGRAM = 2; SOCK_RAW = 3; SOCK_RDM = 4; SOCK_SEQPACKET = 5; SOCK_DCCP = 6; SOCK_PACKET = 10;
    /// The bits of a type argument that hold the type.
    SOCK_TYPE_MASK = 0xf; SOCK_NONBLOCK = 0o4000; SOCK_CLOEXEC = 0o2000000;
    SOL_IP = 0; SOL_SOCKET = 1; SOL_TCP = 6; SOL_UDP = 17; SOL_IPV6 = 41; SOL_ICMPV6 = 58; SOL_RAW = 255; SOL_PACKET = 263; SOL_NETLINK = 270;
    SHUT_RD = 0; SHUT_WR = 1; SHUT_RDWR = 2;
    SOMAXCONN = 4096;
}

numbers! { i32:
    SO_DEBUG = 1; SO_REUSEADDR = 2; SO_TYPE = 3; SO_ERROR = 4; SO_DONTROUTE = 5; SO_BROADCAST = 6; SO_SNDBUF = 7; SO_RCVBUF = 8;
    SO_KEEPALIVE = 9; SO_OOBINLINE = 10; SO_NO_CHECK = 11; SO_PRIORITY = 12; SO_LINGER = 13; SO_BSDCOMPAT = 14; SO_REUSEPORT = 15;
    SO_PASSCRED = 16; SO_PEERCRED = 17; SO_RCVLOWAT = 18; SO_SNDLOWAT = 19; SO_RCVTIMEO_OLD = 20; SO_SNDTIMEO_OLD = 21;
    SO_BINDTODEVICE = 25; SO_ATTACH_FILTER = 26; SO_DETACH_FILTER = 27; SO_PEERNAME = 28; SO_TIMESTAMP_OLD = 29; SO_ACCEPTCONN = 30;
    SO_PEERSEC = 31; SO_SNDBUFFORCE = 32; SO_RCVBUFFORCE = 33; SO_PASSSEC = 34; SO_TIMESTAMPNS_OLD = 35; SO_MARK = 36;
    SO_TIMESTAMPING_OLD = 37; SO_PROTOCOL = 38; SO_DOMAIN = 39; SO_PEEK_OFF = 42; SO_NOFCS = 43; SO_LOCK_FILTER = 44;
    SO_SELECT_ERR_QUEUE = 45; SO_BUSY_POLL = 46; SO_MAX_PACING_RATE = 47; SO_INCOMING_CPU = 49; SO_COOKIE = 57; SO_PEERGROUPS = 59;
    SO_ZEROCOPY = 60; SO_BINDTOIFINDEX = 62; SO_TIMESTAMP_NEW = 63; SO_TIMESTAMPNS_NEW = 64; SO_RCVTIMEO_NEW = 66; SO_SNDTIMEO_NEW = 67;
    SO_RXQ_OVFL = 40; SO_WIFI_STATUS = 41; SO_BPF_EXTENSIONS = 48; SO_ATTACH_BPF = 50; SO_ATTACH_REUSEPORT_CBPF = 51; SO_ATTACH_REUSEPORT_EBPF = 52;
    SO_CNX_ADVICE = 53; SO_MEMINFO = 55; SO_INCOMING_NAPI_ID = 56; SO_TXTIME = 61; SO_TIMESTAMPING_NEW = 65; SO_DETACH_REUSEPORT_BPF = 68;
    SO_PREFER_BUSY_POLL = 69; SO_BUSY_POLL_BUDGET = 70; SO_NETNS_COOKIE = 71; SO_BUF_LOCK = 72; SO_RESERVE_MEM = 73; SO_TXREHASH = 74;
    SO_RCVMARK = 75; SO_RCVPRIORITY = 82; SO_PASSRIGHTS = 83; SO_INQ = 84;
    SO_PASSPIDFD = 76; SO_PEERPIDFD = 77;
    SCM_RIGHTS = 1; SCM_CREDENTIALS = 2; SCM_TIMESTAMP = 29; SCM_TIMESTAMPNS = 35;
    SCM_TXTIME = 61; SCM_TS_OPT_ID = 81;
    /// Most descriptors in one SCM_RIGHTS message.
    SCM_MAX_FD = 253;
}

numbers! { u32:
    MSG_OOB = 1; MSG_PEEK = 2; MSG_DONTROUTE = 4; MSG_CTRUNC = 8; MSG_PROXY = 0x10; MSG_TRUNC = 0x20; MSG_DONTWAIT = 0x40; MSG_EOR = 0x80;
    MSG_WAITALL = 0x100; MSG_FIN = 0x200; MSG_SYN = 0x400; MSG_CONFIRM = 0x800; MSG_RST = 0x1000; MSG_ERRQUEUE = 0x2000;
    MSG_NOSIGNAL = 0x4000; MSG_MORE = 0x8000; MSG_WAITFORONE = 0x10000; MSG_BATCH = 0x40000; MSG_ZEROCOPY = 0x4000000;
    MSG_FASTOPEN = 0x2000_0000; MSG_CMSG_CLOEXEC = 0x4000_0000;
}

numbers! { u32:
    SOF_TIMESTAMPING_TX_HARDWARE = 1; SOF_TIMESTAMPING_TX_SOFTWARE = 2; SOF_TIMESTAMPING_RX_HARDWARE = 4; SOF_TIMESTAMPING_RX_SOFTWARE = 8;
    SOF_TIMESTAMPING_SOFTWARE = 0x10; SOF_TIMESTAMPING_SYS_HARDWARE = 0x20; SOF_TIMESTAMPING_RAW_HARDWARE = 0x40; SOF_TIMESTAMPING_OPT_ID = 0x80;
    SOF_TIMESTAMPING_TX_SCHED = 0x100; SOF_TIMESTAMPING_TX_ACK = 0x200; SOF_TIMESTAMPING_OPT_CMSG = 0x400; SOF_TIMESTAMPING_OPT_TSONLY = 0x800;
    SOF_TIMESTAMPING_OPT_STATS = 0x1000; SOF_TIMESTAMPING_BIND_PHC = 0x8000; SOF_TIMESTAMPING_OPT_ID_TCP = 0x1_0000;
    SOF_TIMESTAMPING_OPT_RX_FILTER = 0x2_0000; SOF_TIMESTAMPING_TX_COMPLETION = 0x4_0000;
    /// All that are known.
    SOF_TIMESTAMPING_MASK = 0x7_ffff;
}

numbers! { u32:
    FIONREAD = 0x541b; FIONBIO = 0x5421; FIOASYNC = 0x5452; FIOSETOWN = 0x8901; SIOCSPGRP = 0x8902; FIOGETOWN = 0x8903; SIOCGPGRP = 0x8904;
    SIOCATMARK = 0x8905; SIOCGSTAMP = 0x8906; SIOCGSTAMPNS = 0x8907;
    /// Bytes waiting to be read; the number of FIONREAD.
    SIOCINQ = 0x541b;
    /// Bytes sent and not yet taken by the peer; the number of TIOCOUTQ.
    SIOCOUTQ = 0x5411;
}

/// Longest address in bytes (struct sockaddr_storage).
pub const SOCKADDR_MAX: usize = 128;
/// Most iovecs in one call.
pub const UIO_MAXIOV: u64 = 1024;

/// struct msghdr of the 64-bit ABI.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MsgHdr {
    /// Address buffer.
    pub name: u64,
    /// Its length; an int in the user structure.
    pub namelen: u32,
    /// Padding.
    pub pad: u32,
    /// struct iovec array.
    pub iov: u64,
    /// Its number of elements.
    pub iovlen: u64,
    /// Control buffer.
    pub control: u64,
    /// Its length in bytes.
    pub controllen: u64,
    /// MSG_* of the result.
    pub flags: u32,
    /// Padding.
    pub pad2: u32,
}
const _: () = assert!(size_of::<MsgHdr>() == 56);

/// struct mmsghdr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MMsgHdr {
    /// The message.
    pub hdr: MsgHdr,
    /// Bytes moved.
    pub len: u32,
    /// Padding.
    pub pad: u32,
}
const _: () = assert!(size_of::<MMsgHdr>() == 64);

/// struct cmsghdr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CMsgHdr {
    /// Bytes of header and data.
    pub len: u64,
    /// SOL_*
    pub level: i32,
    /// SCM_*
    pub kind: i32,
}
const _: () = assert!(size_of::<CMsgHdr>() == 16);

/// struct ucred.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct UCred {
    /// Process id.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}
const _: () = assert!(size_of::<UCred>() == 12);

/// struct linger.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Linger {
    /// Nonzero: linger at close.
    pub onoff: i32,
    /// Seconds.
    pub linger: i32,
}
const _: () = assert!(size_of::<Linger>() == 8);

/// struct timeval as SO_RCVTIMEO takes it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SockTimeval {
    /// Seconds.
    pub sec: i64,
    /// Microseconds.
    pub usec: i64,
}
const _: () = assert!(size_of::<SockTimeval>() == 16);

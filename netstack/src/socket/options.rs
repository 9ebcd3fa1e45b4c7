//! Socket options as typed values. The numbers and layouts that programs use are the business of who binds
//! the sockets to a kernel.

use core::net::IpAddr;
use core::time::Duration;

use bitflags::bitflags;

use crate::ip::{Family, SourcePreference};
use crate::link::NicId;
use crate::transport::tcp::fast_open::FastOpenKeys;
use crate::wire::ipv4_options::Options;

/// Declares the options of one level: an enum of values, and one of their kinds for reading.
macro_rules! options {
    ($(#[$doc:meta])* $value:ident / $kind:ident { $($(#[$note:meta])* $name:ident($type:ty),)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $value { $($(#[$note])* $name($type),)* }

        $(#[$doc])* #[doc = "\n\nThe kinds, for reading a value."]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $kind { $($(#[$note])* $name,)* }

        impl $value {
            /// Which option this is a value of.
            pub fn kind(&self) -> $kind {
                match self { $($value::$name(_) => $kind::$name,)* }
            }
        }

        impl From<$value> for OptionValue {
            fn from(value: $value) -> OptionValue { OptionValue::$value(value) }
        }

        impl From<$kind> for OptionKind {
            fn from(kind: $kind) -> OptionKind { OptionKind::$value(kind) }
        }
    };
}

options! {
    /// SOL_SOCKET, as far as a stack knows it.
    SocketOption / SocketOptionKind {
        /// SO_REUSEADDR
        ReuseAddress(bool),
        /// SO_REUSEPORT
        ReusePort(bool),
        /// SO_BROADCAST
        Broadcast(bool),
        /// SO_KEEPALIVE
        KeepAlive(bool),
        /// SO_OOBINLINE
        OobInline(bool),
        /// SO_RCVBUF in bytes, as the kernel counts them (the caller has doubled and clamped).
        ReceiveBuffer(usize),
        /// SO_SNDBUF in bytes, likewise.
        SendBuffer(usize),
        /// SO_RCVLOWAT in bytes.
        ReceiveLowWater(usize),
        /// SO_PEEK_OFF: where the next look begins, in bytes; None when off.
        PeekOffset(Option<usize>),
        /// SO_LINGER: None when off.
        Linger(Option<Duration>),
        /// SO_BINDTODEVICE
        BindToDevice(Option<NicId>),
        /// SO_PRIORITY
        Priority(u32),
        /// SO_MARK
        Mark(u32),
        /// The user that owns the socket (`sk_uid`), by whom rules choose routes.
        Owner(u32),
        /// SO_DONTROUTE
        DontRoute(bool),
        /// SO_TIMESTAMP and its kin: whether receive times are wanted.
        Timestamp(bool),
        /// SO_MAX_PACING_RATE in bytes a second; `u64::MAX` for no limit.
        MaxPacingRate(u64),
        /// SO_NO_CHECK: send UDP over IPv4 without a checksum.
        NoCheck(bool),
        /// The part of SO_TIMESTAMPING that concerns sends.
        Stamping(Stamping),
    }
}

/// How a socket deals with the path's MTU (IP_MTU_DISCOVER).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MtuDiscover {
    /// IP_PMTUDISC_DONT: cut here, let routers cut.
    Dont,
    /// IP_PMTUDISC_WANT: use what is known of the path; datagrams that exceed it are cut.
    #[default]
    Want,
    /// IP_PMTUDISC_DO: never cut.
    Do,
    /// IP_PMTUDISC_PROBE: never cut, ignore what is known of the path.
    Probe,
    /// IP_PMTUDISC_INTERFACE: the interface's MTU alone counts, routers may cut, and what they say is not heard.
    Interface,
    /// IP_PMTUDISC_OMIT: the same, and datagrams that exceed it are cut.
    Omit,
}

options! {
    /// IPPROTO_IP and IPPROTO_IPV6.
    IpOption / IpOptionKind {
        /// IP_TTL, IPV6_UNICAST_HOPS: None for the default.
        Ttl(Option<u8>),
        /// IP_TOS
        Tos(u8),
        /// IPV6_TCLASS
        TrafficClass(u8),
        /// IPV6_V6ONLY
        V6Only(bool),
        /// IP_HDRINCL
        HeaderIncluded(bool),
        /// IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
        MtuDiscover(MtuDiscover),
        /// IP_MTU: read only; the MTU of the path of a connected socket.
        Mtu(u32),
        /// IP_OPTIONS: the options of the header of what is sent.
        HeaderOptions(Options),
        /// IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS
        MulticastTtl(u8),
        /// IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP
        MulticastLoop(bool),
        /// IP_MULTICAST_IF, IPV6_MULTICAST_IF
        MulticastInterface(Option<NicId>),
        /// IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP: write only.
        JoinGroup(Membership),
        /// IP_DROP_MEMBERSHIP, IPV6_LEAVE_GROUP: write only.
        LeaveGroup(Membership),
        /// IP_BIND_ADDRESS_NO_PORT
        BindAddressNoPort(bool),
        /// IP_LOCAL_PORT_RANGE: the first and the last port; 0 stands for the stack's.
        LocalPortRange((u16, u16)),
        /// IP_FREEBIND
        FreeBind(bool),
        /// IPV6_ADDR_PREFERENCES: which of its addresses the host sends from.
        Sources(SourcePreference),
        /// IP_MINTTL: the least time to live that a stream takes over IPv4; 0 for any.
        MinTtl(u8),
        /// IPV6_MINHOPCOUNT: the same over IPv6.
        MinHops(u8),
        /// IPV6_CHECKSUM of raw sockets: the offset of the checksum field.
        ChecksumOffset(Option<u16>),
        /// ICMP_FILTER of raw sockets: a bit set drops that type.
        IcmpFilter(u32),
    }
}

options! {
    /// What only message sockets have, at whichever level.
    DatagramOption / DatagramOptionKind {
        /// UDP_CORK: what is sent gathers into one datagram until it is off.
        Cork(bool),
        /// UDP_SEGMENT: bytes of each datagram that a send is cut into; 0 for off.
        Segment(u16),
        /// UDP_GRO: datagrams of one size and flow may come as one message.
        Coalesce(bool),
        /// UDP_NO_CHECK6_TX: send over IPv6 without a checksum.
        NoCheck6Send(bool),
        /// UDP_NO_CHECK6_RX: take such datagrams.
        NoCheck6Receive(bool),
        /// IP_MULTICAST_ALL, IPV6_MULTICAST_ALL: hear groups that others of the host joined.
        MulticastAll(bool),
        /// SO_PEEK_OFF: where the next peek begins; None for the front of the queue.
        PeekOffset(Option<u32>),
        /// What is told with a message, at which level: those are switched on or off. Write only.
        Tell(Told),
        /// IPV6_FLOWINFO_SEND: the flow label of a destination is used.
        SendFlow(bool),
        /// IPV6_AUTOFLOWLABEL
        AutoFlowLabel(bool),
        /// IPV6_DONTFRAG: what exceeds the path's MTU is refused.
        DontFragment(bool),
        /// ICMPV6_FILTER of raw sockets: a bit set drops that type.
        Icmp6Filter([u32; 8]),
        /// IPV6_PKTINFO of a socket: the interface where neither a message nor the device names one.
        MessageInterface(Option<NicId>),
        /// IPV6_MTU: the largest packets of a path, whatever the path bears.
        LargestPacket(Option<u32>),
        /// IP_UNICAST_IF, IPV6_UNICAST_IF: the interface for unicast where nothing else names one.
        UnicastInterface(Option<NicId>),
    }
}

/// A change of what is told with each message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// The level of the options.
    pub level: Level,
    /// What.
    pub what: Asks,
    /// Whether it is told from now on.
    pub on: bool,
}

/// At which level something is asked for: an IPv6 socket may ask at each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// SOL_SOCKET
    Socket,
    /// IPPROTO_IP
    Ip,
    /// IPPROTO_IPV6
    Ipv6,
}

impl Level {
    /// The level of a family's own options.
    pub const fn of(family: Family) -> Level {
        match family {
            Family::V4 => Level::Ip,
            Family::V6 => Level::Ipv6,
        }
    }
}

impl DatagramOption {
    /// Asks for something with each message.
    pub const fn tell(level: Level, what: Asks) -> DatagramOption {
        DatagramOption::Tell(Told { level, what, on: true })
    }
}

bitflags! {
    /// What a socket wants to be told with each message.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Asks: u32 {
        /// IP_PKTINFO, IPV6_RECVPKTINFO
        const PACKET_INFO = 1;
        /// IP_RECVTTL, IPV6_RECVHOPLIMIT
        const TTL = 1 << 1;
        /// IP_RECVTOS, IPV6_RECVTCLASS
        const TOS = 1 << 2;
        /// IP_RECVOPTS
        const OPTIONS = 1 << 3;
        /// IP_RETOPTS
        const RETURN_OPTIONS = 1 << 4;
        /// IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR
        const ORIGINAL = 1 << 5;
        /// SO_RXQ_OVFL
        const DROPS = 1 << 6;
        /// IPV6_FLOWINFO
        const FLOW = 1 << 7;
        /// IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE
        const FRAGMENT = 1 << 8;
        /// IPV6_RECVHOPOPTS
        const HOP_OPTIONS = 1 << 9;
        /// IPV6_RECVDSTOPTS
        const DESTINATION_OPTIONS = 1 << 10;
        /// IPV6_RECVRTHDR
        const ROUTING = 1 << 11;
        /// IPV6_RECVPATHMTU
        const PATH_MTU = 1 << 12;
        /// IP_RECVERR, IPV6_RECVERR: errors go to the error queue, also those of sockets without a peer.
        const ERRORS = 1 << 13;
        /// IP_RECVERR_RFC4884, IPV6_RECVERR_RFC4884: with where the extensions of the ICMP message are.
        const ERROR_EXTENSIONS = 1 << 14;
        /// SO_RCVMARK
        const MARK = 1 << 15;
        /// SO_RCVPRIORITY
        const PRIORITY = 1 << 16;
        /// IPV6_2292PKTINFO
        const OLD_PACKET_INFO = 1 << 17;
        /// IPV6_2292HOPLIMIT
        const OLD_TTL = 1 << 18;
        /// IPV6_2292HOPOPTS
        const OLD_HOP_OPTIONS = 1 << 19;
        /// IPV6_2292DSTOPTS
        const OLD_DESTINATION_OPTIONS = 1 << 20;
        /// IPV6_2292RTHDR
        const OLD_ROUTING = 1 << 21;
    }
}

bitflags! {
    /// Which times of a send are told in the error queue, and how (SOF_TIMESTAMPING_*).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Stamping: u8 {
        /// SOF_TIMESTAMPING_TX_SCHED
        const SCHEDULED = 1;
        /// SOF_TIMESTAMPING_TX_SOFTWARE
        const SENT = 1 << 1;
        /// SOF_TIMESTAMPING_TX_ACK: of streams.
        const ACKNOWLEDGED = 1 << 2;
        /// SOF_TIMESTAMPING_OPT_ID
        const NUMBERED = 1 << 3;
        /// SOF_TIMESTAMPING_OPT_ID_TCP: a stream's numbers begin at what was written, not at what was acknowledged.
        const FROM_WRITTEN = 1 << 4;
        /// SOF_TIMESTAMPING_OPT_TSONLY
        const TIME_ONLY = 1 << 5;
    }
}

/// A multicast group on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    /// The group.
    pub group: IpAddr,
    /// The interface; None for the one that a route to the group takes.
    pub nic: Option<NicId>,
}

options! {
    /// IPPROTO_TCP.
    TcpOption / TcpOptionKind {
        /// TCP_NODELAY
        NoDelay(bool),
        /// TCP_CORK
        Cork(bool),
        /// TCP_QUICKACK
        QuickAck(bool),
        /// TCP_MAXSEG in bytes.
        MaxSegment(u16),
        /// TCP_KEEPIDLE
        KeepIdle(Duration),
        /// TCP_KEEPINTVL
        KeepInterval(Duration),
        /// TCP_KEEPCNT
        KeepCount(u8),
        /// TCP_SYNCNT
        SynCount(u8),
        /// TCP_LINGER2: None for the stack's, zero for no FIN-WAIT-2 at all.
        Linger2(Option<Duration>),
        /// TCP_DEFER_ACCEPT: zero when off.
        DeferAccept(Duration),
        /// TCP_WINDOW_CLAMP in bytes.
        WindowClamp(u32),
        /// TCP_USER_TIMEOUT: zero for the default.
        UserTimeout(Duration),
        /// TCP_CONGESTION: a name of [`crate::transport::tcp::congestion::AVAILABLE`].
        Congestion(&'static str),
        /// TCP_NOTSENT_LOWAT in bytes.
        NotSentLowWater(u32),
        /// TCP_RTO_MIN_US: the least retransmission timeout.
        RtoMin(Duration),
        /// TCP_RTO_MAX_MS: the longest retransmission timeout.
        RtoMax(Duration),
        /// TCP_THIN_LINEAR_TIMEOUTS: the time-outs of a stream with few segments out do not double.
        ThinLinearTimeouts(bool),
        /// TCP_DELACK_MAX_US: the longest delay of an acknowledgment.
        DelayedAckMax(Duration),
        /// TCP_FASTOPEN: how many connections may be open before their handshake is complete.
        FastOpen(u32),
        /// TCP_FASTOPEN_CONNECT
        FastOpenConnect(bool),
        /// TCP_FASTOPEN_NO_COOKIE
        FastOpenNoCookie(bool),
        /// TCP_FASTOPEN_KEY
        FastOpenKey(FastOpenKeys),
    }
}

/// The value of an option of any level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionValue {
    /// SOL_SOCKET
    SocketOption(SocketOption),
    /// IPPROTO_IP, IPPROTO_IPV6
    IpOption(IpOption),
    /// IPPROTO_TCP
    TcpOption(TcpOption),
    /// Any level, of message sockets alone.
    DatagramOption(DatagramOption),
}

/// The kind of an option of any level.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OptionKind {
    /// SOL_SOCKET
    SocketOption(SocketOptionKind),
    /// IPPROTO_IP, IPPROTO_IPV6
    IpOption(IpOptionKind),
    /// IPPROTO_TCP
    TcpOption(TcpOptionKind),
    /// Any level, of message sockets alone.
    DatagramOption(DatagramOptionKind),
}

/// Why an option was not set or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OptionError {
    /// ENOPROTOOPT
    #[error("the socket has no such option")]
    NotSupported,
    /// EOPNOTSUPP: what the option is about is off.
    #[error("operation not supported")]
    OperationNotSupported,
    /// EINVAL
    #[error("the option does not take this value")]
    Invalid,
    /// ENOTCONN
    #[error("the socket is not connected")]
    NotConnected,
    /// EADDRINUSE: a group that is joined already.
    #[error("address already in use")]
    InUse,
    /// EADDRNOTAVAIL: a group that is not joined.
    #[error("cannot assign requested address")]
    AddressNotAvailable,
    /// ENODEV
    #[error("no such device")]
    NoDevice,
    /// ENOENT: there is nothing of that name.
    #[error("no such file or directory")]
    NotFound,
    /// ENOBUFS: too many groups or sources.
    #[error("no buffer space available")]
    NoBuffers,
}

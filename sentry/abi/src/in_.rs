//! Internet addresses, protocols and the options of the IP levels (linux/in.h, linux/in6.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { i32:
    IPPROTO_IP = 0; IPPROTO_ICMP = 1; IPPROTO_IGMP = 2; IPPROTO_TCP = 6; IPPROTO_UDP = 17; IPPROTO_IPV6 = 41; IPPROTO_ICMPV6 = 58;
    IPPROTO_SCTP = 132; IPPROTO_UDPLITE = 136; IPPROTO_RAW = 255; IPPROTO_MPTCP = 262; IPPROTO_MAX = 263;
}

numbers! { i32:
    IP_TOS = 1; IP_TTL = 2; IP_HDRINCL = 3; IP_OPTIONS = 4; IP_ROUTER_ALERT = 5; IP_RECVOPTS = 6; IP_RETOPTS = 7; IP_PKTINFO = 8;
    IP_PKTOPTIONS = 9; IP_MTU_DISCOVER = 10; IP_RECVERR = 11; IP_RECVTTL = 12; IP_RECVTOS = 13; IP_MTU = 14; IP_FREEBIND = 15;
    IP_TRANSPARENT = 19; IP_RECVORIGDSTADDR = 20; IP_MINTTL = 21; IP_NODEFRAG = 22; IP_BIND_ADDRESS_NO_PORT = 24;
    IP_MULTICAST_IF = 32; IP_MULTICAST_TTL = 33; IP_MULTICAST_LOOP = 34; IP_ADD_MEMBERSHIP = 35; IP_DROP_MEMBERSHIP = 36;
    IP_IPSEC_POLICY = 16; IP_XFRM_POLICY = 17; IP_PASSSEC = 18; IP_CHECKSUM = 23; IP_RECVFRAGSIZE = 25; IP_RECVERR_RFC4884 = 26;
    IP_UNBLOCK_SOURCE = 37; IP_BLOCK_SOURCE = 38; IP_ADD_SOURCE_MEMBERSHIP = 39; IP_DROP_SOURCE_MEMBERSHIP = 40; IP_MSFILTER = 41;
    MCAST_JOIN_GROUP = 42; MCAST_BLOCK_SOURCE = 43; MCAST_UNBLOCK_SOURCE = 44; MCAST_LEAVE_GROUP = 45; MCAST_JOIN_SOURCE_GROUP = 46;
    MCAST_LEAVE_SOURCE_GROUP = 47; MCAST_MSFILTER = 48; IP_LOCAL_PORT_RANGE = 51; IP_PROTOCOL = 52;
    IP_MULTICAST_ALL = 49; IP_UNICAST_IF = 50;
    IP_PMTUDISC_DONT = 0; IP_PMTUDISC_WANT = 1; IP_PMTUDISC_DO = 2; IP_PMTUDISC_PROBE = 3; IP_PMTUDISC_INTERFACE = 4; IP_PMTUDISC_OMIT = 5;
}

numbers! { i32:
    IPV6_ADDRFORM = 1; IPV6_2292PKTINFO = 2; IPV6_2292HOPOPTS = 3; IPV6_2292DSTOPTS = 4; IPV6_2292RTHDR = 5; IPV6_2292PKTOPTIONS = 6;
    IPV6_2292HOPLIMIT = 8; IPV6_NEXTHOP = 9; IPV6_AUTHHDR = 10; IPV6_FLOWINFO = 11; IPV6_ROUTER_ALERT = 22; IPV6_JOIN_ANYCAST = 27;
    IPV6_LEAVE_ANYCAST = 28; IPV6_ROUTER_ALERT_ISOLATE = 30; IPV6_RECVERR_RFC4884 = 31; IPV6_FLOWLABEL_MGR = 32; IPV6_FLOWINFO_SEND = 33;
    IPV6_IPSEC_POLICY = 34; IPV6_XFRM_POLICY = 35; IPV6_HDRINCL = 36; IPV6_RECVHOPOPTS = 53; IPV6_HOPOPTS = 54; IPV6_RTHDRDSTOPTS = 55;
    IPV6_RECVRTHDR = 56; IPV6_RTHDR = 57; IPV6_RECVDSTOPTS = 58; IPV6_DSTOPTS = 59; IPV6_RECVPATHMTU = 60; IPV6_PATHMTU = 61;
    IPV6_USE_MIN_MTU = 63; IPV6_AUTOFLOWLABEL = 70; IPV6_MINHOPCOUNT = 73; IPV6_RECVORIGDSTADDR = 74; IPV6_TRANSPARENT = 75;
    IPV6_UNICAST_IF = 76; IPV6_RECVFRAGSIZE = 77;
    IPV6_UNICAST_HOPS = 16; IPV6_MULTICAST_IF = 17; IPV6_MULTICAST_HOPS = 18; IPV6_MULTICAST_LOOP = 19; IPV6_ADD_MEMBERSHIP = 20;
    IPV6_DROP_MEMBERSHIP = 21; IPV6_CHECKSUM = 7; IPV6_MTU_DISCOVER = 23; IPV6_MTU = 24; IPV6_RECVERR = 25; IPV6_V6ONLY = 26;
    IPV6_MULTICAST_ALL = 29; IPV6_RECVPKTINFO = 49; IPV6_PKTINFO = 50; IPV6_RECVHOPLIMIT = 51; IPV6_HOPLIMIT = 52;
    IPV6_RECVTCLASS = 66; IPV6_TCLASS = 67; IPV6_DONTFRAG = 62; IPV6_FREEBIND = 78; IPV6_ADDR_PREFERENCES = 72;
    /// ICMP_FILTER of raw sockets (level SOL_RAW).
    ICMP_FILTER = 1;
    /// ICMPV6_FILTER (level SOL_ICMPV6).
    ICMPV6_FILTER = 1;
    UDP_CORK = 1; UDP_ENCAP = 100; UDP_NO_CHECK6_TX = 101; UDP_NO_CHECK6_RX = 102; UDP_SEGMENT = 103; UDP_GRO = 104;
}

/// struct sockaddr_in; port and address in network order.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrIn {
    /// AF_INET
    pub family: u16,
    /// Port, big endian.
    pub port: [u8; 2],
    /// Address.
    pub addr: [u8; 4],
    /// Zeros.
    pub zero: [u8; 8],
}
const _: () = assert!(size_of::<SockAddrIn>() == 16);

/// struct sockaddr_in6.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrIn6 {
    /// AF_INET6
    pub family: u16,
    /// Port, big endian.
    pub port: [u8; 2],
    /// Flow information, big endian.
    pub flowinfo: [u8; 4],
    /// Address.
    pub addr: [u8; 16],
    /// Interface index for link-local addresses.
    pub scope_id: u32,
}
const _: () = assert!(size_of::<SockAddrIn6>() == 28);

/// struct in_pktinfo.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InPktInfo {
    /// Interface index.
    pub ifindex: i32,
    /// Local address (source of a send).
    pub spec_dst: [u8; 4],
    /// Destination in the header.
    pub addr: [u8; 4],
}
const _: () = assert!(size_of::<InPktInfo>() == 12);

/// struct in6_pktinfo.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct In6PktInfo {
    /// Address.
    pub addr: [u8; 16],
    /// Interface index.
    pub ifindex: i32,
}
const _: () = assert!(size_of::<In6PktInfo>() == 20);

/// struct sock_extended_err of linux/errqueue.h; the offender's address follows it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockExtendedErr {
    /// errno
    pub errno: u32,
    /// SO_EE_ORIGIN_*
    pub origin: u8,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Padding.
    pub pad: u8,
    /// The MTU, where the error is of that.
    pub info: u32,
    /// Other data.
    pub data: u32,
}
const _: () = assert!(size_of::<SockExtendedErr>() == 16);

numbers! { u8:
    SO_EE_ORIGIN_LOCAL = 1; SO_EE_ORIGIN_ICMP = 2; SO_EE_ORIGIN_ICMP6 = 3; SO_EE_ORIGIN_TIMESTAMPING = 4; SO_EE_ORIGIN_ZEROCOPY = 5;
    /// The code of a completion whose bytes were copied after all.
    SO_EE_CODE_ZEROCOPY_COPIED = 1;
    /// A flag of struct sock_ee_data_rfc4884.
    SO_EE_RFC4884_FLAG_INVALID = 1;
}

numbers! { u32:
    SCM_TSTAMP_SND = 0; SCM_TSTAMP_SCHED = 1; SCM_TSTAMP_ACK = 2;
}

/// struct sock_ee_data_rfc4884: what [`SockExtendedErr::data`] holds where the extensions of an ICMP message were asked for.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockEeDataRfc4884 {
    /// Where the extensions begin in the payload, in bytes.
    pub len: u16,
    /// SO_EE_RFC4884_FLAG_*
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
}
const _: () = assert!(size_of::<SockEeDataRfc4884>() == 4);

/// struct ip6_mtuinfo.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ip6MtuInfo {
    /// Where the path leads.
    pub addr: SockAddrIn6,
    /// Its MTU in bytes.
    pub mtu: u32,
}
const _: () = assert!(size_of::<Ip6MtuInfo>() == 32);

/// struct ip_mreqn.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IpMreqn {
    /// Group.
    pub multiaddr: [u8; 4],
    /// Address of the interface.
    pub address: [u8; 4],
    /// Its index.
    pub ifindex: i32,
}
const _: () = assert!(size_of::<IpMreqn>() == 12);

/// struct ipv6_mreq.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ipv6Mreq {
    /// Group.
    pub multiaddr: [u8; 16],
    /// Interface index.
    pub ifindex: i32,
}
const _: () = assert!(size_of::<Ipv6Mreq>() == 20);

//! Netlink and its route family (linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { i32:
    NETLINK_ROUTE = 0; NETLINK_USERSOCK = 2; NETLINK_SOCK_DIAG = 4; NETLINK_AUDIT = 9; NETLINK_NETFILTER = 12; NETLINK_KOBJECT_UEVENT = 15;
    NETLINK_GENERIC = 16;
    NETLINK_ADD_MEMBERSHIP = 1; NETLINK_DROP_MEMBERSHIP = 2; NETLINK_PKTINFO = 3; NETLINK_BROADCAST_ERROR = 4; NETLINK_NO_ENOBUFS = 5;
    NETLINK_LISTEN_ALL_NSID = 8; NETLINK_LIST_MEMBERSHIPS = 9; NETLINK_CAP_ACK = 10; NETLINK_EXT_ACK = 11; NETLINK_GET_STRICT_CHK = 12;
}

numbers! { u16:
    NLM_F_REQUEST = 1; NLM_F_MULTI = 2; NLM_F_ACK = 4; NLM_F_ECHO = 8; NLM_F_DUMP_INTR = 0x10; NLM_F_DUMP_FILTERED = 0x20; NLM_F_ROOT = 0x100;
    NLM_F_MATCH = 0x200; NLM_F_DUMP = 0x300; NLM_F_REPLACE = 0x100; NLM_F_EXCL = 0x200; NLM_F_CREATE = 0x400; NLM_F_APPEND = 0x800;
    NLM_F_BULK = 0x200; NLM_F_CAPPED = 0x100; NLM_F_ACK_TLVS = 0x200;
    /// The bits of an attribute's type that are its number.
    NLA_TYPE_MASK = 0x3fff; NLA_F_NESTED = 0x8000;
    NLMSG_NOOP = 1; NLMSG_ERROR = 2; NLMSG_DONE = 3; NLMSG_MIN_TYPE = 0x10; NLMSGERR_ATTR_MSG = 1; NLMSGERR_ATTR_OFFS = 2;
    RTM_NEWLINK = 16; RTM_DELLINK = 17; RTM_GETLINK = 18; RTM_SETLINK = 19; RTM_NEWADDR = 20; RTM_DELADDR = 21; RTM_GETADDR = 22;
    RTM_NEWROUTE = 24; RTM_DELROUTE = 25; RTM_GETROUTE = 26; RTM_NEWNEIGH = 28; RTM_DELNEIGH = 29; RTM_GETNEIGH = 30;
    RTM_NEWRULE = 32; RTM_DELRULE = 33; RTM_GETRULE = 34; RTM_NEWQDISC = 36; RTM_DELQDISC = 37; RTM_GETQDISC = 38; RTM_GETTCLASS = 42;
    RTM_GETTFILTER = 46; RTM_NEWPREFIX = 52; RTM_GETMULTICAST = 58; RTM_GETANYCAST = 62; RTM_NEWNEIGHTBL = 64; RTM_GETNEIGHTBL = 66;
    RTM_SETNEIGHTBL = 67; RTM_NEWADDRLABEL = 72; RTM_DELADDRLABEL = 73; RTM_GETADDRLABEL = 74; RTM_NEWNETCONF = 80; RTM_GETNETCONF = 82;
    RTM_NEWNSID = 88; RTM_DELNSID = 89; RTM_GETNSID = 90; RTM_NEWSTATS = 92; RTM_GETSTATS = 94; RTM_NEWNEXTHOP = 104; RTM_DELNEXTHOP = 105;
    RTM_GETNEXTHOP = 106; RTM_NEWLINKPROP = 108; RTM_DELLINKPROP = 109; RTM_MAX = 123;
    IFLA_PROTINFO = 12; IFLA_ADDRESS = 1; IFLA_BROADCAST = 2; IFLA_IFNAME = 3; IFLA_MTU = 4; IFLA_LINK = 5; IFLA_QDISC = 6; IFLA_STATS = 7; IFLA_MASTER = 10;
    IFLA_TXQLEN = 13; IFLA_MAP = 14; IFLA_OPERSTATE = 16; IFLA_LINKMODE = 17; IFLA_LINKINFO = 18; IFLA_NET_NS_PID = 19; IFLA_IFALIAS = 20;
    IFLA_STATS64 = 23; IFLA_AF_SPEC = 26; IFLA_GROUP = 27; IFLA_NET_NS_FD = 28; IFLA_EXT_MASK = 29; IFLA_PROMISCUITY = 30;
    IFLA_NUM_TX_QUEUES = 31; IFLA_NUM_RX_QUEUES = 32; IFLA_CARRIER = 33; IFLA_CARRIER_CHANGES = 35; IFLA_PROTO_DOWN = 39; IFLA_GSO_MAX_SEGS = 40;
    IFLA_GSO_MAX_SIZE = 41; IFLA_CARRIER_UP_COUNT = 47; IFLA_CARRIER_DOWN_COUNT = 48; IFLA_MIN_MTU = 50; IFLA_MAX_MTU = 51; IFLA_PROP_LIST = 52;
    IFLA_ALT_IFNAME = 53; IFLA_GRO_MAX_SIZE = 58; IFLA_TSO_MAX_SIZE = 59; IFLA_TSO_MAX_SEGS = 60; IFLA_ALLMULTI = 61; IFLA_INET6_TOKEN = 7;
    IFLA_INFO_KIND = 1; IFLA_INET_CONF = 1; IFLA_INET6_FLAGS = 1; IFLA_INET6_CONF = 2; IFLA_INET6_CACHEINFO = 5;
    IFLA_INET6_ADDR_GEN_MODE = 8; IFLA_STATS_LINK_64 = 1;
    IFA_ADDRESS = 1; IFA_LOCAL = 2; IFA_LABEL = 3; IFA_BROADCAST = 4; IFA_ANYCAST = 5; IFA_CACHEINFO = 6; IFA_MULTICAST = 7; IFA_FLAGS = 8;
    IFA_RT_PRIORITY = 9; IFA_TARGET_NETNSID = 10; IFA_PROTO = 11;
    RTA_DST = 1; RTA_SRC = 2; RTA_IIF = 3; RTA_OIF = 4; RTA_GATEWAY = 5; RTA_PRIORITY = 6; RTA_PREFSRC = 7; RTA_METRICS = 8; RTA_MULTIPATH = 9;
    RTA_FLOW = 11; RTA_CACHEINFO = 12; RTA_TABLE = 15; RTA_MARK = 16; RTA_VIA = 18; RTA_NEWDST = 19; RTA_PREF = 20; RTA_ENCAP_TYPE = 21;
    RTA_ENCAP = 22; RTA_EXPIRES = 23; RTA_UID = 25; RTA_TTL_PROPAGATE = 26; RTA_IP_PROTO = 27; RTA_SPORT = 28; RTA_DPORT = 29; RTA_NH_ID = 30;
    RTAX_LOCK = 1; RTAX_MTU = 2; RTAX_WINDOW = 3; RTAX_RTT = 4; RTAX_RTTVAR = 5; RTAX_SSTHRESH = 6; RTAX_CWND = 7; RTAX_ADVMSS = 8;
    RTAX_REORDERING = 9; RTAX_HOPLIMIT = 10; RTAX_INITCWND = 11; RTAX_FEATURES = 12; RTAX_RTO_MIN = 13; RTAX_INITRWND = 14; RTAX_QUICKACK = 15;
    RTAX_CC_ALGO = 16;
    NDA_DST = 1; NDA_LLADDR = 2; NDA_CACHEINFO = 3; NDA_PROBES = 4; NDA_IFINDEX = 8; NDA_MASTER = 9; NDA_PROTOCOL = 12;
    NUD_INCOMPLETE = 1; NUD_REACHABLE = 2; NUD_STALE = 4; NUD_DELAY = 8; NUD_PROBE = 0x10; NUD_FAILED = 0x20; NUD_NOARP = 0x40;
    NUD_PERMANENT = 0x80; NUD_NONE = 0;
    NDTA_NAME = 1; NDTA_THRESH1 = 2; NDTA_THRESH2 = 3; NDTA_THRESH3 = 4; NDTA_CONFIG = 5; NDTA_PARMS = 6; NDTA_STATS = 7; NDTA_GC_INTERVAL = 8;
    NDTPA_IFINDEX = 1; NDTPA_REFCNT = 2; NDTPA_REACHABLE_TIME = 3; NDTPA_BASE_REACHABLE_TIME = 4; NDTPA_RETRANS_TIME = 5; NDTPA_GC_STALETIME = 6;
    NDTPA_DELAY_PROBE_TIME = 7; NDTPA_QUEUE_LEN = 8; NDTPA_APP_PROBES = 9; NDTPA_UCAST_PROBES = 10; NDTPA_MCAST_PROBES = 11;
    NDTPA_ANYCAST_DELAY = 12; NDTPA_PROXY_DELAY = 13; NDTPA_PROXY_QLEN = 14; NDTPA_LOCKTIME = 15; NDTPA_QUEUE_LENBYTES = 16;
    FRA_DST = 1; FRA_SRC = 2; FRA_IIFNAME = 3; FRA_GOTO = 4; FRA_PRIORITY = 6; FRA_FWMARK = 10; FRA_FLOW = 11; FRA_TUN_ID = 12;
    FRA_SUPPRESS_IFGROUP = 13; FRA_SUPPRESS_PREFIXLEN = 14; FRA_TABLE = 15; FRA_FWMASK = 16; FRA_OIFNAME = 17; FRA_L3MDEV = 19;
    FRA_UID_RANGE = 20; FRA_PROTOCOL = 21; FRA_IP_PROTO = 22; FRA_SPORT_RANGE = 23; FRA_DPORT_RANGE = 24;
    NETCONFA_IFINDEX = 1; NETCONFA_FORWARDING = 2; NETCONFA_RP_FILTER = 3; NETCONFA_MC_FORWARDING = 4; NETCONFA_PROXY_NEIGH = 5;
    NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN = 6; NETCONFA_BC_FORWARDING = 8;
    IFAL_ADDRESS = 1; IFAL_LABEL = 2;
    TCA_KIND = 1; NETNSA_NSID = 1; NETNSA_PID = 2; NETNSA_FD = 3;
    GENL_ID_CTRL = 16; CTRL_ATTR_FAMILY_ID = 1; CTRL_ATTR_FAMILY_NAME = 2; CTRL_ATTR_VERSION = 3; CTRL_ATTR_HDRSIZE = 4; CTRL_ATTR_MAXATTR = 5;
    CTRL_ATTR_OPS = 6; CTRL_ATTR_OP_ID = 1; CTRL_ATTR_OP_FLAGS = 2;
    ARPHRD_ETHER = 1; ARPHRD_NETROM = 0; ARPHRD_LOOPBACK = 772;
}

numbers! { u32:
    RTNLGRP_LINK = 1; RTNLGRP_NEIGH = 3; RTNLGRP_IPV4_IFADDR = 5; RTNLGRP_IPV4_ROUTE = 7; RTNLGRP_IPV4_RULE = 8; RTNLGRP_IPV6_IFADDR = 9;
    RTNLGRP_IPV6_ROUTE = 11; RTNLGRP_IPV6_PREFIX = 18; RTNLGRP_IPV6_RULE = 19; RTNLGRP_IPV4_NETCONF = 24; RTNLGRP_IPV6_NETCONF = 25;
    RTEXT_FILTER_SKIP_STATS = 8; RTM_F_CLONED = 0x200; RTM_F_LOOKUP_TABLE = 0x1000; RTM_F_FIB_MATCH = 0x2000;
    RTNH_F_DEAD = 1; RTNH_F_ONLINK = 4; RTNH_F_LINKDOWN = 16;
}

numbers! { u8:
    RT_TABLE_UNSPEC = 0; RT_TABLE_COMPAT = 252; RT_TABLE_DEFAULT = 253; RT_TABLE_MAIN = 254; RT_TABLE_LOCAL = 255; RTPROT_UNSPEC = 0;
    RTPROT_KERNEL = 2; RTPROT_BOOT = 3; RTPROT_STATIC = 4; RTPROT_RA = 9; RT_SCOPE_UNIVERSE = 0; RT_SCOPE_SITE = 200; RT_SCOPE_LINK = 253;
    RT_SCOPE_HOST = 254; RT_SCOPE_NOWHERE = 255;
    RTN_UNSPEC = 0; RTN_UNICAST = 1; RTN_LOCAL = 2; RTN_BROADCAST = 3; RTN_ANYCAST = 4; RTN_MULTICAST = 5; RTN_BLACKHOLE = 6; RTN_UNREACHABLE = 7;
    RTN_PROHIBIT = 8; RTN_THROW = 9; IFA_F_PERMANENT = 0x80; IF_OPER_UNKNOWN = 0; IF_OPER_DOWN = 2; IF_OPER_UP = 6;
    NTF_USE = 1; NTF_SELF = 2; NTF_PROXY = 8; NTF_ROUTER = 0x80; FR_ACT_TO_TBL = 1; FR_ACT_GOTO = 2; FR_ACT_NOP = 3; FR_ACT_BLACKHOLE = 6;
    FR_ACT_UNREACHABLE = 7; FR_ACT_PROHIBIT = 8;
    CTRL_CMD_NEWFAMILY = 1; CTRL_CMD_GETFAMILY = 3;
}

/// struct sockaddr_nl.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrNl {
    /// AF_NETLINK
    pub family: u16,
    /// Zero.
    pub pad: u16,
    /// Port id.
    pub pid: u32,
    /// Multicast groups.
    pub groups: u32,
}
const _: () = assert!(size_of::<SockAddrNl>() == 12);

/// struct nlmsghdr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NlMsgHdr {
    /// Bytes with this header.
    pub len: u32,
    /// NLMSG_* or RTM_*.
    pub kind: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// Sequence number.
    pub seq: u32,
    /// Port id of the sender.
    pub pid: u32,
}
const _: () = assert!(size_of::<NlMsgHdr>() == 16);

/// struct rtattr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtAttr {
    /// Bytes with this header, without padding.
    pub len: u16,
    /// IFLA_*, IFA_*, RTA_*.
    pub kind: u16,
}
const _: () = assert!(size_of::<RtAttr>() == 4);

/// struct ifinfomsg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfInfoMsg {
    /// AF_UNSPEC
    pub family: u8,
    /// Zero.
    pub pad: u8,
    /// ARPHRD_*
    pub kind: u16,
    /// Interface index.
    pub index: i32,
    /// IFF_*
    pub flags: u32,
    /// Change mask.
    pub change: u32,
}
const _: () = assert!(size_of::<IfInfoMsg>() == 16);

/// struct ifaddrmsg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfAddrMsg {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// Prefix length in bits.
    pub prefixlen: u8,
    /// IFA_F_*
    pub flags: u8,
    /// RT_SCOPE_*
    pub scope: u8,
    /// Interface index.
    pub index: u32,
}
const _: () = assert!(size_of::<IfAddrMsg>() == 8);

/// struct rtmsg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtMsg {
    /// AF_*
    pub family: u8,
    /// Destination prefix length in bits.
    pub dst_len: u8,
    /// Source prefix length in bits.
    pub src_len: u8,
    /// Type of service.
    pub tos: u8,
    /// RT_TABLE_*
    pub table: u8,
    /// RTPROT_*
    pub protocol: u8,
    /// RT_SCOPE_*
    pub scope: u8,
    /// RTN_*
    pub kind: u8,
    /// RTM_F_*
    pub flags: u32,
}
const _: () = assert!(size_of::<RtMsg>() == 12);

/// struct ndmsg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NdMsg {
    /// AF_*
    pub family: u8,
    /// Zero.
    pub pad1: u8,
    /// Zero.
    pub pad2: u16,
    /// Interface index.
    pub ifindex: i32,
    /// NUD_*
    pub state: u16,
    /// NTF_*
    pub flags: u8,
    /// RTN_*
    pub kind: u8,
}
const _: () = assert!(size_of::<NdMsg>() == 12);

/// struct genlmsghdr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GenlMsgHdr {
    /// The command.
    pub command: u8,
    /// Its version.
    pub version: u8,
    /// Zero.
    pub reserved: u16,
}
const _: () = assert!(size_of::<GenlMsgHdr>() == 4);

/// struct rtnexthop.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtNextHop {
    /// Bytes with the attributes that follow.
    pub len: u16,
    /// RTNH_F_*
    pub flags: u8,
    /// Weight less one.
    pub hops: u8,
    /// Interface index.
    pub ifindex: i32,
}
const _: () = assert!(size_of::<RtNextHop>() == 8);

/// struct fib_rule_hdr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FibRuleHdr {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// Destination prefix length in bits.
    pub dst_len: u8,
    /// Source prefix length in bits.
    pub src_len: u8,
    /// Type of service.
    pub tos: u8,
    /// RT_TABLE_*
    pub table: u8,
    /// Zero.
    pub res1: u8,
    /// Zero.
    pub res2: u8,
    /// FR_ACT_*
    pub action: u8,
    /// FIB_RULE_*
    pub flags: u32,
}
const _: () = assert!(size_of::<FibRuleHdr>() == 12);

/// struct ndtmsg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NdtMsg {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// Zero.
    pub pad1: u8,
    /// Zero.
    pub pad2: u16,
}
const _: () = assert!(size_of::<NdtMsg>() == 4);

/// struct tcmsg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcMsg {
    /// AF_UNSPEC
    pub family: u8,
    /// Zero.
    pub pad1: u8,
    /// Zero.
    pub pad2: u16,
    /// Interface index.
    pub ifindex: i32,
    /// Handle of the discipline.
    pub handle: u32,
    /// Where it hangs.
    pub parent: u32,
    /// References.
    pub info: u32,
}
const _: () = assert!(size_of::<TcMsg>() == 20);

/// struct ifaddrlblmsg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfAddrLblMsg {
    /// AF_INET6
    pub family: u8,
    /// Zero.
    pub reserved: u8,
    /// Prefix length in bits.
    pub prefixlen: u8,
    /// Zero.
    pub flags: u8,
    /// Interface index.
    pub index: u32,
    /// Sequence number of the table.
    pub seq: u32,
}
const _: () = assert!(size_of::<IfAddrLblMsg>() == 12);

//! Netlink and its route family (linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { i32:
    NETLINK_ROUTE = 0; NETLINK_SOCK_DIAG = 4; NETLINK_AUDIT = 9; NETLINK_NETFILTER = 12; NETLINK_KOBJECT_UEVENT = 15; NETLINK_GENERIC = 16;
    NETLINK_ADD_MEMBERSHIP = 1; NETLINK_DROP_MEMBERSHIP = 2; NETLINK_PKTINFO = 3; NETLINK_BROADCAST_ERROR = 4; NETLINK_NO_ENOBUFS = 5;
    NETLINK_LIST_MEMBERSHIPS = 9; NETLINK_CAP_ACK = 10; NETLINK_EXT_ACK = 11; NETLINK_GET_STRICT_CHK = 12;
}

numbers! { u16:
    NLM_F_REQUEST = 1; NLM_F_MULTI = 2; NLM_F_ACK = 4; NLM_F_ECHO = 8; NLM_F_DUMP_INTR = 0x10; NLM_F_ROOT = 0x100; NLM_F_MATCH = 0x200;
    NLM_F_DUMP = 0x300;
    NLMSG_NOOP = 1; NLMSG_ERROR = 2; NLMSG_DONE = 3; NLMSG_MIN_TYPE = 0x10;
    RTM_NEWLINK = 16; RTM_DELLINK = 17; RTM_GETLINK = 18; RTM_SETLINK = 19; RTM_NEWADDR = 20; RTM_DELADDR = 21; RTM_GETADDR = 22;
    RTM_NEWROUTE = 24; RTM_DELROUTE = 25; RTM_GETROUTE = 26; RTM_NEWNEIGH = 28; RTM_DELNEIGH = 29; RTM_GETNEIGH = 30;
    RTM_NEWRULE = 32; RTM_GETRULE = 34; RTM_GETQDISC = 38; RTM_GETSTATS = 94; RTM_MAX = 123;
    IFLA_ADDRESS = 1; IFLA_BROADCAST = 2; IFLA_IFNAME = 3; IFLA_MTU = 4; IFLA_QDISC = 6; IFLA_STATS = 7; IFLA_TXQLEN = 13; IFLA_OPERSTATE = 16;
    IFLA_LINKMODE = 17; IFLA_STATS64 = 23; IFLA_GROUP = 27; IFLA_EXT_MASK = 29; IFLA_ALT_IFNAME = 53;
    IFA_ADDRESS = 1; IFA_LOCAL = 2; IFA_LABEL = 3; IFA_BROADCAST = 4; IFA_CACHEINFO = 6; IFA_FLAGS = 8;
    RTA_DST = 1; RTA_SRC = 2; RTA_IIF = 3; RTA_OIF = 4; RTA_GATEWAY = 5; RTA_PRIORITY = 6; RTA_PREFSRC = 7; RTA_METRICS = 8; RTA_CACHEINFO = 12;
    RTA_TABLE = 15; RTA_PREF = 20;
    NDA_DST = 1; NDA_LLADDR = 2;
    ARPHRD_ETHER = 1; ARPHRD_NETROM = 0; ARPHRD_LOOPBACK = 772;
}

numbers! { u8:
    RT_TABLE_MAIN = 254; RT_TABLE_LOCAL = 255; RTPROT_KERNEL = 2; RTPROT_BOOT = 3; RT_SCOPE_UNIVERSE = 0; RT_SCOPE_LINK = 253;
    RT_SCOPE_HOST = 254; RTN_UNICAST = 1; RTN_LOCAL = 2; IFA_F_PERMANENT = 0x80; IF_OPER_UNKNOWN = 0; IF_OPER_DOWN = 2; IF_OPER_UP = 6;
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

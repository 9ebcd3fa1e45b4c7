//! What sockets tell of each other (linux/sock_diag.h, inet_diag.h, unix_diag.h, netlink_diag.h, packet_diag.h; sock_diag(7)).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { u16:
    TCPDIAG_GETSOCK = 18; DCCPDIAG_GETSOCK = 19; SOCK_DIAG_BY_FAMILY = 20; SOCK_DESTROY = 21;
    INET_DIAG_MEMINFO = 1; INET_DIAG_INFO = 2; INET_DIAG_VEGASINFO = 3; INET_DIAG_CONG = 4; INET_DIAG_TOS = 5; INET_DIAG_TCLASS = 6;
    INET_DIAG_SKMEMINFO = 7; INET_DIAG_SHUTDOWN = 8; INET_DIAG_DCTCPINFO = 9; INET_DIAG_PROTOCOL = 10; INET_DIAG_SKV6ONLY = 11;
    INET_DIAG_PAD = 14; INET_DIAG_MARK = 15; INET_DIAG_BBRINFO = 16; INET_DIAG_CLASS_ID = 17; INET_DIAG_SOCKOPT = 22;
    INET_DIAG_REQ_BYTECODE = 1; INET_DIAG_REQ_PROTOCOL = 3;
    UNIX_DIAG_NAME = 0; UNIX_DIAG_VFS = 1; UNIX_DIAG_PEER = 2; UNIX_DIAG_ICONS = 3; UNIX_DIAG_RQLEN = 4; UNIX_DIAG_MEMINFO = 5;
    UNIX_DIAG_SHUTDOWN = 6; UNIX_DIAG_UID = 7;
    NETLINK_DIAG_MEMINFO = 0; NETLINK_DIAG_GROUPS = 1; NETLINK_DIAG_FLAGS = 4;
    PACKET_DIAG_INFO = 0; PACKET_DIAG_UID = 4; PACKET_DIAG_MEMINFO = 5;
}

numbers! { u32:
    UDIAG_SHOW_NAME = 1; UDIAG_SHOW_VFS = 2; UDIAG_SHOW_PEER = 4; UDIAG_SHOW_ICONS = 8; UDIAG_SHOW_RQLEN = 0x10; UDIAG_SHOW_MEMINFO = 0x20;
    UDIAG_SHOW_UID = 0x40;
    NDIAG_SHOW_MEMINFO = 1; NDIAG_SHOW_GROUPS = 2; NDIAG_SHOW_FLAGS = 8;
    NDIAG_FLAG_CB_RUNNING = 1; NDIAG_FLAG_PKTINFO = 2; NDIAG_FLAG_BROADCAST_ERROR = 4; NDIAG_FLAG_NO_ENOBUFS = 8; NDIAG_FLAG_CAP_ACK = 0x20;
    /// A cookie of which each half is this stands for any.
    INET_DIAG_NOCOOKIE = 0xffff_ffff;
}

numbers! { u8:
    INET_DIAG_BC_NOP = 0; INET_DIAG_BC_JMP = 1; INET_DIAG_BC_S_GE = 2; INET_DIAG_BC_S_LE = 3; INET_DIAG_BC_D_GE = 4; INET_DIAG_BC_D_LE = 5;
    INET_DIAG_BC_AUTO = 6; INET_DIAG_BC_S_COND = 7; INET_DIAG_BC_D_COND = 8; INET_DIAG_BC_DEV_COND = 9; INET_DIAG_BC_MARK_COND = 10;
    INET_DIAG_BC_S_EQ = 11; INET_DIAG_BC_D_EQ = 12; INET_DIAG_BC_CGROUP_COND = 13;
    NDIAG_PROTO_ALL = 0xff;
}

/// struct inet_diag_sockid.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagSockId {
    /// Our port, in network order.
    pub sport: [u8; 2],
    /// The peer's port.
    pub dport: [u8; 2],
    /// Our address; IPv4 fills the first four bytes.
    pub src: [u8; 16],
    /// The peer's address.
    pub dst: [u8; 16],
    /// Interface that the socket is bound to.
    pub interface: u32,
    /// Cookie, low half first.
    pub cookie: [u32; 2],
}
const _: () = assert!(size_of::<InetDiagSockId>() == 48);

/// struct inet_diag_req_v2.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagReqV2 {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// IPPROTO_*
    pub protocol: u8,
    /// INET_DIAG_* that are wanted, a bit each from MEMINFO on.
    pub ext: u8,
    /// For raw sockets the protocol of the socket.
    pub raw_protocol: u8,
    /// TCP_* states that are wanted, a bit each.
    pub states: u32,
    /// Which socket.
    pub id: InetDiagSockId,
}
const _: () = assert!(size_of::<InetDiagReqV2>() == 56);

/// struct inet_diag_msg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagMsg {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// TCP_*
    pub state: u8,
    /// 0 none, 1 retransmission, 2 keepalive, 3 TIME-WAIT, 4 window probe.
    pub timer: u8,
    /// How often that timer has run without success.
    pub retrans: u8,
    /// Which socket.
    pub id: InetDiagSockId,
    /// Milliseconds until the timer runs.
    pub expires: u32,
    /// Bytes to be read; for a listener connections to be accepted.
    pub rqueue: u32,
    /// Bytes not acknowledged; for a listener the backlog.
    pub wqueue: u32,
    /// Owner.
    pub uid: u32,
    /// Inode number.
    pub inode: u32,
}
const _: () = assert!(size_of::<InetDiagMsg>() == 72);

/// struct inet_diag_bc_op.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagBcOp {
    /// INET_DIAG_BC_*
    pub code: u8,
    /// Bytes to go on when it holds.
    pub yes: u8,
    /// Bytes to go on when it does not.
    pub no: u16,
}
const _: () = assert!(size_of::<InetDiagBcOp>() == 4);

/// struct inet_diag_hostcond without its address.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagHostCond {
    /// AF_*; AF_UNSPEC looks at the port alone.
    pub family: u8,
    /// Bits of the address that count.
    pub prefix_len: u8,
    /// Zero.
    pub pad: u16,
    /// Port, or -1 for any.
    pub port: i32,
}
const _: () = assert!(size_of::<InetDiagHostCond>() == 8);

/// struct inet_diag_meminfo.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InetDiagMemInfo {
    /// Bytes in the receive queue.
    pub rmem: u32,
    /// Bytes in the send queue.
    pub wmem: u32,
    /// Bytes set aside.
    pub fmem: u32,
    /// Bytes on their way.
    pub tmem: u32,
}
const _: () = assert!(size_of::<InetDiagMemInfo>() == 16);

/// struct unix_diag_req.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixDiagReq {
    /// AF_UNIX
    pub family: u8,
    /// Zero.
    pub protocol: u8,
    /// Zero.
    pub pad: u16,
    /// TCP_* states that are wanted, a bit each.
    pub states: u32,
    /// Which socket, where not all are wanted.
    pub ino: u32,
    /// UDIAG_SHOW_*
    pub show: u32,
    /// Cookie.
    pub cookie: [u32; 2],
}
const _: () = assert!(size_of::<UnixDiagReq>() == 24);

/// struct unix_diag_msg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnixDiagMsg {
    /// AF_UNIX
    pub family: u8,
    /// SOCK_*
    pub kind: u8,
    /// TCP_*
    pub state: u8,
    /// Zero.
    pub pad: u8,
    /// Inode number.
    pub ino: u32,
    /// Cookie.
    pub cookie: [u32; 2],
}
const _: () = assert!(size_of::<UnixDiagMsg>() == 16);

/// struct netlink_diag_req and struct packet_diag_req.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NetlinkDiagReq {
    /// AF_NETLINK or AF_PACKET.
    pub family: u8,
    /// NETLINK_* or NDIAG_PROTO_ALL.
    pub protocol: u8,
    /// Zero.
    pub pad: u16,
    /// Which socket.
    pub ino: u32,
    /// NDIAG_SHOW_*, PACKET_SHOW_*
    pub show: u32,
    /// Cookie.
    pub cookie: [u32; 2],
}
const _: () = assert!(size_of::<NetlinkDiagReq>() == 20);

/// struct netlink_diag_msg.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NetlinkDiagMsg {
    /// AF_NETLINK
    pub family: u8,
    /// SOCK_*
    pub kind: u8,
    /// NETLINK_*
    pub protocol: u8,
    /// NETLINK_UNCONNECTED (0) or NETLINK_CONNECTED (1).
    pub state: u8,
    /// Port id.
    pub portid: u32,
    /// The peer's port id.
    pub dst_portid: u32,
    /// The peer group.
    pub dst_group: u32,
    /// Inode number.
    pub ino: u32,
    /// Cookie.
    pub cookie: [u32; 2],
}
const _: () = assert!(size_of::<NetlinkDiagMsg>() == 28);

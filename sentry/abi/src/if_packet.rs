//! Packet sockets: addresses, options and the layouts of rings (linux/if_packet.h, linux/if_ether.h, linux/filter.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { i32:
    PACKET_ADD_MEMBERSHIP = 1; PACKET_DROP_MEMBERSHIP = 2; PACKET_RECV_OUTPUT = 3; PACKET_RX_RING = 5; PACKET_STATISTICS = 6;
    PACKET_COPY_THRESH = 7; PACKET_AUXDATA = 8; PACKET_ORIGDEV = 9; PACKET_VERSION = 10; PACKET_HDRLEN = 11; PACKET_RESERVE = 12;
    PACKET_TX_RING = 13; PACKET_LOSS = 14; PACKET_VNET_HDR = 15; PACKET_TX_TIMESTAMP = 16; PACKET_TIMESTAMP = 17; PACKET_FANOUT = 18;
    PACKET_TX_HAS_OFF = 19; PACKET_QDISC_BYPASS = 20; PACKET_ROLLOVER_STATS = 21; PACKET_FANOUT_DATA = 22;
    PACKET_IGNORE_OUTGOING = 23;
    TPACKET_V1 = 0; TPACKET_V2 = 1; TPACKET_V3 = 2;
}

numbers! { u16:
    PACKET_MR_MULTICAST = 0; PACKET_MR_PROMISC = 1; PACKET_MR_ALLMULTI = 2; PACKET_MR_UNICAST = 3;
}

numbers! { u32:
    TP_STATUS_KERNEL = 0; TP_STATUS_USER = 1; TP_STATUS_COPY = 2; TP_STATUS_LOSING = 4; TP_STATUS_CSUMNOTREADY = 8;
    TP_STATUS_BLK_TMO = 0x20; TP_STATUS_CSUM_VALID = 0x80; TP_STATUS_GSO_TCP = 0x100;
    TP_STATUS_TS_SOFTWARE = 0x2000_0000;
}

/// struct sockaddr_ll.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockAddrLl {
    /// AF_PACKET
    pub family: u16,
    /// EtherType, big endian.
    pub protocol: [u8; 2],
    /// Interface index.
    pub ifindex: i32,
    /// ARPHRD_*
    pub hatype: u16,
    /// PACKET_HOST and its kin.
    pub pkttype: u8,
    /// Bytes of the address.
    pub halen: u8,
    /// Link-layer address.
    pub addr: [u8; 8],
}
const _: () = assert!(size_of::<SockAddrLl>() == 20);

/// struct packet_mreq.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PacketMreq {
    /// Interface index.
    pub ifindex: i32,
    /// PACKET_MR_*
    pub kind: u16,
    /// Bytes of the address.
    pub alen: u16,
    /// Link-layer address.
    pub address: [u8; 8],
}
const _: () = assert!(size_of::<PacketMreq>() == 16);

/// struct tpacket_auxdata.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketAuxdata {
    /// TP_STATUS_*
    pub status: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// Bytes that were kept of it.
    pub snaplen: u32,
    /// Where the link header begins.
    pub mac: u16,
    /// Where the network header begins.
    pub net: u16,
    /// VLAN tag.
    pub vlan_tci: u16,
    /// VLAN protocol.
    pub vlan_tpid: u16,
}
const _: () = assert!(size_of::<TpacketAuxdata>() == 20);

/// struct tpacket_req3; its front is struct tpacket_req.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketReq3 {
    /// Bytes of a block.
    pub block_size: u32,
    /// Number of blocks.
    pub block_nr: u32,
    /// Bytes of a frame.
    pub frame_size: u32,
    /// Number of frames.
    pub frame_nr: u32,
    /// Milliseconds after which a block that is not full is given to the program.
    pub retire_blk_tov: u32,
    /// Bytes of each block that are the program's own.
    pub sizeof_priv: u32,
    /// TP_FT_REQ_*
    pub feature_req_word: u32,
}
const _: () = assert!(size_of::<TpacketReq3>() == 28);
/// Bytes of struct tpacket_req.
pub const TPACKET_REQ_LEN: usize = 16;

/// struct tpacket_hdr of the 64-bit ABI.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketHdr {
    /// TP_STATUS_*
    pub status: u64,
    /// Bytes of the frame.
    pub len: u32,
    /// Bytes that were kept of it.
    pub snaplen: u32,
    /// Where the link header begins.
    pub mac: u16,
    /// Where the network header begins.
    pub net: u16,
    /// Seconds.
    pub sec: u32,
    /// Microseconds.
    pub usec: u32,
    /// Padding.
    pub pad: u32,
}
const _: () = assert!(size_of::<TpacketHdr>() == 32);

/// struct tpacket2_hdr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tpacket2Hdr {
    /// TP_STATUS_*
    pub status: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// Bytes that were kept of it.
    pub snaplen: u32,
    /// Where the link header begins.
    pub mac: u16,
    /// Where the network header begins.
    pub net: u16,
    /// Seconds.
    pub sec: u32,
    /// Nanoseconds.
    pub nsec: u32,
    /// VLAN tag.
    pub vlan_tci: u16,
    /// VLAN protocol.
    pub vlan_tpid: u16,
    /// Padding.
    pub pad: u32,
}
const _: () = assert!(size_of::<Tpacket2Hdr>() == 32);

/// struct tpacket3_hdr.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tpacket3Hdr {
    /// Bytes to the next frame of the block; 0 in the last.
    pub next_offset: u32,
    /// Seconds.
    pub sec: u32,
    /// Nanoseconds.
    pub nsec: u32,
    /// Bytes that were kept of it.
    pub snaplen: u32,
    /// Bytes of the frame.
    pub len: u32,
    /// TP_STATUS_*
    pub status: u32,
    /// Where the link header begins.
    pub mac: u16,
    /// Where the network header begins.
    pub net: u16,
    /// Hash of the flow.
    pub rxhash: u32,
    /// VLAN tag.
    pub vlan_tci: u32,
    /// VLAN protocol.
    pub vlan_tpid: u16,
    /// Padding.
    pub pad: [u8; 10],
}
const _: () = assert!(size_of::<Tpacket3Hdr>() == 48);

/// struct tpacket_block_desc with struct tpacket_hdr_v1.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TpacketBlockDesc {
    /// TPACKET_V3.
    pub version: u32,
    /// Where the program's own bytes begin.
    pub offset_to_priv: u32,
    /// TP_STATUS_*
    pub status: u32,
    /// Number of frames.
    pub num_pkts: u32,
    /// Where the first frame begins.
    pub offset_to_first_pkt: u32,
    /// Bytes in use.
    pub blk_len: u32,
    /// Number of the block, from 1.
    pub seq_num: u64,
    /// Time of the first frame: seconds and nanoseconds.
    pub ts_first_pkt: [u32; 2],
    /// Time of the last.
    pub ts_last_pkt: [u32; 2],
}
const _: () = assert!(size_of::<TpacketBlockDesc>() == 48);
/// Where `status` lies in struct tpacket_block_desc.
pub const BLOCK_STATUS_AT: u64 = 8;

/// struct sock_fprog of the 64-bit ABI.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockFprog {
    /// Number of instructions.
    pub len: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// struct sock_filter array.
    pub filter: u64,
}
const _: () = assert!(size_of::<SockFprog>() == 16);

/// struct sock_filter.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockFilter {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// And when it does not.
    pub jf: u8,
    /// A constant.
    pub k: u32,
}
const _: () = assert!(size_of::<SockFilter>() == 8);

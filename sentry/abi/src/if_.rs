//! Network interfaces through ioctl(2) (linux/if.h, linux/sockios.h; netdevice(7)).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { u32:
    IFF_UP = 1; IFF_BROADCAST = 2; IFF_LOOPBACK = 8; IFF_POINTOPOINT = 0x10; IFF_RUNNING = 0x40; IFF_NOARP = 0x80; IFF_PROMISC = 0x100; IFF_ALLMULTI = 0x200;
    IFF_MULTICAST = 0x1000; IFF_LOWER_UP = 0x10000;
    SIOCGIFNAME = 0x8910; SIOCGIFCONF = 0x8912; SIOCGIFFLAGS = 0x8913; SIOCSIFFLAGS = 0x8914; SIOCGIFADDR = 0x8915; SIOCSIFADDR = 0x8916;
    SIOCGIFDSTADDR = 0x8917; SIOCGIFBRDADDR = 0x8919; SIOCGIFNETMASK = 0x891b; SIOCSIFNETMASK = 0x891c; SIOCGIFMETRIC = 0x891d;
    SIOCGIFMTU = 0x8921; SIOCSIFMTU = 0x8922; SIOCGIFHWADDR = 0x8927; SIOCGIFINDEX = 0x8933; SIOCGIFTXQLEN = 0x8942; SIOCETHTOOL = 0x8946;
    SIOCGIFMAP = 0x8970; SIOCADDRT = 0x890b; SIOCDELRT = 0x890c; SIOCSIFNAME = 0x8923; SIOCSIFHWADDR = 0x8924; SIOCSIFMETRIC = 0x891e;
    SIOCSIFDSTADDR = 0x8918; SIOCSIFBRDADDR = 0x891a; SIOCSIFTXQLEN = 0x8943; SIOCSIFMAP = 0x8971; SIOCSIFHWBROADCAST = 0x8937;
    SIOCADDMULTI = 0x8931; SIOCDELMULTI = 0x8932; SIOCDARP = 0x8953; SIOCGARP = 0x8954; SIOCSARP = 0x8955; SIOCOUTQNSD = 0x894b;
    ETHTOOL_GDRVINFO = 3; ETHTOOL_GLINK = 0xa;
}

/// Length of an interface name with its zero byte.
pub const IFNAMSIZ: usize = 16;

/// struct ifreq: a name and a union of 24 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfReq {
    /// Name, zero-terminated.
    pub name: [u8; IFNAMSIZ],
    /// Address, flags, index, MTU or hardware address.
    pub data: [u8; 24],
}
const _: () = assert!(size_of::<IfReq>() == 40);

/// struct ifconf.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IfConf {
    /// Bytes in the buffer.
    pub len: i32,
    /// Padding.
    pub pad: u32,
    /// Array of struct ifreq, or null to ask for the length.
    pub buf: u64,
}
const _: () = assert!(size_of::<IfConf>() == 16);

/// struct rtentry.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtEntry {
    /// Zero.
    pub pad1: u64,
    /// Destination, a struct sockaddr.
    pub dst: [u8; 16],
    /// Gateway.
    pub gateway: [u8; 16],
    /// Mask of the destination.
    pub genmask: [u8; 16],
    /// RTF_*
    pub flags: u16,
    /// Zero.
    pub pad2: [u16; 3],
    /// Zero.
    pub pad3: u64,
    /// Null.
    pub pad4: u64,
    /// Metric plus one.
    pub metric: i16,
    /// Zero.
    pub pad5: [u16; 3],
    /// Name of the interface.
    pub dev: u64,
    /// MTU in bytes.
    pub mtu: u64,
    /// Window in bytes.
    pub window: u64,
    /// First round-trip time in milliseconds.
    pub irtt: u16,
    /// Zero.
    pub pad6: [u16; 3],
}
const _: () = assert!(size_of::<RtEntry>() == 120);

/// struct arpreq.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArpReq {
    /// Protocol address, a struct sockaddr.
    pub pa: [u8; 16],
    /// Link-layer address.
    pub ha: [u8; 16],
    /// ATF_*
    pub flags: i32,
    /// Mask of a proxied prefix.
    pub netmask: [u8; 16],
    /// Name of the interface.
    pub dev: [u8; 16],
}
const _: () = assert!(size_of::<ArpReq>() == 68);

//! Network interfaces through ioctl(2) (linux/if.h, linux/sockios.h; netdevice(7)).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::socket::numbers;

numbers! { u32:
    IFF_UP = 1; IFF_BROADCAST = 2; IFF_LOOPBACK = 8; IFF_POINTOPOINT = 0x10; IFF_RUNNING = 0x40; IFF_NOARP = 0x80; IFF_PROMISC = 0x100;
    IFF_MULTICAST = 0x1000; IFF_LOWER_UP = 0x10000;
    SIOCGIFNAME = 0x8910; SIOCGIFCONF = 0x8912; SIOCGIFFLAGS = 0x8913; SIOCSIFFLAGS = 0x8914; SIOCGIFADDR = 0x8915; SIOCSIFADDR = 0x8916;
    SIOCGIFDSTADDR = 0x8917; SIOCGIFBRDADDR = 0x8919; SIOCGIFNETMASK = 0x891b; SIOCSIFNETMASK = 0x891c; SIOCGIFMETRIC = 0x891d;
    SIOCGIFMTU = 0x8921; SIOCSIFMTU = 0x8922; SIOCGIFHWADDR = 0x8927; SIOCGIFINDEX = 0x8933; SIOCGIFTXQLEN = 0x8942; SIOCETHTOOL = 0x8946;
    SIOCGIFMAP = 0x8970;
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

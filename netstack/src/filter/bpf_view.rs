//! A packet as a classic BPF filter sees it: the bytes from the socket's front on, the headers before them by negative offsets, and
//! what else is known of it (linux/filter.h, SKF_AD_*).

use crate::buffer::PacketBuffer;
use crate::ip::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};
use crate::wire::ethernet::{TYPE_IPV4, TYPE_IPV6};

/// Offsets from here on (below zero) count from the network header (SKF_NET_OFF).
const NETWORK: i64 = -0x10_0000;
/// Offsets from here on count from the link header (SKF_LL_OFF).
const LINK: i64 = -0x20_0000;

// What an ancillary load asks for (SKF_AD_*).
const PROTOCOL: u32 = 0;
const PACKET_TYPE: u32 = 4;
const IFINDEX: u32 = 8;
const NLATTR: u32 = 12;
const NLATTR_NEST: u32 = 16;
const MARK: u32 = 20;
const QUEUE: u32 = 24;
const HARDWARE_TYPE: u32 = 28;
const HASH: u32 = 32;
const CPU: u32 = 36;
const XOR_X: u32 = 40;
const VLAN_TAG: u32 = 44;
const VLAN_PRESENT: u32 = 48;
const PAYLOAD_OFFSET: u32 = 52;
const RANDOM: u32 = 56;
const VLAN_PROTOCOL: u32 = 60;

/// A packet and what is known of it.
pub struct View<'a> {
    /// The packet from where the socket sees it.
    pub packet: &'a PacketBuffer,
    /// The headers that lie before it, as far as they are known.
    pub before: &'a [u8],
    /// Where the network header begins, from the packet's front; 0 or less for headers that lie before it.
    pub network_at: i64,
    /// Where the link header begins, likewise; None where there is none.
    pub link_at: Option<i64>,
    /// The EtherType.
    pub protocol: u16,
    /// PACKET_HOST and its kin.
    pub packet_type: u8,
    /// The interface.
    pub ifindex: u32,
    /// ARPHRD_* of the interface.
    pub hardware_type: u16,
    /// The packet's mark.
    pub mark: u32,
    /// A source of random numbers.
    pub random: &'a dyn Fn() -> u32,
}

impl View<'_> {
    /// Whether an ancillary load is one that Linux has.
    pub(super) fn knows(what: u32) -> bool {
        what <= VLAN_PROTOCOL && what.is_multiple_of(4)
    }

    /// How many bytes the socket sees.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.packet.len()).unwrap_or(u32::MAX)
    }

    /// The big-endian number of `size` bytes (at most 4) at an offset; None outside of the packet.
    pub(super) fn read(&self, offset: i64, size: usize) -> Option<u32> {
        let at = match offset {
            0.. => offset,
            NETWORK..0 => offset - NETWORK + self.network_at,
            LINK..NETWORK => offset - LINK + self.link_at?,
            _ => return None,
        };
        self.number_at(at, size)
    }

    /// As `read`, with the offset from the packet's front alone.
    fn number_at(&self, at: i64, size: usize) -> Option<u32> {
        let mut bytes = [0; 4];
        let out = bytes.get_mut(4 - size..)?;
        let before = usize::try_from(-at).unwrap_or(0).min(size);
        let (lead, rest) = out.split_at_mut(before);
        if !lead.is_empty() {
            let start = i64::try_from(self.before.len()).ok()? + at;
            let start = usize::try_from(start).ok()?;
            lead.copy_from_slice(self.before.get(start..start + before)?);
        }
        let from = usize::try_from(at.max(0)).ok()?;
        self.packet.copy_at(from, rest).then_some(u32::from_be_bytes(bytes))
    }

    /// What an ancillary load gives; `a` and `x` are the registers.
    pub(super) fn ancillary(&self, what: u32, a: u32, x: u32) -> Option<u32> {
        Some(match what {
            PROTOCOL => u32::from(self.protocol),
            PACKET_TYPE => u32::from(self.packet_type),
            IFINDEX => self.ifindex,
            NLATTR => self.attribute(a, self.len(), x),
            NLATTR_NEST => {
                // The attribute at A; its own attributes begin behind its header.
                let len = self.attribute_len(a).filter(|len| *len <= self.len().saturating_sub(a));
                len.map_or(0, |len| self.attribute(a.saturating_add(4), a.saturating_add(len), x))
            }
            MARK => self.mark,
            HARDWARE_TYPE => u32::from(self.hardware_type),
            XOR_X => a ^ x,
            PAYLOAD_OFFSET => self.payload_offset(),
            RANDOM => (self.random)(),
            // One queue, no hash of a device's, no tag apart from the frame; the processor is not told.
            QUEUE | HASH | CPU | VLAN_TAG | VLAN_PRESENT | VLAN_PROTOCOL => 0,
            _ => return None,
        })
    }

    /// A number of two bytes in the machine's order, as netlink has them.
    fn native_at(&self, at: i64) -> Option<u32> {
        let bytes = (self.number_at(at, 2)? as u16).to_be_bytes();
        Some(u32::from(u16::from_ne_bytes(bytes)))
    }

    /// The length of the netlink attribute at an offset, with its header.
    fn attribute_len(&self, at: u32) -> Option<u32> {
        self.native_at(i64::from(at)).filter(|len| *len >= 4)
    }

    /// The offset of the netlink attribute of a kind between two offsets; 0 when there is none.
    fn attribute(&self, from: u32, end: u32, kind: u32) -> u32 {
        let mut at = from;
        while at < end {
            let Some(len) = self.attribute_len(at).filter(|len| *len <= end - at) else { return 0 };
            if self.native_at(i64::from(at) + 2).map(|found| found & 0x3fff) == Some(kind) {
                return at;
            }
            at = at.saturating_add(len.next_multiple_of(4));
        }
        0
    }

    /// Where the payload behind the transport header begins, from the packet's front; 0 where there is no IP.
    fn payload_offset(&self) -> u32 {
        let number = |at, size| self.number_at(self.network_at + at, size);
        let found = (|| {
            let (protocol, transport) = match self.protocol {
                TYPE_IPV4 => (number(9, 1)?, i64::from(number(0, 1)? & 0xf) * 4),
                TYPE_IPV6 => (number(6, 1)?, 40),
                _ => return None,
            };
            let header = match u8::try_from(protocol).ok()? {
                PROTO_TCP => i64::from(number(transport + 12, 1)? >> 4) * 4,
                PROTO_UDP | PROTO_ICMP | PROTO_ICMPV6 | 2 | 136 => 8,
                132 => 12,
                _ => 0,
            };
            u32::try_from(self.network_at + transport + header).ok()
        })();
        found.unwrap_or(0).min(self.len())
    }
}

//! ARP for IPv4 over Ethernet (RFC 826), over smoltcp's codec.

use core::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

use super::ethernet::MacAddr;

/// Bytes of a packet.
pub const LEN: usize = 28;

/// A request or a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Question or answer.
    pub operation: Operation,
    /// Who sends it.
    pub sender: (MacAddr, Ipv4Addr),
    /// Who is meant; in a request the MAC address is zero.
    pub target: (MacAddr, Ipv4Addr),
}

/// What a packet does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has it.
    Reply,
}

impl Arp {
    /// Reads a packet; None when it is short, or not about IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Option<Arp> {
        let mut bytes = *bytes.first_chunk::<LEN>()?;
        // Linux takes the hardware type of IEEE 802 for Ethernet (arp_process).
        if bytes[..2] == [0, 6] {
            bytes[1] = 1;
        }
        let packet = ArpPacket::new_checked(&bytes[..]).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let operation = match operation {
            ArpOperation::Request => Operation::Request,
            ArpOperation::Reply => Operation::Reply,
            ArpOperation::Unknown(_) => return None,
        };
        Some(Arp {
            operation,
            sender: (MacAddr(source_hardware_addr.0), source_protocol_addr),
            target: (MacAddr(target_hardware_addr.0), target_protocol_addr),
        })
    }

    /// Writes the packet.
    pub fn emit(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let repr = ArpRepr::EthernetIpv4 {
            operation: match self.operation {
                Operation::Request => ArpOperation::Request,
                Operation::Reply => ArpOperation::Reply,
            },
            source_hardware_addr: EthernetAddress(self.sender.0.0),
            source_protocol_addr: self.sender.1,
            target_hardware_addr: EthernetAddress(self.target.0.0),
            target_protocol_addr: self.target.1,
        };
        repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        bytes
    }
}

//! Frames as packet sockets see and send them.

use std::sync::Arc;

use super::Stack;
use super::nic::Nic;
use crate::buffer::PacketBuffer;
use crate::ip::{IpError, LinkInfo};
use crate::link::{Direction, MacAddr, NicId, NicKind};
use crate::time::Instant;
use crate::transport::packet::{PacketType, Place, Seen};
use crate::wire::ethernet::{self, Ethernet, TYPE_IPV4, TYPE_IPV6};

/// The least EtherType; what is below is a length (IEEE 802.3 section 3.2.6).
const ETHERTYPE_MIN: u16 = 0x600;
/// ETH_P_802_3: Novell's raw frames.
const PROTOCOL_802_3: u16 = 1;
/// ETH_P_802_2: frames with a length and an LLC header.
const PROTOCOL_802_2: u16 = 4;

/// The protocol of a frame, as Linux's eth_type_trans finds it.
fn protocol_of(frame: &PacketBuffer) -> u16 {
    let mut bytes = [0; 4];
    // A frame without payload has no checksum of Novell's to look at.
    if !frame.copy_at(12, &mut bytes) && !frame.copy_at(12, &mut bytes[..2]) {
        return 0;
    }
    let [high, low, payload @ ..] = bytes;
    match u16::from_be_bytes([high, low]) {
        ethertype if ethertype >= ETHERTYPE_MIN => ethertype,
        _ if payload == [0xff; 2] => PROTOCOL_802_3,
        _ => PROTOCOL_802_2,
    }
}

/// The EtherType of a bare IP packet.
fn ethertype_of(packet: &PacketBuffer) -> u16 {
    let mut first = [0];
    packet.copy_at(0, &mut first);
    if first[0] >> 4 == 6 { TYPE_IPV6 } else { TYPE_IPV4 }
}

/// How a received frame is addressed. The loopback interface has no broadcast address, so that there it is a group's.
pub(super) fn packet_type(nic: &Nic, dst: MacAddr) -> PacketType {
    match dst {
        MacAddr::BROADCAST if !nic.is_loopback() => PacketType::Broadcast,
        dst if dst.is_multicast() => PacketType::Multicast,
        dst if dst == nic.mac => PacketType::Host,
        _ => PacketType::OtherHost,
    }
}

/// An IP packet with the Ethernet header that it has on the loopback interface.
pub(super) fn with_loopback_header(packet: &PacketBuffer) -> PacketBuffer {
    let mut whole = packet.clone();
    let (dst, src, ethertype) = (MacAddr::ZERO, MacAddr::ZERO, ethertype_of(packet));
    Ethernet { dst, src, ethertype }.emit(whole.prepend());
    whole
}

impl Stack {
    /// Shows a frame (on the loopback interface a bare IP packet) to packet sockets, but for the one that sent it.
    pub(super) fn show(
        &self,
        now: Instant,
        nic: &Nic,
        (packet_type, sender): (PacketType, Option<Place>),
        frame: &PacketBuffer,
    ) {
        if self.shared.packets.is_empty() {
            return;
        }
        if nic.kind == NicKind::Ethernet {
            return self.show_frame(now, nic, packet_type, frame, sender);
        }
        self.show_frame(now, nic, packet_type, &with_loopback_header(frame), None);
    }

    fn show_frame(
        &self,
        now: Instant,
        nic: &Nic,
        packet_type: PacketType,
        frame: &PacketBuffer,
        sender: Option<Place>,
    ) {
        let (protocol, kind) = (protocol_of(frame), nic.kind);
        let seen = Seen { now, nic: nic.id, kind, packet_type, protocol, frame };
        self.shared.packets.show(&seen, sender);
    }

    /// What a packet socket has to know of an interface.
    pub(super) fn link_info(&self, nic: NicId) -> Option<LinkInfo> {
        let topology = self.topology();
        let nic = topology.nic(nic)?;
        Some(LinkInfo { kind: nic.kind, mac: nic.mac, mtu: nic.mtu(), up: nic.is_up() })
    }

    /// Sends a whole frame with its Ethernet header, past everything but the link.
    pub(super) fn transmit_frame(
        &self,
        now: Instant,
        nic: NicId,
        mut frame: PacketBuffer,
        sender: Option<Place>,
    ) -> Result<(), IpError> {
        let topology = self.topology();
        let nic = topology.nic(nic).ok_or(IpError::NoDevice)?;
        if !nic.is_up() {
            return Err(IpError::NetworkDown);
        }
        let sent = match nic.kind {
            NicKind::Ethernet => self.transmit_one(now, nic, &mut frame, sender),
            NicKind::Loopback => {
                self.loop_frame(now, nic, frame, sender);
                Ok(())
            }
        };
        self.drain_looped(now);
        sent
    }

    /// A frame over the loopback interface: IP comes back to us; of anything else only packet sockets hear.
    fn loop_frame(
        &self,
        now: Instant,
        nic: &Arc<Nic>,
        mut frame: PacketBuffer,
        sender: Option<Place>,
    ) {
        self.show_frame(now, nic, PacketType::Outgoing, &frame, sender);
        self.count_sent(nic, &frame);
        let protocol = protocol_of(&frame);
        if matches!(protocol, TYPE_IPV4 | TYPE_IPV6) {
            frame.advance(ethernet::HEADER_LEN);
            if !frame.is_empty() && ethertype_of(&frame) == protocol {
                self.tap(now, nic, Direction::Sent, &frame);
                return self.loop_back(nic, frame);
            }
        }
        nic.stats.rx_packets.inc();
        nic.stats.rx_bytes.add(frame.len() as u64);
        nic.stats.rx_dropped.inc();
        let mut dst = [0; 6];
        frame.copy_at(0, &mut dst);
        self.show_frame(now, nic, packet_type(nic, MacAddr(dst)), &frame, None);
    }
}

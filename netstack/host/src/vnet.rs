//! struct virtio_net_hdr (linux/virtio_net.h): what stands before each frame of a TAP device or packet socket with offloads.

use netstack::buffer::{ChecksumOffload, CwrOf, Gso, GsoKind, PacketBuffer};

/// Its size in bytes.
pub const HEADER: usize = 10;

const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;
const VIRTIO_NET_HDR_F_DATA_VALID: u8 = 2;
const VIRTIO_NET_HDR_GSO_NONE: u8 = 0;
const VIRTIO_NET_HDR_GSO_TCPV4: u8 = 1;
const VIRTIO_NET_HDR_GSO_TCPV6: u8 = 4;
const VIRTIO_NET_HDR_GSO_UDP_L4: u8 = 5;
const VIRTIO_NET_HDR_GSO_ECN: u8 = 0x80;

/// Notes what a virtio-net header says of a received frame.
pub fn read(header: &[u8; HEADER], packet: &mut PacketBuffer) {
    let [flags, gso_type, _, _, size_lo, size_hi, start_lo, start_hi, offset_lo, offset_hi] =
        *header;
    if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
        // The host's own kernel left the sum to us because the frame never crossed a wire.
        packet.offload.rx_verified = true;
        packet.offload.checksum = ChecksumOffload::Partial {
            start: u16::from_ne_bytes([start_lo, start_hi]),
            offset: u16::from_ne_bytes([offset_lo, offset_hi]),
        };
    } else if flags & VIRTIO_NET_HDR_F_DATA_VALID != 0 {
        packet.offload.rx_verified = true;
    }
    if gso_type & VIRTIO_NET_HDR_GSO_ECN != 0 {
        packet.offload.cwr = CwrOf::First;
    }
    let size = u16::from_ne_bytes([size_lo, size_hi]);
    packet.offload.gso = match gso_type & !VIRTIO_NET_HDR_GSO_ECN {
        VIRTIO_NET_HDR_GSO_TCPV4 => Some(Gso { kind: GsoKind::Tcp4, size }),
        VIRTIO_NET_HDR_GSO_TCPV6 => Some(Gso { kind: GsoKind::Tcp6, size }),
        VIRTIO_NET_HDR_GSO_UDP_L4 => Some(Gso { kind: GsoKind::Udp, size }),
        _ => None,
    };
}

/// The virtio-net header of a frame to send.
pub fn header(frame: &PacketBuffer) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[1] = VIRTIO_NET_HDR_GSO_NONE;
    let ChecksumOffload::Partial { start, offset } = frame.offload.checksum else { return header };
    header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    header[6..8].copy_from_slice(&start.to_ne_bytes());
    header[8..10].copy_from_slice(&offset.to_ne_bytes());
    if let Some(gso) = frame.offload.gso {
        header[1] = match gso.kind {
            GsoKind::Tcp4 => VIRTIO_NET_HDR_GSO_TCPV4,
            GsoKind::Tcp6 => VIRTIO_NET_HDR_GSO_TCPV6,
            GsoKind::Udp => VIRTIO_NET_HDR_GSO_UDP_L4,
        };
        if frame.offload.cwr == CwrOf::First {
            header[1] |= VIRTIO_NET_HDR_GSO_ECN;
        }
        let transport = match gso.kind {
            GsoKind::Udp => 8,
            _ => {
                let data_offset =
                    frame.head().get(usize::from(start) + 12).copied().unwrap_or(0x50);
                u16::from(data_offset >> 4) * 4
            }
        };
        header[2..4].copy_from_slice(&start.saturating_add(transport).to_ne_bytes());
        header[4..6].copy_from_slice(&gso.size.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vnet_headers_round_trip_offloads() {
        let mut frame = PacketBuffer::from_slice(&[0; 100]);
        frame.offload.checksum = ChecksumOffload::Partial { start: 34, offset: 16 };
        frame.offload.gso = Some(Gso { kind: GsoKind::Tcp6, size: 1400 });
        let mut parsed = PacketBuffer::from_slice(&frame.to_vec());
        read(&header(&frame), &mut parsed);
        assert_eq!(parsed.offload.checksum, frame.offload.checksum);
        assert_eq!(parsed.offload.gso, frame.offload.gso);
        assert!(parsed.offload.rx_verified);
    }
}

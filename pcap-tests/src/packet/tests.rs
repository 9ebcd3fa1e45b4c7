//! Frames of each kind, every flipped bit and every truncation.

use super::*;

fn syn() -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([8, 0]);
    let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let check = !(sum(&ip, 0) as u16);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    let mut tcp = vec![0, 80, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0];
    let check = !(sum(&tcp, sum(&ip[12..20], 6 + 20)) as u16);
    tcp[16..18].copy_from_slice(&check.to_be_bytes());
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

fn whole(frame: &[u8]) -> Result<Packet<'_>, Fault> {
    dissect(LinkType::Ethernet, frame, frame.len())
}

#[test]
fn a_segment_is_read_and_a_flipped_bit_is_found() {
    let frame = syn();
    let Ok(Packet { body: Body::Tcp(tcp), bad_checksum: None, .. }) = whole(&frame) else {
        panic!("no TCP")
    };
    assert_eq!((tcp.src.1, tcp.dst.1, tcp.seq, tcp.flags), (80, 256, 9, SYN));
    // Bits of the Ethernet header change who it is for, or what it carries, and no checksum.
    for bit in 14 * 8..frame.len() * 8 {
        let mut frame = syn();
        frame[bit / 8] ^= 1 << (bit % 8);
        let unnoticed =
            matches!(whole(&frame), Ok(Packet { body: Body::Tcp(_), bad_checksum: None, .. }));
        assert!(!unnoticed, "bit {bit} was not noticed");
    }
}

#[test]
fn any_truncation_is_an_error_and_a_snapshots_cut_is_none() {
    let frame = syn();
    for len in 0..frame.len() {
        assert!(whole(&frame[..len]).is_err(), "{len} bytes were accepted");
    }
    let mut long = frame.clone();
    long[17] = 240;
    long.extend([7; 40]);
    let packet = dissect(LinkType::Ethernet, &long, 14 + 240).expect("a cut packet");
    let Body::Tcp(tcp) = packet.body else { panic!("no TCP") };
    assert!(packet.cut);
    assert_eq!((tcp.payload_len, tcp.payload.len()), (200, 40));
    // The IPv4 header is whole and was changed; the TCP checksum cannot be known.
    assert_eq!(packet.bad_checksum, Some("IPv4"));
}

#[test]
fn padding_is_no_payload_and_an_error_names_its_flow() {
    let mut frame = syn();
    frame.extend([9; 6]);
    let Body::Tcp(tcp) = whole(&frame).expect("a frame").body else { panic!("no TCP") };
    assert_eq!((tcp.payload_len, tcp.payload), (0, &[][..]));
    let (ip, src, dst) = quoted(&frame[14..14 + 28]).expect("a quoted segment");
    assert_eq!((ip.protocol, src.1, dst.1), (6, 80, 256));
    assert_eq!(quoted(&frame[14..14 + 22]), None);
}

#[test]
fn ip_within_ip_is_read_to_a_depth() {
    let inner = syn().split_off(14);
    let wrap = |inner: Vec<u8>| {
        let total = (inner.len() + 20) as u16;
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 4, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        let check = !(sum(&ip, 0) as u16);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        [ip, inner].concat()
    };
    let once = wrap(inner);
    let packet = dissect(LinkType::RawIp, &once, once.len()).expect("a tunnel");
    assert!(matches!((packet.tunnels, packet.body), (1, Body::Tcp(_))));
    let deep = (0..9).fold(once, |inner, _| wrap(inner));
    let packet = dissect(LinkType::RawIp, &deep, deep.len()).expect("tunnels");
    assert_eq!((packet.tunnels, packet.body), (MAX_TUNNELS, Body::Ip));
}

#[test]
fn the_sum_is_that_of_16_bit_words_at_any_length() {
    let bytes: Vec<u8> = (0..2000_u32).map(|n| ((n * n) >> 3) as u8 | 0xc0).collect();
    for len in (0..70).chain([1459, 1460, 2000]) {
        let words = bytes[..len].chunks(2);
        let mut total = 0xabcd_u32;
        for word in words {
            total += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
            total = (total & 0xffff) + (total >> 16);
        }
        assert_eq!(sum(&bytes[..len], 0xabcd), total, "{len} bytes");
    }
}

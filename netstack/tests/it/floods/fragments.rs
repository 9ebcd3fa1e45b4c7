//! Fragments that never become datagrams: of both families, and overlapping ones.

use super::bed::{ATTACKER, Bed};
use netstack::link::MacAddr;
use netstack::wire::ethernet::{self, Ethernet};
use netstack::wire::ipv4::Ipv4;
use netstack::wire::ipv6::Ipv6;

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = [0; 14];
    Ethernet { dst: MacAddr([2, 0, 0, 0, 0, 1]), src: ATTACKER, ethertype }.emit(&mut frame);
    [&frame[..], packet].concat()
}

fn v4(src: u32, ident: u16, offset: u16, len: usize) -> Vec<u8> {
    let header = Ipv4 {
        header_len: 20,
        tos: 0,
        total_len: (20 + len) as u16,
        ident,
        dont_fragment: false,
        more_fragments: true,
        fragment_offset: offset,
        ttl: 64,
        protocol: 17,
        src: (0x0a00_0000 | src & 0xff_ffff).into(),
        dst: [10, 0, 0, 1].into(),
    };
    let mut bytes = [0; 20];
    header.emit(&mut bytes);
    ethernet(ethernet::TYPE_IPV4, &[&bytes[..], &vec![7; len]].concat())
}

fn v6(src: u32, ident: u32, offset: u16, len: usize) -> Vec<u8> {
    let header = Ipv6 {
        traffic_class: 0,
        flow_label: 0,
        payload_len: (8 + len) as u16,
        next_header: 44,
        hop_limit: 64,
        src: format!("fd00::{:x}:{:x}", src >> 16 & 0xffff, src & 0xffff).parse().unwrap(),
        dst: "fd00::1".parse().unwrap(),
    };
    let mut bytes = [0; 40];
    header.emit(&mut bytes);
    let mut fragment = vec![17, 0];
    fragment.extend_from_slice(&(offset | 1).to_be_bytes());
    fragment.extend_from_slice(&ident.to_be_bytes());
    ethernet(ethernet::TYPE_IPV6, &[&bytes[..], &fragment, &vec![7; len]].concat())
}

#[test]
fn unfinished_datagrams_are_bounded() {
    let mut bed = Bed::new(4);
    bed.survive(300, |bed, _| {
        for _ in 0..50 {
            let (src, ident) = (bed.rng.next_u32(), bed.rng.next_u32());
            let offset = (bed.rng.below(4000) as u16) * 8;
            bed.put(v4(src, ident as u16, offset, 1400 / 8 * 8));
            bed.put(v6(src, ident, offset, 1400 / 8 * 8));
            // Tiny ones, and some that overlap.
            bed.put(v4(src, ident as u16, offset.saturating_sub(8), 8));
            bed.put(v6(src, ident, offset.saturating_sub(8), 16));
        }
        let (datagrams, bytes) = bed.victim.reassembly_usage();
        assert!(datagrams <= 4096 && bytes <= 5 << 20, "{datagrams} datagrams of {bytes} bytes");
    });
}

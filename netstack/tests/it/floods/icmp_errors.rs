//! Forged ICMP errors about packets that were or were not sent.

use super::bed::{ATTACKER, Bed};
use netstack::link::MacAddr;
use netstack::wire::checksum::Checksum;
use netstack::wire::ethernet::{self, Ethernet};
use netstack::wire::ipv4::Ipv4;

fn header(src: [u8; 4], dst: [u8; 4], protocol: u8, len: usize) -> [u8; 20] {
    let header = Ipv4 {
        header_len: 20,
        tos: 0,
        total_len: (20 + len) as u16,
        ident: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol,
        src: src.into(),
        dst: dst.into(),
    };
    let mut bytes = [0; 20];
    header.emit(&mut bytes);
    bytes
}

#[test]
fn errors_about_strangers_change_and_keep_nothing() {
    let mut bed = Bed::new(9);
    bed.survive(300, |bed, _| {
        for _ in 0..100 {
            let n = bed.rng.next_u32().to_be_bytes();
            // The quoted segment says it went to the bystander, or to anybody.
            let dst = if n[3] % 2 == 0 { [10, 0, 0, 2] } else { [10, n[0], n[1], n[2]] };
            let mut quoted = header([10, 0, 0, 1], dst, 6, 40).to_vec();
            quoted.extend_from_slice(&7000u16.to_be_bytes());
            quoted.extend_from_slice(&(bed.rng.next_u32() as u16).to_be_bytes());
            quoted.extend_from_slice(&bed.rng.next_u32().to_be_bytes());
            let code = [3, 1, 4, 2][n[3] as usize % 4];
            let mut icmp = vec![3, code, 0, 0, 0, 0, 2, 40];
            icmp.extend_from_slice(&quoted);
            let mut sum = Checksum::new();
            sum.add_bytes(&icmp);
            icmp[2..4].copy_from_slice(&sum.finish().to_be_bytes());
            let ip = header([10, n[2], n[1], n[0]], [10, 0, 0, 1], 1, icmp.len());
            let mut frame = [0; 14];
            let dst = MacAddr([2, 0, 0, 0, 0, 1]);
            Ethernet { dst, src: ATTACKER, ethertype: ethernet::TYPE_IPV4 }.emit(&mut frame);
            bed.put([&frame[..], &ip, &icmp].concat());
        }
    });
    let stats = bed.victim.stats();
    assert!(stats.value("Icmp", "InDestUnreachs") > 20_000);
}

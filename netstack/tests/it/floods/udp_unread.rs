//! Datagrams into sockets that nobody reads, small and large.

use super::bed::{ATTACKER, Bed};
use netstack::ip::Family;
use netstack::link::MacAddr;
use netstack::socket::UdpSocket;
use netstack::socket::options::SocketOption;
use netstack::wire::checksum::Checksum;
use netstack::wire::ethernet::{self, Ethernet};
use netstack::wire::ipv4::Ipv4;

fn datagram(port: u16, len: usize) -> Vec<u8> {
    let (src, dst) = ([10, 0, 0, 6].into(), [10, 0, 0, 1].into());
    let mut udp = vec![0; 8 + len];
    udp[..2].copy_from_slice(&999u16.to_be_bytes());
    udp[2..4].copy_from_slice(&port.to_be_bytes());
    udp[4..6].copy_from_slice(&((8 + len) as u16).to_be_bytes());
    let mut sum = Checksum::pseudo_header(
        std::net::IpAddr::V4(src),
        std::net::IpAddr::V4(dst),
        17,
        udp.len(),
    );
    sum.add_bytes(&udp);
    udp[6..8].copy_from_slice(&sum.finish().to_be_bytes());
    let header = Ipv4 {
        header_len: 20,
        tos: 0,
        total_len: (20 + udp.len()) as u16,
        ident: 0,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: 17,
        src,
        dst,
    };
    let (mut ip, mut frame) = ([0; 20], [0; 14]);
    header.emit(&mut ip);
    let dst = MacAddr([2, 0, 0, 0, 0, 1]);
    Ethernet { dst, src: ATTACKER, ethertype: ethernet::TYPE_IPV4 }.emit(&mut frame);
    [&frame[..], &ip, &udp].concat()
}

#[test]
fn queues_are_bounded_each_and_together() {
    let mut bed = Bed::new(7);
    let sockets: Vec<UdpSocket> = (0..40u16)
        .map(|n| {
            let socket = bed.victim.udp_socket(Family::V4);
            socket.bind(([0, 0, 0, 0], 3000 + n).into()).unwrap();
            socket.set_option(bed.now, SocketOption::ReceiveBuffer(4 << 20).into()).unwrap();
            socket
        })
        .collect();
    bed.survive(400, |bed, tick| {
        for n in 0..40 {
            bed.put(datagram(3000 + n, if tick % 2 == 0 { 1400 } else { 1 }));
        }
    });
    assert!(sockets.iter().all(|socket| socket.next_len() > 0), "each got something");
    assert!(
        bed.victim.stats().value("Udp", "MemErrors") > 0,
        "memory ran short before the buffers"
    );
}

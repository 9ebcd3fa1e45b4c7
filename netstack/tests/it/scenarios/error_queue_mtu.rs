//! A datagram that does not fit: the error queue tells the MTU, of this host or of a router on the way, with the start of what was
//! sent; the extensions of the router's message are found where they were asked for (ip(7), IP_RECVERR; RFC 1191, 4443, 4884).

use netstack::link::fault::Faults;
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::socket::options::{Asks, DatagramOption, IpOption, Level, MtuDiscover};
use netstack::socket::{SendError, SocketError, UdpSocket};

use super::lan::{NOBODY, Routed, V4, frame, ip, ms, routed, send, udp, udp_bytes};

const TOO_LONG: SocketError = SocketError::MessageTooLong;

fn asking(sim: &Sim, host: HostId, local: &str, level: Level) -> UdpSocket {
    let socket = udp(sim, host, local);
    let options = [
        IpOption::MtuDiscover(MtuDiscover::Do).into(),
        DatagramOption::tell(level, Asks::ERRORS | Asks::ERROR_EXTENSIONS | Asks::PATH_MTU).into(),
    ];
    for option in options {
        socket.set_option(sim.now(), option).unwrap();
    }
    socket
}

#[test]
fn the_queue_tells_the_mtu_of_the_link_and_of_the_path() {
    let Routed { mut sim, left, right, .. } = routed(54, 1300);
    let _server = udp(&sim, right, "[::]:9");
    for (level, local, to, headers, router) in [
        (Level::Ip, "0.0.0.0:0", "10.0.2.2:9", 28, "10.0.1.1"),
        (Level::Ipv6, "[::]:0", "[fd02::2]:9", 48, "fd01::1"),
    ] {
        let socket = asking(&sim, left, local, level);
        // Of the link: the call fails, and the queue tells why.
        let sent = send(&sim, &socket, to, &vec![1; 1501 - headers]);
        assert_eq!(sent, Err(SendError::MessageTooLong));
        let report = socket.recv_error().unwrap();
        assert_eq!((report.error, report.icmp, report.mtu), (TOO_LONG, None, Some(1500)));
        assert!(report.payload.is_empty());
        assert_eq!(socket.take_path_mtu().map(|(_, mtu)| mtu), (headers == 48).then_some(1500));
        // Of the path: a router tells.
        send(&sim, &socket, to, &vec![2; 1500 - headers]).unwrap();
        sim.run_for(ms(50));
        let report = socket.recv_error().unwrap();
        assert_eq!((report.error, report.mtu), (TOO_LONG, Some(1300)));
        assert_eq!((report.offender, report.destination), (ip(router), to.parse().unwrap()));
        assert!(report.payload.len() > 100 && report.payload.iter().all(|byte| *byte == 2));
        assert!(report.carrier.is_some_and(|carrier| carrier.ttl > 0));
        assert_eq!(socket.take_error(), None);
        // The path is known by now.
        let sent = send(&sim, &socket, to, &vec![3; 1301 - headers]);
        assert_eq!(sent, Err(SendError::MessageTooLong));
        assert_eq!(socket.recv_error().unwrap().mtu, Some(1300));
        send(&sim, &socket, to, &vec![4; 1300 - headers]).unwrap();
        sim.run_for(ms(50));
        assert_eq!(socket.recv_error(), None);
    }
}

#[test]
fn a_path_that_is_left_to_the_routers_is_no_news() {
    let Routed { mut sim, left, right, .. } = routed(55, 1300);
    let _server = udp(&sim, right, "0.0.0.0:9");
    let socket = asking(&sim, left, "0.0.0.0:0", Level::Ip);
    let dont = IpOption::MtuDiscover(MtuDiscover::Dont);
    socket.set_option(sim.now(), dont.into()).unwrap();
    send(&sim, &socket, "10.0.2.2:9", &[1; 1400]).unwrap();
    sim.run_for(ms(50));
    assert_eq!((socket.recv_error(), socket.take_error()), (None, None));
}

#[test]
fn extensions_of_the_message_are_found_behind_what_it_quotes() {
    let (mut sim, [a, _]) = Sim::pair(56, Faults::default());
    let socket = asking(&sim, a, "10.0.0.1:700", Level::Ip);
    let mac = sim.stack(a).nics()[1].mac;
    let datagram = udp_bytes((ip("10.0.0.1"), ip("10.0.0.9")), (700, 9), &[7; 100]);
    let quoted = V4 { src: "10.0.0.1", dst: "10.0.0.9", ..V4::default() }.packet(&datagram);
    assert_eq!(quoted.len(), 128);
    let mut tell = |class: u8, words: u8| {
        // Time exceeded with an MPLS label stack (RFC 4950); "length" is in words of 32 bits.
        let mut extension = vec![0x20, 0, 0, 0, 0, 8, class, 1, 0, 1, 1, 0x40];
        let sum = netstack::wire::checksum::of(&extension).to_be_bytes();
        extension[2..4].copy_from_slice(&sum);
        let mut message = [&[11, 0, 0, 0, 0, words, 0, 0][..], &quoted, &extension].concat();
        let sum = netstack::wire::checksum::of(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        let packet = V4 { src: "10.0.0.7", protocol: 1, ..V4::default() }.packet(&message);
        sim.inject(SegmentId::FIRST, NOBODY, frame(mac, &packet));
        sim.run_for(ms(1));
        let report = socket.recv_error().unwrap();
        assert_eq!((report.icmp, report.offender), (Some((11, 0)), ip("10.0.0.7")));
        report.extensions.map(|found| (found.offset, found.invalid))
    };
    // 128 bytes, less the headers of IP and UDP.
    assert_eq!(tell(1, 32), Some((100, false)));
    assert_eq!(tell(1, 33), Some((104, true)));
    // "the original datagram field MUST contain at least 128 octets".
    assert_eq!(tell(1, 31), None);
    assert_eq!(tell(1, 0), None);
}

//! Packets that name their own way are dropped (RFC 7126 section 4.3, RFC 5095), and broken options are answered with the
//! place of the mistake (RFC 1122 section 3.2.2.5).

use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

use super::lan::{NOBODY, V4, frame, icmp, ip, ms, recv, udp, udp_bytes, v6};

#[test]
fn source_route_refused() {
    let (mut sim, [a, b]) = Sim::pair(7, Faults::default());
    let segment = SegmentId::FIRST;
    let server = udp(&sim, a, "0.0.0.0:7");
    // The answers have somewhere to go.
    let _b = udp(&sim, b, "10.0.0.2:9");
    let hears = |sim: &mut Sim, options: &[u8]| {
        let packet = V4 { src: "10.0.0.2", options, ..V4::default() }.udp((9, 7), b"hello");
        sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
        sim.run_for(ms(5));
        recv(sim, &server).is_some()
    };
    assert!(!hears(&mut sim, &[131, 7, 4, 10, 0, 0, 1, 0]), "loose");
    assert!(!hears(&mut sim, &[137, 7, 4, 10, 0, 0, 1, 0]), "strict");
    assert!(icmp(&sim, segment, 0).is_empty(), "in silence");
    assert!(hears(&mut sim, &[148, 4, 0, 0]), "a router alert is harmless");
    assert!(!hears(&mut sim, &[1, 7, 2, 0]));
    let seen = icmp(&sim, segment, 0);
    assert_eq!((seen[0].kind, seen[0].code, seen[0].rest), (12, 0, [22, 0, 0, 0]));
}

#[test]
fn a_routing_header_with_segments_left_is_a_problem() {
    let (mut sim, [a, _]) = Sim::pair(8, Faults::default());
    let segment = SegmentId::FIRST;
    let server = udp(&sim, a, "[::]:7");
    let udp = udp_bytes((ip("fd00::2"), ip("fd00::1")), (9, 7), b"hello");
    for (left, hears) in [(0, true), (1, false)] {
        let header = [&[17, 2, 0, left, 0, 0, 0, 0][..], &[0xfd; 16]].concat();
        let packet = v6("fd00::2", "fd00::1", 43, 64, &[header, udp.clone()].concat());
        sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
        sim.run_for(ms(5));
        assert_eq!(recv(&sim, &server).is_some(), hears, "segments left: {left}");
    }
    let problems: Vec<_> =
        icmp(&sim, segment, 0).into_iter().filter(|seen| seen.kind == 4).collect();
    // The pointer is at the routing type.
    assert_eq!((problems.len(), problems[0].code, problems[0].rest), (1, 0, [0, 0, 0, 42]));
}

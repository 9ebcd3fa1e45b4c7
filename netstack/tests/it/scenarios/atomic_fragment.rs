//! A datagram in one single fragment is taken by itself, whatever fragments wait under its identification (RFC 6946), and a
//! first fragment that lacks the transport header is refused (RFC 7112).

use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

use super::lan::{NOBODY, frame, icmp, ip, ms, recv, udp, udp_bytes, v6};

#[test]
fn atomic_fragment() {
    let (mut sim, [a, _]) = Sim::pair(11, Faults::default());
    let segment = SegmentId::FIRST;
    let server = udp(&sim, a, "[::]:7");
    let datagram = udp_bytes((ip("fd00::2"), ip("fd00::1")), (9, 7), b"whole");
    let inject = |sim: &mut Sim, offset: u8, more: u8, payload: &[u8]| {
        let header = [17, 0, 0, offset | more, 0, 0, 0, 5];
        let packet = v6("fd00::2", "fd00::1", 44, 64, &[&header[..], payload].concat());
        sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
        sim.run_for(ms(5));
    };
    inject(&mut sim, 8, 1, &[9; 8]);
    assert_eq!(sim.stack(a).reassembly_usage().0, 1);
    inject(&mut sim, 0, 0, &datagram);
    assert_eq!(recv(&sim, &server).as_deref(), Some(&b"whole"[..]));
    assert_eq!(sim.stack(a).reassembly_usage().0, 1, "the one that waits goes on waiting");
    inject(&mut sim, 0, 0, &datagram[..7]);
    let last = icmp(&sim, segment, 0).pop().unwrap();
    assert_eq!((last.kind, last.code, last.rest), (4, 3, [0; 4]));
    // A length that is no multiple of eight points at the payload length.
    inject(&mut sim, 16, 1, &[9; 9]);
    let last = icmp(&sim, segment, 0).pop().unwrap();
    assert_eq!((last.kind, last.code, last.rest), (4, 0, [0, 0, 0, 4]));
}

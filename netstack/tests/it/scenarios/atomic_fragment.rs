//! A datagram in one single fragment is taken by itself, whatever fragments wait under its identification (RFC 6946), and a
//! first fragment that lacks the transport header is refused (RFC 7112).

use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

use netstack::ip::conf::ConfTarget;
use netstack::wire::checksum::Checksum;

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

/// RFC 6980: neighbour discovery never comes in fragments, not even in one.
#[test]
fn fragmented_neighbour_discovery_is_ignored() {
    let (mut sim, [a, _]) = Sim::pair(12, Faults::default());
    let segment = SegmentId::FIRST;
    let core::net::IpAddr::V6(target) = ip("fd00::1") else { panic!() };
    let mut solicit =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1, 2, 0xaa, 0, 0, 0, 1]].concat();
    let mut sum = Checksum::pseudo_header(ip("fd00::9"), ip("fd00::1"), 58, solicit.len());
    sum.add_bytes(&solicit);
    solicit[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let packet =
        v6("fd00::9", "fd00::1", 44, 255, &[&[58, 0, 0, 0, 0, 0, 0, 5][..], &solicit].concat());
    let answers = |sim: &mut Sim| {
        sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
        sim.run_for(ms(5));
        icmp(sim, segment, 0).iter().filter(|seen| seen.kind == 136).count()
    };
    assert_eq!(answers(&mut sim), 0);
    let nic = sim.stack(a).nics()[1].id;
    let heed = |conf: &mut netstack::ip::conf::Ipv6Conf| conf.suppress_frag_ndisc = false;
    sim.stack(a).edit_ipv6_conf(ConfTarget::Nic(nic), heed).unwrap();
    assert_eq!(answers(&mut sim), 1);
}

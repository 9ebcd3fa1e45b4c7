//! Extension headers are skipped, refused or answered as their bits say, within bounds (RFC 8200 section 4, RFC 2675).

use netstack::ip::conf::IpConf;
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

use super::lan::{NOBODY, frame, icmp, ip, ms, recv, udp, udp_bytes, v6};

/// What it is, the header's number, the header, whether it is heard, and the problem that is told: (code, pointer).
type Case = (&'static str, u8, Vec<u8>, bool, Option<(u8, u32)>);

/// A destination or hop-by-hop options header before UDP.
fn options(next: u8, options: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend(options);
    assert_eq!(header.len() % 8, 0);
    header[1] = (header.len() / 8 - 1) as u8;
    header
}

#[test]
fn ipv6_extension_headers() {
    let (mut sim, [a, _]) = Sim::pair(9, Faults::default());
    let segment = SegmentId::FIRST;
    let server = udp(&sim, a, "[::]:7");
    let payload = udp_bytes((ip("fd00::2"), ip("fd00::1")), (9, 7), b"hello");
    // A router alert, and one option after another that may be skipped.
    let many: Vec<u8> = (0..9).flat_map(|_| [0x1e, 0]).chain([1, 2, 0, 0]).collect();
    let cases: [Case; 11] = [
        ("router alert", 0, options(17, &[5, 2, 0, 0, 1, 0]), true, None),
        ("unknown, skipped", 60, options(17, &[0x1e, 4, 1, 2, 3, 4]), true, None),
        ("unknown, dropped", 60, options(17, &[0x5e, 4, 1, 2, 3, 4]), false, None),
        ("unknown, reported", 60, options(17, &[0x9e, 4, 1, 2, 3, 4]), false, Some((2, 42))),
        (
            "reported unless to a group",
            60,
            options(17, &[0xde, 4, 1, 2, 3, 4]),
            false,
            Some((2, 42)),
        ),
        ("padding that says something", 60, options(17, &[1, 4, 0, 0, 9, 0]), false, None),
        (
            "too much padding",
            60,
            options(17, &[1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0]),
            false,
            None,
        ),
        ("an option beyond the header", 60, options(17, &[0x1e, 9, 1, 2, 3, 4]), false, None),
        ("too many options", 60, options(17, &many), false, None),
        ("a jumbogram that is none", 0, options(17, &[0xc2, 4, 0, 0, 1, 0]), false, Some((0, 44))),
        (
            "a jumbogram beside a length",
            0,
            options(17, &[0xc2, 4, 0, 1, 0, 0]),
            false,
            Some((0, 42)),
        ),
    ];
    for (name, next, header, hears, problem) in cases {
        let before = icmp(&sim, segment, 0).len();
        let packet = v6("fd00::2", "fd00::1", next, 64, &[header, payload.clone()].concat());
        sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
        sim.run_for(ms(2000));
        assert_eq!(recv(&sim, &server).is_some(), hears, "{name}");
        let errors = icmp(&sim, segment, 0).split_off(before);
        let errors = errors.into_iter().find(|seen| seen.kind == 4);
        let told = errors.map(|seen| (seen.code, u32::from_be_bytes(seen.rest)));
        assert_eq!(told, problem, "{name}");
    }
    // Hop-by-hop options that come late point to the field that named them.
    let chain =
        [options(0, &[1, 4, 0, 0, 0, 0]), options(17, &[1, 4, 0, 0, 0, 0]), payload.clone()];
    let packet = v6("fd00::2", "fd00::1", 60, 64, &chain.concat());
    sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
    sim.run_for(ms(5));
    let last = icmp(&sim, segment, 0).pop().unwrap();
    assert_eq!((last.kind, last.code, last.rest), (4, 1, [0, 0, 0, 40]));
    // The number of options is a tunable.
    sim.stack(a).edit_ip_conf(|conf: &mut IpConf| conf.max_dst_opts_number = 9);
    let packet = v6("fd00::2", "fd00::1", 60, 64, &[options(17, &many), payload].concat());
    sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
    sim.run_for(ms(5));
    assert!(recv(&sim, &server).is_some());
}

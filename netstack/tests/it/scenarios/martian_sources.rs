//! Addresses that cannot be a sender or a receiver outside a host are dropped and counted: groups, broadcasts, loopback, our
//! own address, network 0 (RFC 1122 section 3.2.1.3, RFC 1812 section 5.3.7).

use netstack::ip::conf::ConfTarget;
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

use super::lan::{NOBODY, V4, counter, frame, ip, ms, recv, udp, udp_bytes, v6};

#[test]
fn martian_sources() {
    let (mut sim, [a, _]) = Sim::pair(5, Faults::default());
    let segment = SegmentId::FIRST;
    let server = udp(&sim, a, "0.0.0.0:7");
    let mac = Sim::mac_of(segment, 0);
    let hears = |sim: &mut Sim, src: &str, dst: &str| {
        let packet = V4 { src, dst, ..V4::default() }.udp((9, 7), b"hello");
        sim.inject(segment, NOBODY, frame(mac, &packet));
        sim.run_for(ms(1));
        recv(sim, &server).is_some()
    };
    for src in ["224.0.0.5", "255.255.255.255", "10.0.0.255", "127.0.0.1", "10.0.0.1", "0.0.0.7"] {
        assert!(!hears(&mut sim, src, "10.0.0.1"), "{src}");
    }
    assert_eq!(counter(&sim, a, "RtCache", "in_martian_src"), 6);
    for dst in ["127.0.0.1", "0.0.0.5"] {
        assert!(!hears(&mut sim, "10.0.0.9", dst), "{dst}");
    }
    assert_eq!(counter(&sim, a, "RtCache", "in_martian_dst"), 2);
    // Somebody else's packet is no martian, only not ours.
    assert!(!hears(&mut sim, "10.0.0.9", "10.0.0.77"));
    assert_eq!(counter(&sim, a, "Ip", "InAddrErrors"), 1);
    assert!(hears(&mut sim, "10.0.0.9", "10.0.0.1"));
    // Both can be allowed.
    let nic = sim.stack(a).nics()[1].id;
    let allow = |conf: &mut netstack::ip::conf::Ipv4Conf| {
        (conf.accept_local, conf.route_localnet) = (true, true);
    };
    sim.stack(a).edit_ipv4_conf(ConfTarget::Nic(nic), allow).unwrap();
    assert!(hears(&mut sim, "10.0.0.1", "10.0.0.1"));
    assert!(hears(&mut sim, "10.0.0.9", "127.0.0.1"));
}

#[test]
fn impossible_ipv6_addresses_are_dropped() {
    let (mut sim, [a, _]) = Sim::pair(6, Faults::default());
    let segment = SegmentId::FIRST;
    let server = udp(&sim, a, "[::]:7");
    let hears = |sim: &mut Sim, src: &str, dst: &str| {
        let payload = udp_bytes((ip(src), ip(dst)), (9, 7), b"hello");
        sim.inject(
            segment,
            NOBODY,
            frame(Sim::mac_of(segment, 0), &v6(src, dst, 17, 64, &payload)),
        );
        sim.run_for(ms(1));
        recv(sim, &server).is_some()
    };
    for (src, dst) in [
        ("ff02::5", "fd00::1"),
        ("::1", "fd00::1"),
        ("fd00::9", "::1"),
        ("::ffff:10.0.0.9", "fd00::1"),
        ("fd00::1", "fd00::1"),
        ("fd00::9", "ff01::1"),
    ] {
        assert!(!hears(&mut sim, src, dst), "{src} {dst}");
    }
    assert_eq!(counter(&sim, a, "Ip6", "InAddrErrors"), 6);
    assert!(hears(&mut sim, "fd00::9", "fd00::1"));
}

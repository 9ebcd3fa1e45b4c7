//! A datagram whose fragments do not all come is given up after 30 seconds (IPv4) or 60 (IPv6); its sender is told when the
//! first fragment came, and only then (RFC 792, RFC 8200 section 4.5).

use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};
use netstack::time::Duration;

use super::lan::{NOBODY, V4, counter, frame, icmp, ip, ms, udp, udp_bytes, v6};

#[test]
fn fragment_timeout() {
    for (family, seconds, kind, group) in [(4, 30, 11, "Ip"), (6, 60, 3, "Ip6")] {
        for first in [true, false] {
            let (mut sim, [a, _]) = Sim::pair(12, Faults::default());
            let segment = SegmentId::FIRST;
            let offset: u16 = if first { 0 } else { 2 };
            let packet = match family {
                4 => {
                    let payload = udp_bytes((ip("10.0.0.2"), ip("10.0.0.1")), (9, 7), &[1; 8]);
                    let fragment = 0x2000 | offset;
                    V4 { src: "10.0.0.2", fragment, ..V4::default() }.packet(&payload)
                }
                _ => {
                    let payload = udp_bytes((ip("fd00::2"), ip("fd00::1")), (9, 7), &[1; 8]);
                    let [high, low] = (offset << 3 | 1).to_be_bytes();
                    let header = [17, 0, high, low, 0, 0, 0, 5];
                    v6("fd00::2", "fd00::1", 44, 64, &[&header[..], &payload].concat())
                }
            };
            sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
            sim.run_for(Duration::from_secs(seconds) - ms(100));
            assert_eq!(sim.stack(a).reassembly_usage().0, 1);
            sim.run_for(ms(200));
            assert_eq!(sim.stack(a).reassembly_usage(), (0, 0));
            assert_eq!(counter(&sim, a, group, "ReasmTimeout"), 1);
            sim.run_for(ms(5000));
            let told =
                icmp(&sim, segment, 0).iter().any(|seen| (seen.kind, seen.code) == (kind, 1));
            assert_eq!(told, first, "family {family}");
        }
    }
    // The time is a tunable.
    let (mut sim, [a, _]) = Sim::pair(12, Faults::default());
    let _held = udp(&sim, a, "0.0.0.0:7");
    sim.stack(a).edit_ip_conf(|conf| conf.ipfrag.time = Duration::from_secs(2));
    let packet = V4 { fragment: 0x2000, ..V4::default() }.packet(&[1; 8]);
    sim.inject(SegmentId::FIRST, NOBODY, frame(Sim::mac_of(SegmentId::FIRST, 0), &packet));
    sim.run_for(Duration::from_secs(3));
    assert_eq!(sim.stack(a).reassembly_usage(), (0, 0));
}

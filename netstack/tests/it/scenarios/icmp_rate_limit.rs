//! Errors are limited: for each host six at once and one a second after, for all hosts together a thousand a second; what
//! path MTU discovery needs, and echo replies, are not (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).

use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};
use netstack::time::Duration;

use super::lan::{NOBODY, V4, counter, frame, icmp, ms};

#[test]
fn icmp_rate_limit() {
    let (mut sim, [a, _]) = Sim::pair(16, Faults::default());
    let segment = SegmentId::FIRST;
    let to = Sim::mac_of(segment, 0);
    let refused = |sim: &mut Sim, count: usize| {
        let before = icmp(sim, segment, 0).len();
        for _ in 0..count {
            let packet = V4 { src: "10.0.0.2", ..V4::default() }.udp((9, 7), b"?");
            sim.inject(segment, NOBODY, frame(to, &packet));
            sim.run_for(ms(1));
        }
        sim.run_for(ms(20));
        icmp(sim, segment, 0).len() - before
    };
    assert_eq!(refused(&mut sim, 20), 6);
    assert_eq!(counter(&sim, a, "Icmp", "OutRateLimitHost"), 14);
    sim.run_for(Duration::from_secs(2));
    assert_eq!(refused(&mut sim, 20), 2);
    // Echoes go on.
    let echo = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
    let before = icmp(&sim, segment, 0).len();
    for _ in 0..20 {
        let packet = V4 { src: "10.0.0.2", protocol: 1, ..V4::default() }.packet(&echo);
        sim.inject(segment, NOBODY, frame(to, &packet));
    }
    sim.run_for(ms(20));
    assert_eq!(icmp(&sim, segment, 0).len() - before, 20);
    // Both limits are tunables.
    sim.stack(a).edit_ip_conf(|conf| (conf.icmp_ratelimit, conf.icmp_msgs_burst) = (0, 10_000));
    sim.run_for(Duration::from_secs(60));
    assert_eq!(refused(&mut sim, 100), 100);
}

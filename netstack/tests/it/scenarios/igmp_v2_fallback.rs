//! While a router of an older version is there its language is spoken: a report for each group to the group itself, silence when
//! another host reported it, a leave from the last to report (RFC 2236, RFC 3376 section 7).

use netstack::ip::{IpOutput, SourceFilter};
use netstack::link::MacAddr;
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};
use netstack::time::Duration;
use netstack::wire::checksum;

use super::igmp_v3_report_and_query::{igmp, query};
use super::lan::{NOBODY, V4, frame, ip, ms};

#[test]
fn igmp_v2_fallback() {
    let (mut sim, [a, _]) = Sim::pair(43, Faults::default());
    let stack = sim.stack(a).clone();
    let nic = stack.nics()[1].id;
    let any = SourceFilter::any();
    let join = |sim: &Sim, group: &str| {
        stack.change_membership(sim.now(), (ip(group), Some(nic)), (None, Some(&any))).unwrap();
    };
    let leave = |sim: &Sim, group: &str| {
        stack.change_membership(sim.now(), (ip(group), Some(nic)), (Some(&any), None)).unwrap();
    };
    join(&sim, "239.1.2.3");
    join(&sim, "239.1.2.4");
    sim.run_for(ms(5000));
    assert!(igmp(&sim).iter().all(|(kind, ..)| *kind == 0x22));
    let from = |sim: &Sim, seen: usize| {
        let new = igmp(sim).split_off(seen);
        new.into_iter().map(|(kind, dst, _)| (kind, dst.to_string())).collect::<Vec<_>>()
    };
    let seen = igmp(&sim).len();
    let general = [0x11, 50, 0, 0, 0, 0, 0, 0];
    sim.inject(SegmentId::FIRST, NOBODY, query("224.0.0.1", &general));
    sim.run_for(ms(6000));
    let mut reports = from(&sim, seen);
    reports.sort();
    assert_eq!(reports, [(0x16, "239.1.2.3".to_string()), (0x16, "239.1.2.4".to_string())]);
    // Another host's report makes ours needless.
    let seen = igmp(&sim).len();
    sim.inject(SegmentId::FIRST, NOBODY, query("224.0.0.1", &general));
    let mut report = [0x16, 0, 0, 0, 239, 1, 2, 3];
    let sum = checksum::of(&report).to_be_bytes();
    report[2..4].copy_from_slice(&sum);
    let packet = V4 {
        src: "10.0.0.9",
        dst: "239.1.2.3",
        protocol: 2,
        ttl: 1,
        options: &[148, 4, 0, 0],
        ..V4::default()
    };
    sim.inject(
        SegmentId::FIRST,
        NOBODY,
        frame(MacAddr([1, 0, 0x5e, 1, 2, 3]), &packet.packet(&report)),
    );
    sim.run_for(ms(6000));
    assert_eq!(from(&sim, seen), [(0x16, "239.1.2.4".to_string())]);
    // Only the last to report leaves.
    let seen = igmp(&sim).len();
    leave(&sim, "239.1.2.3");
    leave(&sim, "239.1.2.4");
    sim.run_for(ms(1000));
    assert_eq!(from(&sim, seen), [(0x17, "224.0.0.2".to_string())]);
    let seen = igmp(&sim).len();
    join(&sim, "239.1.2.5");
    sim.run_for(ms(11_000));
    assert_eq!(
        from(&sim, seen),
        [(0x16, "239.1.2.5".to_string()), (0x16, "239.1.2.5".to_string())]
    );
    // Without the old router the newest version comes back.
    sim.run_for(Duration::from_secs(300));
    let seen = igmp(&sim).len();
    leave(&sim, "239.1.2.5");
    sim.run_for(ms(100));
    assert_eq!(from(&sim, seen), [(0x22, "224.0.0.22".to_string())]);
}

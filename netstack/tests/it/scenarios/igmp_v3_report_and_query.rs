//! Joining, leaving and filtering a group is told to the routers as often as the robustness says, with a router alert and a hop
//! limit of one; questions are answered within their time; what no socket wants is not heard (RFC 3376).

use netstack::ip::multicast::FilterMode;
use netstack::ip::{IpOutput, SourceFilter};
use netstack::link::MacAddr;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::time::Duration;
use netstack::wire::checksum;
use netstack::wire::group::{Record, RecordType, parse_report};

use super::lan::{NOBODY, V4, frame, ip, ms, recv, udp};

/// The IGMP messages of the first attachment: type, destination, what follows the checksum.
pub fn igmp(sim: &Sim) -> Vec<(u8, core::net::IpAddr, Vec<u8>)> {
    let frames = sim.capture().sent_by(SegmentId::FIRST, 0);
    let messages = frames.filter(|sent| sent.bytes[12..14] == [8, 0] && sent.bytes[14 + 9] == 2);
    messages
        .map(|sent| {
            let packet = &sent.bytes[14..];
            // TTL 1, precedence, router alert (RFC 3376 section 4).
            assert_eq!((packet[8], packet[1], &packet[20..24]), (1, 0xc0, &[148, 4, 0, 0][..]));
            assert_eq!(checksum::of(&packet[24..]), 0);
            let dst: [u8; 4] = packet[16..20].try_into().unwrap();
            (packet[24], dst.into(), packet[28..].to_vec())
        })
        .collect()
}

fn records(sim: &Sim, from: usize) -> Vec<Record> {
    let messages = igmp(sim).split_off(from);
    messages
        .into_iter()
        .flat_map(|(kind, dst, body)| {
            assert_eq!((kind, dst), (0x22, ip("224.0.0.22")));
            parse_report(&body, false).unwrap()
        })
        .collect()
}

/// A query of any version from a router, with its IP header.
pub fn query(dst: &str, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let sum = checksum::of(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let packet = V4 {
        src: "10.0.0.254",
        dst,
        protocol: 2,
        ttl: 1,
        options: &[148, 4, 0, 0],
        ..V4::default()
    };
    frame(MacAddr([1, 0, 0x5e, 0, 0, 1]), &packet.packet(&message))
}

fn record(kind: RecordType, group: &str, sources: &[&str]) -> Record {
    Record { kind, group: ip(group), sources: sources.iter().map(|at| ip(at)).collect() }
}

fn change(
    sim: &Sim,
    a: HostId,
    group: &str,
    from: Option<&SourceFilter>,
    to: Option<&SourceFilter>,
) {
    let stack = sim.stack(a);
    let nic = stack.nics()[1].id;
    stack.change_membership(sim.now(), (ip(group), Some(nic)), (from, to)).unwrap();
}

#[test]
fn igmp_v3_report_and_query() {
    let (mut sim, [a, _]) = Sim::pair(41, Faults::default());
    let any = SourceFilter::any();
    change(&sim, a, "239.1.2.3", None, Some(&any));
    sim.run_for(ms(3000));
    let joined = record(RecordType::ChangeToExclude, "239.1.2.3", &[]);
    assert_eq!(records(&sim, 0), [joined.clone(), joined]);
    let seen = igmp(&sim).len();
    let some = SourceFilter {
        mode: FilterMode::Include,
        sources: [ip("10.0.0.7"), ip("10.0.0.8")].into(),
    };
    change(&sim, a, "232.1.1.1", None, Some(&some));
    sim.run_for(ms(3000));
    let allowed = record(RecordType::AllowNewSources, "232.1.1.1", &["10.0.0.7", "10.0.0.8"]);
    assert_eq!(records(&sim, seen), [allowed.clone(), allowed]);
    // A general question: both groups, within two seconds, once.
    let seen = igmp(&sim).len();
    let asked = sim.now();
    sim.inject(
        SegmentId::FIRST,
        NOBODY,
        query("224.0.0.1", &[0x11, 20, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]),
    );
    sim.run_for(ms(5000));
    let answered = records(&sim, seen);
    assert_eq!(
        answered,
        [
            record(RecordType::ModeIsInclude, "232.1.1.1", &["10.0.0.7", "10.0.0.8"]),
            record(RecordType::ModeIsExclude, "239.1.2.3", &[]),
        ]
    );
    let at = sim.capture().sent_by(SegmentId::FIRST, 0).last().unwrap().at;
    assert!(at > asked && at <= asked + ms(2001), "{at:?}");
    // One group and one source.
    let seen = igmp(&sim).len();
    let specific = [0x11, 10, 0, 0, 232, 1, 1, 1, 2, 125, 0, 1, 10, 0, 0, 8];
    sim.inject(SegmentId::FIRST, NOBODY, query("232.1.1.1", &specific));
    sim.run_for(ms(3000));
    assert_eq!(
        records(&sim, seen),
        [record(RecordType::ModeIsInclude, "232.1.1.1", &["10.0.0.8"])]
    );
    // What is not wanted is not heard.
    let socket = udp(&sim, a, "0.0.0.0:7");
    let hears = |sim: &mut Sim, src: &str, dst: &str| {
        let packet = V4 { src, dst, ..V4::default() }.udp((9, 7), b"x");
        sim.inject(SegmentId::FIRST, NOBODY, frame(MacAddr([1, 0, 0x5e, 1, 1, 1]), &packet));
        sim.run_for(ms(1));
        recv(sim, &socket).is_some()
    };
    assert!(!hears(&mut sim, "10.0.0.9", "239.9.9.9"));
    // Leaving.
    let seen = igmp(&sim).len();
    change(&sim, a, "239.1.2.3", Some(&any), None);
    change(&sim, a, "232.1.1.1", Some(&some), None);
    sim.run_for(ms(4000));
    let left = records(&sim, seen);
    assert!(left.contains(&record(RecordType::ChangeToInclude, "239.1.2.3", &[])));
    assert!(left.contains(&record(
        RecordType::BlockOldSources,
        "232.1.1.1",
        &["10.0.0.7", "10.0.0.8"]
    )));
    let seen = igmp(&sim).len();
    sim.inject(
        SegmentId::FIRST,
        NOBODY,
        query("224.0.0.1", &[0x11, 20, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]),
    );
    sim.run_for(Duration::from_secs(20));
    assert!(records(&sim, seen).is_empty());
}

#[test]
fn many_groups_fit_several_packets() {
    let (mut sim, [a, _]) = Sim::pair(42, Faults::default());
    for n in 0..400u32 {
        let group = core::net::IpAddr::V4((0xef01_0000 + n).into()).to_string();
        change(&sim, a, &group, None, Some(&SourceFilter::any()));
    }
    sim.run_for(ms(5000));
    let seen = igmp(&sim).len();
    sim.inject(
        SegmentId::FIRST,
        NOBODY,
        query("224.0.0.1", &[0x11, 20, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]),
    );
    sim.run_for(ms(5000));
    assert_eq!((records(&sim, seen).len(), igmp(&sim).len() - seen), (400, 3));
    assert!(sim.capture().frames().iter().all(|sent| sent.bytes.len() <= 1514));
}

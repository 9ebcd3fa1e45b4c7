//! The groups of an interface, those that its own addresses need among them, are told by MLDv2, and by MLDv1 while an old router
//! asks (RFC 3810, RFC 2710).

use netstack::ip::conf::Tunables;
use netstack::ip::{IpOutput, SourceFilter};
use netstack::link::MacAddr;
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};
use netstack::wire::group::{Record, RecordType, parse_report};

use super::lan::{NOBODY, Seen, cidr, frame, icmp, ip, ms};

/// A query from a router, with the router alert before it.
fn query(dst: &str, group: &str, tail: &[u8]) -> Vec<u8> {
    let core::net::IpAddr::V6(group) = ip(group) else { panic!() };
    let message = [&[130, 0, 0, 0, 0x03, 0xe8, 0, 0][..], &group.octets(), tail].concat();
    let mut sum = netstack::wire::checksum::Checksum::pseudo_header(
        ip("fe80::99"),
        ip(dst),
        58,
        message.len(),
    );
    sum.add_bytes(&message);
    let mut message = message;
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    let packet = super::lan::v6("fe80::99", dst, 0, 1, &[&alert[..], &message].concat());
    frame(MacAddr([0x33, 0x33, 0, 0, 0, 1]), &packet)
}

fn reports(sim: &Sim, from: usize) -> Vec<Record> {
    let new = icmp(sim, SegmentId::FIRST, 0).split_off(from);
    new.into_iter()
        .filter(|seen| seen.kind == 143)
        .flat_map(|Seen { dst, hop_limit, rest, body, .. }| {
            assert_eq!((dst, hop_limit), (ip("ff02::16"), 1));
            parse_report(&[&rest[..], &body].concat(), true).unwrap()
        })
        .collect()
}

#[test]
fn mld_v2_report_and_query() {
    let mut sim = Sim::new(44);
    let link = sim.add_segment(Faults::default());
    let a = sim.add_host_with(Tunables::default());
    let nic = sim.attach(a, link, 1500, &[cidr("fd00::1234:5678/64")]);
    sim.run_for(ms(6000));
    let told = reports(&sim, 0);
    let record = |kind, group: &str| Record { kind, group: ip(group), sources: Vec::new() };
    for group in ["ff02::1:ff34:5678", "ff02::1:ff00:1"] {
        assert!(told.contains(&record(RecordType::ChangeToExclude, group)), "{group}");
    }
    assert!(!told.iter().any(|record| record.group == ip("ff02::1")), "never the all-nodes group");
    // Before the link-local address is sure they come from none, and again from it afterwards.
    let from: Vec<_> = icmp(&sim, link, 0)
        .into_iter()
        .filter(|seen| seen.kind == 143)
        .map(|seen| seen.src)
        .collect();
    assert_eq!(from[0], ip("::"));
    assert_eq!(from.last(), Some(&ip("fe80::ff:fe00:1")));
    let stack = sim.stack(a).clone();
    let any = SourceFilter::any();
    stack.change_membership(sim.now(), (ip("ff05::77"), Some(nic)), (None, Some(&any))).unwrap();
    sim.run_for(ms(3000));
    let seen = icmp(&sim, link, 0).len();
    sim.inject(link, NOBODY, query("ff02::1", "::", &[2, 125, 0, 0]));
    sim.run_for(ms(2000));
    let mut answered = reports(&sim, seen);
    answered.sort_by_key(|record| record.group);
    assert_eq!(
        answered,
        [
            record(RecordType::ModeIsExclude, "ff02::1:ff00:1"),
            record(RecordType::ModeIsExclude, "ff02::1:ff34:5678"),
            record(RecordType::ModeIsExclude, "ff05::77"),
        ]
    );
    // An old router: reports of single groups, a Done at the end.
    let seen = icmp(&sim, link, 0).len();
    sim.inject(link, NOBODY, query("ff02::1", "::", &[]));
    sim.run_for(ms(2000));
    let old = |seen: usize| {
        icmp(&sim, link, 0).split_off(seen).into_iter().map(|seen| (seen.kind, seen.dst))
    };
    let mut told: Vec<_> = old(seen).collect();
    told.sort();
    assert_eq!(
        told,
        [(131, ip("ff02::1:ff00:1")), (131, ip("ff02::1:ff34:5678")), (131, ip("ff05::77")),]
    );
    let seen = icmp(&sim, link, 0).len();
    stack.change_membership(sim.now(), (ip("ff05::77"), Some(nic)), (Some(&any), None)).unwrap();
    sim.run_for(ms(1000));
    let told: Vec<_> =
        icmp(&sim, link, 0).split_off(seen).into_iter().map(|seen| (seen.kind, seen.dst)).collect();
    assert_eq!(told, [(132, ip("ff02::2"))]);
}

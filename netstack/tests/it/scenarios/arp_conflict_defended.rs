//! Who announces an address of ours is answered by one announcement, not more often than every ten seconds (RFC 5227 section
//! 2.4 c); questions are answered as `arp_ignore` and `proxy_arp` say.

use netstack::ip::conf::ConfTarget;
use netstack::link::MacAddr;
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};
use netstack::wire::arp::{Arp, Operation};

use super::lan::{INJECTOR, NOBODY, ms, routed};

fn arp(operation: Operation, sender: (MacAddr, &str), target: &str) -> Vec<u8> {
    let sender = (sender.0, sender.1.parse().unwrap());
    let arp = Arp { operation, sender, target: (MacAddr::ZERO, target.parse().unwrap()) };
    [&[0xff; 6][..], &sender.0.0, &[8, 6], &arp.emit()].concat()
}

fn sent(sim: &Sim, segment: SegmentId, port: usize) -> Vec<Arp> {
    let frames = sim.capture().sent_by(segment, port);
    frames
        .filter(|sent| sent.bytes[12..14] == [8, 6])
        .filter_map(|sent| Arp::parse(&sent.bytes[14..42]))
        .collect()
}

#[test]
fn arp_conflict_defended() {
    let (mut sim, [_a, _]) = Sim::pair(47, Faults::default());
    let link = SegmentId::FIRST;
    let claim = arp(Operation::Request, (INJECTOR, "10.0.0.1"), "10.0.0.1");
    sim.inject(link, NOBODY, claim.clone());
    sim.run_for(ms(10));
    let defence = sent(&sim, link, 0);
    assert_eq!(defence.len(), 1);
    let mac = Sim::mac_of(link, 0);
    assert_eq!(
        (defence[0].sender, defence[0].target.1),
        ((mac, [10, 0, 0, 1].into()), [10, 0, 0, 1].into())
    );
    sim.inject(link, NOBODY, claim.clone());
    sim.run_for(ms(5000));
    assert_eq!(sent(&sim, link, 0).len(), 1, "not at every claim");
    sim.run_for(ms(6000));
    sim.inject(link, NOBODY, claim);
    sim.run_for(ms(10));
    assert_eq!(sent(&sim, link, 0).len(), 2);
    // A probe of somebody who wants the address is answered (RFC 5227 section 2.1.1).
    sim.inject(link, NOBODY, arp(Operation::Request, (INJECTOR, "0.0.0.0"), "10.0.0.1"));
    sim.run_for(ms(10));
    let answer = sent(&sim, link, 0).pop().unwrap();
    assert_eq!((answer.operation, answer.sender.0), (Operation::Reply, mac));
}

#[test]
fn questions_are_answered_as_the_tunables_say() {
    let mut net = routed(48, 1500);
    let stack = net.sim.stack(net.router).clone();
    let near = ConfTarget::Nic(net.router_nics[0]);
    let answered = |sim: &mut Sim, target: &str| {
        let before = sent(sim, net.near, 1).len();
        sim.inject(net.near, 0, arp(Operation::Request, (INJECTOR, "10.0.1.9"), target));
        sim.run_for(ms(10));
        sent(sim, net.near, 1)[before..].iter().any(|arp| arp.operation == Operation::Reply)
    };
    assert!(answered(&mut net.sim, "10.0.1.1") && answered(&mut net.sim, "10.0.2.1"));
    stack.edit_ipv4_conf(near, |conf| conf.arp_ignore = 1).unwrap();
    assert!(answered(&mut net.sim, "10.0.1.1") && !answered(&mut net.sim, "10.0.2.1"));
    stack.edit_ipv4_conf(near, |conf| conf.arp_ignore = 8).unwrap();
    assert!(!answered(&mut net.sim, "10.0.1.1"));
    // A router answers for hosts behind it, when it is told to.
    assert!(!answered(&mut net.sim, "10.0.2.2"));
    stack.edit_ipv4_conf(near, |conf| conf.proxy_arp = true).unwrap();
    assert!(answered(&mut net.sim, "10.0.2.2"));
    assert!(!answered(&mut net.sim, "10.0.1.77"), "not for hosts on the same link");
}

//! The path stalls for longer than the timeout and loses nothing: the timeout was spurious. F-RTO (RFC 5682) or the
//! echoed timestamp (RFC 3522) tells, and the window is as before.

use super::bulk::{Bulk, MS, configure, tcp_ext};
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

fn stall(timestamps: bool, undo: bool) -> (Sim, [netstack::sim::HostId; 2], Bulk, usize) {
    let mut sim = Sim::new(4);
    let segment: SegmentId = sim.add_segment(Faults::delay(10 * MS));
    let hosts = [sim.add_host(), sim.add_host()];
    for (host, n) in hosts.iter().zip(1u8..) {
        sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
        configure(&sim, *host, |config| {
            config.timestamps = timestamps;
            config.detect_spurious_timeouts = undo;
        });
    }
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(40_000_000);
    bulk.run(&mut sim, 75 * MS);
    let before = bulk.info().window;
    sim.set_faults(segment, Faults::delay(400 * MS));
    bulk.run(&mut sim, 20 * MS);
    sim.set_faults(segment, Faults::delay(10 * MS));
    bulk.run(&mut sim, 1000 * MS);
    (sim, hosts, bulk, before)
}

#[test]
fn f_rto_finds_a_spurious_timeout_without_timestamps() {
    let (sim, hosts, bulk, before) = stall(false, true);
    assert!(tcp_ext(&sim, hosts[0], "TCPTimeouts") >= 1);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPSpuriousRTOs"), 1);
    let counters = bulk.info().counters;
    assert!(counters.retransmissions <= 3, "{counters:?}");
    assert!(bulk.info().window >= before, "{} {before}", bulk.info().window);
    assert_eq!(bulk.info().ssthresh, usize::MAX);
}

#[test]
fn the_echoed_timestamp_finds_it_too() {
    let (sim, hosts, bulk, before) = stall(true, true);
    assert!(tcp_ext(&sim, hosts[0], "TCPTimeouts") >= 1);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPLossUndo"), 1);
    assert!(bulk.info().counters.retransmissions <= 3, "{:?}", bulk.info().counters);
    assert!(bulk.info().window >= before);
    assert_eq!(bulk.info().ssthresh, usize::MAX);
}

#[test]
fn without_either_the_flight_is_sent_again() {
    let (sim, hosts, bulk, _) = stall(false, false);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPSpuriousRTOs"), 0);
    assert!(bulk.info().counters.retransmissions > 3, "{:?}", bulk.info().counters);
}

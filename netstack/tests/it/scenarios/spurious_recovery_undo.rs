//! A segment is late by more than the reordering window, so that it is sent again in vain: the echoed timestamp, or
//! D-SACK where there are no timestamps, takes the recovery back.

use super::bulk::{Bulk, MS, MSS, configure, drop_bytes, tcp_ext};
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

fn late(timestamps: bool) -> (Sim, [netstack::sim::HostId; 2], Bulk, usize) {
    let mut sim = Sim::new(6);
    let segment: SegmentId = sim.add_segment(Faults::delay(20 * MS));
    let hosts = [sim.add_host(), sim.add_host()];
    for (host, n) in hosts.iter().zip(1u8..) {
        sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
        configure(&sim, *host, |config| config.timestamps = timestamps);
    }
    let dropped = drop_bytes(&mut sim, &[(40 * MSS, 1)]);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(40_000_000);
    let limit = sim.now() + 1000 * MS;
    assert!(sim.run_until(limit, |sim| {
        bulk.pump(sim.now());
        !dropped.lock().is_empty()
    }));
    let flight = bulk.info().outstanding;
    // It arrives 30 ms late, before what is sent again after a round trip of 40 ms.
    bulk.run(&mut sim, 30 * MS);
    let frame = dropped.lock()[0].clone();
    sim.inject(segment, 0, frame);
    bulk.run(&mut sim, 200 * MS);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPSackRecovery"), 1);
    (sim, hosts, bulk, flight)
}

#[test]
fn timestamps_take_a_spurious_recovery_back() {
    let (sim, hosts, bulk, flight) = late(true);
    let undone = tcp_ext(&sim, hosts[0], "TCPFullUndo") + tcp_ext(&sim, hosts[0], "TCPPartialUndo");
    assert_eq!(undone, 1, "{:?}", bulk.info());
    assert_eq!(bulk.info().ssthresh, usize::MAX);
    assert!(bulk.info().window >= flight);
}

#[test]
fn a_d_sack_takes_a_spurious_recovery_back() {
    let (sim, hosts, bulk, flight) = late(false);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPDSACKUndo"), 1, "{:?}", bulk.info());
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPDSACKRecv"), 1);
    assert_eq!(bulk.info().ssthresh, usize::MAX);
    assert!(bulk.info().window >= flight);
}

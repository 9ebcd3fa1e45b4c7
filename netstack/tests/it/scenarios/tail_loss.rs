//! The last segment of a flight is lost: a probe repairs it in about two round trips, long before the timeout, and
//! the window pays for the loss (RFC 8985 section 7).

use super::bulk::{Bulk, MS, MSS, drop_bytes, tcp_ext, trace};
use netstack::link::fault::Faults;
use netstack::sim::Sim;

#[test]
fn a_probe_finds_a_lost_tail_within_two_round_trips() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(20 * MS));
    drop_bytes(&mut sim, &[(3 * MSS, 1), (4 * MSS, 1)]);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(5 * MSS);
    let start = sim.now();
    assert!(bulk.finish(&mut sim, 1000 * MS));
    let took = sim.now() - start;
    // The smoothed round trip still has the address resolution of the first in it: 67 ms. A round trip to the last
    // acknowledgment, two smoothed ones to the probe, one for its SACK and a half for the first of the two.
    assert!(took < 270 * MS, "{took:?}\n{}", trace(&sim));
    let counters = bulk.info().counters;
    assert_eq!((counters.loss_probes, counters.recoveries, counters.timeouts), (1, 1, 0));
}

#[test]
fn a_probe_repairs_a_single_lost_segment_in_place_of_the_timeout() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(20 * MS));
    drop_bytes(&mut sim, &[(4 * MSS, 1)]);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(5 * MSS);
    assert!(bulk.finish(&mut sim, 1000 * MS), "{}", trace(&sim));
    let (probes, timeouts) =
        (tcp_ext(&sim, hosts[0], "TCPLossProbes"), tcp_ext(&sim, hosts[0], "TCPTimeouts"));
    assert_eq!((probes, timeouts), (1, 0));
    // Nobody said that it came twice, so what is acknowledged next tells that the probe repaired a loss.
    bulk.queue(MSS);
    assert!(bulk.finish(&mut sim, 1000 * MS), "{}", trace(&sim));
    bulk.run(&mut sim, 100 * MS);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPLossProbeRecovery"), 1);
    assert!(bulk.window() < 10, "{}", bulk.window());
}

#[test]
fn a_probe_of_a_tail_that_was_only_late_costs_nothing() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(20 * MS));
    // The acknowledgment of the tail is lost instead.
    let mut acks = 0;
    sim.set_filter(move |_, port, frame| {
        acks += usize::from(port == 1 && super::bulk::header_of(frame).is_some());
        match port == 1 && (2..=6).contains(&acks) {
            true => netstack::sim::Verdict::Drop,
            false => netstack::sim::Verdict::Pass,
        }
    });
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(5 * MSS);
    assert!(bulk.finish(&mut sim, 1000 * MS));
    bulk.run(&mut sim, 300 * MS);
    bulk.queue(MSS);
    assert!(bulk.finish(&mut sim, 1000 * MS));
    bulk.run(&mut sim, 100 * MS);
    let counters = bulk.info().counters;
    assert_eq!((counters.loss_probes, counters.duplicates_reported), (1, 1), "{counters:?}");
    assert_eq!((counters.loss_probe_recoveries, counters.timeouts), (0, 0));
    assert!(bulk.window() >= 10, "{}", bulk.window());
}

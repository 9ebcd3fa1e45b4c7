//! A path that reorders and loses nothing: the reordering window adapts (RFC 8985 section 6.2.4), and what is still
//! sent again in vain is taken back.

use super::bulk::{Bulk, MS, path};
use netstack::link::fault::Faults;
use netstack::sim::Sim;

#[test]
fn reordering_within_a_quarter_of_the_round_trip_costs_next_to_nothing() {
    let faults =
        Faults { reorder_ppm: 20_000, reorder_delay: 4 * MS, ..path(20 * MS, 40, 1000 * MS) };
    let (mut sim, hosts) = Sim::pair(2, faults);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(8_000_000);
    let start = sim.now();
    assert!(bulk.finish(&mut sim, 20_000 * MS));
    let rate = 8_000_000.0 * 8.0 / (sim.now() - start).as_secs_f64() / 1e6;
    let counters = bulk.info().counters;
    assert_eq!(counters.timeouts, 0, "{counters:?}");
    assert!(counters.bytes_retransmitted * 100 < counters.bytes_sent, "{counters:?}");
    assert!(rate > 0.9 * 40.0, "{rate} Mbit/s {counters:?}");
}

#[test]
fn reordering_by_most_of_a_round_trip_is_learnt_and_undone() {
    let faults =
        Faults { reorder_ppm: 2_000, reorder_delay: 15 * MS, ..path(20 * MS, 40, 1000 * MS) };
    let (mut sim, hosts) = Sim::pair(2, faults);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(8_000_000);
    let start = sim.now();
    assert!(bulk.finish(&mut sim, 20_000 * MS));
    let rate = 8_000_000.0 * 8.0 / (sim.now() - start).as_secs_f64() / 1e6;
    let counters = bulk.info().counters;
    assert!(counters.duplicates_reported > 0, "{counters:?}");
    assert!(counters.undone_wholly + counters.undone_partially + counters.undone_by_report > 0);
    assert!(counters.bytes_retransmitted * 100 < counters.bytes_sent, "{counters:?}");
    assert!(rate > 0.8 * 40.0, "{rate} Mbit/s {counters:?}");
}

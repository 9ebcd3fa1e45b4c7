//! A third of the acknowledgments is lost and no data: nothing is sent again, and the rate holds.

use super::bulk::{Bulk, MS, header_of, path};
use netstack::rng::{Rng, seed_from};
use netstack::sim::{Sim, Verdict};

#[test]
fn lost_acknowledgments_cause_no_retransmission() {
    let (mut sim, hosts) = Sim::pair(3, path(20 * MS, 40, 2000 * MS));
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    let mut rng = Rng::new(&seed_from(3), 1);
    sim.set_filter(move |_, port, frame| {
        let ack = port == 1 && header_of(frame).is_some_and(|(_, len)| len == 0);
        match ack && rng.chance_ppm(330_000) {
            true => Verdict::Drop,
            false => Verdict::Pass,
        }
    });
    bulk.queue(8_000_000);
    let start = sim.now();
    assert!(bulk.finish(&mut sim, 20_000 * MS));
    let rate = 8_000_000.0 * 8.0 / (sim.now() - start).as_secs_f64() / 1e6;
    let counters = bulk.info().counters;
    assert_eq!((counters.timeouts, counters.recoveries), (0, 0), "{counters:?}");
    // A probe of a tail whose acknowledgment was lost is the most.
    assert!(counters.retransmissions <= 2, "{counters:?}");
    assert!(rate > 0.85 * 40.0, "{rate} Mbit/s");
}

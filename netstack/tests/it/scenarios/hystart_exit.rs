//! A deep queue at a bottleneck: HyStart++ (RFC 9406) leaves slow start when the round trip grows, before the queue
//! overflows. Reno, which only knows losses, fills it.

use super::bulk::{Bulk, MS, path};
use netstack::link::fault::Fate;
use netstack::sim::Sim;

fn overflows(congestion: &'static str) -> (usize, Bulk) {
    let (mut sim, hosts) = Sim::pair(9, path(40 * MS, 50, 400 * MS));
    let mut bulk = Bulk::open(&mut sim, hosts, 80, congestion);
    bulk.queue(20_000_000);
    bulk.run(&mut sim, 1500 * MS);
    let frames = sim.capture().frames();
    (frames.iter().filter(|frame| frame.fates.contains(&Fate::Overflowed)).count(), bulk)
}

#[test]
fn slow_start_ends_before_the_queue_overflows() {
    let (lost, bulk) = overflows("cubic");
    assert_eq!(lost, 0, "{:?}", bulk.info());
    assert!(bulk.info().ssthresh < usize::MAX, "{:?}", bulk.info());
    // Yet it fills the pipe of 250 kB.
    assert!(bulk.info().window > 250_000, "{:?}", bulk.info());
    let (lost, _) = overflows("reno");
    assert!(lost > 50, "{lost}");
}

//! BBR (draft-ietf-ccwg-bbr) keeps a path full that loses one packet in a hundred, which CUBIC takes for congestion; its
//! queue stays short, and it shares a bottleneck with another of its kind.

use super::bulk::{Bulk, MS, path};
use netstack::link::fault::Faults;
use netstack::sim::{Recording, Sim};

fn rate(congestion: &'static str, loss_ppm: u32) -> (f64, Bulk) {
    let faults = Faults { loss_ppm, ..path(40 * MS, 20, 100 * MS) };
    let (mut sim, hosts) = Sim::pair(13, faults);
    sim.set_recording(Recording::Nothing);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, congestion);
    bulk.queue(usize::MAX / 2);
    bulk.run(&mut sim, 3_000 * MS);
    let before = bulk.received;
    bulk.run(&mut sim, 20_000 * MS);
    ((bulk.received - before) as f64 * 8.0 / 20.0 / 1e6, bulk)
}

#[test]
fn one_percent_of_random_loss_does_not_slow_bbr_down() {
    let (bbr, bulk) = rate("bbr", 10_000);
    println!("{bbr:.1} Mbit/s {:?}", bulk.info());
    // The payload's share of 20 Mbit/s is 19.1, of which one in a hundred is lost.
    assert!(bbr > 0.8 * 19.1, "{bbr} Mbit/s, {:?}", bulk.info());
    let (cubic, _) = rate("cubic", 10_000);
    assert!(cubic < 0.3 * 19.1, "{cubic} Mbit/s");
}

#[test]
fn a_clean_path_is_full_and_its_queue_short() {
    let (bbr, bulk) = rate("bbr", 0);
    println!("{bbr:.1} Mbit/s {:?}", bulk.info());
    assert!(bbr > 0.9 * 19.1, "{bbr} Mbit/s, {:?}", bulk.info());
    // 40 ms and at most one round trip of queue, where CUBIC fills all hundred milliseconds.
    assert!(bulk.info().rtt < 80 * MS, "{:?}", bulk.info());
    assert_eq!(bulk.info().counters.timeouts, 0);
}

#[test]
fn two_flows_of_bbr_share() {
    let (mut sim, hosts) = Sim::pair(14, path(40 * MS, 20, 100 * MS));
    sim.set_recording(Recording::Nothing);
    let mut flows: Vec<_> =
        [80, 81].map(|port| Bulk::open(&mut sim, hosts, port, "bbr")).into_iter().collect();
    flows.iter_mut().for_each(|flow| flow.queue(usize::MAX / 2));
    let until = sim.now() + 20_000 * MS;
    sim.run_until(until, |sim| {
        flows.iter_mut().for_each(|flow| flow.pump(sim.now()));
        false
    });
    let [a, b] = [0, 1].map(|n| flows[n].received as f64 * 8.0 / 20.0 / 1e6);
    println!("{a:.1} {b:.1} Mbit/s");
    assert!(a + b > 0.85 * 19.1 && a / b < 3.0 && b / a < 3.0, "{a} {b}");
}

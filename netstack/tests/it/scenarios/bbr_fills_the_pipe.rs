//! BBR (draft-ietf-ccwg-bbr) keeps a path full that loses one packet in a hundred, which CUBIC takes for congestion; its
//! queue stays short, and it shares a bottleneck with another of its kind.

use super::bulk::{Bulk, MS, path};
use netstack::link::fault::Faults;
use netstack::sim::{Recording, Sim};

fn rate(congestion: &'static str, loss_ppm: u32) -> (f64, Bulk) {
    rate_of(13, congestion, loss_ppm, 20)
}

fn rate_of(seed: u64, congestion: &'static str, loss_ppm: u32, mbit: u64) -> (f64, Bulk) {
    let faults = Faults { loss_ppm, ..path(40 * MS, mbit, 100 * MS) };
    let (mut sim, hosts) = Sim::pair(seed, faults);
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
    // The payload's share is 0.956, of which one in a hundred is lost.
    for (seed, mbit) in [(13, 20), (14, 20), (15, 50), (16, 50)] {
        let (bbr, bulk) = rate_of(seed, "bbr", 10_000, mbit);
        let share = bbr / (mbit as f64 * 0.956);
        println!("{bbr:.1} Mbit/s of {mbit}: {share:.3}");
        assert!(share > 0.9, "{bbr} Mbit/s of {mbit}, {:?}", bulk.info());
    }
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

#[test]
fn a_shallow_queue_is_found_and_kept_from_overflowing() {
    let (mut sim, hosts) = Sim::pair(17, path(40 * MS, 20, 8 * MS));
    sim.set_recording(Recording::Nothing);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "bbr");
    bulk.queue(usize::MAX / 2);
    bulk.run(&mut sim, 3_000 * MS);
    let (before, sent) = (bulk.info().counters, bulk.received);
    bulk.run(&mut sim, 20_000 * MS);
    let after = bulk.info().counters;
    let again = (after.bytes_retransmitted - before.bytes_retransmitted) as f64;
    let (lost, rate) = (
        again / (after.bytes_sent - before.bytes_sent) as f64,
        (bulk.received - sent) as f64 * 8.0 / 20.0 / 1e6,
    );
    println!("{rate:.1} Mbit/s, {lost:.4} lost");
    assert!(rate > 0.85 * 19.1 && lost < 0.02, "{rate} Mbit/s, {lost} lost");
}

//! Goodput under random loss, as a share of what CUBIC's own formula allows.

use super::bulk::{Bulk, MS, MSS, path};
use netstack::link::fault::Faults;
use netstack::sim::{Recording, Sim};

/// The average window in segments at a loss probability: RFC 9438 section 5.1's figure 5 for the cubic region,
/// `(C * (3 + beta) / (4 * (1 - beta)))^(1/4) * RTT^(3/4) / p^(3/4)`, and section 4.3's Reno-friendly region, where
/// CUBIC is as AIMD(1, 0.5): `sqrt(3 / (2 * p))` (section 5.1, figure 6). CUBIC is the larger of the two.
fn window_of_cubic(p: f64, rtt: f64) -> f64 {
    let cubic = (0.4_f64 * (3.0 + 0.7) / (4.0 * (1.0 - 0.7))).powf(0.25) * (rtt / p).powf(0.75);
    cubic.max((1.5 / p).sqrt())
}

#[test]
fn goodput_at_one_percent_loss_is_what_the_formula_allows() {
    let (rate, rtt, p) = (100_000_000.0_f64, 0.02_f64, 0.01_f64);
    let formula = window_of_cubic(p, rtt) * MSS as f64 * 8.0 / rtt;
    let bound = f64::min(rate, formula);
    let mut shares = Vec::new();
    for seed in [1, 2] {
        let faults = Faults { loss_ppm: 10_000, ..path(20 * MS, 100, 50 * MS) };
        let (mut sim, hosts) = Sim::pair(seed, faults);
        sim.set_recording(Recording::Nothing);
        let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
        bulk.queue(usize::MAX / 2);
        bulk.run(&mut sim, 40_000 * MS);
        let goodput = bulk.received as f64 * 8.0 / 40.0;
        println!(
            "seed {seed}: {:.2} Mbit/s of {:.2} ({:.2}), {:?}",
            goodput / 1e6,
            bound / 1e6,
            goodput / bound,
            bulk.info().counters
        );
        shares.push(goodput / bound);
    }
    assert!(shares.iter().all(|share| *share >= 0.9), "{shares:?}");
}

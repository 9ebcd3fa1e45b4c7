//! After a loss the window grows as RFC 9438 figure 1 draws it: concave up to where the loss was, flat there, convex
//! beyond.

use super::bulk::{Bulk, MS, MSS, drop_bytes};
use netstack::link::fault::Faults;
use netstack::sim::{Recording, Sim};

#[test]
fn the_window_grows_concave_and_then_convex() {
    let (mut sim, hosts) = Sim::pair(8, Faults::delay(50 * MS));
    sim.set_recording(Recording::Nothing);
    // Slow start of 10, 20, 40 … segments: the one lost is in a flight of 320.
    drop_bytes(&mut sim, &[(400 * MSS, 1)]);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(400_000_000);
    let mut before = 0;
    let limit = sim.now() + 5000 * MS;
    assert!(sim.run_until(limit, |sim| {
        bulk.pump(sim.now());
        if bulk.info().counters.recoveries == 0 {
            before = bulk.window();
        }
        bulk.info().counters.recoveries == 1
    }));
    bulk.run(&mut sim, 200 * MS);
    let mut windows = vec![bulk.window()];
    // K = cbrt(W_max * 0.3 / 0.4) seconds.
    let k = (before as f64 * 0.75).cbrt();
    for _ in 0..(20.0 * k) as usize {
        bulk.run(&mut sim, 100 * MS);
        windows.push(bulk.window());
    }
    let at = |share: f64| windows[(share * 10.0 * k) as usize] as i64;
    let what = format!("W_max {before}, K {k} s: {windows:?}");
    assert!((at(0.0) - (before * 7 / 10) as i64).abs() <= (before / 40) as i64, "{what}");
    assert!((at(1.0) - before as i64).abs() <= (before / 50) as i64, "{what}");
    // Eq. 1 at the fourths: 1 - x^3 of the way.
    let gained = |from: f64, to: f64| at(to) - at(from);
    assert!(gained(0.0, 0.33) > 4 * gained(0.67, 1.0), "concave: {what}");
    assert!(gained(1.67, 1.99) > 4 * gained(1.0, 1.33), "convex: {what}");
    assert!((gained(0.0, 1.0) - gained(1.0, 1.99)).abs() <= (before / 20) as i64, "{what}");
}

//! Two flows over one bottleneck share it: CUBIC with CUBIC evenly, CUBIC with Reno within a factor, and together they
//! fill it.

use super::bulk::{Bulk, MS, path};
use netstack::sim::{Recording, Sim};

/// Megabits a second of two flows of those controllers, the second of which begins two seconds later.
fn share(first: &'static str, second: &'static str, rtt_ms: u32) -> (f64, f64) {
    // A queue of one round trip.
    let (mut sim, hosts) = Sim::pair(12, path(MS * rtt_ms, 10, MS * rtt_ms));
    sim.set_recording(Recording::Nothing);
    let mut one = Bulk::open(&mut sim, hosts, 80, first);
    one.queue(usize::MAX / 2);
    one.run(&mut sim, 2_000 * MS);
    let mut two = Bulk::open(&mut sim, hosts, 81, second);
    two.queue(usize::MAX / 2);
    let mut both = |time, sim: &mut Sim| {
        let until = sim.now() + time;
        let before = (one.received, two.received);
        sim.run_until(until, |sim| {
            one.pump(sim.now());
            two.pump(sim.now());
            false
        });
        (one.received - before.0, two.received - before.1)
    };
    both(10_000 * MS, &mut sim);
    let (a, b) = both(40_000 * MS, &mut sim);
    let mbit = |bytes: usize| bytes as f64 * 8.0 / 40.0 / 1e6;
    println!("{first} {:.2} Mbit/s, {second} {:.2} Mbit/s", mbit(a), mbit(b));
    (mbit(a), mbit(b))
}

#[test]
fn flows_share_a_bottleneck() {
    let (a, b) = share("cubic", "cubic", 40);
    assert!(a / b < 2.0 && b / a < 2.0, "{a} {b}");
    assert!(a + b > 9.0, "{a} {b}");
    // On a short path CUBIC is as Reno (RFC 9438 section 4.3).
    let (a, b) = share("cubic", "reno", 20);
    assert!(a / b < 3.0 && b / a < 3.0, "{a} {b}");
    assert!(a + b > 9.0, "{a} {b}");
}

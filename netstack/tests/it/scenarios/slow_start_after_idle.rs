//! A connection that was idle does not send its whole old window at once: the window decays to the initial one
//! (RFC 5681 section 4.1), unless tcp_slow_start_after_idle is off.

use super::bulk::{Bulk, MS, MSS, configure, sent_data};
use netstack::link::fault::Faults;
use netstack::sim::Sim;

fn first_burst_after_idle(slow_start_after_idle: bool) -> (usize, usize) {
    let mut sim = Sim::new(10);
    let segment = sim.add_segment(Faults::delay(20 * MS));
    let hosts = [sim.add_host(), sim.add_host()];
    for (host, n) in hosts.iter().zip(1u8..) {
        sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
        configure(&sim, *host, |config| config.slow_start_after_idle = slow_start_after_idle);
    }
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(600 * MSS);
    assert!(bulk.finish(&mut sim, 2000 * MS));
    bulk.run(&mut sim, 100 * MS);
    let window = bulk.window();
    bulk.run(&mut sim, 20_000 * MS);
    bulk.queue(600 * MSS);
    let at = sim.now();
    bulk.pump(at);
    bulk.run(&mut sim, MS);
    let burst = sent_data(&sim, segment).iter().filter(|(when, _)| *when == at).count();
    (window, burst)
}

#[test]
fn the_window_decays_while_idle() {
    let (window, burst) = first_burst_after_idle(true);
    assert!(window > 100, "{window}");
    assert_eq!(burst, 10);
    let (window, burst) = first_burst_after_idle(false);
    assert!(burst > 80 && burst <= window, "{burst} of {window}");
}

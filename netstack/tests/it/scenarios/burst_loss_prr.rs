//! A burst of losses: proportional rate reduction (RFC 6937) sends with what arrives, never in a burst, and the
//! window ends at the threshold.

use super::bulk::{Bulk, MS, MSS, configure, drop_bytes, tcp_ext};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use std::collections::BTreeMap;

#[test]
fn recovery_from_a_burst_sends_with_what_arrives() {
    // Arrivals a tenth of a millisecond apart, so that each acknowledgment stands alone.
    let faults = Faults { rate: Some(120_000_000), queue: 500 * MS, ..Faults::delay(20 * MS) };
    let mut sim = Sim::new(7);
    let segment = sim.add_segment(faults);
    let hosts = [sim.add_host(), sim.add_host()];
    for (host, n) in hosts.iter().zip(1u8..) {
        sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
    }
    // The peer's window is never in the way.
    configure(&sim, hosts[1], |config| config.receive_buffer = 4 << 20);
    let lost: Vec<_> = (100..120).map(|n| (n * MSS, 1)).collect();
    drop_bytes(&mut sim, &lost);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "reno");
    bulk.queue(100 * 1000 * 1000);
    let limit = sim.now() + 5000 * MS;
    let mut before = 0;
    sim.run_until(limit, |sim| {
        bulk.pump(sim.now());
        let info = bulk.info();
        if info.counters.recoveries == 0 {
            before = info.window;
        }
        info.counters.recoveries == 1
    });
    let start = sim.now();
    let limit = start + 1000 * MS;
    let mut bursts: BTreeMap<_, usize> = BTreeMap::new();
    let frames = sim.capture().frames().len();
    assert!(sim.run_until(limit, |sim| {
        bulk.pump(sim.now());
        bulk.info().lost == 0 && bulk.received >= 120 * MSS
    }));
    for frame in &sim.capture().frames()[frames..] {
        if frame.port == 0 {
            *bursts.entry(frame.at).or_default() += 1;
        }
    }
    let most = bursts.values().max().copied().unwrap_or(0);
    assert!(most <= 3, "{most} segments at once: {bursts:?}");
    // All twenty are repaired within one recovery, a round trip or two.
    assert!(sim.now() - start < 100 * MS, "{:?}", sim.now() - start);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPTimeouts"), 0);
    bulk.run(&mut sim, 45 * MS);
    assert_eq!((bulk.info().counters.recoveries, bulk.info().lost), (1, 0));
    let window = bulk.info().window;
    assert!(window >= before / 2 && window < before / 2 + 4 * MSS, "{window} of {before}");
}

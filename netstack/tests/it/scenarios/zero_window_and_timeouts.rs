//! A window that closes while data is in flight, some of it lost: the timeout repairs what was sent, the persist timer asks
//! for the rest, neither stands in the other's way, and window probes are no congestion.

use super::bulk::{Bulk, MS, MSS, configure, drop_bytes};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::time::Duration;

#[test]
fn a_loss_before_a_closed_window_is_repaired_and_the_window_probed() {
    let (mut sim, hosts) = Sim::pair(20, Faults::delay(10 * MS));
    configure(&sim, hosts[1], |config| {
        config.receive_buffer = 20_000;
        config.receive_buffer_max = 20_000;
    });
    // Once as data, and once as a retransmission or a probe.
    drop_bytes(&mut sim, &[(5 * MSS, 2)]);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.reads = false;
    bulk.queue(100_000);
    bulk.run(&mut sim, Duration::from_secs(30));
    let info = bulk.info();
    assert_eq!((info.outstanding, info.lost), (0, 0), "{info:?}");
    assert!(info.unsent > 0 && info.probes == 0, "{info:?}");
    let window = info.window;
    bulk.run(&mut sim, Duration::from_secs(60));
    assert_eq!(bulk.info().window, window, "probes are no congestion");
    assert_eq!(bulk.info().retries, 0);
    bulk.reads = true;
    assert!(bulk.finish(&mut sim, Duration::from_secs(120)));
}

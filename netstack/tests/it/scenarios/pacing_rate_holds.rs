//! SO_MAX_PACING_RATE bounds the rate of a connection, evenly over each tenth of a second and without bursts; and a
//! connection without it is not paced.

use super::bulk::{Bulk, MS, MSS, sent_data};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::options::SocketOption;

#[test]
fn the_rate_holds_evenly() {
    let mut sim = Sim::new(15);
    let segment = sim.add_segment(Faults::delay(5 * MS));
    let hosts = [sim.add_host(), sim.add_host()];
    for (host, n) in hosts.iter().zip(1u8..) {
        sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
    }
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    let rate = 2_000_000;
    bulk.sender.set_option(sim.now(), SocketOption::MaxPacingRate(rate)).unwrap();
    bulk.queue(50_000_000);
    let start = sim.now();
    bulk.run(&mut sim, 3_000 * MS);
    let sent = sent_data(&sim, segment);
    for tenth in 1..30u32 {
        let (from, to) = (start + MS * (100 * tenth), start + MS * (100 * (tenth + 1)));
        let bytes: usize =
            sent.iter().filter(|(at, _)| *at >= from && *at < to).map(|(_, data)| data.len).sum();
        // A piece of two segments may fall on either side.
        assert!(bytes.abs_diff(200_000) <= 3 * MSS, "{bytes} in tenth {tenth}");
    }
    let burst = |at| sent.iter().filter(|(when, _)| *when == at).count();
    assert!(sent.iter().all(|(at, _)| burst(*at) <= 2));
    bulk.sender.set_option(sim.now(), SocketOption::MaxPacingRate(u64::MAX)).unwrap();
    let before = bulk.received;
    bulk.run(&mut sim, 1_000 * MS);
    assert!(bulk.received - before > 10_000_000, "{}", bulk.received - before);
}

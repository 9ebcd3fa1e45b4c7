//! The receive buffer grows with what the program reads in a round trip, to about twice the path's product of bandwidth
//! and delay and not far beyond, and not at all when the program set it.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::options::SocketOption;
use netstack::time::Duration;

/// Sends for a while over a link; gives the receiver's buffer and the rate of the last half, in bytes.
fn transfer(rate: u64, one_way: Duration, locked: Option<usize>, time: Duration) -> (usize, u64) {
    let faults = Faults { rate: Some(rate), queue: 2 * one_way, ..Faults::delay(one_way) };
    let (mut sim, hosts) = Sim::pair(1, faults);
    configure(&sim, hosts[0], |config| config.send_buffer_max = 64 << 20);
    configure(&sim, hosts[1], |config| config.receive_buffer_max = 32 << 20);
    let listener = listen(&sim, hosts[1], "0.0.0.0:80", 4);
    if let Some(bytes) = locked {
        listener.set_option(sim.now(), SocketOption::ReceiveBuffer(bytes)).unwrap();
    }
    let client = connect(&sim, hosts[0], at(Family::V4, 2, 80));
    sim.run_for(10 * one_way + 10 * MS);
    let server = listener.accept(sim.now()).unwrap();
    let block = vec![0; 1 << 20];
    let start = sim.now();
    let (mut received, mut at_half) = (0u64, 0);
    let mut sink = Vec::new();
    while sim.now().since(start) < time {
        let _ = send(&sim, &client, &block);
        while server.recv(sim.now(), &mut sink, Default::default()).is_ok() {
            received += sink.len() as u64;
            sink.clear();
        }
        if sim.now().since(start) < time / 2 {
            at_half = received;
        }
        if !sim.step() {
            break;
        }
    }
    let rate = (received - at_half) * 8 * 1000 / (time / 2).as_millis() as u64;
    (server.info().unwrap().receive_capacity, rate)
}

#[test]
fn a_long_fat_path_is_filled_and_a_short_one_stays_small() {
    let (small, _) = transfer(100_000_000, MS / 2, None, SEC);
    assert!(small <= 400_000, "100 Mbit/s over 1 ms needs no {small} bytes");
    // 100 Mbit/s over 40 ms: 500 KB are under way, and as much waits in the bottleneck's queue.
    let (large, rate) = transfer(100_000_000, 20 * MS, None, 4 * SEC);
    assert!(large > 900_000, "{large} bytes cannot hold two windows");
    // Linux 6.18 grows to 31 MB on this very link, where a hole that closes looks like a fast reader.
    assert!(large <= 10_000_000, "{large} bytes are far more than the path takes");
    assert!(rate > 85_000_000, "only {rate} bit/s");
}

#[test]
fn a_buffer_that_the_program_set_stays() {
    let (capacity, rate) = transfer(100_000_000, 20 * MS, Some(131_072), 2 * SEC);
    assert_eq!(capacity, 131_072);
    assert!(rate < 40_000_000, "{rate} bit/s through a window of at most 128 KiB");
}

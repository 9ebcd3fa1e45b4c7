//! Sequence numbers wrap at 2^32 in both directions: not a byte is lost, also with loss and reordering, and the FIN may
//! lie on the other side.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::Flags;

#[test]
fn the_peers_numbers_wrap_within_data_and_at_the_fin() {
    for before in [0usize, 1, 2, 700, 1400, 3000] {
        let (mut sim, host, hand) = with_hand(1);
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let to = at(Family::V4, 1, 80);
        let start = Seq(0) - before;
        let mut syn = control(start - 1usize, Seq(0), Flags::SYN);
        syn.options.sack_permitted = true;
        let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
        assert_eq!(ours, start);
        let socket = listener.accept(sim.now()).unwrap();
        let bytes: Vec<u8> = (0..2800u32).map(|n| (n % 251) as u8).collect();
        // The second half first.
        let blocks = hand.ask(&mut sim, 4000, to, &data(ours + 1400, theirs, &bytes[1400..]));
        let sack = blocks[0].options.sack.iter().next();
        assert_eq!(sack, Some(((ours + 1400).0, (ours + 2800).0)));
        let answers = hand.ask(&mut sim, 4000, to, &data(ours, theirs, &bytes[..1400]));
        assert_eq!(answers.last().map(|a| a.ack), Some(ours + 2800));
        assert_eq!(recv(&sim, &socket).unwrap(), bytes);
        hand.ask(&mut sim, 4000, to, &control(ours + 2800, theirs, Flags::FIN | Flags::ACK));
        assert_eq!(socket.state(), StateName::CloseWait);
    }
}

#[test]
fn gigabytes_cross_the_wrap() {
    use netstack::link::fault::Faults;
    use netstack::sim::Sim;
    use netstack::transport::Host;
    // Initial numbers come from a clock and a keyed hash: take a connection that begins shortly before the wrap.
    let faults = Faults {
        loss_ppm: 10_000,
        reorder_ppm: 20_000,
        reorder_delay: 2 * MS,
        ..Faults::delay(MS)
    };
    let (mut sim, hosts) = Sim::pair(5, faults);
    let listener = listen(&sim, hosts[1], "0.0.0.0:80", 64);
    let shared = sim.stack(hosts[0]).clone();
    let (local, remote) = (at(Family::V4, 1, 4000), at(Family::V4, 2, 80));
    // The clock's part moves by 250,000 a second: wait until 100,000 numbers are left.
    let iss = shared.shared().tcp.keys.secrets(sim.now(), local, remote).iss;
    let left = u64::from(u32::MAX - iss).saturating_sub(100_000);
    sim.run_until(sim.now() + std::time::Duration::from_micros(4 * left), |_| false);
    let client = sim.stack(hosts[0]).tcp_socket(Family::V4);
    client.bind(local).unwrap();
    client.connect(sim.now(), remote).unwrap();
    sim.run_until(sim.now() + 20 * SEC, |_| client.state() == StateName::Established);
    let server = loop {
        if let Ok(server) = listener.accept(sim.now()) {
            break server;
        }
        sim.run_for(10 * MS);
    };
    let bytes: Vec<u8> =
        (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < bytes.len() {
        if sent < bytes.len() {
            sent += send(&sim, &client, &bytes[sent..]).unwrap_or(0);
        }
        sim.run_for(5 * MS);
        while let Ok(more) = recv(&sim, &server) {
            received.extend(more);
        }
    }
    assert!(received == bytes);
}

//! A path that reorders and loses nothing: the reordering window adapts (RFC 8985 section 6.2.4), and what is still
//! sent again in vain is taken back.

use super::bulk::{Bulk, MS, path};
use super::segments::{at, control, listen, send, with_hand};
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn reordering_within_a_quarter_of_the_round_trip_costs_next_to_nothing() {
    let faults =
        Faults { reorder_ppm: 20_000, reorder_delay: 4 * MS, ..path(20 * MS, 40, 1000 * MS) };
    let (mut sim, hosts) = Sim::pair(2, faults);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(8_000_000);
    let start = sim.now();
    assert!(bulk.finish(&mut sim, 20_000 * MS));
    let rate = 8_000_000.0 * 8.0 / (sim.now() - start).as_secs_f64() / 1e6;
    let counters = bulk.info().counters;
    assert_eq!(counters.timeouts, 0, "{counters:?}");
    assert!(counters.bytes_retransmitted * 100 < counters.bytes_sent, "{counters:?}");
    assert!(rate > 0.9 * 40.0, "{rate} Mbit/s {counters:?}");
}

#[test]
fn reordering_by_most_of_a_round_trip_is_learnt_and_undone() {
    let faults =
        Faults { reorder_ppm: 2_000, reorder_delay: 15 * MS, ..path(20 * MS, 40, 1000 * MS) };
    let (mut sim, hosts) = Sim::pair(2, faults);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(8_000_000);
    let start = sim.now();
    assert!(bulk.finish(&mut sim, 20_000 * MS));
    let rate = 8_000_000.0 * 8.0 / (sim.now() - start).as_secs_f64() / 1e6;
    let counters = bulk.info().counters;
    assert!(counters.duplicates_reported > 0, "{counters:?}");
    assert!(counters.undone_wholly + counters.undone_partially + counters.undone_by_report > 0);
    assert!(counters.bytes_retransmitted * 100 < counters.bytes_sent, "{counters:?}");
    assert!(rate > 0.8 * 40.0, "{rate} Mbit/s {counters:?}");
}

/// How far a segment that was sent once was overtaken (tcpi_reordering, tcpi_reord_seen), after acknowledgments that arrive as one:
/// each the number of segments it acknowledges and those that its SACK blocks report. Linux 6.18 was seen to tell
/// the first two.
#[test]
fn the_degree_of_reordering_is_told() {
    type Told = (usize, &'static [(usize, usize)]);
    let plays: [(&[Told], (u32, u32)); 4] = [
        (&[(0, &[(2, 3)]), (3, &[])], (3, 1)),
        (&[(0, &[(2, 3)]), (0, &[(2, 3), (5, 6)]), (6, &[])], (6, 1)),
        (&[(0, &[(7, 8)]), (7, &[(7, 8)]), (8, &[])], (8, 1)),
        (&[(2, &[]), (6, &[])], (3, 0)),
    ];
    for (told, expected) in plays {
        let (mut sim, host, hand) = with_hand(3);
        let listener = listen(&sim, host, "0.0.0.0:80", 1);
        let to = at(Family::V4, 1, 80);
        let mut syn = control(Seq(99), Seq(0), Flags::SYN);
        (syn.options.sack_permitted, syn.options.mss) = (true, Some(536));
        let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
        let socket = listener.accept(sim.now()).unwrap();
        send(&sim, &socket, &[1; 8 * 536]).unwrap();
        sim.run_for(2 * MS);
        for (acked, blocks) in told {
            let edge = |segments: usize| theirs + segments * 536;
            let mut ack = control(ours, edge(*acked), Flags::ACK);
            for (left, right) in *blocks {
                ack.options.sack.push(edge(*left).0, edge(*right).0);
            }
            hand.send(4000, to, &ack);
        }
        sim.run_for(2 * MS);
        let info = socket.info().unwrap();
        assert_eq!((info.reordering, info.reorderings), expected, "{told:?}");
        assert_eq!((info.counters.retransmissions, info.retransmissions_out), (0, 0));
    }
}

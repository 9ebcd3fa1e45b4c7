//! Segments that a device holds at once are acknowledged as one (RFC 5681 section 4.2 lets a receiver of large trains
//! do so), but never while something is missing: then each tells the sender of what arrived.

use super::segments::*;
use netstack::sim::Arrivals;
use netstack::wire::tcp::Flags;

/// Full segments of the flight.
const SEGMENTS: usize = 8;
const MSS: usize = 1460;

/// A flight arrives at one instant, from its segment `first` on. Returns how many SACK blocks each acknowledgment has.
fn acknowledgments(arrivals: Arrivals, first: usize) -> Vec<usize> {
    let (mut sim, host, hand) = with_hand(5);
    let listener = listen(&sim, host, "10.0.0.1:80", 5);
    let mut syn = control(netstack::transport::tcp::Seq(1000), Default::default(), Flags::SYN);
    syn.options.mss = Some(MSS as u16);
    syn.options.sack_permitted = true;
    let (seq, ack, _) = hand.open(&mut sim, 4000, addr("10.0.0.1:80"), &syn);
    let socket = listener.accept(sim.now()).unwrap();
    sim.set_arrivals(arrivals);
    for n in first..SEGMENTS {
        hand.send(4000, addr("10.0.0.1:80"), &data(seq + n * MSS, ack, &[n as u8; MSS]));
    }
    sim.run_for(20 * MS);
    let heard = hand.heard();
    let readable = if first == 0 { SEGMENTS * MSS } else { 0 };
    assert_eq!(socket.queued().0, readable);
    heard.iter().map(|segment| segment.options.sack.len()).collect()
}

#[test]
fn a_burst_is_acknowledged_once() {
    let single = acknowledgments(Arrivals::Single, 0);
    assert!(single.len() >= SEGMENTS / 2, "at least every second full segment: {single:?}");
    assert_eq!(acknowledgments(Arrivals::Burst, 0), [0]);
}

#[test]
fn a_burst_behind_a_gap_is_acknowledged_as_if_it_came_one_by_one() {
    let behind = acknowledgments(Arrivals::Burst, 1);
    assert_eq!(behind, acknowledgments(Arrivals::Single, 1));
    // As many as fast retransmit waits for, even without SACK.
    assert!(behind.len() >= 3 && behind.iter().all(|blocks| *blocks == 1), "{behind:?}");
}

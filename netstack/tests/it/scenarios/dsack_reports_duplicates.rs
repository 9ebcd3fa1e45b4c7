//! What comes twice is reported by the first SACK block (RFC 2883): below the acknowledgment, or inside of a block that
//! waits behind a gap.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::{Segment, Seq};
use netstack::wire::tcp::Flags;

fn blocks(segment: &Segment, base: Seq) -> Vec<(usize, usize)> {
    let sack = &segment.options.sack;
    sack.iter().map(|(left, right)| (Seq(left).since(base), Seq(right).since(base))).collect()
}

#[test]
fn old_and_waiting_duplicates_are_told() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.sack_permitted = true;
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let _socket = listener.accept(sim.now()).unwrap();
    let mut put = |from: usize, len: usize| {
        let segment = data(ours + from, theirs, &vec![1; len]);
        let answers = hand.ask(&mut sim, 4000, to, &segment);
        let last = answers.last().expect("an acknowledgment at once");
        (last.ack.since(ours), blocks(last, ours))
    };
    assert_eq!(put(0, 100), (100, vec![]));
    // RFC 2883 section 4.1.1: a whole segment again.
    assert_eq!(put(0, 100), (100, vec![(0, 100)]));
    // A part of it, with new data behind.
    assert_eq!(put(50, 100), (150, vec![(50, 100)]));
    // Section 4.1.2: behind a gap.
    assert_eq!(put(300, 100), (150, vec![(300, 400)]));
    assert_eq!(put(300, 100), (150, vec![(300, 400), (300, 400)]));
    assert_eq!(put(320, 20), (150, vec![(320, 340), (300, 400)]));
    // Told once.
    assert_eq!(put(500, 100), (150, vec![(500, 600), (300, 400)]));
    assert_eq!(ext(&sim, host, "TCPDSACKOldSent"), 2);
    assert_eq!(ext(&sim, host, "TCPDSACKOfoSent"), 2);
}

#[test]
fn without_sack_nothing_is_told() {
    let (mut sim, host, hand) = with_hand(2);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(99), Seq(0), Flags::SYN));
    let _socket = listener.accept(sim.now()).unwrap();
    for from in [0, 0, 500, 500] {
        let segment = data(ours + from as usize, theirs, &[1; 100]);
        let answers = hand.ask(&mut sim, 4000, to, &segment);
        assert!(answers.iter().all(|answer| answer.options.sack.is_empty()));
    }
}

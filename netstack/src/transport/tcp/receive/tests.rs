//! Behaviour of the receiving half.

use super::*;
use crate::transport::tcp::acking;

const PACE: Pace =
    Pace { smoothed: None, rto: Duration::from_millis(200), most: Duration::from_millis(200) };
const START: Instant = Instant::from_secs(1);

fn receiver_of(capacity: usize) -> Receiver {
    let mut receiver = Receiver::new(START, capacity, capacity);
    receiver.mss_limit = 1448;
    receiver.sack = true;
    receiver.offer_first(1448, None);
    receiver.start(Seq(99));
    receiver.establish(START);
    receiver
}

/// One that has left the quick start.
fn receiver() -> Receiver {
    let mut receiver = receiver_of(200_000);
    while receiver.acking.is_quick() || receiver.space.ssthresh() < receiver.space.most() {
        take(&mut receiver, 1448);
        receiver.offer();
        receiver.acknowledged(3);
        receiver.consume(START, 1448);
    }
    // All of it came at one moment, which is no round trip.
    receiver.sizing = RightSizing::new(START);
    receiver.ack_due = AckDue::No;
    receiver
}

fn text(seq: Seq, len: usize) -> Text {
    Text { seq, data: Chain::from(vec![1; len]), fin: false, push: false }
}

fn take_at(receiver: &mut Receiver, now: Instant, seq: Seq, len: usize) -> AckDue {
    receiver.accept(now, &PACE, text(seq, len));
    receiver.ack_due
}

fn take(receiver: &mut Receiver, len: usize) -> AckDue {
    let seq = receiver.nxt;
    take_at(receiver, START, seq, len)
}

#[test]
fn every_second_segment_is_acknowledged_at_once_and_one_alone_within_40_ms() {
    let mut receiver = receiver();
    assert_eq!(take(&mut receiver, 1448), AckDue::At(START + acking::DELAYED_ACK));
    assert_eq!(take(&mut receiver, 1448), AckDue::Now);
    receiver.offer();
    receiver.acknowledged(3);
    assert_eq!(take(&mut receiver, 10), AckDue::At(START + acking::DELAYED_ACK));
}

#[test]
fn a_train_that_the_link_joined_counts_as_its_segments() {
    let mut receiver = receiver();
    for _ in 0..3 {
        assert_eq!(take(&mut receiver, 14_480), AckDue::Now);
        receiver.offer();
        receiver.acknowledged(3);
        receiver.consume(START, 14_480);
    }
}

#[test]
fn the_window_never_shrinks_and_opens_in_large_steps() {
    let mut receiver = receiver_of(200_000);
    assert_eq!(receiver.window(), 65_535 / 1448 * 1448);
    let mut edge = receiver.edge;
    for len in [40_000, 10_000, 5000, 3000, 1, 1448, 1000] {
        take(&mut receiver, len);
        receiver.offer();
        assert!(receiver.edge >= edge, "the edge moved back after {len}");
        edge = receiver.edge;
    }
    while receiver.window() > 0 {
        let window = receiver.window();
        take(&mut receiver, window);
        receiver.offer();
        receiver.acknowledged(3);
    }
    let full = receiver.edge;
    receiver.consume(START, 500);
    assert_eq!((receiver.ack_due, receiver.next_window()), (AckDue::No, receiver.window()));
    receiver.consume(START, receiver.readable());
    assert_eq!(receiver.ack_due, AckDue::Now);
    receiver.offer();
    assert!(receiver.edge.since(full) > 20_000);
}

#[test]
fn a_scaled_window_rounds_without_taking_back() {
    let mut receiver = receiver_of(200_000);
    receiver.window_shift = 7;
    receiver.offer();
    let edge = receiver.edge;
    for _ in 0..100 {
        take(&mut receiver, 33);
        receiver.offer();
        assert!(receiver.edge >= edge);
    }
}

#[test]
fn small_segments_cost_what_they_hold_and_no_more() {
    let mut receiver = receiver_of(200_000);
    // Each byte comes in a packet of its own.
    for _ in 0..50_000 {
        let mut packet = Chain::from(vec![0; 1514]);
        packet.advance(1513);
        let seq = receiver.nxt;
        receiver.accept(START, &PACE, Text { seq, data: packet, fin: false, push: true });
    }
    assert_eq!(receiver.readable(), 50_000);
    assert!(receiver.held() < 60_000, "{}", receiver.held());
}

#[test]
fn out_of_order_data_gives_way_to_what_is_nearer() {
    let mut receiver = receiver_of(20_000);
    let first = receiver.nxt;
    for hole in 1..100usize {
        take_at(&mut receiver, START, first + 50 * hole, 20);
    }
    assert!(receiver.odd.counters.out_of_order_dropped > 0 && receiver.held() <= 21_000);
    let before = receiver.odd.counters;
    assert_eq!(take(&mut receiver, 30), AckDue::Now, "what closes a hole is always taken");
    assert!(receiver.nxt > first && receiver.odd.counters.prune_called > before.prune_called);
    assert!(receiver.odd.counters.out_of_order_pruned > 0);
}

#[test]
fn without_memory_the_window_is_zero_and_comes_back_with_a_read() {
    let mut receiver = receiver_of(200_000);
    take(&mut receiver, 1448);
    receiver.offer();
    receiver.acknowledged(3);
    receiver.space.allowance = 2000;
    let (nxt, edge) = (receiver.nxt, receiver.edge);
    let accepted = receiver.accept(START, &PACE, text(nxt, 1448));
    assert!(accepted.dropped && receiver.nxt == nxt);
    assert_eq!((receiver.ack_due, receiver.offer()), (AckDue::Now, 0));
    receiver.acknowledged(3);
    assert_eq!(
        (receiver.edge, receiver.odd.counters.to_zero, receiver.odd.counters.queue_dropped),
        (edge, 1, 1)
    );
    receiver.consume(START, 1448);
    assert_eq!(receiver.ack_due, AckDue::Now, "the sender waits for it");
    assert!(receiver.offer() > 0 && receiver.odd.counters.from_zero == 1);
    // With an empty queue some is taken however short memory is.
    receiver.space.allowance = 0;
    let accepted = receiver.accept(START, &PACE, text(nxt, 14_480));
    assert_eq!((accepted.readable, accepted.dropped), (RECEIVE_MIN, true));
}

#[test]
fn many_acknowledgments_of_one_gap_become_one() {
    let mut receiver = receiver();
    receiver.sizing.on_echo(1, Duration::from_millis(10));
    let gap = receiver.nxt + 1448usize;
    let mut at_once = 0;
    for n in 0..20usize {
        if take_at(&mut receiver, START, gap + 1448 * n, 1448) == AckDue::Now {
            at_once += 1;
            receiver.offer();
            receiver.acknowledged(3);
        }
    }
    assert_eq!(at_once, 3);
    assert_eq!(receiver.ack_due, AckDue::At(START + Duration::from_micros(500)));
    assert_eq!(take(&mut receiver, 1448), AckDue::Now, "the gap is closed");
    receiver.acknowledged(3);
    assert_eq!(receiver.odd.counters.compressed, 16);
}

#[test]
fn an_answer_carries_the_acknowledgment_and_the_next_one_waits() {
    let mut receiver = receiver_of(200_000);
    assert_eq!(
        take(&mut receiver, 100),
        AckDue::Now,
        "the first segments are acknowledged at once"
    );
    receiver.on_data_sent(START + Duration::from_millis(1));
    receiver.acknowledged(3);
    assert!(matches!(take(&mut receiver, 100), AckDue::At(_)));
    assert!(!receiver.is_quick());
    receiver.consume(START, 200);
    assert!(matches!(receiver.ack_due, AckDue::At(_)));
    receiver.leave_interactive();
    assert_eq!((receiver.ack_due, receiver.is_quick()), (AckDue::Now, true));
}

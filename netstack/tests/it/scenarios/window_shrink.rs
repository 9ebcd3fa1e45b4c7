//! A peer that takes its window back: what lies beyond it is not sent again but for the first segment, nothing new goes
//! out, and the transfer goes on when the window comes back (RFC 9293 section 3.8.6: "a sender MUST be robust against
//! window shrinking").

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::{Segment, Seq};
use netstack::wire::tcp::Flags;

fn ack(ours: Seq, ack: Seq, window: u16) -> Segment {
    let mut segment = control(ours, ack, Flags::ACK);
    segment.window = window;
    segment
}

#[test]
fn a_shrunk_window_is_obeyed_and_survived() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.mss = Some(1000);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    let bytes: Vec<u8> = (0..20_000u32).map(|n| (n / 7) as u8).collect();
    send(&sim, &socket, &bytes).unwrap();
    sim.run_for(10 * MS);
    let sent: usize = hand.heard().iter().map(|segment| segment.payload.len()).sum();
    assert_eq!(sent, 8000, "the window of 8192 in whole segments");
    // The first segment arrived, and the window ends right behind the second.
    hand.ask(&mut sim, 4000, to, &ack(ours, theirs + 1000usize, 1000));
    let mut again = hand.heard();
    sim.run_for(3 * SEC);
    again.extend(hand.heard());
    assert!(again.iter().any(|segment| segment.seq == theirs + 1000usize), "the first is repeated");
    let beyond = again.iter().map(Segment::end).reduce(Seq::max).unwrap();
    assert!(beyond <= theirs + 2000usize, "something was sent beyond the window: {beyond:?}");
    // It comes back; an honest receiver takes what it gets in order.
    let (mut next, mut received) = (theirs + 1000usize, bytes[..1000].to_vec());
    for _ in 0..400 {
        let mut heard = hand.ask(&mut sim, 4000, to, &ack(ours, next, 4000));
        sim.run_for(50 * MS);
        heard.extend(hand.heard());
        for segment in heard {
            if segment.seq <= next && segment.end() > next {
                let old = next.since(segment.seq);
                received.extend_from_slice(&segment.payload.to_vec()[old..]);
                next = segment.end();
            }
        }
        if received.len() >= bytes.len() {
            break;
        }
    }
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
}

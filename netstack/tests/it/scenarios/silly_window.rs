//! Neither end deals in small windows: the receiver opens a closed window only by a segment or half its buffer, and
//! the sender does not fill a small one (RFC 9293 sections 3.8.6.2.1 and 3.8.6.2.2).

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::options::SocketOption;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn a_reader_in_small_steps_opens_the_window_in_large_ones() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    listener.set_option(sim.now(), SocketOption::ReceiveBuffer(40_000)).unwrap();
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.mss = Some(1460);
    let (mut ours, theirs, syn_ack) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    let mut edge = ours + usize::from(syn_ack.window);
    // Fill it.
    while edge > ours {
        let len = edge.since(ours).min(1460);
        for answer in hand.ask(&mut sim, 4000, to, &data(ours, theirs, &vec![1; len])) {
            edge = edge.max(answer.ack + usize::from(answer.window));
        }
        ours += len;
        sim.run_for(100 * MS);
        for answer in hand.heard() {
            edge = edge.max(answer.ack + usize::from(answer.window));
        }
    }
    // Read it in steps of a hundred bytes.
    let mut room = [0; 100];
    let (mut updates, mut read) = (Vec::new(), 0);
    while let Ok(n) = socket.recv(sim.now(), &mut &mut room[..], Default::default()) {
        read += n;
        sim.run_for(5 * MS);
        for update in hand.heard() {
            let now = update.ack + usize::from(update.window);
            updates.push(now.since(edge));
            edge = edge.max(now);
        }
    }
    assert!(read > 10_000, "{read}");
    assert!((1..=8).contains(&updates.len()), "{updates:?}");
    assert!(updates.iter().all(|step| *step >= 1000), "{updates:?}");
}

#[test]
fn a_small_window_is_not_filled_until_the_timer_says_so() {
    let (mut sim, host, hand) = with_hand(2);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.mss = Some(1460);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    // The window was 8192: it shrinks to a few bytes with the first acknowledgment.
    send(&sim, &socket, &[7; 1000]).unwrap();
    sim.run_for(10 * MS);
    assert!(!hand.heard().is_empty());
    let mut small = control(ours, theirs + 1000usize, Flags::ACK);
    small.window = 100;
    hand.ask(&mut sim, 4000, to, &small);
    send(&sim, &socket, &[7; 5000]).unwrap();
    sim.run_for(100 * MS);
    assert!(hand.heard().iter().all(|segment| segment.payload.is_empty()));
    sim.run_for(5 * SEC);
    let heard = hand.heard();
    let first = heard.iter().find(|segment| !segment.payload.is_empty()).expect("the timer");
    assert_eq!(first.payload.len(), 100);
}

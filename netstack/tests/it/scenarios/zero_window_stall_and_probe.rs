//! A closed window is probed at growing intervals without end, as long as the peer answers; it opens, and the
//! transfer goes on at once. A window that is zero in the SYN-ACK is no different.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::Flags;

#[test]
fn probes_back_off_and_end_when_the_window_opens() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.mss = Some(1460);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    let mut closed = control(ours, theirs, Flags::ACK);
    closed.window = 0;
    hand.ask(&mut sim, 4000, to, &closed);
    send(&sim, &socket, b"held back").unwrap();
    let mut times = Vec::new();
    for _ in 0..120_000 {
        sim.run_for(10 * MS);
        for probe in hand.heard() {
            assert!(probe.payload.is_empty(), "nothing goes into a closed window");
            assert_eq!(probe.seq + 1usize, theirs, "it lies before the window");
            times.push(sim.now());
            hand.send(4000, to, &closed);
        }
    }
    let gaps: Vec<u128> = times.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] + 20 >= pair[0]), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 121_000) && gaps.len() > 12, "{gaps:?}");
    assert_eq!(socket.state(), StateName::Established, "twenty minutes do not end it");
    let mut open = closed.clone();
    open.window = 500;
    let heard = hand.ask(&mut sim, 4000, to, &open);
    assert_eq!(heard[0].payload.to_vec(), b"held back");
}

#[test]
fn a_peer_that_answers_no_probe_is_given_up() {
    let (mut sim, host, hand) = with_hand(2);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(99), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    let mut closed = control(ours, theirs, Flags::ACK);
    closed.window = 0;
    hand.ask(&mut sim, 4000, to, &closed);
    send(&sim, &socket, b"held back").unwrap();
    sim.run_for(3000 * SEC);
    assert_eq!(socket.state(), StateName::Closed);
    assert!(hand.heard().len() >= 15);
}

#[test]
fn a_syn_ack_without_window_delays_the_first_bytes() {
    let (mut sim, host, hand) = with_hand(3);
    let client = connect(&sim, host, hand.addr(80));
    sim.run_for(10 * MS);
    let heard = hand.heard();
    let syn = heard.iter().find(|segment| segment.syn()).unwrap();
    let me = client.local_addr();
    let mut answer = control(Seq(500), syn.seq + 1, Flags::SYN | Flags::ACK);
    answer.window = 0;
    hand.ask(&mut sim, 80, me, &answer);
    assert_eq!(client.state(), StateName::Established);
    send(&sim, &client, b"hello").unwrap();
    sim.run_for(100 * MS);
    assert!(hand.heard().iter().all(|segment| segment.payload.is_empty()));
    sim.run_for(SEC);
    assert!(!hand.heard().is_empty(), "a probe");
    let mut open = control(Seq(501), syn.seq + 1, Flags::ACK);
    open.window = 100;
    let heard = hand.ask(&mut sim, 80, me, &open);
    assert_eq!(heard[0].payload.to_vec(), b"hello");
}

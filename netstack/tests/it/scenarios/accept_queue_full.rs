//! A full accept queue: the last acknowledgment of a handshake counts as lost, so that it comes again later, or is
//! answered by a reset with tcp_abort_on_overflow; further SYNs are dropped.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::Host;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn the_handshake_completes_once_there_is_room() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let syn = control(Seq(500), Seq(0), Flags::SYN);
    // Two handshakes begin while there is room for two; a third one fills the queue before the second completes.
    let second = hand.ask(&mut sim, 4001, to, &syn)[0].clone();
    hand.open(&mut sim, 4000, to, &syn);
    hand.open(&mut sim, 4002, to, &syn);
    assert_eq!(listener.backlog(), Some((2, 1)));
    let ack = control(syn.seq + 1, second.seq + 1, Flags::ACK);
    assert!(hand.ask(&mut sim, 4001, to, &ack).is_empty());
    assert_eq!((ext(&sim, host, "ListenOverflows"), ext(&sim, host, "ListenDrops")), (1, 1));
    // A SYN is dropped, too.
    assert!(hand.ask(&mut sim, 4003, to, &syn).is_empty());
    assert_eq!((ext(&sim, host, "ListenOverflows"), ext(&sim, host, "ListenDrops")), (2, 2));
    // The SYN-ACK is repeated, and its acknowledgment is taken once a connection was accepted.
    listener.accept(sim.now()).unwrap();
    sim.run_for(SEC);
    let again: Vec<_> =
        hand.heard().into_iter().filter(|s| s.ack == syn.seq + 1 && s.syn()).collect();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].seq, second.seq);
    hand.ask(&mut sim, 4001, to, &ack);
    assert_eq!(listener.backlog(), Some((2, 1)));
    assert_eq!(sim.stack(host).shared().tcp.requests.len(), 0);
}

#[test]
fn with_abort_on_overflow_the_peer_is_reset() {
    let (mut sim, host, hand) = with_hand(1);
    configure(&sim, host, |config| config.abort_on_overflow = true);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let syn = control(Seq(500), Seq(0), Flags::SYN);
    let late = hand.ask(&mut sim, 4001, to, &syn)[0].clone();
    hand.open(&mut sim, 4000, to, &syn);
    hand.open(&mut sim, 4002, to, &syn);
    let ack = control(syn.seq + 1, late.seq + 1, Flags::ACK);
    let answers = hand.ask(&mut sim, 4001, to, &ack);
    assert!(answers.len() == 1 && answers[0].rst(), "{answers:?}");
    assert_eq!(sim.stack(host).shared().tcp.requests.len(), 0);
    listener.close(sim.now());
    sim.run_for(20 * MS);
    // Those that waited are reset; nothing is left.
    assert_eq!(hand.heard().iter().filter(|segment| segment.rst()).count(), 2);
    assert_eq!(sim.stack(host).usage(), (0, 0));
}

#[test]
fn syn_acks_are_repeated_with_doubled_waits_and_then_given_up() {
    let (mut sim, host, hand) = with_hand(1);
    let _listener = listen(&sim, host, "0.0.0.0:80", 100);
    let start = sim.now();
    hand.send(4000, at(Family::V4, 1, 80), &control(Seq(500), Seq(0), Flags::SYN));
    let mut times = Vec::new();
    for _ in 0..80 {
        sim.run_for(SEC);
        times.extend(hand.heard().iter().map(|_| sim.now().since(start).as_secs()));
    }
    // 0, 1, 3, 7, 15 and 31 seconds, seen at the end of the second.
    assert_eq!(times, [1, 2, 4, 8, 16, 32]);
    assert_eq!(sim.stack(host).shared().tcp.requests.len(), 0);
    assert_eq!(sim.stack(host).stats().value("Tcp", "AttemptFails"), 1);
}

//! TIME-WAIT assassination (RFC 1337): a reset in order ends the wait, as Linux lets it, unless tcp_rfc1337 is set;
//! old data and FINs are acknowledged and start the wait anew.

use super::segments::*;
use netstack::ip::Family;
use netstack::sim::{HostId, Sim};
use netstack::transport::Host;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

/// A connection of the stack in TIME-WAIT: our next number and the stack's.
fn waiting(protects: bool) -> (Sim, HostId, Hand, Seq, Seq) {
    let (mut sim, host, hand) = with_hand(1);
    configure(&sim, host, |config| config.rfc1337 = protects);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
    listener.accept(sim.now()).unwrap().close(sim.now());
    sim.run_for(20 * MS);
    hand.ask(&mut sim, 4000, to, &control(ours, theirs + 1, Flags::FIN | Flags::ACK));
    (sim, host, hand, ours + 1, theirs + 1)
}

#[test]
fn a_reset_in_order_ends_the_wait_unless_protected() {
    for protects in [false, true] {
        let (mut sim, host, hand, ours, _) = waiting(protects);
        let to = at(Family::V4, 1, 80);
        let left = |sim: &Sim| sim.stack(host).shared().tcp.time_wait.len();
        // Not in order: nothing, in either case.
        for seq in [ours - 1usize, ours + 1] {
            assert!(hand.ask(&mut sim, 4000, to, &control(seq, Seq(0), Flags::RST)).is_empty());
            assert_eq!(left(&sim), 1);
        }
        assert!(hand.ask(&mut sim, 4000, to, &control(ours, Seq(0), Flags::RST)).is_empty());
        assert_eq!(left(&sim), usize::from(protects));
    }
}

#[test]
fn an_old_fin_is_acknowledged_and_the_wait_begins_anew() {
    let (mut sim, host, hand, ours, theirs) = waiting(false);
    let to = at(Family::V4, 1, 80);
    sim.run_for(40 * SEC);
    let fin = control(ours - 1usize, theirs, Flags::FIN | Flags::ACK);
    let answers = hand.ask(&mut sim, 4000, to, &fin);
    assert_eq!(answers.iter().map(|a| (a.seq, a.ack)).collect::<Vec<_>>(), [(theirs, ours)]);
    sim.run_for(50 * SEC);
    assert_eq!(sim.stack(host).shared().tcp.time_wait.len(), 1);
    sim.run_for(20 * SEC);
    assert_eq!(sim.stack(host).shared().tcp.time_wait.len(), 0);
}

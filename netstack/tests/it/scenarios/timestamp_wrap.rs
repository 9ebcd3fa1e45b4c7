//! Timestamps wrap at 2^32 and protect against old segments (PAWS, RFC 7323 section 5): a value after the wrap is newer,
//! one from before is old; a recent value is worthless after 24 days.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn values_after_the_wrap_are_newer_and_old_ones_are_refused() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let first = u32::MAX - 5;
    let syn = stamped(control(Seq(9000), Seq(0), Flags::SYN), first, 0);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    let piece = |offset: usize, value: u32| stamped(data(ours + offset, theirs, b"data"), value, 0);
    hand.ask(&mut sim, 4000, to, &piece(0, u32::MAX));
    // Beyond the wrap.
    hand.ask(&mut sim, 4000, to, &piece(4, 3));
    assert_eq!(recv(&sim, &socket).unwrap(), b"datadata");
    // From before it: dropped and acknowledged, as is anything else that is old.
    for value in [u32::MAX, 2] {
        let answers = hand.ask(&mut sim, 4000, to, &piece(8, value));
        assert_eq!(answers.last().map(|a| a.ack), Some(ours + 8));
    }
    assert_eq!((socket.queued().0, ext(&sim, host, "PAWSEstab")), (0, 2));
    // An old reset counts all the same (RFC 7323 section 5.2), an equal timestamp is no older.
    hand.ask(&mut sim, 4000, to, &piece(8, 3));
    assert_eq!(recv(&sim, &socket).unwrap(), b"data");
    // After 24 days the recent value says nothing any more.
    sim.run_for(25 * 24 * 3600 * SEC);
    hand.ask(&mut sim, 4000, to, &piece(12, 2));
    assert_eq!(recv(&sim, &socket).unwrap(), b"data");
    hand.ask(&mut sim, 4000, to, &stamped(control(ours + 16, Seq(0), Flags::RST), 1, 0));
    assert_eq!(socket.state(), netstack::transport::tcp::StateName::Closed);
}

//! Data and acknowledgments from off the path (RFC 5961 section 5): an acknowledgment of what was never sent, or of what
//! was acknowledged long ago, makes the segment void, and a challenge answers it.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::Flags;

#[test]
fn data_needs_a_plausible_acknowledgment() {
    let (mut sim, host, hand) = with_hand(1);
    configure(&sim, host, |config| config.invalid_ratelimit = std::time::Duration::ZERO);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    // Nothing was sent yet, so no older acknowledgment is plausible (as on Linux).
    let bad = [theirs + 500, theirs - 200_000usize, theirs - 1usize];
    for (n, ack) in (1u64..).zip(bad) {
        let answers = hand.ask(&mut sim, 4000, to, &data(ours, ack, b"forged"));
        assert_eq!(answers.iter().map(|a| (a.seq, a.ack)).collect::<Vec<_>>(), [(theirs, ours)]);
        assert_eq!(ext(&sim, host, "TCPChallengeACK"), n);
    }
    // Without an acknowledgment there is no answer at all.
    let mut bare = data(ours, Seq(0), b"forged");
    bare.flags = Flags::empty();
    assert!(hand.ask(&mut sim, 4000, to, &bare).is_empty());
    assert_eq!(socket.queued().0, 0);
    hand.ask(&mut sim, 4000, to, &data(ours, theirs, b"true"));
    assert_eq!(recv(&sim, &socket).unwrap(), b"true");
    // Once something was acknowledged, an acknowledgment a little behind is one that was overtaken.
    send(&sim, &socket, &[1; 100]).unwrap();
    sim.run_for(20 * MS);
    hand.ask(&mut sim, 4000, to, &control(ours + 4, theirs + 100, Flags::ACK));
    hand.ask(&mut sim, 4000, to, &data(ours + 4, theirs + 40, b"late"));
    assert_eq!(recv(&sim, &socket).unwrap(), b"late");
    assert_eq!(socket.state(), StateName::Established);
}

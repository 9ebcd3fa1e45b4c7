//! SYNs from off the path into a connection (RFC 5961 section 4): each is answered by a challenge, whatever its number,
//! and the connection goes on; in SYN-RECEIVED another SYN ends the request, as on Linux 6.18.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::Host;
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::Flags;

#[test]
fn a_syn_is_challenged_and_the_connection_stands() {
    let (mut sim, host, hand) = with_hand(1);
    configure(&sim, host, |config| config.invalid_ratelimit = std::time::Duration::ZERO);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    for (n, (seq, flags)) in (1u64..).zip([
        (ours + 500, Flags::SYN),
        (ours, Flags::SYN),
        (ours - 500usize, Flags::SYN),
        (ours + 200_000, Flags::SYN),
        (ours + 200, Flags::SYN | Flags::ACK),
    ]) {
        let answers = hand.ask(&mut sim, 4000, to, &control(seq, theirs, flags));
        assert_eq!(
            answers.iter().map(|a| (a.seq, a.ack, a.flags)).collect::<Vec<_>>(),
            [(theirs, ours, Flags::ACK)]
        );
        assert_eq!(ext(&sim, host, "TCPSYNChallenge"), n);
        assert_eq!(ext(&sim, host, "TCPChallengeACK"), n);
    }
    assert_eq!(socket.state(), StateName::Established);
    // A peer that was started anew learns of the old connection and resets it.
    hand.ask(&mut sim, 4000, to, &control(ours, Seq(0), Flags::RST));
    assert_eq!(socket.state(), StateName::Closed);
}

#[test]
fn segments_in_syn_received_are_answered_as_linux_does() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let mut port = 4000;
    let mut half = |sim: &mut netstack::sim::Sim| {
        port += 1;
        let syn = control(Seq(9000), Seq(0), Flags::SYN);
        (port, hand.ask(sim, port, to, &syn)[0].seq)
    };
    let requests = |sim: &netstack::sim::Sim| sim.stack(host).shared().tcp.requests.len();
    // Another SYN in the window: a reset with its acknowledgment, and the request is gone.
    let (port, _) = half(&mut sim);
    let answers = hand.ask(&mut sim, port, to, &control(Seq(9101), Seq(0), Flags::SYN));
    assert_eq!((answers[0].flags, answers[0].ack), (Flags::RST | Flags::ACK, Seq(9102)));
    assert_eq!((requests(&sim), ext(&sim, host, "EmbryonicRsts")), (0, 1));
    // A wrong acknowledgment: a reset, and the request stays.
    let (port, iss) = half(&mut sim);
    let answers = hand.ask(&mut sim, port, to, &control(Seq(9001), iss + 50, Flags::ACK));
    assert_eq!((answers[0].flags, answers[0].seq, requests(&sim)), (Flags::RST, iss + 50, 1));
    // A reset in the window is challenged; one in place ends it.
    let answers = hand.ask(&mut sim, port, to, &control(Seq(9100), Seq(0), Flags::RST));
    assert_eq!((answers[0].flags, answers[0].ack), (Flags::ACK, Seq(9001)));
    hand.ask(&mut sim, port, to, &control(Seq(9001), Seq(0), Flags::RST));
    assert_eq!((requests(&sim), ext(&sim, host, "EmbryonicRsts")), (0, 2));
    // Out of window: acknowledged. Data or a FIN with the acknowledgment is taken.
    let (port, iss) = half(&mut sim);
    let answers = hand.ask(&mut sim, port, to, &control(Seq(900_000), iss + 1, Flags::ACK));
    assert_eq!((answers[0].flags, answers[0].ack), (Flags::ACK, Seq(9001)));
    hand.ask(&mut sim, port, to, &control(Seq(9001), iss + 1, Flags::FIN | Flags::ACK));
    assert_eq!(listener.accept(sim.now()).unwrap().state(), StateName::CloseWait);
    let (port, iss) = half(&mut sim);
    hand.ask(&mut sim, port, to, &data(Seq(9001), iss + 1, b"hey"));
    let socket = listener.accept(sim.now()).unwrap();
    assert_eq!(recv(&sim, &socket).unwrap(), b"hey");
}

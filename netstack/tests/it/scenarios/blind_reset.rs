//! Resets from off the path (RFC 5961 section 3): only one exactly at RCV.NXT ends a connection; others in the window
//! are answered by a challenge, rationed, and those outside by nothing. As Linux 6.18 answers the same segments.

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::SocketError;
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::Flags;

#[test]
fn only_the_exact_sequence_number_counts() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    let rst = |seq| control(seq, Seq(0), Flags::RST);
    let answers = hand.ask(&mut sim, 4000, to, &rst(ours + 500));
    assert_eq!(answers.iter().map(|a| (a.seq, a.ack)).collect::<Vec<_>>(), [(theirs, ours)]);
    // A second one within half a second is not answered.
    assert!(hand.ask(&mut sim, 4000, to, &rst(ours + 501)).is_empty());
    sim.run_for(SEC);
    for seq in [ours + 200_000, ours - 1usize, ours - 70_000usize] {
        assert!(hand.ask(&mut sim, 4000, to, &rst(seq)).is_empty());
    }
    assert_eq!((socket.state(), ext(&sim, host, "TCPChallengeACK")), (StateName::Established, 1));
    hand.ask(&mut sim, 4000, to, &rst(ours));
    assert_eq!(socket.take_error(), Some(SocketError::ConnectionReset));
}

#[test]
fn a_reset_behind_lost_data_or_with_the_fins_number_counts() {
    // After data that SACK reported.
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(9000), Seq(0), Flags::SYN);
    syn.options.sack_permitted = true;
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    hand.ask(&mut sim, 4000, to, &data(ours + 100, theirs, &[1; 50]));
    hand.ask(&mut sim, 4000, to, &control(ours + 150, Seq(0), Flags::RST));
    assert_eq!(socket.state(), StateName::Closed);
    // After a FIN, with its number.
    let (ours, theirs, _) = hand.open(&mut sim, 4001, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    hand.ask(&mut sim, 4001, to, &control(ours, theirs, Flags::FIN | Flags::ACK));
    assert_eq!(socket.state(), StateName::CloseWait);
    hand.ask(&mut sim, 4001, to, &control(ours, Seq(0), Flags::RST));
    assert_eq!(socket.take_error(), Some(SocketError::BrokenPipe));
}

#[test]
fn the_whole_stacks_limit_holds_over_many_connections() {
    let (mut sim, host, hand) = with_hand(1);
    configure(&sim, host, |config| config.challenge_ack_limit = 10);
    let _listener = listen(&sim, host, "0.0.0.0:80", 100);
    let to = at(Family::V4, 1, 80);
    let syn = control(Seq(9000), Seq(0), Flags::SYN);
    for port in 4000..4060 {
        hand.open(&mut sim, port, to, &syn);
    }
    // Within one second.
    sim.run_until(netstack::time::Instant::from_secs(100), |_| false);
    for port in 4000..4060 {
        hand.send(port, to, &control(Seq(9500), Seq(0), Flags::RST));
    }
    sim.run_for(100 * MS);
    let answered = ext(&sim, host, "TCPChallengeACK");
    assert!((5..15).contains(&answered), "{answered}");
}

//! Data behind gaps is bounded: where it would hold more memory than the receive buffer, what lies farthest ahead is
//! given up, told no more by SACK, and sent again by its sender.

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::options::SocketOption;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn holes_of_one_byte_cannot_fill_the_memory() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    listener.set_option(sim.now(), SocketOption::ReceiveBuffer(64 << 10)).unwrap();
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.sack_permitted = true;
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    // Every second byte, from far to near.
    for position in (1..2000usize).rev() {
        hand.send(4000, to, &data(ours + 2 * position, theirs, b"x"));
        if position % 100 == 0 {
            sim.run_for(5 * MS);
            let held = socket.info().unwrap().held;
            assert!(held <= 66 << 10, "{held} bytes are held");
        }
    }
    sim.run_for(5 * MS);
    assert!(ext(&sim, host, "OfoPruned") > 0 && ext(&sim, host, "PruneCalled") > 0);
    // What was told last is still there: filling its gap gives it.
    hand.heard();
    let answers = hand.ask(&mut sim, 4000, to, &data(ours, theirs, b"ab"));
    assert_eq!(answers.last().unwrap().ack, ours + 3usize);
    assert_eq!(recv(&sim, &socket).unwrap(), b"abx");
    // And what was given up is taken when it comes again.
    let rest = vec![b'y'; 4000];
    for from in (3..3500).step_by(500) {
        hand.ask(&mut sim, 4000, to, &data(ours + from, theirs, &rest[from..from + 500]));
    }
    assert!(recv(&sim, &socket).unwrap().len() >= 3500);
}

//! The first segments of a connection are acknowledged one by one, so that the sender's slow start is fast; then the
//! delays begin, while the program does not read. Linux, seen over a veth with segments 60 ms apart: about twenty.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn about_twenty_segments_are_acknowledged_at_once() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.mss = Some(1460);
    syn.options.window_scale = Some(7);
    let (mut ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
    let _socket = listener.accept(sim.now()).unwrap();
    let mut at_once = 0;
    for _ in 0..60 {
        let answers = hand.ask(&mut sim, 4000, to, &data(ours, theirs, &[1; 1448]));
        ours += 1448;
        sim.run_for(40 * MS);
        if answers.is_empty() {
            break;
        }
        at_once += 1;
    }
    assert!((16..=24).contains(&at_once), "{at_once} were acknowledged at once");
}

//! A SYN that comes again and is answered begins the wait for the next SYN-ACK anew, as on Linux 6.18 (tcp_check_req).

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;
use std::time::Duration;

#[test]
fn the_wait_for_the_next_syn_ack_begins_with_each_answer() {
    let (mut sim, host, hand) = with_hand(1);
    let _listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let syn = control(Seq(9000), Seq(0), Flags::SYN);
    let first = hand.ask(&mut sim, 4000, to, &syn);
    sim.run_for(Duration::from_millis(600));
    let again = hand.ask(&mut sim, 4000, to, &syn);
    assert_eq!((first.len(), again.len(), again[0].seq), (1, 1, first[0].seq));
    // A second after the first answer nothing is due any more; a second after the second one it is.
    sim.run_for(Duration::from_millis(900));
    assert_eq!(hand.heard().len(), 0);
    sim.run_for(Duration::from_millis(200));
    let late = hand.heard();
    assert_eq!((late.len(), late[0].flags), (1, Flags::SYN | Flags::ACK));
    // The next wait is twice as long.
    sim.run_for(Duration::from_millis(1800));
    assert_eq!(hand.heard().len(), 0);
    sim.run_for(Duration::from_millis(400));
    assert_eq!(hand.heard().len(), 1);
}

//! The order of SACK blocks (RFC 2018 section 4): the block with the segment that caused the acknowledgment comes first,
//! then the most recently reported ones, four without timestamps and three with them.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn the_latest_block_comes_first_and_as_many_as_fit() {
    for stamps in [false, true] {
        let (mut sim, host, hand) = with_hand(1);
        let listener = listen(&sim, host, "0.0.0.0:80", 1);
        let to = at(Family::V4, 1, 80);
        let mut syn = control(Seq(99), Seq(0), Flags::SYN);
        syn.options.sack_permitted = true;
        if stamps {
            syn = stamped(syn, 1, 0);
        }
        let (ours, theirs, syn_ack) = hand.open(&mut sim, 4000, to, &syn);
        let _socket = listener.accept(sim.now()).unwrap();
        let echo = syn_ack.options.timestamps.map(|stamp| stamp.value);
        let mut put = |from: usize, len: usize| {
            let mut segment = data(ours + from, theirs, &vec![1; len]);
            if let Some(echo) = echo {
                segment = stamped(segment, 2, echo);
            }
            let answers = hand.ask(&mut sim, 4000, to, &segment);
            let last = answers.last().expect("an acknowledgment at once");
            let sack = &last.options.sack;
            sack.iter()
                .map(|(left, right)| (Seq(left).since(ours), Seq(right).since(ours)))
                .collect::<Vec<_>>()
        };
        let most = if stamps { 3 } else { 4 };
        assert_eq!(put(100, 10), [(100, 110)]);
        assert_eq!(put(300, 10), [(300, 310), (100, 110)]);
        assert_eq!(put(200, 10), [(200, 210), (300, 310), (100, 110)]);
        let all = [(500, 510), (200, 210), (300, 310), (100, 110)];
        assert_eq!(put(500, 10), all[..most]);
        // A block that grows is the latest again, and is told whole.
        let all = [(300, 320), (500, 510), (200, 210), (100, 110)];
        assert_eq!(put(310, 10), all[..most]);
        // Two that become one are told once.
        let joined = put(210, 90);
        assert_eq!(joined[0], (200, 320));
        assert!(!joined[1..].contains(&(300, 320)) && !joined[1..].contains(&(200, 210)));
    }
}

//! The first segments of a connection are acknowledged one by one, so that the sender's slow start is fast: those that open the window,
//! and sixteen more. Then the delays begin. Linux 6.18 does so over a TAP device, where it opens eight
//! times: how often hangs on how much memory a segment takes.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn sixteen_segments_beyond_those_that_open_the_window_are_acknowledged_at_once() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 1);
    let to = at(Family::V4, 1, 80);
    let mut syn = control(Seq(99), Seq(0), Flags::SYN);
    syn.options.mss = Some(1460);
    syn.options.window_scale = Some(7);
    let (mut ours, theirs, syn_ack) = hand.open(&mut sim, 4000, to, &syn);
    let socket = listener.accept(sim.now()).unwrap();
    let (mut at_once, mut opened) = (0, 0);
    let shift = syn_ack.options.window_scale.unwrap();
    let mut window = usize::from(syn_ack.window) >> shift;
    for _ in 0..60 {
        let answers = hand.ask(&mut sim, 4000, to, &data(ours, theirs, &[1; 1448]));
        ours += 1448;
        sim.run_for(40 * MS);
        let Some(answer) = answers.first() else { break };
        at_once += 1;
        let offered = usize::from(answer.window);
        opened += usize::from(offered > window);
        window = offered;
        recv(&sim, &socket).unwrap();
    }
    let others = at_once - opened;
    assert!((15..=17).contains(&others), "{at_once} at once, {opened} of them opened the window");
}

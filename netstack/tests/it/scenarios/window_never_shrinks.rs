//! Whatever comes and whoever reads, the right edge of the window that a receiver offers never moves back
//! (RFC 9293 section 3.8.6), with and without scaling.

use super::segments::*;
use netstack::ip::Family;
use netstack::rng::{Rng, seed_from};
use netstack::transport::tcp::{Segment, Seq};
use netstack::wire::tcp::Flags;

#[test]
fn the_edge_only_advances() {
    for seed in 0..40 {
        let mut rng = Rng::new(&seed_from(seed), 1);
        let (mut sim, host, hand) = with_hand(seed);
        configure(&sim, host, |config| config.receive_buffer = 3000 + rng.below(100_000) as usize);
        let listener = listen(&sim, host, "0.0.0.0:80", 1);
        let to = at(Family::V4, 1, 80);
        let mut syn = control(Seq(99), Seq(0), Flags::SYN);
        syn.options.mss = Some(1460);
        syn.options.sack_permitted = true;
        syn.options.window_scale = (seed % 2 == 0).then_some(3);
        let (start, theirs, syn_ack) = hand.open(&mut sim, 4000, to, &syn);
        let socket = listener.accept(sim.now()).unwrap();
        let shift = syn_ack.options.window_scale.unwrap_or(0);
        let mut edge = start + usize::from(syn_ack.window);
        let mut sent = start;
        let look = |edge: &mut Seq, heard: Vec<Segment>| {
            for segment in heard {
                let now = segment.ack + (usize::from(segment.window) << shift);
                assert!(now >= *edge, "seed {seed}: {now:?} after {edge:?}");
                *edge = now;
            }
        };
        for _ in 0..200 {
            let room = edge.since(sent);
            let len = (rng.below(3000) as usize).min(room).min(1460);
            let skip = if rng.below(4) == 0 { rng.below(2000) as usize } else { 0 };
            if len > 0 && skip + len <= room {
                let segment = data(sent + skip, theirs, &vec![1; len]);
                let heard = hand.ask(&mut sim, 4000, to, &segment);
                look(&mut edge, heard);
                sent += if skip == 0 { len } else { 0 };
            }
            let mut bytes = vec![0; rng.below(8000) as usize];
            let _ = socket.recv(sim.now(), &mut &mut bytes[..], Default::default());
            sim.run_for(MS * rng.below(60) as u32);
            look(&mut edge, hand.heard());
        }
        assert!(sent.since(start) > 3000, "seed {seed}: only {} bytes", sent.since(start));
    }
}

//! Many seeds of two stacks that exchange data under faults.

use super::node::{StackNode, address};
use super::world::{Captured, Faults, World};
use super::{pattern, seeds};
use netstack::ip::Family;
use netstack::rng::{Rng, seed_from};
use netstack::time::Duration;
use netstack::transport::Host;
use netstack::transport::tcp::TcpConfig;
use std::net::SocketAddr;

const PORT: u16 = 8080;

/// A node with habits of its own: what it offers, how its link cuts segments, how fast its program is.
fn node(seed: u64, index: u8, to_send: Vec<u8>, rng: &mut Rng) -> StackNode {
    let max_gso = if rng.below(4) == 0 { 20_000 } else { 0 };
    let mut node = StackNode::with_gso(seed, index, to_send, max_gso);
    let defaults = TcpConfig::default();
    node.stack.shared().tcp.set_config(TcpConfig {
        sack: rng.below(4) != 0,
        timestamps: rng.below(4) != 0,
        window_scaling: rng.below(4) != 0,
        receive_buffer: if rng.below(4) == 0 { 5_000 } else { defaults.receive_buffer },
        receive_buffer_max: if rng.below(2) == 0 { 6_000 } else { defaults.receive_buffer_max },
        send_buffer: if rng.below(4) == 0 { 3_000 } else { defaults.send_buffer },
        ..defaults
    });
    if rng.below(4) == 0 {
        let interval = Duration::from_micros(1 + rng.below(50_000));
        node.program.pace = Some((interval, 1 + rng.below(4_000) as usize));
    }
    node
}

/// One exchange from one seed, to its very end: equal bytes, and nothing left in either stack.
fn exchange(seed: u64, captures: bool) -> Vec<Captured> {
    let mut rng = Rng::new(&seed_from(seed), 3);
    let faults = Faults::from_seed(&mut rng);
    let family = if seed.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let (up, down) = (rng.below(40_000) as usize, rng.below(40_000) as usize);
    let client = node(seed, 0, pattern(up, seed), &mut rng);
    let server = node(seed, 1, pattern(down, !seed), &mut rng);
    let mut world = World::new(seed, faults, client, server);
    world.captures = captures;
    world.b.listen(family, PORT, 5);
    world.a.connect(world.now, SocketAddr::new(address(family, 1), PORT));
    let what = format!("seed {seed}: {up} up, {down} down, {faults:?}");
    let limit = Duration::from_secs(3600);
    world.run_until(&what, limit, |a, b| {
        assert!(a.program.error.is_none(), "{:?}", a.program.error);
        a.is_done() && b.is_done()
    });
    assert!(world.b.program.received == world.a.program.to_send, "{what}: up differs");
    assert!(world.a.program.received == world.b.program.to_send, "{what}: down differs");
    world.capture
}

#[test]
fn bytes_are_equal_and_nothing_leaks_for_every_seed() {
    let count = seeds("NETCELL_SIM_SEEDS", 1000);
    println!("seeds 0..{count}");
    for seed in 0..count {
        exchange(seed, false);
    }
}

#[test]
fn one_seed_gives_the_same_frames_twice() {
    for seed in [1, 2, 42] {
        let (first, second) = (exchange(seed, true), exchange(seed, true));
        assert!(first.len() > 20, "seed {seed}: only {} frames", first.len());
        assert!(first == second, "seed {seed}: the captures differ");
    }
    assert!(exchange(1, true) != exchange(3, true));
}

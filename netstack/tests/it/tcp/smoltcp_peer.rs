//! Our stack against smoltcp, which shares no code with ours above the wire formats.

use super::node::{StackNode, address};
use super::smol::SmolNode;
use super::world::{Faults, World};
use super::{pattern, seeds};
use netstack::ip::Family;
use netstack::rng::{Rng, seed_from};
use netstack::time::{Duration, Instant};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{IpCidr, IpEndpoint};
use std::net::SocketAddr;

const PORT: u16 = 7;

/// One exchange; which end opens, and over which family, depends on the seed.
fn exchange(seed: u64) {
    let mut rng = Rng::new(&seed_from(seed), 4);
    let mut faults = Faults::from_seed(&mut rng);
    // smoltcp repairs one loss per timeout, so that a link as bad as ours takes it hours.
    faults.loss /= 3;
    let family = if seed.is_multiple_of(2) { Family::V4 } else { Family::V6 };
    let (ours, theirs) = (rng.below(30_000) as usize, rng.below(30_000) as usize);
    let prefix = if family == Family::V4 { 24 } else { 64 };
    let peer = IpCidr::new(address(family, 1).into(), prefix);
    let a = StackNode::new(seed, 0, pattern(ours, seed));
    let b = SmolNode::new(seed, peer, pattern(theirs, !seed));
    let mut world = World::new(seed, faults, a, b);
    let captures = std::env::var_os("NETCELL_PEER_CAPTURES");
    world.captures = captures.is_some();
    if seed % 4 < 2 {
        world.b.listen(PORT);
        world.a.connect(world.now, SocketAddr::new(address(family, 1), PORT));
    } else {
        world.a.listen(family, PORT, 5);
        world.b.connect(IpEndpoint::new(address(family, 0).into(), PORT), 50_000);
    }
    let what = format!("seed {seed}: {ours} of ours, {theirs} of theirs, {faults:?}");
    world.run_until(&what, Duration::from_secs(7200), |a, b| {
        assert!(a.program.error.is_none(), "seed {seed}: {:?}", a.program.error);
        a.is_done() && b.state() == State::Closed
    });
    if let Some(folder) = captures {
        let end = if seed % 4 < 2 { "caller" } else { "called" };
        let name = std::path::Path::new(&folder).join(format!("smoltcp-{seed}.{end}.pcap"));
        std::fs::write(name, pcap(&world.at_a)).expect("a capture");
    }
    assert!(world.b.received == world.a.program.to_send, "{what}: ours differs");
    assert!(world.a.program.received == world.b.to_send, "{what}: theirs differs");
}

/// What our stack sent and received as a capture file with nanoseconds, which scripts/goldens keeps.
fn pcap(frames: &[(Instant, Vec<u8>)]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 262_144, 1]);
    for (at, frame) in frames {
        let (second, nanos) = (at.nanos() / 1_000_000_000, at.nanos() % 1_000_000_000);
        let len = frame.len() as u32;
        file.extend(words(&[second as u32, nanos as u32, len, len]));
        file.extend(frame);
    }
    file
}

#[test]
fn bytes_are_equal_against_smoltcp_for_every_seed() {
    let count = seeds("NETCELL_SIM_PEER_SEEDS", 500);
    println!("seeds 0..{count}");
    for seed in 0..count {
        exchange(seed);
    }
}

//! A path that swallows large segments without a word: after some timeouts smaller ones are tried (RFC 4821 section 7.7,
//! tcp_mtu_probing 1), and without that the transfer stands still.

use super::paths::Path;
use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::MtuProbing;

fn run(probing: MtuProbing, most: usize) -> (usize, usize) {
    let mut path = Path::new(1, 9000, most);
    configure(&path.sim, path.hosts[0], |config| config.mtu_probing = probing);
    let (client, server) = path.connected(Family::V4);
    let bytes = vec![7; 300_000];
    let limit = path.sim.now() + 60 * SEC;
    let received = path.transfer(&client, &server, &bytes, limit);
    (received.len(), client.info().unwrap().mss)
}

#[test]
fn smaller_segments_get_through() {
    assert_eq!(run(MtuProbing::Off, 1500).0, 0, "without the search nothing arrives");
    let (received, mss) = run(MtuProbing::BlackHole, 1500);
    assert_eq!(received, 300_000);
    assert!((1024..=1448).contains(&mss), "{mss}");
    // Smaller than the base: it takes another timeout.
    let (received, mss) = run(MtuProbing::BlackHole, 700);
    assert!(received > 0 && mss <= 648, "{received} bytes, segments of {mss}");
}

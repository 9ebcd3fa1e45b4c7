//! Segments made of queued data ask for more (RFC 4821, RFC 8899; tcp_mtu_probing 2): they find what the path takes, and
//! losing one is no sign of congestion.

use super::paths::Path;
use super::segments::*;
use netstack::ip::Family;
use netstack::transport::tcp::MtuProbing;

#[test]
fn the_search_finds_the_path_without_a_reduction() {
    let mut path = Path::new(1, 9000, 4000);
    configure(&path.sim, path.hosts[0], |config| {
        config.mtu_probing = MtuProbing::Always;
        config.send_buffer = 1 << 20;
    });
    let (client, server) = path.connected(Family::V4);
    assert_eq!(client.info().unwrap().mss, 1024);
    let bytes: Vec<u8> = (0..15_000_000u32).map(|n| (n / 11) as u8).collect();
    let limit = path.sim.now() + 60 * SEC;
    let received = path.transfer(&client, &server, &bytes, limit);
    assert!(received == bytes, "{} bytes", received.len());
    let info = client.info().unwrap();
    assert!((3930..=3948).contains(&info.mss), "segments of {}", info.mss);
    assert!(ext(&path.sim, path.hosts[0], "TCPMTUPSuccess") > 3);
    assert!(ext(&path.sim, path.hosts[0], "TCPMTUPFail") > 0);
    assert_eq!((info.counters.recoveries, info.counters.timeouts), (0, 0));
}

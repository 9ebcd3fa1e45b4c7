//! The range of ephemeral ports runs out: EADDRNOTAVAIL for connect, EADDRINUSE for bind; another destination may use
//! the same ports (four-tuples), and a port comes back when its connection is gone (RFC 6056, as on Linux).

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::{BindError, ConnectError, IpOption};
use netstack::transport::Host;

#[test]
fn each_four_tuple_counts() {
    let (mut sim, host, _) = with_hand(1);
    let stack = sim.stack(host).clone();
    stack.shared().ports.set_ephemeral_range(40_000, 40_003);
    let listeners =
        [listen(&sim, host, "127.0.0.1:30000", 50), listen(&sim, host, "127.0.0.1:30001", 50)];
    let to = addr("127.0.0.1:30000");
    let clients: Vec<_> = (0..4).map(|_| connect(&sim, host, to)).collect();
    let mut ports: Vec<u16> = clients.iter().map(|client| client.local_addr().port()).collect();
    // Connects take the even half first.
    assert!(
        ports[..2].iter().all(|port| port % 2 == 0) && ports[2..].iter().all(|port| port % 2 == 1)
    );
    ports.sort_unstable();
    assert_eq!(ports, [40_000, 40_001, 40_002, 40_003]);
    let fifth = stack.tcp_socket(Family::V4);
    assert_eq!(fifth.connect(sim.now(), to), Err(ConnectError::AddressNotAvailable));
    // Another destination is another four-tuple.
    let other = connect(&sim, host, addr("127.0.0.1:30001"));
    assert!((40_000..40_004).contains(&other.local_addr().port()));
    let bound = stack.tcp_socket(Family::V4);
    assert_eq!(bound.bind(addr("127.0.0.1:0")), Err(BindError::InUse));
    // One goes without TIME-WAIT on this side, so its port serves again.
    sim.run_for(20 * MS);
    let server = listeners[0].accept(sim.now()).unwrap();
    let freed = server.peer_addr().unwrap().port();
    let client = clients.iter().find(|c| c.local_addr().port() == freed).unwrap();
    server.close(sim.now());
    sim.run_for(20 * MS);
    client.close(sim.now());
    sim.run_for(70 * SEC);
    assert!(fifth.connect(sim.now(), to).is_ok());
    assert_eq!(fifth.local_addr().port(), freed);
}

#[test]
fn a_socket_may_have_a_range_of_its_own_and_reserved_ports_are_left_out() {
    let (sim, host, hand) = with_hand(1);
    let stack = sim.stack(host).clone();
    stack.shared().ports.set_ephemeral_range(40_000, 40_009);
    stack.shared().ports.set_reserved(&[(40_000, 40_006)]);
    let mut seen: Vec<u16> =
        (0..3).map(|_| connect(&sim, host, hand.addr(80)).local_addr().port()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [40_007, 40_008, 40_009]);
    stack.shared().ports.set_reserved(&[]);
    let narrow = stack.tcp_socket(Family::V4);
    narrow.set_option(sim.now(), IpOption::LocalPortRange((40_003, 40_003))).unwrap();
    narrow.connect(sim.now(), hand.addr(80)).unwrap();
    assert_eq!(narrow.local_addr().port(), 40_003);
}

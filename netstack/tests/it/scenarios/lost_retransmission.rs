//! A retransmission is lost, too: time tells (RFC 8985), within a round trip and without the timeout.

use super::bulk::{Bulk, MS, MSS, drop_bytes, tcp_ext};
use netstack::link::fault::Faults;
use netstack::sim::Sim;

#[test]
fn a_lost_retransmission_is_found_without_the_timeout() {
    let (mut sim, hosts) = Sim::pair(5, Faults::delay(20 * MS));
    drop_bytes(&mut sim, &[(30 * MSS, 3)]);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(200 * MSS);
    let start = sim.now();
    assert!(bulk.finish(&mut sim, 3000 * MS));
    let took = sim.now() - start;
    let count = |name| tcp_ext(&sim, hosts[0], name);
    assert_eq!((count("TCPTimeouts"), count("TCPSackRecovery")), (0, 1));
    assert_eq!((count("TCPLostRetransmit"), count("TCPFastRetrans")), (2, 3));
    // Three slow-start round trips, and one for each time that it was lost.
    assert!(took < 40 * MS * 11, "{took:?}");
}

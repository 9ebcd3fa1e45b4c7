//! SO_LINGER with zero seconds: close sends a reset, drops what was not sent and leaves no TIME-WAIT.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::{SocketError, SocketOption};
use netstack::time::Duration;

#[test]
fn close_resets_and_leaves_nothing() {
    for family in [Family::V4, Family::V6] {
        let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
        let (client, server) = connected(&mut sim, hosts, family, 80);
        let now = sim.now();
        client.set_option(now, SocketOption::Linger(Some(Duration::ZERO))).unwrap();
        send(&sim, &client, &[1; 500_000]).unwrap();
        client.close(now);
        assert_eq!(sim.stack(hosts[0]).usage(), (0, 0));
        sim.run_for(20 * MS);
        assert_eq!(server.take_error(), Some(SocketError::ConnectionReset));
        assert_eq!((ext(&sim, hosts[0], "TW"), ext(&sim, hosts[0], "TCPAbortOnData")), (0, 1));
        server.close(sim.now());
        assert_eq!(sim.stack(hosts[1]).usage(), (0, 0));
    }
}

//! Both ends close at once: FINs cross, both go through CLOSING to TIME-WAIT (RFC 9293 section 3.6, figure 13).

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::transport::tcp::StateName;

#[test]
fn both_ends_wait_and_nothing_is_left() {
    for family in [Family::V4, Family::V6] {
        let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
        let (client, server) = connected(&mut sim, hosts, family, 80);
        let now = sim.now();
        client.shutdown(now, netstack::socket::How::Write).unwrap();
        server.shutdown(now, netstack::socket::How::Write).unwrap();
        let limit = now + SEC;
        let closing =
            |_: &Sim| client.state() == StateName::Closing && server.state() == StateName::Closing;
        assert!(sim.run_until(limit, closing), "{:?} {:?}", client.state(), server.state());
        sim.run_for(20 * MS);
        // As on Linux, the sockets are closed; what waits is no socket any more.
        assert_eq!((client.state(), server.state()), (StateName::Closed, StateName::Closed));
        client.close(sim.now());
        server.close(sim.now());
        for host in hosts {
            assert_eq!(ext(&sim, host, "TW"), 1);
        }
        sim.run_for(70 * SEC);
        for host in hosts {
            assert_eq!(sim.stack(host).usage(), (0, 0));
        }
    }
}

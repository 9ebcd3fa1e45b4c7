//! Both ends connect to each other at once (RFC 9293 section 3.5, figure 7): one connection comes of it, with all
//! options, in both families.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::transport::tcp::StateName;

#[test]
fn crossing_syns_make_one_connection() {
    for family in [Family::V4, Family::V6] {
        let (mut sim, hosts) = Sim::pair(1, Faults::delay(10 * MS));
        let sockets = hosts.map(|host| sim.stack(host).tcp_socket(family));
        for (n, socket) in (1u8..).zip(&sockets) {
            socket.bind(at(family, n, 5000)).unwrap();
        }
        // Neighbours are resolved first, so that the SYNs cross.
        let warm = connect(&sim, hosts[0], at(family, 2, 9));
        sim.run_for(100 * MS);
        warm.close(sim.now());
        let now = sim.now();
        for (n, socket) in (1u8..).zip(&sockets) {
            socket.connect(now, at(family, 3 - n, 5000)).unwrap();
        }
        let received = |_: &Sim| sockets.iter().all(|s| s.state() == StateName::SynReceived);
        assert!(sim.run_until(now + SEC, received));
        sim.run_for(100 * MS);
        for (mine, theirs) in [(0, 1), (1, 0)] {
            assert_eq!(sockets[mine].state(), StateName::Established);
            let info = sockets[mine].info().unwrap();
            assert!(info.sack && info.timestamps && info.send_shift > 0, "{info:?}");
            send(&sim, &sockets[mine], b"hello").unwrap();
            sim.run_for(100 * MS);
            assert_eq!(recv(&sim, &sockets[theirs]).unwrap(), b"hello");
        }
        sockets.iter().for_each(|socket| socket.close(sim.now()));
        sim.run_for(70 * SEC);
        for host in hosts {
            assert_eq!(sim.stack(host).usage(), (0, 0));
        }
    }
}

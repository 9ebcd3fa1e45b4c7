//! The server's key changes (RFC 7413 section 4.1.2): an old cookie is good for one more connection that brings the
//! new one, a cookie of a forgotten key falls back to the handshake, and no byte is lost.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::{SendFlags, TcpOption};
use netstack::transport::tcp::fast_open::FastOpenKeys;

#[test]
fn old_cookies_are_renewed_and_forgotten_ones_fall_back() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(10 * MS));
    for host in hosts {
        configure(&sim, host, |config| config.fast_open = 3);
    }
    let listener = sim.stack(hosts[1]).tcp_socket(Family::V4);
    listener.set_option(sim.now(), TcpOption::FastOpen(8)).unwrap();
    listener.bind(addr("0.0.0.0:80")).unwrap();
    listener.listen(8).unwrap();
    let to = at(Family::V4, 2, 80);
    let key = |n: u8| [n; 16];
    let set = |sim: &Sim, primary, backup| {
        let keys = FastOpenKeys { primary, backup };
        listener.set_option(sim.now(), TcpOption::FastOpenKey(keys)).unwrap();
    };
    let round = |sim: &mut Sim| {
        let socket = sim.stack(hosts[0]).tcp_socket(Family::V4);
        let mut bytes = &b"question"[..];
        if socket.fast_open(sim.now(), &mut bytes, to, SendFlags::empty()).is_err() {
            sim.run_for(100 * MS);
            send(sim, &socket, b"question").unwrap();
        }
        sim.run_for(100 * MS);
        let server = listener.accept(sim.now()).expect("a connection");
        assert_eq!(recv(sim, &server).unwrap(), b"question");
        socket.close(sim.now());
        server.close(sim.now());
        sim.run_for(100 * MS);
    };
    let counts = |sim: &Sim| {
        ["TCPFastOpenPassive", "TCPFastOpenPassiveAltKey", "TCPFastOpenPassiveFail"]
            .map(|name| ext(sim, hosts[1], name))
    };
    set(&sim, key(1), None);
    round(&mut sim);
    round(&mut sim);
    assert_eq!(counts(&sim), [1, 0, 0]);
    // Rotated: the old cookie is good, and a new one comes with the SYN-ACK.
    set(&sim, key(2), Some(key(1)));
    round(&mut sim);
    assert_eq!(counts(&sim), [2, 1, 0]);
    round(&mut sim);
    assert_eq!(counts(&sim), [3, 1, 0]);
    // Forgotten: the data of the SYN is not taken, and comes after the handshake.
    set(&sim, key(3), None);
    round(&mut sim);
    assert_eq!(counts(&sim), [3, 1, 1]);
    assert_eq!(ext(&sim, hosts[0], "TCPFastOpenActiveFail"), 1);
    round(&mut sim);
    assert_eq!(counts(&sim), [4, 1, 1]);
}

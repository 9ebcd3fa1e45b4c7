//! Datagrams without a checksum: over IPv4 everybody takes them, over IPv6 only who asks for them (RFC 6935), and nobody is told otherwise.

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::{DatagramOption, RecvFlags, SocketOption};
use netstack::time::Duration;

fn run(family: Family, at: &str, takes: bool) -> (usize, u64, u64) {
    let (mut sim, [a, b]) = Sim::pair(1, Faults::delay(Duration::from_millis(1)));
    let (server, client) = (sim.stack(b).udp_socket(family), sim.stack(a).udp_socket(family));
    server.bind(at.parse().unwrap()).unwrap();
    client.set_option(sim.now(), SocketOption::NoCheck(true).into()).unwrap();
    client.set_option(sim.now(), DatagramOption::NoCheck6Send(true).into()).unwrap();
    server.set_option(sim.now(), DatagramOption::NoCheck6Receive(takes).into()).unwrap();
    client.connect(sim.now(), at.parse().unwrap()).unwrap();
    client.send(sim.now(), &mut &b"unsealed"[..]).unwrap();
    sim.run_for(Duration::from_millis(10));
    let zero = sim.capture().frames().iter().any(|frame| {
        let start = if family == Family::V4 { 34 } else { 54 };
        frame.bytes.get(start + 6..start + 8) == Some(&[0, 0]) && frame.bytes.ends_with(b"unsealed")
    });
    assert!(zero, "the datagram went out without a checksum");
    let mut bytes = Vec::new();
    let _ = server.recv_from(sim.now(), &mut bytes, RecvFlags::empty());
    let stats = sim.stack(b).stats();
    let name = if family == Family::V4 { "Udp" } else { "Udp6" };
    (bytes.len(), stats.value(name, "InCsumErrors"), stats.value(name, "NoPorts"))
}

#[test]
fn only_who_asks_takes_them_over_ipv6() {
    assert_eq!(run(Family::V4, "10.0.0.2:7", false), (8, 0, 0));
    assert_eq!(run(Family::V6, "[fd00::2]:7", false), (0, 1, 0));
    assert_eq!(run(Family::V6, "[fd00::2]:7", true), (8, 0, 0));
}

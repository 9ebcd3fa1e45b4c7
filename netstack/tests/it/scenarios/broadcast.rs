//! Broadcast: only with SO_BROADCAST, to everybody on the link and to every socket of the port, who can answer; nobody answers with
//! an ICMP error or a reset (RFC 919, RFC 1122 sections 3.2.2 and 3.3.6, socket(7)).

use netstack::ip::{Family, Route};
use netstack::link::fault::Faults;
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::socket::{ConnectError, RecvFlags, SendError, SocketOption, UdpSocket};

use super::lan::{cidr, counter, icmp, ms, recv, send, udp};

fn lan(seed: u64) -> (Sim, [HostId; 3]) {
    let mut sim = Sim::new(seed);
    let segment = sim.add_segment(Faults::delay(ms(1)));
    let hosts = [sim.add_host(), sim.add_host(), sim.add_host()];
    for (host, address) in hosts.iter().zip(["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24"]) {
        let nic = sim.attach(*host, segment, 1500, &[cidr(address)]);
        // The limited broadcast address needs a way, too, as on Linux.
        sim.stack(*host).add_route(Route::new(cidr("0.0.0.0/0"), None, nic)).unwrap();
    }
    (sim, hosts)
}

fn shared(sim: &Sim, host: HostId, local: &str) -> UdpSocket {
    let socket = sim.stack(host).udp_socket(Family::V4);
    socket.set_option(sim.now(), SocketOption::ReuseAddress(true).into()).unwrap();
    socket.bind(local.parse().unwrap()).unwrap();
    socket
}

#[test]
fn everybody_on_the_link_hears_a_broadcast() {
    let (mut sim, [a, b, c]) = lan(57);
    let talker = udp(&sim, a, "0.0.0.0:0");
    for to in ["255.255.255.255:7", "10.0.0.255:7"] {
        assert_eq!(send(&sim, &talker, to, b"x"), Err(SendError::AccessDenied));
        let refused = talker.connect(sim.now(), to.parse().unwrap());
        assert_eq!(refused.unwrap_err(), ConnectError::AccessDenied);
    }
    talker.set_option(sim.now(), SocketOption::Broadcast(true).into()).unwrap();
    // Every socket of the port: bound to any address or to the broadcast address; not one of the host's own address.
    let hearers = [
        shared(&sim, b, "0.0.0.0:7"),
        shared(&sim, b, "0.0.0.0:7"),
        shared(&sim, b, "10.0.0.255:7"),
        shared(&sim, c, "0.0.0.0:7"),
    ];
    let deaf = [shared(&sim, b, "10.0.0.2:7"), shared(&sim, b, "0.0.0.0:8")];
    send(&sim, &talker, "10.0.0.255:7", b"hello").unwrap();
    sim.run_for(ms(50));
    for (n, hearer) in hearers.iter().enumerate() {
        assert_eq!(recv(&sim, hearer), Some(b"hello".to_vec()), "hearer {n}");
    }
    assert!(deaf.iter().all(|socket| recv(&sim, socket).is_none()));
    // The whole network, which is the link.
    send(&sim, &talker, "255.255.255.255:7", b"all").unwrap();
    sim.run_for(ms(50));
    let heard = hearers.iter().filter(|hearer| recv(&sim, hearer).is_some()).count();
    assert_eq!(heard, 3, "all but the one of the other broadcast address");
}

#[test]
fn a_broadcast_is_answered_by_programs_alone() {
    let (mut sim, [a, b, c]) = lan(58);
    let talker = udp(&sim, a, "0.0.0.0:5000");
    talker.set_option(sim.now(), SocketOption::Broadcast(true).into()).unwrap();
    let server = udp(&sim, b, "0.0.0.0:7");
    send(&sim, &talker, "10.0.0.255:7", b"who is there").unwrap();
    sim.run_for(ms(50));
    let mut bytes = Vec::new();
    let told = server.recv_from(sim.now(), &mut bytes, RecvFlags::empty()).unwrap();
    assert_eq!(
        (told.from, told.dst),
        ("10.0.0.1:5000".parse().unwrap(), "10.0.0.255".parse().unwrap())
    );
    send(&sim, &server, "10.0.0.1:5000", b"me").unwrap();
    sim.run_for(ms(50));
    assert_eq!(recv(&sim, &talker), Some(b"me".to_vec()));
    // As on Linux one that is connected to the broadcast address hears nobody: none has that address.
    talker.connect(sim.now(), "10.0.0.255:7".parse().unwrap()).unwrap();
    send(&sim, &server, "10.0.0.1:5000", b"me again").unwrap();
    sim.run_for(ms(50));
    assert_eq!(recv(&sim, &talker), None);
    // RFC 1122 section 3.2.2: "An ICMP error message MUST NOT be sent as the result of receiving ... a datagram destined to an IP
    // broadcast": the third host has no such port, and says nothing.
    assert!(icmp(&sim, SegmentId::FIRST, 2).is_empty());
    assert_eq!(counter(&sim, c, "Udp", "NoPorts"), 0);
    assert_eq!(counter(&sim, c, "Udp", "IgnoredMulti"), 1);
    let frame = sim.capture().sent_by(SegmentId::FIRST, 0).find(|sent| sent.bytes[0] == 0xff);
    assert!(frame.is_some(), "to everybody on the link");
}

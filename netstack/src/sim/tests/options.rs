//! IPv4 options from socket to socket.

use super::*;
use crate::wire::ipv4_options::Options;

/// A record of up to three hosts, empty.
const RECORD: [u8; 15] = [7, 15, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn record() -> Options {
    Options::parse(&RECORD).unwrap()
}

/// The hosts that a record names.
fn recorded(options: &Options) -> Vec<&[u8]> {
    let bytes = options.as_slice();
    bytes[3..usize::from(bytes[2]) - 1].chunks(4).collect()
}

#[test]
fn options_go_with_datagrams_and_are_told_with_the_hosts_they_passed() {
    let (mut sim, [a, b]) = pair();
    let server = udp(&sim, b, Family::V4, "0.0.0.0:5");
    let client = udp(&sim, a, Family::V4, "0.0.0.0:6");
    client.set_option(sim.now(), IpOption::HeaderOptions(record()).into()).unwrap();
    // The options take their part of what a packet holds.
    for (len, fragments) in [(1456, 0), (1457, 2)] {
        send(&sim, &client, "10.0.0.2:5", &vec![7; len]).unwrap();
        let limit = soon(&sim);
        assert!(sim.run_until(limit, |_| ready(&server)));
        let (bytes, received) = recv(&sim, &server).unwrap();
        assert_eq!(bytes, vec![7; len]);
        assert_eq!(sim.stack(a).stats().value("Ip", "FragCreates"), fragments);
        if fragments == 0 {
            assert_eq!(recorded(&received.options), [[10, 0, 0, 1], [10, 0, 0, 2]]);
        }
    }
    // Of one message alone, instead of the socket's.
    let none = Ancillary { options: Some(Options::NONE), ..Ancillary::default() };
    client.send_to(sim.now(), &mut &b"plain"[..], Some(addr("10.0.0.2:5")), &none).unwrap();
    let limit = soon(&sim);
    assert!(sim.run_until(limit, |_| ready(&server)));
    assert!(recv(&sim, &server).unwrap().1.options.is_empty());
}

#[test]
fn an_echo_brings_back_the_route_that_it_recorded() {
    let (mut sim, [a, _]) = pair();
    let socket = sim.stack(a).ping_socket(Family::V4);
    socket.set_option(sim.now(), IpOption::HeaderOptions(record()).into()).unwrap();
    let request = [8, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4];
    let (to, none) = (Some(addr("10.0.0.2:0")), Ancillary::default());
    socket.send_to(sim.now(), &mut &request[..], to, &none).unwrap();
    let limit = soon(&sim);
    assert!(sim.run_until(limit, |_| socket.readiness().contains(Readiness::IN)));
    let mut bytes = Vec::new();
    let received = socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty()).unwrap();
    assert_eq!(bytes[8..], [1, 2, 3, 4]);
    // There, at the other host in and out; the way back found no room for more.
    assert_eq!(recorded(&received.options), [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 2]]);
}

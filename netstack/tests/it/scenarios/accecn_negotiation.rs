//! The handshake of ECN on the wire: which flags SYN, SYN-ACK and the first acknowledgment carry for each pair of policies
//! (RFC 3168 section 6.1.1, RFC 9768 section 3.1), and what data is then sent as.

use super::bulk::{Bulk, MS, configure, header_of};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::transport::tcp::EcnPolicy::{self, Grant, Off, Request, RequestAccurate};
use netstack::wire::tcp::Flags;

/// The bits AE, CWR, ECE of the three segments of the handshake, and the ECN bits of the first data.
fn handshake(client: EcnPolicy, server: EcnPolicy) -> ([u16; 3], u8) {
    let (mut sim, hosts) = Sim::pair(19, Faults::delay(5 * MS));
    configure(&sim, hosts[0], |config| config.ecn = client);
    configure(&sim, hosts[1], |config| config.ecn = server);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(5000);
    assert!(bulk.finish(&mut sim, 1000 * MS));
    let frames = sim.capture().frames().iter();
    let segments: Vec<_> =
        frames.filter_map(|frame| Some((header_of(&frame.bytes)?, frame.bytes[15] & 3))).collect();
    let bits = |n: usize| {
        let flags = segments[n].0.0.flags;
        u16::from(flags.contains(Flags::AE)) << 2
            | u16::from(flags.contains(Flags::CWR)) << 1
            | u16::from(flags.contains(Flags::ECE))
    };
    let data = segments.iter().find(|((_, len), _)| *len > 0).map(|(_, ecn)| *ecn);
    // Neither the handshake nor bare acknowledgments are capable of ECN.
    assert!(segments.iter().all(|((_, len), ecn)| *len > 0 || *ecn == 0));
    ([bits(0), bits(1), bits(2)], data.unwrap())
}

#[test]
fn the_handshake_agrees_on_the_most_that_both_know() {
    for (client, server, flags, data) in [
        (Off, Grant, [0, 0, 0], 0),
        (Grant, Grant, [0, 0, 0], 0),
        (Grant, RequestAccurate, [0, 0, 0], 0),
        (Request, Off, [0b011, 0, 0], 0),
        (Request, Grant, [0b011, 0b001, 0], 2),
        (Request, RequestAccurate, [0b011, 0b001, 0], 2),
        (RequestAccurate, Off, [0b111, 0, 0], 0),
        (RequestAccurate, Grant, [0b111, 0b001, 0], 2),
        // The SYN came without ECN bits, so did the SYN-ACK: both say so.
        (RequestAccurate, RequestAccurate, [0b111, 0b010, 0b010], 2),
    ] {
        assert_eq!(handshake(client, server), (flags, data), "{client:?} {server:?}");
    }
}

//! Middleboxes that break ECN: one clears the bits of the IP header, one drops the SYN that asks, one reflects its flags.
//! Connections work without it.

use super::bulk::{Bulk, MS, configure, header_of, path};
use netstack::link::fault::{EcnFault, Faults};
use netstack::sim::{Sim, Verdict};
use netstack::transport::tcp::EcnPolicy;
use netstack::wire::tcp::Flags;

#[test]
fn cleared_bits_do_no_harm() {
    for policy in [EcnPolicy::Request, EcnPolicy::RequestAccurate] {
        let faults = Faults {
            ecn: EcnFault::Bleach,
            mark_above: Some(5 * MS),
            ..path(20 * MS, 20, 40 * MS)
        };
        let (mut sim, hosts) = Sim::pair(17, faults);
        hosts.iter().for_each(|host| configure(&sim, *host, |config| config.ecn = policy));
        let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
        bulk.queue(4_000_000);
        // What is not marked is lost, and repaired as ever.
        assert!(bulk.finish(&mut sim, 10_000 * MS));
        assert!(bulk.info().counters.recoveries > 0);
        let mut frames = sim.capture().frames().iter();
        assert!(frames.any(|frame| frame.bytes[15] & 3 == 2), "data was sent as capable of ECN");
    }
}

#[test]
fn a_syn_that_is_dropped_for_asking_is_sent_again_without() {
    for policy in [EcnPolicy::Request, EcnPolicy::RequestAccurate] {
        let (mut sim, hosts) = Sim::pair(18, path(20 * MS, 20, 40 * MS));
        hosts.iter().for_each(|host| configure(&sim, *host, |config| config.ecn = policy));
        sim.set_filter(|_, _, frame| match header_of(frame) {
            Some((header, _)) if header.flags.contains(Flags::SYN | Flags::ECE) => Verdict::Drop,
            _ => Verdict::Pass,
        });
        let start = sim.now();
        let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
        assert!(sim.now() - start < 1200 * MS);
        bulk.queue(100_000);
        assert!(bulk.finish(&mut sim, 2_000 * MS));
        assert!(sim.capture().frames().iter().all(|frame| frame.bytes[15] & 3 != 2));
    }
}

//! A router marks instead of dropping (RFC 3168): the sender slows down once a window, says so, and nothing is lost or sent
//! again; with the accurate feedback of RFC 9768, too.

use super::bulk::{Bulk, MS, configure, header_of, path, tcp_ext};
use netstack::link::fault::{Fate, Faults};
use netstack::sim::{HostId, Sim};
use netstack::transport::tcp::EcnPolicy;
use netstack::wire::tcp::Flags;

fn transfer(
    client: EcnPolicy,
    server: EcnPolicy,
    congestion: &'static str,
) -> (Sim, [HostId; 2], Bulk) {
    let faults = Faults { mark_above: Some(15 * MS), ..path(20 * MS, 20, 400 * MS) };
    let (mut sim, hosts) = Sim::pair(16, faults);
    configure(&sim, hosts[0], |config| config.ecn = client);
    configure(&sim, hosts[1], |config| config.ecn = server);
    let mut bulk = Bulk::open(&mut sim, hosts, 80, congestion);
    bulk.queue(10_000_000);
    assert!(bulk.finish(&mut sim, 6_000 * MS));
    (sim, hosts, bulk)
}

fn marks(sim: &Sim) -> usize {
    sim.capture().frames().iter().filter(|frame| frame.fates.contains(&Fate::Marked)).count()
}

#[test]
fn marks_slow_the_sender_down_once_a_window_and_nothing_is_lost() {
    let (sim, hosts, bulk) = transfer(EcnPolicy::Request, EcnPolicy::Grant, "cubic");
    let counters = bulk.info().counters;
    assert_eq!((counters.retransmissions, counters.timeouts), (0, 0), "{counters:?}");
    let (echoed, told) = sim.capture().frames().iter().fold((0, 0), |(echoed, told), frame| {
        let Some((header, len)) = header_of(&frame.bytes) else { return (echoed, told) };
        let syn = header.flags.contains(Flags::SYN);
        let echo = !syn && frame.port == 1 && header.flags.contains(Flags::ECE);
        let tell = !syn && frame.port == 0 && len > 0 && header.flags.contains(Flags::CWR);
        (echoed + usize::from(echo), told + usize::from(tell))
    });
    assert!(marks(&sim) > 10 && echoed > 50, "{} marks, {echoed} echoes", marks(&sim));
    // Each reduction is told once, in one segment, and a reduction is for a window of marks.
    assert!(told > 3 && told * 3 < echoed, "{told} reductions for {echoed} echoes");
    assert!(bulk.info().ssthresh < usize::MAX);
    // The queue stays near the threshold of marks: 20 ms of path and some 15 of queue.
    assert!(bulk.info().rtt < 60 * MS, "{:?}", bulk.info().rtt);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPSackRecovery"), 0);
}

#[test]
fn accurate_feedback_slows_it_down_too() {
    let accurate = EcnPolicy::RequestAccurate;
    for congestion in ["cubic", "reno"] {
        let (sim, _, bulk) = transfer(accurate, accurate, congestion);
        let counters = bulk.info().counters;
        assert_eq!((counters.retransmissions, counters.timeouts), (0, 0), "{counters:?}");
        assert!(marks(&sim) > 10, "{}", marks(&sim));
        assert!(bulk.info().ssthresh < usize::MAX && bulk.info().rtt < 60 * MS);
    }
}

#[test]
fn without_ecn_nothing_is_marked() {
    let (sim, _, _) = transfer(EcnPolicy::Grant, EcnPolicy::Grant, "cubic");
    assert_eq!(marks(&sim), 0);
}

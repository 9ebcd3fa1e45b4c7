//! A dead path: each timeout doubles the next, from 200 ms over the round trip up to two minutes, and the connection
//! ends after tcp_retries2 of them (RFC 6298, RFC 1122 section 4.2.3.5).

use super::bulk::{Bulk, MS, header_of, sent_data, tcp_ext};
use netstack::link::fault::Faults;
use netstack::sim::{Sim, Verdict};
use netstack::socket::SocketError;
use netstack::time::Duration;

#[test]
fn timeouts_double_up_to_two_minutes_and_then_the_connection_ends() {
    let mut sim = Sim::new(11);
    let segment = sim.add_segment(Faults::delay(10 * MS));
    let hosts = [sim.add_host(), sim.add_host()];
    for (host, n) in hosts.iter().zip(1u8..) {
        sim.attach(*host, segment, 1500, &Sim::pair_addresses(n));
    }
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.queue(100);
    bulk.run(&mut sim, 1000 * MS);
    // Neighbours still find each other.
    sim.set_filter(|_, _, frame| match header_of(frame) {
        Some(_) => Verdict::Drop,
        None => Verdict::Pass,
    });
    bulk.queue(100);
    bulk.run(&mut sim, Duration::from_secs(1200));
    let times: Vec<_> = sent_data(&sim, segment).iter().skip(1).map(|(at, _)| *at).collect();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The data, the loss probe in place of the first timeout, and fifteen retransmissions.
    assert_eq!(times.len(), 17, "{gaps:?}");
    let first = gaps[1];
    assert!((220 * MS..250 * MS).contains(&first), "{gaps:?}");
    for (n, gap) in gaps[1..].iter().enumerate() {
        let wanted = (first * (1 << n)).min(Duration::from_secs(120));
        assert_eq!(*gap, wanted, "{n}: {gaps:?}");
    }
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPTimeouts"), 15);
    assert_eq!(bulk.sender.take_error(), Some(SocketError::TimedOut));
}

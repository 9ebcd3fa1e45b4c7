//! A new connection takes the place of one in TIME-WAIT (RFC 6191): a SYN with a later timestamp opens at once and the
//! server's numbers begin beyond the old ones; a connect from this side does so by tcp_tw_reuse.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::ConnectError;
use netstack::transport::Host;
use netstack::transport::tcp::{Seq, StateName, TimeWaitReuse};
use netstack::wire::tcp::Flags;

#[test]
fn a_syn_with_a_later_timestamp_reopens_and_an_older_one_is_acknowledged() {
    let (mut sim, host, hand) = with_hand(1);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let syn = |seq, value| stamped(control(Seq(seq), Seq(0), Flags::SYN), value, 0);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn(9000, 500));
    // The server closes first and waits.
    listener.accept(sim.now()).unwrap().close(sim.now());
    sim.run_for(20 * MS);
    hand.heard();
    let fin = stamped(control(ours, theirs + 1, Flags::FIN | Flags::ACK), 510, 0);
    hand.ask(&mut sim, 4000, to, &fin);
    assert_eq!(sim.stack(host).shared().tcp.time_wait.len(), 1);
    // Older in both ways: acknowledged, not opened.
    let answers = hand.ask(&mut sim, 4000, to, &syn(8000, 400));
    assert!(answers.len() == 1 && !answers[0].syn(), "{answers:?}");
    assert_eq!((answers[0].seq, answers[0].ack), (theirs + 1, ours + 1));
    // A lower sequence number with a later timestamp opens, beyond all that was sent.
    let answers = hand.ask(&mut sim, 4000, to, &syn(8000, 600));
    assert!(answers[0].syn());
    assert_eq!(answers[0].seq, theirs + 1 + 65_537);
    assert_eq!(sim.stack(host).shared().tcp.time_wait.len(), 0);
}

#[test]
fn a_connect_takes_the_place_after_a_second_where_it_may() {
    for (reuse, works) in
        [(TimeWaitReuse::Off, false), (TimeWaitReuse::Loopback, false), (TimeWaitReuse::All, true)]
    {
        let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
        let client_host = hosts[0];
        configure(&sim, client_host, |config| config.time_wait_reuse = reuse);
        sim.stack(client_host).shared().ports.set_ephemeral_range(40_000, 40_000);
        let listener = listen(&sim, hosts[1], "0.0.0.0:80", 8);
        let client = connect(&sim, client_host, at(Family::V4, 2, 80));
        sim.run_for(20 * MS);
        client.close(sim.now());
        sim.run_for(20 * MS);
        listener.accept(sim.now()).unwrap().close(sim.now());
        sim.run_for(20 * MS);
        assert_eq!(ext(&sim, client_host, "TW"), 1);
        let again = sim.stack(client_host).tcp_socket(Family::V4);
        let early = again.connect(sim.now(), at(Family::V4, 2, 80));
        assert_eq!(early, Err(ConnectError::AddressNotAvailable));
        sim.run_for(2 * SEC);
        let connected = again.connect(sim.now(), at(Family::V4, 2, 80));
        assert_eq!(connected.is_ok(), works);
        sim.run_for(20 * MS);
        assert_eq!(again.state() == StateName::Established, works);
        assert_eq!(ext(&sim, client_host, "TWRecycled"), u64::from(works));
    }
}

#[test]
fn time_wait_is_bounded() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
    configure(&sim, hosts[0], |config| config.max_time_wait = 3);
    let listener = listen(&sim, hosts[1], "0.0.0.0:80", 8);
    for _ in 0..5 {
        let client = connect(&sim, hosts[0], at(Family::V4, 2, 80));
        sim.run_for(20 * MS);
        client.close(sim.now());
        listener.accept(sim.now()).unwrap().close(sim.now());
        sim.run_for(20 * MS);
    }
    let kept = sim.stack(hosts[0]).shared().tcp.time_wait.len();
    assert_eq!((kept, ext(&sim, hosts[0], "TCPTimeWaitOverflow")), (3, 2));
}

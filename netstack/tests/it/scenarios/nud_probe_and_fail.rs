//! A neighbour that was used while stale is asked directly, and forgotten when it stays silent; packets then fail with "no route
//! to host", and the next one asks everybody anew (RFC 4861 section 7.3, `net.ipv4.neigh`).

use netstack::ip::Family;
use netstack::ip::conf::ConfTarget;
use netstack::ip::neigh::{Neighbour, State};
use netstack::link::MacAddr;
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};
use netstack::socket::SocketError;
use netstack::socket::options::{Asks, DatagramOption, Level};
use netstack::stack::NicState;
use netstack::time::Duration;

use super::lan::{ip, ms, send, udp};
use super::segments;

#[test]
fn nud_probe_and_fail() {
    for (family, peer, to, any) in [
        (Family::V4, "10.0.0.2", "10.0.0.2:7", "0.0.0.0:0"),
        (Family::V6, "fd00::2", "[fd00::2]:7", "[::]:0"),
    ] {
        let (mut sim, [a, b]) = Sim::pair(45, Faults::delay(ms(1)));
        let stack = sim.stack(a).clone();
        let _server = udp(&sim, b, if family == Family::V4 { "0.0.0.0:7" } else { "[::]:7" });
        let client = udp(&sim, a, any);
        client.connect(sim.now(), to.parse().unwrap()).unwrap();
        client
            .set_option(sim.now(), DatagramOption::tell(Level::of(family), Asks::ERRORS).into())
            .unwrap();
        let state = |peer: &str| {
            let known = stack.neighbours().into_iter().find(|(_, at)| at.address == ip(peer));
            known.map(|(_, at)| at.state)
        };
        send(&sim, &client, to, b"hello").unwrap();
        sim.run_for(ms(100));
        assert_eq!(state(peer), Some(State::Reachable));
        // It is believed for 15 to 45 seconds.
        sim.run_for(Duration::from_secs(46));
        assert_eq!(state(peer), Some(State::Stale));
        let peers_nic = sim.stack(b).nics()[1].id;
        sim.stack(b).set_nic_state(peers_nic, NicState::Down).unwrap();
        send(&sim, &client, to, b"are you there").unwrap();
        assert_eq!(state(peer), Some(State::Delay));
        sim.run_for(ms(5500));
        assert_eq!(state(peer), Some(State::Probe));
        let mac = Sim::mac_of(SegmentId::FIRST, 1).0;
        let last = sim.capture().sent_by(SegmentId::FIRST, 0).last().unwrap();
        assert_eq!(last.bytes[..6], mac, "asked directly");
        sim.run_for(ms(3000));
        assert_eq!(state(peer), Some(State::Failed));
        // The next packet asks everybody, and its sender learns that nobody answers.
        send(&sim, &client, to, b"anybody").unwrap();
        assert_eq!(state(peer), Some(State::Incomplete));
        let last = sim.capture().frames().len();
        sim.run_for(ms(3500));
        let asked = &sim.capture().frames()[last..];
        assert!(asked.iter().all(|sent| sent.bytes[0] & 1 == 1), "by broadcast or multicast");
        assert_eq!(client.take_error(), Some(SocketError::HostUnreachable));
    }
}

#[test]
fn the_tunables_set_the_times_and_entries_set_by_hand_stay() {
    let (mut sim, [a, _]) = Sim::pair(46, Faults::default());
    let stack = sim.stack(a).clone();
    let nic = stack.nics()[1].id;
    stack
        .edit_neigh_conf(ConfTarget::Nic(nic), Family::V4, |conf| {
            (conf.mcast_solicit, conf.retrans_time) = (5, ms(200));
        })
        .unwrap();
    let client = udp(&sim, a, "0.0.0.0:0");
    send(&sim, &client, "10.0.0.77:7", b"x").unwrap();
    sim.run_for(ms(1500));
    assert_eq!(sim.capture().sent_by(SegmentId::FIRST, 0).count(), 5);
    let known =
        |at: &str| stack.neighbours().into_iter().find(|(_, known)| known.address == ip(at));
    assert_eq!(known("10.0.0.77").unwrap().1.state, State::Failed);
    let by_hand =
        Neighbour::new(ip("10.0.0.78"), Some(MacAddr([2, 1, 1, 1, 1, 1])), State::Permanent);
    stack.set_neighbour(sim.now(), nic, by_hand).unwrap();
    send(&sim, &client, "10.0.0.78:7", b"x").unwrap();
    sim.run_for(Duration::from_secs(200));
    assert_eq!(known("10.0.0.78").unwrap().1.state, State::Permanent);
    assert!(known("10.0.0.77").is_none(), "a failed one is forgotten after a minute");
}

#[test]
fn what_a_stream_heard_long_ago_says_nothing_of_its_neighbour() {
    let (mut sim, [a, b]) = Sim::pair(47, Faults::delay(ms(1)));
    let (client, _server) = segments::connected(&mut sim, [a, b], Family::V4, 80);
    let stack = sim.stack(a).clone();
    let state = || {
        let known = stack.neighbours().into_iter().find(|(_, at)| at.address == ip("10.0.0.2"));
        known.map(|(_, at)| at.state)
    };
    segments::send(&sim, &client, b"hello").unwrap();
    sim.run_for(Duration::from_secs(60));
    assert_eq!(state(), Some(State::Stale));
    segments::send(&sim, &client, b"are you there").unwrap();
    assert_eq!(state(), Some(State::Delay), "what it acknowledged was a minute ago");
    // The answer to this one is told with the next.
    sim.run_for(ms(2000));
    segments::send(&sim, &client, b"so you are").unwrap();
    assert_eq!(state(), Some(State::Reachable));
}

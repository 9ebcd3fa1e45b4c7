//! The bounds of timeouts, by socket and by stack: TCP_RTO_MIN_US and tcp_rto_min_us, TCP_RTO_MAX_MS and tcp_rto_max_ms,
//! TCP_DELACK_MAX_US, TCP_THIN_LINEAR_TIMEOUTS, and the stack's tcp_keepalive_*.

use super::segments::*;
use netstack::ip::Family;
use netstack::sim::{HostId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{SocketOption, TcpOption};
use netstack::time::Duration;
use netstack::transport::tcp::{Seq, StateName, TcpConfig};
use netstack::wire::tcp::Flags;

fn open(
    configured: impl FnOnce(&mut TcpConfig),
    options: &[TcpOption],
) -> (Sim, HostId, Hand, TcpSocket, (Seq, Seq)) {
    let (mut sim, host, hand) = with_hand(1);
    configure(&sim, host, configured);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    options.iter().for_each(|option| socket.set_option(sim.now(), *option).unwrap());
    (sim, host, hand, socket, (ours, theirs))
}

/// The times between the transmissions of one segment that nobody acknowledges.
fn gaps(sim: &mut Sim, hand: &Hand, socket: &TcpSocket, time: Duration) -> Vec<u64> {
    hand.heard();
    send(sim, socket, b"into the dark").unwrap();
    let start = sim.now();
    let mut times = Vec::new();
    sim.run_until(start + time, |sim| {
        times.extend(hand.heard().iter().map(|_| sim.now().since(start).as_millis() as u64));
        socket.state() == StateName::Closed
    });
    times.windows(2).map(|w| w[1] - w[0]).collect()
}

#[test]
fn the_least_and_the_longest_timeout_are_settable() {
    let ms = |n| Duration::from_millis(n);
    let nothing = |_: &mut TcpConfig| ();
    let least = ms(20);
    for by_socket in [true, false] {
        let (mut sim, _, hand, socket, (ours, theirs)) = match by_socket {
            true => open(nothing, &[TcpOption::RtoMin(least), TcpOption::RtoMax(SEC)]),
            false => open(|config| (config.rto_min, config.rto_max) = (least, SEC), &[]),
        };
        // As on Linux the socket's bounds hold from the next round-trip sample on.
        send(&sim, &socket, b"x").unwrap();
        sim.run_for(2 * MS);
        let ack = control(ours, theirs + 1usize, Flags::ACK);
        hand.ask(&mut sim, 4000, at(Family::V4, 1, 80), &ack);
        let gaps = gaps(&mut sim, &hand, &socket, 10 * SEC);
        // A loss probe, the first timeout of the bound and twice the variation or so, doubled, up to a second.
        assert!((20..100).contains(&gaps[0]), "{by_socket} {gaps:?}");
        assert!(gaps.len() > 6 && gaps.iter().all(|gap| *gap <= 1000), "{by_socket} {gaps:?}");
        assert_eq!(gaps[7], 1000, "{by_socket} {gaps:?}");
    }
    let bad = [TcpOption::RtoMin(ms(7)), TcpOption::RtoMin(ms(201)), TcpOption::RtoMax(ms(999))];
    let (sim, _, _, socket, _) = open(nothing, &[]);
    for option in bad {
        assert!(socket.set_option(sim.now(), option).is_err(), "{option:?}");
    }
}

#[test]
fn a_thin_stream_times_out_at_a_constant_pace() {
    let (mut sim, _, hand, socket, _) = open(|_| (), &[TcpOption::ThinLinearTimeouts(true)]);
    let thin = gaps(&mut sim, &hand, &socket, 6 * SEC);
    assert!(thin[1..7].iter().all(|gap| *gap < 250), "{thin:?}");
    assert!(thin[8] > 350, "six of them: {thin:?}");
}

#[test]
fn acknowledgments_wait_no_longer_than_the_socket_says() {
    for (most, wanted) in [(8, 8), (200, 40)] {
        let most = Duration::from_millis(most);
        let (mut sim, _, hand, socket, (mut ours, theirs)) =
            open(|_| (), &[TcpOption::DelayedAckMax(most)]);
        let to = at(Family::V4, 1, 80);
        // Past the quick start.
        for _ in 0..40 {
            hand.ask(&mut sim, 4000, to, &data(ours, theirs, &[1; 100]));
            ours += 100;
            recv(&sim, &socket).unwrap();
            sim.run_for(100 * MS);
        }
        hand.heard();
        hand.send(4000, to, &data(ours, theirs, &[1; 100]));
        let start = sim.now();
        assert!(sim.run_until(start + SEC, |_| !hand.heard().is_empty()));
        let waited = sim.now().since(start).as_millis() as u64;
        // A millisecond each way.
        assert!((wanted..wanted + 4).contains(&waited), "{most:?}: {waited}");
    }
}

#[test]
fn an_idle_peer_is_probed_by_the_stack_s_habits() {
    let (mut sim, host, hand, socket, _) = open(
        |config| (config.keep_idle, config.keep_interval, config.keep_count) = (10 * SEC, SEC, 2),
        &[],
    );
    socket.set_option(sim.now(), SocketOption::KeepAlive(true)).unwrap();
    hand.heard();
    let start = sim.now();
    let limit = start + 100 * SEC;
    assert!(sim.run_until(limit, |_| socket.state() == StateName::Closed));
    let waited = sim.now().since(start).as_secs();
    assert!((11..=12).contains(&waited), "{waited}");
    assert_eq!(ext(&sim, host, "TCPKeepAlive"), 2);
}

//! TCP_USER_TIMEOUT (RFC 5482, tcp(7)): a connection gives up that long after it first waited in vain, while connecting,
//! with data under way, before a closed window and with keepalive.

use super::bulk::{Bulk, configure};
use super::segments::{MS, SEC, at, control, listen, send, with_hand};
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::{SocketError, SocketOption, TcpOption};
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::Flags;

fn gave_up_after(sim: &mut Sim, socket: &netstack::socket::tcp::TcpSocket) -> u64 {
    let start = sim.now();
    let limit = start + 200 * SEC;
    assert!(sim.run_until(limit, |_| socket.state() == StateName::Closed));
    assert_eq!(socket.take_error(), Some(SocketError::TimedOut));
    sim.now().since(start).as_millis() as u64
}

#[test]
fn every_wait_ends_by_it() {
    let timeout = TcpOption::UserTimeout(7 * SEC);
    let to = at(Family::V4, 1, 80);
    // Connecting to a host that is silent.
    let (mut sim, host, hand) = with_hand(1);
    let socket = sim.stack(host).tcp_socket(Family::V4);
    socket.set_option(sim.now(), timeout).unwrap();
    socket.connect(sim.now(), hand.addr(80)).unwrap();
    let waited = gave_up_after(&mut sim, &socket);
    assert!((6_900..8_100).contains(&waited), "connecting: {waited}");
    for (case, window) in [("data", 8192u16), ("closed window", 0)] {
        let (mut sim, host, hand) = with_hand(2);
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let mut syn = control(Seq(9000), Seq(0), Flags::SYN);
        syn.window = window;
        let (ours, theirs, _) = hand.open(&mut sim, 4000, to, &syn);
        let socket = listener.accept(sim.now()).unwrap();
        let mut ack = control(ours, theirs, Flags::ACK);
        ack.window = window;
        hand.ask(&mut sim, 4000, to, &ack);
        socket.set_option(sim.now(), timeout).unwrap();
        send(&sim, &socket, b"into the dark").unwrap();
        let waited = gave_up_after(&mut sim, &socket);
        assert!((6_900..7_500).contains(&waited), "{case}: {waited}");
    }
    // A closed window ends it, too, where the peer answers every probe: 7.0 s after the first of them, as on Linux 6.18.
    let (mut sim, hosts) = Sim::pair(4, Faults::delay(MS));
    configure(&sim, hosts[1], |config| {
        config.receive_buffer = 8192;
        config.receive_buffer_max = 8192;
    });
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    bulk.reads = false;
    bulk.sender.set_option(sim.now(), timeout).unwrap();
    bulk.queue(100_000);
    bulk.run(&mut sim, SEC);
    let waited = gave_up_after(&mut sim, &bulk.sender) + 1000;
    assert!((7_000..7_500).contains(&waited), "answered probes: {waited}");
    // Keepalive without an answer: the time-out stands in for the count of probes.
    let (mut sim, host, hand) = with_hand(3);
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
    let socket = listener.accept(sim.now()).unwrap();
    for option in [timeout, TcpOption::KeepIdle(5 * SEC), TcpOption::KeepInterval(SEC)] {
        socket.set_option(sim.now(), option).unwrap();
    }
    socket.set_option(sim.now(), SocketOption::KeepAlive(true)).unwrap();
    let waited = gave_up_after(&mut sim, &socket);
    assert!((6_900..8_100).contains(&waited), "keepalive: {waited}");
}

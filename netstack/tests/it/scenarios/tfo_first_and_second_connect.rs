//! Fast open (RFC 7413): the first connection gets a cookie, the second one sends its question with the SYN, and the
//! server's program has it before the handshake is complete.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{SendError, SendFlags, TcpOption};
use netstack::transport::tcp::StateName;

fn pair() -> (Sim, [HostId; 2], TcpSocket) {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(10 * MS));
    for host in hosts {
        configure(&sim, host, |config| config.fast_open = 3);
    }
    let server = sim.stack(hosts[1]).tcp_socket(Family::V6);
    server.set_option(sim.now(), TcpOption::FastOpen(8)).unwrap();
    server.bind(addr("[::]:80")).unwrap();
    server.listen(8).unwrap();
    // Addresses are resolved before anything is timed.
    let warm = connect(&sim, hosts[0], at(Family::V4, 2, 80));
    let warm6 = connect(&sim, hosts[0], at(Family::V6, 2, 80));
    sim.run_for(100 * MS);
    [warm, warm6].iter().for_each(|socket| socket.close(sim.now()));
    while let Ok(socket) = server.accept(sim.now()) {
        socket.close(sim.now());
    }
    sim.run_for(100 * MS);
    (sim, hosts, server)
}

fn ask(
    sim: &Sim,
    socket: &TcpSocket,
    family: Family,
    mut bytes: &[u8],
) -> Result<usize, SendError> {
    socket.fast_open(sim.now(), &mut bytes, at(family, 2, 80), SendFlags::empty())
}

#[test]
fn the_second_connection_saves_a_round_trip() {
    for family in [Family::V4, Family::V6] {
        let (mut sim, hosts, listener) = pair();
        let first = sim.stack(hosts[0]).tcp_socket(family);
        assert_eq!(ask(&sim, &first, family, b"one"), Err(SendError::InProgress));
        sim.run_for(50 * MS);
        assert_eq!(ask(&sim, &first, family, b"one"), Ok(3));
        assert_eq!(ext(&sim, hosts[1], "TCPFastOpenCookieReqd"), 1);
        let second = sim.stack(hosts[0]).tcp_socket(family);
        let begun = sim.now();
        assert_eq!(ask(&sim, &second, family, b"question"), Ok(8));
        let accepted = listener.accept(sim.now()).expect("the first one");
        sim.run_until(begun + SEC, |sim| {
            listener.backlog() != Some((0, 8)) || sim.now() > begun + SEC
        });
        // Half a round trip.
        assert_eq!(sim.now() - begun, 10 * MS);
        let server = listener.accept(sim.now()).expect("a connection");
        assert_eq!(server.state(), StateName::SynReceived);
        assert_eq!(recv(&sim, &server).unwrap(), b"question");
        // The answer may go out before the handshake is complete.
        assert_eq!(send(&sim, &server, b"answer"), Ok(6));
        sim.run_until(begun + SEC, |_| second.queued().0 > 0);
        assert_eq!(sim.now() - begun, 20 * MS);
        assert_eq!(recv(&sim, &second).unwrap(), b"answer");
        sim.run_for(50 * MS);
        assert_eq!(
            (second.state(), server.state()),
            (StateName::Established, StateName::Established)
        );
        assert!(second.info().unwrap().syn_data && server.info().unwrap().syn_data);
        assert!(!accepted.info().unwrap().syn_data);
        assert_eq!(ext(&sim, hosts[0], "TCPFastOpenActive"), 1);
        assert_eq!(ext(&sim, hosts[1], "TCPFastOpenPassive"), 1);
        for socket in [&first, &second, &accepted, &server, &listener] {
            socket.close(sim.now());
        }
        sim.run_for(130 * SEC);
        for host in hosts {
            assert_eq!(sim.stack(host).usage(), (0, 0));
        }
    }
}

#[test]
fn fast_open_connect_defers_the_syn_to_the_first_send() {
    let (mut sim, hosts, listener) = pair();
    let to = at(Family::V4, 2, 80);
    let fast = |sim: &Sim| {
        let socket = sim.stack(hosts[0]).tcp_socket(Family::V4);
        socket.set_option(sim.now(), TcpOption::FastOpenConnect(true)).unwrap();
        socket
    };
    // Without a cookie the SYN goes out at once and asks for one.
    let first = fast(&sim);
    assert_eq!(first.connect(sim.now(), to), Ok(netstack::socket::Connect::InProgress));
    sim.run_for(50 * MS);
    assert_eq!(first.state(), StateName::Established);
    listener.accept(sim.now()).unwrap();
    let second = fast(&sim);
    let frames = sim.capture().frames().len();
    assert_eq!(second.connect(sim.now(), to), Ok(netstack::socket::Connect::Done));
    sim.run_for(5 * SEC);
    assert_eq!((sim.capture().frames().len(), second.state()), (frames, StateName::SynSent));
    assert!(second.readiness().contains(netstack::socket::Readiness::OUT));
    assert_eq!(send(&sim, &second, b"question"), Ok(8));
    sim.run_for(15 * MS);
    let server = listener.accept(sim.now()).expect("a connection");
    assert_eq!(recv(&sim, &server).unwrap(), b"question");
    sim.run_for(15 * MS);
    // More follows as usual.
    send(&sim, &second, &[7; 5000]).unwrap();
    sim.run_for(100 * MS);
    let mut got = 0;
    while let Ok(bytes) = recv(&sim, &server) {
        got += bytes.len();
    }
    assert_eq!(got, 5000);
}

#[test]
fn the_queue_of_unfinished_ones_is_bounded_and_fast_open_can_be_off() {
    let (mut sim, host, hand) = with_hand(4);
    configure(&sim, host, |config| config.fast_open = 0x203);
    let listener = sim.stack(host).tcp_socket(Family::V4);
    listener.set_option(sim.now(), TcpOption::FastOpen(2)).unwrap();
    listener.bind(addr("0.0.0.0:80")).unwrap();
    listener.listen(100).unwrap();
    let to = at(Family::V4, 1, 80);
    let mut syn =
        data(netstack::transport::tcp::Seq(100), netstack::transport::tcp::Seq(0), b"hello");
    syn.flags = netstack::wire::tcp::Flags::SYN;
    for port in 4000..4005 {
        hand.ask(&mut sim, port, to, &syn);
    }
    // Without cookies (bit 0x200) two are open at once; the others shake hands first.
    assert_eq!(ext(&sim, host, "TCPFastOpenPassive"), 2);
    assert_eq!(ext(&sim, host, "TCPFastOpenListenOverflow"), 3);
    assert_eq!(listener.backlog(), Some((2, 100)));
    // The handshake never ends: the connections are given up, and the places are free again.
    sim.run_for(70 * SEC);
    let answers = hand.ask(&mut sim, 5000, to, &syn);
    assert_eq!(answers[0].ack, syn.seq + 6);
    configure(&sim, host, |config| config.fast_open = 0);
    let answers = hand.ask(&mut sim, 5001, to, &syn);
    assert_eq!(answers[0].ack, syn.seq + 1);
    let off = sim.stack(host).tcp_socket(Family::V4);
    let to = hand.addr(80);
    let refused = off.fast_open(sim.now(), &mut &b"x"[..], to, SendFlags::empty());
    assert_eq!(refused, Err(SendError::NotSupported));
}

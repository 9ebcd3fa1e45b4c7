//! SO_REUSEPORT: sockets of one address share its flows, each flow stays with its socket, and a socket that leaves takes only its own
//! flows with it; listeners of TCP likewise (socket(7); Linux's reuseport groups).

use std::collections::BTreeMap;

use netstack::filter::{Instruction, Program};
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{BindError, RecvFlags, SocketOption, UdpSocket};

use super::lan::{ms, send, udp};

const FLOWS: u16 = 200;

fn member(sim: &Sim, host: HostId) -> UdpSocket {
    let socket = sim.stack(host).udp_socket(Family::V4);
    socket.set_option(sim.now(), SocketOption::ReusePort(true).into()).unwrap();
    socket.bind("0.0.0.0:7".parse().unwrap()).unwrap();
    socket
}

/// One datagram from each port of the client; which port came to which socket.
fn spread(sim: &mut Sim, client: HostId, group: &[UdpSocket]) -> BTreeMap<u16, usize> {
    for port in 0..FLOWS {
        let flow = udp(sim, client, &format!("10.0.0.1:{}", 10_000 + port));
        send(sim, &flow, "10.0.0.2:7", b"x").unwrap();
        sim.run_for(ms(1));
        flow.close(sim.now());
    }
    let mut came = BTreeMap::new();
    for (n, socket) in group.iter().enumerate() {
        let mut bytes = Vec::new();
        while let Ok(told) = socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty()) {
            assert_eq!(came.insert(told.from.port(), n), None);
        }
    }
    came
}

#[test]
fn flows_spread_and_stay_until_their_socket_leaves() {
    let (mut sim, [a, b]) = Sim::pair(59, Faults::default());
    let mut group: Vec<UdpSocket> = (0..4).map(|_| member(&sim, b)).collect();
    let plain = sim.stack(b).udp_socket(Family::V4);
    assert_eq!(plain.bind("0.0.0.0:7".parse().unwrap()), Err(BindError::InUse));
    let first = spread(&mut sim, a, &group);
    assert_eq!(first.len(), usize::from(FLOWS));
    for n in 0..4 {
        let share = first.values().filter(|at| **at == n).count();
        assert!((20..=90).contains(&share), "socket {n} has {share} of {FLOWS} flows");
    }
    assert_eq!(spread(&mut sim, a, &group), first);
    // A connected member is no part of the group any more, and takes its own peer alone.
    group[3].connect(sim.now(), "10.0.0.1:10000".parse().unwrap()).unwrap();
    let second = spread(&mut sim, a, &group);
    assert_eq!(second.values().filter(|at| **at == 3).count(), 1);
    group.pop().unwrap().close(sim.now());
    group.pop().unwrap().close(sim.now());
    let third = spread(&mut sim, a, &group);
    assert_eq!(third.len(), usize::from(FLOWS));
    for n in 0..2 {
        let share = third.values().filter(|at| **at == n).count();
        assert!((60..=140).contains(&share), "socket {n} has {share} of {FLOWS} flows");
    }
}

#[test]
fn connections_spread_over_listeners_and_go_on_when_one_closes() {
    let (mut sim, [a, b]) = Sim::pair(60, Faults::default());
    let listener = |sim: &Sim| {
        let socket = sim.stack(b).tcp_socket(Family::V4);
        socket.set_option(sim.now(), SocketOption::ReusePort(true)).unwrap();
        socket.bind("0.0.0.0:80".parse().unwrap()).unwrap();
        socket.listen(256).unwrap();
        socket
    };
    let listeners: Vec<TcpSocket> = (0..3).map(|_| listener(&sim)).collect();
    let connect = |sim: &mut Sim| {
        let client = sim.stack(a).tcp_socket(Family::V4);
        client.connect(sim.now(), "10.0.0.2:80".parse().unwrap()).unwrap();
        sim.run_for(ms(5));
        client
    };
    let clients: Vec<TcpSocket> = (0..90).map(|_| connect(&mut sim)).collect();
    let accept = |sim: &Sim, listener: &TcpSocket| {
        core::iter::from_fn(|| listener.accept(sim.now()).ok()).collect::<Vec<_>>()
    };
    let accepted: Vec<Vec<TcpSocket>> = listeners.iter().map(|at| accept(&sim, at)).collect();
    let shares: Vec<usize> = accepted.iter().map(Vec::len).collect();
    assert_eq!(shares.iter().sum::<usize>(), clients.len());
    assert!(shares.iter().all(|share| (10..=55).contains(share)), "{shares:?}");
    listeners[0].close(sim.now());
    let more: Vec<TcpSocket> = (0..30).map(|_| connect(&mut sim)).collect();
    let rest: usize = listeners[1..].iter().map(|at| accept(&sim, at).len()).sum();
    assert_eq!(rest, more.len());
    // What the closed listener had accepted goes on.
    let peer = accepted[0][0].peer_addr().unwrap();
    accepted[0][0].send(sim.now(), &mut &b"still here"[..], Default::default()).unwrap();
    sim.run_for(ms(5));
    let client = clients.iter().find(|client| client.local_addr() == peer).unwrap();
    let mut bytes = Vec::new();
    client.recv(sim.now(), &mut bytes, RecvFlags::empty()).unwrap();
    assert_eq!(bytes, b"still here");
}

#[test]
fn a_program_chooses_among_the_members() {
    let (mut sim, [a, b]) = Sim::pair(61, Faults::default());
    let group: Vec<UdpSocket> = (0..3).map(|_| member(&sim, b)).collect();
    // The first byte of the payload is the number of the member; what is none falls back to the hash.
    let code = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let program = Program::new(&[code(0x30, 0), code(0x16, 0)]).unwrap();
    group[1].set_chooser(Some(program)).unwrap();
    let client = udp(&sim, a, "0.0.0.0:0");
    let mut told = |number: u8| {
        send(&sim, &client, "10.0.0.2:7", &[number]).unwrap();
        sim.run_for(ms(1));
        let mut bytes = Vec::new();
        let mut heard =
            |at: &UdpSocket| at.recv_from(sim.now(), &mut bytes, RecvFlags::empty()).is_ok();
        group.iter().position(&mut heard)
    };
    for number in [0, 1, 2, 1, 0] {
        assert_eq!(told(number), Some(usize::from(number)));
    }
    let by_hash = told(3);
    assert!(by_hash.is_some());
    assert_eq!(told(200), by_hash);
}

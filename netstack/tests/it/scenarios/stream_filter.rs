//! A filter on a stream sees its segments from their header on, drops them or cuts them short (socket(7), SO_ATTACH_FILTER); segments
//! that came too far are dropped (RFC 5082). Connections inherit both from their listener, and both hold within one host, too.

use netstack::filter::{Instruction, Program};
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{IpOption, RecvFlags};
use netstack::time::Duration;
use netstack::transport::tcp::StateName;

use super::lan::{counter, ms};

fn pass_bytes(n: u32) -> Option<Program> {
    Some(Program::new(&[Instruction { code: 0x06, jt: 0, jf: 0, k: n }]).unwrap())
}

fn listener(sim: &Sim, host: HostId) -> TcpSocket {
    let socket = sim.stack(host).tcp_socket(Family::V4);
    socket.bind("0.0.0.0:80".parse().unwrap()).unwrap();
    socket.listen(4).unwrap();
    socket
}

fn connect(sim: &mut Sim, host: HostId, to: &str) -> TcpSocket {
    let client = sim.stack(host).tcp_socket(Family::V4);
    client.connect(sim.now(), to.parse().unwrap()).unwrap();
    sim.run_for(ms(50));
    client
}

fn read(sim: &Sim, socket: &TcpSocket) -> Vec<u8> {
    let mut bytes = Vec::new();
    while socket.recv(sim.now(), &mut bytes, RecvFlags::empty()).is_ok_and(|n| n > 0) {}
    bytes
}

fn say(sim: &mut Sim, socket: &TcpSocket, bytes: &[u8]) {
    socket.send(sim.now(), &mut &bytes[..], Default::default()).unwrap();
    sim.run_for(ms(50));
}

#[test]
fn a_filter_drops_and_shortens_segments() {
    let (mut sim, [a, b]) = Sim::pair(66, Faults::default());
    let server = listener(&sim, b);
    server.set_filter(pass_bytes(0));
    let client = connect(&mut sim, a, "10.0.0.2:80");
    assert_eq!(client.state(), StateName::SynSent, "the listener hears nothing");
    server.set_filter(pass_bytes(u32::MAX));
    sim.run_for(Duration::from_secs(5));
    assert_eq!(client.state(), StateName::Established);
    let accepted = server.accept(sim.now()).unwrap();
    assert!(accepted.filter().is_some(), "inherited");
    say(&mut sim, &client, b"hello");
    assert_eq!(read(&sim, &accepted), b"hello");
    // A header with timestamps has 32 bytes: three of the payload are left, and the rest is sent again.
    accepted.set_filter(pass_bytes(35));
    say(&mut sim, &client, b"abcdef");
    assert_eq!(read(&sim, &accepted), b"abc");
    accepted.set_filter(None);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(read(&sim, &accepted), b"def");
}

#[test]
fn a_filter_holds_between_two_sockets_of_a_host() {
    let (mut sim, [a, _]) = Sim::pair(67, Faults::default());
    let server = listener(&sim, a);
    let client = connect(&mut sim, a, "127.0.0.1:80");
    let accepted = server.accept(sim.now()).unwrap();
    say(&mut sim, &client, b"one");
    accepted.set_filter(pass_bytes(0));
    say(&mut sim, &client, b"two");
    assert_eq!(read(&sim, &accepted), b"one");
    accepted.set_filter(None);
    sim.run_for(Duration::from_secs(5));
    assert_eq!(read(&sim, &accepted), b"two");
}

#[test]
fn segments_from_too_far_are_dropped() {
    let (mut sim, [a, b]) = Sim::pair(68, Faults::default());
    let server = listener(&sim, b);
    server.set_option(sim.now(), IpOption::MinTtl(65)).unwrap();
    let client = connect(&mut sim, a, "10.0.0.2:80");
    assert_eq!(client.state(), StateName::SynSent);
    assert!(counter(&sim, b, "TcpExt", "TCPMinTTLDrop") > 0);
    client.set_option(sim.now(), IpOption::Ttl(Some(255))).unwrap();
    sim.run_for(Duration::from_secs(5));
    assert_eq!(client.state(), StateName::Established);
}

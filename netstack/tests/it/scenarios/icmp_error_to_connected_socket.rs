//! An ICMP error is a connected socket's pending error, once, for whichever call comes next; one without a peer hears of it only
//! where it asked (ip(7), IP_RECVERR; RFC 1122 section 4.1.3.3). Nobody hears of packets that were not its own.

use core::net::IpAddr;

use netstack::link::fault::Faults;
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::socket::options::{Asks, DatagramOption, Level};
use netstack::socket::{
    Ancillary, Readiness, RecvError, RecvFlags, SendError, SocketError, UdpSocket,
};

use super::lan::{NOBODY, V4, frame, ip, ms, send, udp, udp_bytes};

const REFUSED: SocketError = SocketError::ConnectionRefused;

fn connected(sim: &mut Sim, host: HostId, to: &str) -> UdpSocket {
    let local = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = udp(sim, host, local);
    socket.connect(sim.now(), to.parse().unwrap()).unwrap();
    socket
}

fn say(sim: &mut Sim, socket: &UdpSocket) -> Result<usize, SendError> {
    let sent = socket.send(sim.now(), &mut &b"hello"[..]);
    sim.run_for(ms(10));
    sent
}

#[test]
fn a_connected_socket_is_told_once() {
    let (mut sim, [a, _]) = Sim::pair(51, Faults::default());
    for to in ["10.0.0.2:9", "[fd00::2]:9"] {
        let socket = connected(&mut sim, a, to);
        assert_eq!(say(&mut sim, &socket), Ok(5), "{to}");
        assert!(socket.readiness().contains(Readiness::ERR));
        assert_eq!(say(&mut sim, &socket), Err(SendError::Network(REFUSED)));
        assert_eq!(say(&mut sim, &socket), Ok(5));
        let mut bytes = Vec::new();
        let mut recv = || socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty());
        assert_eq!(recv().unwrap_err(), RecvError::Network(REFUSED));
        assert_eq!(recv().unwrap_err(), RecvError::WouldBlock);
        assert_eq!(socket.recv_error(), None);
        say(&mut sim, &socket).unwrap();
        assert_eq!((socket.take_error(), socket.take_error()), (Some(REFUSED), None));
    }
}

#[test]
fn one_without_a_peer_is_told_where_it_asked() {
    let (mut sim, [a, _]) = Sim::pair(52, Faults::default());
    for (level, local, to) in
        [(Level::Ip, "0.0.0.0:0", "10.0.0.2:9"), (Level::Ipv6, "[::]:0", "[fd00::2]:9")]
    {
        let socket = udp(&sim, a, local);
        send(&sim, &socket, to, b"quiet").unwrap();
        sim.run_for(ms(10));
        assert_eq!((socket.take_error(), socket.recv_error()), (None, None));
        let asks = DatagramOption::tell(level, Asks::ERRORS);
        socket.set_option(sim.now(), asks.into()).unwrap();
        for text in [&b"first"[..], b"second"] {
            send(&sim, &socket, to, text).unwrap();
            sim.run_for(ms(10));
            assert_eq!(socket.take_error(), Some(REFUSED));
        }
        let first = socket.recv_error().unwrap();
        assert_eq!((first.error, first.payload.as_slice()), (REFUSED, &b"first"[..]));
        assert_eq!(
            (first.destination, first.offender),
            (to.parse().unwrap(), first.destination.ip())
        );
        // The error of the next report is pending again (sock_dequeue_err_skb).
        assert_eq!(socket.take_error(), Some(REFUSED));
        assert_eq!(socket.recv_error().unwrap().payload, b"second");
        assert_eq!((socket.take_error(), socket.recv_error()), (None, None));
        assert!(!socket.readiness().contains(Readiness::ERR));
    }
}

/// ICMP unreachable from a host about a datagram that `src` is said to have sent.
fn unreachable(code: u8, src: (&str, u16), dst: (&str, u16)) -> Vec<u8> {
    let bytes = udp_bytes((ip(src.0), ip(dst.0)), (src.1, dst.1), b"forged");
    let quoted = V4 { src: src.0, dst: dst.0, ..V4::default() }.packet(&bytes);
    let mut message = [&[3, code, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    let sum = netstack::wire::checksum::of(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    V4 { src: "10.0.0.2", dst: "10.0.0.1", protocol: 1, ..V4::default() }.packet(&message)
}

#[test]
fn soft_errors_and_those_of_others_change_nothing() {
    let (mut sim, [a, b]) = Sim::pair(53, Faults::default());
    let _server = udp(&sim, b, "0.0.0.0:9");
    let socket = connected(&mut sim, a, "10.0.0.2:9");
    say(&mut sim, &socket).unwrap();
    let port = socket.local_addr().port();
    let mac = sim.stack(a).nics()[1].mac;
    let inject = |sim: &mut Sim, packet: Vec<u8>| {
        sim.inject(SegmentId::FIRST, NOBODY, frame(mac, &packet));
        sim.run_for(ms(10));
        socket.take_error()
    };
    let (ours, peer) = (("10.0.0.1", port), ("10.0.0.2", 9));
    // RFC 1122 section 4.2.3.9 calls a network or host that cannot be reached a hint; as on Linux a socket that did not ask for
    // it is not told.
    assert_eq!(inject(&mut sim, unreachable(1, ours, peer)), None);
    assert_eq!(inject(&mut sim, unreachable(3, ours, peer)), Some(REFUSED));
    // About another peer, from another port, of another host.
    assert_eq!(inject(&mut sim, unreachable(3, ours, ("10.0.0.2", 10))), None);
    assert_eq!(inject(&mut sim, unreachable(3, ours, ("10.0.0.3", 9))), None);
    assert_eq!(inject(&mut sim, unreachable(3, ("10.0.0.1", port ^ 1), peer)), None);
    assert_eq!(inject(&mut sim, unreachable(3, ("10.0.0.2", port), peer)), None);
    let to: IpAddr = ip("10.0.0.2");
    let sent = socket.send_to(sim.now(), &mut &b"x"[..], None, &Ancillary::default());
    assert_eq!((sent, socket.peer_addr().unwrap().ip()), (Ok(1), to));
}

//! A socket that connects to its own address: a simultaneous open with itself (RFC 9293 section 3.5), as Linux has it.

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::How;
use netstack::transport::tcp::StateName;

#[test]
fn a_socket_talks_to_itself() {
    let (mut sim, host, _) = with_hand(1);
    let me = addr("127.0.0.1:5000");
    let socket = sim.stack(host).tcp_socket(Family::V4);
    socket.bind(me).unwrap();
    let _ = socket.connect(sim.now(), me);
    sim.run_for(20 * MS);
    assert_eq!((socket.state(), socket.peer_addr()), (StateName::Established, Some(me)));
    send(&sim, &socket, b"hi").unwrap();
    sim.run_for(20 * MS);
    assert_eq!(recv(&sim, &socket).unwrap(), b"hi");
    socket.shutdown(sim.now(), How::Write).unwrap();
    sim.run_for(200 * MS);
    assert_eq!((recv(&sim, &socket), socket.state()), (Ok(Vec::new()), StateName::Closed));
    socket.close(sim.now());
    sim.run_for(70 * SEC);
    assert_eq!(sim.stack(host).usage(), (0, 0));
}

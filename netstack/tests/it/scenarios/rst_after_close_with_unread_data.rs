//! A program that closes with data unread resets the connection at once (RFC 2525 section 2.17); one that closed and
//! then is sent data answers by a reset (RFC 1122 section 4.2.2.13).

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::{RecvError, SocketError};
use netstack::transport::tcp::StateName;

#[test]
fn unread_data_makes_close_a_reset() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
    let (client, server) = connected(&mut sim, hosts, Family::V4, 80);
    send(&sim, &client, b"never read").unwrap();
    sim.run_for(20 * MS);
    server.close(sim.now());
    sim.run_for(20 * MS);
    assert_eq!(ext(&sim, hosts[1], "TCPAbortOnClose"), 1);
    assert_eq!(client.state(), StateName::Closed);
    let reset = RecvError::Network(SocketError::ConnectionReset);
    assert_eq!(recv(&sim, &client), Err(reset));
    client.close(sim.now());
    for host in hosts {
        assert_eq!(sim.stack(host).usage(), (0, 0));
    }
}

#[test]
fn data_after_close_is_answered_by_a_reset() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
    let (client, server) = connected(&mut sim, hosts, Family::V4, 80);
    server.close(sim.now());
    // The FIN has come and its acknowledgment waits.
    sim.run_for(2 * MS);
    assert_eq!(client.state(), StateName::CloseWait);
    send(&sim, &client, b"too late").unwrap();
    sim.run_for(20 * MS);
    assert_eq!(ext(&sim, hosts[1], "TCPAbortOnData"), 1);
    // As on Linux, a reset after the peer's end is a broken pipe.
    assert_eq!(client.take_error(), Some(SocketError::BrokenPipe));
    client.close(sim.now());
    for host in hosts {
        assert_eq!(sim.stack(host).usage(), (0, 0));
    }
}

//! A thread reads the clock, is held up, and then reads from a socket that got data meanwhile: the window update must not carry a
//! timestamp from before the acknowledgment that closed the window, or the peer drops it as an old duplicate (RFC 7323 section 5.3).

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::RecvFlags;

#[test]
fn a_window_update_of_a_slow_thread_is_believed() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
    let (client, server) = connected(&mut sim, hosts, Family::V4, 80);
    let read_before = sim.now();
    let mut sent = 0;
    // Until nobody takes more: the server's buffer is full and its window closed.
    while let Ok(n) = send(&sim, &client, &[7; 65_536]) {
        sent += n;
        sim.run_for(200 * MS);
    }
    let mut got = Vec::new();
    while server.recv(read_before, &mut got, RecvFlags::empty()).is_ok() {}
    let first = got.len();
    assert!(first < sent);
    // Far less than the persist timer of the client waits.
    sim.run_for(20 * MS);
    while server.recv(sim.now(), &mut got, RecvFlags::empty()).is_ok() {}
    assert!(got.len() > first, "the window update was not believed");
}

//! A stack without memory drops what it cannot hold, says so by a zero window, and takes the data when memory is back:
//! nothing is lost and the connection stands.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::memory::{Account, Limits};
use netstack::sim::Sim;
use netstack::socket::RecvError;
use netstack::transport::Host;

#[test]
fn the_transfer_pauses_and_completes() {
    let (mut sim, hosts) = Sim::pair(1, Faults::delay(MS));
    let (a, b) = connected(&mut sim, hosts, Family::V4, 80);
    let pool = sim.stack(hosts[1]).shared().memory.tcp.clone();
    pool.set_limits(Limits::up_to(1 << 20));
    // Somebody else holds all of it.
    let mut other = Account::new(pool.clone());
    other.settle(2 << 20);
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n / 3) as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    let step = |sim: &mut Sim, sent: &mut usize, received: &mut Vec<u8>, reads: bool| {
        if let Ok(n) = send(sim, &a, &bytes[*sent..]) {
            *sent += n;
        }
        if reads {
            match recv(sim, &b) {
                Ok(more) => received.extend(more),
                Err(error) => assert_eq!(error, RecvError::WouldBlock),
            }
        }
        sim.run_for(10 * MS);
    };
    for _ in 0..300 {
        step(&mut sim, &mut sent, &mut received, false);
    }
    // What came first is there, and no more than a few kilobytes of it.
    let held = b.queued().0;
    assert!(held > 0 && held <= 3 * netstack::memory::LEAST, "{held} bytes are held");
    assert!(ext(&sim, hosts[1], "TCPRcvQDrop") > 0 && ext(&sim, hosts[1], "PruneCalled") > 0);
    assert!(ext(&sim, hosts[1], "TCPToZeroWindowAdv") > 0);
    assert_eq!(ext(&sim, hosts[1], "TCPMemoryPressures"), 1);
    other.settle(0);
    for _ in 0..2000 {
        step(&mut sim, &mut sent, &mut received, true);
    }
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
    assert!(ext(&sim, hosts[1], "TCPFromZeroWindowAdv") > 0);
    drop(other);
    assert_eq!(pool.used(), 0);
}

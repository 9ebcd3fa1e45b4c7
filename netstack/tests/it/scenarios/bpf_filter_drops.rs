//! A filter decides which frames a packet socket gets, and how much of each; what it drops counts as never seen.

use netstack::filter::{Instruction, Program};
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::packet::Form;
use netstack::socket::{RecvError, RecvFlags};
use netstack::time::Duration;
use netstack::transport::packet::EVERY_PROTOCOL;

fn row(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// IPv4 with UDP, of which 30 bytes are kept: what `tcpdump -s 30 -dd udp` makes of it for Ethernet.
fn udp_only() -> Program {
    let rows = [
        row(0x28, 0, 0, 12),
        row(0x15, 0, 3, 0x800),
        row(0x30, 0, 0, 23),
        row(0x15, 0, 1, 17),
        row(0x6, 0, 0, 30),
        row(0x6, 0, 0, 0),
    ];
    Program::new(&rows).unwrap()
}

#[test]
fn only_what_passes_is_kept_and_counted() {
    let (mut sim, [a, b]) = Sim::pair(1, Faults::delay(Duration::from_millis(1)));
    let watcher = sim.stack(a).packet_socket(Form::Raw, EVERY_PROTOCOL);
    watcher.set_filter(Some(udp_only()));
    let client = sim.stack(a).udp_socket(Family::V4);
    let to = "10.0.0.2:7".parse().unwrap();
    client.send_to(sim.now(), &mut &[7; 100][..], Some(to), &Default::default()).unwrap();
    sim.run_for(Duration::from_millis(10));
    // ARP both ways and the ICMP error came by, too.
    let mut bytes = Vec::new();
    let told = watcher.recv(&mut bytes, RecvFlags::empty()).unwrap();
    assert_eq!((told.len, told.kept, told.full_len), (30, 30, 142));
    assert_eq!(bytes[12..14], [8, 0]);
    assert_eq!(watcher.recv(&mut bytes, RecvFlags::empty()).unwrap_err(), RecvError::WouldBlock);
    assert_eq!(watcher.take_counts().packets, 1);
    // Without it everything comes.
    watcher.set_filter(None);
    let _ = client.send_to(sim.now(), &mut &[7; 100][..], Some(to), &Default::default());
    let _ = client.send_to(sim.now(), &mut &[7; 100][..], Some(to), &Default::default());
    sim.run_for(Duration::from_millis(10));
    assert!(watcher.take_counts().packets >= 2);
    let _ = b;
}

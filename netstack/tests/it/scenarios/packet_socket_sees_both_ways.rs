//! A packet socket sees what goes out over its interface and what comes in, addressed as it was, and sends frames of its own.

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::link::{MacAddr, NicId};
use netstack::sim::{HostId, Sim};
use netstack::socket::packet::{Form, PacketSocket, Target};
use netstack::socket::{RecvError, RecvFlags};
use netstack::time::Duration;
use netstack::transport::packet::{EVERY_PROTOCOL, PacketType};

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
/// A protocol for experiments (IEEE 802).
const EXPERIMENT: u16 = 0x88b5;

fn eth0(sim: &Sim, host: HostId) -> NicId {
    sim.stack(host).nics().iter().find(|nic| nic.name == "eth0").unwrap().id
}

/// All frames that wait: their type, protocol and bytes.
fn frames(socket: &PacketSocket) -> Vec<(PacketType, u16, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let mut bytes = Vec::new();
        match socket.recv(&mut bytes, RecvFlags::empty()) {
            Ok(told) => {
                assert_eq!((told.len, told.full_len), (bytes.len(), bytes.len()));
                all.push((told.packet_type, told.protocol, bytes));
            }
            Err(RecvError::WouldBlock) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

fn kinds(frames: &[(PacketType, u16, Vec<u8>)]) -> Vec<(PacketType, u16)> {
    frames.iter().map(|(kind, protocol, _)| (*kind, *protocol)).collect()
}

#[test]
fn frames_are_seen_as_they_pass() {
    use PacketType::{Broadcast, Host, Outgoing};
    let (mut sim, [a, b]) = Sim::pair(1, Faults::delay(Duration::from_millis(1)));
    let raw = sim.stack(a).packet_socket(Form::Raw, EVERY_PROTOCOL);
    raw.bind(Some(eth0(&sim, a)), 0).unwrap();
    let cooked = sim.stack(a).packet_socket(Form::Cooked, IPV4);
    let there = sim.stack(b).packet_socket(Form::Raw, EVERY_PROTOCOL);
    let nothing = sim.stack(a).packet_socket(Form::Raw, 0);
    let server = sim.stack(b).udp_socket(Family::V4);
    server.bind("10.0.0.2:7".parse().unwrap()).unwrap();
    let client = sim.stack(a).udp_socket(Family::V4);
    client.connect(sim.now(), "10.0.0.2:7".parse().unwrap()).unwrap();
    client.send(sim.now(), &mut &b"ping"[..]).unwrap();
    sim.run_for(Duration::from_millis(10));
    server
        .send_to(sim.now(), &mut &b"pong"[..], Some(client.local_addr()), &Default::default())
        .unwrap();
    sim.run_for(Duration::from_millis(10));
    let seen = frames(&raw);
    assert_eq!(kinds(&seen), [(Outgoing, ARP), (Host, ARP), (Outgoing, IPV4), (Host, IPV4)]);
    assert!(seen[3].2.ends_with(b"pong") && seen[3].2.len() == 14 + 28 + 4);
    let came = frames(&there);
    assert_eq!(kinds(&came), [(Broadcast, ARP), (Outgoing, ARP), (Host, IPV4), (Outgoing, IPV4)]);
    // What goes out is for those that want everything; without the link header the IP header is first.
    let cooked_frames = frames(&cooked);
    assert_eq!(kinds(&cooked_frames), [(Host, IPV4)]);
    assert_eq!(cooked_frames[0].2, seen[3].2[14..]);
    assert!(frames(&nothing).is_empty());
    assert_eq!(raw.take_counts().packets, 4);
}

#[test]
fn its_own_frames_reach_the_link_and_others_but_not_itself() {
    let (mut sim, [a, b]) = Sim::pair(2, Faults::delay(Duration::from_millis(1)));
    let nic = eth0(&sim, a);
    let sender = sim.stack(a).packet_socket(Form::Cooked, EVERY_PROTOCOL);
    let other = sim.stack(a).packet_socket(Form::Raw, EVERY_PROTOCOL);
    let there = sim.stack(b).packet_socket(Form::Raw, EXPERIMENT);
    let mac = sim.stack(b).nics().iter().find(|nic| nic.name == "eth0").unwrap().mac;
    let to = Target { nic: Some(nic), protocol: EXPERIMENT, mac };
    assert_eq!(sender.send(sim.now(), &mut &b"hello"[..], Some(to)), Ok(5));
    let elsewhere = Target { mac: MacAddr([2, 9, 9, 9, 9, 9]), ..to };
    sender.send(sim.now(), &mut &b"stranger"[..], Some(elsewhere)).unwrap();
    sim.run_for(Duration::from_millis(10));
    assert!(frames(&sender).is_empty());
    let outgoing = (PacketType::Outgoing, EXPERIMENT);
    assert_eq!(kinds(&frames(&other)), [outgoing, outgoing]);
    let came = frames(&there);
    let expected = [(PacketType::Host, EXPERIMENT), (PacketType::OtherHost, EXPERIMENT)];
    assert_eq!(kinds(&came), expected);
    assert!(came[0].2.ends_with(b"hello") && came[0].2[..6] == mac.0);
    // A closed socket sees nothing any more, and the stack forgets it.
    there.close();
    sender.send(sim.now(), &mut &b"late"[..], Some(to)).unwrap();
    sim.run_for(Duration::from_millis(10));
    assert!(frames(&there).is_empty());
}

#[test]
fn a_full_queue_counts_what_it_drops() {
    let (sim, [a, _]) = Sim::pair(3, Faults::delay(Duration::from_millis(1)));
    let watcher = sim.stack(a).packet_socket(Form::Raw, EVERY_PROTOCOL);
    watcher.set_receive_buffer(4096);
    let sender = sim.stack(a).packet_socket(Form::Cooked, 0);
    let to = Target { nic: Some(eth0(&sim, a)), protocol: EXPERIMENT, mac: MacAddr([2; 6]) };
    for _ in 0..100 {
        sender.send(sim.now(), &mut &[0; 1000][..], Some(to)).unwrap();
    }
    let counts = watcher.take_counts();
    let kept = frames(&watcher).len() as u32;
    assert_eq!((counts.packets, counts.drops), (100, 100 - kept));
    assert!((2..8).contains(&kept), "{kept} frames in 4096 bytes");
}

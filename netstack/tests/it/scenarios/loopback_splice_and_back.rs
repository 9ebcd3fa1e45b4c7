//! Both ends in one stack: data is handed over without packets while nobody looks, and goes by segments as soon as somebody does.
//! Programs, counters and TCP_INFO cannot tell which it was, and no byte is lost at the change.

use super::segments::*;
use netstack::ip::Family;
use netstack::link::{Direction, Tap, Tapped};
use netstack::rng::{Rng, seed_from};
use netstack::sim::{HostId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{
    How, Readiness, RecvError, RecvFlags, SendError, SendFlags, SocketError, SocketOption,
};
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::ipv4::Ipv4;
use netstack::wire::tcp::{Flags, Header};
use parking_lot::Mutex;
use std::sync::Arc;

/// A segment on the loopback interface.
struct Shown {
    from: u16,
    flags: Flags,
    seq: Seq,
    ack: Seq,
    len: usize,
}

/// Reads what it sees; of IPv6 it only counts.
#[derive(Default)]
struct Watcher(Mutex<Vec<Shown>>);

impl Tap for Watcher {
    fn frame(&self, tapped: &Tapped<'_>) {
        if tapped.direction != Direction::Sent {
            return;
        }
        let bytes = tapped.frame.to_vec_up_to(100);
        let ip_len = if bytes[0] >> 4 == 4 {
            let ip = Ipv4::parse(&bytes[..20], tapped.frame.len()).expect("an IPv4 header");
            assert_eq!(usize::from(ip.total_len), tapped.frame.len());
            20
        } else {
            40
        };
        let tcp = Header::parse(&bytes[ip_len..]).expect("a TCP header");
        self.0.lock().push(Shown {
            from: tcp.header.src_port,
            flags: tcp.header.flags,
            seq: Seq(tcp.header.seq),
            ack: Seq(tcp.header.ack),
            len: tapped.frame.len() - ip_len - tcp.header_len,
        });
    }
}

impl Watcher {
    fn seen(&self) -> usize {
        self.0.lock().len()
    }
}

/// A host alone, and a connection from it to itself.
fn looped(family: Family) -> (Sim, HostId, TcpSocket, TcpSocket) {
    let mut sim = Sim::new(11);
    let host = sim.add_host();
    let local = match family {
        Family::V4 => "127.0.0.1:80",
        Family::V6 => "[::1]:80",
    };
    let listener = listen(&sim, host, local, 5);
    let client = connect(&sim, host, addr(local));
    sim.run_for(MS);
    let server = listener.accept(sim.now()).unwrap();
    listener.close(sim.now());
    (sim, host, client, server)
}

fn watch(sim: &Sim, host: HostId) -> Arc<Watcher> {
    let watcher = Arc::new(Watcher::default());
    sim.stack(host).add_tap(None, watcher.clone());
    watcher
}

fn pattern(len: usize) -> Vec<u8> {
    let mut rng = Rng::new(&seed_from(3), 1);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

fn next_seq(socket: &TcpSocket) -> Seq {
    socket.info().unwrap().send_next
}

/// What a run over loopback ends with.
#[derive(PartialEq, Debug)]
struct Outcome {
    /// All counters but those of packets.
    stats: Vec<(&'static str, &'static str, u64)>,
    sent: u64,
    received: u64,
    data_segments: [u32; 2],
}

/// What is counted of packets: they must agree with each other.
fn packets(sim: &Sim, host: HostId) -> u64 {
    let (stats, nic) = (sim.stack(host).stats(), sim.stack(host).nics()[0].counters.clone());
    let packets = stats.value("Tcp", "OutSegs");
    for (group, name) in [
        ("Tcp", "InSegs"),
        ("Ip", "OutRequests"),
        ("Ip", "OutTransmits"),
        ("Ip", "InReceives"),
        ("Ip", "InNoECTPkts"),
        ("Ip", "InDelivers"),
    ] {
        assert_eq!(stats.value(group, name), packets, "{name}");
    }
    for name in ["InOctets", "OutOctets"] {
        assert_eq!(stats.value("Ip", name), nic.value("Nic", "rx_bytes"), "{name}");
    }
    assert_eq!([nic.value("Nic", "tx_packets"), nic.value("Nic", "rx_packets")], [packets; 2]);
    assert_eq!(nic.value("Nic", "tx_bytes"), nic.value("Nic", "rx_bytes"));
    packets
}

/// Questions and answers, then the end; watched from the first byte on, or not at all.
fn talk(watched: bool) -> (Outcome, u64, usize) {
    let (mut sim, host, client, server) = looped(Family::V4);
    let watcher = watched.then(|| watch(&sim, host));
    for len in [1, 100, 1000, 5000] {
        send(&sim, &client, &vec![1; len]).unwrap();
        assert_eq!(recv(&sim, &server).unwrap(), vec![1; len]);
        send(&sim, &server, b"answer").unwrap();
        assert_eq!(recv(&sim, &client).unwrap(), b"answer");
        sim.run_for(100 * MS);
    }
    client.shutdown(sim.now(), How::Write).unwrap();
    assert_eq!(recv(&sim, &server).unwrap(), b"");
    server.close(sim.now());
    sim.run_for(MS);
    assert_eq!(recv(&sim, &client).unwrap(), b"");
    let info = client.info().unwrap();
    let accounts = info.accounts;
    let of_packets = [
        "InSegs",
        "OutSegs",
        "OutRequests",
        "OutTransmits",
        "OutOctets",
        "InReceives",
        "InOctets",
        "InNoECTPkts",
        "InDelivers",
    ];
    let stats = sim.stack(host).stats();
    let outcome = Outcome {
        stats: stats.iter().filter(|(_, name, _)| !of_packets.contains(name)).collect(),
        sent: info.counters.bytes_sent,
        received: info.bytes_received,
        data_segments: [accounts.data_segments_out, accounts.data_segments_in],
    };
    client.close(sim.now());
    (outcome, packets(&sim, host), watcher.map_or(0, |watcher| watcher.seen()))
}

#[test]
fn counters_are_the_same_with_packets_and_without() {
    let ((with, packets, seen), (without, unmade, _)) = (talk(true), talk(false));
    assert!(seen > 8, "packets were made while somebody looked");
    assert_eq!(with, without);
    // What a read or a delay would have acknowledged is acknowledged at once already.
    assert!((packets - 2..packets).contains(&unmade), "{unmade} instead of {packets}");
}

#[test]
fn a_capture_in_the_middle_shows_segments_that_go_on_from_there() {
    let (sim, host, client, server) = looped(Family::V4);
    let pass = |len: usize| {
        send(&sim, &client, &vec![7; len]).unwrap();
        assert_eq!(recv(&sim, &server).unwrap().len(), len);
    };
    pass(30_000);
    let (before, theirs) = (next_seq(&client), next_seq(&server));
    let watcher = watch(&sim, host);
    pass(20_000);
    sim.stack(host).clear_taps();
    {
        let shown = watcher.0.lock();
        let data: Vec<&Shown> = shown.iter().filter(|shown| shown.len > 0).collect();
        assert!(shown.iter().all(|shown| shown.flags.contains(Flags::ACK)));
        assert_eq!(data.iter().map(|data| data.len).sum::<usize>(), 20_000);
        assert_eq!((data[0].seq, data[0].ack), (before, theirs), "it goes on where it was");
        let answers = shown.iter().filter(|shown| shown.from == 80);
        let last = answers.map(|shown| shown.ack).next_back().expect("an acknowledgment");
        assert!(last > before && last <= before + 20_000usize);
    }
    let seen = watcher.seen();
    pass(40_000);
    assert_eq!(watcher.seen(), seen, "nobody looks any more");
    let second = watch(&sim, host);
    pass(10);
    assert_eq!(second.0.lock()[0].seq, before + 60_000usize);
}

#[test]
fn a_packet_socket_sees_all_from_its_first_moment() {
    let (sim, host, client, server) = looped(Family::V4);
    let stack = sim.stack(host);
    let packets = || stack.nics()[0].counters.value("Nic", "tx_packets");
    let raw = stack.raw_socket(Family::V4, 6);
    let before = packets();
    send(&sim, &client, b"seen").unwrap();
    assert!(packets() > before);
    assert!(raw.readiness().contains(Readiness::IN), "a raw socket gets a copy of each segment");
    assert_eq!(recv(&sim, &server).unwrap(), b"seen");
}

#[test]
fn a_stream_changes_over_both_ways_without_losing_a_byte() {
    for family in [Family::V4, Family::V6] {
        let (mut sim, host, client, server) = looped(family);
        let data = pattern(4 << 20);
        let (mut left, mut got, mut rng) = (&data[..], Vec::new(), Rng::new(&seed_from(5), 2));
        let (mut watcher, mut changes, mut seen) = (None::<Arc<Watcher>>, 0, 0);
        while got.len() < data.len() {
            if rng.below(4) == 0 {
                match watcher.take() {
                    Some(old) => {
                        seen += old.seen();
                        sim.stack(host).clear_taps();
                    }
                    None => watcher = Some(watch(&sim, host)),
                }
                changes += 1;
            }
            let len = left.len().min(rng.below(300_000) as usize);
            match send(&sim, &client, &left[..len]) {
                Ok(n) => left = &left[n..],
                Err(SendError::WouldBlock) => {}
                Err(error) => panic!("send: {error}"),
            }
            if rng.below(3) > 0 {
                match recv(&sim, &server) {
                    Ok(bytes) => got.extend(bytes),
                    Err(RecvError::WouldBlock) => sim.run_for(MS),
                    Err(error) => panic!("receive: {error}"),
                }
            }
        }
        assert!(got == data && changes > 4 && seen > 4, "{changes} changes, {seen} packets seen");
        let info = client.info().unwrap();
        assert_eq!(info.counters.retransmissions, 0, "nothing was lost or overtaken at a change");
        assert_eq!(info.counters.bytes_acked, 4 << 20);
        let stats = sim.stack(host).stats();
        assert_eq!(stats.value("Tcp", "OutSegs"), stats.value("Tcp", "InSegs"));
        let nic = sim.stack(host).nics()[0].counters.clone();
        assert_eq!(nic.value("Nic", "tx_bytes"), nic.value("Nic", "rx_bytes"));
        assert_eq!(nic.value("Nic", "tx_packets"), stats.value("Tcp", "OutSegs"));
    }
}

#[test]
fn a_reader_that_stalls_holds_the_writer_within_its_buffer() {
    let (mut sim, _, client, server) = looped(Family::V4);
    let now = sim.now();
    server.set_option(now, SocketOption::ReceiveBuffer(50_000)).unwrap();
    client.set_option(now, SocketOption::SendBuffer(50_000)).unwrap();
    let data = pattern(1 << 20);
    let (mut left, mut got) = (&data[..], Vec::new());
    while got.len() < data.len() {
        while let Ok(n) = send(&sim, &client, left) {
            left = &left[n..];
            if left.is_empty() {
                break;
            }
        }
        // As long as nobody reads nothing more passes, however long it takes.
        sim.run_for(3 * SEC);
        let held = server.info().unwrap().held;
        assert!((1..=200_000).contains(&held), "{held} bytes wait for the reader");
        got.extend(recv(&sim, &server).unwrap());
    }
    assert!(got == data);
}

#[test]
fn an_urgent_byte_and_the_end_come_in_their_places() {
    let (sim, _, client, server) = looped(Family::V4);
    send(&sim, &client, b"before").unwrap();
    client.send(sim.now(), &mut &b"!"[..], SendFlags::OOB).unwrap();
    send(&sim, &client, b"behind").unwrap();
    client.shutdown(sim.now(), How::Write).unwrap();
    assert!(server.readiness().contains(Readiness::PRI | Readiness::RDHUP));
    assert_eq!(recv(&sim, &server).unwrap(), b"before");
    let mut byte = [0];
    assert_eq!(server.recv(sim.now(), &mut &mut byte[..], RecvFlags::OOB), Ok(1));
    assert_eq!(byte, *b"!");
    assert_eq!(recv(&sim, &server).unwrap(), b"behind");
    assert_eq!(recv(&sim, &server).unwrap(), b"");
    // The other direction stands, and is still handed over.
    send(&sim, &server, b"answer").unwrap();
    assert_eq!(recv(&sim, &client).unwrap(), b"answer");
    server.close(sim.now());
    assert_eq!(recv(&sim, &client).unwrap(), b"");
    assert_eq!(client.state(), StateName::Closed);
}

#[test]
fn a_reset_and_a_peer_that_is_gone_are_told() {
    let (mut sim, _, client, server) = looped(Family::V4);
    send(&sim, &client, b"unread").unwrap();
    server.close(sim.now());
    assert_eq!(recv(&sim, &client), Err(RecvError::Network(SocketError::ConnectionReset)));
    sim.run_for(SEC);
    assert_eq!(client.state(), StateName::Closed);
    client.close(sim.now());
    let (sim, _, client, server) = looped(Family::V4);
    send(&sim, &client, b"read").unwrap();
    assert_eq!(recv(&sim, &server).unwrap(), b"read");
    server.close(sim.now());
    send(&sim, &client, b"to nobody").unwrap();
    assert_eq!(send(&sim, &client, b"more"), Err(SendError::Network(SocketError::BrokenPipe)));
}

#[test]
fn a_socket_that_is_connected_to_itself_hears_itself() {
    let mut sim = Sim::new(12);
    let host = sim.add_host();
    let socket = sim.stack(host).tcp_socket(Family::V4);
    socket.bind(addr("127.0.0.1:4000")).unwrap();
    socket.connect(sim.now(), addr("127.0.0.1:4000")).unwrap();
    sim.run_for(MS);
    send(&sim, &socket, b"hello").unwrap();
    sim.run_for(MS);
    assert_eq!(recv(&sim, &socket).unwrap(), b"hello");
    socket.abort(sim.now());
}

#[test]
fn an_answer_brings_the_acknowledgment_of_the_end() {
    let (sim, _, client, server) = looped(Family::V4);
    let mut room = [0; 16];
    client.send(sim.now(), &mut &b"question"[..], SendFlags::empty()).unwrap();
    server.recv(sim.now(), &mut &mut room[..], RecvFlags::empty()).unwrap();
    client.shutdown(sim.now(), How::Write).unwrap();
    assert_eq!(server.recv(sim.now(), &mut &mut room[..], RecvFlags::empty()), Ok(0));
    server.send(sim.now(), &mut &b"answer"[..], SendFlags::empty()).unwrap();
    // Seen on Linux: no time passes until the client knows that its end has arrived.
    assert_eq!(client.recv(sim.now(), &mut &mut room[..], RecvFlags::empty()), Ok(6));
    assert_eq!((client.state(), server.state()), (StateName::FinWait2, StateName::CloseWait));
}

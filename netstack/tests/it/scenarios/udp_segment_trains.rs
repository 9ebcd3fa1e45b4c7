//! UDP_SEGMENT: one send becomes many datagrams of one size, cut by the stack where the link does not; UDP_GRO: they come as one message
//! again to who wants them so, and one by one to others.

use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};
use netstack::socket::{
    Ancillary, DatagramOption, Received, RecvFlags, SendError, SocketOption, UdpSocket,
};
use netstack::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn server(sim: &Sim, host: HostId, at: &str) -> UdpSocket {
    let family = if at.starts_with('[') { Family::V6 } else { Family::V4 };
    let socket = sim.stack(host).udp_socket(family);
    socket.bind(at.parse().unwrap()).unwrap();
    socket
}

fn client(sim: &Sim, host: HostId, to: &str) -> UdpSocket {
    let family = if to.starts_with('[') { Family::V6 } else { Family::V4 };
    let socket = sim.stack(host).udp_socket(family);
    socket.connect(sim.now(), to.parse().unwrap()).unwrap();
    socket
}

/// Everything that waits: lengths, and the size of the parts where a message is several datagrams.
fn take(sim: &Sim, socket: &UdpSocket) -> (Vec<u8>, Vec<(usize, Option<u16>)>) {
    let (mut bytes, mut parts) = (Vec::new(), Vec::new());
    while let Ok(Received { len, segment, .. }) =
        socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty())
    {
        parts.push((len, segment));
    }
    (bytes, parts)
}

fn train(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 7) as u8).collect()
}

#[test]
fn a_train_arrives_in_datagrams_of_its_size() {
    for (at, headers) in [("10.0.0.2:7", 14 + 28), ("[fd00::2]:7", 14 + 48)] {
        let (mut sim, [a, b]) = Sim::pair(1, Faults::delay(MS));
        let server = server(&sim, b, at);
        let client = client(&sim, a, at);
        let bytes = train(1000 * 4 + 10);
        let extra = Ancillary { segment: Some(1000), ..Ancillary::default() };
        let sent = client.send_to(sim.now(), &mut &bytes[..], None, &extra);
        assert_eq!(sent, Ok(bytes.len()), "seed {}", sim.seed());
        sim.run_for(20 * MS);
        let (came, parts) = take(&sim, &server);
        assert_eq!(came, bytes);
        assert_eq!(parts, [(1000, None), (1000, None), (1000, None), (1000, None), (10, None)]);
        // On the link each is a datagram of its own, with a checksum that holds (the receiver took it).
        let frames: Vec<usize> =
            sim.capture().frames().iter().map(|frame| frame.bytes.len()).collect();
        assert_eq!(frames.iter().filter(|len| **len == 1000 + headers).count(), 4);
        // The socket's own size does the same; a payload of at most one size is one datagram.
        client.set_option(sim.now(), DatagramOption::Segment(500).into()).unwrap();
        client.send(sim.now(), &mut &bytes[..1200]).unwrap();
        client.send(sim.now(), &mut &bytes[..500]).unwrap();
        sim.run_for(20 * MS);
        let parts = take(&sim, &server).1;
        assert_eq!(parts, [(500, None), (500, None), (200, None), (500, None)]);
    }
}

#[test]
fn what_cannot_be_a_train_is_refused() {
    let (sim, [a, _]) = Sim::pair(2, Faults::delay(MS));
    let client = client(&sim, a, "10.0.0.2:7");
    let bytes = train(60_000);
    let send = |len: usize, size: u16| {
        let extra = Ancillary { segment: Some(size), ..Ancillary::default() };
        client.send_to(sim.now(), &mut &bytes[..len], None, &extra)
    };
    // Over the MTU with its headers; more than 128 datagrams; without a checksum.
    assert_eq!(send(3000, 1473), Err(SendError::MessageTooLong));
    assert_eq!(send(3000, 1472), Ok(3000));
    assert_eq!(send(12_900, 100), Err(SendError::Invalid));
    assert_eq!(send(12_800, 100), Ok(12_800));
    client.set_option(sim.now(), SocketOption::NoCheck(true).into()).unwrap();
    assert_eq!(send(3000, 1000), Err(SendError::Invalid));
}

#[test]
fn datagrams_of_one_flow_coalesce_for_who_wants_them() {
    let (mut sim, [a, b]) = Sim::pair(3, Faults::delay(MS));
    let server = server(&sim, b, "10.0.0.2:7");
    server.set_option(sim.now(), DatagramOption::Coalesce(true).into()).unwrap();
    let client = client(&sim, a, "10.0.0.2:7");
    let other = self::client(&sim, a, "10.0.0.2:7");
    let bytes = train(3 * 400 + 100);
    let extra = Ancillary { segment: Some(400), ..Ancillary::default() };
    client.send_to(sim.now(), &mut &bytes[..], None, &extra).unwrap();
    // The short one ended the train; another flow is another message.
    client.send(sim.now(), &mut &bytes[..100]).unwrap();
    other.send(sim.now(), &mut &bytes[..100]).unwrap();
    sim.run_for(20 * MS);
    let (came, parts) = take(&sim, &server);
    assert_eq!(parts, [(1300, Some(400)), (100, None), (100, None)]);
    assert_eq!(came[..1300], bytes);
}

#[test]
fn over_loopback_a_train_stays_whole_or_is_taken_apart() {
    let (sim, [a, _]) = Sim::pair(4, Faults::delay(MS));
    let server = server(&sim, a, "127.0.0.1:7");
    let client = client(&sim, a, "127.0.0.1:7");
    let bytes = train(2500);
    let extra = Ancillary { segment: Some(1000), ..Ancillary::default() };
    client.send_to(sim.now(), &mut &bytes[..], None, &extra).unwrap();
    assert_eq!(take(&sim, &server), (bytes.clone(), vec![(1000, None), (1000, None), (500, None)]));
    server.set_option(sim.now(), DatagramOption::Coalesce(true).into()).unwrap();
    client.send_to(sim.now(), &mut &bytes[..], None, &extra).unwrap();
    client.send(sim.now(), &mut &bytes[..1000]).unwrap();
    assert_eq!(take(&sim, &server).1, [(2500, Some(1000)), (1000, None)]);
}

#[test]
fn corked_parts_leave_as_one_datagram() {
    let (mut sim, [a, b]) = Sim::pair(5, Faults::delay(MS));
    let server = server(&sim, b, "10.0.0.2:7");
    let client = client(&sim, a, "10.0.0.2:7");
    let more = Ancillary { more: true, ..Ancillary::default() };
    client.send_to(sim.now(), &mut &b"one "[..], None, &more).unwrap();
    client.send(sim.now(), &mut &b"message"[..]).unwrap();
    client.set_option(sim.now(), DatagramOption::Cork(true).into()).unwrap();
    client.send(sim.now(), &mut &b"an"[..]).unwrap();
    client.send(sim.now(), &mut &b"other"[..]).unwrap();
    sim.run_for(20 * MS);
    assert_eq!(take(&sim, &server), (b"one message".to_vec(), vec![(11, None)]));
    client.set_option(sim.now(), DatagramOption::Cork(false).into()).unwrap();
    sim.run_for(20 * MS);
    assert_eq!(take(&sim, &server), (b"another".to_vec(), vec![(7, None)]));
    // What grows beyond a datagram is dropped whole.
    client.set_option(sim.now(), DatagramOption::Cork(true).into()).unwrap();
    client.send(sim.now(), &mut &train(60_000)[..]).unwrap();
    assert_eq!(client.send(sim.now(), &mut &train(6000)[..]), Err(SendError::MessageTooLong));
    client.set_option(sim.now(), DatagramOption::Cork(false).into()).unwrap();
    sim.run_for(20 * MS);
    assert_eq!(take(&sim, &server).1, []);
}

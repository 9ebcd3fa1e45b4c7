//! Work for an instruction counter: `instructions CASE COUNT` does it so often, with nothing that time or a machine changes.
//! `scripts/instructions` runs it under callgrind with two counts; the difference is what one more costs.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use netstack::buffer::PacketBuffer;
use netstack::ip::{Family, IpCidr};
use netstack::link::{Capabilities, ChecksumSupport, Link, LinkError, MacAddr, NicId, NicKind};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Ancillary, RecvError, RecvFlags, SendError, SendFlags, UdpSocket};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::{Duration, Instant};

const PORT: u16 = 2000;
/// What a segment of a bulk transfer and a datagram hold.
const SEGMENT: usize = 1448;
const DATAGRAM: usize = 1472;
/// Round trips of a short conversation: with the handshake and both ends' closing it is twelve segments.
const EXCHANGES: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [case, count] = &words[..] else { return usage() };
    let Ok(count) = count.parse() else { return usage() };
    match case.as_str() {
        "bulk" => bulk(count),
        "short" => short(count),
        "udp" => udp(count),
        "churn" => churn(count),
        _ => usage(),
    }
}

fn usage() {
    println!("instructions: bulk|short|udp|churn COUNT (under scripts/instructions)");
}

/// A device that does checksums, and keeps frames until the other end takes them, each in memory of its own as a driver reads it.
#[derive(Default)]
struct Wire(Mutex<VecDeque<PacketBuffer>>);

impl Link for Wire {
    fn transmit(&self, _now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        let frame = PacketBuffer::from_vec(frame.to_vec());
        self.0.lock().expect("nobody failed").push_back(frame);
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { checksum: ChecksumSupport::Device, ..Capabilities::default() }
    }
}

/// One end of the wire.
struct End {
    stack: Arc<Stack>,
    wire: Arc<Wire>,
    nic: NicId,
    address: Ipv4Addr,
}

impl End {
    fn new(n: u8) -> End {
        let stack = Stack::new(Config::new([n; 32]));
        let wire = Arc::new(Wire::default());
        let (name, kind, mac) = ("eth0".into(), NicKind::Ethernet, mac(n));
        let config = NicConfig { name, kind, mac, mtu: 1500, link: wire.clone() };
        let nic = stack.add_nic(config).expect("an interface");
        let address = Ipv4Addr::new(10, 0, 0, n);
        stack.add_address(nic, IpCidr::new(address.into(), 24)).expect("an address");
        End { stack, wire, nic, address }
    }

    fn knows(&self, now: Instant, other: &End, n: u8) {
        let address = IpAddr::V4(other.address);
        self.stack.add_neighbour(now, self.nic, address, mac(n)).expect("a neighbour");
    }

    /// Takes what the other end has sent; whether that was anything.
    fn take_from(&self, now: Instant, other: &End) -> bool {
        let next = || other.wire.0.lock().expect("nobody failed").pop_front();
        let mut any = false;
        while let Some(mut frame) = next() {
            frame.offload.rx_verified = true;
            self.stack.handle_frame(now, self.nic, frame);
            any = true;
        }
        any
    }
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// Two stacks that know each other, and a time that goes on by steps.
struct Pair {
    one: End,
    other: End,
    now: Instant,
}

impl Pair {
    fn new() -> Pair {
        let pair = Pair { one: End::new(1), other: End::new(2), now: Instant::from_secs(1) };
        pair.one.knows(pair.now, &pair.other, 2);
        pair.other.knows(pair.now, &pair.one, 1);
        pair
    }

    /// Lets frames pass until there are none.
    fn settle(&mut self) {
        loop {
            self.now += Duration::from_micros(10);
            let forth = self.other.take_from(self.now, &self.one);
            let back = self.one.take_from(self.now, &self.other);
            for end in [&self.one, &self.other] {
                if end.stack.next_deadline().is_some_and(|at| at <= self.now) {
                    end.stack.poll(self.now);
                }
            }
            if !forth && !back {
                return;
            }
        }
    }

    fn listener(&self) -> TcpSocket {
        let listener = self.other.stack.tcp_socket(Family::V4);
        listener.bind((self.other.address, PORT).into()).expect("a port");
        listener.listen(128).expect("a listener");
        listener
    }

    fn connect(&mut self, listener: &TcpSocket) -> (TcpSocket, TcpSocket) {
        let client = self.one.stack.tcp_socket(Family::V4);
        client.connect(self.now, (self.other.address, PORT).into()).expect("a connection");
        self.settle();
        let server = listener.accept(self.now).expect("the other end");
        (client, server)
    }
}

/// Segments of a transfer, each with what it has in acknowledgments.
fn bulk(segments: usize) {
    let mut pair = Pair::new();
    let listener = pair.listener();
    let (client, server) = pair.connect(&listener);
    let (block, mut room) = (vec![0x5a; 16 * SEGMENT], vec![0; 64 * SEGMENT]);
    let (mut left, mut unread) = (segments * SEGMENT, segments * SEGMENT);
    while unread > 0 {
        let mut source = &block[..block.len().min(left)];
        match client.send(pair.now, &mut source, SendFlags::empty()) {
            Ok(n) => left -= n,
            Err(SendError::WouldBlock) => {}
            Err(error) => panic!("send: {error}"),
        }
        pair.settle();
        match server.recv(pair.now, &mut &mut room[..], RecvFlags::empty()) {
            Ok(n) => unread -= n,
            // What is missing waits for a timer.
            Err(RecvError::WouldBlock) => pair.now += Duration::from_millis(1),
            Err(error) => panic!("receive: {error}"),
        }
    }
}

/// Conversations of a dozen segments: requests and answers, then both ends close.
fn short(conversations: usize) {
    let mut pair = Pair::new();
    let listener = pair.listener();
    let mut room = [0; 1024];
    for _ in 0..conversations {
        let (client, server) = pair.connect(&listener);
        for _ in 0..EXCHANGES {
            for (from, to, len) in [(&client, &server, 100), (&server, &client, 1000)] {
                let sent = from.send(pair.now, &mut &[7; 1000][..len], SendFlags::empty());
                assert_eq!(sent, Ok(len));
                pair.settle();
                let got = to.recv(pair.now, &mut &mut room[..], RecvFlags::empty());
                assert_eq!(got, Ok(len));
            }
        }
        client.close(pair.now);
        pair.settle();
        server.close(pair.now);
        pair.settle();
        // Others come, too, while a connection's TIME-WAIT lasts; the last ones' do not end here.
        pair.now += Duration::from_millis(10);
    }
}

/// Datagrams sent and received.
fn udp(datagrams: usize) {
    let pair = Pair::new();
    let sockets = [&pair.one, &pair.other].map(|end| {
        let socket: UdpSocket = end.stack.udp_socket(Family::V4);
        socket.bind(SocketAddr::from((end.address, PORT))).expect("a port");
        socket
    });
    let target = SocketAddr::from((pair.other.address, PORT));
    let (datagram, mut room) = ([7; DATAGRAM], [0; DATAGRAM]);
    for _ in 0..datagrams {
        let (mut source, ancillary) = (&datagram[..], Ancillary::default());
        sockets[0].send_to(pair.now, &mut source, Some(target), &ancillary).expect("sent");
        pair.other.take_from(pair.now, &pair.one);
        let got = sockets[1].recv_from(pair.now, &mut &mut room[..], RecvFlags::empty());
        assert_eq!(got.expect("it came").len, DATAGRAM);
    }
}

/// Connections inside one stack: set up, a byte, closed, and forgotten after TIME-WAIT.
fn churn(connections: usize) {
    let stack = Stack::new(Config::new([7; 32]));
    stack.add_nic(NicConfig::loopback()).expect("a loopback interface");
    let listener = stack.tcp_socket(Family::V4);
    listener.listen(128).expect("a listener");
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().port()));
    let (mut now, mut room) = (Instant::from_secs(1), [0]);
    for _ in 0..connections {
        let client = stack.tcp_socket(Family::V4);
        client.connect(now, target).expect("a connection");
        let server = listener.accept(now).expect("the other end");
        assert_eq!(client.send(now, &mut &[7][..], SendFlags::empty()), Ok(1));
        assert_eq!(server.recv(now, &mut &mut room[..], RecvFlags::empty()), Ok(1));
        client.close(now);
        server.close(now);
        now += Duration::from_millis(10);
        stack.poll(now);
    }
}

//! Segments by hand: a scripted peer on a segment, frames made and read, and the small steps that scenarios of
//! opening and ending share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use netstack::buffer::Chain;
use netstack::ip::{Family, IpCidr};
use netstack::link::MacAddr;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Peer, SegmentId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Connect, RecvError, RecvFlags, SendError, SendFlags};
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use netstack::transport::tcp::{Segment, Seq, TcpConfig};
use netstack::wire::checksum::Checksum;
use netstack::wire::ethernet::{self, Ethernet};
use netstack::wire::ipv4::Ipv4;
use netstack::wire::ipv6::Ipv6;
use netstack::wire::tcp::{Flags, Header, Timestamps};
use parking_lot::Mutex;

pub const MS: Duration = Duration::from_millis(1);
pub const SEC: Duration = Duration::from_secs(1);

/// A segment with the flow it belongs to, as it was on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    pub to: SocketAddr,
    pub segment: Segment,
}

/// A frame with a TCP segment.
pub fn frame(
    macs: (MacAddr, MacAddr),
    from: SocketAddr,
    to: SocketAddr,
    segment: &Segment,
) -> Vec<u8> {
    let mut header = segment.to_header(from.port(), to.port());
    let payload = segment.payload.to_vec();
    let mut tcp = vec![0; header.len()];
    header.emit(&mut tcp);
    tcp.extend_from_slice(&payload);
    let mut sum = Checksum::pseudo_header(from.ip(), to.ip(), 6, tcp.len());
    sum.add_bytes(&tcp);
    header.checksum = sum.finish();
    let len = header.len();
    header.emit(&mut tcp[..len]);
    let (ethertype, ip) = match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = [0; 20];
            let ip = Ipv4 {
                header_len: 20,
                tos: 0,
                total_len: (20 + tcp.len()) as u16,
                ident: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
                ttl: 64,
                protocol: 6,
                src,
                dst,
            };
            ip.emit(&mut bytes);
            (ethernet::TYPE_IPV4, bytes.to_vec())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = [0; 40];
            let ip = Ipv6 {
                traffic_class: 0,
                flow_label: 0,
                payload_len: tcp.len() as u16,
                next_header: 6,
                hop_limit: 64,
                src,
                dst,
            };
            ip.emit(&mut bytes);
            (ethernet::TYPE_IPV6, bytes.to_vec())
        }
        _ => panic!("one family, please"),
    };
    let mut bytes = [0; 14];
    Ethernet { dst: macs.1, src: macs.0, ethertype }.emit(&mut bytes);
    [&bytes[..], &ip, &tcp].concat()
}

/// Reads a frame with a TCP segment.
pub fn read(frame: &[u8]) -> Option<Seen> {
    let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
    let packet = &frame[14..];
    let (dst, at, end): (IpAddr, usize, usize) = match ethertype {
        ethernet::TYPE_IPV4 if packet[9] == 6 => {
            let ip = Ipv4::parse(&packet[..20], packet.len()).ok()?;
            (ip.dst.into(), usize::from(ip.header_len), usize::from(ip.total_len))
        }
        ethernet::TYPE_IPV6 if packet[6] == 6 => {
            let ip = Ipv6::parse(packet[..40].try_into().ok()?)?;
            (ip.dst.into(), 40, 40 + usize::from(ip.payload_len))
        }
        _ => return None,
    };
    let tcp = &packet[at..end];
    let parsed = Header::parse(tcp).ok()?;
    let header = parsed.header;
    let payload = Chain::from(tcp[parsed.header_len..].to_vec());
    Some(Seen {
        to: SocketAddr::new(dst, header.dst_port),
        segment: Segment::from_wire(&header, payload),
    })
}

/// A segment without options and payload.
pub fn control(seq: Seq, ack: Seq, flags: Flags) -> Segment {
    let mut segment = Segment::control(seq, ack, flags);
    segment.window = 8192;
    segment
}

/// A segment with payload.
pub fn data(seq: Seq, ack: Seq, payload: &[u8]) -> Segment {
    let mut segment = control(seq, ack, Flags::ACK | Flags::PSH);
    segment.payload = Chain::from(payload.to_vec());
    segment
}

/// With a timestamp.
pub fn stamped(mut segment: Segment, value: u32, echo: u32) -> Segment {
    segment.options.timestamps = Some(Timestamps { value, echo });
    segment
}

#[derive(Default)]
struct Script {
    heard: Vec<Seen>,
    to_send: Vec<Vec<u8>>,
}

/// A host that a test plays: it answers ARP and nothing else by itself.
#[derive(Clone)]
pub struct Hand {
    script: Arc<Mutex<Script>>,
    mac: MacAddr,
    ip: IpAddr,
    peer_mac: MacAddr,
}

impl Hand {
    /// Joins a segment as 10.0.0.`n`; what it says goes to the first attachment.
    pub fn join(sim: &mut Sim, segment: SegmentId, port: usize, n: u8) -> Hand {
        let hand = Hand {
            script: Arc::default(),
            mac: Sim::mac_of(segment, port),
            ip: IpAddr::from([10, 0, 0, n]),
            peer_mac: Sim::mac_of(segment, 0),
        };
        sim.add_peer(segment, Box::new(hand.clone()));
        hand
    }

    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Sends a segment from a port to an address.
    pub fn send(&self, port: u16, to: SocketAddr, segment: &Segment) {
        let bytes = frame((self.mac, self.peer_mac), self.addr(port), to, segment);
        self.script.lock().to_send.push(bytes);
    }

    /// What it heard since the last call.
    pub fn heard(&self) -> Vec<Segment> {
        self.script.lock().heard.drain(..).map(|seen| seen.segment).collect()
    }

    /// Sends a segment and tells what comes back within the next milliseconds.
    pub fn ask(&self, sim: &mut Sim, port: u16, to: SocketAddr, segment: &Segment) -> Vec<Segment> {
        self.heard();
        self.send(port, to, segment);
        sim.run_for(20 * MS);
        self.heard()
    }

    /// Opens a connection to a listener and gives both next sequence numbers: ours and the stack's.
    pub fn open(
        &self,
        sim: &mut Sim,
        port: u16,
        to: SocketAddr,
        syn: &Segment,
    ) -> (Seq, Seq, Segment) {
        let answers = self.ask(sim, port, to, syn);
        let syn_ack = answers.iter().find(|segment| segment.syn()).expect("a SYN-ACK").clone();
        let (ours, theirs) = (syn.seq + 1, syn_ack.seq + 1);
        let mut ack = control(ours, theirs, Flags::ACK);
        if let Some(stamp) = syn_ack.options.timestamps {
            ack = stamped(ack, stamp.echo + 1, stamp.value);
        }
        self.send(port, to, &ack);
        sim.run_for(20 * MS);
        (ours, theirs, syn_ack)
    }
}

impl Peer for Hand {
    fn receive(&mut self, _now: Instant, frame: Vec<u8>) {
        let IpAddr::V4(mine) = self.ip else { return };
        let mut script = self.script.lock();
        if frame[12..14] == [8, 6] && frame[38..42] == mine.octets() && frame[21] == 1 {
            let mut answer = [&frame[6..12], &self.mac.0[..], &frame[12..20], &[0, 2][..]].concat();
            answer.extend_from_slice(&self.mac.0);
            answer.extend_from_slice(&mine.octets());
            answer.extend_from_slice(&frame[22..32]);
            script.to_send.push(answer);
        }
        if let Some(seen) = read(&frame).filter(|seen| seen.to.ip() == self.ip) {
            script.heard.push(seen);
        }
    }

    fn poll(&mut self, _now: Instant) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.script.lock().to_send)
    }

    fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        (!self.script.lock().to_send.is_empty()).then_some(now)
    }
}

/// One stack at 10.0.0.1 and fd00::1, and a scripted host at 10.0.0.9.
pub fn with_hand(seed: u64) -> (Sim, HostId, Hand) {
    let mut sim = Sim::new(seed);
    let segment = sim.add_segment(Faults::delay(MS));
    let host = sim.add_host();
    sim.attach(host, segment, 1500, &Sim::pair_addresses(1));
    let hand = Hand::join(&mut sim, segment, 1, 9);
    (sim, host, hand)
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The address of the `n`th host of a pair.
pub fn at(family: Family, n: u8, port: u16) -> SocketAddr {
    let cidrs: [IpCidr; 2] = Sim::pair_addresses(n);
    let ip = cidrs[usize::from(family == Family::V6)].address();
    SocketAddr::new(ip, port)
}

/// Changes the configuration of a host's TCP.
pub fn configure(sim: &Sim, host: HostId, change: impl FnOnce(&mut TcpConfig)) {
    let shared = sim.stack(host).shared();
    let mut config = TcpConfig::clone(&shared.tcp.config());
    change(&mut config);
    shared.tcp.set_config(config);
}

/// A counter of TcpExt.
pub fn ext(sim: &Sim, host: HostId, name: &str) -> u64 {
    sim.stack(host).stats().value("TcpExt", name)
}

pub fn listen(sim: &Sim, host: HostId, local: &str, backlog: usize) -> TcpSocket {
    let local = addr(local);
    let socket = sim.stack(host).tcp_socket(Family::of(local.ip()));
    socket.bind(local).unwrap();
    socket.listen(backlog).unwrap();
    socket
}

pub fn connect(sim: &Sim, host: HostId, to: SocketAddr) -> TcpSocket {
    let socket = sim.stack(host).tcp_socket(Family::of(to.ip()));
    assert!(matches!(socket.connect(sim.now(), to), Ok(Connect::InProgress | Connect::Done)));
    socket
}

pub fn send(sim: &Sim, socket: &TcpSocket, mut bytes: &[u8]) -> Result<usize, SendError> {
    socket.send(sim.now(), &mut bytes, SendFlags::empty())
}

pub fn recv(sim: &Sim, socket: &TcpSocket) -> Result<Vec<u8>, RecvError> {
    let mut bytes = Vec::new();
    socket.recv(sim.now(), &mut bytes, RecvFlags::empty()).map(|_| bytes)
}

/// A connection between the hosts of a pair: (client's end, server's end).
pub fn connected(
    sim: &mut Sim,
    hosts: [HostId; 2],
    family: Family,
    port: u16,
) -> (TcpSocket, TcpSocket) {
    let local = SocketAddr::new(family.unspecified(), port).to_string();
    let listener = listen(sim, hosts[1], &local, 4);
    let client = connect(sim, hosts[0], at(family, 2, port));
    sim.run_for(20 * MS);
    let server = listener.accept(sim.now()).expect("a connection");
    listener.close(sim.now());
    (client, server)
}

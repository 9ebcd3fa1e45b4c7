//! Frames into the stack: whatever comes from the wire, the stack answers or drops it, without a panic and within its bounds.
//!
//! An input is a list of frames, each behind two bytes: its length (one byte, times 8) and a mode. Mode bit 0 completes lengths and checksums;
//! bit 1 makes a TCP segment one of an established connection; the rest is how many milliseconds pass before it comes.
#![no_main]

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use netstack::buffer::PacketBuffer;
use netstack::ip::{Family, Route};
use netstack::link::{Link, LinkError, MacAddr, NicId, NicKind, NullLink};
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Fault, RecvFlags, SendFlags, Sink, Source};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::Instant;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const OURS: [u8; 4] = [10, 9, 0, 2];
const THEIRS: [u8; 4] = [10, 9, 0, 1];
/// The peer's initial sequence number, near the wrap.
const PEER_ISN: u32 = u32::MAX - 3000;
/// Frames of one input at most.
const FRAMES: usize = 64;
/// More frames than this in answer to one are a storm.
const ANSWERS: usize = 256;

/// Keeps what the stack sends.
#[derive(Default)]
struct Wire(Mutex<Vec<Vec<u8>>>);

impl Link for Wire {
    fn transmit(&self, _: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.0.lock().expect("the wire").push(frame.to_vec_complete());
        Ok(())
    }
}

struct Zeros(usize);

impl Source for Zeros {
    fn remaining(&self) -> usize {
        self.0
    }

    fn read(&mut self, dst: &mut [u8]) -> Result<usize, Fault> {
        let n = dst.len().min(self.0);
        dst[..n].fill(0);
        self.0 -= n;
        Ok(n)
    }
}

struct Discard;

impl Sink for Discard {
    fn room(&self) -> usize {
        1 << 20
    }

    fn write(&mut self, src: &[u8]) -> Result<usize, Fault> {
        Ok(src.len())
    }
}

/// A connection that the stack opened: its port and its next sequence number.
struct Established {
    port: u16,
    next: u32,
}

fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut total = start;
    for pair in bytes.chunks(2) {
        total += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// Writes lengths and checksums into an IPv4 or IPv6 frame with TCP, UDP or ICMP, as far as its headers are there.
fn complete(frame: &mut [u8]) {
    let (at, protocol, pseudo) = match (frame.get(12..14), frame.get(14)) {
        (Some([8, 0]), Some(first)) if frame.len() >= 34 => {
            let header = usize::from(first & 15) * 4;
            if header < 20 || frame.len() < 14 + header {
                return;
            }
            let total = (frame.len() - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[24..26].fill(0);
            let check = !sum(&frame[14..14 + header], 0);
            frame[24..26].copy_from_slice(&check.to_be_bytes());
            (14 + header, frame[23], u32::from(sum(&frame[26..34], 0)))
        }
        (Some([0x86, 0xdd]), _) if frame.len() >= 54 => {
            let len = (frame.len() - 54) as u16;
            frame[18..20].copy_from_slice(&len.to_be_bytes());
            (54, frame[20], u32::from(sum(&frame[22..54], 0)))
        }
        _ => return,
    };
    let (offset, pseudo) = match protocol {
        6 => (16, pseudo + 6),
        17 => (6, pseudo + 17),
        1 => (2, 0),
        58 => (2, pseudo + 58),
        _ => return,
    };
    let len = frame.len() - at;
    if len < offset + 2 {
        return;
    }
    if protocol == 17 {
        frame[at + 4..at + 6].copy_from_slice(&(len as u16).to_be_bytes());
    }
    frame[at + offset..at + offset + 2].fill(0);
    let start = if pseudo == 0 { 0 } else { pseudo + len as u32 };
    let check = !sum(&frame[at..], start);
    frame[at + offset..at + offset + 2].copy_from_slice(&check.to_be_bytes());
}

/// A TCP frame from the peer.
fn segment(port: u16, seq: u32, ack: u32, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut frame = [&MAC.0[..], &PEER.0, &[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0], &THEIRS, &OURS].concat();
    frame.extend(80u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([(5 + options.len() as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(options);
    complete(&mut frame);
    frame
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn target(wire: &Arc<Wire>) -> (Arc<Stack>, NicId) {
    let stack = Stack::new(Config::new(seed_from(1)));
    let nic = |name: &str, kind, link: Arc<dyn Link>| NicConfig { name: name.into(), kind, mac: MAC, mtu: 1500, link };
    stack.add_nic(nic("lo", NicKind::Loopback, Arc::new(NullLink))).expect("lo");
    let eth = stack.add_nic(nic("eth0", NicKind::Ethernet, wire.clone())).expect("eth0");
    for cidr in ["10.9.0.2/24", "fd09::2/64"] {
        stack.add_address(eth, cidr.parse().expect("a prefix")).expect("an address");
    }
    stack.add_route(Route::new("0.0.0.0/0".parse().expect("any"), Some(address("10.9.0.1")), eth)).expect("a route");
    for peer in ["10.9.0.1", "fd09::1"] {
        stack.add_neighbour(Instant::default(), eth, address(peer), PEER).expect("a neighbour");
    }
    (stack, eth)
}

/// Opens a connection from the stack to the peer's port 80.
fn establish(stack: &Arc<Stack>, eth: NicId, wire: &Wire) -> (TcpSocket, Option<Established>) {
    let socket = stack.tcp_socket(Family::V4);
    let now = Instant::default();
    let _ = socket.connect(now, SocketAddr::from((THEIRS, 80)));
    let sent = wire.0.lock().expect("the wire").pop();
    let Some(syn) = sent.filter(|f| f.len() >= 54 && f[23] == 6) else { return (socket, None) };
    let port = u16::from_be_bytes([syn[34], syn[35]]);
    let next = u32::from_be_bytes([syn[38], syn[39], syn[40], syn[41]]).wrapping_add(1);
    // MSS, SACK permitted, window scale; no timestamps, so that the input need not guess them.
    let options = [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7];
    stack.handle_frame(now, eth, PacketBuffer::from_vec(segment(port, PEER_ISN, next, 0x12, &options)));
    (socket, Some(Established { port, next }))
}

fuzz_target!(|data: &[u8]| {
    let wire = Arc::new(Wire::default());
    let (stack, eth) = target(&wire);
    let udp = stack.udp_socket(Family::V6);
    udp.bind("[::]:7".parse().expect("an address")).expect("a port");
    let listener = stack.tcp_socket(Family::V6);
    listener.bind("[::]:80".parse().expect("an address")).expect("a port");
    listener.listen(8).expect("a listener");
    let raw = stack.raw_socket(Family::V4, 1);
    let (socket, established) = establish(&stack, eth, &wire);
    let _ = socket.send(Instant::default(), &mut Zeros(10_000), SendFlags::empty());

    let mut now = Instant::default();
    let mut rest = data;
    for _ in 0..FRAMES {
        let [len, mode, tail @ ..] = rest else { break };
        let (bytes, tail) = tail.split_at((usize::from(*len) * 8).min(tail.len()));
        rest = tail;
        let mut frame = bytes.to_vec();
        if frame.len() >= 6 && frame[0] & 1 == 0 {
            frame[..6].copy_from_slice(&MAC.0);
        }
        if let Some(known) = established.as_ref().filter(|_| mode & 2 != 0 && frame.len() >= 54 && frame[23] == 6) {
            let add = |old: &[u8], base: u32| u32::from_be_bytes([old[0], old[1], old[2], old[3]]).wrapping_add(base).to_be_bytes();
            frame[26..30].copy_from_slice(&THEIRS);
            frame[30..34].copy_from_slice(&OURS);
            frame[34..36].copy_from_slice(&80u16.to_be_bytes());
            frame[36..38].copy_from_slice(&known.port.to_be_bytes());
            let (seq, ack) = (add(&frame[38..42], PEER_ISN.wrapping_add(1)), add(&frame[42..46], known.next));
            frame[38..42].copy_from_slice(&seq);
            frame[42..46].copy_from_slice(&ack);
        }
        if mode & 1 != 0 {
            complete(&mut frame);
        }
        now = now + Duration::from_millis(u64::from(mode >> 2) * 8);
        stack.poll(now);
        stack.handle_frame(now, eth, PacketBuffer::from_vec(frame));
        let _ = socket.recv(now, &mut Discard, RecvFlags::empty());
        if let Ok(accepted) = listener.accept(now) {
            let _ = accepted.send(now, &mut Zeros(3000), SendFlags::empty());
            accepted.close(now);
        }
        let answers = std::mem::take(&mut *wire.0.lock().expect("the wire")).len();
        assert!(answers <= ANSWERS, "{answers} frames answer one");
    }
    socket.close(now);
    listener.close(now);
    udp.close(now);
    raw.close(now);
    stack.shut_down();
});

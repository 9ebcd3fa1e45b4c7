//! A node with our stack, one Ethernet interface, and a small program over one TCP socket.

use super::world::Node;
use netstack::buffer::PacketBuffer;
use netstack::ip::{Family, IpCidr};
use netstack::link::{Capabilities, ChecksumSupport, Link, LinkError, MacAddr, NicId, NicKind};
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{AcceptError, How, RecvError, RecvFlags, SendError, SendFlags, SocketError};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use netstack::transport::tcp::StateName;
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Keeps the frames until the world takes them.
#[derive(Default)]
pub struct Wire {
    frames: Mutex<Vec<Vec<u8>>>,
    max_gso: u32,
}

impl Link for Wire {
    fn transmit(&self, _now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.frames.lock().push(frame.to_vec_complete());
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            checksum: ChecksumSupport::Device,
            max_gso: self.max_gso,
            ..Capabilities::default()
        }
    }
}

/// What the program on a node does.
pub struct Program {
    pub listener: Option<TcpSocket>,
    pub socket: Option<TcpSocket>,
    pub to_send: Vec<u8>,
    pub sent: usize,
    pub received: Vec<u8>,
    pub error: Option<SocketError>,
    /// Whether it reads what comes.
    pub reads: bool,
    /// Whether it ends its stream once all is sent, and closes once all is received.
    pub closes: bool,
    /// A slow program: it takes its turn only so often, and reads and writes at most so much in a turn.
    pub pace: Option<(Duration, usize)>,
    next_turn: Instant,
    shut: bool,
}

/// A stack, its wire and its program.
pub struct StackNode {
    pub stack: Arc<Stack>,
    pub nic: NicId,
    pub program: Program,
    wire: Arc<Wire>,
    target: Option<SocketAddr>,
}

/// The addresses of node `index`.
pub fn address(family: Family, index: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, 0, 1 + index]),
        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1 + u16::from(index)]),
    }
}

impl StackNode {
    pub fn new(seed: u64, index: u8, to_send: Vec<u8>) -> StackNode {
        StackNode::with_gso(seed, index, to_send, 0)
    }

    /// A node whose link takes and gives frames with so much payload in one piece.
    pub fn with_gso(seed: u64, index: u8, to_send: Vec<u8>, max_gso: u32) -> StackNode {
        let stack = Stack::new(Config::new(seed_from(seed ^ (u64::from(index) << 60))));
        let wire = Arc::new(Wire { max_gso, ..Wire::default() });
        let config = NicConfig {
            name: "eth0".into(),
            kind: NicKind::Ethernet,
            mac: MacAddr([2, 0, 0, 0, 0, 1 + index]),
            mtu: 1500,
            link: wire.clone(),
        };
        let nic = stack.add_nic(config).unwrap();
        for (family, prefix) in [(Family::V4, 24), (Family::V6, 64)] {
            let cidr = IpCidr::new(address(family, index), prefix);
            stack.add_address(nic, cidr).unwrap();
        }
        let program = Program {
            listener: None,
            socket: None,
            to_send,
            sent: 0,
            received: Vec::new(),
            error: None,
            reads: true,
            closes: true,
            pace: None,
            next_turn: Instant::ZERO,
            shut: false,
        };
        StackNode { stack, nic, program, wire, target: None }
    }

    pub fn socket(&self, family: Family) -> TcpSocket {
        self.stack.tcp_socket(family)
    }

    /// Starts a listener on a port.
    pub fn listen(&mut self, family: Family, port: u16, backlog: usize) {
        let socket = self.socket(family);
        socket.bind(SocketAddr::new(family.unspecified(), port)).unwrap();
        socket.listen(backlog).unwrap();
        self.program.listener = Some(socket);
    }

    /// Starts to connect to a port of the other node.
    pub fn connect(&mut self, now: Instant, to: SocketAddr) {
        let socket = self.socket(Family::of(to.ip()));
        socket.connect(now, to).unwrap();
        self.program.socket = Some(socket);
        self.target = Some(to);
    }

    /// On a bad link the neighbour's answers may all be lost: then a program tries again.
    fn connect_again(&mut self, now: Instant) {
        if let (Some(SocketError::HostUnreachable), Some(to)) = (self.program.error, self.target) {
            self.program.error = None;
            self.connect(now, to);
        }
    }

    /// Whether the program is through and the stack has forgotten all.
    pub fn is_done(&self) -> bool {
        self.program.socket.is_none() && self.held() == 0
    }

    /// How many endpoints and ports the stack still holds.
    pub fn held(&self) -> usize {
        self.stack.shared().demux.len() + self.stack.shared().ports.len()
    }
}

impl Program {
    fn run(&mut self, now: Instant) {
        if self.socket.is_none()
            && let Some(listener) = &self.listener
        {
            match listener.accept(now) {
                Ok(socket) => self.socket = Some(socket),
                Err(AcceptError::WouldBlock) => {}
                Err(error) => panic!("accept: {error}"),
            }
        }
        let Some(socket) = self.socket.clone() else { return };
        if let Some((interval, _)) = self.pace {
            if now < self.next_turn {
                return;
            }
            self.next_turn = now + interval;
        }
        self.send(now, &socket);
        self.receive(now, &socket);
    }

    /// How much it reads and writes in a turn.
    fn turn(&self) -> usize {
        self.pace.map_or(usize::MAX, |(_, bytes)| bytes)
    }

    fn send(&mut self, now: Instant, socket: &TcpSocket) {
        let end = self.to_send.len().min(self.sent.saturating_add(self.turn()));
        while self.sent < end {
            let mut left = &self.to_send[self.sent..end];
            match socket.send(now, &mut left, SendFlags::empty()) {
                Ok(n) => self.sent += n,
                Err(SendError::WouldBlock) => return,
                Err(SendError::Network(error)) => return self.fail(now, socket, error),
                Err(_) => return,
            }
        }
        if self.sent < self.to_send.len() {
            return;
        }
        let connected = !matches!(socket.state(), StateName::SynSent | StateName::SynReceived);
        if self.closes && connected && !self.shut && socket.shutdown(now, How::Write).is_ok() {
            self.shut = true;
        }
    }

    fn receive(&mut self, now: Instant, socket: &TcpSocket) {
        while self.reads {
            let mut room = vec![0; self.turn().min(64 << 10)];
            let received = socket.recv(now, &mut &mut room[..], RecvFlags::empty());
            match received {
                Ok(0) if self.closes && self.shut => {
                    socket.close(now);
                    self.socket = None;
                    // One connection each is enough.
                    if let Some(listener) = self.listener.take() {
                        listener.close(now);
                    }
                    return;
                }
                Ok(0) => return,
                Ok(n) => {
                    self.received.extend_from_slice(&room[..n]);
                    if self.pace.is_some() {
                        return;
                    }
                }
                Err(RecvError::Network(error)) => return self.fail(now, socket, error),
                Err(_) => return,
            }
        }
    }

    fn fail(&mut self, now: Instant, socket: &TcpSocket, error: SocketError) {
        self.error = Some(error);
        socket.close(now);
        self.socket = None;
    }
}

impl Node for StackNode {
    fn receive(&mut self, now: Instant, frame: Vec<u8>) {
        self.stack.handle_frame(now, self.nic, PacketBuffer::from_vec(frame));
    }

    fn work(&mut self, now: Instant) {
        self.stack.poll(now);
        self.program.run(now);
        self.connect_again(now);
    }

    fn next_deadline(&mut self, _now: Instant) -> Option<Instant> {
        let program = &self.program;
        let turn = program.pace.and(program.socket.as_ref()).map(|_| program.next_turn);
        [self.stack.next_deadline(), turn].into_iter().flatten().min()
    }

    fn describe(&self) -> String {
        let program = &self.program;
        let connection = program.socket.as_ref().map(|socket| (socket.state(), socket.info()));
        let keys: Vec<_> =
            self.stack.shared().demux.endpoints().into_iter().map(|(key, _)| key).collect();
        format!(
            "sent {} of {}, received {}, shut {}, {} endpoints, {} ports, {connection:?} {keys:?}",
            program.sent,
            program.to_send.len(),
            program.received.len(),
            program.shut,
            self.stack.shared().demux.len(),
            self.stack.shared().ports.len(),
        )
    }

    fn take_frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.frames.lock())
    }
}

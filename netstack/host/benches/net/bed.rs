//! A stack over a TAP device in this process's namespace, driven by the thread that waits.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use netstack::ip::{Family, IpCidr};
use netstack::link::{MacAddr, NicId, NicKind};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{RecvError, RecvFlags, SendError, SendFlags};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::Instant;
use netstack_host::device::{Device, FrameRoom, burst};
use netstack_host::tap::{Tap, TapConfig};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

pub const HOST: &str = "10.77.0.1";
pub const GUEST: &str = "10.77.0.2";
/// A neighbour that nobody is: frames to it leave, and the host's kernel drops them by their address.
pub const NOBODY: &str = "10.77.0.99";
pub const NOBODY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 99]);
pub const GUEST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

pub struct Bed {
    pub stack: Arc<Stack>,
    pub tap: Arc<Tap>,
    pub nic: NicId,
    start: std::time::Instant,
    room: FrameRoom,
    /// Bytes that were sent since the device was looked at.
    unheard: usize,
}

/// Who sends so much without a pause looks whether the peer has answered meanwhile.
const EARSHOT: usize = 256 << 10;

impl Bed {
    /// A device with the host's address, a stack with the guest's.
    pub fn new() -> Bed {
        let host = IpCidr::new(HOST.parse().expect("an address"), 24);
        let config = TapConfig { host_addresses: vec![host], ..TapConfig::default() };
        let tap = Tap::open(&config).expect("a TAP device");
        let stack = Stack::new(Config::new([42; 32]));
        let config = NicConfig {
            name: "eth0".into(),
            kind: NicKind::Ethernet,
            mac: GUEST_MAC,
            mtu: tap.mtu(),
            link: tap.clone(),
        };
        let nic = stack.add_nic(config).expect("an interface");
        stack
            .add_address(nic, IpCidr::new(GUEST.parse().expect("an address"), 24))
            .expect("an address");
        let start = std::time::Instant::now();
        let bed = Bed { stack, tap, nic, start, room: FrameRoom::default(), unheard: 0 };
        let nobody: IpAddr = NOBODY.parse().expect("an address");
        bed.stack.add_neighbour(bed.now(), nic, nobody, NOBODY_MAC).expect("a neighbour");
        bed
    }

    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.start.elapsed().as_nanos() as u64 + 1)
    }

    /// Handles a burst of the frames that are there and the timers that are due; tells how many frames there were.
    pub fn pump(&mut self) -> usize {
        self.unheard = 0;
        let (now, mut failed) = (self.now(), None);
        let mut frames = burst(&*self.tap, &mut self.room, &mut failed);
        let any = self.stack.handle_frames(now, self.nic, &mut frames);
        drop(frames);
        assert!(failed.is_none(), "the device: {failed:?}");
        if self.stack.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.stack.poll(now);
        }
        any
    }

    /// Handles what is there; where there is nothing, sleeps until there is a frame or a timer is due.
    pub fn wait(&mut self) {
        if self.pump() > 0 {
            return;
        }
        let left =
            self.stack.next_deadline().map(|at| at.nanos().saturating_sub(self.now().nanos()));
        let left =
            left.map(|ns| TimeSpec::new((ns / 1_000_000_000) as i64, (ns % 1_000_000_000) as i64));
        let mut fds = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut fds, left, None);
        self.pump();
    }

    /// A connected TCP socket.
    pub fn connect(&mut self, target: SocketAddr) -> TcpSocket {
        let socket = self.stack.tcp_socket(Family::V4);
        socket.connect(self.now(), target).expect("a connection");
        while socket.peer_addr().is_none() {
            self.wait();
        }
        socket
    }

    /// Sends some bytes once they fit.
    pub fn send(&mut self, socket: &TcpSocket, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match socket.send(self.now(), &mut bytes, SendFlags::empty()) {
                Ok(n) => self.unheard += n,
                Err(SendError::WouldBlock) => self.wait(),
                Err(error) => panic!("send: {error}"),
            }
            if self.unheard >= EARSHOT {
                self.pump();
            }
        }
    }

    /// Receives what there is, at least a byte; 0 at the end.
    pub fn receive(&mut self, socket: &TcpSocket, mut room: &mut [u8]) -> usize {
        loop {
            match socket.recv(self.now(), &mut room, RecvFlags::empty()) {
                Ok(n) => return n,
                Err(RecvError::WouldBlock) => self.wait(),
                Err(error) => panic!("receive: {error}"),
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Sockets and stack hold each other, and the stack the device.
        self.stack.shut_down();
    }
}

/// Reads and forgets what a socket of the host brings, without copying it.
pub fn discard(stream: &std::net::TcpStream) {
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd;
    let mut room = vec![0; 1 << 20];
    let fd = stream.as_fd().as_raw_fd();
    while recv(fd, &mut room, MsgFlags::MSG_TRUNC).is_ok_and(|n| n > 0) {}
}

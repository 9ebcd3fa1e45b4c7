//! Our stack as the kernel that plays, in this process and in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netstack::buffer::PacketBuffer;
use netstack::ip::{Family, IpCidr, Route};
use netstack::link::{Link, LinkError, MacAddr, NicId, NicKind};
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Ancillary, How, RecvFlags, SendFlags, SocketOption, UdpSocket};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::Instant;
use parking_lot::Mutex;

use super::kernel::{Clock, Handle, Kernel, Pause, Received, buffer_for};
use super::wire;
use crate::namespace::KernelError;
use crate::sysctl;

/// The stack's clock begins here: some of its timers look back.
const START: Duration = Duration::from_secs(1000);
const BACKLOG: usize = 1024;

/// Keeps what the stack sent until the player looks.
#[derive(Default)]
struct Outbox(Mutex<Vec<(Instant, Vec<u8>)>>);

impl Link for Outbox {
    fn transmit(&self, now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.0.lock().push((now, frame.to_vec_complete()));
        Ok(())
    }
}

enum Socket {
    Tcp(TcpSocket),
    Udp(UdpSocket),
}

/// The stack and its sockets.
pub struct Ours {
    stack: Arc<Stack>,
    nic: NicId,
    outbox: Arc<Outbox>,
    now: Instant,
    sockets: Vec<Option<Socket>>,
    /// Handles that may be given again.
    free: Vec<Handle>,
}

fn refused(error: impl ToString) -> KernelError {
    KernelError::Refused(error.to_string())
}

fn family(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

impl Ours {
    /// A fresh stack with one device.
    pub fn new(mtu: u32) -> Self {
        let outbox = Arc::new(Outbox::default());
        let stack = Stack::new(Config::new(seed_from(7)));
        let config = NicConfig {
            name: "eth0".into(),
            kind: NicKind::Ethernet,
            mac: MacAddr(wire::OURS),
            mtu,
            link: outbox.clone(),
        };
        let nic = stack.add_nic(config).expect("the first interface of a stack");
        let now = Instant::ZERO + START;
        Self { stack, nic, outbox, now, sockets: Vec::new(), free: Vec::new() }
    }

    fn put(&mut self, socket: Socket) -> Handle {
        let handle = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        self.sockets[handle] = Some(socket);
        handle
    }

    fn tcp(&self, handle: Handle) -> Option<&TcpSocket> {
        match self.sockets.get(handle)? {
            Some(Socket::Tcp(tcp)) => Some(tcp),
            _ => None,
        }
    }

    fn fresh(&self, address: SocketAddr) -> Result<TcpSocket, KernelError> {
        let socket = self.stack.tcp_socket(family(address));
        // Ports of the record may be in TIME-WAIT here.
        socket.set_option(self.now, SocketOption::ReuseAddress(true)).map_err(refused)?;
        socket.bind(address).map_err(refused)?;
        Ok(socket)
    }

    fn since_start(at: Instant) -> Duration {
        at.since(Instant::ZERO + START)
    }
}

impl Socket {
    fn abort(&self, now: Instant) {
        match self {
            Self::Tcp(tcp) => tcp.abort(now),
            Self::Udp(udp) => udp.abort(now),
        }
    }
}

impl Kernel for Ours {
    fn add_address(&mut self, address: IpAddr) -> Result<(), KernelError> {
        // A multicast or unspecified address cannot be one's own.
        self.stack.add_address(self.nic, IpCidr::host(address)).map_err(refused)?;
        let everywhere = match address {
            IpAddr::V4(_) => IpCidr::new(IpAddr::from([0; 4]), 0),
            IpAddr::V6(_) => IpCidr::new(IpAddr::from([0; 16]), 0),
        };
        // The second address of a family finds the route there.
        let _ = self.stack.add_route(Route::new(everywhere, None, self.nic));
        Ok(())
    }

    fn add_peer(&mut self, peer: IpAddr) -> Result<(), KernelError> {
        let mac = MacAddr(wire::THEIRS);
        self.stack.add_neighbour(self.now, self.nic, peer, mac).map_err(refused)
    }

    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError> {
        sysctl::set(&self.stack, path, value).map_err(KernelError::Refused)
    }

    fn limit_window(&mut self, bytes: u32) -> Result<(), KernelError> {
        // The shift is that of the largest buffer (tcp_rmem).
        self.stack.edit_tcp_config(|config| {
            config.receive_buffer_max = bytes as usize;
            config.receive_buffer = config.receive_buffer.min(config.receive_buffer_max);
        });
        Ok(())
    }

    fn listen(&mut self, at: SocketAddr) -> Result<Handle, KernelError> {
        let socket = self.fresh(at)?;
        socket.listen(BACKLOG).map_err(refused)?;
        Ok(self.put(Socket::Tcp(socket)))
    }

    fn accept(&mut self, listener: Handle) -> Option<(Handle, SocketAddr)> {
        let socket = self.tcp(listener)?.accept(self.now).ok()?;
        let Some(peer) = socket.peer_addr() else {
            socket.abort(self.now);
            return None;
        };
        Some((self.put(Socket::Tcp(socket)), peer))
    }

    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> Result<Handle, KernelError> {
        let socket = self.fresh(from)?;
        socket.connect(self.now, to).map_err(refused)?;
        Ok(self.put(Socket::Tcp(socket)))
    }

    fn fix_window(&mut self, socket: Handle, bytes: u32) {
        if let Some(tcp) = self.tcp(socket) {
            // A stream that is gone needs none.
            let doubled = SocketOption::ReceiveBuffer(2 * buffer_for(bytes));
            let _ = tcp.set_option(self.now, doubled);
        }
    }

    fn send(&mut self, socket: Handle, mut bytes: &[u8]) -> usize {
        let Some(socket) = self.tcp(socket) else { return 0 };
        socket.send(self.now, &mut bytes, SendFlags::empty()).unwrap_or(0)
    }

    fn receive(&mut self, socket: Handle, mut room: &mut [u8]) -> Received {
        let flags = RecvFlags::empty();
        let len = match self.sockets.get(socket) {
            Some(Some(Socket::Tcp(tcp))) => tcp.recv(self.now, &mut room, flags),
            Some(Some(Socket::Udp(udp))) => {
                udp.recv_from(self.now, &mut room, flags).map(|received| received.len)
            }
            _ => return Received::Nothing,
        };
        match len {
            Ok(0) => Received::End,
            Ok(len) => Received::Bytes(len),
            Err(_) => Received::Nothing,
        }
    }

    fn shutdown(&mut self, socket: Handle) {
        if let Some(socket) = self.tcp(socket) {
            // One that is gone already cannot be closed any more.
            let _ = socket.shutdown(self.now, How::Write);
        }
    }

    fn close(&mut self, socket: Handle) {
        if let Some(Some(Socket::Tcp(gone))) = self.sockets.get_mut(socket).map(Option::take) {
            gone.close(self.now);
            self.free.push(socket);
        }
    }

    fn abort(&mut self, socket: Handle) {
        if let Some(gone) = self.sockets.get_mut(socket).and_then(Option::take) {
            gone.abort(self.now);
            self.free.push(socket);
        }
    }

    fn bind(&mut self, at: SocketAddr) -> Result<Handle, KernelError> {
        let socket = self.stack.udp_socket(family(at));
        for option in [SocketOption::ReuseAddress(true), SocketOption::Broadcast(true)] {
            socket.set_option(self.now, option.into()).map_err(refused)?;
        }
        socket.bind(at).map_err(refused)?;
        Ok(self.put(Socket::Udp(socket)))
    }

    fn send_to(
        &mut self,
        socket: Handle,
        to: SocketAddr,
        mut bytes: &[u8],
    ) -> Result<(), KernelError> {
        let Some(Some(Socket::Udp(udp))) = self.sockets.get(socket) else { return Ok(()) };
        let mut send = || udp.send_to(self.now, &mut bytes, Some(to), &Ancillary::default());
        // An error that was waiting is told to the first, which is not sent.
        match send().or_else(|_| send()) {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    fn arrive(&mut self, frame: Vec<u8>) -> Result<(), KernelError> {
        self.stack.handle_frame(self.now, self.nic, PacketBuffer::from_vec(frame));
        Ok(())
    }

    fn sent(&mut self) -> Result<Vec<(Duration, Vec<u8>)>, KernelError> {
        let sent = std::mem::take(&mut *self.outbox.0.lock());
        Ok(sent.into_iter().map(|(at, frame)| (Self::since_start(at), frame)).collect())
    }

    fn now(&self) -> Duration {
        Self::since_start(self.now)
    }

    fn run(&mut self, limit: Duration) -> Result<Pause, KernelError> {
        let limit = Instant::ZERO + START + limit;
        while let Some(at) = self.stack.next_deadline().filter(|at| *at <= limit) {
            self.now = self.now.max(at);
            self.stack.poll(self.now);
            if !self.outbox.0.lock().is_empty() {
                return Ok(Pause::Sent);
            }
        }
        self.now = self.now.max(limit);
        Ok(Pause::Limit)
    }

    fn clock(&self) -> Clock {
        Clock::Virtual
    }

    fn jump(&mut self, _to: Duration) {}
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Sockets know their stack, and it knows them: one of the two has to let go.
        self.sockets.iter().flatten().for_each(|socket| socket.abort(self.now));
        self.stack.shut_down();
    }
}

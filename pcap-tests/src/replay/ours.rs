//! Our stack as the kernel that plays, in this process and in virtual time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netstack::ip::IpCidr;
use netstack::link::MacAddr;
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Ancillary, How, RecvFlags, SendFlags, SocketOption, UdpSocket};
use netstack::stack::Config;
use netstack::time::Instant;

use super::kernel::{Clock, Handle, Kernel, Pause, Received, buffer_for};
use crate::device::{self, Device, family};
use crate::namespace::KernelError;
use crate::packet::Sums;
use crate::sysctl;
use crate::table::Table;

const BACKLOG: usize = 1024;

enum Socket {
    Tcp(TcpSocket),
    Udp(UdpSocket),
}

/// The stack and its sockets.
pub struct Ours {
    device: Device,
    now: Instant,
    /// The same since the start, which is asked for more often than it changes.
    elapsed: Duration,
    sockets: Table<Socket>,
}

fn refused(error: impl ToString) -> KernelError {
    KernelError::Refused(error.to_string())
}

impl Ours {
    /// A fresh stack with one device.
    pub fn new(mtu: u32, sums: Sums) -> Self {
        let device = Device::new(Config::new(seed_from(7)), mtu, sums);
        let (elapsed, sockets) = (Duration::ZERO, Table::default());
        Self { device, now: device::at(elapsed), elapsed, sockets }
    }

    fn tcp(&self, handle: Handle) -> Option<&TcpSocket> {
        match self.sockets.get(handle)? {
            Socket::Tcp(tcp) => Some(tcp),
            Socket::Udp(_) => None,
        }
    }

    fn fresh(&self, address: SocketAddr) -> Result<TcpSocket, KernelError> {
        let socket = self.device.stack.tcp_socket(family(address.ip()));
        // Ports of the record may be in TIME-WAIT here.
        socket.set_option(self.now, SocketOption::ReuseAddress(true)).map_err(refused)?;
        socket.bind(address).map_err(refused)?;
        Ok(socket)
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
        self.device.attach(IpCidr::host(address)).map_err(refused)
    }

    fn add_peer(&mut self, peer: IpAddr) -> Result<(), KernelError> {
        let Device { stack, nic, .. } = &self.device;
        stack.add_neighbour(self.now, *nic, peer, MacAddr(device::THEIRS)).map_err(refused)
    }

    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError> {
        sysctl::set(&self.device.stack, path, value).map_err(KernelError::Refused)
    }

    fn limit_window(&mut self, bytes: u32) -> Result<(), KernelError> {
        // The shift is that of the largest buffer (tcp_rmem).
        self.device.stack.edit_tcp_config(|config| {
            config.receive_buffer_max = bytes as usize;
            config.receive_buffer = config.receive_buffer.min(config.receive_buffer_max);
        });
        Ok(())
    }

    fn listen(&mut self, at: SocketAddr) -> Result<Handle, KernelError> {
        let socket = self.fresh(at)?;
        socket.listen(BACKLOG).map_err(refused)?;
        Ok(self.sockets.put(Socket::Tcp(socket)))
    }

    fn accept(&mut self, listener: Handle) -> Option<(Handle, SocketAddr)> {
        let socket = self.tcp(listener)?.accept(self.now).ok()?;
        let Some(peer) = socket.peer_addr() else {
            socket.abort(self.now);
            return None;
        };
        Some((self.sockets.put(Socket::Tcp(socket)), peer))
    }

    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> Result<Handle, KernelError> {
        let socket = self.fresh(from)?;
        socket.connect(self.now, to).map_err(refused)?;
        Ok(self.sockets.put(Socket::Tcp(socket)))
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
            Some(Socket::Tcp(tcp)) => tcp.recv(self.now, &mut room, flags),
            Some(Socket::Udp(udp)) => {
                udp.recv_from(self.now, &mut room, flags).map(|received| received.len)
            }
            None => return Received::Nothing,
        };
        Received::of(len)
    }

    fn shutdown(&mut self, socket: Handle) {
        if let Some(socket) = self.tcp(socket) {
            // One that is gone already cannot be closed any more.
            let _ = socket.shutdown(self.now, How::Write);
        }
    }

    fn close(&mut self, socket: Handle) {
        if let Some(Socket::Tcp(gone)) = self.sockets.take(socket) {
            gone.close(self.now);
        }
    }

    fn abort(&mut self, socket: Handle) {
        if let Some(gone) = self.sockets.take(socket) {
            gone.abort(self.now);
        }
    }

    fn bind(&mut self, at: SocketAddr) -> Result<Handle, KernelError> {
        let socket = self.device.stack.udp_socket(family(at.ip()));
        for option in [SocketOption::ReuseAddress(true), SocketOption::Broadcast(true)] {
            socket.set_option(self.now, option.into()).map_err(refused)?;
        }
        socket.bind(at).map_err(refused)?;
        Ok(self.sockets.put(Socket::Udp(socket)))
    }

    fn send_to(
        &mut self,
        socket: Handle,
        to: SocketAddr,
        mut bytes: &[u8],
    ) -> Result<(), KernelError> {
        let Some(Socket::Udp(udp)) = self.sockets.get(socket) else { return Ok(()) };
        let mut send = || udp.send_to(self.now, &mut bytes, Some(to), &Ancillary::default());
        // An error that was waiting is told to the first, which is not sent.
        match send().or_else(|_| send()) {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }

    fn memory(&mut self, len: usize) -> Vec<u8> {
        self.device.memory(len)
    }

    fn arrive(&mut self, frame: Vec<u8>) -> Result<(), KernelError> {
        self.device.arrive(self.now, frame);
        Ok(())
    }

    fn sent(&mut self, frame: &mut Vec<u8>) -> Result<Option<Duration>, KernelError> {
        Ok(self.device.sent(frame).map(device::since_start))
    }

    fn now(&self) -> Duration {
        self.elapsed
    }

    fn run(&mut self, limit: Duration) -> Result<Pause, KernelError> {
        let end = device::at(limit);
        while let Some(at) = self.device.stack.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.device.stack.poll(self.now);
            if self.device.has_sent() {
                self.elapsed = device::since_start(self.now);
                return Ok(Pause::Sent);
            }
        }
        self.now = self.now.max(end);
        self.elapsed = self.elapsed.max(limit);
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
        self.sockets.iter().for_each(|socket| socket.abort(self.now));
        self.device.stack.shut_down();
    }
}

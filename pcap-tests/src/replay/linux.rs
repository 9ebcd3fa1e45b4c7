//! Linux as the kernel that plays: the host's, in a network namespace of its own, in real time. It needs root.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt,
};

use super::kernel::{Clock, Handle, Kernel, Pause, Received, buffer_for};
use crate::namespace::{self, KernelError, Namespace, clock, host, ip, is_ip, theirs};
use crate::table::Table;

const DEVICE: &str = "replay0";
/// The largest MTU that a TAP device takes.
const MAX_MTU: u32 = 65_521;
/// The neighbours over which everything leaves, and the prefixes that have a host of its own.
const WAYS: [(&str, &str, u8); 2] = [("-4", "169.254.77.77", 32), ("-6", "fe80::7777", 128)];
const BACKLOG: Backlog = Backlog::MAXCONN;

enum Socket {
    Listener(TcpListener),
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

/// A namespace and the sockets in it. The thread that makes it moves into the namespace for good.
pub struct Linux {
    namespace: Namespace,
    sockets: Table<Socket>,
    /// Families that have their way out.
    attached: [bool; 2],
    /// The time, which stands still here while this machine works.
    now: Duration,
}

impl Linux {
    /// A fresh namespace with one device. Errors: missing rights, tools or the tun module.
    pub fn new(mtu: u32) -> Result<Self, KernelError> {
        let namespace = Namespace::enter(DEVICE, &[], mtu.min(MAX_MTU))?;
        // What one connection learned of a host is nothing to the next: the capture may begin anywhere.
        namespace::sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
        Ok(Self { namespace, sockets: Table::default(), attached: [false; 2], now: Duration::ZERO })
    }

    fn stream(&mut self, handle: Handle) -> Option<&mut TcpStream> {
        match self.sockets.get_mut(handle)? {
            Socket::Stream(stream) => Some(stream),
            _ => None,
        }
    }
}

/// A socket that does not wait, bound.
fn fresh(kind: SockType, address: SocketAddr) -> Result<OwnedFd, KernelError> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let made = socket::socket(family, kind, flags, None).and_then(|made| {
        // Ports of the record may be in TIME-WAIT here.
        socket::setsockopt(&made, sockopt::ReuseAddr, &true)?;
        // As the stack has it; a namespace may be kept from it as its default, a socket of root is not.
        let _ = socket::setsockopt(&made, sockopt::TcpCongestion, &OsString::from("cubic"));
        socket::bind(made.as_raw_fd(), &SockaddrStorage::from(address))?;
        Ok(made)
    });
    made.map_err(|errno| host("a socket")(errno.into()))
}

impl Kernel for Linux {
    fn add_address(&mut self, address: IpAddr) -> Result<(), KernelError> {
        let (family, gateway, prefix) = WAYS[usize::from(address.is_ipv6())];
        ip(&format!("address add {address}/{prefix} dev {DEVICE}"))?;
        if !std::mem::replace(&mut self.attached[usize::from(address.is_ipv6())], true) {
            ip(&format!("neigh add {gateway} lladdr {} dev {DEVICE} nud permanent", theirs()))?;
            ip(&format!("{family} route add default via {gateway} dev {DEVICE} onlink"))?;
            let gateway = gateway.parse().map_err(|_| KernelError::Refused(gateway.into()))?;
            self.namespace.warm_up(gateway, address)?;
        }
        Ok(())
    }

    fn add_peer(&mut self, _peer: IpAddr) -> Result<(), KernelError> {
        // All of them are behind the one neighbour.
        Ok(())
    }

    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError> {
        namespace::sysctl(path, value)
    }

    fn limit_window(&mut self, bytes: u32) -> Result<(), KernelError> {
        // The shift is that of tcp_rmem and of net.core.rmem_max, which belongs to the whole machine: routes limit both.
        for ((family, gateway, _), is_attached) in WAYS.iter().zip(self.attached) {
            if is_attached {
                let way = format!("default via {gateway} dev {DEVICE} onlink window {bytes}");
                ip(&format!("{family} route replace {way}"))?;
            }
        }
        Ok(())
    }

    fn listen(&mut self, at: SocketAddr) -> Result<Handle, KernelError> {
        let socket = fresh(SockType::Stream, at)?;
        socket::listen(&socket, BACKLOG).map_err(|errno| host("to listen")(errno.into()))?;
        Ok(self.sockets.put(Socket::Listener(socket.into())))
    }

    fn accept(&mut self, listener: Handle) -> Option<(Handle, SocketAddr)> {
        let Socket::Listener(listener) = self.sockets.get(listener)? else { return None };
        let (stream, peer) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((self.sockets.put(Socket::Stream(stream)), peer))
    }

    fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> Result<Handle, KernelError> {
        let socket = fresh(SockType::Stream, from)?;
        match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(self.sockets.put(Socket::Stream(socket.into()))),
            Err(errno) => Err(host("to connect")(errno.into())),
        }
    }

    fn fix_window(&mut self, socket: Handle, bytes: u32) {
        if let Some(stream) = self.stream(socket) {
            // The host may allow less: then the window is smaller.
            let _ = socket::setsockopt(stream, sockopt::RcvBuf, &buffer_for(bytes));
        }
    }

    fn send(&mut self, socket: Handle, bytes: &[u8]) -> usize {
        self.stream(socket).map_or(0, |stream| stream.write(bytes).unwrap_or(0))
    }

    fn receive(&mut self, socket: Handle, room: &mut [u8]) -> Received {
        let len = match self.sockets.get_mut(socket) {
            Some(Socket::Stream(stream)) => stream.read(room),
            Some(Socket::Datagrams(datagrams)) => datagrams.recv(room),
            _ => return Received::Nothing,
        };
        Received::of(len)
    }

    fn shutdown(&mut self, socket: Handle) {
        if let Some(stream) = self.stream(socket) {
            // One that is gone already cannot be closed any more.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, socket: Handle) {
        drop(self.sockets.take(socket));
    }

    fn abort(&mut self, socket: Handle) {
        if let Some(Socket::Stream(stream)) = self.sockets.take(socket) {
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            // Closing without it ends the connection, too.
            let _ = socket::setsockopt(&stream, sockopt::Linger, &at_once);
        }
    }

    fn bind(&mut self, at: SocketAddr) -> Result<Handle, KernelError> {
        let socket = fresh(SockType::Datagram, at)?;
        let broadcast = socket::setsockopt(&socket, sockopt::Broadcast, &true);
        broadcast.map_err(|errno| host("to broadcast")(errno.into()))?;
        Ok(self.sockets.put(Socket::Datagrams(socket.into())))
    }

    fn send_to(&mut self, socket: Handle, to: SocketAddr, bytes: &[u8]) -> Result<(), KernelError> {
        let Some(Socket::Datagrams(from)) = self.sockets.get(socket) else { return Ok(()) };
        // An error that was waiting is told to the first, which is not sent.
        let sent = from.send_to(bytes, to).or_else(|_| from.send_to(bytes, to));
        sent.map(|_| ()).map_err(host("to send"))
    }

    fn arrive(&mut self, frame: Vec<u8>) -> Result<(), KernelError> {
        match is_ip(&frame) {
            true => self.namespace.arrive(&frame[14..]),
            false => Ok(()),
        }
    }

    fn sent(&mut self, frame: &mut Vec<u8>) -> Result<Option<Duration>, KernelError> {
        let Some(next) = self.namespace.frame()? else { return Ok(None) };
        *frame = next;
        Ok(Some(self.now))
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn run(&mut self, limit: Duration) -> Result<Pause, KernelError> {
        let limit = limit.max(self.now);
        let begin = clock();
        loop {
            let passed = self.now + (clock() - begin);
            if self.namespace.wait(limit.saturating_sub(passed), None)?.frame {
                self.now = (self.now + (clock() - begin)).min(limit);
                return Ok(Pause::Sent);
            }
            if passed >= limit {
                self.now = limit;
                return Ok(Pause::Limit);
            }
        }
    }

    fn clock(&self) -> Clock {
        Clock::Real
    }

    fn jump(&mut self, to: Duration) {
        self.now = self.now.max(to);
    }
}

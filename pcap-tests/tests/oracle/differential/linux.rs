//! Linux as an end: a network namespace with a TAP device, and sockets that are made in it.

use std::fs::File;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use netstack::buffer::PacketBuffer;
use netstack::link::Link;
use netstack::time::Instant;
use netstack_host::device::{Device, FrameRoom, Offloading};
use netstack_host::tap::{Tap, TapConfig};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, sockopt,
};

use super::script::{Call, How, Protocol, pattern};
use super::{End, Outcome, digest};
use crate::peers;

/// A namespace of the host's kernel.
pub struct Linux {
    device: Arc<Tap>,
    namespace: File,
    buffer: FrameRoom,
    sockets: Vec<Option<OwnedFd>>,
}

impl Linux {
    /// A fresh namespace with a device that has two addresses.
    pub fn new(end: usize, addresses: [&str; 2]) -> Linux {
        peers::quiet_namespace();
        let [_, v6] = addresses;
        let config = TapConfig {
            name: format!("diff{end}"),
            host_addresses: peers::cidrs(addresses),
            offloading: Offloading::None,
            ..TapConfig::default()
        };
        let device = Tap::open(&config).expect("a TAP device: is the tun module loaded?");
        // An IPv6 address is usable once a worker of the kernel has looked at it.
        while UdpSocket::bind((v6, 0)).is_err() {
            std::thread::yield_now();
        }
        let namespace = File::open("/proc/thread-self/ns/net").expect("the namespace");
        Linux { device, namespace, buffer: FrameRoom::default(), sockets: Vec::new() }
    }
}

fn errno_or(result: nix::Result<String>) -> String {
    result.unwrap_or_else(|errno| format!("{errno:?}"))
}

impl End for Linux {
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.device.receive(&mut self.buffer).expect("the device") {
            frames.push(frame.to_vec());
        }
        frames
    }

    fn arrive(&mut self, frame: &[u8]) {
        let frame = PacketBuffer::from_slice(frame);
        self.device.transmit(Instant::ZERO, &frame).expect("a frame arrives");
    }

    fn socket(&mut self, protocol: Protocol, address: IpAddr) -> usize {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("the namespace");
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let kind = match protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::Datagram,
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(family, kind, flags, None).expect("a socket");
        if protocol == Protocol::Tcp {
            socket::setsockopt(&socket, sockopt::TcpNoDelay, &true).expect("TCP_NODELAY");
        }
        self.sockets.push(Some(socket));
        self.sockets.len() - 1
    }

    fn call(&mut self, number: usize, call: &Call) -> Outcome {
        if let Call::Close = call {
            self.sockets[number] = None;
            return "closed".to_owned().into();
        }
        let socket = self.sockets[number].as_ref().expect("an open socket");
        if let Call::Accept = call {
            let listener = TcpListener::from(socket.try_clone().expect("a descriptor"));
            return match listener.accept() {
                Ok((child, _)) => {
                    child.set_nonblocking(true).expect("a socket that does not block");
                    child.set_nodelay(true).expect("TCP_NODELAY");
                    self.sockets.push(Some(child.into()));
                    Outcome { text: "accepted".into(), accepted: Some(self.sockets.len() - 1) }
                }
                Err(error) => {
                    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                    format!("{errno:?}").into()
                }
            };
        }
        errno_or(on(socket, call)).into()
    }
}

fn storage(address: SocketAddr) -> SockaddrStorage {
    SockaddrStorage::from(address)
}

fn send(socket: &OwnedFd, len: usize, salt: u8, flags: MsgFlags) -> nix::Result<String> {
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    socket::send(socket.as_raw_fd(), &pattern(len, salt), flags).map(|n| n.to_string())
}

fn recv(socket: &OwnedFd, len: usize, flags: MsgFlags) -> nix::Result<String> {
    let mut buffer = vec![0; len];
    let n = socket::recv(socket.as_raw_fd(), &mut buffer, flags)?;
    Ok(digest(&buffer[..n]))
}

/// All calls but those that make or end a socket.
fn on(socket: &OwnedFd, call: &Call) -> nix::Result<String> {
    let fd = socket.as_raw_fd();
    let done = |()| "done".to_owned();
    match call {
        Call::Bind(address) => socket::bind(fd, &storage(*address)).map(done),
        Call::Listen(backlog) => socket::listen(socket, Backlog::new(*backlog as i32)?).map(done),
        Call::Connect(address) => socket::connect(fd, &storage(*address)).map(done),
        Call::Send(len, salt) => send(socket, *len, *salt, MsgFlags::empty()),
        Call::SendUrgent(len, salt) => send(socket, *len, *salt, MsgFlags::MSG_OOB),
        Call::RecvUrgent => recv(socket, 1, MsgFlags::MSG_OOB),
        Call::SendMore(first, second, salt) => {
            let first = send(socket, *first, *salt, MsgFlags::from_bits_retain(libc::MSG_MORE));
            let second = send(socket, *second, *salt, MsgFlags::empty());
            Ok(format!("{} {}", errno_or(first), errno_or(second)))
        }
        Call::SendTo(len, salt, to) => {
            let bytes = pattern(*len, *salt);
            let pieces = [IoSlice::new(&bytes)];
            let to = storage(*to);
            socket::sendmsg(fd, &pieces, &[], MsgFlags::MSG_NOSIGNAL, Some(&to))
                .map(|n| n.to_string())
        }
        Call::Recv(len) => recv(socket, *len, MsgFlags::empty()),
        Call::Peek(len) => recv(socket, *len, MsgFlags::MSG_PEEK),
        Call::Shutdown(how) => socket::shutdown(
            fd,
            match how {
                How::Read => socket::Shutdown::Read,
                How::Write => socket::Shutdown::Write,
                How::Both => socket::Shutdown::Both,
            },
        )
        .map(done),
        Call::LingerZero => {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            socket::setsockopt(socket, sockopt::Linger, &linger).map(done)
        }
        Call::Error => {
            let error = socket::getsockopt(socket, sockopt::SocketError)?;
            Ok(if error == 0 { "none".into() } else { format!("{:?}", Errno::from_raw(error)) })
        }
        Call::Poll => readiness(socket),
        Call::PeerName => socket::getpeername::<SockaddrStorage>(fd).map(|_| "named".to_owned()),
        Call::Info => socket::getsockname::<SockaddrStorage>(fd).map(|local| info(&local)),
        Call::Socket(..) | Call::Accept | Call::Close => Ok(String::new()),
    }
}

/// What `ss` reads of a connection in this thread's namespace, in the order of [`super::ours::INFO`].
fn info(local: &SockaddrStorage) -> String {
    let port = local.as_sockaddr_in().map_or(0, |local| local.port());
    let told = std::process::Command::new("ss")
        .args(["-Htin", &format!("sport = :{port}")])
        .output()
        .expect("ss");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let value = |name: &&str| {
        let value = told.split_whitespace().find_map(|word| word.strip_prefix(*name));
        format!("{name}{}", value.and_then(|value| value.strip_prefix(':')).unwrap_or("none"))
    };
    super::ours::INFO.iter().map(value).collect::<Vec<_>>().join(" ")
}

fn readiness(socket: &OwnedFd) -> nix::Result<String> {
    let all =
        EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLPRI | EpollFlags::EPOLLRDHUP;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(socket, EpollEvent::new(all, 0))?;
    let mut events = [EpollEvent::empty()];
    epoll.wait(&mut events, EpollTimeout::ZERO)?;
    let found = events[0].events();
    Ok(super::ours::names_of(&[
        ("IN", found.contains(EpollFlags::EPOLLIN)),
        ("OUT", found.contains(EpollFlags::EPOLLOUT)),
        ("PRI", found.contains(EpollFlags::EPOLLPRI)),
        ("ERR", found.contains(EpollFlags::EPOLLERR)),
        ("HUP", found.contains(EpollFlags::EPOLLHUP)),
        ("RDHUP", found.contains(EpollFlags::EPOLLRDHUP)),
    ]))
}

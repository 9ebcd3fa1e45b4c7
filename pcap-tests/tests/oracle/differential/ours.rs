//! Our stack as an end. Its errors are told by the errno that its documentation gives them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use netstack::buffer::PacketBuffer;
use netstack::ip::Family;
use netstack::link::{Link, LinkError, MacAddr, NicId, NicKind, NullLink};
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{
    Ancillary, Connect, ConnectError, Readiness, RecvFlags, SendFlags, SocketError, SocketOption,
    TcpOption, UdpSocket,
};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use netstack::transport::tcp::Info;
use nix::errno::Errno;
use pcap_tests::script::ours::errno::{of_bind, of_connect, of_recv, of_send, of_socket};

use super::script::{Call, How, Protocol, pattern};
use super::{End, Outcome, digest};
use crate::peers;

#[derive(Default)]
struct Wire(Mutex<VecDeque<Vec<u8>>>);

impl Link for Wire {
    fn transmit(&self, _: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.0.lock().expect("the wire").push_back(frame.to_vec_complete());
        Ok(())
    }
}

enum Socket {
    Tcp(TcpSocket),
    Udp(UdpSocket),
}

/// A stack with one interface.
pub struct Ours {
    stack: Arc<Stack>,
    nic: NicId,
    wire: Arc<Wire>,
    started: std::time::Instant,
    sockets: Vec<Socket>,
}

/// The set names in their order.
pub fn names_of(bits: &[(&str, bool)]) -> String {
    let names: Vec<&str> = bits.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    names.join(" ")
}

impl Ours {
    /// A fresh stack with two addresses.
    pub fn new(end: usize, addresses: [&str; 2]) -> Ours {
        let wire = Arc::new(Wire::default());
        let stack = Stack::new(Config::new(seed_from(end as u64 + 70)));
        let nic = |name: &str, kind, link: Arc<dyn Link>| NicConfig {
            name: name.into(),
            kind,
            mac: MacAddr(peers::mac_of(end)),
            mtu: 1500,
            link,
        };
        stack.add_nic(nic("lo", NicKind::Loopback, Arc::new(NullLink))).expect("lo");
        let eth = stack.add_nic(nic("eth0", NicKind::Ethernet, wire.clone())).expect("eth0");
        for cidr in peers::cidrs(addresses) {
            stack.add_address(eth, cidr).expect("an address");
        }
        // As in Linux's namespaces: no limit on ICMP errors.
        stack.edit_ip_conf(|conf| (conf.icmp_ratelimit, conf.icmp6_ratelimit) = (0, 0));
        // Nor on the acknowledgments of invalid segments.
        stack.shared().tcp.edit_config(|tcp| tcp.invalid_ratelimit = Duration::ZERO);
        let started = std::time::Instant::now();
        Ours { stack, nic: eth, wire, started, sockets: Vec::new() }
    }

    fn now(&self) -> Instant {
        Instant::from_secs(1) + Duration::from_nanos(self.started.elapsed().as_nanos() as u64)
    }
}

impl End for Ours {
    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.stack.poll(self.now());
        self.wire.0.lock().expect("the wire").drain(..).collect()
    }

    fn arrive(&mut self, frame: &[u8]) {
        self.stack.handle_frame(self.now(), self.nic, PacketBuffer::from_slice(frame));
    }

    fn socket(&mut self, protocol: Protocol, address: IpAddr) -> usize {
        let family = Family::of(address);
        let socket = match protocol {
            Protocol::Udp => Socket::Udp(self.stack.udp_socket(family)),
            Protocol::Tcp => {
                let socket = self.stack.tcp_socket(family);
                socket.set_option(self.now(), TcpOption::NoDelay(true)).expect("TCP_NODELAY");
                Socket::Tcp(socket)
            }
        };
        self.sockets.push(socket);
        self.sockets.len() - 1
    }

    fn call(&mut self, number: usize, call: &Call) -> Outcome {
        let now = self.now();
        match (&self.sockets[number], call) {
            (Socket::Tcp(socket), Call::Accept) => match socket.accept(now) {
                Ok(child) => {
                    child.set_option(now, TcpOption::NoDelay(true)).expect("TCP_NODELAY");
                    self.sockets.push(Socket::Tcp(child));
                    Outcome { text: "accepted".into(), accepted: Some(self.sockets.len() - 1) }
                }
                Err(netstack::socket::AcceptError::WouldBlock) => "EAGAIN".to_owned().into(),
                Err(netstack::socket::AcceptError::NotListening) => "EINVAL".to_owned().into(),
            },
            (Socket::Tcp(socket), call) => on_stream(now, socket, call).into(),
            (Socket::Udp(socket), call) => on_datagram(now, socket, call).into(),
        }
    }
}

fn told(result: Result<String, Errno>) -> String {
    result.unwrap_or_else(|errno| format!("{errno:?}"))
}

fn connected(result: Result<Connect, ConnectError>) -> Result<String, Errno> {
    match result {
        Ok(Connect::Done) => Ok("done".into()),
        Ok(Connect::InProgress) => Err(Errno::EINPROGRESS),
        Err(error) => Err(of_connect(error)),
    }
}

fn error_of(error: Option<SocketError>) -> String {
    error.map_or("none".into(), |error| format!("{:?}", of_socket(error)))
}

fn direction(how: How) -> netstack::socket::How {
    match how {
        How::Read => netstack::socket::How::Read,
        How::Write => netstack::socket::How::Write,
        How::Both => netstack::socket::How::Both,
    }
}

fn readiness(found: Readiness) -> String {
    names_of(&[
        ("IN", found.contains(Readiness::IN)),
        ("OUT", found.contains(Readiness::OUT)),
        ("PRI", found.contains(Readiness::PRI)),
        ("ERR", found.contains(Readiness::ERR)),
        ("HUP", found.contains(Readiness::HUP)),
        ("RDHUP", found.contains(Readiness::RDHUP)),
    ])
}

/// A sink with room for so many bytes.
struct Room(Vec<u8>, usize);

impl netstack::socket::Sink for Room {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, netstack::socket::Fault> {
        let n = bytes.len().min(self.1 - self.0.len());
        self.0.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn room(&self) -> usize {
        self.1 - self.0.len()
    }
}

fn send(
    now: Instant,
    socket: &TcpSocket,
    (len, salt): (usize, u8),
    flags: SendFlags,
) -> Result<String, Errno> {
    let bytes = pattern(len, salt);
    socket.send(now, &mut &bytes[..], flags).map(|n| n.to_string()).map_err(of_send)
}

fn recv(now: Instant, socket: &TcpSocket, len: usize, flags: RecvFlags) -> Result<String, Errno> {
    let mut room = Room(Vec::new(), len);
    socket.recv(now, &mut room, flags).map_err(of_recv)?;
    Ok(digest(&room.0))
}

fn on_stream(now: Instant, socket: &TcpSocket, call: &Call) -> String {
    let done = |()| "done".to_owned();
    told(match call {
        Call::Bind(address) => socket.bind(*address).map(done).map_err(of_bind),
        Call::Listen(backlog) => socket.listen(*backlog).map(done).map_err(|_| Errno::EINVAL),
        Call::Connect(address) => connected(socket.connect(now, *address)),
        Call::Send(len, salt) => send(now, socket, (*len, *salt), SendFlags::empty()),
        Call::SendUrgent(len, salt) => send(now, socket, (*len, *salt), SendFlags::OOB),
        Call::RecvUrgent => recv(now, socket, 1, RecvFlags::OOB),
        Call::SendMore(first, second, salt) => {
            let first = send(now, socket, (*first, *salt), SendFlags::MORE);
            let second = send(now, socket, (*second, *salt), SendFlags::empty());
            Ok(format!("{} {}", told(first), told(second)))
        }
        Call::Recv(len) => recv(now, socket, *len, RecvFlags::empty()),
        Call::Peek(len) => recv(now, socket, *len, RecvFlags::PEEK),
        Call::Shutdown(how) => {
            socket.shutdown(now, direction(*how)).map(done).map_err(|_| Errno::ENOTCONN)
        }
        Call::LingerZero => {
            let linger = SocketOption::Linger(Some(core::time::Duration::ZERO));
            socket.set_option(now, linger).map(done).map_err(|_| Errno::EINVAL)
        }
        Call::Error => Ok(error_of(socket.take_error())),
        Call::Poll => Ok(readiness(socket.readiness())),
        Call::PeerName => socket.peer_addr().map(|_| "named".into()).ok_or(Errno::ENOTCONN),
        Call::Close => {
            socket.close(now);
            Ok("closed".into())
        }
        Call::Info => Ok(socket.info().map_or_else(String::new, |info| told_of(&info))),
        Call::Socket(..) | Call::Accept | Call::SendTo(..) => Ok(String::new()),
    })
}

/// What `ss` shows of a connection, in its words; it is silent about what is as at the start.
pub const INFO: &[&str] = &["retrans", "reordering", "reord_seen", "delivered_ce"];

fn told_of(info: &Info) -> String {
    let (out, all) =
        (info.retransmissions_out.div_ceil(info.mss.max(1)), info.counters.retransmissions);
    let values = [
        (all > 0).then(|| format!("{out}/{all}")),
        (info.reordering != 3).then(|| info.reordering.to_string()),
        (info.reorderings > 0).then(|| info.reorderings.to_string()),
        (info.counters.delivered_marked > 0).then(|| info.counters.delivered_marked.to_string()),
    ];
    let pairs = INFO.iter().zip(values);
    let words = pairs.map(|(name, value)| format!("{name}{}", value.unwrap_or("none".to_owned())));
    words.collect::<Vec<_>>().join(" ")
}

fn on_datagram(now: Instant, socket: &UdpSocket, call: &Call) -> String {
    let done = |()| "done".to_owned();
    let send_to = |len: &usize, salt: &u8, to| {
        let bytes = pattern(*len, *salt);
        let sent = socket.send_to(now, &mut &bytes[..], to, &Ancillary::default());
        sent.map(|n| n.to_string()).map_err(of_send)
    };
    let recv = |len: &usize, flags| {
        let mut room = Room(Vec::new(), *len);
        socket.recv_from(now, &mut room, flags).map_err(of_recv)?;
        Ok(digest(&room.0))
    };
    told(match call {
        Call::Bind(address) => socket.bind(*address).map(done).map_err(of_bind),
        Call::Connect(address) => connected(socket.connect(now, *address)),
        Call::Send(len, salt) => send_to(len, salt, None),
        Call::SendTo(len, salt, to) => send_to(len, salt, Some(*to)),
        Call::Recv(len) => recv(len, RecvFlags::empty()),
        Call::Peek(len) => recv(len, RecvFlags::PEEK),
        Call::Shutdown(how) => {
            socket.shutdown(now, direction(*how)).map(done).map_err(|_| Errno::ENOTCONN)
        }
        Call::Error => Ok(error_of(socket.take_error())),
        Call::Poll => Ok(readiness(socket.readiness())),
        Call::PeerName => socket.peer_addr().map(|_| "named".into()).ok_or(Errno::ENOTCONN),
        Call::Close => {
            socket.close(now);
            Ok("closed".into())
        }
        _ => Ok(String::new()),
    })
}

//! Our stack as the kernel of a script: in this process, in virtual time, without rights. What a script tests is the stack itself; of a
//! kernel there is here what a program must have to reach it: calls that block, time-outs of sockets, numbers of options.

pub mod errno;
mod info;
mod sockopt;
mod transfer;

use std::collections::HashMap;
use std::time::Duration;

use netstack::ip::conf::Tunables;
use netstack::ip::{Family, IpCidr};
use netstack::link::MacAddr;
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Connect, Readiness, UdpSocket};
use netstack::stack::Config;
use netstack::time::Instant;
use netstack::wire::ethernet::HEADER_LEN;
use nix::errno::Errno;
use nix::libc;

use super::kernel::{
    Handle, Happening, Kernel, KernelError, Nonblocking, Outcome, Returned, SystemCall,
};
use super::syntax::Settings;
use crate::device::{self, Device};
use crate::namespace::is_ip;
use crate::packet::Sums;
use crate::sysctl;

/// The stack's random source: a script gives the same run each time.
const SEED: u64 = 7;
/// The prefix of the local address.
const PREFIX: (u8, u8) = (16, 64);

enum Protocol {
    Tcp(TcpSocket),
    Udp(UdpSocket),
}

/// A socket with what a kernel keeps for it.
struct Socket {
    protocol: Protocol,
    blocks: bool,
    /// SO_RCVTIMEO and SO_SNDTIMEO.
    timeouts: [Option<Duration>; 2],
    /// What was set, by level and name.
    options: HashMap<(i32, i32), Vec<u8>>,
}

/// The call under way.
struct Running {
    call: SystemCall,
    /// When it gives up.
    deadline: Option<Instant>,
    /// Whether it waits at all.
    blocks: bool,
    sent: usize,
    received: Vec<u8>,
}

/// How a try of a call ended.
enum Attempt {
    Done(Returned),
    Failed(Errno),
    /// It must wait; a call that does not block, or whose time is over, answers this.
    Waits(Errno),
}

/// The stack behind an interface on which one neighbour answers for everybody.
pub struct Ours {
    device: Device,
    now: Instant,
    sockets: Vec<Option<Socket>>,
    running: Option<Running>,
    family: Family,
}

impl Ours {
    /// A fresh stack with the addresses of a script.
    pub fn new(settings: &Settings) -> Ours {
        let config = Config { tunables: Tunables::quiet(), ..Config::new(seed_from(SEED)) };
        let device = Device::new(config, settings.mtu, Sums::Checked);
        let now = device::at(Duration::ZERO);
        let prefix = if settings.local.is_ipv4() { PREFIX.0 } else { PREFIX.1 };
        // The parser has refused what is no host's address, so that a fresh stack takes both of these.
        let _ = device.attach(IpCidr::new(settings.local, prefix));
        let Device { stack, nic, .. } = &device;
        let _ = stack.add_neighbour(now, *nic, settings.remote, MacAddr(device::THEIRS));
        let family = device::family(settings.local);
        Ours { device, now, sockets: Vec::new(), running: None, family }
    }

    fn socket(&self, handle: Handle) -> Result<&Socket, Errno> {
        self.sockets.get(handle).and_then(Option::as_ref).ok_or(Errno::EBADF)
    }

    fn put(&mut self, protocol: Protocol, blocks: bool) -> i64 {
        let options = HashMap::new();
        self.sockets.push(Some(Socket { protocol, blocks, timeouts: [None; 2], options }));
        self.sockets.len() as i64 - 1
    }

    /// Tries the call under way; what it returned, if it did.
    fn try_running(&mut self) -> Result<Option<Returned>, KernelError> {
        let Some(mut running) = self.running.take() else { return Ok(None) };
        let over = !running.blocks || running.deadline.is_some_and(|deadline| deadline <= self.now);
        let mut returned = match self.attempt(&mut running)? {
            Attempt::Done(returned) => returned,
            Attempt::Waits(errno) if over => transfer::given_up(&mut running, errno),
            Attempt::Failed(errno) => transfer::failed(&mut running, errno),
            Attempt::Waits(_) => {
                self.running = Some(running);
                return Ok(None);
            }
        };
        returned.at = device::since_start(self.now);
        Ok(Some(returned))
    }

    fn attempt(&mut self, running: &mut Running) -> Result<Attempt, KernelError> {
        let result = match &running.call {
            SystemCall::Receive(handle, len, flags) => {
                let (handle, len, flags) = (*handle, *len, *flags);
                return self.receive(running, handle, len, flags);
            }
            SystemCall::Send(handle, bytes, flags, to) => {
                let (handle, flags, to) = (*handle, *flags, *to);
                // Taken out while it is read: the call is changed by it.
                let bytes = bytes.clone();
                return self.send(running, handle, &bytes, (flags, to));
            }
            SystemCall::SetOption(handle, level, name, value) => {
                return self.set_option(*handle, (*level, *name), value);
            }
            SystemCall::GetOption(handle, level, name, room) => {
                return self.option(*handle, (*level, *name), *room);
            }
            SystemCall::Accept(handle, flags) => {
                let (handle, flags) = (*handle, *flags);
                self.accept(handle, flags)
            }
            SystemCall::Connect(handle, to) => self.connect(*handle, *to),
            SystemCall::Poll(list, _) => self.poll(list),
            call => self.simple(&call.clone())?,
        };
        Ok(match result {
            Ok(returned) => Attempt::Done(returned),
            Err(Errno::EAGAIN) => Attempt::Waits(Errno::EAGAIN),
            Err(Errno::EINPROGRESS) if running.blocks => Attempt::Waits(Errno::EINPROGRESS),
            // A blocking connect was told so by its own first attempt.
            Err(Errno::EALREADY) if running.blocks => Attempt::Waits(Errno::EINPROGRESS),
            Err(errno) => Attempt::Failed(errno),
        })
    }

    /// Calls that never wait.
    fn simple(&mut self, call: &SystemCall) -> Result<Result<Returned, Errno>, KernelError> {
        let refused = |why: &str| Err(KernelError::Refused(why.to_owned()));
        let value = match call {
            SystemCall::Socket(domain, kind, protocol) => {
                return self.open(*domain, *kind, *protocol);
            }
            SystemCall::Bind(handle, to) => self.socket(*handle).and_then(|socket| {
                match &socket.protocol {
                    Protocol::Tcp(tcp) => tcp.bind(*to),
                    Protocol::Udp(udp) => udp.bind(*to),
                }
                .map_err(errno::of_bind)
            }),
            SystemCall::Listen(handle, backlog) => self.socket(*handle).and_then(|socket| {
                match &socket.protocol {
                    // "if ((unsigned int)backlog > somaxconn) backlog = somaxconn"
                    Protocol::Tcp(tcp) => {
                        tcp.listen(*backlog as u32 as usize).map_err(errno::of_listen)
                    }
                    Protocol::Udp(_) => Err(Errno::EOPNOTSUPP),
                }
            }),
            SystemCall::Shutdown(handle, how) => {
                let how = match *how {
                    libc::SHUT_RD => netstack::socket::How::Read,
                    libc::SHUT_WR => netstack::socket::How::Write,
                    libc::SHUT_RDWR => netstack::socket::How::Both,
                    _ => return Ok(Err(Errno::EINVAL)),
                };
                let now = self.now;
                self.socket(*handle).and_then(|socket| {
                    match &socket.protocol {
                        Protocol::Tcp(tcp) => tcp.shutdown(now, how),
                        Protocol::Udp(udp) => udp.shutdown(now, how),
                    }
                    .map_err(errno::of_shutdown)
                })
            }
            SystemCall::Close(handle) => {
                let socket = self.sockets.get_mut(*handle).and_then(Option::take);
                socket.ok_or(Errno::EBADF).map(|socket| match &socket.protocol {
                    Protocol::Tcp(tcp) => tcp.close(self.now),
                    Protocol::Udp(udp) => udp.close(self.now),
                })
            }
            SystemCall::SetNonblocking(handle, on) => {
                let socket = self.sockets.get_mut(*handle).and_then(Option::as_mut);
                socket.ok_or(Errno::EBADF).map(|socket| socket.blocks = *on == Nonblocking::Off)
            }
            SystemCall::GetFlags(handle) => {
                let flags = self
                    .socket(*handle)
                    .map(|socket| libc::O_RDWR | if socket.blocks { 0 } else { libc::O_NONBLOCK });
                return Ok(flags.map(|flags| done(i64::from(flags))));
            }
            SystemCall::Ioctl(handle, request) => return self.ioctl(*handle, *request),
            _ => return refused("this call is of another kind"),
        };
        Ok(value.map(|()| done(0)))
    }

    fn open(
        &mut self,
        domain: i32,
        kind: i32,
        protocol: i32,
    ) -> Result<Result<Returned, Errno>, KernelError> {
        let family = match domain {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            _ => {
                return Err(KernelError::Refused("sockets are of AF_INET or AF_INET6 here".into()));
            }
        };
        let blocks = kind & libc::SOCK_NONBLOCK == 0;
        let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
        let protocol = match (kind, protocol) {
            (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {
                Protocol::Tcp(self.device.stack.tcp_socket(family))
            }
            (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => {
                Protocol::Udp(self.device.stack.udp_socket(family))
            }
            (libc::SOCK_STREAM | libc::SOCK_DGRAM, _) => return Ok(Err(Errno::EPROTONOSUPPORT)),
            _ => {
                return Err(KernelError::Refused(
                    "sockets are SOCK_STREAM or SOCK_DGRAM here".into(),
                ));
            }
        };
        Ok(Ok(done(self.put(protocol, blocks))))
    }

    fn accept(&mut self, handle: Handle, flags: i32) -> Result<Returned, Errno> {
        let socket = self.socket(handle)?;
        let Protocol::Tcp(tcp) = &socket.protocol else { return Err(Errno::EOPNOTSUPP) };
        let child = tcp.accept(self.now).map_err(errno::of_accept)?;
        let options = socket.options.clone();
        let address = child.peer_addr();
        let value = self.put(Protocol::Tcp(child), flags & libc::SOCK_NONBLOCK == 0);
        if let Some(Some(socket)) = self.sockets.last_mut() {
            socket.options = options;
        }
        Ok(Returned { address, ..done(value) })
    }

    fn connect(&self, handle: Handle, to: std::net::SocketAddr) -> Result<Returned, Errno> {
        let connected = match &self.socket(handle)?.protocol {
            Protocol::Tcp(tcp) => tcp.connect(self.now, to),
            Protocol::Udp(udp) => udp.connect(self.now, to),
        };
        match connected.map_err(errno::of_connect)? {
            Connect::Done => Ok(done(0)),
            Connect::InProgress => Err(Errno::EINPROGRESS),
        }
    }

    fn poll(&self, list: &[(Handle, i16)]) -> Result<Returned, Errno> {
        let mut events = Vec::with_capacity(list.len());
        for (handle, wanted) in list {
            let found = match self.socket(*handle) {
                Ok(socket) => match &socket.protocol {
                    Protocol::Tcp(tcp) => tcp.readiness(),
                    Protocol::Udp(udp) => udp.readiness(),
                },
                Err(_) => {
                    events.push(libc::POLLNVAL);
                    continue;
                }
            };
            events.push(poll_bits(found) & (wanted | libc::POLLERR | libc::POLLHUP));
        }
        match events.iter().filter(|events| **events != 0).count() {
            0 => Err(Errno::EAGAIN),
            ready => Ok(Returned { events, ..done(ready as i64) }),
        }
    }

    fn ioctl(&self, handle: Handle, request: u64) -> Result<Result<Returned, Errno>, KernelError> {
        const INQ: u64 = 0x541b;
        const OUTQ: u64 = 0x5411;
        let socket = match self.socket(handle) {
            Ok(socket) => socket,
            Err(errno) => return Ok(Err(errno)),
        };
        let number = match (&socket.protocol, request) {
            (Protocol::Tcp(tcp), INQ) => tcp.queued().0,
            (Protocol::Tcp(tcp), OUTQ) => tcp.queued().1,
            (Protocol::Udp(udp), INQ) => udp.next_len(),
            _ => return Err(KernelError::Refused("ioctl knows SIOCINQ and SIOCOUTQ here".into())),
        };
        let data = i32::try_from(number).unwrap_or(i32::MAX).to_ne_bytes().to_vec();
        Ok(Ok(Returned { data, ..done(0) }))
    }

    /// When the call under way gives up, and whether it waits.
    fn patience_of(&self, call: &SystemCall) -> (Option<Duration>, bool) {
        let (handle, flags, which) = match call {
            SystemCall::Poll(_, timeout) => return (*timeout, *timeout != Some(Duration::ZERO)),
            SystemCall::Accept(handle, _) => (handle, 0, 0),
            SystemCall::Receive(handle, _, flags) => (handle, *flags, 0),
            SystemCall::Connect(handle, _) => (handle, 0, 1),
            SystemCall::Send(handle, _, flags, _) => (handle, *flags, 1),
            _ => return (None, false),
        };
        match self.socket(*handle) {
            Ok(socket) => {
                (socket.timeouts[which], socket.blocks && flags & libc::MSG_DONTWAIT == 0)
            }
            Err(_) => (None, false),
        }
    }
}

/// Success with a value.
fn done(value: i64) -> Returned {
    Returned { result: Outcome::Value(value), ..Returned::default() }
}

/// What poll(2) tells of a socket.
fn poll_bits(found: Readiness) -> i16 {
    let bits = [
        (Readiness::IN, libc::POLLIN | libc::POLLRDNORM),
        (Readiness::OUT, libc::POLLOUT | libc::POLLWRNORM),
        (Readiness::PRI, libc::POLLPRI),
        (Readiness::ERR, libc::POLLERR),
        (Readiness::HUP, libc::POLLHUP),
        (Readiness::RDHUP, libc::POLLRDHUP),
    ];
    bits.iter().filter(|(bit, _)| found.contains(*bit)).fold(0, |all, (_, poll)| all | poll)
}

impl Kernel for Ours {
    fn now(&mut self) -> Duration {
        device::since_start(self.now)
    }

    fn run(&mut self, limit: Duration) -> Result<Happening, KernelError> {
        let limit = device::at(limit);
        loop {
            let mut frame = Vec::new();
            if let Some(at) = self.device.sent(&mut frame) {
                // ARP is the neighbour's affair; scripts speak of IP.
                if is_ip(&frame) {
                    let packet = frame.split_off(HEADER_LEN);
                    return Ok(Happening::Sent(device::since_start(at), packet));
                }
                continue;
            }
            if let Some(returned) = self.try_running()? {
                return Ok(Happening::Returned(returned));
            }
            if self.device.has_sent() {
                continue;
            }
            let timer = self.device.stack.next_deadline();
            let call = self.running.as_ref().and_then(|running| running.deadline);
            match timer.into_iter().chain(call).min().filter(|at| *at <= limit) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.device.stack.poll(self.now);
                }
                None => {
                    self.now = self.now.max(limit);
                    return Ok(Happening::Time);
                }
            }
        }
    }

    fn arrive(&mut self, packet: &[u8]) -> Result<(), KernelError> {
        let ether_type: [u8; 2] = match self.family {
            Family::V4 => [8, 0],
            Family::V6 => [0x86, 0xdd],
        };
        let frame = [&device::OURS[..], &device::THEIRS, &ether_type, packet].concat();
        self.device.arrive(self.now, frame);
        Ok(())
    }

    fn call(&mut self, call: SystemCall) -> Result<(), KernelError> {
        let (timeout, blocks) = self.patience_of(&call);
        let deadline = timeout.map(|timeout| self.now + timeout);
        self.running = Some(Running { call, deadline, blocks, sent: 0, received: Vec::new() });
        Ok(())
    }

    fn sysctl(&mut self, path: &str, value: &str) -> Result<(), KernelError> {
        sysctl::set(&self.device.stack, path, value).map_err(KernelError::Refused)
    }

    fn tcp_info(&mut self, socket: Handle) -> Result<Vec<(String, i64)>, KernelError> {
        Ok(match self.socket(socket).map(|socket| &socket.protocol) {
            Ok(Protocol::Tcp(tcp)) => info::of(tcp),
            _ => Vec::new(),
        })
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Endpoints know their stack, and it knows them: one of the two has to let go.
        for socket in self.sockets.iter().flatten() {
            match &socket.protocol {
                Protocol::Tcp(tcp) => tcp.abort(self.now),
                Protocol::Udp(udp) => udp.close(self.now),
            }
        }
        self.device.stack.shut_down();
    }
}

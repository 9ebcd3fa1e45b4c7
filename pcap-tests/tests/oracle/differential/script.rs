//! Scripts: calls on the sockets of two programs, from a seed. A script never depends on how an end answers.

use std::net::{IpAddr, SocketAddr};

use netstack::rng::{Rng, seed_from};

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Which socket of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Client,
    Listener,
    /// What the listener accepted last.
    Child,
}

impl Role {
    /// The end that it lives on.
    pub fn end(self) -> usize {
        usize::from(self != Role::Client)
    }
}

/// Which direction a shutdown closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Read,
    Write,
    Both,
}

/// One call.
#[derive(Clone, Debug)]
pub enum Call {
    Socket(Protocol, IpAddr),
    Bind(SocketAddr),
    Listen(usize),
    Connect(SocketAddr),
    Accept,
    /// So many bytes of a pattern that starts with the second number.
    Send(usize, u8),
    /// The last byte is urgent.
    SendUrgent(usize, u8),
    /// Two sends, the first with MSG_MORE.
    SendMore(usize, usize, u8),
    SendTo(usize, u8, SocketAddr),
    Recv(usize),
    Peek(usize),
    RecvUrgent,
    Shutdown(How),
    Close,
    /// SO_LINGER of no time: a close resets.
    LingerZero,
    /// SO_ERROR
    Error,
    Poll,
    /// Whether the other end has a name.
    PeerName,
    /// What TCP_INFO has of retransmissions, reordering and marks.
    Info,
}

/// A step of a script.
#[derive(Clone, Debug)]
pub struct Step {
    pub role: Role,
    pub call: Call,
}

/// The steps that follow from a seed.
#[derive(Debug)]
pub struct Script {
    pub seed: u64,
    pub steps: Vec<Step>,
}

/// The bytes of a send.
pub fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(salt)).collect()
}

impl Script {
    /// The script of a seed between two ends, with three ports from `port` on.
    pub fn new(seed: u64, addresses: [[&str; 2]; 2], port: u16) -> Script {
        let mut rng = Rng::new(&seed_from(seed), 0x6469_6666);
        let family = (seed % 2) as usize;
        let [client, server] =
            addresses.map(|pair| pair[family].parse::<IpAddr>().expect("an address"));
        let steps = match rng.below(5) {
            0 => datagrams(&mut rng, client, server, port),
            _ => stream(&mut rng, client, server, port),
        };
        Script { seed, steps }
    }
}

fn step(role: Role, call: Call) -> Step {
    Step { role, call }
}

fn size(rng: &mut Rng) -> usize {
    match rng.below(6) {
        0 => 1,
        1 | 2 => rng.below(100) as usize + 1,
        3 | 4 => rng.below(1500) as usize + 1,
        _ => rng.below(6000) as usize + 1,
    }
}

fn how(rng: &mut Rng) -> How {
    [How::Read, How::Write, How::Write, How::Both][rng.below(4) as usize]
}

fn look(rng: &mut Rng) -> Call {
    match rng.below(4) {
        0 => Call::Error,
        1 => Call::PeerName,
        _ => Call::Poll,
    }
}

/// The end of each script: what is left is looked at, read and closed.
fn ending(steps: &mut Vec<Step>, roles: &[Role]) {
    for role in roles {
        for call in [Call::Poll, Call::Error, Call::Recv(1 << 17), Call::Recv(1 << 17), Call::Poll]
        {
            steps.push(step(*role, call));
        }
    }
    for role in roles {
        steps.push(step(*role, Call::Close));
    }
}

fn stream(rng: &mut Rng, client: IpAddr, server: IpAddr, port: u16) -> Vec<Step> {
    let at = SocketAddr::new(server, port);
    let mut steps = vec![step(Role::Client, Call::Socket(Protocol::Tcp, client))];
    steps.push(step(Role::Client, look(rng)));
    let listens = rng.below(20) != 0;
    if listens {
        steps.push(step(Role::Listener, Call::Socket(Protocol::Tcp, server)));
        steps.push(step(Role::Listener, Call::Bind(at)));
        steps.push(step(Role::Listener, Call::Listen(rng.below(4) as usize)));
    }
    if rng.below(10) == 0 {
        steps.push(step(Role::Client, Call::Bind(SocketAddr::new(client, port + 1))));
    }
    steps.push(step(Role::Client, Call::Connect(at)));
    if rng.below(8) != 0 {
        steps.push(step(Role::Listener, Call::Accept));
    }
    for _ in 0..4 + rng.below(14) {
        steps.push(stream_step(rng, at));
    }
    ending(&mut steps, &[Role::Client, Role::Child, Role::Listener]);
    steps
}

fn stream_step(rng: &mut Rng, at: SocketAddr) -> Step {
    let role = if rng.below(2) == 0 { Role::Client } else { Role::Child };
    let salt = rng.below(256) as u8;
    let call = match rng.below(40) {
        0..=11 => Call::Send(size(rng), salt),
        12 => Call::SendMore(size(rng), size(rng), salt),
        13..=20 => Call::Recv(size(rng) * 2),
        21..=22 => Call::Peek(size(rng)),
        23..=25 => Call::Shutdown(how(rng)),
        26..=27 => Call::Close,
        28 => Call::LingerZero,
        29 => Call::Connect(at),
        30 => return step(Role::Listener, Call::Accept),
        31 => return step(Role::Listener, Call::Close),
        32 => return step(Role::Listener, look(rng)),
        33 => return step(Role::Listener, Call::Shutdown(how(rng))),
        34 => Call::SendUrgent(size(rng), salt),
        35 => Call::RecvUrgent,
        _ => look(rng),
    };
    step(role, call)
}

fn datagrams(rng: &mut Rng, client: IpAddr, server: IpAddr, port: u16) -> Vec<Step> {
    let (here, there) = (SocketAddr::new(client, port + 1), SocketAddr::new(server, port));
    let closed = SocketAddr::new(server, port + 2);
    let mut steps = vec![step(Role::Client, Call::Socket(Protocol::Udp, client))];
    steps.push(step(Role::Client, Call::Bind(here)));
    steps.push(step(Role::Listener, Call::Socket(Protocol::Udp, server)));
    steps.push(step(Role::Listener, Call::Bind(there)));
    for _ in 0..4 + rng.below(14) {
        let role = if rng.below(3) == 0 { Role::Listener } else { Role::Client };
        let peer = if role == Role::Client { there } else { here };
        let salt = rng.below(256) as u8;
        let call = match rng.below(20) {
            0..=1 => Call::Connect(if rng.below(3) == 0 { closed } else { peer }),
            2..=4 => Call::Send(size(rng) - 1, salt),
            5..=8 => Call::SendTo(size(rng), salt, peer),
            9..=10 => Call::SendTo(size(rng), salt, closed),
            11..=14 => Call::Recv(size(rng)),
            15 => Call::Peek(size(rng)),
            // Not SHUT_RD: a receive after it answers by whether it may wait (EAGAIN or 0), and the stack is never told.
            16 => Call::Shutdown(How::Write),
            17 => Call::Close,
            _ => look(rng),
        };
        // The closed port is one of the server's: its owner would send to itself.
        let own = role == Role::Listener
            && matches!(call, Call::SendTo(_, _, to) | Call::Connect(to) if to == closed);
        if !own {
            steps.push(step(role, call));
        }
    }
    ending(&mut steps, &[Role::Client, Role::Listener]);
    steps
}

//! Both ends in one stack: a stream over loopback, and short connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use netstack::ip::Family;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{RecvError, RecvFlags, SendError, SendFlags};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::{Duration, Instant};

use crate::measure::{Runs, Samples, cpu, gbits};

const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 40_000;
/// Slots of the reference's ring: what a socket of ours may hold, too.
const SLOTS: usize = 4;
/// Not an ephemeral one: many idle connections may have taken those of all addresses.
const PORT: u16 = 2000;
const CONNECTIONS: usize = 5_000;

/// A stack that has only a loopback interface.
pub fn alone() -> Arc<Stack> {
    let stack = Stack::new(Config::new([7; 32]));
    stack.add_nic(NicConfig::loopback()).expect("a loopback interface");
    stack
}

/// A connected pair; the listener is closed again.
pub fn pair(stack: &Arc<Stack>, now: Instant) -> (TcpSocket, TcpSocket) {
    let listener = stack.tcp_socket(Family::V4);
    listener.bind((Ipv4Addr::LOCALHOST, PORT).into()).expect("a port");
    listener.listen(16).expect("a listener");
    let ends = connect(stack, now, &listener, Ipv4Addr::LOCALHOST);
    listener.close(now);
    ends
}

/// One more connection to a listener: the client's end and the server's.
pub fn connect(
    stack: &Arc<Stack>,
    now: Instant,
    listener: &TcpSocket,
    to: Ipv4Addr,
) -> (TcpSocket, TcpSocket) {
    let client = stack.tcp_socket(Family::V4);
    let target = SocketAddr::from((to, listener.local_addr().port()));
    client.connect(now, target).expect("a connection");
    let server = listener.accept(now).expect("the other end");
    (client, server)
}

/// A clock for what needs time only to go on.
pub struct Clock(std::time::Instant, Duration);

impl Clock {
    pub fn new() -> Clock {
        Clock(std::time::Instant::now(), Duration::from_secs(1))
    }

    pub fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed() + self.1
    }

    pub fn skip(&mut self, time: Duration) {
        self.1 += time;
    }
}

pub fn loopback(runs: Runs) -> Samples {
    runs.pairs(our_loopback, ring)
}

fn our_loopback() -> f64 {
    let (stack, clock) = (alone(), Clock::new());
    let (one, other) = pair(&stack, clock.now());
    let (block, mut room) = (vec![0x5a; BLOCK], vec![0; BLOCK]);
    let mut pass = |blocks: usize| {
        let (mut sent, mut got) = (0, 0);
        while got < blocks * BLOCK {
            let mut source = &block[sent % BLOCK..];
            match one.send(clock.now(), &mut source, SendFlags::empty()) {
                Ok(n) => sent += n,
                Err(SendError::WouldBlock) => {}
                Err(error) => panic!("send: {error}"),
            }
            match other.recv(clock.now(), &mut &mut room[..], RecvFlags::empty()) {
                Ok(n) => got += n,
                Err(RecvError::WouldBlock) => stack.poll(clock.now()),
                Err(error) => panic!("receive: {error}"),
            }
        }
    };
    pass(BLOCKS / 10);
    let start = cpu();
    pass(BLOCKS);
    let result = gbits(BLOCKS * BLOCK, cpu() - start);
    one.abort(clock.now());
    other.abort(clock.now());
    result
}

/// The least that passing bytes between two programs can cost: a copy in, a copy out.
fn ring() -> f64 {
    let (block, mut room) = (vec![0x5a_u8; BLOCK], vec![0_u8; BLOCK]);
    let mut slots = vec![vec![0_u8; BLOCK]; SLOTS];
    let start = cpu();
    for n in 0..BLOCKS {
        let slot = &mut slots[n % SLOTS];
        slot.copy_from_slice(std::hint::black_box(&block));
        std::hint::black_box(&mut room).copy_from_slice(std::hint::black_box(slot));
    }
    gbits(BLOCKS * BLOCK, cpu() - start)
}

pub fn churn(runs: Runs) -> Samples {
    let mut round = 0;
    runs.pairs(our_churn, || {
        round += 1;
        native_churn(round)
    })
}

/// Microseconds of CPU of a whole connection, both ends on one thread.
fn our_churn() -> f64 {
    let (stack, mut clock) = (alone(), Clock::new());
    let listener = stack.tcp_socket(Family::V4);
    listener.listen(128).expect("a listener");
    let mut room = [0];
    let mut round = |count: usize| {
        for _ in 0..count {
            let (client, server) = connect(&stack, clock.now(), &listener, Ipv4Addr::LOCALHOST);
            assert_eq!(client.send(clock.now(), &mut &[7][..], SendFlags::empty()), Ok(1));
            assert_eq!(server.recv(clock.now(), &mut &mut room[..], RecvFlags::empty()), Ok(1));
            client.close(clock.now());
            server.close(clock.now());
        }
    };
    round(CONNECTIONS / 10);
    let start = cpu();
    round(CONNECTIONS);
    // TIME-WAIT ends within the measurement, too; a deadline that is put off once needs a second look.
    for _ in 0..2 {
        clock.skip(Duration::from_secs(61));
        stack.poll(clock.now());
    }
    let result = (cpu() - start) * 1e6 / CONNECTIONS as f64;
    assert_eq!(stack.usage(), (1, 1), "connections leaked");
    listener.close(clock.now());
    result
}

fn native_churn(round: u8) -> f64 {
    let status =
        Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip (iproute2)");
    assert!(status.success());
    // An address of its own a round: those of the rounds before are in TIME-WAIT.
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 1, round), 0)).expect("a listener");
    let target = listener.local_addr().expect("its address");
    let mut byte = [7];
    let mut round = |count: usize| {
        for _ in 0..count {
            let mut client = TcpStream::connect(target).expect("a connection");
            let (mut server, _) = listener.accept().expect("the other end");
            client.write_all(&byte).expect("a byte");
            server.read_exact(&mut byte).expect("a byte");
            drop(client);
            drop(server);
        }
    };
    round(CONNECTIONS / 10);
    let start = cpu();
    round(CONNECTIONS);
    (cpu() - start) * 1e6 / CONNECTIONS as f64
}

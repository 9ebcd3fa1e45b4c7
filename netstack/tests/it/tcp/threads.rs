//! Threads that share a stack: its locks must neither deadlock nor lose bytes, whoever runs when.

use super::pattern;
use super::scenarios::alone;
use netstack::ip::Family;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{Connect, ConnectError, How, RecvError, RecvFlags, SendError, SendFlags};
use netstack::stack::Stack;
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// A clock that goes on whenever somebody looks at it.
#[derive(Default)]
struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> Instant {
        Instant::from_micros(1_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

fn serve(clock: &Clock, listener: &TcpSocket, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept(clock.now()) {
            Ok(socket) => echo(clock, &socket),
            Err(_) => thread::yield_now(),
        }
    }
}

fn echo(clock: &Clock, socket: &TcpSocket) {
    let mut bytes = vec![0; 50_000];
    loop {
        let mut room = &mut bytes[..];
        match socket.recv(clock.now(), &mut room, RecvFlags::empty()) {
            Ok(0) => return socket.close(clock.now()),
            Ok(n) => send_all(clock, socket, &bytes[..n]),
            Err(RecvError::WouldBlock) => thread::yield_now(),
            Err(error) => panic!("server: {error}"),
        }
    }
}

fn send_all(clock: &Clock, socket: &TcpSocket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match socket.send(clock.now(), &mut bytes, SendFlags::empty()) {
            Ok(_) => {}
            Err(SendError::WouldBlock) => thread::yield_now(),
            Err(error) => panic!("send: {error}"),
        }
    }
}

fn ask(clock: &Clock, stack: &Arc<Stack>, target: SocketAddr, bytes: &[u8]) {
    let socket = stack.tcp_socket(Family::V4);
    loop {
        match socket.connect(clock.now(), target) {
            Ok(Connect::Done) => break,
            Ok(Connect::InProgress) | Err(ConnectError::Already) => thread::yield_now(),
            Err(error) => panic!("connect: {error}"),
        }
    }
    let (mut left, mut answer, mut shut) = (bytes, Vec::new(), false);
    loop {
        if !left.is_empty() {
            match socket.send(clock.now(), &mut left, SendFlags::empty()) {
                Ok(_) | Err(SendError::WouldBlock) => {}
                Err(error) => panic!("client: {error}"),
            }
        } else if !shut {
            socket.shutdown(clock.now(), How::Write).unwrap();
            shut = true;
        }
        match socket.recv(clock.now(), &mut answer, RecvFlags::empty()) {
            Ok(0) => break,
            Ok(_) => {}
            Err(RecvError::WouldBlock) => thread::yield_now(),
            Err(error) => panic!("client: {error}"),
        }
    }
    assert!(answer == bytes, "{} of {} bytes came back", answer.len(), bytes.len());
    socket.close(clock.now());
}

#[test]
fn threads_share_a_stack_without_losing_bytes() {
    let (stack, clock, stop) = (alone(), Clock::default(), AtomicBool::new(false));
    let listener = stack.tcp_socket(Family::V4);
    listener.listen(100).unwrap();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().port()));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| serve(&clock, &listener, &stop));
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                stack.poll(clock.now());
                thread::yield_now();
            }
        });
        let clients = [1, 2, 3].map(|salt| {
            let (clock, stack) = (&clock, &stack);
            scope.spawn(move || {
                for round in 0..60 {
                    ask(clock, stack, target, &pattern(round * 1777, salt));
                }
            })
        });
        let results = clients.map(thread::ScopedJoinHandle::join);
        stop.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    listener.close(clock.now());
    // TIME-WAIT, and an earlier deadline that is put off once.
    for _ in 0..2 {
        clock.0.fetch_add(Duration::from_secs(61).as_micros() as u64, Ordering::Relaxed);
        stack.poll(clock.now());
    }
    assert_eq!((stack.shared().demux.len(), stack.shared().ports.len()), (0, 0));
}

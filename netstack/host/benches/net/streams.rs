//! TCP over the TAP device: CPU of sending and of receiving, wall-clock rate, round trips.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Instant as Wall;

use nix::sched::{CloneFlags, unshare};

use crate::bed::{Bed, HOST, discard};
use crate::measure::{Runs, Samples, cpu, gbits, median};
use crate::raw;

/// Bytes of one measurement of a stream.
const VOLUME: usize = 2 << 30;
/// Bytes before it, in which windows open.
const WARM_UP: usize = 128 << 20;
const BLOCK: usize = 64 << 10;
const TRIPS: usize = 10_000;

pub fn send_cpu(runs: Runs) -> Samples {
    runs.pairs(|| send(|seconds, _| gbits(VOLUME, seconds)), raw::gso_writes)
}

pub fn send_wall(runs: Runs) -> Samples {
    runs.pairs(|| send(|_, seconds| gbits(VOLUME, seconds)), native_veth)
}

/// Sends a stream to the host; `figure` takes its seconds of CPU and of wall time.
fn send(figure: impl Fn(f64, f64) -> f64) -> f64 {
    let mut bed = Bed::new();
    let listener = TcpListener::bind((HOST, 7000)).expect("a listener");
    let sink = std::thread::spawn(move || discard(&listener.accept().expect("a connection").0));
    let socket = bed.connect((HOST.parse::<std::net::IpAddr>().expect("an address"), 7000).into());
    let block = vec![0x5a; BLOCK];
    (0..WARM_UP / BLOCK).for_each(|_| bed.send(&socket, &block));
    let (wall, start) = (Wall::now(), cpu());
    (0..VOLUME / BLOCK).for_each(|_| bed.send(&socket, &block));
    let result = figure(cpu() - start, wall.elapsed().as_secs_f64());
    socket.abort(bed.now());
    sink.join().expect("the sink");
    result
}

pub fn receive_cpu(runs: Runs) -> Samples {
    runs.pairs(receive, raw::gso_reads)
}

/// Receives a stream from the host, with its copy.
fn receive() -> f64 {
    let mut bed = Bed::new();
    let listener = TcpListener::bind((HOST, 7001)).expect("a listener");
    let source = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let block = vec![0x5a; BLOCK];
        while stream.write_all(&block).is_ok() {}
    });
    let socket = bed.connect((HOST.parse::<std::net::IpAddr>().expect("an address"), 7001).into());
    let mut room = vec![0; BLOCK];
    let mut left = WARM_UP;
    while left > 0 {
        left = left.saturating_sub(bed.receive(&socket, &mut room));
    }
    let start = cpu();
    let mut got = 0;
    while got < VOLUME {
        got += bed.receive(&socket, &mut room);
    }
    let result = gbits(got, cpu() - start);
    socket.abort(bed.now());
    source.join().expect("the source");
    result
}

/// The host's own stacks in two namespaces that a veth joins.
fn native_veth() -> f64 {
    let (hand, ready) = std::sync::mpsc::channel();
    let (done, over) = std::sync::mpsc::channel::<()>();
    let (linked, wait_link) = std::sync::mpsc::channel::<()>();
    let sink = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        hand.send(nix::unistd::gettid().as_raw()).expect("the sender waits");
        wait_link.recv().expect("the link");
        ip("link set lo up");
        ip("addr add 10.78.0.2/24 dev vb");
        ip("link set vb up");
        let listener = TcpListener::bind(("10.78.0.2", 7002)).expect("a listener");
        hand.send(0).expect("the sender waits");
        discard(&listener.accept().expect("a connection").0);
        hand.send(0).expect("the sender waits");
        // The device goes with this namespace: it must not go while the other end is still wanted.
        over.recv().expect("the sender's word");
    });
    let tid = ready.recv().expect("the other namespace");
    ip("link add va type veth peer name vb");
    ip(&format!("link set vb netns {tid}"));
    ip("addr add 10.78.0.1/24 dev va");
    ip("link set va up");
    linked.send(()).expect("the sink waits");
    ready.recv().expect("the listener");
    let mut stream = TcpStream::connect(("10.78.0.2", 7002)).expect("a connection over the veth");
    let block = vec![0x5a; BLOCK];
    (0..WARM_UP / BLOCK).for_each(|_| stream.write_all(&block).expect("the veth"));
    let start = Wall::now();
    (0..VOLUME / BLOCK).for_each(|_| stream.write_all(&block).expect("the veth"));
    let result = gbits(VOLUME, start.elapsed().as_secs_f64());
    drop(stream);
    ready.recv().expect("the end of the stream");
    ip("link del va");
    done.send(()).expect("the sink waits");
    sink.join().expect("the sink");
    result
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("ip (iproute2)");
    assert!(status.success(), "ip {words}");
}

pub fn round_trip(runs: Runs) -> Samples {
    runs.pairs(our_round_trip, native_round_trip)
}

fn echo_one(listener: TcpListener) {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}

fn p50_us(mut trip: impl FnMut()) -> f64 {
    (0..TRIPS / 10).for_each(|_| trip());
    let times: Vec<f64> = (0..TRIPS)
        .map(|_| {
            let start = Wall::now();
            trip();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    median(&times)
}

fn our_round_trip() -> f64 {
    let mut bed = Bed::new();
    let listener = TcpListener::bind((HOST, 7003)).expect("a listener");
    let echo = std::thread::spawn(move || echo_one(listener));
    let socket = bed.connect((HOST.parse::<std::net::IpAddr>().expect("an address"), 7003).into());
    socket.set_option(bed.now(), netstack::socket::TcpOption::NoDelay(true)).expect("TCP_NODELAY");
    let mut room = [0];
    let result = p50_us(|| {
        bed.send(&socket, &[7]);
        assert_eq!(bed.receive(&socket, &mut room), 1);
    });
    socket.abort(bed.now());
    echo.join().expect("the echo");
    result
}

fn native_round_trip() -> f64 {
    ip("link set lo up");
    let listener = TcpListener::bind(("127.0.0.1", 7004)).expect("a listener");
    let echo = std::thread::spawn(move || echo_one(listener));
    let mut stream = TcpStream::connect(("127.0.0.1", 7004)).expect("a connection");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut byte = [7];
    let result = p50_us(|| {
        stream.write_all(&byte).expect("the echo");
        stream.read_exact(&mut byte).expect("the echo");
    });
    drop(stream);
    echo.join().expect("the echo");
    result
}

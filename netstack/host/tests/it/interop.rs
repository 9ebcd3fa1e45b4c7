//! Streams between the stack and Linux over links of every kind: MTU, offload, loss, delay, reordering, duplication; both directions and
//! families, each congestion control. All bytes arrive, and none of our streams stands still for longer than Linux's own do over
//! the same link (two namespaces of Linux, joined by the same faults).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant as Moment};

use netstack::buffer::PacketBuffer;
use netstack::ip::{Family, IpCidr};
use netstack::link::fault::{FaultLink, Faults, Injector};
use netstack::link::{Link, MacAddr, NicKind};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{How, RecvError, RecvFlags, SendFlags};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::Instant;
use netstack::transport::Host;
use netstack::transport::tcp::{TcpConfig, congestion};
use netstack_host::device::{Device, FrameRoom, Offloading};
use netstack_host::driver::{Clock, Driver, Feed};
use netstack_host::tap::{Tap, TapConfig};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

use crate::tap::{Bell, at, bell, cidr, pattern};

/// A stream that takes this long has hung.
const PATIENCE: Duration = Duration::from_secs(120);
const BYTES: usize = 200_000;
/// The near end is ours, or Linux in its place.
const NEAR: [&str; 2] = ["10.78.0.2", "fd78::2"];
const FAR: [&str; 2] = ["10.78.0.1", "fd78::1"];

/// A kind of link.
#[derive(Clone, Copy, Debug)]
struct Path {
    mtu: u32,
    offloading: Offloading,
    name: &'static str,
    faults: Faults,
    /// Which frames meet the faults.
    seed: [u8; 32],
}

/// Which end sends; it also connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sender {
    Near,
    Far,
}

/// One stream over a path.
#[derive(Clone, Debug)]
struct Flow {
    sender: Sender,
    family: usize,
    control: String,
    port: u16,
}

impl Flow {
    /// Where the receiving end listens.
    fn target(&self) -> SocketAddr {
        let hosts = if self.sender == Sender::Near { FAR } else { NEAR };
        at(hosts[self.family], self.port)
    }

    fn data(&self) -> Vec<u8> {
        let mut data = pattern(BYTES + usize::from(self.port));
        data.rotate_left(usize::from(self.port) % 1000);
        data
    }
}

/// What Linux offers on this machine.
fn linux_controls() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    text.expect("the controls").split_whitespace().map(str::to_owned).collect()
}

fn flows(path: Path) -> Vec<Flow> {
    let ours = congestion::AVAILABLE.iter().map(|name| (Sender::Near, (*name).to_owned()));
    let theirs = linux_controls().into_iter().map(|name| (Sender::Far, name));
    // RFC 8200 section 5: IPv6 needs links of 1,280 bytes.
    let families = if path.mtu < 1280 { 1 } else { 2 };
    let pairs =
        ours.chain(theirs).flat_map(|pair| (0..families).map(move |family| (pair.clone(), family)));
    pairs
        .zip(7000..)
        .map(|(((sender, control), family), port)| Flow { sender, family, control, port })
        .collect()
}

/// Linux receives a whole stream; gives the longest time in which nothing came.
fn linux_receives(listener: &TcpListener, expected: &[u8]) -> Duration {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let (mut found, mut buffer) = (Vec::new(), vec![0; 65_536]);
    let (mut last, mut longest) = (Moment::now(), Duration::ZERO);
    loop {
        let n = stream.read(&mut buffer).expect("the stream goes on");
        longest = longest.max(last.elapsed());
        last = Moment::now();
        if n == 0 {
            break;
        }
        found.extend_from_slice(&buffer[..n]);
    }
    assert!(found == expected, "{} bytes of {} or other ones", found.len(), expected.len());
    longest
}

/// Linux connects and sends a whole stream.
fn linux_sends(flow: &Flow) {
    let mut stream = TcpStream::connect(flow.target()).expect("a connection");
    // The name may be one that only our stack has: then Linux's default does.
    let _ = setsockopt(&stream, sockopt::TcpCongestion, &flow.control.clone().into());
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(&flow.data()).expect("the stream goes on");
    stream.shutdown(std::net::Shutdown::Write).expect("an end");
    // The peer's end says that all has arrived.
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    assert_eq!(stream.read(&mut [0; 1]).expect("the peer's end"), 0);
}

/// A namespace of Linux with one end of the link: its device, and a thread in it that runs what it is given.
struct Place {
    tap: Arc<Tap>,
    run: std::sync::mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

impl Place {
    fn new(addresses: Vec<IpCidr>, path: Path) -> Place {
        let (run, jobs) = channel::<Box<dyn FnOnce() + Send>>();
        let (made, device) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: these tests need root");
            // No time for duplicate address detection; IPv6 addresses are usable at once.
            for (file, value) in
                [("dad_transmits", "0"), ("accept_dad", "0"), ("router_solicitations", "0")]
            {
                let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{file}"), value);
            }
            let config = TapConfig {
                host_addresses: addresses,
                mtu: path.mtu,
                offloading: path.offloading,
                ..TapConfig::default()
            };
            made.send(Tap::open(&config).expect("a device")).expect("the test waits");
            jobs.into_iter().for_each(|job| job());
        });
        Place { tap: device.recv().expect("a device"), run }
    }

    /// Runs something on a new thread in this namespace; what it gives comes through the channel.
    fn start<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (done, result) = channel();
        // A new thread is in the namespace of the one that makes it.
        let job = move || {
            std::thread::spawn(move || done.send(job()));
        };
        self.run.send(Box::new(job)).expect("the namespace's thread");
        result
    }

    /// Linux listens for a stream and receives it, once this returns.
    fn receive(&self, flow: &Flow) -> Receiver<Duration> {
        let (flow, target) = (flow.clone(), flow.target());
        let (ready, listening) = channel();
        let result = self.start(move || {
            // An IPv6 address is usable once a worker of the kernel has looked at it.
            let listener = loop {
                match TcpListener::bind(target) {
                    Ok(listener) => break listener,
                    Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                        std::thread::yield_now();
                    }
                    Err(error) => panic!("{target}: {error}"),
                }
            };
            ready.send(()).expect("the test waits");
            linux_receives(&listener, &flow.data())
        });
        listening.recv().expect("a listener");
        result
    }

    fn send(&self, flow: &Flow) -> Receiver<()> {
        let flow = flow.clone();
        self.start(move || linux_sends(&flow))
    }
}

fn cidrs(hosts: [&str; 2], path: Path) -> Vec<IpCidr> {
    let all = [cidr(hosts[0], 24), cidr(hosts[1], 64)];
    all[..if path.mtu < 1280 { 1 } else { 2 }].to_vec()
}

fn clock() -> Clock {
    let start = Moment::now();
    Arc::new(move || Instant::from_nanos(start.elapsed().as_nanos() as u64 + 1))
}

/// Carries frames between two devices with faults, until it is told to stop.
fn carry(taps: &[Arc<Tap>; 2], path: Path, stop: &AtomicBool) {
    let clock = clock();
    let mut injectors = [1, 2].map(|way| Injector::new(path.faults, &path.seed, way));
    let mut flying: BTreeMap<(Instant, u64), (usize, PacketBuffer)> = BTreeMap::new();
    let (mut buffer, mut order) = (FrameRoom::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        let wait = flying
            .first_key_value()
            .map_or(Duration::from_millis(10), |((due, _), _)| due.since(clock()));
        let mut polled = [0, 1].map(|n| PollFd::new(taps[n].as_fd(), PollFlags::POLLIN));
        let timeout = if wait.is_zero() {
            PollTimeout::ZERO
        } else {
            PollTimeout::from(wait.as_millis().min(10) as u8)
        };
        poll(&mut polled, timeout).expect("poll");
        for (n, tap) in taps.iter().enumerate() {
            while let Some(frame) = tap.receive(&mut buffer).expect("a device") {
                injectors[n].apply(clock(), frame, &mut |due, frame| {
                    order += 1;
                    flying.insert((due, order), (1 - n, frame));
                });
            }
        }
        while flying.first_key_value().is_some_and(|((due, _), _)| *due <= clock()) {
            if let Some((_, (to, frame))) = flying.pop_first() {
                // A full queue drops, as on any link.
                let _ = taps[to].transmit(clock(), &frame);
            }
        }
    }
}

/// The longest time in which nothing came of any flow between two ends that are Linux.
fn linux_alone(path: Path, flows: &[Flow]) -> Duration {
    let (near, far) = (Place::new(cidrs(NEAR, path), path), Place::new(cidrs(FAR, path), path));
    let (stop, taps) = (AtomicBool::new(false), [near.tap.clone(), far.tap.clone()]);
    std::thread::scope(|scope| {
        scope.spawn(|| carry(&taps, path, &stop));
        let ends =
            |flow: &Flow| if flow.sender == Sender::Near { (&near, &far) } else { (&far, &near) };
        let received: Vec<_> = flows.iter().map(|flow| ends(flow).1.receive(flow)).collect();
        let sent: Vec<_> = flows.iter().map(|flow| ends(flow).0.send(flow)).collect();
        let wait = |result: &Receiver<Duration>| result.recv_timeout(PATIENCE);
        let longest: Vec<_> = received.iter().map(wait).collect();
        let finished: Vec<_> = sent.iter().map(|done| done.recv_timeout(PATIENCE)).collect();
        stop.store(true, Ordering::Relaxed);
        for (flow, end) in flows.iter().zip(finished) {
            end.unwrap_or_else(|_| panic!("{path:?}: Linux to Linux did not end: {flow:?}"));
        }
        longest.into_iter().map(|time| time.expect("a stream of Linux")).max().unwrap_or_default()
    })
}

/// One of our ends of a flow.
struct Ours {
    socket: TcpSocket,
    flow: Flow,
    data: Vec<u8>,
    done: usize,
    found: Vec<u8>,
    last: Moment,
    longest: Duration,
    finished: bool,
}

impl Ours {
    fn new(socket: TcpSocket, flow: Flow) -> Ours {
        let (data, last) = (flow.data(), Moment::now());
        Ours {
            socket,
            flow,
            data,
            done: 0,
            found: Vec::new(),
            last,
            longest: Duration::ZERO,
            finished: false,
        }
    }

    /// Does what can be done.
    fn work(&mut self, now: Instant) {
        match self.flow.sender {
            Sender::Near => self.send(now),
            Sender::Far => self.receive(now),
        }
    }

    fn send(&mut self, now: Instant) {
        while self.done < self.data.len() {
            match self.socket.send(now, &mut &self.data[self.done..], SendFlags::empty()) {
                Ok(n) => self.done += n,
                Err(netstack::socket::SendError::WouldBlock) => return,
                Err(error) => panic!("{:?}: {error}", self.flow),
            }
            if self.done == self.data.len() {
                self.socket.shutdown(now, How::Write).expect("an end");
            }
        }
        match self.socket.recv(now, &mut Vec::new(), RecvFlags::empty()) {
            Ok(0) => self.finished = true,
            Err(RecvError::WouldBlock) => {}
            other => panic!("{:?}: {other:?}", self.flow),
        }
    }

    fn receive(&mut self, now: Instant) {
        loop {
            let got = self.socket.recv(now, &mut self.found, RecvFlags::empty());
            if let Err(RecvError::WouldBlock) = got {
                return;
            }
            self.longest = self.longest.max(self.last.elapsed());
            self.last = Moment::now();
            match got {
                Ok(0) => {
                    assert!(self.found == self.data, "{:?}: other bytes", self.flow);
                    self.socket.close(now);
                    self.finished = true;
                    return;
                }
                Ok(_) => {}
                Err(error) => panic!("{:?}: {error}", self.flow),
            }
        }
    }
}

/// Our stack on a device, with the faults around it.
struct Near {
    stack: Arc<Stack>,
    clock: Clock,
    _driver: Driver,
}

impl Near {
    fn new(tap: &Arc<Tap>, path: Path) -> Near {
        let stack = Stack::new(Config::new([42; 32]));
        let link: Arc<dyn Link> = match path.faults == Faults::default() {
            true => tap.clone(),
            false => Arc::new(FaultLink::new(tap.clone(), path.faults, path.faults, &path.seed)),
        };
        let (name, mac) = ("eth0".to_owned(), MacAddr([2, 0, 0, 0, 0, 2]));
        let nic = NicConfig { name, kind: NicKind::Ethernet, mac, mtu: tap.mtu(), link };
        let nic = stack.add_nic(nic).expect("an interface");
        for address in cidrs(NEAR, path) {
            stack.add_address(nic, address).expect("an address");
        }
        let clock = clock();
        let driver =
            Driver::start(stack.clone(), vec![Feed { nic, device: tap.clone() }], clock.clone());
        Near { stack, clock, _driver: driver.expect("a driver") }
    }

    fn connect(&self, flow: &Flow, waker: Arc<Bell>) -> Ours {
        let control = congestion::AVAILABLE.iter().find(|name| **name == flow.control);
        let congestion = control.expect("a control of ours");
        let tcp = &self.stack.shared().tcp;
        tcp.set_config(TcpConfig { congestion, ..TcpConfig::clone(&tcp.config()) });
        let socket = self.stack.tcp_socket(Family::of(flow.target().ip()));
        socket.set_waker(waker);
        socket.connect((self.clock)(), flow.target()).expect("a connect");
        Ours::new(socket, flow.clone())
    }

    fn listen(&self, flow: &Flow, waker: Arc<Bell>) -> TcpSocket {
        let socket = self.stack.tcp_socket(Family::of(flow.target().ip()));
        socket.set_waker(waker);
        socket.bind(flow.target()).expect("a port");
        socket.listen(1).expect("a listener");
        socket
    }
}

/// The longest time in which nothing came of any flow between our stack and Linux.
fn with_ours(path: Path, flows: &[Flow]) -> Duration {
    let far = Place::new(cidrs(FAR, path), path);
    let near = Near::new(&far.tap, path);
    let (waker, ring) = bell();
    let (ups, downs): (Vec<&Flow>, Vec<&Flow>) =
        flows.iter().partition(|flow| flow.sender == Sender::Near);
    let received: Vec<_> = ups.iter().map(|flow| far.receive(flow)).collect();
    let mut listeners: Vec<_> =
        downs.iter().map(|flow| (near.listen(flow, waker.clone()), *flow)).collect();
    let mut streams: Vec<Ours> = ups.iter().map(|flow| near.connect(flow, waker.clone())).collect();
    let sent: Vec<_> = downs.iter().map(|flow| far.send(flow)).collect();
    let started = Moment::now();
    loop {
        let now = (near.clock)();
        listeners.retain(|(listener, flow)| match listener.accept(now) {
            Ok(socket) => {
                socket.set_waker(waker.clone());
                streams.push(Ours::new(socket, (*flow).clone()));
                listener.close(now);
                false
            }
            Err(_) => true,
        });
        streams.iter_mut().filter(|stream| !stream.finished).for_each(|stream| stream.work(now));
        if listeners.is_empty() && streams.iter().all(|stream| stream.finished) {
            break;
        }
        if started.elapsed() > PATIENCE {
            let open: Vec<_> = streams
                .iter()
                .filter(|s| !s.finished)
                .map(|s| (&s.flow, s.socket.info()))
                .collect();
            panic!(
                "{path:?}: these did not end: {open:#?}, and of these nothing came: {}",
                listeners.len()
            );
        }
        // Also without news, since the wake-up of a socket that was just accepted may have gone to nobody.
        let _ = ring.recv_timeout(Duration::from_millis(50));
    }
    sent.iter().for_each(|done| done.recv_timeout(PATIENCE).expect("Linux ends"));
    let theirs =
        received.iter().map(|result| result.recv_timeout(PATIENCE).expect("Linux receives"));
    let longest = theirs.chain(streams.iter().map(|stream| stream.longest)).max();
    longest.unwrap_or_default()
}

fn paths() -> Vec<Path> {
    let delay = Duration::from_millis(5);
    let none = Faults::default();
    let reorder_delay = Duration::from_millis(3);
    let faults = [
        ("clean", none),
        ("loss", Faults { loss_ppm: 20_000, ..Faults::delay(delay) }),
        ("delay", Faults { jitter: Duration::from_millis(2), ..Faults::delay(delay * 4) }),
        ("reordering", Faults { reorder_ppm: 50_000, reorder_delay, ..Faults::delay(delay) }),
        ("duplication", Faults { duplicate_ppm: 50_000, ..Faults::delay(delay) }),
        ("all at once", Faults::lossy(delay)),
    ];
    let mut paths = Vec::new();
    for mtu in [576, 1280, 1500, 9000, 65_521] {
        for offloading in [Offloading::None, Offloading::Full] {
            paths.extend(faults.map(|(name, faults)| Path {
                mtu,
                offloading,
                name,
                faults,
                seed: [0; 32],
            }));
        }
    }
    paths
}

/// Linux's own longest pause is a sample of one: chance may give ours twice that, and three time-outs in a row (0.2 + 0.4 + 0.8 s) where few
/// large segments meet much loss on a busy machine. A stack that waits for something that never comes stands still for longer.
fn allowance(linux: Duration) -> Duration {
    linux * 2 + Duration::from_secs(2)
}

/// Each seed chooses other frames to lose. Where that is a SYN+ACK, Linux as a client takes the second that it waited for a round trip (its
/// timestamp echoes the first SYN) and stands still for three seconds at the next time-out, whoever its server is. What is wrong with
/// a stack shows whatever is lost.
const SEEDS: [u8; 4] = [7, 8, 9, 10];

/// What to complain of where our streams stand still for too long with every seed.
fn judge(path: Path) -> Option<String> {
    let pauses: Option<Vec<String>> = SEEDS
        .iter()
        .map(|seed| {
            let path = Path { seed: [*seed; 32], ..path };
            let flows = flows(path);
            let (ours, linux) = (with_ours(path, &flows), linux_alone(path, &flows));
            (ours > allowance(linux)).then(|| format!("{ours:?}, Linux for {linux:?}"))
        })
        .collect();
    pauses.map(|pauses| format!("{}, {path:?}: stood still for {pauses:?}", path.name))
}

#[test]
fn streams_are_whole_and_never_stall_over_any_link() {
    let paths = std::sync::Mutex::new(paths());
    let next = || paths.lock().expect("the paths").pop();
    let breaches = std::thread::scope(|scope| {
        // Most of the time is waiting for delays: several paths at once.
        let workers: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| std::iter::from_fn(next).filter_map(judge).collect::<Vec<_>>()))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a path")).collect::<Vec<_>>()
    });
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

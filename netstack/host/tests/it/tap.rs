//! Ping, UDP and TCP both ways between the stack and the host's kernel, over a TAP device; `packet` has the same over a veth.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use netstack::ip::Family;
use netstack::link::fault::{FaultLink, Faults};
use netstack::link::{Link, MacAddr, NicKind};
use netstack::socket::{Readiness, RecvError, RecvFlags, SendError, SendFlags, Wake};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::Instant;
use netstack_host::device::{Device, Offloading};
use netstack_host::driver::{Clock, Driver, Feed};
use netstack_host::tap::{Tap, TapConfig, TapError};
use nix::sched::{CloneFlags, unshare};

pub const HOST4: &str = "10.77.0.1";
pub const GUEST4: &str = "10.77.0.2";
pub const HOST6: &str = "fd77::1";
pub const GUEST6: &str = "fd77::2";
/// Longer than any of these exchanges takes on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Bed {
    pub stack: Arc<Stack>,
    clock: Clock,
    _driver: Driver,
    pub made: Made,
}

/// A device whose other end has the host's addresses.
pub struct Made {
    pub device: Arc<dyn Device>,
    pub name: String,
    pub mac: MacAddr,
    pub mtu: u32,
}

/// Makes the device of a test, in its namespace.
pub type Maker = fn(Offloading) -> Made;
/// Puts something around the device.
pub type Wrap = fn(Arc<dyn Device>) -> Arc<dyn Link>;

fn tap(offloading: Offloading) -> Made {
    assert!(Path::new(netstack_host::tap::CLONE_DEVICE).exists(), "the tun module is not loaded");
    let host_addresses = vec![cidr(HOST4, 24), cidr(HOST6, 64)];
    let config = TapConfig { host_addresses, offloading, ..TapConfig::default() };
    let tap = Tap::open(&config).unwrap();
    let (name, mtu) = (tap.name().to_owned(), tap.mtu());
    Made { device: tap, name, mac: MacAddr([2, 0, 0, 0, 0, 2]), mtu }
}

/// Runs a test on a thread in a new network namespace, which needs root.
pub fn in_namespace(make: Maker, offloading: Offloading, test: impl FnOnce(Bed) + Send + 'static) {
    over(make, offloading, |device| device, test);
}

/// The same with something around the device.
pub fn over(
    make: Maker,
    offloading: Offloading,
    wrap: Wrap,
    test: impl FnOnce(Bed) + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("a network namespace of our own: these tests need root");
        test(Bed::new(make(offloading), wrap));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Bed {
    fn new(made: Made, wrap: Wrap) -> Bed {
        let stack = Stack::new(Config::new([42; 32]));
        let nic = NicConfig {
            name: "eth0".into(),
            kind: NicKind::Ethernet,
            mac: made.mac,
            mtu: made.mtu,
            link: wrap(made.device.clone()),
        };
        let nic = stack.add_nic(nic).unwrap();
        stack.add_address(nic, cidr(GUEST4, 24)).unwrap();
        stack.add_address(nic, cidr(GUEST6, 64)).unwrap();
        let start = std::time::Instant::now();
        let clock: Clock = Arc::new(move || {
            Instant::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap() + 1)
        });
        let feeds = vec![Feed { nic, device: made.device.clone() }];
        let driver = Driver::start(stack.clone(), feeds, clock.clone()).unwrap();
        Bed { stack, clock, _driver: driver, made }
    }

    pub fn now(&self) -> Instant {
        (self.clock)()
    }
}

pub fn cidr(address: &str, prefix: u8) -> netstack::ip::IpCidr {
    netstack::ip::IpCidr::new(address.parse().unwrap(), prefix)
}

pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

fn family(address: &str) -> Family {
    Family::of(address.parse().unwrap())
}

/// Lets the test's thread wait for readiness.
pub struct Bell(Sender<Readiness>);

impl Wake for Bell {
    fn wake(&self, readiness: Readiness) {
        // The test may be over.
        let _ = self.0.send(readiness);
    }
}

pub fn bell() -> (Arc<Bell>, Receiver<Readiness>) {
    let (sender, receiver) = channel();
    (Arc::new(Bell(sender)), receiver)
}

/// Tries until it answers something, between wake-ups.
fn wait<T>(bell: &Receiver<Readiness>, mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        bell.recv_timeout(PATIENCE).expect("the stack never became ready");
    }
}

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 16).to_le_bytes())
        .take(len)
        .collect()
}

/// The host pings the stack; `ping` runs in the calling thread's namespace.
pub fn ping(address: &str) {
    let output = Command::new("ping").args(["-c", "2", "-W", "10", address]).output();
    let output = output.expect("ping (Debian's iputils-ping)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_host_pings_the_stack_over_both_families() {
    in_namespace(tap, Offloading::Full, |_bed| {
        ping(GUEST4);
        ping(GUEST6);
    });
}

#[test]
fn datagrams_of_many_sizes_go_both_ways() {
    datagrams(tap);
}

pub fn datagrams(make: Maker) {
    in_namespace(make, Offloading::Full, |bed| {
        for (host, guest) in [(HOST4, GUEST4), (HOST6, GUEST6)] {
            let theirs = UdpSocket::bind(at(host, 5000)).unwrap();
            theirs.set_read_timeout(Some(PATIENCE)).unwrap();
            let ours = bed.stack.udp_socket(family(guest));
            let (waker, ring) = bell();
            ours.set_waker(waker);
            ours.bind(at(guest, 6000)).unwrap();
            // The last ones exceed the MTU: fragments both ways.
            for len in [0usize, 1, 1472, 4000, 20_000] {
                let data = pattern(len);
                let sent = ours.send_to(
                    bed.now(),
                    &mut &data[..],
                    Some(at(host, 5000)),
                    &Default::default(),
                );
                assert_eq!(sent.unwrap(), len);
                let mut buffer = vec![0; 65_536];
                let (n, from) = theirs.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..n], from), (&data[..], at(guest, 6000)));
                theirs.send_to(&data, at(guest, 6000)).unwrap();
                let mut echoed = Vec::new();
                wait(&ring, || match ours.recv_from(bed.now(), &mut echoed, RecvFlags::empty()) {
                    Err(RecvError::WouldBlock) => None,
                    other => Some(other.unwrap()),
                });
                assert_eq!(echoed, data);
            }
            ours.close(bed.now());
        }
    });
}

/// Sends all and closes the direction.
fn send_all(
    bed: &Bed,
    socket: &netstack::socket::tcp::TcpSocket,
    ring: &Receiver<Readiness>,
    data: &[u8],
) {
    let mut rest = data;
    while !rest.is_empty() {
        wait(ring, || match socket.send(bed.now(), &mut rest, SendFlags::empty()) {
            Err(SendError::WouldBlock) => None,
            other => Some(other.unwrap()),
        });
    }
    socket.shutdown(bed.now(), netstack::socket::How::Write).unwrap();
}

/// Receives until the peer closes its direction.
fn receive_all(
    bed: &Bed,
    socket: &netstack::socket::tcp::TcpSocket,
    ring: &Receiver<Readiness>,
) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let n = wait(ring, || match socket.recv(bed.now(), &mut data, RecvFlags::empty()) {
            Err(RecvError::WouldBlock) => None,
            other => Some(other.unwrap()),
        });
        if n == 0 {
            return data;
        }
    }
}

pub fn streams(make: Maker, offloading: Offloading, len: usize, wrap: Wrap) {
    over(make, offloading, wrap, move |bed| {
        let data = pattern(len);
        for (host, guest) in [(HOST4, GUEST4), (HOST6, GUEST6)] {
            // We connect: the host echoes all.
            let listener = TcpListener::bind(at(host, 7000)).unwrap();
            let echo = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
            });
            let socket = bed.stack.tcp_socket(family(guest));
            let (waker, ring) = bell();
            socket.set_waker(waker);
            socket.connect(bed.now(), at(host, 7000)).unwrap();
            wait(&ring, || socket.readiness().contains(Readiness::OUT).then_some(()));
            assert_eq!(socket.take_error(), None);
            send_all(&bed, &socket, &ring, &data);
            assert_eq!(receive_all(&bed, &socket, &ring), data);
            socket.close(bed.now());
            echo.join().unwrap();

            // The host connects: we echo all.
            let listener = bed.stack.tcp_socket(family(guest));
            let (waker, ring) = bell();
            listener.set_waker(waker);
            listener.bind(at(guest, 7001)).unwrap();
            listener.listen(8).unwrap();
            let expected = data.clone();
            let target = at(guest, 7001);
            let peer = std::thread::spawn(move || {
                let mut stream = TcpStream::connect(target).unwrap();
                stream.write_all(&expected).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                assert_eq!(all, expected);
            });
            let accepted = wait(&ring, || listener.accept(bed.now()).ok());
            let (waker, ring) = bell();
            accepted.set_waker(waker);
            let all = receive_all(&bed, &accepted, &ring);
            send_all(&bed, &accepted, &ring, &all);
            peer.join().unwrap();
            accepted.close(bed.now());
            listener.close(bed.now());
        }
    });
}

#[test]
fn streams_go_both_ways_with_plain_frames() {
    streams(tap, Offloading::None, 1 << 20, |tap| tap);
}

#[test]
fn streams_go_both_ways_with_offloads() {
    streams(tap, Offloading::Full, 8 << 20, |tap| tap);
}

#[test]
fn a_refused_port_is_told_at_once() {
    in_namespace(tap, Offloading::Full, |bed| {
        let socket = bed.stack.tcp_socket(Family::V4);
        let (waker, ring) = bell();
        socket.set_waker(waker);
        socket.connect(bed.now(), at(HOST4, 9)).unwrap();
        let error = wait(&ring, || socket.take_error());
        assert_eq!(error, netstack::socket::SocketError::ConnectionRefused);
        socket.close(bed.now());
    });
}

#[test]
fn a_taken_address_and_a_name_in_use_are_told_and_the_device_goes_with_its_owner() {
    in_namespace(tap, Offloading::Full, |bed| {
        let taken = TapConfig { host_addresses: vec![cidr(HOST4, 24)], ..TapConfig::default() };
        assert!(matches!(Tap::open(&taken), Err(TapError::AddressTaken { .. })));
        let name = bed.made.name.clone();
        let busy = TapConfig { name: name.clone(), ..TapConfig::default() };
        assert!(matches!(Tap::open(&busy), Err(TapError::Busy { .. })));
        let Bed { stack, made, _driver, .. } = bed;
        drop(_driver);
        stack.shut_down();
        drop((stack, made));
        assert!(nix::net::if_::if_nametoindex(name.as_str()).is_err(), "{name} is still there");
    });
}

/// 5 % loss and reordering, 2 % duplication, both ways, from one seed.
pub fn lossy(device: Arc<dyn Device>) -> Arc<dyn Link> {
    let faults = Faults::lossy(Duration::ZERO);
    Arc::new(FaultLink::new(device, faults, faults, &[11; 32]))
}

#[test]
fn streams_arrive_whole_over_a_link_that_loses_reorders_and_repeats() {
    streams(tap, Offloading::None, 256 << 10, lossy);
}

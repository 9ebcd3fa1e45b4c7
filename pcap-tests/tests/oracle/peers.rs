//! The two peers that answer frames: Linux behind a TAP device, and our stack.

use std::collections::VecDeque;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use netstack::buffer::PacketBuffer;
use netstack::ip::{Family, IpCidr};
use netstack::link::{Link, LinkError, MacAddr, NicId, NicKind, NullLink};
use netstack::rng::seed_from;
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::Instant;
use nix::sched::{CloneFlags, unshare};
use tun_tap::{Iface, Mode};

use crate::frames::{MAC, OPEN_PORT};

/// Something that answers frames.
pub trait Peer {
    /// A frame arrives.
    fn send(&mut self, frame: &[u8]);

    /// The next frame that it sends.
    fn receive(&mut self) -> Vec<u8>;
}

/// The host's kernel in a namespace of this thread's own.
pub struct Linux {
    device: Arc<Iface>,
    received: Receiver<Vec<u8>>,
    _listeners: Vec<TcpListener>,
    _bound: UdpSocket,
}

fn ip(arguments: &str) {
    let output =
        Command::new("ip").args(arguments.split(' ')).output().expect("ip (Debian's iproute2)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A station's address on the link.
pub fn mac_of(end: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, end as u8 + 1]
}

/// An end's two addresses with their prefixes.
pub fn cidrs([v4, v6]: [&str; 2]) -> Vec<IpCidr> {
    [format!("{v4}/24"), format!("{v6}/64")]
        .iter()
        .map(|cidr| cidr.parse().expect("a prefix"))
        .collect()
}

/// Moves this thread into a new network namespace that says nothing by itself: no limit on ICMP errors, no router solicitations, no
/// address detection.
pub fn quiet_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: these tests need root");
    for (file, value) in [
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv4/icmp_msgs_per_sec", "1000000"),
        ("ipv4/icmp_msgs_burst", "1000000"),
        ("ipv4/tcp_invalid_ratelimit", "0"),
        ("ipv6/icmp/ratelimit", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        ("ipv6/conf/default/dad_transmits", "0"),
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv6/conf/default/accept_ra", "0"),
    ] {
        // The burst settings are not in every kernel's namespaces.
        let _ = std::fs::write(format!("/proc/sys/net/{file}"), value);
    }
    ip("link set lo up");
}

impl Linux {
    /// Moves this thread into a new namespace and makes the device there.
    pub fn new() -> Self {
        quiet_namespace();
        let device = Iface::without_packet_info("oracle", Mode::Tap)
            .expect("a TAP device: is the tun module loaded?");
        ip("link set oracle address 02:00:00:00:00:02");
        ip("addr add 10.9.0.2/24 dev oracle");
        ip("-6 addr add fd09::2/64 dev oracle nodad");
        ip("link set oracle up");
        let listeners = ["10.9.0.2", "fd09::2"]
            .map(|host| TcpListener::bind((host, OPEN_PORT)).expect("a listener"));
        let bound = UdpSocket::bind(("10.9.0.2", OPEN_PORT)).expect("a socket");
        let device = Arc::new(device);
        let (sender, received) = unbounded();
        let reader = device.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(len) = reader.recv(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { device, received, _listeners: listeners.into(), _bound: bound }
    }
}

impl Peer for Linux {
    fn send(&mut self, frame: &[u8]) {
        self.device.send(frame).expect("a frame is sent");
    }

    fn receive(&mut self) -> Vec<u8> {
        self.received.recv_timeout(Duration::from_secs(60)).expect("Linux answers the echo request")
    }
}

#[derive(Default)]
struct Wire(Mutex<VecDeque<Vec<u8>>>);

impl Link for Wire {
    fn transmit(&self, _: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        self.0.lock().expect("the wire").push_back(frame.to_vec_complete());
        Ok(())
    }
}

/// Our stack, with the same addresses and listeners.
pub struct Ours {
    stack: Arc<Stack>,
    nic: NicId,
    wire: Arc<Wire>,
}

impl Ours {
    /// A fresh stack.
    pub fn new() -> Self {
        let wire = Arc::new(Wire::default());
        let stack = Stack::new(Config::new(seed_from(7)));
        let nic = |name: &str, kind, link: Arc<dyn Link>| NicConfig {
            name: name.into(),
            kind,
            mac: MacAddr(MAC),
            mtu: 1500,
            link,
        };
        // As in the namespace: nothing is limited.
        stack.edit_ip_conf(|conf| {
            (conf.icmp_ratelimit, conf.icmp6_ratelimit, conf.icmp_msgs_burst) = (0, 0, 1_000_000);
        });
        stack.add_nic(nic("lo", NicKind::Loopback, Arc::new(NullLink))).expect("lo");
        let eth = stack.add_nic(nic("eth0", NicKind::Ethernet, wire.clone())).expect("eth0");
        for cidr in ["10.9.0.2/24", "fd09::2/64"] {
            stack.add_address(eth, cidr.parse().expect("a prefix")).expect("an address");
        }
        let listener = stack.tcp_socket(Family::V6);
        listener.bind(format!("[::]:{OPEN_PORT}").parse().expect("an address")).expect("a port");
        listener.listen(128).expect("a listener");
        let bound = stack.udp_socket(Family::V4);
        bound.bind(format!("10.9.0.2:{OPEN_PORT}").parse().expect("an address")).expect("a port");
        Self { stack, nic: eth, wire }
    }
}

impl Peer for Ours {
    fn send(&mut self, frame: &[u8]) {
        self.stack.handle_frame(Instant::default(), self.nic, PacketBuffer::from_slice(frame));
    }

    fn receive(&mut self) -> Vec<u8> {
        self.wire
            .0
            .lock()
            .expect("the wire")
            .pop_front()
            .expect("the stack answers the echo request")
    }
}

//! The stack as a whole against frames that nobody should send, and its control plane.

use core::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::buffer::PacketBuffer;
use crate::ip::{Family, IpCidr, Route};
use crate::link::fault::Faults;
use crate::link::{Direction, Link, LinkError, MacAddr, NicId, NicKind, NullLink, Tap, Tapped};
use crate::rng::{Rng, seed_from};
use crate::sim::{HostId, Sim};
use crate::socket::{Ancillary, Readiness, SendFlags};
use crate::stack::{AddressError, Config, NicConfig, NicError, NicState, RouteError, Stack};
use crate::time::{Duration, Instant};
use crate::transport::Host as _;
use crate::wire::checksum;
use crate::wire::ipv6::{FragmentHeader, Ipv6};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// Counts what leaves.
#[derive(Default)]
struct Count(AtomicUsize);

impl Link for Count {
    fn transmit(&self, _now: Instant, frame: &PacketBuffer) -> Result<(), LinkError> {
        assert!((14..=1514).contains(&frame.len()));
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn cidr(text: &str) -> IpCidr {
    text.parse().unwrap()
}

fn nic(name: &str, kind: NicKind, link: Arc<dyn Link>) -> NicConfig {
    NicConfig { name: name.into(), kind, mac: MAC, mtu: 1500, link }
}

/// A stack like host b of a simulated pair, with sockets that take everything.
fn target() -> (Arc<Stack>, NicId, Arc<Count>) {
    let stack = Stack::new(Config::new(seed_from(1)));
    let link = Arc::new(Count::default());
    stack.add_nic(nic("lo", NicKind::Loopback, Arc::new(NullLink))).unwrap();
    let eth = stack.add_nic(nic("eth0", NicKind::Ethernet, link.clone())).unwrap();
    for address in Sim::pair_addresses(2) {
        stack.add_address(eth, address).unwrap();
    }
    for (family, protocol) in [(Family::V4, 1), (Family::V6, 58), (Family::V4, 17)] {
        let raw = stack.raw_socket(family, protocol);
        assert_eq!(raw.take_error(), None);
    }
    stack.udp_socket(Family::V6).bind("[::]:7".parse().unwrap()).unwrap();
    let listener = stack.tcp_socket(Family::V6);
    listener.bind("[::]:80".parse().unwrap()).unwrap();
    listener.listen(16).unwrap();
    stack.ping_socket(Family::V4).bind("0.0.0.0:9".parse().unwrap()).unwrap();
    (stack, eth, link)
}

/// Good frames of every kind that host b of a pair receives.
fn corpus() -> Vec<Vec<u8>> {
    let (mut sim, [a, b]) = Sim::pair(1, Faults::delay(Duration::from_millis(1)));
    let server = sim.stack(b).udp_socket(Family::V6);
    server.bind("[::]:7".parse().unwrap()).unwrap();
    let listener = sim.stack(b).tcp_socket(Family::V6);
    listener.bind("[::]:80".parse().unwrap()).unwrap();
    listener.listen(16).unwrap();
    for (family, to, echo) in [(Family::V4, "10.0.0.2", 8u8), (Family::V6, "fd00::2", 128)] {
        let to: IpAddr = to.parse().unwrap();
        let udp = sim.stack(a).udp_socket(family);
        let none = Ancillary::default();
        for (port, len) in [(7, 20), (9, 100), (7, 3000)] {
            let bytes = vec![port as u8; len];
            let to = Some(SocketAddr::new(to, port));
            udp.send_to(sim.now(), &mut &bytes[..], to, &none).unwrap();
        }
        let stream = sim.stack(a).tcp_socket(family);
        let _ = stream.connect(sim.now(), SocketAddr::new(to, 80)).unwrap();
        sim.run_for(Duration::from_secs(1));
        let sent = stream.send(sim.now(), &mut &[5; 4000][..], SendFlags::empty());
        assert!(sent.is_ok());
        stream.close(sim.now());
        let ping = sim.stack(a).ping_socket(family);
        let request = [echo, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3];
        let to = Some(SocketAddr::new(to, 0));
        ping.send_to(sim.now(), &mut &request[..], to, &none).unwrap();
        sim.run_for(Duration::from_secs(10));
    }
    let mut frames: Vec<_> =
        sim.capture().frames().iter().map(|frame| frame.bytes.clone()).collect();
    // What b sent comes back to it as if a had: answers and errors of every kind.
    for frame in &mut frames {
        if frame[..6] != [0xff; 6] && frame[0] & 1 == 0 {
            frame[..6].copy_from_slice(&MAC.0);
        }
    }
    frames.extend(extended());
    frames
}

/// IPv6 packets with extension headers.
fn extended() -> Vec<Vec<u8>> {
    let packet = |next_header, payload: &[u8]| {
        let header = Ipv6 {
            traffic_class: 0,
            flow_label: 0,
            payload_len: payload.len() as u16,
            next_header,
            hop_limit: 64,
            src: "fd00::1".parse().unwrap(),
            dst: "fd00::2".parse().unwrap(),
        };
        let mut bytes = [0; 40];
        header.emit(&mut bytes);
        [&MAC.0[..], &[2, 0, 0, 0, 0, 1, 0x86, 0xdd], &bytes, payload].concat()
    };
    let udp = [0, 9, 0, 7, 0, 9, 0, 0, 1];
    let options = [60, 0, 1, 4, 0, 0, 0, 0];
    let more_options = [17, 1, 0x1e, 4, 1, 2, 3, 4, 0xc3, 2, 1, 1, 0, 0, 0, 0];
    let routing = [17, 0, 0, 1, 0, 0, 0, 0];
    let mut fragment = [0; 8];
    FragmentHeader { next_header: 17, offset: 0, more: true, ident: 77 }.emit(&mut fragment);
    vec![
        packet(0, &[&options[..], &more_options, &udp].concat()),
        packet(43, &[&routing[..], &udp].concat()),
        packet(44, &[&fragment[..], &[1; 16]].concat()),
        packet(59, &[]),
        packet(99, &[1; 20]),
    ]
}

/// Damages a frame so that it often still passes the first checks.
fn damage(frame: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let len = frame.len() as u64;
        // Headers are hit more often than payloads.
        let span = if rng.below(3) > 0 { len.min(80) } else { len };
        let at = rng.below(span) as usize;
        if at < frame.len() {
            frame[at] = match rng.below(3) {
                0 => frame[at] ^ (1 << rng.below(8)),
                1 => rng.next_u64() as u8,
                _ => [0, 1, 0x7f, 0x80, 0xff][rng.below(5) as usize],
            };
        }
    }
    match rng.below(8) {
        0 => frame.truncate(rng.below(frame.len() as u64 + 1) as usize),
        1 => frame.extend((0..rng.below(40)).map(|n| n as u8)),
        _ => {}
    }
    if rng.below(4) > 0 {
        if frame.len() > 14 {
            frame[..6].copy_from_slice(&MAC.0);
        }
        if frame.len() >= 34 && frame[12..14] == [8, 0] {
            let len = (usize::from(frame[14] & 15) * 4).clamp(20, frame.len() - 14);
            frame[24..26].fill(0);
            let sum = checksum::of(&frame[14..14 + len]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

fn answers_ping(stack: &Arc<Stack>, eth: NicId, link: &Count, now: Instant, frame: &[u8]) -> bool {
    let before = link.0.load(Ordering::Relaxed);
    stack.handle_frame(now, eth, PacketBuffer::from_slice(frame));
    link.0.load(Ordering::Relaxed) > before
}

#[test]
fn damaged_frames_are_counted_and_never_panic_or_fill_the_stack() {
    let seed = 42;
    let mut rng = Rng::new(&seed_from(seed), 0);
    let (stack, eth, link) = target();
    let corpus = corpus();
    assert!(corpus.len() > 20);
    let ping =
        corpus.iter().find(|frame| frame[12..14] == [8, 0] && frame[23] == 1 && frame[34] == 8);
    let ping = ping.unwrap().clone();
    let mut now = Instant::from_secs(1);
    for round in 0..60_000u64 {
        let mut frame = corpus[rng.below(corpus.len() as u64) as usize].clone();
        damage(&mut frame, &mut rng);
        // Half of them come with a checksum that the device vouches for, so that parsers see the damage.
        let mut packet = match rng.below(2) {
            0 => PacketBuffer::from_vec(frame),
            _ => {
                let cut = rng.below(frame.len().min(100) as u64 + 1) as usize;
                PacketBuffer::from_parts(
                    &frame[..cut],
                    crate::buffer::Chain::from(frame[cut..].to_vec()),
                )
            }
        };
        packet.offload.rx_verified = rng.below(2) == 0;
        stack.handle_frame(now, eth, packet);
        now += Duration::from_millis(rng.below(3));
        if round % 64 == 0 {
            stack.poll(now);
        }
    }
    let (datagrams, bytes) = stack.reassembly_usage();
    assert!(datagrams <= 1024 && bytes < 5 << 20, "{datagrams} {bytes} seed {seed}");
    let stats = stack.stats();
    for (group, name) in
        [("Ip", "InHdrErrors"), ("Ip6", "InAddrErrors"), ("Icmp", "InErrors"), ("Udp", "InErrors")]
    {
        assert!(stats.value(group, name) > 0, "{group} {name} seed {seed}");
    }
    now += Duration::from_secs(100);
    stack.poll(now);
    stack
        .add_neighbour(now, eth, "10.0.0.1".parse().unwrap(), MacAddr([2, 0, 0, 0, 0, 1]))
        .unwrap();
    assert!(answers_ping(&stack, eth, &link, now, &ping), "seed {seed}");
}

proptest! {
    #[test]
    fn random_bytes_behind_any_ethertype_never_panic(kind in prop_oneof![Just(0x0800u16), Just(0x0806), Just(0x86dd), any::<u16>()], body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (stack, eth, _) = target();
        let frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 1], &kind.to_be_bytes(), &body].concat();
        for verified in [false, true] {
            let mut packet = PacketBuffer::from_slice(&frame);
            packet.offload.rx_verified = verified;
            stack.handle_frame(Instant::ZERO, eth, packet);
        }
        for cut in 0..frame.len().min(14) {
            stack.handle_frame(Instant::ZERO, eth, PacketBuffer::from_slice(&frame[..cut]));
        }
        stack.poll(Instant::from_secs(100));
    }

    #[test]
    fn random_ipv6_extension_chains_never_panic(next: u8, body in proptest::collection::vec(prop_oneof![Just(0u8), Just(43), Just(44), Just(60), Just(58), any::<u8>()], 0..160)) {
        let (stack, eth, _) = target();
        let mut frame = extended()[3].clone();
        frame[18..20].copy_from_slice(&(body.len() as u16).to_be_bytes());
        frame[20] = next;
        frame.extend_from_slice(&body);
        let mut packet = PacketBuffer::from_slice(&frame);
        packet.offload.rx_verified = true;
        stack.handle_frame(Instant::ZERO, eth, packet);
    }
}

#[test]
fn interfaces_addresses_and_routes_come_and_go_together() {
    let (stack, eth, _) = target();
    let again = stack.add_nic(nic("eth0", NicKind::Ethernet, Arc::new(NullLink)));
    assert_eq!(again, Err(NicError::NameTaken));
    let second = stack.add_nic(nic("lo2", NicKind::Loopback, Arc::new(NullLink)));
    assert_eq!(second, Err(NicError::LoopbackTaken));
    let bad = stack.add_nic(nic("a/b", NicKind::Ethernet, Arc::new(NullLink)));
    assert_eq!(bad, Err(NicError::Name));
    assert_eq!(stack.add_address(eth, cidr("10.0.0.2/24")), Err(AddressError::Exists));
    assert_eq!(stack.add_address(eth, cidr("224.0.0.1/8")), Err(AddressError::Invalid));
    let route = Route::new(cidr("0.0.0.0/0"), Some("10.0.0.1".parse().unwrap()), eth);
    assert_eq!(stack.add_route(route.clone()), Ok(()));
    assert_eq!(stack.add_route(route.clone()), Err(RouteError::Exists));
    let via = |via: &str| Route::new(cidr("0.0.0.0/0"), Some(via.parse().unwrap()), eth);
    assert_eq!(stack.add_route(via("fd00::1")), Err(RouteError::Gateway));
    assert_eq!(stack.add_route(via("10.0.0.2")), Err(RouteError::Gateway));
    assert_eq!(stack.add_route(via("192.0.2.1")), Err(RouteError::GatewayUnreachable));
    assert_eq!(stack.remove_route(cidr("0.0.0.0/0"), None, Some(eth)), Ok(()));
    assert_eq!(stack.remove_route(cidr("0.0.0.0/0"), None, None), Err(RouteError::NotFound));
    assert_eq!(stack.add_route(route), Ok(()));
    let v4 = |stack: &Stack| {
        let of_eth = |route: &Route| route.dst.address().is_ipv4() && route.uses(eth);
        stack.routes().into_iter().filter(of_eth).map(|route| route.dst.to_string()).collect()
    };
    let routes: Vec<String> = v4(&stack);
    assert_eq!(routes, ["0.0.0.0/0", "10.0.0.0/24", "10.0.0.2/32", "10.0.0.255/32"]);
    assert_eq!(stack.remove_address(eth, cidr("10.0.0.2/24")), Ok(()));
    // As on Linux, an interface without an IPv4 address has no IPv4 route.
    assert_eq!(v4(&stack), Vec::<String>::new());
    assert_eq!(stack.remove_address(eth, cidr("10.0.0.2/24")), Err(AddressError::NotFound));
    let numbered = |id, name| {
        let config = nic(name, NicKind::Ethernet, Arc::new(NullLink));
        stack.add_numbered_nic(NicId(id), config)
    };
    assert_eq!(numbered(eth.0, "eth1"), Err(NicError::NumberTaken));
    assert_eq!(numbered(0, "eth1"), Err(NicError::NumberTaken));
    assert_eq!(numbered(u32::MAX, "eth1"), Err(NicError::NumberTaken));
    assert_eq!(numbered(300, "eth1"), Ok(NicId(300)));
    assert_eq!(numbered(7, "eth2"), Ok(NicId(7)));
    let next = stack.add_nic(nic("eth3", NicKind::Ethernet, Arc::new(NullLink)));
    assert_eq!(next, Ok(NicId(301)));
    for id in [7, 300, 301] {
        stack.remove_nic(NicId(id)).unwrap();
    }
    stack.remove_nic(eth).unwrap();
    assert_eq!(stack.nics().len(), 1);
    assert!(stack.routes().iter().all(|route| !route.uses(eth)));
    assert_eq!(stack.remove_nic(eth), Err(NicError::NotFound));
}

#[test]
fn an_interface_that_is_down_passes_nothing() {
    let (stack, eth, link) = target();
    stack.set_nic_state(eth, NicState::Down).unwrap();
    for frame in corpus() {
        stack.handle_frame(Instant::ZERO, eth, PacketBuffer::from_slice(&frame));
    }
    assert_eq!(link.0.load(Ordering::Relaxed), 0);
    assert_eq!(stack.stats().value("Ip", "InReceives"), 0);
}

#[test]
fn an_arp_request_for_our_address_is_answered_and_teaches() {
    let (mut sim, [a, b]) = Sim::pair(1, Faults::default());
    let learned = |sim: &Sim, host: HostId| sim.stack(host).neighbours().len();
    let socket = sim.stack(a).udp_socket(Family::V4);
    let to = Some("10.0.0.2:1".parse().unwrap());
    socket.send_to(sim.now(), &mut &b"x"[..], to, &Ancillary::default()).unwrap();
    sim.run_for(Duration::from_millis(1));
    assert_eq!((learned(&sim, a), learned(&sim, b)), (1, 1));
    assert!(!socket.readiness().contains(Readiness::IN));
}

#[test]
fn the_capture_tap_sees_frames_of_both_directions_with_right_checksums() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<(Direction, Vec<u8>)>>);
    impl Tap for Seen {
        fn frame(&self, tapped: &Tapped<'_>) {
            self.0.lock().push((tapped.direction, tapped.frame.to_vec_complete()));
        }
    }
    let (sim, [a, _]) = Sim::pair(1, Faults::default());
    let seen = Arc::new(Seen::default());
    sim.stack(a).add_tap(None, seen.clone());
    let server = sim.stack(a).udp_socket(Family::V4);
    server.bind("127.0.0.1:5".parse().unwrap()).unwrap();
    let to = Some("127.0.0.1:5".parse().unwrap());
    server.send_to(sim.now(), &mut &b"tapped"[..], to, &Ancillary::default()).unwrap();
    let frames = seen.0.lock();
    let directions: Vec<_> = frames.iter().map(|(direction, _)| *direction).collect();
    assert_eq!(directions, [Direction::Sent]);
    let datagram = &frames[0].1[20..];
    let localhost = IpAddr::from([127, 0, 0, 1]);
    let mut sum = checksum::Checksum::pseudo_header(localhost, localhost, 17, datagram.len());
    sum.add_bytes(datagram);
    assert_eq!(sum.finish(), 0);
    assert!(sim.stack(a).shared().demux.len() == 1);
}

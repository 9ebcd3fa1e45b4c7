//! A limit on a link holds by the byte in each direction, lets its burst pass at once, and holds streams back on the way out so that they
//! lose nothing; what nobody holds back finds a queue of bounded length, and what it loses is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bulk::{Bulk, MS, header_of, tcp_ext};
use netstack::buffer::PacketBuffer;
use netstack::ip::Family;
use netstack::link::fault::Faults;
use netstack::link::shaper::{Limit, Limits, Shaper};
use netstack::link::{Link, LinkError, MacAddr, NicKind};
use netstack::rng::seed_from;
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{SendFlags, SocketError, SocketOption};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use netstack::wire::tcp::{Flags, Header};

/// A megabyte a second, of which a quarter may pass at once.
const LIMIT: Limit = Limit { rate_bps: 8_000_000, burst_bits: 2_000_000 };
const RATE: f64 = 1_000_000.0;
const BURST: f64 = 250_000.0;

/// Two hosts; the first has the limits on its interface.
fn limited(limits: Limits) -> (Sim, [HostId; 2], SegmentId) {
    let mut sim = Sim::new(61);
    let segment = sim.add_segment(Faults::delay(5 * MS));
    let hosts = [sim.add_host(), sim.add_host()];
    let wrap = |link| Arc::new(Shaper::new(link, limits)) as _;
    sim.attach_through(hosts[0], segment, (1500, &Sim::pair_addresses(1)), wrap);
    sim.attach(hosts[1], segment, 1500, &Sim::pair_addresses(2));
    (sim, hosts, segment)
}

fn nic(sim: &Sim, host: HostId, name: &str) -> u64 {
    sim.stack(host).count_lost();
    let nics = sim.stack(host).nics();
    let eth0 = nics.iter().find(|nic| nic.name == "eth0").expect("eth0");
    eth0.counters.value("Nic", name)
}

/// Times and lengths of the frames that an attachment has sent.
fn frames(sim: &Sim, segment: SegmentId, port: usize) -> Vec<(Instant, usize)> {
    sim.capture().sent_by(segment, port).map(|frame| (frame.at, frame.bytes.len())).collect()
}

/// In no span do more bytes pass than the burst and the rate; counted from each beginning.
fn holds(frames: &[(Instant, usize)]) {
    for (n, (from, _)) in frames.iter().enumerate().step_by(97) {
        let mut bytes = 0.0;
        for (at, len) in &frames[n..] {
            bytes += *len as f64;
            let most = BURST + RATE * at.since(*from).as_secs_f64();
            // A nanosecond of each frame is rounded.
            assert!(bytes <= most + 1.0, "{bytes} of {most} after {at:?}");
        }
    }
}

#[test]
fn a_stream_goes_out_at_the_rate_and_loses_nothing() {
    let (mut sim, hosts, segment) = limited(Limits { egress: Some(LIMIT), ingress: None });
    let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
    let start = sim.now();
    bulk.queue(5_000_000);
    assert!(bulk.finish(&mut sim, 6_000 * MS), "{} bytes", bulk.received);
    let sent = frames(&sim, segment, 0);
    holds(&sent);
    // The burst left within the first round trips; all of it at no less than 98 % of the rate.
    let wire: usize = sent.iter().map(|(_, len)| len).sum();
    let least = start + Duration::from_secs_f64((wire as f64 - BURST) / RATE);
    assert!(sim.now().since(least) < 120 * MS, "{:?}", sim.now().since(least));
    let early: usize =
        sent.iter().filter(|(at, _)| at.since(start) < 100 * MS).map(|(_, len)| len).sum();
    assert!(early as f64 > BURST, "{early}");
    assert_eq!(nic(&sim, hosts[0], "tx_dropped"), 0);
    let stats = sim.stack(hosts[0]).stats();
    assert_eq!(stats.value("Tcp", "RetransSegs"), 0);
    assert_eq!(tcp_ext(&sim, hosts[0], "TCPTimeouts"), 0);
}

#[test]
fn streams_share_what_may_go_out_and_an_echo_waits_no_longer_than_the_latency() {
    let (mut sim, hosts, _) = limited(Limits { egress: Some(LIMIT), ingress: None });
    let mut flows: Vec<Bulk> =
        (0..4).map(|n| Bulk::open(&mut sim, hosts, 80 + n, "cubic")).collect();
    for flow in &mut flows {
        flow.queue(usize::MAX / 8);
    }
    let until = sim.now() + 20_000 * MS;
    sim.run_until(until, |sim| {
        flows.iter_mut().for_each(|flow| flow.pump(sim.now()));
        false
    });
    let shares: Vec<usize> = flows.iter().map(|flow| flow.received).collect();
    let total: usize = shares.iter().sum();
    assert!((18_500_000..20_300_000).contains(&total), "{shares:?}");
    assert!(shares.iter().all(|share| *share > total / 8), "{shares:?}");
    assert_eq!(nic(&sim, hosts[0], "tx_dropped"), 0);
    // The path takes 10 ms both ways, and what waits before the link less than 25 and a frame.
    let smoothed = flows[0].info().rtt;
    assert!(smoothed < 40 * MS, "{smoothed:?}");
}

#[test]
fn a_reset_waits_for_nothing_that_the_stream_holds_back() {
    let abort = |sender: &TcpSocket, now| sender.abort(now);
    let close = |sender: &TcpSocket, now| {
        sender.set_option(now, SocketOption::Linger(Some(Duration::ZERO))).unwrap();
        sender.close(now);
    };
    let disconnect = |sender: &TcpSocket, now| sender.disconnect(now);
    let ways: [fn(&TcpSocket, Instant); 3] = [abort, close, disconnect];
    // In every few milliseconds the stream is held back for one.
    for (end, moment) in ways.iter().flat_map(|end| (0..8).map(move |n| (end, n * MS / 2))) {
        let (mut sim, hosts, segment) = limited(Limits { egress: Some(LIMIT), ingress: None });
        let mut bulk = Bulk::open(&mut sim, hosts, 80, "cubic");
        bulk.queue(2_000_000);
        bulk.run(&mut sim, 400 * MS + moment);
        assert!(bulk.received > 250_000, "the burst is over: {}", bulk.received);
        end(&bulk.sender, sim.now());
        let stack = sim.stack(hosts[0]);
        assert_eq!(stack.usage(), (0, 0), "after {moment:?}");
        assert_eq!(stack.shared().tcp.orphans.load(Ordering::Relaxed), 0);
        sim.run_for(200 * MS);
        let is_reset = |(header, _): &(Header, _)| header.flags.contains(Flags::RST);
        let sent = sim.capture().sent_by(segment, 0).filter_map(|sent| header_of(&sent.bytes));
        // What was on its way is still acknowledged, and each acknowledgment is answered by a reset, too.
        assert!(sent.filter(is_reset).count() > 0, "after {moment:?}");
        assert_eq!(bulk.receiver.take_error(), Some(SocketError::ConnectionReset));
    }
}

#[test]
fn a_stream_comes_in_at_the_rate() {
    let (mut sim, [limited_host, sender], _) =
        limited(Limits { ingress: Some(LIMIT), egress: None });
    let listener = sim.stack(limited_host).tcp_socket(Family::V4);
    listener.bind(([0, 0, 0, 0], 80).into()).unwrap();
    listener.listen(1).unwrap();
    let stream = sim.stack(sender).tcp_socket(Family::V4);
    stream.connect(sim.now(), ([10, 0, 0, 1], 80).into()).unwrap();
    let (mut accepted, mut received, mut times) = (None, 0, Vec::new());
    let mut before = 0;
    let mut room = vec![0; 64 << 10];
    let until = sim.now() + 10_000 * MS;
    sim.run_until(until, |sim| {
        let _ = stream.send(sim.now(), &mut &[0; 4096][..], SendFlags::empty());
        let came = nic(sim, limited_host, "rx_bytes");
        times.push((sim.now(), (came - before) as usize));
        before = came;
        accepted = accepted.take().or_else(|| listener.accept(sim.now()).ok());
        let Some(reader) = &accepted else { return false };
        while let Ok(n @ 1..) = reader.recv(sim.now(), &mut &mut room[..], Default::default()) {
            received += n;
        }
        false
    });
    holds(&times);
    assert!((8_000_000..10_250_000).contains(&received), "{received}");
    // What the limit lost was counted where ip(8) looks, and is what the sender sent again.
    let lost = nic(&sim, limited_host, "rx_missed_errors");
    let again = sim.stack(sender).stats().value("Tcp", "RetransSegs");
    assert!(lost > 0 && again >= lost, "{lost} lost, {again} sent again");
    let came = nic(&sim, limited_host, "rx_packets");
    assert!(came > 5_000, "{came}");
}

#[test]
fn datagrams_beyond_the_rate_wait_or_are_lost_and_counted() {
    let (mut sim, hosts, segment) = limited(Limits { egress: Some(LIMIT), ingress: None });
    let sink = sim.stack(hosts[1]).udp_socket(Family::V4);
    sink.bind(([0, 0, 0, 0], 9).into()).unwrap();
    let socket = sim.stack(hosts[0]).udp_socket(Family::V4);
    socket.connect(sim.now(), ([10, 0, 0, 2], 9).into()).unwrap();
    // The neighbour's address is known afterwards.
    socket.send(sim.now(), &mut &[0; 10][..]).unwrap();
    sim.run_for(1_000 * MS);
    sim.forget_capture();
    for _ in 0..1_000 {
        socket.send(sim.now(), &mut &[0; 958][..]).unwrap();
    }
    let start = sim.now();
    sim.run_for(2_000 * MS);
    // Frames of 1,000 bytes: the burst of 250, and 250 and 25 that waited.
    let sent: Vec<_> =
        frames(&sim, segment, 0).into_iter().filter(|(_, len)| *len == 1000).collect();
    assert_eq!(sent.len(), 525);
    assert_eq!(sent.iter().filter(|(at, _)| *at == start).count(), 250);
    assert_eq!(sent.last().map(|(at, _)| at.since(start)), Some(275 * MS));
    assert_eq!(nic(&sim, hosts[0], "tx_dropped"), 475);
    assert_eq!(sim.stack(hosts[0]).stats().value("Udp", "SndbufErrors"), 475);
}

/// Loses a frame whenever it is asked.
#[derive(Default)]
struct Losing(AtomicU64);

impl Link for Losing {
    fn transmit(&self, _now: Instant, _frame: &PacketBuffer) -> Result<(), LinkError> {
        Ok(())
    }

    fn lost(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[test]
fn a_link_is_asked_what_it_lost_only_for_who_looks_at_counters() {
    let link = Arc::new(Losing::default());
    let stack = Stack::new(Config::new(seed_from(62)));
    let (name, kind, mac) = ("eth0".into(), NicKind::Ethernet, MacAddr([2, 0, 0, 0, 0, 1]));
    stack.add_nic(NicConfig { name, kind, mac, mtu: 1500, link: link.clone() }).unwrap();
    let lost = || stack.nics()[0].counters.value("Nic", "rx_missed_errors");
    assert_eq!((lost(), link.0.load(Ordering::Relaxed)), (0, 0));
    stack.count_lost();
    assert_eq!((lost(), link.0.load(Ordering::Relaxed)), (1, 1));
}

//! Single situations between two stacks, or in one over its loopback.

use super::node::{StackNode, address};
use super::pattern;
use super::world::{Faults, World};
use netstack::ip::Family;
use netstack::rng::seed_from;
use netstack::socket::tcp::TcpSocket;
use netstack::socket::{
    AcceptError, Connect, ConnectError, How, ListenError, OptionError, OptionValue, Readiness,
    RecvError, RecvFlags, SendError, SendFlags, SocketError, SocketOption, SocketOptionKind,
    TcpOption, TcpOptionKind, Wake,
};
use netstack::stack::{Config, NicConfig, Stack};
use netstack::time::{Duration, Instant};
use netstack::transport::Host;
use netstack::transport::tcp::StateName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PORT: u16 = 80;

fn server(family: Family) -> SocketAddr {
    SocketAddr::new(address(family, 1), PORT)
}

fn pair(faults: Faults, up: usize, down: usize) -> World<StackNode, StackNode> {
    let (a, b) = (StackNode::new(1, 0, pattern(up, 1)), StackNode::new(1, 1, pattern(down, 2)));
    World::new(1, faults, a, b)
}

fn ready(socket: &TcpSocket) -> Readiness {
    socket.readiness()
}

/// A stack with nothing but its loopback.
pub fn alone() -> Arc<Stack> {
    let stack = Stack::new(Config::new(seed_from(9)));
    stack.add_nic(NicConfig::loopback()).unwrap();
    stack
}

fn send(socket: &TcpSocket, now: Instant, mut bytes: &[u8]) -> Result<usize, SendError> {
    socket.send(now, &mut bytes, SendFlags::empty())
}

fn recv(socket: &TcpSocket, now: Instant) -> Result<Vec<u8>, RecvError> {
    let mut bytes = Vec::new();
    socket.recv(now, &mut bytes, RecvFlags::empty()).map(|_| bytes)
}

#[test]
fn a_port_without_listener_refuses_at_once() {
    for family in [Family::V4, Family::V6] {
        let mut world = pair(Faults::NONE, 0, 0);
        let socket = world.a.socket(family);
        assert_eq!(socket.connect(world.now, server(family)), Ok(Connect::InProgress));
        world.run_for(Duration::from_millis(100));
        let all =
            Readiness::IN | Readiness::OUT | Readiness::ERR | Readiness::HUP | Readiness::RDHUP;
        assert_eq!(ready(&socket), all);
        assert_eq!(socket.take_error(), Some(SocketError::ConnectionRefused));
        assert_eq!(socket.take_error(), None);
        // As on Linux: the next connect tells that there was a failure though SO_ERROR gave it away, then the socket may try again.
        let aborted = Err(ConnectError::Network(SocketError::ConnectionAborted));
        assert_eq!(socket.connect(world.now, server(family)), aborted);
        world.b.listen(family, PORT, 1);
        assert_eq!(socket.connect(world.now, server(family)), Ok(Connect::InProgress));
        world.run_for(Duration::from_millis(100));
        assert_eq!(socket.connect(world.now, server(family)), Ok(Connect::Done));
        assert_eq!(socket.connect(world.now, server(family)), Err(ConnectError::IsConnected));
    }
}

#[test]
fn a_host_that_is_not_there_is_unreachable() {
    let mut world = pair(Faults::NONE, 0, 0);
    let socket = world.a.socket(Family::V4);
    let nobody = SocketAddr::from(([10, 0, 0, 99], PORT));
    assert_eq!(socket.connect(world.now, nobody), Ok(Connect::InProgress));
    world.run_for(Duration::from_secs(10));
    assert_eq!(socket.take_error(), Some(SocketError::HostUnreachable));
    let aborted = Err(ConnectError::Network(SocketError::ConnectionAborted));
    assert_eq!(socket.connect(world.now, nobody), aborted);
    let far = SocketAddr::from(([192, 0, 2, 1], PORT));
    let error = socket.connect(world.now, far);
    assert_eq!(error, Err(ConnectError::Network(SocketError::NetworkUnreachable)));
}

#[test]
fn a_full_accept_queue_drops_syns_until_there_is_room() {
    let mut world = pair(Faults::NONE, 0, 0);
    world.b.listen(Family::V4, PORT, 1);
    // The node's program would accept: keep its listener away from it.
    let listener = world.b.program.listener.take().unwrap();
    let clients: Vec<TcpSocket> = (0..5).map(|_| world.a.socket(Family::V4)).collect();
    for client in &clients {
        client.connect(world.now, server(Family::V4)).unwrap();
        world.run_for(Duration::from_millis(20));
    }
    let up = |clients: &[TcpSocket]| {
        clients.iter().filter(|client| client.state() == StateName::Established).count()
    };
    // One more than the backlog waits, as on Linux.
    assert_eq!((up(&clients), listener.backlog()), (2, Some((2, 1))));
    let stats = world.b.stack.stats();
    assert!(stats.value("TcpExt", "ListenOverflows") >= 3, "{stats:?}");
    let mut accepted = Vec::new();
    for _ in 0..40 {
        world.run_for(Duration::from_millis(500));
        while let Ok(socket) = listener.accept(world.now) {
            accepted.push(socket);
        }
    }
    assert_eq!((up(&clients), accepted.len()), (5, 5));
    assert_eq!(listener.accept(world.now).err(), Some(AcceptError::WouldBlock));
}

#[test]
fn closing_a_listener_resets_what_nobody_accepted() {
    let mut world = pair(Faults::NONE, 0, 0);
    world.b.listen(Family::V4, PORT, 5);
    let listener = world.b.program.listener.take().unwrap();
    let client = world.a.socket(Family::V4);
    client.connect(world.now, server(Family::V4)).unwrap();
    world.run_for(Duration::from_millis(50));
    assert_eq!(ready(&listener), Readiness::IN);
    listener.close(world.now);
    world.run_for(Duration::from_millis(50));
    assert_eq!(client.take_error(), Some(SocketError::ConnectionReset));
    client.close(world.now);
    assert_eq!(world.a.held() + world.b.held(), 0);
}

#[test]
fn a_reader_that_stalls_closes_the_window_and_opens_it_again() {
    let mut world = pair(Faults { loss: 20_000, ..Faults::NONE }, 3_000_000, 0);
    world.b.listen(Family::V4, PORT, 5);
    world.b.program.reads = false;
    world.a.connect(world.now, server(Family::V4));
    world.run_for(Duration::from_secs(60));
    let client = world.a.program.socket.clone().unwrap();
    assert_eq!(client.info().unwrap().send_window, 0);
    assert!(!ready(&client).contains(Readiness::OUT));
    world.b.program.reads = true;
    world.run_until("the rest", Duration::from_secs(600), |a, b| {
        b.program.received.len() == a.program.to_send.len()
    });
    assert!(world.b.program.received == world.a.program.to_send);
}

#[test]
fn the_peer_of_a_dead_host_learns_it_by_keepalive() {
    let mut world = pair(Faults::NONE, 10, 10);
    world.a.program.closes = false;
    world.b.program.closes = false;
    world.b.listen(Family::V6, PORT, 5);
    world.a.connect(world.now, server(Family::V6));
    let client = world.a.program.socket.clone().unwrap();
    let now = world.now;
    for option in [
        TcpOption::KeepIdle(Duration::from_secs(10)),
        TcpOption::KeepInterval(Duration::from_secs(2)),
        TcpOption::KeepCount(3),
    ] {
        client.set_option(now, option).unwrap();
    }
    client.set_option(now, SocketOption::KeepAlive(true)).unwrap();
    world.run_for(Duration::from_secs(100));
    assert_eq!(client.state(), StateName::Established);
    world.faults.loss = 1_000_000;
    world.run_for(Duration::from_secs(25));
    // The program on the node has met the error.
    assert_eq!(world.a.program.error.or(client.take_error()), Some(SocketError::TimedOut));
}

#[test]
fn half_closed_connections_still_carry_data() {
    let mut world = pair(Faults::NONE, 1000, 200_000);
    world.b.program.closes = false;
    world.b.listen(Family::V4, PORT, 5);
    world.a.connect(world.now, server(Family::V4));
    let client = world.a.program.socket.clone().unwrap();
    world.run_until("down", Duration::from_secs(20), |a, b| {
        a.program.received.len() == b.program.to_send.len()
    });
    assert_eq!(client.state(), StateName::FinWait2);
    let ours = world.b.program.socket.clone().unwrap();
    assert_eq!(ours.state(), StateName::CloseWait);
    assert!(ready(&ours).contains(Readiness::IN | Readiness::RDHUP | Readiness::OUT));
    assert!(!ready(&ours).contains(Readiness::HUP));
    assert_eq!(recv(&ours, world.now), Ok(Vec::new()));
    ours.shutdown(world.now, How::Write).unwrap();
    world.run_for(Duration::from_millis(100));
    assert_eq!(ours.state(), StateName::Closed);
    assert!(ready(&ours).contains(Readiness::HUP));
    assert_eq!(send(&ours, world.now, b"x"), Err(SendError::Shutdown));
}

#[test]
fn stacks_may_open_to_each_other_at_once() {
    let mut world = pair(Faults::NONE, 0, 0);
    let ends = [world.a.socket(Family::V4), world.b.socket(Family::V4)];
    let at = |index: u8| SocketAddr::new(address(Family::V4, index), 5000 + u16::from(index));
    // The neighbours must know each other first, or the second SYN waits for the first.
    let refused = world.a.socket(Family::V4);
    refused.connect(world.now, SocketAddr::new(address(Family::V4, 1), 1)).unwrap();
    world.run_for(Duration::from_millis(100));
    refused.close(world.now);
    ends[0].bind(at(0)).unwrap();
    ends[1].bind(at(1)).unwrap();
    ends[0].connect(world.now, at(1)).unwrap();
    ends[1].connect(world.now, at(0)).unwrap();
    world.run_for(Duration::from_millis(100));
    assert_eq!(ends.each_ref().map(TcpSocket::state), [StateName::Established; 2]);
    send(&ends[0], world.now, b"hello").unwrap();
    world.run_for(Duration::from_millis(100));
    assert_eq!(recv(&ends[1], world.now).unwrap(), b"hello");
    // And close at once.
    ends.iter().for_each(|end| end.close(world.now));
    world.run_for(Duration::from_secs(1));
    assert!(world.a.held() + world.b.held() > 0, "TIME-WAIT holds the ports");
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.a.held() + world.b.held(), 0);
}

#[test]
fn a_four_tuple_in_time_wait_serves_a_new_connection() {
    let mut world = pair(Faults::NONE, 0, 0);
    world.b.listen(Family::V4, PORT, 5);
    let listener = world.b.program.listener.take().unwrap();
    let mine = SocketAddr::new(address(Family::V4, 0), 4000);
    for round in 0..3 {
        let client = world.a.socket(Family::V4);
        client.bind(mine).unwrap();
        client.connect(world.now, server(Family::V4)).unwrap();
        world.run_for(Duration::from_millis(50));
        assert_eq!(client.state(), StateName::Established, "round {round}");
        let accepted = listener.accept(world.now).unwrap();
        // The server closes first, so that TIME-WAIT is there.
        accepted.close(world.now);
        world.run_for(Duration::from_millis(50));
        client.close(world.now);
        world.run_for(Duration::from_millis(50));
    }
    let stats = world.b.stack.stats();
    assert_eq!(stats.value("TcpExt", "TW"), 3);
    listener.close(world.now);
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.a.held() + world.b.held(), 0);
}

#[test]
fn linger_zero_and_unread_data_end_with_a_reset() {
    let mut world = pair(Faults::NONE, 0, 0);
    world.b.listen(Family::V4, PORT, 5);
    let listener = world.b.program.listener.take().unwrap();
    for unread in [false, true] {
        let client = world.a.socket(Family::V4);
        client.connect(world.now, server(Family::V4)).unwrap();
        world.run_for(Duration::from_millis(50));
        let accepted = listener.accept(world.now).unwrap();
        if unread {
            send(&accepted, world.now, b"nobody reads this").unwrap();
            world.run_for(Duration::from_millis(50));
        } else {
            let off = SocketOption::Linger(Some(Duration::ZERO));
            client.set_option(world.now, off).unwrap();
        }
        client.close(world.now);
        world.run_for(Duration::from_millis(50));
        assert_eq!(
            recv(&accepted, world.now),
            Err(RecvError::Network(SocketError::ConnectionReset))
        );
        accepted.close(world.now);
    }
    assert_eq!(world.a.held(), 0);
}

#[test]
fn loopback_connects_within_the_call_and_carries_megabytes() {
    let stack = alone();
    let now = Instant::from_secs(5);
    let listener = stack.tcp_socket(Family::V6);
    listener.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))).unwrap();
    listener.listen(8).unwrap();
    let targets: [(Family, IpAddr); 3] = [
        (Family::V4, Ipv4Addr::LOCALHOST.into()),
        (Family::V6, Ipv6Addr::LOCALHOST.into()),
        (Family::V6, Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()),
    ];
    for (family, target) in targets {
        let client = stack.tcp_socket(family);
        let done = client.connect(now, SocketAddr::new(target, PORT));
        assert_eq!(done, Ok(Connect::Done), "{target}");
        let accepted = listener.accept(now).unwrap();
        assert_eq!(accepted.peer_addr().map(|peer| peer.port()), Some(client.local_addr().port()));
        assert!(accepted.local_addr().is_ipv6());
        let bytes = pattern(3_000_000, 4);
        let (mut sent, mut received) = (0, Vec::new());
        while received.len() < bytes.len() {
            if sent < bytes.len() {
                match send(&client, now, &bytes[sent..]) {
                    Ok(n) => sent += n,
                    Err(error) => assert_eq!(error, SendError::WouldBlock),
                }
            }
            match accepted.recv(now, &mut received, RecvFlags::empty()) {
                Ok(_) | Err(RecvError::WouldBlock) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(received == bytes);
        client.close(now);
        assert_eq!(recv(&accepted, now), Ok(Vec::new()));
        accepted.close(now);
    }
    listener.close(now);
    stack.poll(now + Duration::from_secs(61));
    assert_eq!((stack.shared().demux.len(), stack.shared().ports.len()), (0, 0));
}

#[test]
fn a_link_that_cuts_segments_gets_large_ones() {
    for family in [Family::V4, Family::V6] {
        let bytes = pattern(4_000_000, 3);
        let a = StackNode::with_gso(1, 0, bytes, 65_535);
        let b = StackNode::with_gso(1, 1, Vec::new(), 65_535);
        let mut world = World::new(1, Faults { loss: 20_000, ..Faults::NONE }, a, b);
        world.captures = true;
        world.b.listen(family, PORT, 5);
        world.a.connect(world.now, server(family));
        world.run_until("all of it", Duration::from_secs(600), |a, b| {
            b.program.received.len() == a.program.to_send.len()
        });
        assert!(world.b.program.received == world.a.program.to_send);
        let largest = world.capture.iter().map(|captured| captured.frame.len()).max();
        assert!(largest > Some(20_000) && largest <= Some(65_535 + 14 + 40), "{largest:?}");
    }
}

#[test]
fn a_deferred_accept_waits_for_data() {
    let mut world = pair(Faults::NONE, 0, 0);
    world.b.listen(Family::V4, PORT, 5);
    let listener = world.b.program.listener.take().unwrap();
    listener.set_option(world.now, TcpOption::DeferAccept(Duration::from_secs(5))).unwrap();
    let client = world.a.socket(Family::V4);
    client.connect(world.now, server(Family::V4)).unwrap();
    world.run_for(Duration::from_millis(500));
    assert_eq!(client.state(), StateName::Established);
    assert_eq!(ready(&listener), Readiness::empty());
    send(&client, world.now, b"GET").unwrap();
    world.run_for(Duration::from_millis(500));
    let accepted = listener.accept(world.now).unwrap();
    assert_eq!(recv(&accepted, world.now).unwrap(), b"GET");
}

#[test]
fn a_router_that_takes_less_makes_segments_smaller() {
    let mut world = pair(Faults::NONE, 100_000, 0);
    world.captures = true;
    world.b.listen(Family::V4, PORT, 5);
    world.a.connect(world.now, server(Family::V4));
    world.router_mtu = Some(900);
    world.run_until("all of it", Duration::from_secs(60), |a, b| {
        b.program.received.len() == a.program.to_send.len()
    });
    assert!(world.b.program.received == world.a.program.to_send);
    let large = |captured: &&super::world::Captured| captured.frame.len() > 900 + 14;
    let large = world.capture.iter().filter(large).count();
    assert!((1..=30).contains(&large), "{large} frames were too large for the path");
}

#[test]
fn a_disconnected_socket_resets_its_peer_and_may_connect_again() {
    let mut world = pair(Faults::NONE, 0, 0);
    world.b.listen(Family::V4, PORT, 5);
    let listener = world.b.program.listener.take().unwrap();
    let client = world.a.socket(Family::V4);
    for _ in 0..2 {
        client.connect(world.now, server(Family::V4)).unwrap();
        world.run_for(Duration::from_millis(50));
        let accepted = listener.accept(world.now).unwrap();
        client.disconnect(world.now);
        assert_eq!((client.state(), world.a.held()), (StateName::Closed, 0));
        world.run_for(Duration::from_millis(50));
        assert_eq!(accepted.take_error(), Some(SocketError::ConnectionReset));
        accepted.close(world.now);
    }
    listener.disconnect(world.now);
    assert_eq!(listener.accept(world.now).err(), Some(AcceptError::NotListening));
    client.connect(world.now, server(Family::V4)).unwrap();
    world.run_for(Duration::from_millis(50));
    assert_eq!(client.take_error(), Some(SocketError::ConnectionRefused));
}

#[test]
fn readiness_is_that_of_linux_and_the_waker_hears_of_arrivals() {
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(&self, _readiness: Readiness) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let stack = alone();
    let now = Instant::from_secs(5);
    let fresh = stack.tcp_socket(Family::V4);
    assert_eq!(ready(&fresh), Readiness::OUT | Readiness::HUP);
    assert_eq!(recv(&fresh, now), Err(RecvError::NotConnected));
    assert_eq!(send(&fresh, now, b"x"), Err(SendError::Shutdown));
    let listener = stack.tcp_socket(Family::V4);
    listener.listen(1).unwrap();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().port()));
    assert_eq!(ready(&listener), Readiness::empty());
    fresh.connect(now, target).unwrap();
    assert_eq!(ready(&listener), Readiness::IN);
    let accepted = listener.accept(now).unwrap();
    let count = Arc::new(Count::default());
    accepted.set_waker(count.clone());
    assert_eq!(ready(&accepted), Readiness::OUT);
    let heard = |so_far: &mut usize| {
        let now = count.0.load(Ordering::Relaxed);
        let new = now > *so_far;
        *so_far = now;
        new
    };
    let mut so_far = 0;
    for _ in 0..2 {
        send(&fresh, now, b"data").unwrap();
        assert!(heard(&mut so_far), "each arrival is news");
    }
    assert_eq!(ready(&accepted), Readiness::IN | Readiness::OUT);
    fresh.shutdown(now, How::Write).unwrap();
    assert!(heard(&mut so_far));
    assert_eq!(ready(&accepted), Readiness::IN | Readiness::OUT | Readiness::RDHUP);
    assert_eq!(recv(&accepted, now).unwrap(), b"datadata");
    assert_eq!(recv(&accepted, now).unwrap(), b"");
    accepted.shutdown(now, How::Both).unwrap();
    assert!(ready(&accepted).contains(Readiness::HUP));
    assert_eq!(accepted.listen(1), Err(ListenError::Invalid));
}

#[test]
fn peeking_leaves_the_bytes_and_truncating_drops_them() {
    let stack = alone();
    let now = Instant::from_secs(5);
    let listener = stack.tcp_socket(Family::V4);
    listener.listen(1).unwrap();
    let client = stack.tcp_socket(Family::V4);
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().port()));
    client.connect(now, target).unwrap();
    let accepted = listener.accept(now).unwrap();
    send(&client, now, b"abcdef").unwrap();
    let mut room = [0; 3];
    let mut peeked = Vec::new();
    assert_eq!(accepted.recv(now, &mut peeked, RecvFlags::PEEK), Ok(6));
    assert_eq!(accepted.recv(now, &mut &mut room[..], RecvFlags::TRUNC), Ok(3));
    assert_eq!(room, [0; 3]);
    assert_eq!(recv(&accepted, now).unwrap(), b"def");
    assert_eq!(peeked, b"abcdef");
}

#[test]
fn options_are_kept_checked_and_inherited() {
    let stack = alone();
    let now = Instant::from_secs(5);
    let listener = stack.tcp_socket(Family::V4);
    listener.set_option(now, TcpOption::NoDelay(true)).unwrap();
    listener.set_option(now, SocketOption::ReceiveBuffer(50_000)).unwrap();
    for bad in
        [TcpOption::KeepCount(0), TcpOption::MaxSegment(10), TcpOption::KeepIdle(Duration::ZERO)]
    {
        assert_eq!(listener.set_option(now, bad), Err(OptionError::Invalid), "{bad:?}");
    }
    listener.listen(1).unwrap();
    let client = stack.tcp_socket(Family::V4);
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr().port()));
    client.connect(now, target).unwrap();
    let accepted = listener.accept(now).unwrap();
    let no_delay = accepted.option(now, TcpOptionKind::NoDelay);
    assert_eq!(no_delay, Ok(OptionValue::TcpOption(TcpOption::NoDelay(true))));
    let buffer = accepted.option(now, SocketOptionKind::ReceiveBuffer);
    assert_eq!(buffer, Ok(OptionValue::SocketOption(SocketOption::ReceiveBuffer(50_000))));
    assert_eq!(client.info().map(|info| info.send_window <= 50_000), Some(true));
}

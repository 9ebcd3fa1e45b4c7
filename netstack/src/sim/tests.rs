//! Scenarios of UDP, ping, ARP, NDP, fragments and errors, each a pure function of its seed.

mod hostile;
mod options;

use core::net::{IpAddr, SocketAddr};

use super::*;
use crate::ip::{Family, IpError, IpOutput, Route, RouteQuery};
use crate::link::fault::{FaultLink, Faults};
use crate::socket::options::{
    Asks, DatagramOption, IpOption, Level, Membership, MtuDiscover, OptionError, SocketOption,
};
use crate::socket::{
    Ancillary, BindError, Readiness, Received, RecvError, RecvFlags, SendError, SocketError,
    UdpSocket,
};
use crate::transport::Host as _;
use crate::wire::icmp::{Icmp, v4};

const MS: Duration = Duration::from_millis(1);

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two hosts on a good link of 1 ms.
fn pair() -> (Sim, [HostId; 2]) {
    Sim::pair(1, Faults::delay(MS))
}

fn udp(sim: &Sim, host: HostId, family: Family, local: &str) -> UdpSocket {
    let socket = sim.stack(host).udp_socket(family);
    socket.bind(addr(local)).unwrap();
    socket
}

fn recv(sim: &Sim, socket: &UdpSocket) -> Result<(Vec<u8>, Received), RecvError> {
    let mut bytes = Vec::new();
    let received = socket.recv_from(sim.now(), &mut bytes, RecvFlags::empty())?;
    Ok((bytes, received))
}

fn send(sim: &Sim, socket: &UdpSocket, to: &str, bytes: &[u8]) -> Result<usize, SendError> {
    socket.send_to(sim.now(), &mut &bytes[..], Some(addr(to)), &Ancillary::default())
}

fn ready(socket: &UdpSocket) -> bool {
    socket.readiness().contains(Readiness::IN)
}

fn soon(sim: &Sim) -> Instant {
    sim.now() + Duration::from_secs(5)
}

#[test]
fn a_datagram_crosses_after_address_resolution_and_is_answered() {
    for (family, server_addr, any) in
        [(Family::V4, "10.0.0.2:53", "0.0.0.0:53"), (Family::V6, "[fd00::2]:53", "[::]:53")]
    {
        let (mut sim, [a, b]) = pair();
        let server = udp(&sim, b, family, any);
        let client = sim.stack(a).udp_socket(family);
        client.connect(sim.now(), addr(server_addr)).unwrap();
        client.send(sim.now(), &mut &b"question"[..]).unwrap();
        let limit = soon(&sim);
        assert!(sim.run_until(limit, |_| ready(&server)));
        let (bytes, question) = recv(&sim, &server).unwrap();
        assert_eq!((bytes.as_slice(), question.from), (&b"question"[..], client.local_addr()));
        assert_eq!((question.ttl, question.dst), (64, addr(server_addr).ip()));
        let to = question.from.to_string();
        send(&sim, &server, &to, b"answer").unwrap();
        let limit = soon(&sim);
        assert!(sim.run_until(limit, |_| ready(&client)));
        assert_eq!(recv(&sim, &client).unwrap().0, b"answer");
        // Resolution asked once on each side at most: the question taught the server its client.
        assert_eq!(sim.capture().frames().len(), 4, "{:?}", sim.capture().frames());
        client.close(sim.now());
        server.close(sim.now());
        assert_eq!(sim.stack(a).usage(), (0, 0));
        assert_eq!(sim.stack(b).usage(), (0, 0));
    }
}

#[test]
fn a_dual_stack_socket_speaks_both_families() {
    let (mut sim, [a, b]) = pair();
    let server = udp(&sim, b, Family::V6, "[::]:7");
    let four = udp(&sim, a, Family::V4, "0.0.0.0:1000");
    let six = udp(&sim, a, Family::V6, "[::]:1001");
    send(&sim, &four, "10.0.0.2:7", b"four").unwrap();
    send(&sim, &six, "[fd00::2]:7", b"six").unwrap();
    sim.run_for(50 * MS);
    let mut from: Vec<_> = (0..2).map(|_| recv(&sim, &server).unwrap().1.from).collect();
    from.sort();
    assert_eq!(from, [addr("[::ffff:10.0.0.1]:1000"), addr("[fd00::1]:1001")]);
    send(&sim, &server, "[::ffff:10.0.0.1]:1000", b"back").unwrap();
    sim.run_for(50 * MS);
    assert_eq!(recv(&sim, &four).unwrap().1.from, addr("10.0.0.2:7"));
}

#[test]
fn a_closed_port_refuses_a_connected_socket() {
    for (family, to) in [(Family::V4, "10.0.0.2:9"), (Family::V6, "[fd00::2]:9")] {
        let (mut sim, [a, b]) = pair();
        let client = sim.stack(a).udp_socket(family);
        client.connect(sim.now(), addr(to)).unwrap();
        client.send(sim.now(), &mut &b"anyone?"[..]).unwrap();
        sim.run_for(50 * MS);
        assert!(client.readiness().contains(Readiness::ERR));
        let refused = SocketError::ConnectionRefused;
        assert_eq!(recv(&sim, &client).unwrap_err(), RecvError::Network(refused));
        assert_eq!(recv(&sim, &client).unwrap_err(), RecvError::WouldBlock);
        let group = if family == Family::V4 { "Udp" } else { "Udp6" };
        assert_eq!(sim.stack(b).stats().value(group, "NoPorts"), 1);
    }
}

#[test]
fn an_unconnected_socket_hears_of_errors_only_in_its_error_queue() {
    let (mut sim, [a, _]) = pair();
    let quiet = udp(&sim, a, Family::V4, "0.0.0.0:1000");
    let asking = udp(&sim, a, Family::V4, "0.0.0.0:1001");
    asking.set_option(sim.now(), DatagramOption::tell(Level::Ip, Asks::ERRORS).into()).unwrap();
    for socket in [&quiet, &asking] {
        send(&sim, socket, "10.0.0.2:9", b"hello").unwrap();
    }
    sim.run_for(50 * MS);
    assert_eq!((quiet.take_error(), quiet.recv_error()), (None, None));
    let report = asking.recv_error().unwrap();
    assert_eq!(report.error, SocketError::ConnectionRefused);
    assert_eq!((report.destination, report.offender), (addr("10.0.0.2:9"), ip("10.0.0.2")));
    assert_eq!(report.payload, b"hello");
}

#[test]
fn an_absent_neighbour_is_reported_after_three_seconds() {
    for (family, to, probes) in [(Family::V4, "10.0.0.9:9", 3), (Family::V6, "[fd00::9]:9", 3)] {
        let (mut sim, [a, _]) = pair();
        let client = sim.stack(a).udp_socket(family);
        client
            .set_option(sim.now(), DatagramOption::tell(Level::of(family), Asks::ERRORS).into())
            .unwrap();
        client.connect(sim.now(), addr(to)).unwrap();
        let start = sim.now();
        client.send(start, &mut &b"hello"[..]).unwrap();
        let limit = soon(&sim);
        assert!(sim.run_until(limit, |_| client.readiness().contains(Readiness::ERR)));
        assert_eq!(sim.now() - start, Duration::from_secs(3));
        assert_eq!(client.recv_error().unwrap().error, SocketError::HostUnreachable);
        assert_eq!(sim.capture().frames().len(), probes);
    }
}

#[test]
fn no_route_and_foreign_sources_are_refused_at_once() {
    let (sim, [a, _]) = pair();
    let socket = sim.stack(a).udp_socket(Family::V4);
    let unreachable = SendError::Network(SocketError::NetworkUnreachable);
    assert_eq!(send(&sim, &socket, "192.0.2.1:9", b"x"), Err(unreachable));
    let foreign = RouteQuery { src: Some(ip("10.0.0.77")), ..RouteQuery::to(ip("10.0.0.2")) };
    let error = sim.stack(a).route(sim.now(), &foreign).unwrap_err();
    // As on Linux: a foreign source is in no network.
    assert_eq!(error, IpError::NetworkUnreachable);
    assert_eq!(sim.stack(a).stats().value("Ip", "OutNoRoutes"), 2);
}

#[test]
fn a_broadcast_needs_permission_and_reaches_everybody() {
    let (mut sim, [a, b]) = pair();
    let receivers =
        [udp(&sim, a, Family::V4, "0.0.0.0:68"), udp(&sim, b, Family::V4, "0.0.0.0:68")];
    // The limited broadcast needs a route, or an address that says which link is meant, as on Linux.
    let anywhere = udp(&sim, a, Family::V4, "0.0.0.0:66");
    let refused = send(&sim, &anywhere, "255.255.255.255:68", b"all");
    assert_eq!(refused, Err(SendError::Network(SocketError::NetworkUnreachable)));
    let sender = udp(&sim, a, Family::V4, "10.0.0.1:67");
    for to in ["10.0.0.255:68", "255.255.255.255:68"] {
        sender.set_option(sim.now(), SocketOption::Broadcast(false).into()).unwrap();
        assert_eq!(send(&sim, &sender, to, b"all"), Err(SendError::AccessDenied));
        sender.set_option(sim.now(), SocketOption::Broadcast(true).into()).unwrap();
        send(&sim, &sender, to, b"all").unwrap();
        sim.run_for(10 * MS);
        for receiver in &receivers {
            assert_eq!(recv(&sim, receiver).unwrap().0, b"all");
        }
    }
    // A socket bound to the broadcast address hears only broadcasts to it.
    let bound = udp(&sim, b, Family::V4, "10.0.0.255:69");
    send(&sim, &sender, "10.0.0.2:69", b"one").unwrap();
    send(&sim, &sender, "10.0.0.255:69", b"all").unwrap();
    sim.run_for(10 * MS);
    assert_eq!(recv(&sim, &bound).unwrap().0, b"all");
    send(&sim, &bound, "10.0.0.1:68", b"from our own address").unwrap();
    sim.run_for(10 * MS);
    assert_eq!(recv(&sim, &receivers[0]).unwrap().1.from, addr("10.0.0.2:69"));
    let foreign = sim.stack(b).udp_socket(Family::V4).bind(addr("10.0.7.255:69"));
    assert_eq!(foreign, Err(BindError::AddressNotAvailable));
}

#[test]
fn a_group_reaches_its_members_and_only_them() {
    let (mut sim, [a, b]) = pair();
    let sender = udp(&sim, a, Family::V4, "10.0.0.1:1000");
    let member = udp(&sim, b, Family::V4, "239.1.2.3:5000");
    send(&sim, &sender, "239.1.2.3:5000", b"early").unwrap();
    sim.run_for(10 * MS);
    assert_eq!(recv(&sim, &member).unwrap_err(), RecvError::WouldBlock);
    let group = Membership { group: ip("239.1.2.3"), nic: None };
    // Without a route to the group nothing says which interface is meant.
    let anywhere = member.set_option(sim.now(), IpOption::JoinGroup(group).into());
    assert_eq!(anywhere, Err(OptionError::NoDevice));
    let group = Membership { nic: Some(sim.stack(b).nics()[1].id), ..group };
    member.set_option(sim.now(), IpOption::JoinGroup(group).into()).unwrap();
    send(&sim, &sender, "239.1.2.3:5000", b"now").unwrap();
    sim.run_for(10 * MS);
    let (bytes, received) = recv(&sim, &member).unwrap();
    assert_eq!((bytes.as_slice(), received.ttl), (&b"now"[..], 1));
    member.close(sim.now());
    assert!(!sim.stack(b).topology().nics().any(|nic| nic.is_member(group.group)));
}

#[test]
fn a_large_datagram_is_cut_and_reassembled_in_both_families() {
    for (family, to, any) in
        [(Family::V4, "10.0.0.2:5", "0.0.0.0:5"), (Family::V6, "[fd00::2]:5", "[::]:5")]
    {
        for faults in [Faults::delay(MS), Faults { loss_ppm: 0, ..Faults::lossy(MS) }] {
            let (mut sim, [a, b]) = Sim::pair(3, faults);
            let server = udp(&sim, b, family, any);
            let client = sim.stack(a).udp_socket(family);
            let bytes: Vec<u8> = (0..60_000u32).map(|n| (n % 253) as u8).collect();
            send(&sim, &client, to, &bytes).unwrap();
            sim.run_for(200 * MS);
            assert_eq!(recv(&sim, &server).unwrap().0, bytes);
            let group = if family == Family::V4 { "Ip" } else { "Ip6" };
            assert_eq!(sim.stack(a).stats().value(group, "FragOKs"), 1);
            assert_eq!(sim.stack(b).stats().value(group, "ReasmOKs"), 1);
            let size = sim.capture().frames().iter().map(|frame| frame.bytes.len()).max();
            assert!(size <= Some(1514));
        }
    }
}

#[test]
fn a_datagram_that_must_not_be_cut_is_refused_and_one_beyond_the_protocol_too() {
    let (sim, [a, _]) = pair();
    let client = sim.stack(a).udp_socket(Family::V4);
    client.set_option(sim.now(), IpOption::MtuDiscover(MtuDiscover::Do).into()).unwrap();
    assert_eq!(send(&sim, &client, "10.0.0.2:5", &[0; 1473]), Err(SendError::MessageTooLong));
    send(&sim, &client, "10.0.0.2:5", &[0; 1472]).unwrap();
    // Who asked for errors is told the MTU too, as by nobody but this host.
    assert_eq!(client.recv_error(), None);
    client.set_option(sim.now(), DatagramOption::tell(Level::Ip, Asks::ERRORS).into()).unwrap();
    assert_eq!(send(&sim, &client, "10.0.0.2:5", &[0; 1473]), Err(SendError::MessageTooLong));
    let report = client.recv_error().unwrap();
    assert_eq!((report.error, report.icmp), (SocketError::MessageTooLong, None));
    // As on Linux without a peer the port is not told.
    assert_eq!((report.destination, report.mtu), (addr("10.0.0.2:0"), Some(1500)));
    assert_eq!(client.take_error(), None);
    let other = sim.stack(a).udp_socket(Family::V4);
    assert_eq!(send(&sim, &other, "10.0.0.2:5", &[0; 65_508]), Err(SendError::MessageTooLong));
}

#[test]
fn fragments_that_stay_alone_expire_and_are_told_to_the_sender() {
    let (mut sim, [a, b]) = Sim::pair(5, Faults::delay(MS));
    let _server = udp(&sim, b, Family::V4, "0.0.0.0:5");
    let client = udp(&sim, a, Family::V4, "10.0.0.1:6");
    client.set_option(sim.now(), DatagramOption::tell(Level::Ip, Asks::ERRORS).into()).unwrap();
    send(&sim, &client, "10.0.0.2:5", b"first, so that addresses are known").unwrap();
    sim.run_for(10 * MS);
    // The frame of the last fragment is lost: capture what is sent, and let only the first pass.
    sim.set_faults(SegmentId(0), Faults { loss_ppm: 1_000_000, ..Faults::default() });
    let seen = sim.capture().frames().len();
    send(&sim, &client, "10.0.0.2:5", &[1; 2000]).unwrap();
    sim.run_for(10 * MS);
    let first = sim.capture().frames()[seen].bytes.clone();
    sim.set_faults(SegmentId(0), Faults::default());
    sim.inject(SegmentId(0), 0, first);
    sim.run_for(Duration::from_secs(31));
    assert_eq!(sim.stack(b).stats().value("Ip", "ReasmTimeout"), 1);
    let report = client.recv_error().unwrap();
    assert_eq!(report.icmp, Some((v4::TIME_EXCEEDED, v4::CODE_REASSEMBLY)));
}

#[test]
fn ping_goes_both_ways_in_both_families() {
    for (family, to, echo) in [(Family::V4, "10.0.0.2:0", 8u8), (Family::V6, "[fd00::2]:0", 128)] {
        let (mut sim, [a, b]) = pair();
        let socket = sim.stack(a).ping_socket(family);
        let request = [echo, 0, 0, 0, 0, 0, 0, 5, b'p', b'i', b'n', b'g'];
        let to = Some(addr(to));
        let none = Ancillary::default();
        socket.send_to(sim.now(), &mut &request[..], to, &none).unwrap();
        let wrong = [echo + 1, 0, 0, 0, 0, 0, 0, 5];
        let refused = socket.send_to(sim.now(), &mut &wrong[..], to, &none);
        assert_eq!(refused, Err(SendError::Invalid));
        let limit = soon(&sim);
        assert!(sim.run_until(limit, |_| socket.readiness().contains(Readiness::IN)));
        let mut reply = Vec::new();
        let received = socket.recv_from(sim.now(), &mut reply, RecvFlags::empty()).unwrap();
        let header = Icmp::parse(reply.first_chunk().unwrap());
        assert_eq!(header.ident(), socket.local_addr().port());
        assert_eq!((&header.rest[2..], &reply[8..]), (&[0, 5][..], &b"ping"[..]));
        assert_eq!(received.ttl, 64);
        let group = if family == Family::V4 { "Icmp" } else { "Icmp6" };
        assert_eq!(sim.stack(a).stats().value(group, "OutEchos"), 1);
        let replies = if family == Family::V4 { "OutEchoReps" } else { "OutEchoReplies" };
        assert_eq!(sim.stack(b).stats().value(group, replies), 1);
    }
}

#[test]
fn a_raw_icmp_socket_sends_requests_and_sees_replies_with_their_header() {
    let (mut sim, [a, _]) = pair();
    let socket = sim.stack(a).raw_socket(Family::V4, 1);
    let mut request = vec![8, 0, 0, 0, 0, 9, 0, 1];
    let sum = crate::wire::checksum::of(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = Some(addr("10.0.0.2:0"));
    socket.send_to(sim.now(), &mut &request[..], to, &Ancillary::default()).unwrap();
    sim.run_for(50 * MS);
    let mut reply = Vec::new();
    let received = socket.recv_from(sim.now(), &mut reply, RecvFlags::empty()).unwrap();
    assert_eq!((received.from.ip(), received.full_len), (ip("10.0.0.2"), 28));
    assert_eq!((reply[0], reply[20], &reply[24..28]), (0x45, 0, &[0, 9, 0, 1][..]));
    // The filter drops replies.
    socket.set_option(sim.now(), IpOption::IcmpFilter(1).into()).unwrap();
    socket.send_to(sim.now(), &mut &request[..], to, &Ancillary::default()).unwrap();
    sim.run_for(50 * MS);
    assert!(!socket.readiness().contains(Readiness::IN));
}

#[test]
fn an_included_header_is_completed_and_sent() {
    let (mut sim, [a, b]) = pair();
    let server = udp(&sim, b, Family::V4, "0.0.0.0:5");
    let socket = sim.stack(a).raw_socket(Family::V4, 255);
    // A UDP datagram without checksum behind a header without source, lengths or checksum.
    let header = [0x45, 0, 0, 0, 0, 0, 0, 0, 33, 17, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
    let datagram = [0, 6, 0, 5, 0, 10, 0, 0, b'h', b'i'];
    let packet = [&header[..], &datagram].concat();
    let to = Some(addr("10.0.0.2:0"));
    socket.send_to(sim.now(), &mut &packet[..], to, &Ancillary::default()).unwrap();
    sim.run_for(50 * MS);
    let (bytes, received) = recv(&sim, &server).unwrap();
    assert_eq!((bytes.as_slice(), received.ttl), (&b"hi"[..], 33));
    assert_eq!(received.from, addr("10.0.0.1:6"));
}

#[test]
fn loopback_and_own_addresses_deliver_at_once_without_a_frame() {
    let (sim, [a, _]) = pair();
    for (family, any, to) in [
        (Family::V4, "0.0.0.0:5", "127.0.0.1:5"),
        (Family::V4, "0.0.0.0:5", "127.9.9.9:5"),
        (Family::V4, "0.0.0.0:5", "10.0.0.1:5"),
        (Family::V6, "[::]:5", "[::1]:5"),
        (Family::V6, "[::]:5", "[fd00::1]:5"),
    ] {
        let server = udp(&sim, a, family, any);
        let client = sim.stack(a).udp_socket(family);
        send(&sim, &client, to, &[7; 40_000]).unwrap();
        let (bytes, received) = recv(&sim, &server).unwrap();
        assert_eq!((bytes.len(), received.dst), (40_000, addr(to).ip()));
        server.close(sim.now());
        let connected = sim.stack(a).udp_socket(family);
        connected.connect(sim.now(), addr(to)).unwrap();
        connected.send(sim.now(), &mut &b"x"[..]).unwrap();
        assert_eq!(connected.take_error(), Some(SocketError::ConnectionRefused));
    }
    assert!(sim.capture().frames().is_empty());
}

/// Two segments with a host on each, and nothing between them but the routes to a gateway.
#[test]
fn packets_for_elsewhere_go_to_the_gateway_of_the_best_route() {
    let (mut sim, [a, _]) = pair();
    let nic = sim.stack(a).nics()[1].id;
    for (dst, via) in [("0.0.0.0/0", "10.0.0.2"), ("192.0.2.0/24", "10.0.0.3")] {
        let route = Route::new(dst.parse().unwrap(), Some(ip(via)), nic);
        sim.stack(a).add_route(route).unwrap();
    }
    let socket = sim.stack(a).udp_socket(Family::V4);
    send(&sim, &socket, "198.51.100.1:5", b"x").unwrap();
    sim.run_for(10 * MS);
    let route = sim.stack(a).route(sim.now(), &RouteQuery::to(ip("192.0.2.9"))).unwrap();
    assert_eq!((route.next_hop, route.src), (ip("10.0.0.3"), ip("10.0.0.1")));
    let last = sim.capture().frames().last().unwrap();
    assert_eq!(last.bytes[..6], Sim::mac_of(SegmentId(0), 1).0);
    // The gateway does not forward: it drops what is not for it.
    assert_eq!(sim.capture().frames().len(), 3);
}

#[test]
fn fragmentation_needed_lowers_the_path_and_datagrams_are_cut_to_it() {
    let (mut sim, [a, _]) = pair();
    let nic = sim.stack(a).nics()[1].id;
    let route = Route::new("0.0.0.0/0".parse().unwrap(), Some(ip("10.0.0.2")), nic);
    sim.stack(a).add_route(route).unwrap();
    let socket = udp(&sim, a, Family::V4, "10.0.0.1:7");
    socket.connect(sim.now(), addr("198.51.100.1:5")).unwrap();
    socket.send(sim.now(), &mut &[0; 1400][..]).unwrap();
    sim.run_for(10 * MS);
    let sent = sim.capture().frames().last().unwrap().bytes.clone();
    // The gateway answers: next hop takes 1000 bytes.
    let mut message = vec![3, 4, 0, 0, 0, 0, 3, 232];
    message.extend_from_slice(&sent[14..14 + 28]);
    let sum = crate::wire::checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let (to, from) = (Sim::mac_of(SegmentId(0), 0), Sim::mac_of(SegmentId(0), 1));
    let mut packet = PacketBuffer::from_vec(message);
    let header = crate::wire::ipv4::Ipv4 {
        header_len: 20,
        tos: 0,
        total_len: 20 + 36,
        ident: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: 1,
        src: Ipv4Addr::new(10, 0, 0, 2),
        dst: Ipv4Addr::new(10, 0, 0, 1),
    };
    header.emit(packet.prepend());
    packet.prepend_slice(&[&to.0[..], &from.0, &[8, 0]].concat());
    sim.inject(SegmentId(0), 1, packet.to_vec());
    sim.run_for(10 * MS);
    assert_eq!(socket.take_error(), Some(SocketError::MessageTooLong));
    let query = RouteQuery::to(ip("198.51.100.1"));
    assert_eq!(sim.stack(a).route(sim.now(), &query).unwrap().mtu, 1000);
    let seen = sim.capture().frames().len();
    socket.send(sim.now(), &mut &[0; 1400][..]).unwrap();
    sim.run_for(10 * MS);
    let cut: Vec<_> =
        sim.capture().frames()[seen..].iter().map(|frame| frame.bytes.len()).collect();
    assert_eq!(cut, [14 + 996, 14 + 20 + 1408 - 976]);
}

#[test]
fn errors_are_limited_in_their_rate() {
    let (mut sim, [a, b]) = pair();
    let socket = udp(&sim, a, Family::V4, "10.0.0.1:7");
    send(&sim, &socket, "10.0.0.2:9", b"resolve").unwrap();
    sim.run_for(10 * MS);
    for _ in 0..500 {
        send(&sim, &socket, "10.0.0.2:9", b"x").unwrap();
    }
    sim.run_for(10 * MS);
    let stats = sim.stack(b).stats();
    assert_eq!(stats.value("Icmp", "OutDestUnreachs"), 6);
    assert_eq!(stats.value("Icmp", "OutRateLimitHost"), 495);
}

/// One run of chatter under faults: what arrived, and the digest of all frames.
fn chatter(seed: u64) -> (usize, u64) {
    let faults = Faults { corrupt_ppm: 20_000, jitter: 3 * MS, ..Faults::lossy(5 * MS) };
    let (mut sim, [a, b]) = Sim::pair(seed, faults);
    let server = udp(&sim, b, Family::V6, "[::]:7");
    let four = udp(&sim, a, Family::V4, "0.0.0.0:1000");
    let six = udp(&sim, a, Family::V6, "[::]:1001");
    let mut arrived = 0;
    for n in 0..40u16 {
        let bytes: Vec<u8> = (0..n * 97).map(|at| (at ^ n) as u8).collect();
        send(&sim, &four, "10.0.0.2:7", &bytes).unwrap();
        send(&sim, &six, "[fd00::2]:7", &bytes).unwrap();
        sim.run_for(20 * MS);
        while let Ok((got, received)) = recv(&sim, &server) {
            // Whatever arrives is whole: a datagram of the right shape for its length.
            let n = (got.len() / 97) as u16;
            assert_eq!(got.len() % 97, 0, "seed {seed}");
            assert!(
                got.iter().zip(0u16..).all(|(byte, at)| *byte == (at ^ n) as u8),
                "seed {seed}"
            );
            arrived += 1;
            let back = received.from.to_string();
            let _ = send(&sim, &server, &back, &got);
        }
    }
    for socket in [&server, &four, &six] {
        socket.close(sim.now());
    }
    assert_eq!((sim.stack(a).usage(), sim.stack(b).usage()), ((0, 0), (0, 0)), "seed {seed}");
    (arrived, sim.capture().digest())
}

#[test]
fn one_seed_gives_one_run_and_faults_never_deliver_wrong_bytes() {
    for seed in 0..20 {
        let (arrived, digest) = chatter(seed);
        assert!(arrived > 20, "seed {seed}: {arrived}");
        assert_eq!(chatter(seed), (arrived, digest), "seed {seed}");
    }
    assert_ne!(chatter(1).1, chatter(2).1);
}

#[test]
fn nothing_leaks_when_a_stack_shuts_down_with_open_sockets() {
    let (sim, [a, _]) = pair();
    let socket = udp(&sim, a, Family::V4, "0.0.0.0:7");
    let stack = sim.stack(a).clone();
    stack.shut_down();
    assert_eq!(stack.shared().demux.len(), 0);
    assert_eq!(
        send(&sim, &socket, "127.0.0.1:7", b"x"),
        Err(SendError::Network(SocketError::NetworkUnreachable))
    );
}

#[test]
fn a_fault_link_inside_a_stack_delays_and_loses_in_both_directions() {
    let mut sim = Sim::new(9);
    let segment = sim.add_segment(Faults::default());
    let [a, b] = [sim.add_host(), sim.add_host()];
    sim.attach(a, segment, 1500, &Sim::pair_addresses(1));
    let faults = Faults::delay(20 * MS);
    let mut kept = None;
    sim.attach_through(b, segment, (1500, &Sim::pair_addresses(2)), |link| {
        let wrapped = Arc::new(FaultLink::new(link, faults, faults, &seed_from(9)));
        kept = Some(wrapped.clone());
        wrapped
    });
    let wrapped = kept.unwrap();
    let server = udp(&sim, b, Family::V4, "0.0.0.0:7");
    let client = udp(&sim, a, Family::V4, "0.0.0.0:8");
    let start = sim.now();
    send(&sim, &client, "10.0.0.2:7", b"there").unwrap();
    let limit = soon(&sim);
    assert!(sim.run_until(limit, |_| ready(&server)));
    // The question about the address, its answer, then the datagram: 20 ms each on this side alone.
    assert_eq!(sim.now() - start, 60 * MS);
    send(&sim, &server, "10.0.0.1:8", b"back").unwrap();
    let limit = soon(&sim);
    assert!(sim.run_until(limit, |_| ready(&client)));
    assert_eq!(sim.now() - start, 80 * MS);
    let dead = Faults { loss_ppm: 1_000_000, ..Faults::default() };
    wrapped.set_faults(Faults::default(), dead);
    send(&sim, &client, "10.0.0.2:7", b"lost").unwrap();
    sim.run_for(100 * MS);
    let _ = recv(&sim, &server);
    assert_eq!(recv(&sim, &server).unwrap_err(), RecvError::WouldBlock);
}

#[test]
fn an_error_about_a_packet_that_nobody_sent_does_not_lower_the_path() {
    let (sim, [a, _]) = pair();
    let stack = sim.stack(a);
    let nic = stack.nics()[1].id;
    // Fragmentation needed, next hop 600 bytes, about a datagram from a port that no socket has.
    let mut quoted = PacketBuffer::from_vec(vec![0, 77, 0, 9, 0, 108, 0, 0]);
    let header = |protocol, total_len, src: [u8; 4], dst: [u8; 4]| crate::wire::ipv4::Ipv4 {
        header_len: 20,
        tos: 0,
        total_len,
        ident: 1,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol,
        src: src.into(),
        dst: dst.into(),
    };
    header(17, 128, [10, 0, 0, 1], [10, 0, 0, 2]).emit(quoted.prepend());
    let mut packet = crate::transport::icmp_echo::encapsulate(
        Icmp::new(v4::UNREACHABLE, v4::CODE_FRAGMENTATION, [0, 0, 2, 88]),
        ip("10.0.0.2"),
        ip("10.0.0.1"),
        quoted.into_chain(),
    );
    header(1, 56, [10, 0, 0, 2], [10, 0, 0, 1]).emit(packet.prepend());
    let (to, from) = (Sim::mac_of(SegmentId(0), 0), Sim::mac_of(SegmentId(0), 1));
    packet.prepend_slice(&[&to.0[..], &from.0, &[8, 0]].concat());
    let mtu = || stack.route(sim.now(), &RouteQuery::to(ip("10.0.0.2"))).unwrap().mtu;
    stack.handle_frame(sim.now(), nic, packet.clone());
    assert_eq!((mtu(), stack.stats().value("Icmp", "InDestUnreachs")), (1500, 1));
    // The same about a socket that is there is believed.
    let _socket = udp(&sim, a, Family::V4, "10.0.0.1:77");
    stack.handle_frame(sim.now(), nic, packet);
    assert_eq!(mtu(), 600);
}

#[test]
fn a_connect_to_an_absent_neighbour_fails_after_three_seconds() {
    for (family, to) in [(Family::V4, "10.0.0.9:80"), (Family::V6, "[fd00::9]:80")] {
        let (mut sim, [a, _]) = pair();
        let stream = sim.stack(a).tcp_socket(family);
        let start = sim.now();
        let _ = stream.connect(start, addr(to)).unwrap();
        let limit = soon(&sim);
        assert!(sim.run_until(limit, |_| stream.readiness().contains(Readiness::ERR)));
        assert_eq!(sim.now() - start, Duration::from_secs(3));
        assert_eq!(stream.take_error(), Some(SocketError::HostUnreachable));
        stream.close(sim.now());
        assert_eq!(sim.stack(a).usage(), (0, 0));
    }
}

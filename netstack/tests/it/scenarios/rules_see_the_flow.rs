//! Rules by protocol, port, user, mark and type of service see what sockets send and what is passed on (`ip rule add ipproto tcp
//! dport 80 uidrange 1000-1999 …`).

use core::net::SocketAddr;

use netstack::ip::route::TABLE_MAIN;
use netstack::ip::{Family, PROTO_TCP, PROTO_UDP, Route, Rule};
use netstack::sim::Sim;
use netstack::socket::{IpOption, SocketOption};

use super::lan::{Routed, V4, cidr, frame, ip, ms, routed, send, udp, v6};

const PEER: &str = "192.0.2.9";

/// The router's default is the near link, and that of table 100 the far one.
fn two_ways(seed: u64) -> Routed {
    let net = routed(seed, 1500);
    let stack = net.sim.stack(net.router).clone();
    let ways = [
        ("0.0.0.0/0", "10.0.1.2", net.router_nics[0], TABLE_MAIN),
        ("0.0.0.0/0", "10.0.2.2", net.router_nics[1], 100),
        ("::/0", "fd01::2", net.router_nics[0], TABLE_MAIN),
        ("::/0", "fd02::2", net.router_nics[1], 100),
    ];
    for (dst, via, nic, table) in ways {
        let route = Route::new(cidr(dst), Some(ip(via)), nic);
        stack.add_route(Route { table, ..route }).unwrap();
    }
    net
}

/// The protocol and the destination port of packets to the peer that the router sent on the far link.
fn on_far(net: &Routed) -> Vec<(u8, u16)> {
    let packets = net.sim.capture().sent_by(net.far, 0).map(|frame| frame.bytes[14..].to_vec());
    let to_peer = packets.filter(|packet| packet[0] >> 4 == 4 && packet[16..20] == [192, 0, 2, 9]);
    to_peer.map(|packet| (packet[9], u16::from_be_bytes([packet[22], packet[23]]))).collect()
}

/// What of a datagram and a connection to port 80, from port 7, goes by a rule of table 100.
fn by(rule: impl Fn(Rule) -> Rule, options: &[SocketOption], tos: u8) -> Vec<u8> {
    let mut net = two_ways(31);
    let stack = net.sim.stack(net.router).clone();
    stack.add_rule(rule(Rule::lookup(Family::V4, 50, 100))).unwrap();
    let now = net.sim.now();
    let socket = udp(&net.sim, net.router, "0.0.0.0:7");
    let stream = stack.tcp_socket(Family::V4);
    stream.bind("0.0.0.0:7".parse().unwrap()).unwrap();
    for option in options {
        socket.set_option(now, (*option).into()).unwrap();
        stream.set_option(now, *option).unwrap();
    }
    socket.set_option(now, IpOption::Tos(tos).into()).unwrap();
    stream.set_option(now, IpOption::Tos(tos)).unwrap();
    send(&net.sim, &socket, &format!("{PEER}:80"), b"hi").unwrap();
    let peer: SocketAddr = format!("{PEER}:80").parse().unwrap();
    assert!(stream.connect(now, peer).is_ok());
    net.sim.run_for(ms(20));
    let mut seen: Vec<u8> = on_far(&net).into_iter().map(|(protocol, _)| protocol).collect();
    seen.sort_unstable();
    seen
}

/// What a rule looks at, the rule, options and type of service of the sockets, and which protocols go by it.
type Row<'a> = (&'a str, fn(Rule) -> Rule, &'a [SocketOption], u8, &'a [u8]);

#[test]
fn what_a_socket_sends_goes_by_its_flow() {
    const BOTH: [u8; 2] = [PROTO_TCP, PROTO_UDP];
    let owner = [SocketOption::Owner(1500)];
    let mark = [SocketOption::Mark(0x15)];
    let rows: [Row<'_>; 11] = [
        ("dport", |r| Rule { dport: Some((80, 90)), ..r }, &[], 0, &BOTH),
        ("dport", |r| Rule { dport: Some((81, 90)), ..r }, &[], 0, &[]),
        ("sport", |r| Rule { sport: Some((7, 7)), ..r }, &[], 0, &BOTH),
        ("sport", |r| Rule { sport: Some((8, 9)), ..r }, &[], 0, &[]),
        ("protocol", |r| Rule { protocol: Some(PROTO_TCP), ..r }, &[], 0, &[PROTO_TCP]),
        ("protocol", |r| Rule { protocol: Some(PROTO_UDP), ..r }, &[], 0, &[PROTO_UDP]),
        ("uid", |r| Rule { uids: Some((1000, 1999)), ..r }, &owner, 0, &BOTH),
        ("uid", |r| Rule { uids: Some((1000, 1999)), ..r }, &[], 0, &[]),
        ("mark", |r| Rule { mark: Some((5, 0xf)), ..r }, &mark, 0, &BOTH),
        ("mark", |r| Rule { mark: Some((5, 0xf)), ..r }, &[], 0, &[]),
        ("tos", |r| Rule { tos: 0x10, ..r }, &[], 0x10, &BOTH),
    ];
    for (name, rule, options, tos, expected) in rows {
        assert_eq!(
            by(rule, options, tos),
            expected,
            "{name}: {:?}",
            rule(Rule::lookup(Family::V4, 50, 100))
        );
    }
}

#[test]
fn the_port_that_a_connect_chooses_counts() {
    let mut net = two_ways(32);
    let stack = net.sim.stack(net.router).clone();
    stack
        .add_rule(Rule { sport: Some((1024, 65_535)), ..Rule::lookup(Family::V4, 50, 100) })
        .unwrap();
    let stream = stack.tcp_socket(Family::V4);
    assert!(stream.connect(net.sim.now(), format!("{PEER}:80").parse().unwrap()).is_ok());
    net.sim.run_for(ms(20));
    assert_eq!(on_far(&net), [(PROTO_TCP, 80)]);
    // Chosen when no port was known yet.
    assert_eq!(stream.local_addr().ip(), ip("10.0.1.1"));
}

#[test]
fn an_answer_to_a_syn_goes_by_the_listeners_flow() {
    let mut net = two_ways(33);
    let stack = net.sim.stack(net.router).clone();
    stack.add_rule(Rule { sport: Some((80, 80)), ..Rule::lookup(Family::V4, 50, 100) }).unwrap();
    let listener = stack.tcp_socket(Family::V4);
    listener.bind("0.0.0.0:80".parse().unwrap()).unwrap();
    listener.listen(1).unwrap();
    let mut syn = [9u16.to_be_bytes(), 80u16.to_be_bytes()].concat();
    syn.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let mut sum =
        netstack::wire::checksum::Checksum::pseudo_header(ip(PEER), ip("10.0.1.1"), 6, 20);
    sum.add_bytes(&syn);
    syn[16..18].copy_from_slice(&sum.finish().to_be_bytes());
    let packet =
        V4 { src: PEER, dst: "10.0.1.1", protocol: PROTO_TCP, ..V4::default() }.packet(&syn);
    net.sim.inject(net.near, 0, frame(Sim::mac_of(net.near, 1), &packet));
    net.sim.run_for(ms(20));
    assert_eq!(on_far(&net), [(PROTO_TCP, 9)]);
}

#[test]
fn packets_that_are_passed_on_go_by_their_ports_and_fragments_have_none() {
    let rule = |family| Rule {
        protocol: Some(PROTO_UDP),
        dport: Some((53, 53)),
        ..Rule::lookup(family, 50, 100)
    };
    for (port, fragment, passed) in [(53, 0, true), (54, 0, false), (53, 0x2000, false)] {
        let mut net = two_ways(34);
        net.sim.stack(net.router).add_rule(rule(Family::V4)).unwrap();
        let v4 = V4 { src: "10.0.1.77", dst: PEER, fragment, ..V4::default() };
        let packet = v4.udp((9, port), b"question");
        net.sim.inject(net.near, 0, frame(Sim::mac_of(net.near, 1), &packet));
        net.sim.run_for(ms(20));
        assert_eq!(!on_far(&net).is_empty(), passed, "{port} {fragment:x}");
    }
    // Behind a header of options.
    for (port, passed) in [(53, true), (54, false)] {
        let mut net = two_ways(35);
        net.sim.stack(net.router).add_rule(rule(Family::V6)).unwrap();
        let mut payload = vec![PROTO_UDP, 0, 1, 4, 0, 0, 0, 0];
        payload.extend([0, 9, 0, port, 0, 8, 0, 0]);
        let packet = v6("fd01::77", "fd88::1", 60, 64, &payload);
        net.sim.inject(net.near, 0, frame(Sim::mac_of(net.near, 1), &packet));
        net.sim.run_for(ms(20));
        let far = net.sim.capture().sent_by(net.far, 0).filter(|seen| seen.bytes[20] == 60).count();
        assert_eq!(far, usize::from(passed), "{port}");
    }
}

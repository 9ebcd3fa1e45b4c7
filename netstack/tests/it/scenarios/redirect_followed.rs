//! A router that sends a packet back over the link it came from tells the sender of the nearer hop, which then uses it; a
//! redirect from anybody else, or to nobody's neighbour, changes nothing (RFC 1122 section 3.2.2.2, RFC 4861 section 8).

use netstack::ip::conf::ConfTarget;
use netstack::ip::{IpOutput, Route, RouteQuery};
use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

use super::lan::{NOBODY, V4, cidr, counter, frame, icmp, ip, ms, send, udp};

/// `a` and two routers on one link; the first sends everything on to the second.
fn triangle() -> (Sim, [netstack::sim::HostId; 3]) {
    let mut sim = Sim::new(17);
    let link = sim.add_segment(Faults::delay(ms(1)));
    let hosts = [sim.add_host(), sim.add_host(), sim.add_host()];
    let mut nics = Vec::new();
    for (host, n) in hosts.iter().zip(1..) {
        let addresses = [cidr(&format!("10.0.0.{n}/24")), cidr(&format!("fd00::{n}/64"))];
        nics.push(sim.attach(*host, link, 1500, &addresses));
    }
    let link_local = |n: usize| {
        let own = sim.stack(hosts[n]).addresses();
        own.into_iter()
            .map(|(_, own)| own.ip())
            .find(|ip| ip.to_string().starts_with("fe80"))
            .unwrap()
    };
    let ways =
        [(0, "10.0.0.2".parse().unwrap(), link_local(1)), (1, ip("10.0.0.3"), link_local(2))];
    for (n, v4, v6) in ways {
        let stack = sim.stack(hosts[n]);
        stack.add_route(Route::new(cidr("192.0.2.0/24"), Some(v4), nics[n])).unwrap();
        stack.add_route(Route::new(cidr("2001:db8::/32"), Some(v6), nics[n])).unwrap();
    }
    for host in &hosts[1..] {
        let stack = sim.stack(*host);
        stack.edit_ipv4_conf(ConfTarget::All, |conf| conf.forwarding = true).unwrap();
        stack.edit_ipv6_conf(ConfTarget::All, |conf| conf.forwarding = true).unwrap();
    }
    (sim, hosts)
}

#[test]
fn redirect_followed() {
    for (to, any, family) in [("192.0.2.9:5", "0.0.0.0:0", 4), ("[2001:db8::9]:5", "[::]:0", 6)] {
        let (mut sim, [a, first, second]) = triangle();
        let socket = udp(&sim, a, any);
        let dst = to.parse::<core::net::SocketAddr>().unwrap().ip();
        let hop = |sim: &Sim| sim.stack(a).route(sim.now(), &RouteQuery::to(dst)).unwrap().next_hop;
        let routed = hop(&sim);
        send(&sim, &socket, to, b"x").unwrap();
        sim.run_for(ms(100));
        let redirects: Vec<_> = icmp(&sim, SegmentId::FIRST, 1)
            .into_iter()
            .filter(|seen| seen.kind == if family == 4 { 5 } else { 137 })
            .collect();
        assert_eq!(redirects.len(), 1, "family {family}");
        let better = hop(&sim);
        assert_ne!(better, routed);
        let owns = |host, ip| sim.stack(host).addresses().iter().any(|(_, own)| own.ip() == ip);
        assert!(owns(first, routed) && owns(second, better));
        // It was sent on all the same, and the next packet goes straight.
        let group = if family == 4 { "Ip" } else { "Ip6" };
        assert_eq!(counter(&sim, first, group, "ForwDatagrams"), 1);
        send(&sim, &socket, to, b"y").unwrap();
        sim.run_for(ms(100));
        assert_eq!(counter(&sim, first, group, "ForwDatagrams"), 1);
        // The detour ends after five minutes.
        sim.run_for(ms(301_000));
        assert_eq!(hop(&sim), routed);
    }
}

#[test]
fn a_redirect_that_may_be_forged_changes_nothing() {
    let (mut sim, [a, ..]) = triangle();
    let dst = ip("192.0.2.9");
    let hop = |sim: &Sim| sim.stack(a).route(sim.now(), &RouteQuery::to(dst)).unwrap().next_hop;
    let quoted = V4 { src: "10.0.0.1", dst: "192.0.2.9", ..V4::default() }.udp((9, 5), b"x");
    let inject = |sim: &mut Sim, src: &str, gateway: [u8; 4]| {
        let mut body = [&[5, 1, 0, 0][..], &gateway, &quoted].concat();
        let sum = netstack::wire::checksum::of(&body).to_be_bytes();
        body[2..4].copy_from_slice(&sum);
        let packet = V4 { src, dst: "10.0.0.1", protocol: 1, ..V4::default() }.packet(&body);
        sim.inject(SegmentId::FIRST, NOBODY, frame(Sim::mac_of(SegmentId::FIRST, 0), &packet));
        sim.run_for(ms(10));
    };
    // Not from the first hop; to a host on no link of ours; to ourselves; to a broadcast.
    inject(&mut sim, "10.0.0.7", [10, 0, 0, 9]);
    inject(&mut sim, "10.0.0.2", [172, 16, 0, 1]);
    inject(&mut sim, "10.0.0.2", [10, 0, 0, 1]);
    inject(&mut sim, "10.0.0.2", [255, 255, 255, 255]);
    assert_eq!(hop(&sim), ip("10.0.0.2"));
    inject(&mut sim, "10.0.0.2", [10, 0, 0, 9]);
    assert_eq!(hop(&sim), ip("10.0.0.9"));
}

#[test]
fn redirects_are_refused_where_the_tunable_says_so() {
    let (mut sim, [a, ..]) = triangle();
    sim.stack(a).edit_ipv4_conf(ConfTarget::All, |conf| conf.accept_redirects = false).unwrap();
    let nic = sim.stack(a).nics()[1].id;
    sim.stack(a)
        .edit_ipv4_conf(ConfTarget::Nic(nic), |conf| conf.accept_redirects = false)
        .unwrap();
    let socket = udp(&sim, a, "0.0.0.0:0");
    send(&sim, &socket, "192.0.2.9:5", b"x").unwrap();
    sim.run_for(ms(100));
    let route = sim.stack(a).route(sim.now(), &RouteQuery::to(ip("192.0.2.9"))).unwrap();
    assert_eq!(route.next_hop, ip("10.0.0.2"));
}

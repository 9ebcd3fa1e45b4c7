//! Settings of neighbour discovery: `accept_untracked_na` (RFC 9131), `force_tllao`, `ndisc_tclass`, and echoes to anycast addresses.

use netstack::ip::conf::ConfTarget;
use netstack::link::MacAddr;
use netstack::sim::Sim;
use netstack::wire::ndp::{NeighbourAdvert, NeighbourSolicit};

use super::lan::{INJECTOR, Routed, frame, icmp, ip, ms, routed, seal_icmpv6, v6};

/// Gives the router a message of ICMPv6 over the near link.
fn hand(net: &mut Routed, src: &str, dst: &str, message: &[u8]) {
    let mut packet = v6(src, dst, 58, 255, message);
    seal_icmpv6(&mut packet);
    net.sim.inject(net.near, 0, frame(Sim::mac_of(net.near, 1), &packet));
    net.sim.run_for(ms(20));
}

#[test]
fn a_router_keeps_in_mind_who_announces_himself_where_it_may() {
    let known = |mode: u8, forwarding: bool, src: &str| {
        let mut net = routed(57, 1500);
        let stack = net.sim.stack(net.router).clone();
        let near = net.router_nics[0];
        let edit = |conf: &mut netstack::ip::conf::Ipv6Conf| {
            (conf.accept_untracked_na, conf.forwarding) = (mode, forwarding);
        };
        stack.edit_ipv6_conf(ConfTarget::Nic(near), edit).unwrap();
        let core::net::IpAddr::V6(target) = ip("fd01::77") else { panic!() };
        let link_address = Some(INJECTOR);
        let advert = NeighbourAdvert {
            router: false,
            solicited: false,
            override_cached: true,
            target,
            link_address,
        };
        let message = [&[136, 0, 0, 0][..], &advert.rest(), &advert.body()].concat();
        hand(&mut net, src, "ff02::1", &message);
        stack.neighbours().iter().any(|(_, entry)| entry.address == ip("fd01::77"))
    };
    assert!(!known(0, true, "fd01::77"));
    assert!(known(1, true, "fd01::77"));
    assert!(known(1, true, "fe80::77"));
    assert!(!known(1, false, "fd01::77"), "only a router has use for it");
    assert!(known(2, true, "fd01::77"));
    assert!(!known(2, true, "fd55::77"), "not of a prefix of the link");
}

#[test]
fn answers_carry_what_the_settings_say() {
    let mut net = routed(58, 1500);
    let stack = net.sim.stack(net.router).clone();
    let near = ConfTarget::Nic(net.router_nics[0]);
    let ask = |net: &mut Routed| {
        net.sim.forget_capture();
        let core::net::IpAddr::V6(target) = ip("fd01::1") else { panic!() };
        let solicit =
            NeighbourSolicit { target, source: Some(MacAddr([2, 0xaa, 0, 0, 0, 1])), nonce: None };
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &solicit.body()].concat();
        // By unicast, from a host that is known to be there.
        hand(net, "fd01::2", "fd01::1", &message);
        let frames: Vec<_> =
            net.sim.capture().sent_by(net.near, 1).filter(|seen| seen.bytes[54] == 136).collect();
        let bytes = &frames[0].bytes;
        (bytes.len() > 14 + 40 + 24, (bytes[14] & 0xf) << 4 | bytes[15] >> 4)
    };
    assert_eq!(ask(&mut net), (false, 0));
    stack
        .edit_ipv6_conf(near, |conf| (conf.force_tllao, conf.ndisc_tclass) = (true, 0x48))
        .unwrap();
    assert_eq!(ask(&mut net), (true, 0x48));
}

#[test]
fn an_echo_to_an_anycast_address_is_answered_as_the_settings_say() {
    let mut net = routed(59, 1500);
    let stack = net.sim.stack(net.router).clone();
    let mut answer = || {
        net.sim.forget_capture();
        // The subnet-router anycast address.
        hand(&mut net, "fd01::2", "fd01::", &[128, 0, 0, 0, 0, 1, 0, 1]);
        icmp(&net.sim, net.near, 1).into_iter().find(|seen| seen.kind == 129).map(|seen| seen.src)
    };
    assert_eq!(answer(), Some(ip("fd01::1")));
    stack.edit_ip_conf(|conf| conf.anycast_src_echo_reply = true);
    assert_eq!(answer(), Some(ip("fd01::")));
    stack.edit_ip_conf(|conf| conf.icmp6_echo_ignore_anycast = true);
    assert_eq!(answer(), None);
}

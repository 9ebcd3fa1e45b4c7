//! Rules send packets to tables by mark, source, interface and user; a rule's table that throws gives the next rule its turn;
//! rules and routes refuse with the errors that Linux gives (`ip rule`, `ip route`).

use netstack::ip::conf::ConfTarget;
use netstack::ip::route::{RouteType, TABLE_MAIN};
use netstack::ip::rule::RuleAction;
use netstack::ip::{Family, Flow, IpError, IpOutput, Route, RouteQuery, Rule};
use netstack::sim::Sim;

use super::lan::{V4, cidr, frame, ip, ms, recv, routed, udp};

#[test]
fn policy_routing() {
    let net = routed(13, 1500);
    let stack = net.sim.stack(net.router).clone();
    let [near, far] = net.router_nics;
    let route = |dst: &str, via: &str, nic, table| Route {
        table,
        ..Route::new(cidr(dst), Some(ip(via)), nic)
    };
    stack.add_route(route("0.0.0.0/0", "10.0.1.2", near, TABLE_MAIN)).unwrap();
    stack.add_route(route("0.0.0.0/0", "10.0.2.2", far, 100)).unwrap();
    stack
        .add_route(Route { table: 100, ..Route::refusing(cidr("192.0.2.0/24"), RouteType::Throw) })
        .unwrap();
    let rule = |priority| Rule::lookup(Family::V4, priority, 100);
    stack.add_rule(Rule { mark: Some((0x10, 0xf0)), ..rule(1000) }).unwrap();
    stack.add_rule(Rule { from: Some(cidr("10.0.2.1/32")), ..rule(1001) }).unwrap();
    stack.add_rule(Rule { uids: Some((1000, 1999)), ..rule(1002) }).unwrap();
    let ban = |action, to: &str, priority| Rule { action, to: Some(cidr(to)), ..rule(priority) };
    stack.add_rule(ban(RuleAction::Prohibit, "198.51.100.0/24", 1003)).unwrap();
    stack.add_rule(ban(RuleAction::Blackhole, "198.51.101.0/24", 1004)).unwrap();
    stack.add_rule(ban(RuleAction::Unreachable, "198.51.102.0/24", 1005)).unwrap();
    stack.add_route(Route::refusing(cidr("203.0.113.0/24"), RouteType::Unreachable)).unwrap();
    let now = net.sim.now();
    let nic = |query: RouteQuery| stack.route(now, &query).map(|info| info.nic);
    let to = |dst: &str| RouteQuery::to(ip(dst));
    let flow = |flow: Flow, dst: &str| RouteQuery { flow, ..to(dst) };
    assert_eq!(nic(to("8.8.8.8")), Ok(near));
    assert_eq!(nic(flow(Flow { mark: 0x1f, ..Flow::default() }, "8.8.8.8")), Ok(far));
    assert_eq!(nic(flow(Flow { mark: 0x2f, ..Flow::default() }, "8.8.8.8")), Ok(near));
    assert_eq!(nic(flow(Flow { mark: 0x1f, ..Flow::default() }, "192.0.2.1")), Ok(near));
    assert_eq!(nic(RouteQuery { src: Some(ip("10.0.2.1")), ..to("8.8.8.8") }), Ok(far));
    assert_eq!(nic(flow(Flow { uid: 1500, ..Flow::default() }, "8.8.8.8")), Ok(far));
    assert_eq!(nic(to("198.51.100.1")), Err(IpError::Prohibited));
    assert_eq!(nic(to("198.51.101.1")), Err(IpError::Invalid));
    assert_eq!(nic(to("198.51.102.1")), Err(IpError::NetworkUnreachable));
    assert_eq!(nic(to("203.0.113.1")), Err(IpError::HostUnreachable));
    stack.delete_rule(Family::V4, |rule| rule.priority == 1003).unwrap();
    assert_eq!(nic(to("198.51.100.1")), Ok(near));
}

#[test]
fn forwarded_packets_obey_the_rule_of_their_interface() {
    let mut net = routed(14, 1500);
    let stack = net.sim.stack(net.router).clone();
    // A route in a table of its own leads back to the near link, for what comes from the far one.
    let via = Route {
        table: 7,
        ..Route::new(cidr("203.0.113.0/24"), Some(ip("10.0.1.2")), net.router_nics[0])
    };
    stack.add_route(via).unwrap();
    let from_far = Rule { iif: Some("eth1".into()), ..Rule::lookup(Family::V4, 50, 7) };
    stack.add_rule(from_far).unwrap();
    let nic = net.sim.stack(net.left).nics()[1].id;
    net.sim.stack(net.left).add_address(nic, cidr("203.0.113.1/32")).unwrap();
    net.sim.stack(net.left).edit_ipv4_conf(ConfTarget::All, |conf| conf.rp_filter = 0).unwrap();
    let server = udp(&net.sim, net.left, "0.0.0.0:7");
    for (segment, port, src, hears) in
        [(net.far, 1, "10.0.2.2", true), (net.near, 0, "10.0.1.9", false)]
    {
        let to = Sim::mac_of(segment, if segment == net.far { 0 } else { 1 });
        let packet = V4 { src, dst: "203.0.113.1", ..V4::default() }.udp((9, 7), b"hi");
        net.sim.inject(segment, port, frame(to, &packet));
        net.sim.run_for(ms(20));
        assert_eq!(recv(&net.sim, &server).is_some(), hears, "{src}");
    }
}

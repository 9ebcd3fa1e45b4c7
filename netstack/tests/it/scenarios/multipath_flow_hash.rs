//! A route of several ways sends all packets of a flow one way, and flows by the weights of the ways; a way whose interface
//! is down gets none (`fib_multipath_hash_policy`).

use netstack::ip::route::NextHop;
use netstack::ip::{Flow, IpOutput, Route, RouteQuery};
use netstack::stack::NicState;

use super::lan::{cidr, ip, routed};

#[test]
fn multipath_flow_hash() {
    let net = routed(15, 1500);
    let stack = net.sim.stack(net.router).clone();
    let [near, far] = net.router_nics;
    let hops = vec![
        NextHop::new(Some(ip("10.0.1.2")), near),
        NextHop { weight: 3, ..NextHop::new(Some(ip("10.0.2.2")), far) },
    ];
    let route = Route::new(cidr("192.0.2.0/24"), None, near);
    stack.add_route(Route { hops, scope: Default::default(), ..route }).unwrap();
    let way = |flow: Flow, last: u8| {
        let query = RouteQuery { flow, ..RouteQuery::to(ip(&format!("192.0.2.{last}"))) };
        stack.route(net.sim.now(), &query).unwrap().nic
    };
    // By addresses: every port of a destination goes one way.
    let flow = |dport| Flow { protocol: 6, sport: 9, dport, ..Flow::default() };
    let to_far = (0..=255).filter(|last| way(flow(80), *last) == far).count();
    assert!((160..=224).contains(&to_far), "three quarters of 256: {to_far}");
    for last in 0..=255 {
        assert_eq!(way(flow(80), last), way(flow(443), last));
    }
    // And by ports.
    stack.edit_ip_conf(|conf| conf.fib_multipath_hash_policy = [1, 0]);
    let to_far = (0..256).filter(|port| way(flow(*port), 1) == far).count();
    assert!((160..=224).contains(&to_far), "{to_far}");
    assert_eq!(way(flow(80), 1), way(flow(80), 1));
    stack.set_nic_state(far, NicState::Down).unwrap();
    assert!((0..256).all(|port| way(flow(port), 1) == near));
}

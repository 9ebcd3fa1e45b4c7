//! `gc_thresh1` to `gc_thresh3` bound the neighbours of a family, and `fib_multipath_use_neigh` gives the share of a way whose
//! neighbour does not answer to the others.

use netstack::ip::IpOutput;
use netstack::ip::neigh::{Neighbour, State};
use netstack::ip::route::NextHop;
use netstack::ip::{Flow, Route, RouteQuery};
use netstack::link::MacAddr;
use netstack::time::Duration;

use super::lan::{cidr, ip, routed};

#[test]
fn the_bounds_are_settings() {
    let mut net = routed(52, 1500);
    let stack = net.sim.stack(net.router).clone();
    let near = net.router_nics[0];
    stack.edit_ip_conf(|conf| {
        let gc = &mut conf.neigh_gc_v4;
        (gc.gc_thresh1, gc.gc_thresh2, gc.gc_thresh3) = (2, 4, 6);
    });
    let stale = |last: u8| {
        let mac = Some(MacAddr([2, 0, 0, 0, 9, last]));
        Neighbour::new(ip(&format!("10.0.1.{last}")), mac, State::Stale)
    };
    let known = || {
        let all = stack.neighbours();
        all.iter().filter(|(_, entry)| entry.address.is_ipv4() && !entry.proxy).count()
    };
    for last in 100..120 {
        // All are fresh: none gives way before there are six.
        let _ = stack.set_neighbour(net.sim.now(), near, stale(last));
    }
    assert_eq!(known(), 6);
    // Above the first bound, what nobody used for `gc_stale_time` goes once anything is looked at.
    net.sim.run_for(Duration::from_secs(61));
    let _ = net.sim.stack(net.router).route(net.sim.now(), &RouteQuery::to(ip("10.0.1.2")));
    super::lan::send(
        &net.sim,
        &super::lan::udp(&net.sim, net.router, "0.0.0.0:9"),
        "10.0.1.2:9",
        b"x",
    )
    .unwrap();
    net.sim.run_for(Duration::from_secs(61));
    assert!(known() <= 2, "{}", known());
}

#[test]
fn a_silent_neighbour_gets_no_share() {
    let mut net = routed(53, 1500);
    let stack = net.sim.stack(net.router).clone();
    let [near, far] = net.router_nics;
    let hops =
        vec![NextHop::new(Some(ip("10.0.1.99")), near), NextHop::new(Some(ip("10.0.2.2")), far)];
    let route = Route::new(cidr("192.0.2.0/24"), None, near);
    stack.add_route(Route { hops, scope: Default::default(), ..route }).unwrap();
    stack.edit_ip_conf(|conf| conf.fib_multipath_hash_policy = [1, 0]);
    let to_near = |net: &super::lan::Routed| {
        let way = |dport| {
            let flow = Flow { protocol: 6, sport: 9, dport, ..Flow::default() };
            let query = RouteQuery { flow, ..RouteQuery::to(ip("192.0.2.1")) };
            stack.route(net.sim.now(), &query).unwrap().nic
        };
        (0..256).filter(|port| way(*port) == near).count()
    };
    // Somebody has to have asked for it.
    let socket = super::lan::udp(&net.sim, net.router, "0.0.0.0:9");
    super::lan::send(&net.sim, &socket, "10.0.1.99:9", b"x").unwrap();
    net.sim.run_for(Duration::from_secs(4));
    assert!((96..160).contains(&to_near(&net)), "{}", to_near(&net));
    stack.edit_ip_conf(|conf| conf.fib_multipath_use_neigh = true);
    assert_eq!(to_near(&net), 0);
    // Where nobody answers, the shares are as they were.
    let silent = Neighbour::new(ip("10.0.2.2"), None, State::Failed);
    stack.set_neighbour(net.sim.now(), far, silent).unwrap();
    assert!((96..160).contains(&to_near(&net)), "{}", to_near(&net));
}

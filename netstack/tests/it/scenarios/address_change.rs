//! When an interface's address changes, sockets that are bound to the old one keep it and fail to send, new ones take the new
//! one, and routes that preferred the old one are gone, as on Linux.

use netstack::ip::conf::ConfTarget;
use netstack::ip::{Address, AddressFlags, Family, IpError, IpOutput, Route, RouteQuery};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::stack::AddressError;

use super::lan::{cidr, ip, ms, recv, send, udp};

#[test]
fn address_change() {
    let (mut sim, [a, b]) = Sim::pair(19, Faults::delay(ms(1)));
    let server = udp(&sim, b, "0.0.0.0:7");
    let bound = udp(&sim, a, "10.0.0.1:5000");
    let stack = sim.stack(a).clone();
    let nic = stack.nics()[1].id;
    send(&sim, &bound, "10.0.0.2:7", b"old").unwrap();
    sim.run_for(ms(50));
    assert_eq!(recv(&sim, &server).as_deref(), Some(&b"old"[..]));
    stack.add_address(nic, cidr("10.0.0.11/24")).unwrap();
    assert_eq!(stack.add_address(nic, cidr("10.0.0.11/24")), Err(AddressError::Exists));
    let preferred = Route {
        pref_src: Some(ip("10.0.0.1")),
        ..Route::new(cidr("192.0.2.0/24"), Some(ip("10.0.0.2")), nic)
    };
    stack.add_route(preferred).unwrap();
    let secondary = |at: &str| {
        let own = stack.addresses().into_iter().find(|(_, own)| own.ip() == ip(at));
        own.map(|(_, own)| own.flags.contains(AddressFlags::SECONDARY))
    };
    assert_eq!((secondary("10.0.0.1"), secondary("10.0.0.11")), (Some(false), Some(true)));
    let source = |to: &str| stack.route(sim.now(), &RouteQuery::to(ip(to))).map(|info| info.src);
    assert_eq!(source("10.0.0.2"), Ok(ip("10.0.0.1")), "the primary address is the source");
    // The primary one takes the secondary ones with it, unless they are promoted.
    stack.edit_ipv4_conf(ConfTarget::Nic(nic), |conf| conf.promote_secondaries = true).unwrap();
    stack.remove_address(nic, cidr("10.0.0.1/24")).unwrap();
    assert_eq!(secondary("10.0.0.11"), Some(false));
    assert_eq!(source("10.0.0.2"), Ok(ip("10.0.0.11")));
    assert_eq!(source("192.0.2.1"), Err(IpError::NetworkUnreachable));
    assert!(send(&sim, &bound, "10.0.0.2:7", b"lost").is_err());
    assert!(sim.stack(a).udp_socket(Family::V4).bind("10.0.0.1:5001".parse().unwrap()).is_err());
    let fresh = udp(&sim, a, "0.0.0.0:0");
    send(&sim, &fresh, "10.0.0.2:7", b"new").unwrap();
    sim.run_for(ms(50));
    assert_eq!(recv(&sim, &server).as_deref(), Some(&b"new"[..]));
}

#[test]
fn without_promotion_the_subnet_goes_as_a_whole() {
    let (sim, [a, _]) = Sim::pair(20, Faults::default());
    let stack = sim.stack(a);
    let nic = stack.nics()[1].id;
    stack.add_address(nic, cidr("10.0.0.11/24")).unwrap();
    stack.add_address(nic, cidr("172.16.0.1/16")).unwrap();
    let peer = Address { peer: Some(ip("198.51.100.9")), ..Address::new(cidr("198.51.100.1/32")) };
    stack.assign_address(nic, peer).unwrap();
    let near = stack.route(sim.now(), &RouteQuery::to(ip("198.51.100.9"))).unwrap();
    assert_eq!((near.next_hop, near.src), (ip("198.51.100.9"), ip("198.51.100.1")));
    stack.remove_address(nic, cidr("10.0.0.1/24")).unwrap();
    let left: Vec<String> = stack
        .addresses()
        .into_iter()
        .filter(|(id, own)| *id == nic && own.ip().is_ipv4())
        .map(|(_, own)| own.cidr.to_string())
        .collect();
    assert_eq!(left, ["172.16.0.1/16", "198.51.100.1/32"]);
}

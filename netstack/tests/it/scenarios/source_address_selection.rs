//! The source of a packet is chosen by RFC 6724's rules in their order for IPv6, and by Linux's for IPv4: the route's preferred
//! source, then the subnet of the next hop, then scope.

use netstack::ip::route::Scope;
use netstack::ip::{Address, AddressFlags, IpOutput, Route, RouteQuery, SourcePreference};
use netstack::link::fault::Faults;
use netstack::sim::Sim;

use super::lan::{cidr, ip};

/// A host with one interface and these addresses; `~` before one makes it deprecated, `%` temporary.
fn host(addresses: &[&str]) -> (Sim, netstack::sim::HostId) {
    let mut sim = Sim::new(21);
    let link = sim.add_segment(Faults::default());
    let host = sim.add_host();
    let nic = sim.attach(host, link, 1500, &[]);
    let stack = sim.stack(host);
    for text in addresses {
        let (flag, text) = match text.split_at(1) {
            ("~", text) => (AddressFlags::DEPRECATED, text),
            ("%", text) => (AddressFlags::TEMPORARY, text),
            _ => (AddressFlags::empty(), *text),
        };
        let own = Address::new(cidr(text));
        let flags = own.flags | AddressFlags::NODAD | flag;
        stack.assign_address(nic, Address { flags, ..own }).unwrap();
    }
    for all in ["::/0", "0.0.0.0/0"] {
        let _ = stack.add_route(Route::new(cidr(all), None, nic));
    }
    (sim, host)
}

fn source(addresses: &[&str], dst: &str, prefer: SourcePreference) -> String {
    let (sim, host) = host(addresses);
    let query = RouteQuery { prefer, ..RouteQuery::to(ip(dst)) };
    sim.stack(host).route(sim.now(), &query).unwrap().src.to_string()
}

#[test]
fn source_address_selection() {
    use SourcePreference::{Default, Public, Temporary};
    for (addresses, dst, prefer, expected) in [
        // Rule 2: scope, from RFC 6724 section 10.1.
        (&["2001:db8:1::1/64", "fe80::1/64"][..], "2001:db8:2::2", Default, "2001:db8:1::1"),
        (&["2001:db8:1::1/64", "fe80::1/64"], "ff05::1", Default, "2001:db8:1::1"),
        // Rule 3: deprecated ones last, though their prefix is longer.
        (&["~2001:db8:1::1/64", "2001:db8:3::1/64"], "2001:db8:1::9", Default, "2001:db8:3::1"),
        // Rule 6: a ULA for a ULA, a global one for a global one.
        (&["fd11::1/64", "2001:db8:1::1/64"], "fd99::1", Default, "fd11::1"),
        (&["fd11::1/64", "2001:db8:1::1/64"], "2001:4860::1", Default, "2001:db8:1::1"),
        (
            &["2002:c633:6401::1/48", "2001:db8:1::1/64"],
            "2002:836b:4179::1",
            Default,
            "2002:c633:6401::1",
        ),
        // Rule 7: temporary ones when the socket wants them; Linux's default does not.
        (&["2001:db8:1::1/64", "%2001:db8:1::77/64"], "2001:db8:9::1", Default, "2001:db8:1::1"),
        (&["2001:db8:1::1/64", "%2001:db8:1::77/64"], "2001:db8:9::1", Temporary, "2001:db8:1::77"),
        (&["%2001:db8:1::77/64", "2001:db8:1::1/64"], "2001:db8:9::1", Public, "2001:db8:1::1"),
        // Rule 8: the longest common prefix, of at most the own one.
        (
            &["2001:db8:1::1/64", "2001:db8:3ffe::1/64"],
            "2001:db8:3fff::1",
            Default,
            "2001:db8:3ffe::1",
        ),
    ] {
        assert_eq!(source(addresses, dst, prefer), expected, "{addresses:?} {dst}");
    }
}

#[test]
fn ipv4_sources_follow_the_route_the_subnet_and_the_scope() {
    let (sim, host) = host(&["10.1.0.1/16", "10.2.0.1/16", "169.254.3.3/16"]);
    let stack = sim.stack(host);
    let nic = stack.nics()[1].id;
    let src = |to: &str| stack.route(sim.now(), &RouteQuery::to(ip(to))).unwrap().src.to_string();
    assert_eq!(src("10.2.9.9"), "10.2.0.1");
    assert_eq!(src("8.8.8.8"), "10.1.0.1");
    assert_eq!(src("169.254.9.9"), "169.254.3.3");
    stack.add_route(Route::new(cidr("192.0.2.0/24"), Some(ip("10.2.0.9")), nic)).unwrap();
    assert_eq!(src("192.0.2.1"), "10.2.0.1", "the subnet of the gateway");
    let route = Route::new(cidr("198.51.100.0/24"), Some(ip("10.2.0.9")), nic);
    stack.add_route(Route { pref_src: Some(ip("10.1.0.1")), ..route }).unwrap();
    assert_eq!(src("198.51.100.1"), "10.1.0.1", "the route's own preference");
    // An address that means something on its link only is no source beyond it.
    let near = Address { scope: Scope::LINK, ..Address::new(cidr("172.16.0.1/16")) };
    stack.assign_address(nic, near).unwrap();
    assert_eq!(src("172.16.9.9"), "172.16.0.1");
}

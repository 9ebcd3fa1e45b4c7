//! Default routes, prefixes and addresses end when their routers' word does; an advertisement cannot shorten what is valid
//! below two hours, a router that says it is none is one no more (RFC 4861 section 6.3.5, RFC 4862 section 5.5.3 e).

use netstack::ip::conf::Tunables;
use netstack::ip::{AddressFlags, IpError, IpOutput, RouteQuery};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::time::Duration;
use netstack::wire::ndp::{Prefix, RouterAdvert};

use super::lan::{NOBODY, advertisement, cidr, ip, ms};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn advert(lifetime: u64, valid: u64, preferred: u64) -> RouterAdvert {
    let prefix = Prefix {
        prefix: "2001:db8:1::".parse().unwrap(),
        len: 64,
        on_link: true,
        autonomous: true,
        valid: secs(valid),
        preferred: secs(preferred),
    };
    RouterAdvert { lifetime: secs(lifetime), prefixes: vec![prefix], ..RouterAdvert::default() }
}

#[test]
fn router_lifetime_ends() {
    let mut sim = Sim::new(36);
    let link = sim.add_segment(Faults::default());
    let a = sim.add_host_with(Tunables::default());
    sim.attach(a, link, 1500, &[]);
    sim.run_for(ms(3000));
    let stack = sim.stack(a).clone();
    sim.inject(link, NOBODY, advertisement("fe80::1", &advert(100, 10_000, 50)));
    sim.inject(link, NOBODY, advertisement("fe80::2", &advert(300, 10_000, 50)));
    sim.run_for(ms(3000));
    let hop = |sim: &Sim| {
        stack.route(sim.now(), &RouteQuery::to(ip("2001:4860::1"))).map(|way| way.next_hop)
    };
    assert_eq!(hop(&sim), Ok(ip("fe80::1")));
    let own = || {
        stack
            .addresses()
            .into_iter()
            .map(|(_, own)| own)
            .find(|own| cidr("2001:db8:1::/64").contains(own.ip()))
    };
    assert!(!own().unwrap().is_deprecated());
    sim.run_for(secs(60));
    assert!(own().unwrap().flags.contains(AddressFlags::DEPRECATED), "no longer preferred");
    sim.run_for(secs(60));
    assert_eq!(hop(&sim), Ok(ip("fe80::2")), "the first one's time is over");
    // A lifetime of zero ends it at once.
    sim.inject(link, NOBODY, advertisement("fe80::2", &advert(0, 10_000, 50)));
    sim.run_for(ms(10));
    assert_eq!(hop(&sim), Err(IpError::NetworkUnreachable));
    // Who tells of a valid lifetime of a minute leaves two hours.
    sim.inject(link, NOBODY, advertisement("fe80::2", &advert(0, 60, 60)));
    sim.run_for(secs(7100));
    assert!(own().is_some());
    sim.run_for(secs(200));
    assert!(own().is_none());
}

#[test]
fn a_router_that_ceases_to_be_one_is_forgotten() {
    let mut sim = Sim::new(37);
    let link = sim.add_segment(Faults::delay(ms(1)));
    let a = sim.add_host_with(Tunables::default());
    sim.attach(a, link, 1500, &[]);
    // A second host plays the router: it answers solicitations as a host, with the router flag clear.
    let b = sim.add_host();
    let other = sim.attach(b, link, 1500, &[]);
    sim.run_for(ms(3000));
    let router = sim.stack(b).addresses().into_iter().find(|(id, _)| *id == other).unwrap().1.ip();
    let source = Some(Sim::mac_of(link, 1));
    let advert = RouterAdvert { source, ..advert(1800, 10_000, 5000) };
    sim.inject(link, NOBODY, advertisement(&router.to_string(), &advert));
    sim.run_for(ms(3000));
    let stack = sim.stack(a).clone();
    let way = |sim: &Sim| stack.route(sim.now(), &RouteQuery::to(ip("2001:4860::1"))).is_ok();
    assert!(way(&sim));
    let socket = stack.udp_socket(netstack::ip::Family::V6);
    super::lan::send(&sim, &socket, "[2001:4860::1]:7", b"which asks for the router").unwrap();
    // It is used while stale, probed after five seconds, and answers.
    sim.run_for(ms(8000));
    assert!(!way(&sim));
}

//! A host asks for routers when its link-local address is sure, and forms addresses, routes, hop limit, MTU and times from the
//! advertisement (RFC 4861 section 6.3.4, RFC 4862 section 5.5, RFC 4191, RFC 8981).

use netstack::ip::conf::{ConfTarget, Tunables};
use netstack::ip::route::{Preference, Protocol};
use netstack::ip::{AddressFlags, Family, IpOutput, RouteQuery};
use netstack::link::MacAddr;
use netstack::link::fault::Faults;
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::stack::TokenError;
use netstack::time::Duration;
use netstack::wire::ndp::{Prefix, RouteInformation, RouterAdvert};

use super::lan::{NOBODY, advertisement, cidr, icmp, ip, ms};

fn host(seed: u64, tunables: Tunables) -> (Sim, SegmentId, HostId) {
    let mut sim = Sim::new(seed);
    let link = sim.add_segment(Faults::delay(ms(1)));
    let host = sim.add_host_with(tunables);
    sim.attach(host, link, 1500, &[]);
    (sim, link, host)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn prefix(at: &str) -> Prefix {
    let prefix = at.parse().unwrap();
    let (valid, preferred) = (secs(86_400), secs(14_400));
    Prefix { prefix, len: 64, on_link: true, autonomous: true, valid, preferred }
}

#[test]
fn slaac_from_router() {
    let (mut sim, link, a) = host(33, Tunables::default());
    sim.run_for(ms(2500));
    // The link-local address was probed, then routers were asked for.
    let kinds: Vec<u8> = icmp(&sim, link, 0).iter().map(|seen| seen.kind).collect();
    let first = |kind| kinds.iter().position(|seen| *seen == kind).expect("sent");
    assert!(first(135) < first(133), "{kinds:?}");
    assert!(kinds.contains(&143), "the groups are told of");
    let router = RouterAdvert {
        hop_limit: 61,
        lifetime: secs(1800),
        preference: Preference::High,
        reachable: secs(20),
        retrans: ms(700),
        source: Some(MacAddr([2, 7, 7, 7, 7, 7])),
        mtu: Some(1400),
        prefixes: vec![prefix("2001:db8:1::")],
        routes: vec![RouteInformation {
            prefix: "2001:db8:99::".parse().unwrap(),
            len: 48,
            preference: Some(Preference::Low),
            lifetime: secs(600),
        }],
    };
    let stack = sim.stack(a).clone();
    let nic = stack.nics()[1].id;
    stack
        .edit_ipv6_conf(ConfTarget::Nic(nic), |conf| conf.accept_ra_rt_info_max_plen = 64)
        .unwrap();
    sim.inject(link, NOBODY, advertisement("fe80::1", &router));
    sim.run_for(ms(2500));
    let own: Vec<_> = stack.addresses().into_iter().filter(|(id, _)| *id == nic).collect();
    let formed = own.iter().find(|(_, own)| cidr("2001:db8:1::/64").contains(own.ip())).unwrap();
    assert_eq!(formed.1.ip(), ip("2001:db8:1::ff:fe00:1"), "from the link-layer address");
    assert_eq!(formed.1.flags, AddressFlags::MANAGETEMPADDR);
    let left = formed.1.preferred_until.unwrap() - sim.now();
    assert!(left > secs(14_390) && left <= secs(14_400));
    let routes = stack.routes();
    let route = |dst: &str| routes.iter().find(|route| route.dst == cidr(dst)).unwrap();
    let default = route("::/0");
    assert_eq!(
        (default.protocol, default.metric, default.preference),
        (Protocol::RA, 1024, Preference::High)
    );
    assert_eq!(default.via(), Some(ip("fe80::1")));
    assert_eq!(
        (route("2001:db8:1::/64").metric, route("2001:db8:1::/64").protocol),
        (256, Protocol::KERNEL)
    );
    assert_eq!(route("2001:db8:99::/48").preference, Preference::Low);
    let conf = stack.nic_tunables(nic).unwrap();
    assert_eq!(conf.ipv6.hop_limit, 61);
    let neigh = conf.neigh(Family::V6);
    assert_eq!((neigh.base_reachable_time, neigh.retrans_time), (secs(20), ms(700)));
    let way = stack.route(sim.now(), &RouteQuery::to(ip("2001:4860::1"))).unwrap();
    assert_eq!((way.mtu, way.next_hop, way.src), (1400, ip("fe80::1"), formed.1.ip()));
    let known = stack.neighbours().into_iter().find(|(_, at)| at.address == ip("fe80::1")).unwrap();
    assert!(known.1.router && known.1.mac == router.source);
    // It asks no more.
    let asked = |sim: &Sim| icmp(sim, link, 0).iter().filter(|seen| seen.kind == 133).count();
    let before = asked(&sim);
    sim.run_for(secs(600));
    assert_eq!(asked(&sim), before);
}

#[test]
fn advertisements_are_refused_where_they_should_be() {
    let (mut sim, link, a) = host(34, Tunables::default());
    let stack = sim.stack(a).clone();
    let nic = stack.nics()[1].id;
    sim.run_for(ms(3000));
    let advert = RouterAdvert {
        lifetime: secs(1800),
        prefixes: vec![prefix("2001:db8:1::")],
        ..RouterAdvert::default()
    };
    let learned = |sim: &mut Sim, frame: Vec<u8>| {
        sim.inject(link, NOBODY, frame);
        sim.run_for(ms(100));
        stack.routes().iter().any(|route| route.protocol == Protocol::RA)
    };
    let mut far = advertisement("fe80::1", &advert);
    far[14 + 7] = 254;
    assert!(!learned(&mut sim, far), "it crossed a router");
    assert!(
        !learned(&mut sim, advertisement("2001:db8::1", &advert)),
        "not from a link-local address"
    );
    stack.edit_ipv6_conf(ConfTarget::Nic(nic), |conf| conf.accept_ra = 0).unwrap();
    assert!(!learned(&mut sim, advertisement("fe80::1", &advert)));
    stack
        .edit_ipv6_conf(ConfTarget::Nic(nic), |conf| (conf.accept_ra, conf.forwarding) = (1, true))
        .unwrap();
    assert!(!learned(&mut sim, advertisement("fe80::1", &advert)), "a router listens to no router");
    stack.edit_ipv6_conf(ConfTarget::Nic(nic), |conf| conf.accept_ra = 2).unwrap();
    assert!(learned(&mut sim, advertisement("fe80::1", &advert)));
}

#[test]
fn temporary_addresses_are_made_and_renewed() {
    let mut tunables = Tunables::default();
    tunables.default.ipv6.use_tempaddr = 2;
    tunables.default.ipv6.temp_prefered_lft = 1000;
    tunables.default.ipv6.max_desync_factor = 100;
    let (mut sim, link, a) = host(35, tunables);
    sim.run_for(ms(3000));
    let advert = RouterAdvert {
        lifetime: secs(9000),
        prefixes: vec![prefix("2001:db8:1::")],
        ..RouterAdvert::default()
    };
    sim.inject(link, NOBODY, advertisement("fe80::1", &advert));
    sim.run_for(ms(3000));
    let stack = sim.stack(a).clone();
    let temporary = || {
        let own = stack.addresses().into_iter().map(|(_, own)| own);
        own.filter(|own| own.flags.contains(AddressFlags::TEMPORARY)).collect::<Vec<_>>()
    };
    let first = temporary();
    assert_eq!(first.len(), 1);
    let src = |sim: &Sim| stack.route(sim.now(), &RouteQuery::to(ip("2001:4860::1"))).unwrap().src;
    assert_eq!(src(&sim), first[0].ip());
    // Before its preferred time ends there is another, and new packets carry that one.
    sim.run_for(secs(1000));
    let both = temporary();
    assert_eq!(both.len(), 2);
    assert!(both[0].is_deprecated() && !both[1].is_deprecated());
    assert_eq!(src(&sim), both[1].ip());
}

#[test]
fn a_token_is_the_identifier_of_what_routers_tell_until_it_is_taken_back() {
    let (mut sim, link, a) = host(35, Tunables::default());
    sim.run_for(ms(2500));
    let stack = sim.stack(a).clone();
    let nic = stack.nics()[1].id;
    let router = RouterAdvert { prefixes: vec![prefix("2001:db8:1::")], ..RouterAdvert::default() };
    let formed = || {
        let all = stack.addresses().into_iter();
        let of_prefix = all.filter(|(_, own)| cidr("2001:db8:1::/64").contains(own.ip()));
        of_prefix.map(|(_, own)| own.ip()).collect::<Vec<_>>()
    };
    sim.inject(link, NOBODY, advertisement("fe80::1", &router));
    sim.run_for(ms(2500));
    assert_eq!(formed(), [ip("2001:db8:1::ff:fe00:1")], "from the link-layer address");
    let asked = |sim: &Sim| icmp(sim, link, 0).iter().filter(|seen| seen.kind == 133).count();
    let before = asked(&sim);
    // The routers are asked at once; what they tell makes an address of the token beside the first.
    stack.set_token(sim.now(), nic, "::5:6".parse().unwrap()).unwrap();
    sim.run_for(ms(10));
    assert_eq!(asked(&sim), before + 1);
    sim.inject(link, NOBODY, advertisement("fe80::1", &router));
    sim.run_for(ms(2500));
    assert_eq!(formed(), [ip("2001:db8:1::ff:fe00:1"), ip("2001:db8:1::5:6")]);
    // Another token ends the address of the first.
    stack.set_token(sim.now(), nic, "::7".parse().unwrap()).unwrap();
    assert_eq!(formed(), [ip("2001:db8:1::ff:fe00:1")]);
    sim.inject(link, NOBODY, advertisement("fe80::1", &router));
    sim.run_for(ms(2500));
    assert_eq!(formed(), [ip("2001:db8:1::ff:fe00:1"), ip("2001:db8:1::7")]);
    let loopback = stack.nics()[0].id;
    assert_eq!(
        stack.set_token(sim.now(), loopback, "::7".parse().unwrap()),
        Err(TokenError::Loopback)
    );
    stack.edit_ipv6_conf(ConfTarget::Nic(nic), |conf| conf.accept_ra = 0).unwrap();
    assert_eq!(stack.set_token(sim.now(), nic, "::8".parse().unwrap()), Err(TokenError::NoAdverts));
}

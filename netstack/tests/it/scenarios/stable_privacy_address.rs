//! With a secret the identifiers of addresses are stable for a prefix and tell nothing of the interface; a collision makes
//! another (RFC 7217). They are the ones that Linux makes of the same secret.

use netstack::ip::AddressFlags;
use netstack::ip::conf::Tunables;
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::time::Duration;
use netstack::wire::ndp::{Prefix, RouterAdvert};

use super::lan::{NOBODY, advertisement, cidr, frame, ip, ms, seal_icmpv6, v6};

fn run(seed: u64, secret: &str, prefixes: &[&str]) -> (Sim, Vec<String>) {
    let mut tunables = Tunables::default();
    tunables.default.ipv6.stable_secret = Some(secret.parse().unwrap());
    tunables.default.ipv6.addr_gen_mode = 2;
    let mut sim = Sim::new(seed);
    let link = sim.add_segment(Faults::default());
    let host = sim.add_host_with(tunables);
    let nic = sim.attach(host, link, 1500, &[]);
    sim.run_for(ms(3000));
    for at in prefixes {
        let day = Duration::from_secs(86_400);
        let prefix = Prefix {
            prefix: at.parse().unwrap(),
            len: 64,
            on_link: true,
            autonomous: true,
            valid: day,
            preferred: day,
        };
        let advert = RouterAdvert { prefixes: vec![prefix], ..RouterAdvert::default() };
        sim.inject(link, NOBODY, advertisement("fe80::1", &advert));
        sim.run_for(ms(3000));
    }
    let own = sim.stack(host).addresses().into_iter().filter(|(id, _)| *id == nic);
    let own: Vec<_> = own.map(|(_, own)| own).collect();
    assert!(own.iter().all(|own| own.flags.contains(AddressFlags::STABLE_PRIVACY)));
    let texts = own.iter().map(|own| own.ip().to_string()).collect();
    (sim, texts)
}

#[test]
fn stable_privacy_address() {
    let prefixes = ["2001:db8:1::", "2001:db8:2::"];
    let (_, first) = run(38, "2001:db8::1", &prefixes);
    let (_, again) = run(39, "2001:db8::1", &prefixes);
    let (_, other) = run(38, "2001:db8::2", &prefixes);
    assert_eq!(first, again, "whatever the seed");
    assert!(first.iter().all(|own| !other.contains(own)));
    let tail = |own: &String| own.rsplit(':').take(4).map(str::to_owned).collect::<Vec<_>>();
    assert_ne!(tail(&first[1]), tail(&first[2]), "each prefix has its own");
    assert!(first.iter().all(|own| !own.contains("ff:fe")));
}

#[test]
fn a_collision_makes_another_address() {
    let (sim, first) = run(40, "2001:db8::1", &["2001:db8:1::"]);
    drop(sim);
    let mut tunables = Tunables::default();
    tunables.default.ipv6.stable_secret = Some("2001:db8::1".parse().unwrap());
    let mut sim = Sim::new(40);
    let link = sim.add_segment(Faults::default());
    let host = sim.add_host_with(tunables);
    let nic = sim.attach(host, link, 1500, &[]);
    // Somebody has the link-local address already.
    let target = ip(&first[0]);
    let core::net::IpAddr::V6(octets) = target else { panic!() };
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &octets.octets()].concat();
    let mut packet = v6(&first[0], "ff02::1", 58, 255, &message);
    seal_icmpv6(&mut packet);
    sim.inject(link, NOBODY, frame(netstack::link::MacAddr([0x33, 0x33, 0, 0, 0, 1]), &packet));
    sim.run_for(ms(3000));
    let own: Vec<_> =
        sim.stack(host).addresses().into_iter().filter(|(id, _)| *id == nic).collect();
    assert_eq!(own.len(), 1);
    assert!(own[0].1.ip() != target && cidr("fe80::/64").contains(own[0].1.ip()));
    assert!(own[0].1.is_usable());
}

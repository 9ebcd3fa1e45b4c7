//! An address is probed before it is used; when somebody else has it, or probes for it too, it is never used (RFC 4862 section
//! 5.4). A probe of our own that comes back is no conflict (RFC 7527).

use netstack::ip::conf::Tunables;
use netstack::ip::{Address, AddressFlags};
use netstack::link::fault::Faults;
use netstack::sim::{HostId, Sim};

use super::lan::{NOBODY, cidr, frame, icmp, ip, ms, seal_icmpv6, v6};

fn quiet_but_careful() -> Tunables {
    let mut tunables = Tunables::quiet();
    tunables.default.ipv6.dad_transmits = 1;
    tunables
}

fn flags(sim: &Sim, host: HostId, address: &str) -> Option<AddressFlags> {
    let own = sim.stack(host).addresses().into_iter().find(|(_, own)| own.ip() == ip(address));
    own.map(|(_, own)| own.flags)
}

#[test]
fn dad_conflict() {
    let mut sim = Sim::new(31);
    let link = sim.add_segment(Faults::delay(ms(1)));
    let hosts = [sim.add_host_with(quiet_but_careful()), sim.add_host_with(quiet_but_careful())];
    let nics = hosts.map(|host| sim.attach(host, link, 1500, &[]));
    let assign = |sim: &Sim, n: usize, at: &str| {
        sim.stack(hosts[n]).assign_address(nics[n], Address::new(cidr(at))).unwrap();
    };
    assign(&sim, 0, "fd00::1/64");
    assert!(flags(&sim, hosts[0], "fd00::1").unwrap().contains(AddressFlags::TENTATIVE));
    let bind = |sim: &Sim, n: usize| {
        let socket = sim.stack(hosts[n]).udp_socket(netstack::ip::Family::V6);
        socket.bind("[fd00::1]:7".parse().unwrap()).is_ok()
    };
    assert!(!bind(&sim, 0), "not before it is known to be unique");
    sim.run_for(ms(2500));
    assert_eq!(flags(&sim, hosts[0], "fd00::1"), Some(AddressFlags::PERMANENT));
    assert!(bind(&sim, 0));
    let probes: Vec<_> = icmp(&sim, link, 0)
        .into_iter()
        .filter(|seen| {
            seen.kind == 135
                && seen.body[..16] == [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        })
        .collect();
    assert_eq!(probes.len(), 1);
    assert_eq!((probes[0].src, probes[0].dst), (ip("::"), ip("ff02::1:ff00:1")));
    // The second to want it hears from the first.
    assign(&sim, 1, "fd00::1/64");
    sim.run_for(ms(2500));
    let failed = flags(&sim, hosts[1], "fd00::1").unwrap();
    assert!(failed.contains(AddressFlags::DADFAILED), "{failed:?}");
    assert!(!bind(&sim, 1));
    // Of two that probe at once, the one that hears the other first gives way; never do both use the address.
    assign(&sim, 0, "fd00::9/64");
    assign(&sim, 1, "fd00::9/64");
    sim.run_for(ms(2500));
    let gave_way =
        hosts.map(|host| flags(&sim, host, "fd00::9").unwrap().contains(AddressFlags::DADFAILED));
    assert!(gave_way.contains(&true));
}

#[test]
fn a_probe_that_comes_back_is_no_conflict() {
    let mut sim = Sim::new(32);
    let link = sim.add_segment(Faults::default());
    let host = sim.add_host_with(quiet_but_careful());
    let nic = sim.attach(host, link, 1500, &[]);
    sim.run_for(ms(3000));
    sim.stack(host).assign_address(nic, Address::new(cidr("fd00::1/64"))).unwrap();
    let seen = sim.capture().frames().len();
    let limit = sim.now() + ms(2000);
    let asked = |sim: &Sim| sim.capture().frames()[seen..].iter().any(|sent| sent.bytes[54] == 135);
    assert!(sim.run_until(limit, asked));
    let probe = sim.capture().frames()[seen..].iter().find(|sent| sent.bytes[54] == 135).unwrap();
    let mut looped = probe.bytes.clone();
    sim.inject(link, NOBODY, looped.clone());
    sim.run_for(ms(3000));
    assert_eq!(flags(&sim, host, "fd00::1"), Some(AddressFlags::PERMANENT));
    // The same question with another nonce, or none, is somebody else's.
    sim.stack(host).assign_address(nic, Address::new(cidr("fd00::2/64"))).unwrap();
    let len = looped.len();
    looped[len - 1] ^= 1;
    looped[54 + 23] = 2;
    let body = looped.split_off(54);
    let mut packet = v6("::", "ff02::1:ff00:2", 58, 255, &body);
    seal_icmpv6(&mut packet);
    let mut sent = frame(netstack::link::MacAddr([0x33, 0x33, 0xff, 0, 0, 2]), &packet);
    sent[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    sim.inject(link, NOBODY, sent);
    sim.run_for(ms(3000));
    assert!(flags(&sim, host, "fd00::2").unwrap().contains(AddressFlags::DADFAILED));
}

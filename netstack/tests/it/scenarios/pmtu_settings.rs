//! What a router may say of a path's MTU is bounded by settings: `min_pmtu`, `mtu_expires`, `ip_no_pmtu_disc`, and forgotten by
//! `route/flush`.

use netstack::ip::{Family, IpOutput, RouteQuery};
use netstack::link::fault::Faults;
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::socket::UdpSocket;
use netstack::time::Duration;

use super::lan::{NOBODY, V4, frame, ip, ms, send, udp};

/// A socket that sent to the peer, and was told of an MTU; gives what is believed.
fn told(sim: &mut Sim, (host, socket): (HostId, &UdpSocket), mtu: u16) -> u32 {
    send(sim, socket, "192.0.2.7:7", &[0; 1000]).unwrap();
    let quoted = V4 { src: "10.0.0.1", dst: "192.0.2.7", ..V4::default() }.udp((9, 7), &[0; 1000]);
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&quoted[..28]);
    let sum = netstack::wire::checksum::of(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let packet = V4 { src: "10.0.0.2", protocol: 1, ..V4::default() }.packet(&message);
    sim.inject(SegmentId::FIRST, NOBODY, frame(Sim::mac_of(SegmentId::FIRST, 0), &packet));
    sim.run_for(ms(5));
    known(sim, host)
}

fn known(sim: &Sim, host: HostId) -> u32 {
    sim.stack(host).route(sim.now(), &RouteQuery::to(ip("192.0.2.7"))).unwrap().mtu
}

#[test]
fn routers_are_believed_as_the_settings_say() {
    let (mut sim, [host, _]) = Sim::pair(55, Faults::default());
    let socket = udp(&sim, host, "10.0.0.1:9");
    let stack = sim.stack(host).clone();
    let nic = stack.nics().iter().find(|nic| nic.name != "lo").unwrap().id;
    let default = netstack::ip::Route::new("0.0.0.0/0".parse().unwrap(), Some(ip("10.0.0.2")), nic);
    stack.add_route(default).unwrap();
    assert_eq!(told(&mut sim, (host, &socket), 400), 552);
    stack.flush_paths(Family::V6);
    assert_eq!(known(&sim, host), 552);
    stack.flush_paths(Family::V4);
    assert_eq!(known(&sim, host), 1500);
    stack.edit_ip_conf(|conf| (conf.min_pmtu, conf.mtu_expires[0]) = (300, Duration::from_secs(5)));
    assert_eq!(told(&mut sim, (host, &socket), 400), 400);
    sim.run_for(Duration::from_secs(6));
    assert_eq!(known(&sim, host), 1500);
    // Nobody is believed; then only TCP.
    for hardened in [2, 3] {
        stack.edit_ip_conf(|conf| conf.ip_no_pmtu_disc = hardened);
        assert_eq!(told(&mut sim, (host, &socket), 800), 1500, "{hardened}");
    }
}

#[test]
fn sockets_may_let_routers_cut_from_their_beginning() {
    let (mut sim, [host, _]) = Sim::pair(56, Faults::default());
    let forbids = |sim: &mut Sim| {
        let socket = udp(sim, host, "10.0.0.1:0");
        send(sim, &socket, "10.0.0.2:7", b"x").unwrap();
        sim.run_for(ms(5));
        let frames =
            sim.capture().sent_by(SegmentId::FIRST, 0).filter(|seen| seen.bytes[12..14] == [8, 0]);
        frames.last().unwrap().bytes[20] & 0x40 != 0
    };
    assert!(forbids(&mut sim));
    sim.stack(host).edit_ip_conf(|conf| conf.ip_no_pmtu_disc = 1);
    assert!(!forbids(&mut sim));
}

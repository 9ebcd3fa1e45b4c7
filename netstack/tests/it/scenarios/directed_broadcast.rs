//! A router passes broadcasts to a subnet of another link on only where `bc_forwarding` of "all" and of the interface say so
//! (RFC 2644: "A router ... MUST NOT receive [and forward] directed broadcasts by default").

use netstack::ip::conf::ConfTarget;
use netstack::sim::Sim;
use netstack::socket::UdpSocket;

use super::lan::{Routed, V4, frame, ms, recv, routed, udp};

fn passed(net: &mut Routed, server: &UdpSocket) -> bool {
    let packet = V4 { src: "10.0.1.9", dst: "10.0.2.255", ..V4::default() }.udp((9, 7), b"all");
    net.sim.inject(net.near, 0, frame(Sim::mac_of(net.near, 1), &packet));
    net.sim.run_for(ms(20));
    let heard = recv(&net.sim, server).is_some();
    let frames = net.sim.capture().sent_by(net.far, 0);
    let sent = frames
        .filter(|seen| seen.bytes.starts_with(&[0xff; 6]) && seen.bytes[12..14] == [8, 0])
        .count();
    assert_eq!(heard, sent > 0);
    net.sim.forget_capture();
    heard
}

#[test]
fn broadcasts_to_another_link_go_on_only_where_both_settings_say_so() {
    let mut net = routed(54, 1500);
    let server = udp(&net.sim, net.right, "0.0.0.0:7");
    let stack = net.sim.stack(net.router).clone();
    let set = |target, on| stack.edit_ipv4_conf(target, |conf| conf.bc_forwarding = on).unwrap();
    let near = ConfTarget::Nic(net.router_nics[0]);
    assert!(!passed(&mut net, &server));
    set(near, true);
    assert!(!passed(&mut net, &server));
    set(ConfTarget::All, true);
    assert!(passed(&mut net, &server));
    set(near, false);
    assert!(!passed(&mut net, &server));
}

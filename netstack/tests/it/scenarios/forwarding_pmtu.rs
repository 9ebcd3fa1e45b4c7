//! A router whose next link is narrow tells the sender of a packet that must not be cut, which then sends smaller ones; a
//! packet that may be cut is cut, also when it is a fragment already (RFC 1191, RFC 8201, RFC 1812 section 5.2.6).

use netstack::socket::options::{IpOption, MtuDiscover};

use super::lan::{V4, counter, frame, icmp, ip, ms, recv, routed, send, udp, udp_bytes};
use netstack::sim::Sim;

#[test]
fn forwarding_pmtu() {
    for (to, any, group, far_mtu) in
        [("10.0.2.2:7", "0.0.0.0:7", "Ip", 1300), ("[fd02::2]:7", "[::]:7", "Ip6", 1320)]
    {
        let mut net = routed(2, far_mtu);
        let server = udp(&net.sim, net.right, any);
        let client = udp(&net.sim, net.left, any);
        let bytes = vec![7; 1400];
        send(&net.sim, &client, to, &bytes).unwrap();
        net.sim.run_for(ms(50));
        assert_eq!(recv(&net.sim, &server), None, "the first is lost, but teaches");
        let told = icmp(&net.sim, net.near, 1);
        let told = told.iter().find(|seen| matches!((group, seen.kind), ("Ip", 3) | ("Ip6", 2)));
        let mtu = told.map(|seen| u32::from_be_bytes(seen.rest) & 0xffff);
        assert_eq!(mtu, Some(far_mtu));
        assert_eq!(counter(&net.sim, net.router, group, "FragFails"), 1);
        send(&net.sim, &client, to, &bytes).unwrap();
        net.sim.run_for(ms(50));
        assert_eq!(recv(&net.sim, &server), Some(bytes));
    }
}

#[test]
fn what_may_be_cut_is_cut_on_the_way() {
    let mut net = routed(3, 576);
    let server = udp(&net.sim, net.right, "0.0.0.0:7");
    let client = udp(&net.sim, net.left, "0.0.0.0:0");
    let dont = IpOption::MtuDiscover(MtuDiscover::Dont);
    client.set_option(net.sim.now(), dont.into()).unwrap();
    let bytes: Vec<u8> = (0..3000u32).map(|n| (n % 251) as u8).collect();
    send(&net.sim, &client, "10.0.2.2:7", &bytes).unwrap();
    net.sim.run_for(ms(50));
    assert_eq!(recv(&net.sim, &server), Some(bytes));
    assert!(counter(&net.sim, net.router, "Ip", "FragCreates") >= 6);
    let largest = net.sim.capture().sent_by(net.far, 0).map(|frame| frame.bytes.len()).max();
    assert!(largest.is_some_and(|len| len <= 576 + 14));
    // A record-route option is in the first fragment alone, and names the router.
    let packet = V4 {
        src: "10.0.1.2",
        dst: "10.0.2.2",
        options: &[1, 7, 7, 4, 0, 0, 0, 0],
        ..V4::default()
    };
    let payload = udp_bytes((ip("10.0.1.2"), ip("10.0.2.2")), (9, 7), &[5; 1000]);
    let before = net.sim.capture().frames().len();
    net.sim.inject(net.near, 0, frame(Sim::mac_of(net.near, 1), &packet.packet(&payload)));
    net.sim.run_for(ms(50));
    assert_eq!(recv(&net.sim, &server), Some(vec![5; 1000]));
    let frames = &net.sim.capture().frames()[before..];
    let cut: Vec<_> = frames.iter().filter(|frame| frame.segment == net.far).collect();
    assert_eq!(cut[0].bytes[14 + 20..14 + 28], [1, 7, 7, 8, 10, 0, 2, 1]);
    assert_eq!(cut[1].bytes[14] & 15, 5);
}

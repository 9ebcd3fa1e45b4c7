//! A packet whose last hop is a router's is answered with Time Exceeded from the router's own address, and one with a hop
//! more arrives with that hop taken (RFC 1812 section 5.3.1, RFC 8200 section 3).

use netstack::socket::options::IpOption;
use netstack::wire::icmp::{v4, v6};

use super::lan::{counter, icmp, ip, ms, recv, routed, send, udp};

#[test]
fn forwarding_ttl_expires() {
    for (to, any, from, kind, group) in [
        ("10.0.2.2:7", "0.0.0.0:0", "10.0.1.1", v4::TIME_EXCEEDED, "Ip"),
        ("[fd02::2]:7", "[::]:0", "fd01::1", v6::TIME_EXCEEDED, "Ip6"),
    ] {
        let mut net = routed(1, 1500);
        let server = udp(&net.sim, net.right, if group == "Ip" { "0.0.0.0:7" } else { "[::]:7" });
        let client = udp(&net.sim, net.left, any);
        client.set_option(net.sim.now(), IpOption::Ttl(Some(1)).into()).unwrap();
        send(&net.sim, &client, to, b"too far").unwrap();
        net.sim.run_for(ms(50));
        assert_eq!(recv(&net.sim, &server), None);
        let errors = icmp(&net.sim, net.near, 1);
        let error = errors.iter().find(|seen| seen.kind == kind).expect("Time Exceeded");
        assert_eq!((error.src, error.code), (ip(from), 0));
        assert_eq!(counter(&net.sim, net.router, group, "InHdrErrors"), 1);
        client.set_option(net.sim.now(), IpOption::Ttl(Some(2)).into()).unwrap();
        send(&net.sim, &client, to, b"just so").unwrap();
        net.sim.run_for(ms(50));
        assert_eq!(recv(&net.sim, &server).as_deref(), Some(&b"just so"[..]));
        assert_eq!(counter(&net.sim, net.router, group, "ForwDatagrams"), 1);
    }
}

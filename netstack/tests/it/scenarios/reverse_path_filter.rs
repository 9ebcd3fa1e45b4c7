//! With `rp_filter` = 1 a source must be routed where it came from, with 2 anywhere, with 0 it is believed (RFC 3704).

use netstack::ip::conf::ConfTarget;
use netstack::sim::Sim;

use super::lan::{V4, counter, frame, ms, recv, routed, udp};

#[test]
fn reverse_path_filter() {
    // From the far network, from nowhere, and from the near one.
    let sources = ["10.0.2.77", "203.0.113.5", "10.0.1.2"];
    for (filter, passes) in
        [(0, [true, true, true]), (1, [false, false, true]), (2, [true, false, true])]
    {
        let mut net = routed(4, 1500);
        let stack = net.sim.stack(net.router).clone();
        stack
            .edit_ipv4_conf(ConfTarget::Nic(net.router_nics[0]), |conf| conf.rp_filter = filter)
            .unwrap();
        let server = udp(&net.sim, net.router, "0.0.0.0:7");
        for (src, passes) in sources.into_iter().zip(passes) {
            let packet = V4 { src, dst: "10.0.1.1", ..V4::default() }.udp((9, 7), b"hello");
            net.sim.inject(net.near, 0, frame(Sim::mac_of(net.near, 1), &packet));
            net.sim.run_for(ms(20));
            assert_eq!(recv(&net.sim, &server).is_some(), passes, "filter {filter}, {src}");
        }
        let dropped = passes.iter().filter(|passes| !**passes).count() as u64;
        assert_eq!(counter(&net.sim, net.router, "Ip", "IPReversePathFilter"), dropped);
    }
}

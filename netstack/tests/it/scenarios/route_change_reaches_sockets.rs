//! What the stack remembers of a way holds until something changes: routes, an interface that goes down, its MTU; the next
//! datagram of an open socket goes by what holds then.

use super::lan::{cidr, ip, ms, send, udp};
use netstack::ip::Route;
use netstack::link::fault::Faults;
use netstack::link::{MacAddr, NicId};
use netstack::sim::{HostId, SegmentId, Sim};
use netstack::stack::NicState;

struct Net {
    sim: Sim,
    host: HostId,
    ways: [(SegmentId, NicId); 2],
}

/// A host with two links, each with a gateway of which only the link-layer address is known.
fn net() -> Net {
    let mut sim = Sim::new(35);
    let host = sim.add_host();
    let mut way = |n: u8| {
        let segment = sim.add_segment(Faults::delay(ms(1)));
        let own = [format!("10.0.{n}.2/24"), format!("fd0{n}::2/64")].map(|text| cidr(&text));
        (segment, sim.attach(host, segment, 1500, &own))
    };
    let ways = [way(1), way(2)];
    for ((_, nic), n) in ways.iter().zip(1u8..) {
        for gateway in [format!("10.0.{n}.1"), format!("fd0{n}::1")] {
            let mac = MacAddr([2, 9, 9, 9, 9, n]);
            sim.stack(host).add_neighbour(sim.now(), *nic, ip(&gateway), mac).unwrap();
        }
    }
    Net { sim, host, ways }
}

/// The lengths of the packets to a gateway that left by either link since the capture was last forgotten.
fn left(net: &mut Net) -> [Vec<usize>; 2] {
    net.sim.run_for(ms(5));
    let of = |segment| {
        let sent = net.sim.capture().sent_by(segment, 0);
        sent.filter(|one| one.bytes[1] == 9).map(|one| one.bytes.len() - 14).collect()
    };
    let lens = net.ways.map(|(segment, _)| of(segment));
    net.sim.forget_capture();
    lens
}

#[test]
fn route_change_reaches_sockets() {
    for (all, to, any, gateways, headers) in [
        ("0.0.0.0/0", "192.0.2.1:7", "0.0.0.0:0", ["10.0.1.1", "10.0.2.1"], 28),
        ("::/0", "[2001:db8::1]:7", "[::]:0", ["fd01::1", "fd02::1"], 48),
    ] {
        let mut net = net();
        let stack = net.sim.stack(net.host).clone();
        let ways = net.ways;
        let route = |n: usize, metric| Route {
            metric,
            ..Route::new(cidr(all), Some(ip(gateways[n])), ways[n].1)
        };
        let socket = udp(&net.sim, net.host, any);
        stack.add_route(route(0, 20)).unwrap();
        let len = 1000 + headers;
        for _ in 0..2 {
            send(&net.sim, &socket, to, &[5; 1000]).unwrap();
        }
        assert_eq!(left(&mut net), [vec![len; 2], vec![]]);
        stack.add_route(route(1, 10)).unwrap();
        send(&net.sim, &socket, to, &[5; 1000]).unwrap();
        assert_eq!(left(&mut net), [vec![], vec![len]]);
        // The better way has a smaller MTU from now on: the datagram leaves in two.
        stack.set_nic_mtu(ways[1].1, 1280).unwrap();
        send(&net.sim, &socket, to, &[5; 1400]).unwrap();
        let [first, second] = left(&mut net);
        assert!(first.is_empty() && second.len() == 2 && second.iter().all(|len| *len <= 1280));
        stack.set_nic_state(ways[1].1, NicState::Down).unwrap();
        send(&net.sim, &socket, to, &[5; 1000]).unwrap();
        assert_eq!(left(&mut net), [vec![len], vec![]]);
    }
}

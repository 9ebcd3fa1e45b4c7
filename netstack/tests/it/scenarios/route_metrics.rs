//! What a route tells of its path (RTA_METRICS) reaches TCP: the segment size to offer, the first windows, the least
//! timeout, and acknowledgments without delay.

use super::segments::*;
use netstack::ip::Family;
use netstack::ip::route::{Metrics, Route};
use netstack::link::fault::Faults;
use netstack::sim::Sim;
use netstack::socket::options::TcpOption;
use netstack::socket::tcp::TcpSocket;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn connections_obey_the_metrics_of_their_route() {
    let to = at(Family::V4, 1, 80);
    for told in [true, false] {
        let (mut sim, host, hand) = with_hand(1);
        let stack = sim.stack(host).clone();
        let nic = stack.nics()[1].id;
        let metrics = Metrics {
            advmss: 1000,
            initcwnd: 3,
            initrwnd: 2,
            rto_min_ms: 40,
            quickack: true,
            ..Metrics::default()
        };
        let route = Route::new("10.0.0.9/32".parse().unwrap(), None, nic);
        if told {
            stack.add_route(Route { metrics, ..route }).unwrap();
        }
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let mut syn = control(Seq(9000), Seq(0), Flags::SYN);
        syn.options.mss = Some(1400);
        let (ours, theirs, answer) = hand.open(&mut sim, 4000, to, &syn);
        let socket = listener.accept(sim.now()).unwrap();
        let wanted = if told { (Some(1000), 2000) } else { (Some(1460), 64_240) };
        assert_eq!((answer.options.mss, answer.window), wanted);
        // Past the quick start a lone segment is acknowledged late, unless the route wants otherwise.
        let mut next = ours;
        let answers: usize = (0..40)
            .map(|_| {
                let answers = hand.ask(&mut sim, 4000, to, &data(next, theirs, &[1; 200])).len();
                next += 200;
                recv(&sim, &socket).unwrap();
                sim.run_for(100 * MS);
                answers
            })
            .sum();
        assert_eq!(answers == 40, told, "{answers}");
        // The first flight, and the time-out of its loss.
        let before = sim.now();
        hand.heard();
        send(&sim, &socket, &[5; 30_000]).unwrap();
        sim.run_for(20 * MS);
        let flight: usize = hand.heard().iter().map(|segment| segment.payload.len()).sum();
        // The hand's window of 8,192 bytes ends the flight where the route does not.
        assert_eq!(flight, if told { 3 * 1400 } else { 7000 });
        assert!(sim.run_until(before + SEC, |sim| ext(sim, host, "TCPTimeouts") > 0));
        let waited = sim.now().since(before);
        let least = if told { 40 } else { 200 };
        assert!(waited >= MS * least && waited < MS * (least + 60), "{waited:?}");
    }
}

/// The congestion control and the largest window of a route, of connections both ways, whatever the program chose before.
#[test]
fn connections_take_congestion_control_and_window_of_their_route() {
    for told in [true, false] {
        let (mut sim, hosts) = Sim::pair(4, Faults::delay(MS));
        for (host, peer) in [(hosts[0], "10.0.0.2/32"), (hosts[1], "10.0.0.1/32")] {
            let stack = sim.stack(host).clone();
            let route = Route::new(peer.parse().unwrap(), None, stack.nics()[1].id);
            let metrics = Metrics { congctl: Some("reno"), window: 5000, ..Metrics::default() };
            if told {
                stack.add_route(Route { metrics, ..route }).unwrap();
            }
        }
        let listener = listen(&sim, hosts[1], "0.0.0.0:80", 4);
        let client = sim.stack(hosts[0]).tcp_socket(Family::V4);
        client.set_option(sim.now(), TcpOption::Congestion("bbr")).unwrap();
        let _ = client.connect(sim.now(), at(Family::V4, 2, 80)).unwrap();
        sim.run_for(20 * MS);
        let server = listener.accept(sim.now()).unwrap();
        let (ours, theirs) = if told { ("reno", "reno") } else { ("bbr", "cubic") };
        let algorithm = |socket: &TcpSocket| socket.info().unwrap().congestion;
        assert_eq!((algorithm(&client), algorithm(&server)), (ours, theirs));
        // Another option changes neither; the program may choose anew.
        client.set_option(sim.now(), TcpOption::NoDelay(true)).unwrap();
        assert_eq!(algorithm(&client), ours);
        client.set_option(sim.now(), TcpOption::Congestion("cubic")).unwrap();
        assert_eq!(algorithm(&client), "cubic");
        // No more is under way at once than the window lets, though it is read late.
        send(&sim, &client, &[1; 40_000]).unwrap();
        sim.run_for(200 * MS);
        assert_eq!(server.queued().0, 40_000);
        assert_eq!(client.info().unwrap().send_window <= 5000, told);
        assert_eq!(server.info().unwrap().window_clamp == 5000, told);
    }
}

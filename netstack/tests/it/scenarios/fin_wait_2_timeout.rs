//! A peer that never ends its stream: FIN-WAIT-2 of a closed socket lasts tcp_fin_timeout or TCP_LINGER2, in the
//! table of remnants where that is no longer than TIME-WAIT; data that comes meanwhile is answered by a reset.

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::TcpOption;
use netstack::transport::Host;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn the_wait_ends_after_linger2_or_the_fin_timeout() {
    for (linger2, seconds) in [(None, 60), (Some(5), 5), (Some(100), 100)] {
        let (mut sim, host, hand) = with_hand(1);
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let to = at(Family::V4, 1, 80);
        let (ours, theirs, _) =
            hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
        let socket = listener.accept(sim.now()).unwrap();
        if let Some(seconds) = linger2 {
            let time = std::time::Duration::from_secs(seconds);
            socket.set_option(sim.now(), TcpOption::Linger2(Some(time))).unwrap();
        }
        socket.close(sim.now());
        sim.run_for(20 * MS);
        hand.ask(&mut sim, 4000, to, &control(ours, theirs + 1, Flags::ACK));
        let compact = sim.stack(host).shared().tcp.time_wait.len();
        assert_eq!(compact, usize::from(seconds <= 60), "{linger2:?}");
        let held = |sim: &netstack::sim::Sim| sim.stack(host).usage().0;
        // The listener is the other one.
        sim.run_for((seconds - 1) * SEC);
        assert_eq!(held(&sim), 2, "{linger2:?}");
        assert_eq!(sim.stack(host).shared().tcp.time_wait.len(), 1);
        sim.run_for(2 * SEC);
        assert_eq!(held(&sim), 1, "{linger2:?}");
    }
}

#[test]
fn the_fin_leads_to_time_wait_and_data_to_a_reset() {
    for data_comes in [false, true] {
        let (mut sim, host, hand) = with_hand(1);
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let to = at(Family::V4, 1, 80);
        let (ours, theirs, _) =
            hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
        listener.accept(sim.now()).unwrap().close(sim.now());
        sim.run_for(20 * MS);
        hand.ask(&mut sim, 4000, to, &control(ours, theirs + 1, Flags::ACK));
        sim.run_for(50 * SEC);
        if data_comes {
            let answers = hand.ask(&mut sim, 4000, to, &data(ours, theirs + 1, b"late"));
            assert!(answers[0].rst() && answers[0].seq == theirs + 1, "{answers:?}");
        } else {
            let fin = control(ours, theirs + 1, Flags::FIN | Flags::ACK);
            let answers = hand.ask(&mut sim, 4000, to, &fin);
            assert_eq!((answers[0].seq, answers[0].ack), (theirs + 1, ours + 1));
            // The whole wait begins now.
            sim.run_for(59 * SEC);
            assert_eq!(sim.stack(host).shared().tcp.time_wait.len(), 1);
            sim.run_for(2 * SEC);
        }
        assert_eq!(sim.stack(host).shared().tcp.time_wait.len(), 0);
    }
}

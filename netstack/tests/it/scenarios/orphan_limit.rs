//! Closed sockets that still have data to bring are bounded (tcp_max_orphans): one too many is reset at once, and each
//! gives up after tcp_orphan_retries.

use super::segments::*;
use netstack::ip::Family;
use netstack::transport::Host;
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;
use std::sync::atomic::Ordering;

#[test]
fn one_too_many_is_reset_and_the_others_give_up_in_time() {
    let (mut sim, host, hand) = with_hand(1);
    configure(&sim, host, |config| {
        config.max_orphans = 3;
        config.orphan_retries = 4;
    });
    let listener = listen(&sim, host, "0.0.0.0:80", 8);
    let to = at(Family::V4, 1, 80);
    for port in 4000..4005 {
        hand.open(&mut sim, port, to, &control(Seq(9000), Seq(0), Flags::SYN));
    }
    hand.heard();
    while let Ok(socket) = listener.accept(sim.now()) {
        send(&sim, &socket, b"never acknowledged").unwrap();
        socket.close(sim.now());
    }
    let orphans =
        |sim: &netstack::sim::Sim| sim.stack(host).shared().tcp.orphans.load(Ordering::Relaxed);
    assert_eq!((orphans(&sim), ext(&sim, host, "TCPAbortOnMemory")), (3, 2));
    sim.run_for(20 * MS);
    assert_eq!(hand.heard().iter().filter(|segment| segment.rst()).count(), 2);
    // 200 ms doubled four times is over in less than ten seconds.
    sim.run_for(20 * SEC);
    assert_eq!((orphans(&sim), ext(&sim, host, "TCPAbortOnTimeout")), (0, 3));
    listener.close(sim.now());
    assert_eq!(sim.stack(host).usage(), (0, 0));
}

#[test]
fn without_linger2_nobody_waits_in_fin_wait_2() {
    use netstack::socket::{How, TcpOption};
    use netstack::time::Duration;
    for closes_first in [true, false] {
        let (mut sim, host, hand) = with_hand(1);
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let to = at(Family::V4, 1, 80);
        let (ours, theirs, _) =
            hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
        let socket = listener.accept(sim.now()).unwrap();
        socket.set_option(sim.now(), TcpOption::Linger2(Some(Duration::ZERO))).unwrap();
        let ack = control(ours, theirs + 1, Flags::ACK);
        let answers = if closes_first {
            socket.close(sim.now());
            sim.run_for(20 * MS);
            hand.ask(&mut sim, 4000, to, &ack)
        } else {
            socket.shutdown(sim.now(), How::Write).unwrap();
            sim.run_for(20 * MS);
            hand.ask(&mut sim, 4000, to, &ack);
            socket.close(sim.now());
            sim.run_for(20 * MS);
            hand.heard()
        };
        assert!(answers.len() == 1 && answers[0].rst(), "{closes_first} {answers:?}");
        assert_eq!(answers[0].seq, theirs + 1);
        // Only the listener is left.
        assert_eq!(sim.stack(host).usage().0, 1);
        assert_eq!(ext(&sim, host, "TCPAbortOnLinger"), u64::from(!closes_first));
    }
}

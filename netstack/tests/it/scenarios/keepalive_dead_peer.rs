//! Keepalive (RFC 9293 section 3.8.4): an idle peer is probed with an old sequence number; one that answers is left
//! alone, one that is dead is given up after TCP_KEEPCNT probes with ETIMEDOUT and a reset.

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::{SocketError, SocketOption, TcpOption};
use netstack::transport::tcp::{Seq, StateName};
use netstack::wire::tcp::Flags;

#[test]
fn a_dead_peer_is_found_and_a_live_one_is_not_disturbed() {
    for alive in [true, false] {
        let (mut sim, host, hand) = with_hand(1);
        let listener = listen(&sim, host, "0.0.0.0:80", 8);
        let to = at(Family::V4, 1, 80);
        let (ours, theirs, _) =
            hand.open(&mut sim, 4000, to, &control(Seq(9000), Seq(0), Flags::SYN));
        let socket = listener.accept(sim.now()).unwrap();
        let now = sim.now();
        for option in [
            TcpOption::KeepIdle(10 * SEC),
            TcpOption::KeepInterval(5 * SEC),
            TcpOption::KeepCount(3),
        ] {
            socket.set_option(now, option).unwrap();
        }
        socket.set_option(now, SocketOption::KeepAlive(true)).unwrap();
        hand.heard();
        let mut probes = Vec::new();
        let mut last = None;
        for _ in 0..60 {
            sim.run_for(SEC);
            for probe in hand.heard() {
                last = Some(probe.clone());
                if probe.rst() {
                    continue;
                }
                assert_eq!((probe.seq, probe.ack), (theirs - 1usize, ours));
                probes.push(sim.now().since(now).as_secs());
                if alive {
                    hand.send(4000, to, &control(ours, theirs, Flags::ACK));
                }
            }
        }
        assert_eq!(ext(&sim, host, "TCPKeepAlive"), probes.len() as u64);
        if alive {
            assert!(probes.len() >= 5, "{probes:?}");
            assert_eq!(socket.state(), StateName::Established);
        } else {
            assert_eq!(probes.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>(), [5, 5]);
            assert_eq!(socket.take_error(), Some(SocketError::TimedOut));
            assert!(last.is_some_and(|segment| segment.rst()));
            assert_eq!(ext(&sim, host, "TCPAbortOnTimeout"), 1);
        }
    }
}

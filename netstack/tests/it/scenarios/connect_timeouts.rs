//! A SYN that nobody answers goes again once a second four times, and then at twice the time each (tcp_syn_linear_timeouts,
//! tcp_syn_retries), as seen on Linux 6.18.

use super::segments::*;
use netstack::ip::Family;
use netstack::socket::{SocketError, TcpOption};
use netstack::transport::tcp::StateName;

#[test]
fn the_first_time_outs_are_alike_and_the_others_double() {
    for (linear, syn_count, wanted) in [
        (4, None, &[1, 1, 1, 1, 1, 2, 4, 8, 16, 32][..]),
        (0, None, &[1, 2, 4, 8, 16, 32]),
        (1, Some(2), &[1, 1, 2]),
    ] {
        let (mut sim, host, hand) = with_hand(1);
        configure(&sim, host, |config| config.syn_linear_timeouts = linear);
        let socket = sim.stack(host).tcp_socket(Family::V4);
        if let Some(count) = syn_count {
            socket.set_option(sim.now(), TcpOption::SynCount(count)).unwrap();
        }
        socket.connect(sim.now(), hand.addr(80)).unwrap();
        let mut times = Vec::new();
        let start = sim.now();
        let limit = start + 200 * SEC;
        let ended = sim.run_until(limit, |sim| {
            times.extend(hand.heard().iter().map(|_| sim.now().since(start)));
            socket.state() == StateName::Closed
        });
        assert!(ended && socket.take_error() == Some(SocketError::TimedOut));
        let gaps: Vec<u64> = times.windows(2).map(|w| (w[1] - w[0]).as_millis() as u64).collect();
        let seconds: Vec<u64> = gaps.iter().map(|ms| (ms + 500) / 1000).collect();
        assert_eq!(seconds, wanted, "{gaps:?}");
    }
}

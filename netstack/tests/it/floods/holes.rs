//! Out-of-order data with a hole behind every byte, on many connections.

use super::bed::Bed;
use crate::scenarios::segments::{addr, data};
use netstack::socket::tcp::TcpSocket;
use std::net::Ipv4Addr;

#[test]
fn data_behind_holes_is_bounded() {
    let mut bed = Bed::new(3);
    bed.introduce(Ipv4Addr::new(10, 0, 0, 6));
    let listener = bed.listen(80, 200);
    let mut attackers = Vec::new();
    for n in 0..150u16 {
        let from = addr(&format!("10.0.0.6:{}", 2000 + n));
        let (ours, theirs) = bed.open(from, 80, 8192);
        attackers.push((from, ours, theirs));
    }
    let accepted: Vec<TcpSocket> = std::iter::from_fn(|| listener.accept(bed.now).ok()).collect();
    assert_eq!(accepted.len(), 150);
    bed.survive(600, |bed, tick| {
        for (from, ours, theirs) in &attackers {
            for n in 0..4 {
                let at = (tick * 4 + n) * 2 % 60_000 + 1;
                bed.segment(*from, 80, &data(*ours + at, *theirs, b"x"));
            }
        }
    });
    for socket in &accepted {
        let held = socket.info().unwrap().held;
        assert!(held < 160 << 10, "{held} bytes for one connection");
    }
    let stats = bed.victim.stats();
    assert!(stats.value("TcpExt", "TCPOFOQueue") > 10_000);
    assert!(stats.value("TcpExt", "PruneCalled") > 0);
}

//! In-order segments of one byte, each in a frame of its own, to a program that does not read.

use super::bed::Bed;
use crate::scenarios::segments::{addr, data};
use netstack::socket::tcp::TcpSocket;
use std::net::Ipv4Addr;

#[test]
fn tiny_segments_are_kept_together() {
    let mut bed = Bed::new(2);
    bed.introduce(Ipv4Addr::new(10, 0, 0, 6));
    let listener = bed.listen(80, 100);
    let mut attackers = Vec::new();
    for n in 0..50u16 {
        let from = addr(&format!("10.0.0.6:{}", 2000 + n));
        let (ours, theirs) = bed.open(from, 80, 8192);
        attackers.push((from, ours, theirs));
    }
    let accepted: Vec<TcpSocket> = std::iter::from_fn(|| listener.accept(bed.now).ok()).collect();
    assert_eq!(accepted.len(), 50);
    bed.survive(800, |bed, _| {
        for (from, ours, theirs) in &mut attackers {
            for _ in 0..10 {
                bed.segment(*from, 80, &data(*ours, *theirs, b"x"));
                *ours += 1;
            }
        }
    });
    let queued: Vec<usize> = accepted.iter().map(|socket| socket.queued().0).collect();
    assert!(queued.iter().all(|bytes| *bytes > 7900), "{queued:?}");
    for socket in &accepted {
        let info = socket.info().unwrap();
        assert!(info.held < 2 * socket.queued().0, "{} for {}", info.held, socket.queued().0);
    }
}

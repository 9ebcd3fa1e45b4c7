//! Peers that never open their window, and programs that fill large send buffers for them.

use super::bed::Bed;
use crate::scenarios::segments::{addr, control};
use netstack::socket::SendFlags;
use netstack::socket::options::SocketOption;
use netstack::socket::tcp::TcpSocket;
use netstack::wire::tcp::Flags;
use std::net::Ipv4Addr;

#[test]
fn full_send_buffers_are_bounded_together() {
    let mut bed = Bed::new(8);
    bed.introduce(Ipv4Addr::new(10, 0, 0, 6));
    let listener = bed.listen(80, 200);
    listener.set_option(bed.now, SocketOption::SendBuffer(4 << 20)).unwrap();
    let mut peers = Vec::new();
    for n in 0..100u16 {
        let from = addr(&format!("10.0.0.6:{}", 2000 + n));
        let (ours, theirs) = bed.open(from, 80, 0);
        peers.push((from, ours, theirs));
    }
    let accepted: Vec<TcpSocket> = std::iter::from_fn(|| listener.accept(bed.now).ok()).collect();
    assert_eq!(accepted.len(), 100);
    let block = vec![5; 256 << 10];
    bed.survive(400, |bed, tick| {
        for socket in &accepted {
            let _ = socket.send(bed.now, &mut &block[..], SendFlags::empty());
        }
        let (from, ours, theirs) = peers[tick % peers.len()];
        let mut closed = control(ours, theirs, Flags::ACK);
        closed.window = 0;
        bed.segment(from, 80, &closed);
    });
    let queued: usize = accepted.iter().map(|socket| socket.queued().1).sum();
    assert!(queued > 8 << 20, "only {queued} bytes wait: the flood did not happen");
    assert!(bed.victim.stats().value("TcpExt", "TCPMemoryPressures") > 0);
}

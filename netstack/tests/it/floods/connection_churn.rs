//! Connections that open and end as fast as they can: nothing of them stays but TIME-WAIT, and that is bounded.

use super::bed::Bed;
use crate::scenarios::segments::{addr, control};
use netstack::transport::Host;
use netstack::wire::tcp::Flags;
use std::net::Ipv4Addr;

#[test]
fn ended_connections_leave_next_to_nothing() {
    let mut bed = Bed::new(6);
    bed.introduce(Ipv4Addr::new(10, 0, 0, 6));
    let listener = bed.listen(80, 100);
    let mut port = 1024u16;
    bed.survive(200, |bed, _| {
        port = if port == u16::MAX { 1024 } else { port + 1 };
        let from = addr(&format!("10.0.0.6:{port}"));
        let (ours, theirs) = bed.open(from, 80, 8192);
        while let Ok(socket) = listener.accept(bed.now) {
            // The victim ends it first, and so has TIME-WAIT.
            socket.close(bed.now);
        }
        bed.segment(from, 80, &control(ours, theirs + 1, Flags::ACK | Flags::FIN));
    });
    let used = bed.victim.shared().memory.tcp.used();
    assert!(used <= 64 << 10, "{used} bytes are accounted to one connection");
}

//! Neighbours by the thousand: who asks for us, who is solicited by us, and packets that wait for those who never answer.

use super::bed::Bed;
use crate::scenarios::segments::addr;
use netstack::ip::Family;
use netstack::socket::Ancillary;
use std::net::Ipv4Addr;

#[test]
fn the_table_and_what_waits_in_it_are_bounded() {
    let mut bed = Bed::new(5);
    let v4 = bed.victim.udp_socket(Family::V4);
    let v6 = bed.victim.udp_socket(Family::V6);
    let payload = vec![1; 1400];
    bed.survive(300, |bed, _| {
        for _ in 0..20 {
            let n = bed.rng.next_u32();
            let host = Ipv4Addr::from(0x0a00_0000 | n & 0xff_ffff);
            bed.introduce(host);
            let n = bed.rng.next_u32();
            let silent = Ipv4Addr::from(0x0a00_0000 | n & 0xff_ffff);
            // What is refused is as good as what waits: the stack stays within its means.
            for (socket, to) in [
                (&v4, format!("{silent}:9")),
                (&v6, format!("[fd00::{:x}:{:x}]:9", n >> 16, n & 0xffff)),
            ] {
                for _ in 0..3 {
                    let _ = socket.send_to(
                        bed.now,
                        &mut &payload[..],
                        Some(addr(&to)),
                        &Ancillary::default(),
                    );
                }
            }
        }
    });
}

//! SYNs from addresses that do not exist, as fast as they come.

use super::bed::Bed;
use crate::scenarios::segments::{addr, control};
use netstack::transport::tcp::Seq;
use netstack::wire::tcp::Flags;

#[test]
fn half_open_requests_are_bounded() {
    let mut bed = Bed::new(1);
    let _listener = bed.listen(80, 4096);
    bed.survive(300, |bed, _| {
        for _ in 0..100 {
            let n = bed.rng.next_u32();
            let from = addr(&format!(
                "10.{}.{}.{}:{}",
                n >> 24,
                n >> 16 & 0xff,
                n >> 8 & 0xff,
                1024 + (n & 0xff)
            ));
            let syn = control(Seq(bed.rng.next_u32()), Seq(0), Flags::SYN);
            bed.segment(from, 80, &syn);
        }
    });
}

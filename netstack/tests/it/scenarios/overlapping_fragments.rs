//! Fragments that overlap end the whole datagram, in both families (RFC 5722); those that repeat what is there do not.

use netstack::link::fault::Faults;
use netstack::sim::{SegmentId, Sim};

use super::lan::{NOBODY, V4, counter, frame, ip, ms, recv, udp, udp_bytes, v6};

/// A piece of a datagram: (from, to, whether more follow).
type Piece = (usize, usize, bool);

/// Sends pieces of one UDP datagram of 64 bytes; answers whether it arrives.
fn arrives(family: u8, pieces: &[Piece]) -> (bool, u64) {
    let (mut sim, [a, _]) = Sim::pair(10, Faults::default());
    let segment = SegmentId::FIRST;
    let (src, dst, any, group) = match family {
        4 => ("10.0.0.2", "10.0.0.1", "0.0.0.0:7", "Ip"),
        _ => ("fd00::2", "fd00::1", "[::]:7", "Ip6"),
    };
    let server = udp(&sim, a, any);
    let datagram = udp_bytes((ip(src), ip(dst)), (9, 7), &[3; 56]);
    for (from, to, more) in pieces {
        let part = &datagram[*from..*to];
        let packet = match family {
            4 => {
                let fragment = u16::from(*more) << 13 | (from / 8) as u16;
                V4 { src, dst, fragment, ..V4::default() }.packet(part)
            }
            _ => {
                let word = (*from as u16) | u16::from(*more);
                let [high, low] = word.to_be_bytes();
                let header = [17, 0, high, low, 0, 0, 0, 5];
                v6(src, dst, 44, 64, &[&header[..], part].concat())
            }
        };
        sim.inject(segment, NOBODY, frame(Sim::mac_of(segment, 0), &packet));
        sim.run_for(ms(1));
    }
    (recv(&sim, &server).is_some(), counter(&sim, a, group, "ReasmOverlaps"))
}

#[test]
fn overlapping_fragments() {
    for family in [4, 6] {
        assert_eq!(arrives(family, &[(32, 64, false), (0, 32, true)]), (true, 0));
        assert_eq!(arrives(family, &[(0, 32, true), (0, 32, true), (32, 64, false)]), (true, 0));
        assert_eq!(arrives(family, &[(0, 32, true), (8, 24, true), (32, 64, false)]), (true, 0));
        assert_eq!(arrives(family, &[(0, 32, true), (24, 64, false)]), (false, 1));
        assert_eq!(arrives(family, &[(32, 64, false), (0, 40, true)]), (false, 1));
        // What comes after an overlap is a datagram of its own, which lacks its beginning.
        assert_eq!(arrives(family, &[(0, 32, true), (24, 48, true), (32, 64, false)]), (false, 1));
    }
}

//! Trains are joined by the rules and cut again into what they were made of.

use super::gro::Gro;
use super::gso::{Segments, longest};
use crate::buffer::{ChecksumOffload, CwrOf, PacketBuffer};
use crate::wire::checksum::{self, Checksum};
use crate::wire::ethernet::HEADER_LEN;

const SIZE: usize = 1000;
const TCP: usize = 32;

/// A TCP segment of a stream in its frame, complete; with timestamps.
#[derive(Clone)]
struct Made {
    v6: bool,
    /// Identification, seq, payload bytes.
    ident: u16,
    seq: u32,
    len: usize,
    flags: u8,
    port: u16,
    /// Bytes of the frame that are changed before its sums are made.
    change: Vec<(usize, u8)>,
    /// The TCP checksum is wrong.
    broken: bool,
}

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

impl Made {
    /// The `n`th full segment.
    fn nth(v6: bool, n: usize) -> Made {
        let (ident, seq) = (n as u16 + 1, u32::MAX - 2500 + 1);
        let seq = seq.wrapping_add((n * SIZE) as u32);
        Made { v6, ident, seq, len: SIZE, flags: ACK, port: 7, change: Vec::new(), broken: false }
    }

    fn network_len(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut link = [2; 12].to_vec();
        let total = TCP + self.len;
        if self.v6 {
            link.extend([0x86, 0xdd, 0x60, 0, 0, 9]);
            link.extend((total as u16).to_be_bytes());
            link.extend([6, 64]);
            link.extend([0xfd; 16]);
            link.extend([0xfc; 16]);
        } else {
            link.extend([8, 0, 0x45, 0]);
            link.extend((total as u16 + 20).to_be_bytes());
            link.extend(self.ident.to_be_bytes());
            link.extend([0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        link.extend([self.port.to_be_bytes(), [0, 80]].concat());
        link.extend(self.seq.to_be_bytes());
        link.extend([0, 0, 0, 5, 0x80, self.flags, 0x20, 0, 0, 0, 0, 0]);
        link.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        link.extend((0..self.len).map(|at| (self.seq.wrapping_add(at as u32) % 251) as u8));
        for (at, value) in &self.change {
            link[*at] = *value;
        }
        seal(&mut link, self.network_len());
        if self.broken {
            link[HEADER_LEN + self.network_len() + 17] ^= 1;
        }
        link
    }

    fn frame(&self) -> PacketBuffer {
        PacketBuffer::from_vec(self.bytes())
    }
}

/// The pseudo-header's sum of the frame's segment.
fn pseudo(frame: &[u8], network_len: usize) -> Checksum {
    let len = frame.len() - HEADER_LEN - network_len;
    let part = |from: usize, to: usize| &frame[HEADER_LEN + from..HEADER_LEN + to];
    let addresses = if network_len == 40 { part(8, 40) } else { part(12, 20) };
    let mut sum = Checksum::new();
    sum.add_bytes(addresses);
    sum.add_word(6);
    sum.add_word(len as u16);
    sum
}

fn seal(frame: &mut [u8], network_len: usize) {
    if network_len == 20 {
        frame[HEADER_LEN + 10..HEADER_LEN + 12].fill(0);
        let sum = checksum::of(&frame[HEADER_LEN..HEADER_LEN + 20]).to_be_bytes();
        frame[HEADER_LEN + 10..HEADER_LEN + 12].copy_from_slice(&sum);
    }
    let at = HEADER_LEN + network_len;
    frame[at + 16..at + 18].fill(0);
    let mut sum = pseudo(frame, network_len);
    sum.add_bytes(&frame[at..]);
    frame[at + 16..at + 18].copy_from_slice(&sum.finish().to_be_bytes());
}

/// What a burst becomes.
fn gathered(frames: impl IntoIterator<Item = PacketBuffer>) -> Vec<PacketBuffer> {
    let (mut gro, mut out) = (Gro::default(), Vec::new());
    for frame in frames {
        gro.receive(frame, &mut |packet| out.push(packet));
    }
    gro.flush(&mut |packet| out.push(packet));
    out
}

/// How many bytes of payload each packet has that a burst becomes.
fn lens(v6: bool, burst: &[Made]) -> Vec<usize> {
    let headers = HEADER_LEN + burst[0].network_len() + TCP;
    let packets = gathered(burst.iter().map(Made::frame));
    assert!(burst.iter().all(|made| made.v6 == v6));
    packets.iter().map(|packet| packet.len() - headers).collect()
}

fn burst(v6: bool, count: usize) -> Vec<Made> {
    (0..count).map(|n| Made::nth(v6, n)).collect()
}

/// The packets of a train with their checksums.
fn cut(train: PacketBuffer) -> Vec<Vec<u8>> {
    let segments = Segments::of(train, HEADER_LEN).expect("a train");
    segments.map(|segment| segment.to_vec_complete()).collect()
}

#[test]
fn what_is_joined_is_cut_into_what_it_was_made_of() {
    for v6 in [false, true] {
        let mut made = burst(v6, 12);
        made[11].len = 300;
        made[11].flags |= PSH | FIN;
        let mut packets = gathered(made.iter().map(Made::frame));
        assert_eq!(packets.len(), 1);
        let train = packets.remove(0);
        assert_eq!(train.offload.gso.map(|gso| gso.size), Some(SIZE as u16));
        assert!(train.offload.rx_verified);
        // As one packet it is right, too: its lengths, and the sum that a device would complete.
        let mut whole = train.to_vec_complete();
        let before = whole.clone();
        seal(&mut whole, made[0].network_len());
        assert!(whole == before);
        assert_eq!(
            longest(&mut train.clone(), HEADER_LEN),
            Some(made[0].network_len() + TCP + SIZE)
        );
        let bytes: Vec<_> = made.iter().map(Made::bytes).collect();
        assert!(cut(train) == bytes);
    }
}

#[test]
fn only_what_follows_and_is_alike_is_joined() {
    for v6 in [false, true] {
        let at = HEADER_LEN + if v6 { 40 } else { 20 };
        assert_eq!(lens(v6, &burst(v6, 4)), [4 * SIZE]);
        // Acknowledgment number, window, timestamp, hop limit, class with ECN, urgent flag, ECE.
        let hops = HEADER_LEN + if v6 { 7 } else { 8 };
        let class = (HEADER_LEN + 1, if v6 { 0x30 } else { 3 });
        let differences =
            [(at + 11, 6), (at + 15, 1), (at + 27, 9), (hops, 63), class, (at + 13, ACK | ECE)];
        for difference in differences {
            let mut made = burst(v6, 4);
            made[2].change.push(difference);
            made[3].change.push(difference);
            assert_eq!(lens(v6, &made), [2 * SIZE, 2 * SIZE], "{difference:?}");
        }
        // A gap, a segment twice, a longer one.
        let mut made = burst(v6, 4);
        made.remove(1);
        assert_eq!(lens(v6, &made), [SIZE, 2 * SIZE], "behind a gap begins another train");
        let mut made = burst(v6, 2);
        made.push(made[1].clone());
        assert_eq!(lens(v6, &made), [2 * SIZE, SIZE]);
        let mut made = burst(v6, 2);
        made[1].len = SIZE + 1;
        assert_eq!(lens(v6, &made), [SIZE, SIZE + 1]);
    }
}

#[test]
fn a_train_ends_with_what_is_pushed_or_short_or_final() {
    for v6 in [false, true] {
        for flag in [PSH, FIN, 0] {
            let mut made = burst(v6, 4);
            made[1].flags |= flag;
            if flag == 0 {
                made[1].len = 10;
                made[2].seq = made[1].seq.wrapping_add(10);
                made[3].seq = made[2].seq.wrapping_add(SIZE as u32);
            }
            assert_eq!(lens(v6, &made), [SIZE + made[1].len, 2 * SIZE], "{flag}");
            // The first of a train may be none of these.
            let mut made = burst(v6, 3);
            made[0].flags |= flag;
            let expected = if flag == 0 { vec![3 * SIZE] } else { vec![SIZE, 2 * SIZE] };
            assert_eq!(lens(v6, &made), expected);
        }
        // SYN, RST and URG are joined to nothing; an acknowledgment alone keeps its place.
        for flag in [0x02, 0x04, 0x20] {
            let mut made = burst(v6, 3);
            made[1].flags |= flag;
            assert_eq!(lens(v6, &made), [SIZE, SIZE, SIZE]);
        }
        let mut made = burst(v6, 3);
        made[1].len = 0;
        made[2].seq = made[1].seq;
        assert_eq!(lens(v6, &made), [SIZE, 0, SIZE]);
    }
}

#[test]
fn no_train_holds_more_than_an_ip_packet() {
    for v6 in [false, true] {
        let lens = lens(v6, &burst(v6, 100));
        assert_eq!(lens, [65 * SIZE, 35 * SIZE]);
    }
}

#[test]
fn identifications_stand_still_or_count() {
    let with = |idents: [u16; 4]| {
        let mut made = burst(false, 4);
        made.iter_mut().zip(idents).for_each(|(made, ident)| made.ident = ident);
        made
    };
    assert_eq!(lens(false, &with([5, 5, 5, 5])), [4 * SIZE]);
    assert_eq!(lens(false, &with([65_534, 65_535, 0, 1])), [4 * SIZE]);
    assert_eq!(lens(false, &with([5, 6, 8, 9])), [2 * SIZE, 2 * SIZE]);
    assert_eq!(lens(false, &with([5, 5, 6, 7])), [2 * SIZE, 2 * SIZE]);
    // Without Don't Fragment they must count.
    let mut made = with([5, 5, 6, 7]);
    made.iter_mut().for_each(|made| made.change.push((HEADER_LEN + 6, 0)));
    assert_eq!(lens(false, &made), [SIZE, 3 * SIZE]);
    // Fragments, and headers with options, are not looked into.
    let mut made = with([5, 6, 7, 8]);
    made.iter_mut().for_each(|made| made.change.push((HEADER_LEN + 6, 0x20)));
    assert_eq!(lens(false, &made), [SIZE; 4]);
}

#[test]
fn a_wrong_sum_is_never_joined() {
    for v6 in [false, true] {
        for broken in 0..3 {
            let mut made = burst(v6, 3);
            made[broken].broken = true;
            let packets = gathered(made.iter().map(Made::frame));
            let whole = |packet: &PacketBuffer| packet.to_vec() == made[broken].bytes();
            let alone = packets.iter().filter(|packet| whole(packet)).collect::<Vec<_>>();
            assert!(matches!(alone[..], [packet] if !packet.offload.rx_verified), "{broken}");
        }
    }
    let mut made = burst(false, 3);
    let mut frames: Vec<_> = made.iter_mut().map(|made| made.bytes()).collect();
    frames[1][HEADER_LEN + 10] ^= 1;
    let packets = gathered(frames.into_iter().map(PacketBuffer::from_vec));
    assert_eq!(packets.len(), 3, "the sum of the IP header");
}

#[test]
fn streams_are_gathered_apart_and_few_at_once() {
    let mut made = Vec::new();
    for n in 0..2 {
        made.extend((0..8).map(|port| Made { port, ..Made::nth(false, n) }));
    }
    assert_eq!(lens(false, &made), [2 * SIZE; 8]);
    made.insert(8, Made { port: 8, ..Made::nth(false, 0) });
    let lens = lens(false, &made);
    assert_eq!(lens.iter().sum::<usize>(), 17 * SIZE);
    assert_eq!(lens[0], SIZE, "the oldest gave way");
}

#[test]
fn padding_and_trains_of_the_device_are_left_alone() {
    let mut padded = burst(false, 2).iter().map(Made::frame).collect::<Vec<_>>();
    let mut bytes = Made::nth(false, 1).bytes();
    bytes.extend([0; 6]);
    padded[1] = PacketBuffer::from_vec(bytes);
    assert_eq!(gathered(padded).len(), 2);
    let mut packets = gathered(burst(false, 4).iter().map(Made::frame));
    let train = packets.remove(0);
    let mut behind = (4..6).map(|n| Made::nth(false, n).frame()).collect::<Vec<_>>();
    behind.insert(0, train);
    assert_eq!(gathered(behind).len(), 2);
}

#[test]
fn flags_are_on_the_right_piece() {
    for v6 in [false, true] {
        let mut packets = gathered(burst(v6, 3).iter().map(Made::frame));
        let mut bytes = packets.remove(0).to_vec();
        let at = HEADER_LEN + if v6 { 40 } else { 20 };
        bytes[at + 13] |= PSH | FIN | ECE | CWR;
        let train = |cwr| {
            let mut packet = PacketBuffer::from_vec(bytes.clone());
            let kind = crate::buffer::GsoKind::Tcp4;
            packet.offload.gso = Some(crate::buffer::Gso { kind, size: SIZE as u16 });
            let start = at as u16;
            packet.offload.checksum = ChecksumOffload::Partial { start, offset: 16 };
            packet.offload.cwr = cwr;
            packet
        };
        let flags = |cwr| cut(train(cwr)).iter().map(|frame| frame[at + 13]).collect::<Vec<_>>();
        let (middle, last) = (ACK | ECE, ACK | ECE | PSH | FIN);
        assert_eq!(flags(CwrOf::First), [middle | CWR, middle, last]);
        assert_eq!(flags(CwrOf::All), [middle | CWR, middle | CWR, last | CWR]);
    }
}

#[test]
fn headers_that_make_no_sense_are_no_train() {
    let mut packets = gathered(burst(false, 3).iter().map(Made::frame));
    let train = packets.remove(0);
    for start in [0, 10, 33, 35, 130, 4000, u16::MAX] {
        let mut train = train.clone();
        train.offload.checksum = ChecksumOffload::Partial { start, offset: 16 };
        assert!(Segments::of(train, HEADER_LEN).is_none(), "{start}");
    }
    let mut train = train;
    train.offload.checksum = ChecksumOffload::None;
    assert!(Segments::of(train, HEADER_LEN).is_none());
}

//! Captures for unit tests, made segment by segment.

use std::time::Duration;

use crate::capture::{Frame, LinkType};
use crate::flows::Summary;
use crate::packet::SYN;

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// An IPv4 segment without checksums that count: raw bytes for the summary only.
#[derive(Clone)]
pub struct Segment {
    pub from_client: bool,
    pub flags: u16,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    pub options: &'static [u8],
    pub payload: usize,
    pub fill: u8,
}

const WS7: &[u8] = &[2, 4, 5, 0xb4, 1, 3, 3, 7];

pub fn segment(from_client: bool, flags: u16, seq: u32, ack: u32, payload: usize) -> Segment {
    let options = if flags & SYN != 0 { WS7 } else { &[][..] };
    Segment { from_client, flags, seq, ack, window: 1000, options, payload, fill: 7 }
}

pub fn bytes(s: &Segment) -> Vec<u8> {
    let (src, dst, sport, dport) = match s.from_client {
        true => (CLIENT, SERVER, 40_000_u16, 80_u16),
        false => (SERVER, CLIENT, 80, 40_000),
    };
    let header_len = 20 + s.options.len();
    let total = (20 + header_len + s.payload) as u16;
    let mut out = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
    out[2..4].copy_from_slice(&total.to_be_bytes());
    out.extend(src);
    out.extend(dst);
    out.extend(sport.to_be_bytes());
    out.extend(dport.to_be_bytes());
    out.extend(s.seq.to_be_bytes());
    out.extend(s.ack.to_be_bytes());
    out.extend(((header_len as u16 / 4) << 12 | s.flags).to_be_bytes());
    out.extend(s.window.to_be_bytes());
    out.extend([0; 4]);
    out.extend(s.options);
    out.resize(usize::from(total), s.fill);
    out
}

/// A summary of segments at milliseconds, with the steps of every flow.
pub fn summed(segments: &[(u64, Segment)]) -> Summary {
    let mut summary = Summary::recording();
    let frames: Vec<_> = segments.iter().map(|(ms, segment)| (*ms, bytes(segment))).collect();
    add_all(&mut summary, &frames);
    summary
}

/// Adds IP packets at milliseconds.
pub fn add_all(summary: &mut Summary, packets: &[(u64, Vec<u8>)]) {
    for (number, (ms, bytes)) in packets.iter().enumerate() {
        summary.add(&Frame {
            number: number as u64 + 1,
            time: Duration::from_millis(*ms),
            interface: 0,
            link: LinkType::RawIp,
            wire_len: bytes.len() as u32,
            bytes,
        });
    }
}

/// A pcap of raw IP with segments at milliseconds.
pub fn pcap(segments: &[(u64, Segment)]) -> Vec<u8> {
    let word = |n: u64| (n as u32).to_le_bytes();
    let mut file = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 101].map(word).concat();
    for (ms, segment) in segments {
        let bytes = bytes(segment);
        let len = bytes.len() as u64;
        file.extend([ms / 1000, ms % 1000 * 1000, len, len].map(word).concat());
        file.extend(bytes);
    }
    file
}

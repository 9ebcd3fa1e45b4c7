//! Captures to be measured on: one bulk transfer, and short conversations of which sixteen are under way at a time.

use std::io::{BufWriter, Write};
use std::path::Path;

const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;
const MSS: usize = 1448;
/// Short conversations under way at a time.
const CONCURRENT: usize = 16;
/// The host that serves everybody: the role of a replay.
pub const SERVER: [u8; 4] = [10, 2, 0, 1];

/// A conversation: what each side sends next, and the timestamp that it saw last.
struct Talk {
    client: ([u8; 4], u16),
    port: u16,
    next: [u32; 2],
    seen: [u32; 2],
    step: usize,
}

/// Steps of a short conversation: side (0: the client), flags, bytes.
const SHORT: [(usize, u8, usize); 12] = [
    (0, SYN, 0),
    (1, SYN | ACK, 0),
    (0, ACK, 0),
    (0, PSH | ACK, 200),
    (1, ACK, MSS),
    (1, PSH | ACK, MSS),
    (0, ACK, 0),
    (1, PSH | ACK, MSS),
    (0, ACK, 0),
    (1, FIN | ACK, 0),
    (0, FIN | ACK, 0),
    (1, ACK, 0),
];

impl Talk {
    fn new(number: u32, port: u16) -> Self {
        let [_, a, b, _] = (number / 28_000).to_be_bytes();
        let client = ([10, 1, a, b.wrapping_add(1)], 32_768 + (number % 28_000) as u16);
        let isn = number.wrapping_mul(0x9e37_79b9);
        Self { client, port, next: [isn, !isn], seen: [0, 0], step: 0 }
    }

    /// The next segment, at a time in milliseconds.
    fn segment(&mut self, (side, flags, len): (usize, u8, usize), ms: u32, out: &mut Vec<u8>) {
        let (client, server) = (self.client, (SERVER, self.port));
        let (from, to) = if side == 0 { (client, server) } else { (server, client) };
        let options = if flags & SYN != 0 { 20 } else { 12 };
        out.clear();
        out.extend([2, 0, 0, 0, 0, 1 + side as u8, 2, 0, 0, 0, 0, 2 - side as u8, 8, 0]);
        let total = (40 + options + len) as u16;
        out.extend([0x45, 0]);
        out.extend(total.to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        out.extend(from.0);
        out.extend(to.0);
        let check = !sum(&out[14..34], 0);
        out[24..26].copy_from_slice(&check.to_be_bytes());
        out.extend(from.1.to_be_bytes());
        out.extend(to.1.to_be_bytes());
        out.extend(self.next[side].to_be_bytes());
        let ack = if flags & ACK != 0 { self.next[1 - side] } else { 0 };
        out.extend(ack.to_be_bytes());
        out.extend([(((20 + options) / 4) << 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
        match flags & SYN {
            0 => out.extend([1, 1, 8, 10]),
            _ => out.extend([2, 4, 5, 0xb4, 4, 2, 8, 10]),
        }
        out.extend(ms.to_be_bytes());
        out.extend(self.seen[side].to_be_bytes());
        if flags & SYN != 0 {
            out.extend([1, 3, 3, 7]);
        }
        let start = out.len();
        out.resize(start + len, 0);
        let mut word = self.next[side];
        for byte in &mut out[start..] {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (word >> 24) as u8;
        }
        let addresses = u64::from(!sum(&out[26..34], 0) ^ 0xffff) + 6 + (20 + options + len) as u64;
        let check = !sum(&out[34..], addresses);
        out[50..52].copy_from_slice(&check.to_be_bytes());
        let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.next[side] = self.next[side].wrapping_add(len as u32 + controls);
        self.seen[1 - side] = ms;
    }
}

/// The one's complement sum of 16-bit words, folded.
fn sum(bytes: &[u8], start: u64) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut total = start + words.sum::<u64>();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// Writes a capture (pcap, nanoseconds, Ethernet) of about so many packets, `gap_us` apart: every other one of the bulk transfer.
pub fn capture(path: &Path, packets: usize, gap_us: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    for word in [0xa1b2_3c4d_u32, 4 << 16 | 2, 0, 0, 65_535, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut bytes = Vec::new();
    let mut bulk = Talk::new(0, 5001);
    let mut short: Vec<Talk> = (1..).take(CONCURRENT).map(|n| Talk::new(n, 80)).collect();
    let mut started = CONCURRENT as u32;
    for number in 0..packets {
        let time_us = number as u64 * gap_us;
        let ms = (time_us / 1000) as u32 + 1;
        if number % 2 == 0 {
            let step = match bulk.step {
                at @ 0..3 => SHORT[at],
                at if at % 3 == 2 => (1, ACK, 0),
                _ => (0, ACK, MSS),
            };
            bulk.segment(step, ms, &mut bytes);
            bulk.step += 1;
        } else {
            let talk = &mut short[number / 2 % CONCURRENT];
            talk.segment(SHORT[talk.step], ms, &mut bytes);
            talk.step += 1;
            if talk.step == SHORT.len() {
                started += 1;
                *talk = Talk::new(started, 80);
            }
        }
        let words = [1_700_000_000 + time_us / 1_000_000, time_us % 1_000_000 * 1000];
        let lens = [bytes.len() as u64; 2];
        for word in words.into_iter().chain(lens) {
            out.write_all(&(word as u32).to_le_bytes())?;
        }
        out.write_all(&bytes)?;
    }
    out.flush()
}

//! TCP connections summed up from a capture, as tcptrace does: bytes, segments, retransmissions, order, how each began and ended.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::capture::Frame;
use crate::packet::{self, Fault, Packet, Tcp};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// One direction of a connection: sender and receiver.
pub type Direction = ((IpAddr, u16), (IpAddr, u16));

/// What one side of a connection sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Segments in all.
    pub segments: u64,
    /// Segments with payload.
    pub data_segments: u64,
    /// Bytes of payload, repeated ones included.
    pub payload_bytes: u64,
    /// Bytes of payload, each sequence number once.
    pub unique_bytes: u64,
    /// Segments whose sequence numbers were all seen before.
    pub retransmissions: u64,
    /// Segments that start beyond the highest sequence number seen (something before them is missing or late).
    pub gaps: u64,
    /// SYN segments.
    pub syns: u64,
    /// FIN segments.
    pub fins: u64,
    /// RST segments.
    pub resets: u64,
    next: Option<u32>,
}

/// A capture summed up.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Frames in all.
    pub frames: usize,
    /// Frames that are wrong, with why.
    pub faults: Vec<(usize, Fault)>,
    /// The halves of every TCP connection (connections that use the same ports one after the other are one row).
    pub halves: BTreeMap<Direction, Half>,
}

impl Summary {
    /// Sums up a capture.
    pub fn of(frames: &[Frame]) -> Self {
        let mut summary = Self { frames: frames.len(), ..Self::default() };
        for frame in frames {
            match packet::dissect(&frame.bytes) {
                Ok(Packet::Tcp(tcp)) => {
                    summary.halves.entry((tcp.src, tcp.dst)).or_default().add(&tcp)
                }
                Ok(_) => {}
                Err(fault) => summary.faults.push((frame.number, fault)),
            }
        }
        summary
    }

    /// Retransmitted segments that this address sent.
    pub fn retransmissions_from(&self, address: IpAddr) -> u64 {
        self.from(address).map(|half| half.retransmissions).sum()
    }

    /// Segments that this address sent.
    pub fn segments_from(&self, address: IpAddr) -> u64 {
        self.from(address).map(|half| half.segments).sum()
    }

    fn from(&self, address: IpAddr) -> impl Iterator<Item = &Half> {
        self.halves
            .iter()
            .filter(move |(direction, _)| direction.0.0 == address)
            .map(|(_, half)| half)
    }
}

impl Half {
    fn add(&mut self, tcp: &Tcp) {
        self.segments += 1;
        self.syns += u64::from(tcp.flags & SYN != 0);
        self.fins += u64::from(tcp.flags & FIN != 0);
        self.resets += u64::from(tcp.flags & RST != 0);
        self.data_segments += u64::from(tcp.payload_len > 0);
        self.payload_bytes += u64::from(tcp.payload_len);
        if tcp.flags & RST != 0 {
            return;
        }
        let control = u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
        let len = tcp.payload_len + control;
        let end = tcp.seq.wrapping_add(len);
        let Some(next) = self.next else {
            self.next = Some(end);
            self.unique_bytes += u64::from(tcp.payload_len);
            return;
        };
        if len == 0 {
            return;
        }
        let start_ahead = tcp.seq.wrapping_sub(next) as i32;
        let end_ahead = end.wrapping_sub(next) as i32;
        if tcp.flags & SYN != 0 && start_ahead != -(len as i32) {
            // A new connection on the same ports.
            self.next = Some(end);
        } else if end_ahead <= 0 {
            self.retransmissions += 1;
        } else {
            self.gaps += u64::from(start_ahead > 0);
            self.unique_bytes += u64::from(tcp.payload_len).min(end_ahead as u64);
            self.next = Some(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: u32, flags: u8, payload_len: u32) -> Tcp {
        let address = (IpAddr::from([10, 0, 0, 1]), 1);
        Tcp { src: address, dst: address, seq, ack: 0, flags, window: 0, payload_len }
    }

    #[test]
    fn retransmissions_and_gaps_are_counted_across_the_wrap() {
        let mut half = Half::default();
        half.add(&segment(u32::MAX - 50, SYN, 0));
        half.add(&segment(u32::MAX - 49, 16, 100));
        half.add(&segment(u32::MAX - 49, 16, 100));
        half.add(&segment(150, 16, 10));
        half.add(&segment(160, 16 | FIN, 0));
        half.add(&segment(160, 16 | FIN, 0));
        assert_eq!((half.retransmissions, half.gaps), (2, 1));
        assert_eq!((half.payload_bytes, half.unique_bytes), (210, 110));
    }
}

//! What was seen on the segments of a simulation, as values and as a pcap file.

use super::SegmentId;
use crate::link::fault::Fate;
use crate::rng::SipKey;
use crate::time::Instant;

/// A frame that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// When.
    pub at: Instant,
    /// On which segment.
    pub segment: SegmentId,
    /// By which attachment.
    pub port: usize,
    /// Its bytes, checksums filled in.
    pub bytes: Vec<u8>,
    /// What became of it on the way to each other attachment.
    pub fates: Vec<Fate>,
}

/// All frames that were sent, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capture {
    frames: Vec<Captured>,
}

impl Capture {
    pub(super) fn push(&mut self, frame: Captured) {
        self.frames.push(frame);
    }

    /// The frames.
    pub fn frames(&self) -> &[Captured] {
        &self.frames
    }

    /// The frames of one attachment.
    pub fn sent_by(&self, segment: SegmentId, port: usize) -> impl Iterator<Item = &Captured> {
        self.frames.iter().filter(move |frame| (frame.segment, frame.port) == (segment, port))
    }

    /// A digest of everything captured: equal for equal runs.
    pub fn digest(&self) -> u64 {
        let key = SipKey::new(0, 0);
        self.frames.iter().fold(0, |digest, frame| {
            key.hash_one((digest, frame.at, frame.port, frame.segment, frame.bytes.as_slice()))
        })
    }

    /// The frames of a segment as a pcap file with nanoseconds, as Wireshark reads it.
    pub fn to_pcap(&self, segment: SegmentId) -> Vec<u8> {
        let mut file = Vec::new();
        let header: [u32; 6] = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 262_144, 1];
        header.iter().for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
        for frame in self.frames.iter().filter(|frame| frame.segment == segment) {
            let (seconds, nanos) =
                (frame.at.nanos() / 1_000_000_000, frame.at.nanos() % 1_000_000_000);
            let len = frame.bytes.len() as u32;
            let record = [seconds as u32, nanos as u32, len, len];
            record.iter().for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
            file.extend_from_slice(&frame.bytes);
        }
        file
    }
}

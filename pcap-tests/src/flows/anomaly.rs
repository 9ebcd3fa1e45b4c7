//! What an engineer would stop at in a capture, with the frames that show it.

use std::collections::BTreeMap;

use serde::Serialize;

/// Frames told for each kind; of more only the count is kept.
const MAX_FRAMES: usize = 20;

/// A kind of anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The frame cannot be read.
    Malformed,
    /// A checksum is wrong.
    BadChecksum,
    /// TCP options contradict themselves.
    BadOptions,
    /// The frame is older than the one before it.
    TimeBackwards,
    /// The frame before it once more: captured twice, or duplicated on its way. It is not counted.
    DuplicateFrame,
    /// Bytes are missing before the segment.
    Gap,
    /// A segment fills a gap soon after it came.
    OutOfOrder,
    /// A segment was sent again.
    Retransmission,
    /// An acknowledgment says what the one before said.
    DuplicateAck,
    /// Something was acknowledged that the capture does not have.
    AckedUnseen,
    /// A window of 0.
    ZeroWindow,
    /// More was sent than the window allows.
    BeyondWindow,
    /// A probe of a closed window.
    WindowProbe,
    /// A keep-alive.
    KeepAlive,
    /// A connection was reset.
    Reset,
    /// A piece of a packet.
    Fragment,
    /// An ICMP error.
    IcmpError,
    /// A router marked the packet (ECN: CE).
    Marked,
}

impl Kind {
    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadChecksum => "bad checksum",
            Self::BadOptions => "bad TCP options",
            Self::TimeBackwards => "time goes backwards",
            Self::DuplicateFrame => "duplicate frame",
            Self::Gap => "bytes missing before",
            Self::OutOfOrder => "out of order",
            Self::Retransmission => "retransmission",
            Self::DuplicateAck => "duplicate ACK",
            Self::AckedUnseen => "ACK of unseen data",
            Self::ZeroWindow => "zero window",
            Self::BeyondWindow => "beyond the window",
            Self::WindowProbe => "window probe",
            Self::KeepAlive => "keep-alive",
            Self::Reset => "reset",
            Self::Fragment => "fragment",
            Self::IcmpError => "ICMP error",
            Self::Marked => "congestion marked",
        }
    }
}

/// How often a kind came, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// In all.
    pub count: u64,
    /// Numbers of the first frames.
    pub frames: Vec<u64>,
}

/// Tallies by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Anomalies(pub BTreeMap<Kind, Tally>);

impl Anomalies {
    /// One more, shown by a frame.
    pub fn add(&mut self, kind: Kind, frame: u64) {
        let tally = self.0.entry(kind).or_default();
        tally.count += 1;
        if tally.frames.len() < MAX_FRAMES {
            tally.frames.push(frame);
        }
    }

    /// How often a kind came.
    pub fn count(&self, kind: Kind) -> u64 {
        self.0.get(&kind).map_or(0, |tally| tally.count)
    }
}

//! A segment as the state machine sees it: header values, options and payload, without ports and addresses.

use super::ecn::Codepoint;
use super::seq::Seq;
use crate::buffer::Chain;
use crate::wire::tcp::{Flags, Header, Options};

/// One segment in either direction. One that goes out may be larger than `mss`: then it stands for a
/// train of segments of `mss` payload bytes each, which the link or the stack cuts.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Sequence number of the first byte, or of the SYN.
    pub seq: Seq,
    /// Acknowledgment number; counts only with [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// Window as on the wire.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// Payload.
    pub payload: Chain,
    /// Payload bytes of each segment on the wire.
    pub mss: usize,
    /// Whether it was sent before (for the counters).
    pub retransmission: bool,
    /// The ECN bits of the IP header.
    pub ecn: Codepoint,
}

impl Segment {
    /// A segment without payload and options.
    pub fn control(seq: Seq, ack: Seq, flags: Flags) -> Segment {
        Segment {
            seq,
            ack,
            flags,
            window: 0,
            urgent: 0,
            options: Options::default(),
            payload: Chain::new(),
            mss: usize::MAX,
            retransmission: false,
            ecn: Codepoint::NotEct,
        }
    }

    /// A segment that arrived.
    pub fn from_wire(header: &Header, payload: Chain) -> Segment {
        Segment {
            seq: Seq(header.seq),
            ack: Seq(header.ack),
            flags: header.flags,
            window: header.window,
            urgent: header.urgent,
            options: header.options,
            payload,
            mss: usize::MAX,
            retransmission: false,
            ecn: Codepoint::NotEct,
        }
    }

    /// The header to send it with; the checksum is left 0.
    pub fn to_header(&self, src_port: u16, dst_port: u16) -> Header {
        Header {
            src_port,
            dst_port,
            seq: self.seq.0,
            ack: self.ack.0,
            flags: self.flags,
            window: self.window,
            checksum: 0,
            urgent: self.urgent,
            options: self.options,
        }
    }

    /// Sequence numbers that it takes (SEG.LEN): its payload, SYN and FIN.
    pub fn len(&self) -> usize {
        self.payload.len() + usize::from(self.syn()) + usize::from(self.fin())
    }

    /// Whether it takes no sequence number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequence number after its last.
    pub fn end(&self) -> Seq {
        self.seq + self.len()
    }

    /// Whether some of it, or its bare edge, lies between these numbers: RFC 9293 section 3.10.7.4, table 6, as Linux's
    /// tcp_in_window has it for what is no full connection yet, or no more.
    pub fn is_within(&self, start: Seq, end: Seq) -> bool {
        let touches = self.end() > start && self.seq < end;
        self.seq == start || touches || self.seq == end && self.is_empty()
    }

    /// Whether SYN is set.
    pub fn syn(&self) -> bool {
        self.flags.contains(Flags::SYN)
    }

    /// Whether FIN is set.
    pub fn fin(&self) -> bool {
        self.flags.contains(Flags::FIN)
    }

    /// Whether RST is set.
    pub fn rst(&self) -> bool {
        self.flags.contains(Flags::RST)
    }

    /// The acknowledgment number, if it has one.
    pub fn acknowledges(&self) -> Option<Seq> {
        self.flags.contains(Flags::ACK).then_some(self.ack)
    }

    /// The reset that answers this segment where there is no connection (RFC 9293 section 3.10.7.1).
    /// None for a reset.
    pub fn answer_with_reset(&self) -> Option<Segment> {
        if self.rst() {
            return None;
        }
        Some(match self.acknowledges() {
            // "If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>".
            Some(ack) => Segment::control(ack, Seq(0), Flags::RST),
            // "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>".
            None => Segment::control(Seq(0), self.end(), Flags::RST | Flags::ACK),
        })
    }
}

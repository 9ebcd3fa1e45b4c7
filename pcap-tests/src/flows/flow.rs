//! One conversation: its two ends, how it began, how it ended.

use std::time::Duration;

use serde::Serialize;

use super::anomaly::Kind;
use super::half::Half;
use super::record::{self, Detail, Record, Step};
use crate::capture::Frame;
use crate::packet::{ACK, Endpoint, FIN, Ip, RST, SYN, Tcp};

/// What the flow is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A TCP connection.
    Tcp,
    /// UDP datagrams between two ports.
    Udp,
    /// ICMP echoes of one identifier, which stands as the port.
    Echo,
}

/// How a connection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    /// SYN, SYN-ACK, ACK.
    Handshake,
    /// Both sides sent a SYN.
    Simultaneous,
    /// A SYN that nobody answered.
    Unanswered,
    /// A SYN that was answered with a RST.
    Refused,
    /// Its beginning is not in the capture.
    Midstream,
    /// No connection: datagrams, or a RST for nothing.
    None,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It did not, within the capture.
    Open,
    /// Both sides closed, and both FINs were acknowledged.
    Closed,
    /// One side closed.
    HalfClosed,
    /// A RST came: of the side that opened, or of the other.
    ResetByOpener,
    /// A RST came from the side that was called.
    ResetByPeer,
}

/// A conversation.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// Position in the capture, from 1.
    pub number: u64,
    /// What it is made of.
    pub protocol: Protocol,
    /// The side that began, and the other.
    pub ends: [Endpoint; 2],
    /// What each of them sent.
    pub halves: [Half; 2],
    /// Number of the first frame.
    pub first_frame: u64,
    /// Frames in all.
    pub frames: u64,
    /// Time of the first frame.
    pub start: Duration,
    /// Time of the last frame.
    pub last: Duration,
    /// ICMP errors about it.
    pub icmp_errors: u64,
    /// From the SYN to the ACK that ends the handshake.
    pub handshake: Option<Duration>,
    #[serde(skip)]
    reset_by: Option<usize>,
    #[serde(skip)]
    detail: Detail,
    /// What a comparison wants, where there is one.
    #[serde(skip)]
    pub record: Option<Box<Record>>,
}

impl Flow {
    pub(super) fn new(
        number: u64,
        protocol: Protocol,
        ends: [Endpoint; 2],
        frame: &Frame<'_>,
        detail: Detail,
    ) -> Self {
        // A comparison looks at no round trips.
        let half = if detail == Detail::Digests { Half::untimed } else { Half::default };
        Self {
            number,
            protocol,
            ends,
            halves: [half(), half()],
            first_frame: frame.number,
            frames: 0,
            start: frame.time,
            last: frame.time,
            icmp_errors: 0,
            handshake: None,
            reset_by: None,
            detail,
            record: detail.has_record().then(Box::default),
        }
    }

    /// Counts a frame.
    pub(super) fn take(&mut self, frame: &Frame<'_>) {
        self.frames += 1;
        self.last = self.last.max(frame.time);
    }

    /// A datagram or an echo.
    pub(super) fn message(
        &mut self,
        src: Endpoint,
        payload_len: u32,
        payload: &[u8],
        frame: &Frame<'_>,
    ) {
        self.take(frame);
        let side = record::side(&self.ends, src);
        if let Some(record) = &mut self.record {
            record.message(frame.number, side, payload_len, payload);
        }
        let payload_len = u64::from(payload_len);
        let half = &mut self.halves[side];
        half.segments += 1;
        half.data_segments += u64::from(payload_len > 0);
        half.payload_bytes += payload_len;
        half.unique_bytes += payload_len;
    }

    /// Whether this segment opens another connection on the same ports.
    pub(super) fn is_succeeded_by(&self, tcp: &Tcp<'_>) -> bool {
        let side = record::side(&self.ends, tcp.src);
        let half = &self.halves[side];
        tcp.flags & (SYN | ACK) == SYN
            && half.origin().is_some_and(|isn| isn != tcp.seq)
            && (half.syns > 0 || self.ending() != Ending::Open)
    }

    /// Takes a segment in, of which is known whether its bytes are those of the other trace.
    pub(super) fn segment(
        &mut self,
        (tcp, is_same): (&Tcp<'_>, bool),
        frame: &Frame<'_>,
        ip: &Ip,
        tell: &mut impl FnMut(Kind),
    ) {
        let time = frame.time;
        // A capture that begins with a SYN-ACK still knows who called.
        if self.frames == 1 && tcp.flags & (SYN | ACK) == SYN | ACK {
            self.ends.swap(0, 1);
        }
        let side = record::side(&self.ends, tcp.src);
        if self.halves[side].is_duplicate(tcp, ip.id) {
            return tell(Kind::DuplicateFrame);
        }
        let marked = ip.tos & 3 == 3;
        let scale = self.scale(side);
        let outstanding = self.halves[1 - side].is_outstanding();
        let window = self.halves[1 - side].window();
        let half = &mut self.halves[side];
        half.marked += u64::from(marked);
        if marked {
            tell(Kind::Marked);
        }
        let before = half.retransmissions + half.out_of_order;
        half.sent(tcp, time, self.handshake, window, tell);
        half.answered(tcp, scale, outstanding, tell);
        if tcp.flags & ACK != 0 && tcp.flags & RST == 0 {
            self.halves[1 - side].acknowledged(tcp.ack, time, tell);
        }
        if tcp.flags & RST != 0 && self.reset_by.is_none() {
            self.reset_by = Some(side);
        }
        let established = side == 0
            && tcp.flags & (SYN | ACK | RST) == ACK
            && self.handshake.is_none()
            && self.halves.iter().all(|half| half.syns > 0);
        if established {
            self.handshake = Some(time.saturating_sub(self.start));
        }
        let half = &self.halves[side];
        let is_again = half.retransmissions + half.out_of_order > before;
        self.keep((tcp, is_same), frame, side, scale.unwrap_or(0), is_again);
    }

    /// The shift of a side's windows, where it is known.
    fn scale(&self, side: usize) -> Option<u8> {
        let scale = |side: usize| Some(self.halves[side].syn_options.as_ref()?.window_scale);
        // RFC 7323, 1.3: both sides must send the option for either to scale.
        match (scale(side)?, scale(1 - side)?) {
            (Some(shift), Some(_)) => Some(shift),
            _ => Some(0),
        }
    }

    /// The side that sent a segment; none where it is not of this connection.
    pub(super) fn sender(&self, tcp: &Tcp<'_>) -> Option<usize> {
        let [first, second] = &self.ends;
        if self.protocol != Protocol::Tcp {
            None
        } else if *first == tcp.src && *second == tcp.dst {
            Some(0)
        } else if *first == tcp.dst && *second == tcp.src {
            Some(1)
        } else {
            None
        }
    }

    /// Takes a segment of a side in where it is plain and nobody wants its sums; false: it was not.
    #[inline]
    pub(super) fn took_plain(
        &mut self,
        (side, tcp, is_same): (usize, &Tcp<'_>, bool),
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> bool {
        let ends_handshake = side == 0 && self.handshake.is_none();
        if self.detail.has_sums() || ends_handshake {
            return false;
        }
        let scale = self.scale(side);
        let Some(start) = Half::took_plain(&mut self.halves, side, (tcp, scale), ip, frame.time)
        else {
            return false;
        };
        self.take(frame);
        if let Some(record) = &mut self.record
            && tcp.payload_len > 0
            && let Ok(at) = u64::try_from(start - i64::from(self.halves[side].syns > 0))
        {
            let known = tcp.payload;
            record.bytes((side, is_same), frame.number, (at, tcp.payload_len.into()), known);
        }
        true
    }

    /// Keeps what a comparison wants of the segment.
    fn keep(
        &mut self,
        (tcp, is_same): (&Tcp<'_>, bool),
        frame: &Frame<'_>,
        side: usize,
        scale: u8,
        is_again: bool,
    ) {
        let Some(record) = &mut self.record else { return };
        let (half, other) = (&self.halves[side], &self.halves[1 - side]);
        let seq = if half.origin().is_some() { half.relative(tcp.seq) } else { 0 };
        if tcp.flags & SYN != 0 {
            record.options[side].get_or_insert(tcp.options);
            record.syn[side].get_or_insert(frame.number);
        }
        if tcp.flags & (FIN | RST) != 0 {
            record.last_control = Some(frame.number);
        }
        if is_again {
            record.again[side].get_or_insert(frame.number);
        }
        let from = (seq, half.syns > 0);
        record.payload((side, is_same), frame.number, tcp, from, half.fresh());
        if self.detail != Detail::Steps {
            return;
        }
        let has_ack = tcp.flags & ACK != 0 && other.origin().is_some();
        let shift = if tcp.flags & SYN != 0 { 0 } else { scale.min(14) };
        let blocks = tcp.options.sack().iter();
        record.steps.push(Step {
            frame: frame.number,
            time: frame.time.saturating_sub(self.start),
            side,
            flags: tcp.flags,
            seq,
            len: tcp.payload_len,
            ack: if has_ack { other.relative(tcp.ack) } else { 0 },
            window: u64::from(tcp.window) << shift,
            is_again,
            sack: blocks.map(|(from, to)| (other.relative(*from), other.relative(*to))).collect(),
        });
    }

    /// The flow is over: what only its next segment would want is given back.
    pub(super) fn rest(&mut self) {
        self.halves.iter_mut().for_each(Half::rest);
        if let Some(record) = &mut self.record {
            record.rest();
        }
    }

    /// How it began.
    pub fn opening(&self) -> Opening {
        let [opener, peer] = &self.halves;
        match (opener.syns > 0, peer.syns > 0) {
            _ if self.protocol != Protocol::Tcp => Opening::None,
            (true, true) if opener.calls > 0 && peer.calls > 0 => Opening::Simultaneous,
            (true, true) => Opening::Handshake,
            (true, false) if peer.resets > 0 && !peer_spoke(peer) => Opening::Refused,
            (true, false) if !peer.is_seen() => Opening::Unanswered,
            (true, false) | (false, true) => Opening::Midstream,
            (false, false) if !opener.is_seen() || opener.resets == opener.segments => {
                Opening::None
            }
            (false, false) => Opening::Midstream,
        }
    }

    /// How it ended.
    pub fn ending(&self) -> Ending {
        match (self.halves.each_ref().map(Half::is_finished), self.reset_by) {
            (_, Some(0)) => Ending::ResetByOpener,
            (_, Some(_)) => Ending::ResetByPeer,
            ([true, true], None) => Ending::Closed,
            ([false, false], None) => Ending::Open,
            (_, None) => Ending::HalfClosed,
        }
    }

    /// Bytes of payload of both sides, repeated ones included.
    pub fn payload_bytes(&self) -> u64 {
        self.halves.iter().map(|half| half.payload_bytes).sum()
    }

    /// How long it lasted.
    pub fn duration(&self) -> Duration {
        self.last.saturating_sub(self.start)
    }
}

/// Whether a side sent anything but resets.
fn peer_spoke(half: &Half) -> bool {
    half.segments > half.resets
}

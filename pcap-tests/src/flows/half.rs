//! One direction of a TCP connection: what was sent, sent again, out of order, and how the other side answered.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::anomaly::Kind;
use crate::packet::{ACK, FIN, Ip, PSH, RST, SYN, Tcp, TcpOptions, controls};

/// Missing ranges that are remembered; of more the oldest is given up.
const MAX_HOLES: usize = 256;
/// Segments whose acknowledgment is waited for; RTT samples of more are not taken.
const MAX_IN_FLIGHT: usize = 4096;
/// A segment that fills a gap within this time was reordered where no round trip is known; later it was sent again.
const REORDER: Duration = Duration::from_millis(3);

/// What one side of a connection sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Half {
    /// Segments in all.
    pub segments: u64,
    /// Segments with payload.
    pub data_segments: u64,
    /// Bytes of payload, repeated ones included.
    pub payload_bytes: u64,
    /// Bytes of payload, each sequence number once.
    pub unique_bytes: u64,
    /// Segments whose sequence numbers were all seen before, or that fill a gap later than reordering does.
    pub retransmissions: u64,
    /// Segments that fill a gap soon after it came.
    pub out_of_order: u64,
    /// Segments that start beyond the highest sequence number seen (something before them is missing or late).
    pub gaps: u64,
    /// Bytes that were never seen.
    pub missing_bytes: u64,
    /// Acknowledgments that say what the one before said, while data is on its way.
    pub duplicate_acks: u64,
    /// Segments with window 0.
    pub zero_windows: u64,
    /// Keep-alives and probes of a closed window.
    pub probes: u64,
    /// SYN segments.
    pub syns: u64,
    /// SYN segments that answer none.
    pub calls: u64,
    /// FIN segments.
    pub fins: u64,
    /// RST segments.
    pub resets: u64,
    /// Segments that stand in the capture once more, down to their IP identification.
    #[serde(skip)]
    pub duplicates: u64,
    /// Packets that a router marked (ECN: CE).
    pub marked: u64,
    /// SACK blocks.
    pub sack_blocks: u64,
    /// Options of the SYN.
    #[serde(skip)]
    pub syn_options: Option<TcpOptions>,
    /// The largest payload of a segment, in bytes.
    pub largest_payload: u32,
    /// The largest window, scaled, in bytes.
    pub largest_window: u64,
    /// The largest window before the first that was closed, in bytes.
    #[serde(skip)]
    pub window_before_closed: Option<u64>,
    /// From data to its acknowledgment.
    pub rtt: Rtt,
    #[serde(skip)]
    state: State,
}

/// Round trips seen at the point of capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rtt {
    /// Samples (none of what was sent twice: Karn's rule).
    pub samples: u64,
    /// The least.
    pub min: Duration,
    /// The greatest.
    pub max: Duration,
    /// All of them together.
    pub sum: Duration,
}

impl Rtt {
    fn add(&mut self, sample: Duration) {
        self.min = if self.samples == 0 { sample } else { self.min.min(sample) };
        self.max = self.max.max(sample);
        self.sum += sample;
        self.samples += 1;
    }

    /// The mean, where there is a sample.
    pub fn mean(&self) -> Option<Duration> {
        let samples = u32::try_from(self.samples).ok().filter(|n| *n > 0)?;
        Some(self.sum / samples)
    }
}

/// Where the stream stands. Sequence numbers count from the first one seen and do not wrap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    origin: Option<u32>,
    /// Behind the highest byte seen.
    next: i64,
    /// What the other side acknowledged.
    acked: i64,
    /// Unseen ranges below `next`, with the time at which they came.
    holes: VecDeque<(i64, i64, Duration)>,
    /// Whether nobody wants round trips.
    is_untimed: bool,
    /// End and time of segments sent once.
    in_flight: VecDeque<(i64, Duration)>,
    fin: Option<i64>,
    last_ack: Option<(u32, u16)>,
    window: Option<u64>,
    /// Ranges of the last segment that were not seen before.
    fresh: Fresh,
    /// The last segment.
    last: Option<Seen>,
}

/// Ranges: mostly one, which needs no memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fresh {
    first: Option<(i64, i64)>,
    more: Vec<(i64, i64)>,
}

impl Fresh {
    fn clear(&mut self) {
        self.first = None;
        self.more.clear();
    }

    fn push(&mut self, range: (i64, i64)) {
        match self.first {
            None => self.first = Some(range),
            Some(_) => self.more.push(range),
        }
    }
}

/// Identification, sequence and acknowledgment numbers, flags and length.
type Seen = (u32, u32, u32, u16, u32);

fn seen(tcp: &Tcp<'_>, id: u32) -> Seen {
    (id, tcp.seq, tcp.ack, tcp.flags, tcp.payload_len)
}

impl Half {
    /// One whose round trips nobody wants.
    pub(super) fn untimed() -> Self {
        Self { state: State { is_untimed: true, ..State::default() }, ..Self::default() }
    }

    /// Whether anything was seen.
    pub fn is_seen(&self) -> bool {
        self.segments > 0
    }

    /// Whether its FIN was acknowledged.
    pub fn is_finished(&self) -> bool {
        self.state.fin.is_some_and(|fin| self.state.acked >= fin)
    }

    /// The first sequence number: the SYN's, or that of the first segment.
    pub fn origin(&self) -> Option<u32> {
        self.state.origin
    }

    /// Ranges of the last segment that were not seen before, SYN and FIN included.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (i64, i64)> {
        self.state.fresh.first.iter().chain(&self.state.fresh.more).copied()
    }

    /// Gives back what only the next segment would want.
    pub(super) fn rest(&mut self) {
        self.state.holes = VecDeque::new();
        self.state.in_flight = VecDeque::new();
        self.state.fresh = Fresh::default();
    }

    /// A sequence number as a distance from the first.
    pub fn relative(&self, seq: u32) -> i64 {
        let State { origin, next, .. } = self.state;
        let expected = origin.unwrap_or(seq).wrapping_add(next as u32);
        next + i64::from(seq.wrapping_sub(expected) as i32)
    }

    /// Bytes that the other side acknowledged.
    pub fn acked_bytes(&self) -> u64 {
        u64::try_from(self.state.acked - i64::from(self.syns > 0)).unwrap_or(0)
    }

    /// Whether this is the last segment once more, down to its IP identification (0 tells nothing).
    pub(super) fn is_duplicate(&mut self, tcp: &Tcp<'_>, id: u32) -> bool {
        let is_duplicate = self.is_duplicate_of_last(tcp, id);
        self.state.last = Some(seen(tcp, id));
        self.duplicates += u64::from(is_duplicate);
        is_duplicate
    }

    fn is_duplicate_of_last(&self, tcp: &Tcp<'_>, id: u32) -> bool {
        id != 0 && self.state.last == Some(seen(tcp, id))
    }

    /// Takes a segment of a side in where it is what most are: the next bytes of an open stream or none, an acknowledgment of what was
    /// seen, and nothing that anybody looks at twice. Only what the next segment is judged by is brought up to date, and no sums.
    /// `scale`: the shift of its window. Gives its distance from the first number of its side; none: nothing was taken in.
    #[inline]
    pub(super) fn took_plain(
        halves: &mut [Self; 2],
        side: usize,
        (tcp, scale): (&Tcp<'_>, Option<u8>),
        ip: &Ip,
        time: Duration,
    ) -> Option<i64> {
        let [one, other] = halves;
        let (half, peer) = if side == 0 { (one, other) } else { (other, one) };
        let next = half.state.next;
        let expected = half.state.origin?.wrapping_add(next as u32);
        peer.state.origin?;
        let ack = peer.relative(tcp.ack);
        let is_plain = tcp.flags & !PSH == ACK
            && tcp.seq == expected
            && ack <= peer.state.next
            && tcp.window > 0
            && ip.tos & 3 != 3
            && tcp.options.is_quiet();
        // What brings bytes that were not seen before does not stand there twice.
        if !is_plain || tcp.payload_len == 0 && half.is_duplicate_of_last(tcp, ip.id) {
            return None;
        }
        half.segments += 1;
        half.state.last = Some(seen(tcp, ip.id));
        half.state.last_ack = Some((tcp.ack, tcp.window));
        half.state.window = scale.map(|shift| u64::from(tcp.window) << shift.min(14));
        let window = half.state.window.unwrap_or(u64::from(tcp.window));
        half.largest_window = half.largest_window.max(window);
        if tcp.payload_len > 0 {
            half.extend(next + i64::from(tcp.payload_len), time);
        }
        peer.acknowledged_to(ack, time);
        Some(next)
    }

    /// The stream goes on to `end`.
    fn extend(&mut self, end: i64, time: Duration) {
        self.state.next = end;
        if !self.state.is_untimed && self.state.in_flight.len() < MAX_IN_FLIGHT {
            self.state.in_flight.push_back((end, time));
        }
    }

    /// Takes a segment of this side in. `round_trip`: that of the handshake.
    pub(super) fn sent(
        &mut self,
        tcp: &Tcp<'_>,
        time: Duration,
        round_trip: Option<Duration>,
        peer_window: Option<u64>,
        tell: &mut impl FnMut(Kind),
    ) {
        self.state.fresh.clear();
        self.segments += 1;
        self.syns += u64::from(tcp.flags & SYN != 0);
        self.calls += u64::from(tcp.flags & (SYN | ACK) == SYN);
        self.fins += u64::from(tcp.flags & FIN != 0);
        self.resets += u64::from(tcp.flags & RST != 0);
        self.data_segments += u64::from(tcp.payload_len > 0);
        self.payload_bytes += u64::from(tcp.payload_len);
        self.largest_payload = self.largest_payload.max(tcp.payload_len);
        self.sack_blocks += tcp.options.sack().len() as u64;
        if tcp.options.malformed {
            tell(Kind::BadOptions);
        }
        if tcp.flags & SYN != 0 {
            self.syn_options = Some(tcp.options);
        }
        if tcp.flags & RST != 0 {
            tell(Kind::Reset);
            return;
        }
        let len = i64::from(tcp.payload_len) + i64::from(controls(tcp.flags));
        if self.state.origin.is_none() {
            self.state.origin = Some(tcp.seq);
        }
        let start = self.relative(tcp.seq);
        let end = start + len;
        if tcp.flags & FIN != 0 {
            self.state.fin = Some(end);
        }
        let next = self.state.next;
        let probe = start == next - 1
            && tcp.flags & (SYN | FIN) == 0
            && (tcp.payload_len == 0 || tcp.payload_len == 1 && end <= self.state.acked);
        if probe && next > 1 {
            self.probes += 1;
            tell(if peer_window == Some(0) { Kind::WindowProbe } else { Kind::KeepAlive });
        } else if len > 0 && end <= next {
            self.again(start, end, time, round_trip, tell);
        } else if len > 0 {
            if start > next {
                self.gaps += 1;
                self.missing_bytes += (start - next) as u64;
                tell(Kind::Gap);
                self.hole(next, start, time);
            }
            self.unique_bytes += (i64::from(tcp.payload_len)).min(end - next.max(start)) as u64;
            self.state.fresh.push((next.max(start), end));
            self.extend(end, time);
            let window = peer_window.filter(|w| *w > 0 && tcp.payload_len > 0);
            if window.is_some_and(|window| end - self.state.acked > window as i64 + 1) {
                tell(Kind::BeyondWindow);
            }
        }
    }

    fn hole(&mut self, start: i64, end: i64, time: Duration) {
        if self.state.holes.len() == MAX_HOLES {
            self.state.holes.pop_front();
        }
        self.state.holes.push_back((start, end, time));
    }

    /// A segment of which no byte is beyond the highest seen.
    fn again(
        &mut self,
        start: i64,
        end: i64,
        time: Duration,
        round_trip: Option<Duration>,
        tell: &mut impl FnMut(Kind),
    ) {
        // What was sent twice gives no sample of the round trip.
        self.state.in_flight.retain(|(sent_end, _)| *sent_end <= start || *sent_end > end);
        let mut fills = None;
        for (from, to, since) in std::mem::take(&mut self.state.holes) {
            if to <= start || from >= end {
                self.state.holes.push_back((from, to, since));
                continue;
            }
            fills = Some(since);
            self.state.fresh.push((from.max(start), to.min(end)));
            let filled = (to.min(end) - from.max(start)) as u64;
            self.unique_bytes += filled;
            self.missing_bytes = self.missing_bytes.saturating_sub(filled);
            if from < start {
                self.hole(from, start, since);
            }
            if to > end {
                self.hole(end, to, since);
            }
        }
        let late = round_trip.map_or(REORDER, |trip| trip.max(REORDER));
        match fills {
            Some(since) if time.saturating_sub(since) < late => {
                self.out_of_order += 1;
                tell(Kind::OutOfOrder);
            }
            _ => {
                self.retransmissions += 1;
                tell(Kind::Retransmission);
            }
        }
    }

    /// Takes in that the other side acknowledged `ack` of what this one sent.
    pub(super) fn acknowledged(&mut self, ack: u32, time: Duration, tell: &mut impl FnMut(Kind)) {
        if self.state.origin.is_none() {
            // Nothing was seen of this side: its stream starts here.
            self.state.origin = Some(ack);
        }
        let ack = self.relative(ack);
        if ack > self.state.next {
            // Sent and not captured: a gap that nobody will fill.
            self.missing_bytes += (ack - self.state.next) as u64;
            self.state.next = ack;
            self.state.in_flight.clear();
            tell(Kind::AckedUnseen);
        }
        self.acknowledged_to(ack, time);
    }

    /// The other side acknowledged up to this distance.
    fn acknowledged_to(&mut self, ack: i64, time: Duration) {
        if ack <= self.state.acked {
            return;
        }
        self.state.acked = ack;
        while let Some(&(end, sent)) = self.state.in_flight.front()
            && end <= ack
        {
            self.state.in_flight.pop_front();
            if end == ack {
                self.rtt.add(time.saturating_sub(sent));
            }
        }
    }

    /// Takes in what this side's segment says of its own window and acknowledgments. `scale`: its shift, where it is known;
    /// `outstanding`: whether the other side waits for an acknowledgment.
    pub(super) fn answered(
        &mut self,
        tcp: &Tcp<'_>,
        scale: Option<u8>,
        outstanding: bool,
        tell: &mut impl FnMut(Kind),
    ) {
        if tcp.flags & ACK == 0 || tcp.flags & RST != 0 {
            return;
        }
        let shift = if tcp.flags & SYN != 0 { Some(0) } else { scale };
        let window = shift.map(|shift| u64::from(tcp.window) << shift.min(14));
        self.largest_window = self.largest_window.max(window.unwrap_or(u64::from(tcp.window)));
        if tcp.window == 0 && tcp.flags & SYN == 0 {
            self.zero_windows += 1;
            self.window_before_closed.get_or_insert(self.largest_window);
            tell(Kind::ZeroWindow);
        }
        let said = (tcp.ack, tcp.window);
        let pure = tcp.payload_len == 0 && tcp.flags & (SYN | FIN) == 0;
        if pure && outstanding && self.state.last_ack == Some(said) {
            self.duplicate_acks += 1;
            tell(Kind::DuplicateAck);
        }
        self.state.last_ack = Some(said);
        self.state.window = window;
    }

    /// The window that this side offered last, where its scale is known.
    pub(super) fn window(&self) -> Option<u64> {
        self.state.window
    }

    /// Whether data waits for an acknowledgment.
    pub(super) fn is_outstanding(&self) -> bool {
        self.state.acked < self.state.next
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn segment(seq: u32, flags: u16, payload_len: u32) -> Tcp<'static> {
        let address = (IpAddr::from([10, 0, 0, 1]), 1);
        Tcp {
            src: address,
            dst: address,
            seq,
            ack: 0,
            flags,
            window: 0,
            urgent: 0,
            options: TcpOptions::default(),
            payload_len,
            payload: &[],
        }
    }

    fn fed(segments: &[(u64, Tcp<'static>)]) -> (Half, Vec<Kind>) {
        let (mut half, mut told) = (Half::default(), Vec::new());
        for (ms, tcp) in segments {
            half.sent(tcp, Duration::from_millis(*ms), None, None, &mut |kind| told.push(kind));
        }
        (half, told)
    }

    #[test]
    fn retransmissions_and_gaps_are_counted_across_the_wrap() {
        let (half, _) = fed(&[
            (0, segment(u32::MAX - 50, SYN, 0)),
            (0, segment(u32::MAX - 49, ACK, 100)),
            (0, segment(u32::MAX - 49, ACK, 100)),
            (0, segment(150, ACK, 10)),
            (0, segment(160, ACK | FIN, 0)),
            (0, segment(160, ACK | FIN, 0)),
        ]);
        assert_eq!((half.retransmissions, half.gaps), (2, 1));
        assert_eq!((half.payload_bytes, half.unique_bytes), (210, 110));
        assert_eq!(half.missing_bytes, 100);
    }

    #[test]
    fn what_fills_a_gap_at_once_was_reordered_and_later_sent_again() {
        let stream = |fills_ms| {
            fed(&[
                (0, segment(1000, ACK, 10)),
                (1, segment(1020, ACK, 10)),
                (fills_ms, segment(1010, ACK, 10)),
            ])
        };
        let (soon, told) = stream(2);
        assert_eq!((soon.out_of_order, soon.retransmissions, soon.missing_bytes), (1, 0, 0));
        assert_eq!(told, [Kind::Gap, Kind::OutOfOrder]);
        let (late, _) = stream(200);
        assert_eq!((late.out_of_order, late.retransmissions, late.unique_bytes), (0, 1, 30));
    }

    #[test]
    fn round_trips_are_taken_of_what_was_sent_once() {
        let mut half = Half::default();
        let tell = &mut |_| {};
        for (ms, seq) in [(0, 100), (10, 200), (20, 100)] {
            half.sent(&segment(seq, ACK, 100), Duration::from_millis(ms), None, None, tell);
        }
        half.acknowledged(200, Duration::from_millis(25), tell);
        assert_eq!(half.rtt.samples, 0);
        half.acknowledged(300, Duration::from_millis(45), tell);
        assert_eq!((half.rtt.samples, half.rtt.min), (1, Duration::from_millis(35)));
    }

    #[test]
    fn a_probe_is_no_retransmission() {
        let mut half = Half::default();
        let tell = &mut |_| {};
        half.sent(&segment(100, ACK, 100), Duration::ZERO, None, None, tell);
        half.sent(&segment(199, ACK, 1), Duration::ZERO, None, None, tell);
        assert_eq!((half.probes, half.retransmissions), (0, 1), "not yet acknowledged");
        half.acknowledged(200, Duration::ZERO, tell);
        half.sent(&segment(199, ACK, 1), Duration::ZERO, None, None, tell);
        half.sent(&segment(199, ACK, 0), Duration::ZERO, None, None, tell);
        assert_eq!((half.probes, half.retransmissions), (2, 1));
    }
}

//! What a connection has done so far, for TCP_INFO: segments each way and when (RFC 4898), and what held it up.

use super::segment::Segment;
use crate::time::{Duration, Instant, Span};

/// The accounts of one connection. Counts wrap, as Linux's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// When the connection began.
    pub started: Instant,
    /// Segments sent, of every kind.
    pub segments_out: u32,
    /// Of those, with payload.
    pub data_segments_out: u32,
    /// Segments received.
    pub segments_in: u32,
    /// Of those, with payload.
    pub data_segments_in: u32,
    /// When payload was last sent.
    pub data_sent_at: Option<Instant>,
    /// When payload last came.
    pub data_received_at: Option<Instant>,
    /// When an acknowledgment last came.
    pub ack_received_at: Option<Instant>,
    /// How long there was something to send or to be acknowledged, up to `busy_since`.
    pub busy: Span,
    /// Since when there is.
    pub busy_since: Option<Instant>,
    /// Of that, how long only the peer's window kept more from being sent, up to `limited_since`.
    pub window_limited: Span,
    /// Since when it does.
    pub limited_since: Option<Instant>,
    /// How long all was sent that the send buffer holds, and the buffer was full, up to `short_since`.
    pub buffer_limited: Span,
    /// Since when it is.
    pub short_since: Option<Instant>,
    /// Segments that came out of order.
    pub out_of_order: u32,
    /// Whether this end began.
    pub active: bool,
}

/// What keeps more from being sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Bytes that are not acknowledged.
    pub queued: usize,
    /// Of those that wait, the peer's window takes none.
    pub window_is_full: bool,
    /// None wait, and the send buffer has no room for more.
    pub buffer_is_full: bool,
}

/// Segments on the wire that carry this payload.
pub(super) fn pieces(payload: usize, mss: usize) -> u32 {
    u32::try_from(payload.div_ceil(mss.max(1)).max(1)).unwrap_or(u32::MAX)
}

/// Starts or stops a clock.
fn run(clock: (&mut Span, &mut Option<Instant>), now: Instant, on: bool) {
    let (total, since) = clock;
    match (on, *since) {
        (true, None) => *since = Some(now),
        (false, Some(start)) => {
            *total = (total.get() + now.since(start)).into();
            *since = None;
        }
        _ => {}
    }
}

impl Accounts {
    /// Empty accounts.
    pub fn new(now: Instant) -> Accounts {
        Accounts {
            started: now,
            segments_out: 0,
            data_segments_out: 0,
            segments_in: 0,
            data_segments_in: 0,
            data_sent_at: None,
            data_received_at: None,
            ack_received_at: None,
            busy: Span::ZERO,
            busy_since: None,
            window_limited: Span::ZERO,
            limited_since: None,
            buffer_limited: Span::ZERO,
            short_since: None,
            out_of_order: 0,
            active: false,
        }
    }

    /// A segment goes out.
    pub fn sent(&mut self, now: Instant, segment: &Segment) {
        self.payload_sent(now, segment.payload.len(), pieces(segment.payload.len(), segment.mss));
    }

    /// So many segments go out, with so many bytes of payload together.
    pub fn payload_sent(&mut self, now: Instant, payload: usize, segments: u32) {
        self.segments_out = self.segments_out.wrapping_add(segments);
        if payload > 0 {
            self.data_segments_out = self.data_segments_out.wrapping_add(segments);
            self.data_sent_at = Some(now);
        }
    }

    /// A segment came; a train that the device has put together counts as many as it was.
    pub fn received(&mut self, now: Instant, segment: &Segment, peer_mss: usize) {
        let payload = segment.payload.len();
        self.payload_received(now, payload, pieces(payload, peer_mss));
        if segment.acknowledges().is_some() {
            self.ack_received_at = Some(now);
        }
    }

    /// So many segments came, with so many bytes of payload together.
    pub fn payload_received(&mut self, now: Instant, payload: usize, segments: u32) {
        self.segments_in = self.segments_in.wrapping_add(segments);
        if payload > 0 {
            self.data_segments_in = self.data_segments_in.wrapping_add(segments);
            self.data_received_at = Some(now);
        }
    }

    /// What the sending half waits for after all was sent that may be.
    pub fn waits(&mut self, now: Instant, waits: Waits) {
        run((&mut self.busy, &mut self.busy_since), now, waits.queued > 0);
        run((&mut self.window_limited, &mut self.limited_since), now, waits.window_is_full);
        run((&mut self.buffer_limited, &mut self.short_since), now, waits.buffer_is_full);
    }

    /// How long it was busy, and of that how long the peer's window and the send buffer held it up.
    pub fn times(&self, now: Instant) -> [Duration; 3] {
        let open = |since: Option<Instant>| since.map_or(Duration::ZERO, |start| now.since(start));
        [
            self.busy.get() + open(self.busy_since),
            self.window_limited.get() + open(self.limited_since),
            self.buffer_limited.get() + open(self.short_since),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run_while_their_reason_lasts() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut accounts = Accounts::new(at(0));
        let busy = Waits { queued: 100, ..Waits::default() };
        accounts.waits(at(10), busy);
        accounts.waits(at(20), Waits { window_is_full: true, ..busy });
        accounts.waits(at(50), Waits { buffer_is_full: true, ..busy });
        assert_eq!(accounts.times(at(60)), [50, 30, 10].map(Duration::from_millis));
        accounts.waits(at(70), Waits::default());
        assert_eq!(accounts.times(at(99)), [60, 30, 20].map(Duration::from_millis));
    }

    #[test]
    fn a_large_payload_is_as_many_segments_as_it_takes() {
        assert_eq!((pieces(0, 1000), pieces(1, 1000), pieces(2001, 1000)), (1, 1, 3));
    }
}

//! What is left of a connection that is over but for old segments: a few numbers instead of a connection. It is in
//! TIME-WAIT, or in FIN-WAIT-2 without a program that could read (Linux keeps both as `tcp_timewait_sock`).

mod table;

use super::config::TcpConfig;
use super::segment::Segment;
use super::seq::Seq;
use super::tcb::Tcb;
use crate::link::NicId;
use crate::time::{Duration, Instant};
use crate::wire::tcp::{Flags, Timestamps};

pub use table::{Listed, TimeWaitTable};

/// Linux's TCP_PAWS_24DAYS: a recent timestamp is worthless after 24 days.
const TIMESTAMP_LIFE: Duration = Duration::from_secs(24 * 24 * 3600);
/// A successor's first sequence number lies so far beyond the last one of its predecessor, as on Linux.
const SUCCESSOR_GAP: usize = 65_535 + 2;

/// Which end is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// The peer's FIN: FIN-WAIT-2.
    Fin,
    /// The death of old segments: TIME-WAIT.
    Silence,
}

/// A connection in TIME-WAIT, or in FIN-WAIT-2 that nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remnant {
    /// What it waits for.
    pub awaits: Awaits,
    /// When the wait is over.
    pub expires: Instant,
    /// Our next sequence number.
    pub send_next: Seq,
    /// The peer's next sequence number.
    pub receive_next: Seq,
    /// The window that was offered last, in bytes.
    pub receive_window: u32,
    /// The same as the header has it.
    pub window: u16,
    /// The peer's latest timestamp, if it used them.
    pub recent: Option<u32>,
    /// When that came.
    pub recent_at: Instant,
    /// Added to our clock.
    pub timestamp_offset: u32,
    /// When an old segment was last acknowledged.
    pub acked_at: Option<Instant>,
    /// Where a link-local peer is.
    pub nic: Option<NicId>,
}

/// What a segment did to a remnant.
#[derive(Clone, Debug)]
pub enum RemnantDisposition {
    /// Nothing.
    Ignore,
    /// Send this acknowledgment.
    Send(Segment),
    /// It is gone.
    Ended,
    /// It is gone, and this reset tells the peer that nobody reads.
    Reset(Option<Segment>),
    /// A new connection may begin.
    Reopen,
}

impl Remnant {
    pub(super) fn new(awaits: Awaits, expires: Instant, tcb: &Tcb, nic: Option<NicId>) -> Remnant {
        let window = tcb.receive.window();
        Remnant {
            awaits,
            expires,
            send_next: tcb.send.nxt,
            receive_next: tcb.receive.nxt,
            receive_window: window.min(u32::MAX as usize) as u32,
            window: (window >> tcb.receive.window_shift).min(0xffff) as u16,
            recent: tcb.timestamps.map(|timestamps| timestamps.recent),
            recent_at: tcb.timestamps.map_or(Instant::ZERO, |timestamps| timestamps.recent_at),
            timestamp_offset: tcb.timestamps.map_or(0, |timestamps| timestamps.offset),
            acked_at: None,
            nic,
        }
    }

    /// The first sequence number of a connection that takes this one's place: beyond all that it sent.
    pub fn successor_iss(&self) -> Seq {
        let iss = self.send_next + SUCCESSOR_GAP;
        if iss == Seq(0) { Seq(1) } else { iss }
    }

    /// Whether a connection from here may take its place at once (RFC 6191 from the other side, Linux's
    /// tcp_twsk_unique): with timestamps, a second after the peer's last one.
    pub fn makes_way(&self, now: Instant) -> bool {
        let second = Duration::from_secs(1);
        self.awaits == Awaits::Silence
            && self.recent.is_some()
            && now.since(self.recent_at) > second
    }

    /// Whether a segment is older than one that was accepted (RFC 7323 section 5.3 R1).
    pub fn is_old(&self, now: Instant, segment: &Segment) -> bool {
        let (Some(recent), Some(theirs)) = (self.recent, segment.options.timestamps) else {
            return false;
        };
        let behind = (theirs.value.wrapping_sub(recent) as i32) < 0;
        behind && now.since(self.recent_at) < TIMESTAMP_LIFE
    }

    fn note_timestamp(&mut self, now: Instant, segment: &Segment) {
        if let (Some(recent), Some(theirs)) = (&mut self.recent, segment.options.timestamps) {
            *recent = theirs.value;
            self.recent_at = now;
        }
    }

    /// A segment for the four-tuple arrived.
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &Segment,
        config: &TcpConfig,
    ) -> RemnantDisposition {
        match self.awaits {
            Awaits::Fin => self.on_segment_before_fin(now, segment, config),
            Awaits::Silence => self.on_segment_in_silence(now, segment, config),
        }
    }

    /// FIN-WAIT-2 without a reader: the FIN is all that is wanted.
    fn on_segment_before_fin(
        &mut self,
        now: Instant,
        segment: &Segment,
        config: &TcpConfig,
    ) -> RemnantDisposition {
        let edge = self.receive_next + self.receive_window as usize;
        if self.is_old(now, segment) || !segment.is_within(self.receive_next, edge) {
            return self.acknowledge(now, segment, config);
        }
        if segment.rst() {
            return RemnantDisposition::Ended;
        }
        if segment.syn() && segment.seq >= self.receive_next {
            return RemnantDisposition::Reset(segment.answer_with_reset());
        }
        let nothing_new = segment.end() <= self.receive_next || segment.is_empty();
        if segment.acknowledges().is_none() || nothing_new {
            return RemnantDisposition::Ignore;
        }
        // RFC 1122 section 4.2.2.13: "if new data is received after CLOSE is called, its TCP SHOULD send a RST".
        if !segment.fin() || segment.end() != self.receive_next + 1 {
            return RemnantDisposition::Reset(segment.answer_with_reset());
        }
        // "Enter the TIME-WAIT state. Start the time-wait timer".
        self.awaits = Awaits::Silence;
        self.receive_next = segment.end();
        self.note_timestamp(now, segment);
        self.expires = now + config.time_wait;
        RemnantDisposition::Send(self.acknowledgment(now))
    }

    /// RFC 9293 section 3.10.7.4, RFC 1337 and RFC 6191.
    fn on_segment_in_silence(
        &mut self,
        now: Instant,
        segment: &Segment,
        config: &TcpConfig,
    ) -> RemnantDisposition {
        let old = self.is_old(now, segment);
        if !old && segment.seq == self.receive_next && (segment.is_empty() || segment.rst()) {
            if segment.rst() && !config.rfc1337 {
                return RemnantDisposition::Ended;
            }
            // RFC 1337 section 3 (F1): "Ignore RST segments in TIME-WAIT state."
            if !segment.rst() {
                self.expires = now + config.time_wait;
            }
            self.note_timestamp(now, segment);
            return RemnantDisposition::Ignore;
        }
        // RFC 6191 section 2: a SYN with a later timestamp, or with a later sequence number, opens anew.
        let later = match (self.recent, segment.options.timestamps) {
            (Some(recent), Some(theirs)) => (recent.wrapping_sub(theirs.value) as i32) < 0,
            _ => false,
        };
        let asks = segment.syn() && !segment.rst() && segment.acknowledges().is_none();
        if asks && !old && (segment.seq > self.receive_next || later) {
            return RemnantDisposition::Reopen;
        }
        if segment.rst() {
            return RemnantDisposition::Ignore;
        }
        // "Acknowledge it, and restart the 2 MSL timeout"; a SYN without ACK may be a new one, and waits no longer.
        if old || segment.acknowledges().is_some() {
            self.expires = now + config.time_wait;
        }
        self.acknowledge(now, segment, config)
    }

    /// Acknowledges an old segment. As on Linux, only those that could be part of a loop of acknowledgments are
    /// rationed: empty ones and SYNs.
    fn acknowledge(
        &mut self,
        now: Instant,
        segment: &Segment,
        config: &TcpConfig,
    ) -> RemnantDisposition {
        if !segment.is_empty() && !segment.syn() {
            return RemnantDisposition::Send(self.acknowledgment(now));
        }
        if self.acked_at.is_some_and(|at| now.since(at) < config.invalid_ratelimit) {
            return RemnantDisposition::Ignore;
        }
        self.acked_at = Some(now);
        RemnantDisposition::Send(self.acknowledgment(now))
    }

    /// The acknowledgment of all that came.
    pub fn acknowledgment(&self, now: Instant) -> Segment {
        let mut segment = Segment::control(self.send_next, self.receive_next, Flags::ACK);
        segment.window = self.window;
        segment.options.timestamps = self.recent.map(|echo| Timestamps {
            value: (now.millis() as u32).wrapping_add(self.timestamp_offset),
            echo,
        });
        segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RemnantDisposition as D;

    const NOW: Instant = Instant::from_secs(1000);

    fn remnant(awaits: Awaits) -> Remnant {
        Remnant {
            awaits,
            expires: NOW,
            send_next: Seq(5000),
            receive_next: Seq(100),
            receive_window: 1000,
            window: 1000,
            recent: Some(70),
            recent_at: NOW,
            timestamp_offset: 0,
            acked_at: None,
            nic: None,
        }
    }

    fn segment(seq: u32, flags: Flags, stamp: Option<u32>) -> Segment {
        let mut segment = Segment::control(Seq(seq), Seq(5000), flags);
        segment.options.timestamps = stamp.map(|value| Timestamps { value, echo: 0 });
        segment
    }

    fn play(awaits: Awaits, config: &TcpConfig, segment: &Segment) -> (D, Remnant) {
        let mut remnant = remnant(awaits);
        (remnant.on_segment(NOW, segment, config), remnant)
    }

    #[test]
    fn time_wait_answers_as_linux_does() {
        let config = TcpConfig::default();
        let wait = |s: Segment| play(Awaits::Silence, &config, &s).0;
        let (ack, syn) = (Flags::ACK, Flags::SYN);
        assert!(matches!(wait(segment(100, ack, Some(70))), D::Ignore));
        assert!(matches!(wait(segment(99, ack | Flags::FIN, Some(70))), D::Send(_)));
        assert!(matches!(wait(segment(100, Flags::RST, None)), D::Ended));
        assert!(matches!(wait(segment(101, Flags::RST, None)), D::Ignore));
        assert!(matches!(wait(segment(101, syn, None)), D::Reopen));
        assert!(matches!(wait(segment(50, syn, Some(71))), D::Reopen));
        assert!(matches!(wait(segment(50, syn, Some(70))), D::Send(_)));
        assert!(matches!(wait(segment(101, syn, Some(69))), D::Send(_)));
        assert!(matches!(wait(segment(101, syn | ack, Some(71))), D::Send(_)));
        let strict = TcpConfig { rfc1337: true, ..TcpConfig::default() };
        let (kept, left) = play(Awaits::Silence, &strict, &segment(100, Flags::RST, None));
        assert!(matches!(kept, D::Ignore) && left.expires == NOW);
    }

    #[test]
    fn fin_wait_2_without_a_reader_takes_the_fin_and_resets_data() {
        let config = TcpConfig::default();
        let (fin, left) =
            play(Awaits::Fin, &config, &segment(100, Flags::ACK | Flags::FIN, Some(71)));
        assert!(matches!(fin, D::Send(ref ack) if ack.ack == Seq(101)), "{fin:?}");
        assert_eq!((left.awaits, left.expires), (Awaits::Silence, NOW + config.time_wait));
        let mut data = segment(100, Flags::ACK, Some(71));
        data.payload = crate::buffer::Chain::from(vec![1]);
        assert!(matches!(play(Awaits::Fin, &config, &data).0, D::Reset(Some(_))));
        let bare = segment(100, Flags::ACK, Some(71));
        assert!(matches!(play(Awaits::Fin, &config, &bare).0, D::Ignore));
        let reset = segment(200, Flags::RST, None);
        assert!(matches!(play(Awaits::Fin, &config, &reset).0, D::Ended));
        let far = segment(9000, Flags::ACK, Some(71));
        assert!(matches!(play(Awaits::Fin, &config, &far).0, D::Send(_)));
    }

    #[test]
    fn a_successor_begins_beyond_and_not_before_a_second_has_passed() {
        let mut remnant = remnant(Awaits::Silence);
        assert_eq!(remnant.successor_iss(), Seq(5000 + 65_537));
        remnant.send_next = Seq(0u32.wrapping_sub(65_537));
        assert_eq!(remnant.successor_iss(), Seq(1));
        assert!(!remnant.makes_way(NOW + Duration::from_secs(1)));
        assert!(remnant.makes_way(NOW + Duration::from_millis(1001)));
    }
}

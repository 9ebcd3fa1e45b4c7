//! A connection request: what must be remembered of a SYN until the handshake completes, and what segments do
//! meanwhile. It is the SYN in short, with what our SYN-ACK said; the connection is made from it.

use crate::link::NicId;
use crate::time::{Duration, Instant};
use crate::transport::tcp::config::Secrets;
use crate::transport::tcp::segment::Segment;
use crate::transport::tcp::seq::Seq;
use crate::wire::tcp::{Flags, Options, Timestamps};

/// No window shift.
const NO_SCALE: u8 = 0xff;

/// What our SYN-ACK promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynAck {
    /// Our initial sequence number.
    pub iss: Seq,
    /// Our window, not scaled.
    pub window: u16,
    /// Our window shift; counts where both sides scale.
    pub shift: u8,
    /// Our timestamp in the first one.
    pub stamp: u32,
}

/// One handshake under way.
#[derive(Clone, Debug)]
pub struct Request {
    /// The listener that has it.
    pub listener: u64,
    /// When the first SYN-ACK went out.
    pub began: Instant,
    /// When the next one is due.
    pub deadline: Instant,
    /// When an acknowledgment last went out for a segment out of window.
    answered: Option<Instant>,
    /// What our SYN-ACK said.
    pub ours: SynAck,
    /// The latest of our timestamps.
    pub last_stamp: u32,
    /// Added to our clock.
    pub timestamp_offset: u32,
    irs: Seq,
    recent: u32,
    /// Where the SYN came in.
    pub nic: NicId,
    mss: u16,
    window: u16,
    flags: Flags,
    scale: u8,
    sack: bool,
    timestamps: bool,
    /// How often the SYN-ACK was repeated because time passed.
    pub retries: u8,
    /// How often it was sent again for any reason.
    pub repeats: u8,
    /// The peer's acknowledgment came, but could not be used yet.
    pub acked: bool,
    /// It came back in a cookie: nothing of the handshake was timed.
    pub from_cookie: bool,
}

/// What a segment does to a request.
#[derive(Clone, Debug)]
pub enum RequestDisposition {
    /// Nothing.
    Ignore,
    /// Nothing, because it is older than the SYN (RFC 7323); an acknowledgment may be due.
    TooOld(Option<Segment>),
    /// Nothing, because it echoes a timestamp that was never sent; an acknowledgment may be due.
    Forged(Option<Segment>),
    /// A reset that is not exactly in place (RFC 5961); an acknowledgment may be due.
    Challenged(Option<Segment>),
    /// It lies out of the window; an acknowledgment may be due.
    OutOfWindow(Option<Segment>),
    /// The SYN came again: repeat the SYN-ACK.
    Repeat,
    /// It acknowledges what was never sent: it is no business of this request's. Answer with this reset.
    Stray(Option<Segment>),
    /// The peer gave up, or is not what it seems: the request is gone. Perhaps a reset answers.
    End(Option<Segment>),
    /// TCP_DEFER_ACCEPT: a bare acknowledgment does not count yet.
    Deferred,
    /// The handshake is complete.
    Complete,
}

impl Request {
    /// The request of a SYN. What our answer says is filled in with it.
    pub fn new(now: Instant, listener: u64, nic: NicId, syn: &Segment) -> Request {
        let options = &syn.options;
        Request {
            listener,
            began: now,
            deadline: now + super::FIRST_TIMEOUT,
            answered: None,
            ours: SynAck { iss: Seq(0), window: 0, shift: 0, stamp: 0 },
            last_stamp: 0,
            timestamp_offset: 0,
            irs: syn.seq,
            recent: options.timestamps.map_or(0, |stamp| stamp.value),
            nic,
            mss: options.mss.unwrap_or(0),
            window: syn.window,
            flags: syn.flags,
            scale: options.window_scale.unwrap_or(NO_SCALE),
            sack: options.sack_permitted,
            timestamps: options.timestamps.is_some(),
            retries: 0,
            repeats: 0,
            acked: false,
            from_cookie: false,
        }
    }

    /// The SYN again, as far as a connection looks at it.
    pub fn syn(&self) -> Segment {
        let mut syn = Segment::control(self.irs, Seq(0), self.flags);
        syn.window = self.window;
        syn.options = Options {
            mss: (self.mss != 0).then_some(self.mss),
            window_scale: (self.scale != NO_SCALE).then_some(self.scale),
            sack_permitted: self.sack,
            timestamps: self.timestamps.then_some(Timestamps { value: self.recent, echo: 0 }),
            ..Options::default()
        };
        syn
    }

    /// What the connection that is made from it starts with.
    pub fn secrets(&self) -> Secrets {
        Secrets { iss: self.ours.iss.0, timestamp_offset: self.timestamp_offset }
    }

    /// Whether it is known what our SYN-ACK said: not of one that came back in a cookie, or is yet to go out.
    pub fn was_sent(&self) -> bool {
        self.ours.window > 0 && !self.from_cookie
    }

    /// Our SYN-ACK went out, first or again.
    pub fn sent(&mut self, syn_ack: &Segment) {
        let stamp = syn_ack.options.timestamps.map_or(0, |stamp| stamp.value);
        if self.repeats == 0 {
            self.ours = SynAck {
                iss: syn_ack.seq,
                window: syn_ack.window,
                shift: syn_ack.options.window_scale.unwrap_or(0),
                stamp,
            };
            self.timestamps = syn_ack.options.timestamps.is_some();
        }
        self.last_stamp = stamp;
    }

    /// A segment for this flow (RFC 9293 section 3.10.7.4 for SYN-RECEIVED, in the order of Linux's tcp_check_req).
    /// `quiet` is how long an acknowledgment of this kind must have been away (tcp_invalid_ratelimit).
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &Segment,
        defers: bool,
        quiet: Duration,
    ) -> RequestDisposition {
        let next = self.irs + 1;
        let theirs = segment.options.timestamps.filter(|_| self.timestamps);
        let old = theirs.is_some_and(|stamp| (stamp.value.wrapping_sub(self.recent) as i32) < 0)
            && !segment.rst();
        let control = segment.flags & (Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN);
        // "If the SYN bit is set ... in the SYN-RECEIVED state ... return to LISTEN" is for another SYN; the same one
        // again means that our answer was lost.
        if segment.seq == self.irs && control == Flags::SYN && !old {
            return match self.may_answer(now, segment, quiet) {
                true => RequestDisposition::Repeat,
                false => RequestDisposition::Ignore,
            };
        }
        // "If the segment acknowledgment is not acceptable, form a reset segment".
        if segment.acknowledges().is_some_and(|ack| ack != self.ours.iss + 1) {
            return RequestDisposition::Stray(segment.answer_with_reset());
        }
        let end = next + usize::from(self.ours.window);
        let within = segment.is_within(next, end);
        // Linux: an echo of what we never sent marks a forgery.
        let forged = theirs.is_some_and(|stamp| {
            let (first, last) = (self.ours.stamp, self.last_stamp);
            stamp.echo != 0 && stamp.echo.wrapping_sub(first) > last.wrapping_sub(first)
        }) && segment.acknowledges().is_some();
        if old || forged || !within {
            let answers = !segment.rst() && self.may_answer(now, segment, quiet);
            let answer = answers.then(|| self.acknowledgment(now));
            return match (old, forged) {
                (true, _) => RequestDisposition::TooOld(answer),
                (_, true) => RequestDisposition::Forged(answer),
                _ => RequestDisposition::OutOfWindow(answer),
            };
        }
        if let Some(stamp) = theirs.filter(|_| segment.seq <= next) {
            self.recent = stamp.value;
        }
        // A SYN bit right at the old SYN's place lies before the window.
        let syn = segment.syn() && segment.seq != self.irs;
        if segment.rst() && segment.seq != next {
            // RFC 5961 section 3.2, as Linux does here since 6.15.
            let answers = self.may_answer(now, segment, quiet);
            return RequestDisposition::Challenged(answers.then(|| self.acknowledgment(now)));
        }
        if segment.rst() {
            return RequestDisposition::End(None);
        }
        if syn {
            return RequestDisposition::End(segment.answer_with_reset());
        }
        match segment.acknowledges() {
            None => RequestDisposition::Ignore,
            Some(_) if defers && segment.end() == next && !segment.fin() => {
                self.acked = true;
                RequestDisposition::Deferred
            }
            Some(_) => RequestDisposition::Complete,
        }
    }

    /// As on Linux, only what could be part of a loop of acknowledgments is rationed: empty segments and SYNs.
    fn may_answer(&mut self, now: Instant, segment: &Segment, quiet: Duration) -> bool {
        if !segment.is_empty() && !segment.syn() {
            return true;
        }
        let may = self.answered.is_none_or(|at| now.since(at) >= quiet);
        if may {
            self.answered = Some(now);
        }
        may
    }

    fn acknowledgment(&self, now: Instant) -> Segment {
        let mut segment = Segment::control(self.ours.iss + 1, self.irs + 1, Flags::ACK);
        let scales = self.scale != NO_SCALE;
        segment.window = self.ours.window >> if scales { self.ours.shift.min(14) } else { 0 };
        segment.options.timestamps = self.timestamps.then(|| Timestamps {
            value: (now.millis() as u32).wrapping_add(self.timestamp_offset),
            echo: self.recent,
        });
        segment
    }

    /// The request that a cookie stands for: the acknowledgment of our SYN-ACK, with what the cookie told.
    pub fn from_cookie(
        now: Instant,
        (listener, nic): (u64, NicId),
        ack: &Segment,
        mss: u16,
        echoed: Option<super::cookie::Echoed>,
    ) -> Request {
        let mut flags = Flags::SYN;
        if echoed.is_some_and(|told| told.ecn) {
            flags |= Flags::ECE | Flags::CWR;
        }
        let mut syn = Segment::control(ack.seq - 1usize, Seq(0), flags);
        syn.window = ack.window;
        let timestamps = ack.options.timestamps.filter(|_| echoed.is_some());
        syn.options = Options {
            mss: Some(mss),
            window_scale: echoed.and_then(|told| told.window_scale),
            sack_permitted: echoed.is_some_and(|told| told.sack),
            timestamps,
            ..Options::default()
        };
        Request { from_cookie: true, repeats: 1, ..Request::new(now, listener, nic, &syn) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tcp::listen::FlowKey;

    const QUIET: Duration = Duration::from_millis(500);

    fn request() -> Request {
        let mut syn = Segment::control(Seq(1000), Seq(0), Flags::SYN);
        syn.window = 5000;
        syn.options.mss = Some(1400);
        syn.options.timestamps = Some(Timestamps { value: 50, echo: 0 });
        let mut request = Request::new(Instant::from_secs(1), 1, NicId(2), &syn);
        assert_eq!(request.syn().options, syn.options);
        let mut answer = Segment::control(Seq(7000), Seq(1001), Flags::SYN | Flags::ACK);
        answer.window = 3000;
        answer.options.timestamps = Some(Timestamps { value: 900, echo: 50 });
        request.sent(&answer);
        request
    }

    fn answer(seq: u32, ack: u32, flags: Flags) -> RequestDisposition {
        let segment = Segment::control(Seq(seq), Seq(ack), flags);
        request().on_segment(Instant::from_secs(2), &segment, false, QUIET)
    }

    #[test]
    fn a_request_with_its_key_stays_within_160_bytes() {
        // The table's entry, and the place in the queue of waits.
        let entry = size_of::<(FlowKey, Request)>();
        let wait = size_of::<FlowKey>() + size_of::<Instant>();
        assert!(entry + wait <= 184 && size_of::<Request>() <= 96, "{entry} + {wait}");
    }

    #[test]
    fn segments_in_syn_received_are_taken_as_rfc_9293_and_linux_say() {
        use RequestDisposition as D;
        assert!(matches!(answer(1001, 7001, Flags::ACK), D::Complete));
        assert!(matches!(answer(1000, 0, Flags::SYN), D::Repeat));
        assert!(matches!(answer(1001, 7002, Flags::ACK), D::Stray(Some(_))));
        assert!(matches!(answer(9000, 7001, Flags::ACK), D::OutOfWindow(Some(_))));
        assert!(matches!(answer(9000, 0, Flags::RST), D::OutOfWindow(None)));
        assert!(matches!(answer(1001, 0, Flags::RST), D::End(None)));
        assert!(matches!(answer(1002, 0, Flags::RST), D::Challenged(Some(_))));
        assert!(matches!(answer(2000, 0, Flags::SYN), D::End(Some(_))));
        assert!(matches!(answer(1001, 0, Flags::empty()), D::Ignore));
    }

    #[test]
    fn old_and_forged_timestamps_are_refused_and_answers_are_rationed() {
        let mut request = request();
        let now = Instant::from_secs(2);
        let mut ack = Segment::control(Seq(1001), Seq(7001), Flags::ACK);
        ack.options.timestamps = Some(Timestamps { value: 49, echo: 900 });
        let first = request.on_segment(now, &ack, false, QUIET);
        assert!(matches!(first, RequestDisposition::TooOld(Some(_))), "{first:?}");
        let second = request.on_segment(now, &ack, false, QUIET);
        assert!(matches!(second, RequestDisposition::TooOld(None)), "{second:?}");
        ack.options.timestamps = Some(Timestamps { value: 51, echo: 901 });
        let forged = request.on_segment(now + QUIET, &ack, false, QUIET);
        assert!(matches!(forged, RequestDisposition::Forged(Some(_))), "{forged:?}");
        ack.options.timestamps = Some(Timestamps { value: 51, echo: 900 });
        let deferred = request.on_segment(now, &ack, true, QUIET);
        assert!(matches!(deferred, RequestDisposition::Deferred), "{deferred:?}");
        let complete = request.on_segment(now, &ack, false, QUIET);
        assert!(matches!(complete, RequestDisposition::Complete), "{complete:?}");
    }
}

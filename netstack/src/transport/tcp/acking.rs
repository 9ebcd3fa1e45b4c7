//! When to acknowledge: every second full segment, at once where the sender needs to know, and otherwise after a
//! delay that follows the peer's pace (RFC 1122 section 4.2.3.2, RFC 5681 section 4.2), with Linux's habits.

use super::seq::Seq;
use crate::time::{Duration, Instant};

/// Linux's TCP_DELACK_MIN and TCP_ATO_MIN.
pub const DELAYED_ACK: Duration = Duration::from_millis(40);
/// A FIN before any data waits for the next tick of Linux's clock only.
const TICK: Duration = Duration::from_millis(4);
/// Linux's TCP_DELACK_MAX. RFC 1122 section 4.2.3.2: "the delay MUST be less than 0.5 seconds".
pub const DELAYED_ACK_MAX: Duration = Duration::from_millis(200);
/// Linux's TCP_MAX_QUICKACKS.
const QUICK_ACKS: usize = 16;
/// Acknowledgments of out-of-order data that go out one by one, for peers that count duplicates.
const SINGLE_DUPLICATES: u8 = 3;
/// How many more are then told by one (tcp_comp_sack_nr).
const COMPRESSED: u8 = 44;
/// How long they wait at most (tcp_comp_sack_delay_ns).
const COMPRESSED_DELAY: Duration = Duration::from_millis(1);

/// Whether an acknowledgment is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckDue {
    /// No.
    No,
    /// At the latest then.
    At(Instant),
    /// At once.
    Now,
}

impl AckDue {
    /// The earlier of what is due and a moment.
    pub fn no_later_than(self, at: Instant) -> AckDue {
        match self {
            AckDue::Now => AckDue::Now,
            AckDue::At(due) => AckDue::At(due.min(at)),
            AckDue::No => AckDue::At(at),
        }
    }
}

/// What is known of the path's round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The smoothed round-trip time of what we sent, if anything was measured.
    pub smoothed: Option<Duration>,
    /// Our retransmission timeout.
    pub rto: Duration,
    /// The longest that an acknowledgment may wait.
    pub most: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { smoothed: None, rto: Duration::ZERO, most: DELAYED_ACK_MAX }
    }
}

/// Whether small segments came since the last acknowledgment (Linux's ICSK_ACK_PUSHED and PUSHED2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pushed {
    #[default]
    No,
    Once,
    Again,
}

/// The delayed-acknowledgment engine of one connection.
#[derive(Debug)]
pub struct Acking {
    /// RTAX_QUICKACK of the route.
    pub always_quick: bool,
    quick: u8,
    interactive: bool,
    pushed: Pushed,
    /// Linux's ato: how long to wait; None before the first data.
    delay: Option<Duration>,
    data_at: Instant,
    duplicates_of: Seq,
    duplicates: u8,
    compressed: u8,
}

impl Acking {
    /// Before any data.
    pub fn new(now: Instant) -> Acking {
        Acking {
            always_quick: false,
            quick: 0,
            interactive: false,
            pushed: Pushed::No,
            delay: None,
            data_at: now,
            duplicates_of: Seq(0),
            duplicates: 0,
            compressed: 0,
        }
    }

    /// Whether the program answers what it reads, so that acknowledgments ride on data (Linux's pingpong mode).
    pub fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Acknowledgments ride on data from now on.
    pub fn enter_interactive(&mut self) {
        self.interactive = true;
    }

    /// They do not.
    pub fn leave_interactive(&mut self) {
        self.interactive = false;
    }

    /// Linux's ato: how long an acknowledgment waits; zero before the first data.
    pub fn delay(&self) -> Duration {
        self.delay.unwrap_or_default()
    }

    /// Whether each segment is acknowledged at once.
    pub fn is_quick(&self) -> bool {
        self.always_quick || self.quick > 0 && !self.interactive
    }

    /// No segment is acknowledged at once for its own sake.
    pub fn stop_quick(&mut self) {
        self.quick = 0;
    }

    /// The window opens: the sender should hear of it. As on Linux (tcp_grow_window) an odd number stays, so that what is acknowledged
    /// while it opens is hardly counted.
    pub fn keep_quick(&mut self) {
        self.quick |= 1;
    }

    /// A sender in slow start or recovery waits for acknowledgments: at most half a window of them comes at once.
    fn add_quick(&mut self, window: usize, mss: usize) {
        let segments = (window / (2 * mss.max(1))).clamp(2, QUICK_ACKS);
        self.quick = self.quick.max(segments as u8);
    }

    /// Acknowledge at once for a while, starting anew.
    pub fn enter_quick(&mut self, window: usize, mss: usize) {
        self.add_quick(window, mss);
        self.interactive = false;
        self.delay = Some(DELAYED_ACK);
    }

    /// Data came: the delay follows the time between arrivals.
    pub fn on_data(&mut self, now: Instant, window: usize, mss: usize, rto: Duration) {
        let gap = now.since(self.data_at);
        self.data_at = now;
        let Some(delay) = self.delay else {
            // The first data: the peer is in slow start.
            self.add_quick(window, mss);
            self.delay = Some(DELAYED_ACK);
            return;
        };
        if gap <= DELAYED_ACK / 2 {
            self.delay = Some(delay / 2 + DELAYED_ACK / 2);
        } else if gap < delay {
            self.delay = Some((delay / 2 + gap).min(rto));
        } else if gap > rto {
            // The peer starts over after a pause.
            self.add_quick(window, mss);
        }
    }

    /// A small segment came: the peer has nothing more for now.
    pub fn on_small(&mut self) {
        self.pushed = match self.pushed {
            Pushed::No => Pushed::Once,
            Pushed::Once | Pushed::Again => Pushed::Again,
        };
    }

    /// When an acknowledgment that waits goes out at the latest.
    pub fn delayed(&self, now: Instant, due: AckDue, pace: &Pace) -> AckDue {
        let mut delay = self.delay.unwrap_or(TICK);
        if delay > DELAYED_ACK {
            let most = pace.smoothed.map_or(DELAYED_ACK_MAX, |rtt| rtt.max(DELAYED_ACK));
            delay = delay.min(most);
        }
        delay = delay.min(pace.most);
        match due {
            // It is about to go out anyway.
            AckDue::At(at) if at <= now + delay / 4 => AckDue::Now,
            due => due.no_later_than(now + delay),
        }
    }

    /// When the acknowledgment of data beyond a gap goes out: the first few at once, then many as one, at most a
    /// twentieth of a round trip later.
    pub fn of_gap(
        &mut self,
        now: Instant,
        due: AckDue,
        next: Seq,
        rtt: Option<Duration>,
    ) -> AckDue {
        if self.duplicates_of != next {
            self.duplicates_of = next;
            self.duplicates = 0;
        }
        if self.duplicates < SINGLE_DUPLICATES {
            self.duplicates += 1;
            return AckDue::Now;
        }
        let Some(rtt) = rtt.filter(|_| self.compressed < COMPRESSED) else { return AckDue::Now };
        self.compressed += 1;
        due.no_later_than(now + (rtt / 20).min(COMPRESSED_DELAY))
    }

    /// Acknowledgments of gaps that were told by others since the last one.
    pub fn compressed(&self) -> u8 {
        self.compressed
    }

    /// The delay is over and nothing took the acknowledgment along.
    pub fn on_delay_over(&mut self, rto: Duration) {
        match self.interactive {
            // Linux: "Delayed ACK missed: inflate ATO", or leave interactive mode and reset it.
            false => self.delay = self.delay.map(|delay| (delay * 2).min(rto)),
            true => {
                self.interactive = false;
                self.delay = Some(DELAYED_ACK);
            }
        }
    }

    /// Data goes out: soon after data came, it was an answer.
    pub fn on_data_sent(&mut self, now: Instant) {
        if self.delay.is_some_and(|delay| now.since(self.data_at) < delay) {
            self.interactive = true;
        }
    }

    /// An acknowledgment goes out.
    pub fn on_ack_sent(&mut self) {
        self.pushed = Pushed::No;
        self.compressed = 0;
        if self.quick > 0 {
            self.quick -= 1;
            if self.quick == 0 {
                self.delay = Some(DELAYED_ACK);
            }
        }
    }

    /// Whether a read that emptied the queue should acknowledge: there was a small segment, and no answer is
    /// expected to carry it.
    pub fn wants_ack_when_drained(&self) -> bool {
        match self.pushed {
            Pushed::No => false,
            Pushed::Once => !self.interactive,
            Pushed::Again => true,
        }
    }
}

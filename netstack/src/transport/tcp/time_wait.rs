//! What is left of a connection in TIME-WAIT: a few numbers instead of a connection.

use super::segment::Segment;
use super::seq::Seq;
use super::state::{Remembered, TimeWait, TimeWaitDisposition};
use super::tcb::Tcb;
use crate::time::{Duration, Instant};
use crate::wire::tcp::{Flags, Timestamps};

/// An acknowledgment of old segments goes out at most this often.
const ACK_INTERVAL: Duration = Duration::from_millis(500);

/// TIME-WAIT without buffers.
#[derive(Clone, Debug)]
pub struct Remnant {
    state: TimeWait,
    peer: Remembered,
    send_next: Seq,
    timestamp_offset: u32,
    window: u16,
    length: Duration,
    acked_at: Option<Instant>,
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
    /// A new connection may begin: its initial sequence number must lie beyond this one.
    Reopen(Seq),
}

impl Remnant {
    pub(super) fn new(state: TimeWait, tcb: &Tcb) -> Remnant {
        Remnant {
            state,
            peer: Remembered {
                receive_next: tcb.receive.nxt,
                recent: tcb.timestamps.map(|timestamps| timestamps.recent),
            },
            send_next: tcb.send.nxt,
            timestamp_offset: tcb.timestamps.map_or(0, |timestamps| timestamps.offset),
            window: (tcb.receive.window() >> tcb.receive.window_shift).min(0xffff) as u16,
            length: tcb.config.time_wait,
            acked_at: None,
        }
    }

    /// When it is over.
    pub fn expires(&self) -> Instant {
        self.state.expires
    }

    /// Our next sequence number.
    pub fn send_next(&self) -> Seq {
        self.send_next
    }

    /// A segment for the four-tuple arrived.
    pub fn on_segment(&mut self, now: Instant, segment: &Segment) -> RemnantDisposition {
        match self.state.on_segment(&self.peer, segment) {
            TimeWaitDisposition::Ignore => RemnantDisposition::Ignore,
            TimeWaitDisposition::Acknowledge => {
                if self.acked_at.is_some_and(|at| now.since(at) < ACK_INTERVAL) {
                    return RemnantDisposition::Ignore;
                }
                self.acked_at = Some(now);
                RemnantDisposition::Send(self.acknowledgment(now))
            }
            TimeWaitDisposition::Restart => {
                self.state = self.state.restarted(now, self.length);
                RemnantDisposition::Send(self.acknowledgment(now))
            }
            TimeWaitDisposition::Close => RemnantDisposition::Ended,
            TimeWaitDisposition::Reopen => RemnantDisposition::Reopen(self.send_next),
        }
    }

    fn acknowledgment(&self, now: Instant) -> Segment {
        let mut segment = Segment::control(self.send_next, self.peer.receive_next, Flags::ACK);
        segment.window = self.window;
        segment.options.timestamps = self.peer.recent.map(|echo| Timestamps {
            value: (now.millis() as u32).wrapping_add(self.timestamp_offset),
            echo,
        });
        segment
    }
}

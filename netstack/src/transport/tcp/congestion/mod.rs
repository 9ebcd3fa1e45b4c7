//! Congestion control: how much may be in flight. Loss detection is elsewhere; this only reacts to it. A
//! [`Congestion`] is one algorithm, [`Control`] the frame around it that all algorithms share: proportional rate
//! reduction, undo, and the validation of windows that were not used.

mod bbr;
mod control;
mod cubic;
mod hystart;
mod newreno;
mod window;

pub use bbr::Bbr;
pub use control::{Burst, Control, First};
pub use cubic::Cubic;
pub use newreno::NewReno;
pub use window::Window;

use super::rate::{RateSample, RateSampler};
use super::sack::Sent;
use crate::time::{Duration, Instant};
use core::fmt::Debug;

/// What an acknowledgment told. Amounts are bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AckSample {
    /// When it came.
    pub now: Instant,
    /// Newly delivered by it, cumulatively or by SACK.
    pub acked: usize,
    /// Newly taken for lost with it.
    pub lost: usize,
    /// On their way after it.
    pub in_flight: usize,
    /// The round-trip time it measured, if it could.
    pub rtt: Option<Duration>,
    /// The smoothed round-trip time; zero before the first sample.
    pub smoothed: Duration,
    /// Whether it acknowledged data cumulatively.
    pub advanced: bool,
    /// Whether it began a new round trip: all that was sent when the last one began is acknowledged.
    pub round_started: bool,
    /// Whether the window was what held the sender back.
    pub window_limited: bool,
    /// How fast the path delivers.
    pub rate: RateSample,
}

/// A piece that was taken for lost. Amounts are bytes.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// When.
    pub now: Instant,
    /// Its length.
    pub len: usize,
    /// In flight when it went out, with it.
    pub in_flight: usize,
    /// Lost since it went out, with it.
    pub lost: u64,
    /// Whether it went out while the program set the pace.
    pub app_limited: bool,
}

impl Lost {
    /// A piece of the scoreboard that `rate` has counted as lost.
    pub(super) fn new(now: Instant, sent: &Sent, rate: &RateSampler) -> Lost {
        Lost {
            now,
            len: sent.len(),
            in_flight: sent.stamp.in_flight,
            lost: rate.lost() - sent.stamp.lost,
            app_limited: sent.stamp.app_limited,
        }
    }
}

/// Why the window must become smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Acknowledgments told of a loss.
    Loss,
    /// The retransmission timer expired.
    Timeout,
    /// A router marked a packet (RFC 3168).
    Mark,
}

/// A congestion control algorithm over a [`Window`] that the sender owns.
pub trait Congestion: Debug + Send {
    /// Linux's name, as TCP_CONGESTION gives it.
    fn name(&self) -> &'static str;
    /// Data was delivered outside of a reduction: the window may grow.
    fn on_ack(&mut self, window: &mut Window, sample: &AckSample);
    /// The slow-start threshold after congestion: once per episode.
    fn reduce(&mut self, window: &Window, now: Instant, cause: Cause) -> usize;
    /// The last reduction was a mistake; the window is restored already.
    fn undo(&mut self) {}
    /// Whether it steers the window itself, also while losses are repaired: then nothing else shrinks it but a timeout.
    fn steers(&self) -> bool {
        false
    }
    /// Bytes a second that it wants to send at most.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }
    /// A piece was lost.
    fn on_lost(&mut self, _window: &Window, _lost: &Lost) {}
    /// A recovery ended.
    fn on_recovered(&mut self, _window: &mut Window) {}
    /// The connection sends again after it had nothing to send.
    fn on_restart(&mut self) {}
    /// Whether a new one would do as well, because it has learned nothing.
    fn is_fresh(&self) -> bool {
        false
    }
}

/// The controllers by Linux's names; the first is Linux's default.
pub const AVAILABLE: &[&str] = &["cubic", "reno", "bbr"];

/// The known name that equals `name`, for settings that outlive the caller's bytes.
pub fn known(name: &[u8]) -> Option<&'static str> {
    AVAILABLE.iter().copied().find(|known| known.as_bytes() == name)
}

/// Whether an algorithm does nothing before it hears of an acknowledgment or a loss, so that it need not be made earlier.
fn hears_before_it_acts(name: &str) -> bool {
    matches!(name, "cubic" | "reno")
}

/// A fresh algorithm of that name.
pub fn by_name(name: &str) -> Option<Box<dyn Congestion>> {
    match name {
        "cubic" => Some(Box::new(Cubic::default())),
        "reno" => Some(Box::new(NewReno::default())),
        "bbr" => Some(Box::new(Bbr::default())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_name_makes_a_controller_of_that_name() {
        for name in AVAILABLE {
            assert_eq!(by_name(name).map(|algorithm| algorithm.name()), Some(*name));
            assert_eq!(known(name.as_bytes()), Some(*name));
        }
        assert_eq!((known(b"vegas"), by_name("vegas").is_none()), (None, true));
    }
}

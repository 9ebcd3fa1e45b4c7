//! Congestion control: how much may be in flight. Loss detection is elsewhere; this only reacts to it.

mod newreno;

pub use newreno::NewReno;

use crate::time::{Duration, Instant};
use core::fmt::Debug;

/// What an acknowledgment told.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it came.
    pub now: Instant,
    /// Bytes that it newly acknowledged, cumulatively or by SACK.
    pub acked: usize,
    /// Bytes in flight before it.
    pub in_flight: usize,
    /// The round-trip time it measured, if it could.
    pub rtt: Option<Duration>,
}

/// A congestion controller. All amounts are bytes.
pub trait Congestion: Debug + Send {
    /// Linux's name, as TCP_CONGESTION gives it.
    fn name(&self) -> &'static str;
    /// How much may be in flight.
    fn window(&self) -> usize;
    /// Where slow start ends.
    fn ssthresh(&self) -> usize;
    /// The segment size is known or changed.
    fn set_mss(&mut self, mss: usize);
    /// Data was acknowledged outside of fast recovery.
    fn on_ack(&mut self, sample: AckSample);
    /// Loss was detected by acknowledgments: once per recovery.
    fn on_loss(&mut self, now: Instant, in_flight: usize);
    /// Fast recovery ended.
    fn on_recovered(&mut self, now: Instant);
    /// The retransmission timer expired: once per series of backoffs.
    fn on_timeout(&mut self, now: Instant, in_flight: usize);
    /// The connection sends again after being idle for longer than the retransmission timeout.
    fn on_idle(&mut self, now: Instant);
}

/// The controllers by Linux's names.
pub const AVAILABLE: &[&str] = &["reno"];

/// A fresh controller of that name.
pub fn by_name(name: &str, mss: usize) -> Option<Box<dyn Congestion>> {
    match name {
        "reno" => Some(Box::new(NewReno::new(mss))),
        _ => None,
    }
}

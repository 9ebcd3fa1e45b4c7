//! What a sending half needs only while something is under way or being repaired. A connection that rests has none of it.

use super::mtu_search::MtuProbe;
use super::pacing::Pacer;
use super::rack::Rack;
use super::rate::RateSampler;
use super::sack::Scoreboard;
use super::send::{LossProbe, Phase, SendCounters};
use super::seq::Seq;
use super::undo::{Frto, Undo};
use crate::lazy::Plain;
use crate::time::Instant;

/// The state of data under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Counters; those of bytes sent and acknowledged stay with the sender.
    pub counters: SendCounters,
    /// Those that the stack's counters know of.
    pub(super) told: SendCounters,
    /// Consecutive timeouts without progress.
    pub retries: u32,
    /// Window probes without an answer.
    pub probes: u32,
    /// Window probes since the window closed: each doubles the interval.
    pub probe_backoff: u32,
    /// Since when nothing was acknowledged, once a timer has expired.
    pub stalled_since: Option<Instant>,
    /// When to time out.
    pub rto_at: Option<Instant>,
    /// When to probe for a lost tail.
    pub probe_at: Option<Instant>,
    /// When to look for losses again.
    pub reorder_at: Option<Instant>,
    /// When to probe a closed window, or to send what was held back.
    pub persist_at: Option<Instant>,
    /// A probe of the path's MTU that is on its way.
    pub(super) mtu_probe: Option<MtuProbe>,
    pub(super) mtu_probe_lost: bool,
    /// The end of urgent data (SND.UP), until it is acknowledged.
    pub(super) urgent_end: Option<Seq>,
    pub(super) board: Scoreboard,
    pub(super) rack: Rack,
    pub(super) rate: RateSampler,
    pub(super) pacer: Pacer,
    /// When pacing lets the next piece go.
    pub pace_at: Option<Instant>,
    pub(super) phase: Phase,
    /// Duplicate acknowledgments of a peer without SACK: segments that left the network.
    pub(super) duplicates: usize,
    /// The first retransmission does not wait for the window.
    pub(super) fast_due: bool,
    /// The retransmission is the timeout's own.
    pub(super) head_due: bool,
    /// The window was reduced, and the peer was not told (CWR).
    pub(super) reduced: bool,
    /// Nothing is sent again before the next acknowledgment.
    pub(super) holds: bool,
    pub(super) undo: Undo,
    pub(super) frto: Frto,
    /// Something went out since the last burst was judged.
    pub(super) bursting: bool,
    /// The congestion window held something back.
    pub(super) window_held: bool,
    pub(super) loss_probe: Option<LossProbe>,
    pub(super) loss_probe_due: bool,
    /// The timer says to send what Nagle, cork or a small window held back.
    pub(super) forced: bool,
}

impl Plain for Flight {
    const PLAIN: &'static Flight = &Flight {
        counters: SendCounters::NONE,
        told: SendCounters::NONE,
        retries: 0,
        probes: 0,
        probe_backoff: 0,
        stalled_since: None,
        rto_at: None,
        probe_at: None,
        reorder_at: None,
        persist_at: None,
        mtu_probe: None,
        mtu_probe_lost: false,
        urgent_end: None,
        board: Scoreboard::EMPTY,
        rack: Rack::NEW,
        rate: RateSampler::NEW,
        pacer: Pacer::NEW,
        pace_at: None,
        phase: Phase::Open,
        duplicates: 0,
        fast_due: false,
        head_due: false,
        reduced: false,
        holds: false,
        undo: Undo::NONE,
        frto: Frto::Off,
        bursting: false,
        window_held: false,
        loss_probe: None,
        loss_probe_due: false,
        forced: false,
    };
}

impl Flight {
    /// Whether no timer runs, and nothing is counted or remembered that the next acknowledgment would end.
    pub(super) fn is_quiet(&self) -> bool {
        let timers = [self.rto_at, self.probe_at, self.reorder_at, self.persist_at, self.pace_at];
        let quiet = timers.iter().all(Option::is_none) && self.stalled_since.is_none();
        quiet && self.retries | self.probes | self.probe_backoff == 0 && self.loss_probe.is_none()
    }

    /// Whether nothing in it matters once all has arrived: no loss, no reordering, no timer, no probe.
    pub(super) fn is_forgettable(&self) -> bool {
        let waits = self.reduced || self.forced || self.mtu_probe_lost || self.fast_due;
        self.is_quiet()
            && !waits
            && self.urgent_end.is_none()
            && self.counters == SendCounters::NONE
            && self.rate.lost() == 0
            && !self.rack.remembers()
    }
}

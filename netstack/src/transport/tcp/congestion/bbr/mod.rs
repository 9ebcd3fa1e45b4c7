//! BBRv3 (draft-ietf-ccwg-bbr): steers by a model of the path (the bandwidth it delivers, its least round-trip
//! time, and how much in flight it bears) rather than by each loss. `model` holds the model, `cycle` the states
//! that probe it; this file ties them to the window and the pacing rate. Names are the draft's.

mod cycle;
mod model;

use super::{AckSample, Cause, Congestion, Lost, Window};
use crate::time::{Duration, Instant};
use cycle::{Phase, State};
use model::Model;

/// "BBRPacingMarginPercent: 1".
const PACING_MARGIN: f64 = 0.99;
/// "BBRStartupPacingGain: 4 * ln(2)".
const STARTUP_PACING_GAIN: f64 = 2.77;
/// "BBRMinPipeCwnd: 4 * SMSS".
const MIN_PIPE_SEGMENTS: usize = 4;
/// "BBRBeta".
const BETA: f64 = 0.7;

/// The controller.
#[derive(Clone, Debug)]
pub struct Bbr {
    model: Model,
    state: State,
    pacing_rate: Option<f64>,
    /// "BBR.prior_cwnd": to return to after recovery or ProbeRTT.
    prior_window: usize,
    /// "BBR.packet_conservation": until when the window only keeps what is in flight.
    conserving_until: Option<u64>,
    /// "BBR.idle_restart".
    idle_restart: bool,
}

impl Default for Bbr {
    fn default() -> Bbr {
        Bbr {
            model: Model::default(),
            state: State::new(),
            pacing_rate: None,
            prior_window: 0,
            conserving_until: None,
            idle_restart: false,
        }
    }
}

/// What one acknowledgment means to the parts.
#[derive(Clone, Copy)]
struct Context<'a> {
    window: &'a Window,
    sample: &'a AckSample,
}

impl Bbr {
    /// "BBRSetPacingRate".
    fn set_pacing_rate(&mut self, window: &Window, sample: &AckSample) {
        let gain = self.state.phase.pacing_gain();
        if self.model.bandwidth() <= 0.0 {
            // "BBRInitPacingRate: nominal_bandwidth = InitialCwnd / (SRTT ? SRTT : 1ms)".
            let rtt = sample.smoothed.max(Duration::from_millis(1)).as_secs_f64();
            let nominal = window.initial() as f64 / rtt;
            self.pacing_rate.get_or_insert(STARTUP_PACING_GAIN * nominal);
            return;
        }
        let rate = gain * self.model.bandwidth() * PACING_MARGIN;
        // "if (BBR.full_bw_reached or rate > BBR.pacing_rate)".
        if self.state.full_reached || self.pacing_rate.is_none_or(|old| rate > old) {
            self.pacing_rate = Some(rate);
        }
    }

    /// "BBRQuantizationBudget".
    fn budget(&self, inflight: f64, window: &Window) -> usize {
        let quantum = self.pacing_rate.unwrap_or_default() * 0.001;
        let budget = (3.0 * quantum).max(3.0 * 2.0 * window.mss as f64);
        let cap = inflight.max(budget).max((MIN_PIPE_SEGMENTS * window.mss) as f64) as usize;
        match self.state.phase {
            Phase::Up => cap.saturating_add(2 * window.mss),
            _ => cap,
        }
    }

    /// "BBRInflight(gain)".
    fn inflight(&self, gain: f64, window: &Window) -> usize {
        match self.model.bdp() {
            Some(bdp) => self.budget(gain * bdp, window),
            None => window.initial(),
        }
    }

    /// "BBRSetCwnd".
    fn set_window(&mut self, window: &mut Window, sample: &AckSample) {
        let most = match self.model.bdp() {
            Some(bdp) => {
                let gain = self.state.phase.window_gain();
                self.budget(gain * bdp + self.model.extra_acked() as f64, window)
            }
            None => window.initial(),
        };
        // "BBRModulateCwndForRecovery".
        if sample.lost > 0 && self.conserving_until.is_some() {
            window.size = window.size.saturating_sub(sample.lost).max(window.mss);
        }
        let conserves = self.conserving_until.is_some();
        if conserves {
            window.size = window.size.max(sample.in_flight + sample.acked);
        } else if self.state.full_reached {
            window.size = (window.size + sample.acked).min(most);
        } else if window.size < most || sample.rate.total_delivered < window.initial() as u64 {
            window.grow(sample.acked);
        }
        window.size = window.size.max(MIN_PIPE_SEGMENTS * window.mss);
        if self.state.phase == Phase::ProbeRtt {
            window.size = window.size.min(self.probe_rtt_window(window));
        }
        self.bound_window(window);
    }

    /// "BBRProbeRTTCwnd: BBRBDPMultiple(BBRProbeRTTCwndGain)".
    fn probe_rtt_window(&self, window: &Window) -> usize {
        let bdp = self.model.bdp().unwrap_or_default();
        ((0.5 * bdp) as usize).max(MIN_PIPE_SEGMENTS * window.mss)
    }

    /// "BBRBoundCwndForModel".
    fn bound_window(&self, window: &mut Window) {
        let cap = match self.state.phase {
            Phase::Down | Phase::Refill | Phase::Up => self.model.inflight_hi,
            Phase::Cruise | Phase::ProbeRtt => self.model.with_headroom(window.mss),
            Phase::Startup | Phase::Drain => usize::MAX,
        };
        let cap = cap.min(self.model.inflight_lo).max(MIN_PIPE_SEGMENTS * window.mss);
        window.size = window.size.min(cap);
    }

    /// "BBRSaveCwnd".
    fn save_window(&mut self, window: &Window) {
        let repairing = self.conserving_until.is_some() || self.state.phase == Phase::ProbeRtt;
        self.prior_window = match repairing {
            false => window.size,
            true => self.prior_window.max(window.size),
        };
    }

    /// After idleness: "BBRHandleRestartFromIdle".
    fn restart_from_idle(&mut self, sample: &AckSample) {
        if core::mem::take(&mut self.idle_restart) {
            self.model.restart_aggregation(sample.now);
        }
    }
}

impl Congestion for Bbr {
    fn name(&self) -> &'static str {
        "bbr"
    }

    fn steers(&self) -> bool {
        true
    }

    fn pacing_rate(&self) -> Option<u64> {
        self.pacing_rate.map(|rate| rate as u64)
    }

    fn on_ack(&mut self, window: &mut Window, sample: &AckSample) {
        self.restart_from_idle(sample);
        self.state.limited = sample.window_limited;
        self.model.note_round(&sample.rate);
        self.model.update_signals(&Context { window, sample }, self.state.phase);
        self.model.update_aggregation(window, sample, self.state.full_reached);
        self.update_state(window, sample);
        self.model.advance_signals(&sample.rate);
        if self.conserving_until.is_some_and(|until| sample.rate.prior_delivered >= until) {
            self.conserving_until = None;
        }
        self.set_pacing_rate(window, sample);
        self.set_window(window, sample);
    }

    fn on_lost(&mut self, window: &Window, lost: &Lost) {
        self.model.note_loss();
        if !self.state.samples_bandwidth()
            || !Model::is_too_high(lost.lost, lost.in_flight, window.mss)
        {
            return;
        }
        let inflight = Model::inflight_at_loss(lost);
        self.handle_too_high(window, lost.now, inflight, lost.app_limited);
    }

    /// "BBRHandleInflightTooHigh" is for the model; a recovery only keeps what is in flight for a round trip.
    fn reduce(&mut self, window: &Window, _now: Instant, cause: Cause) -> usize {
        self.save_window(window);
        if cause == Cause::Loss {
            self.conserving_until = Some(self.model.delivered());
        }
        window.ssthresh
    }

    fn on_recovered(&mut self, window: &mut Window) {
        self.conserving_until = None;
        // "BBRRestoreCwnd: cwnd = max(cwnd, BBR.prior_cwnd)".
        window.size = window.size.max(self.prior_window);
        self.bound_window(window);
    }

    fn undo(&mut self) {
        self.conserving_until = None;
        self.model.forget_losses();
        self.state.reset_full();
    }

    fn on_restart(&mut self) {
        self.idle_restart = true;
    }
}

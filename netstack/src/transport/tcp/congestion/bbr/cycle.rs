//! The states of BBR (draft-ietf-ccwg-bbr section 5.3): Startup, Drain, the cycle of ProbeBW, and ProbeRTT.

use super::super::{AckSample, Window};
use super::model::Model;
use super::{BETA, Bbr, STARTUP_PACING_GAIN};
use crate::time::{Duration, Instant};

/// "BBRStartupFullLossCnt: 6".
const STARTUP_FULL_LOSSES: u32 = 6;
/// "ProbeRTTDuration: 200 ms".
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// A bandwidth that grows by less than a quarter in three rounds has reached the path's.
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;

/// Where the controller stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl Phase {
    pub(super) fn pacing_gain(self) -> f64 {
        match self {
            Phase::Startup => STARTUP_PACING_GAIN,
            Phase::Drain => 0.35,
            Phase::Down => 0.9,
            Phase::Up => 1.25,
            Phase::Cruise | Phase::Refill | Phase::ProbeRtt => 1.0,
        }
    }

    pub(super) fn window_gain(self) -> f64 {
        match self {
            Phase::Up => 2.25,
            Phase::ProbeRtt => 0.5,
            _ => 2.0,
        }
    }

    fn probes_bandwidth(self) -> bool {
        matches!(self, Phase::Down | Phase::Cruise | Phase::Refill | Phase::Up)
    }
}

/// "BBR.ack_phase": what the acknowledgments of now answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckPhase {
    Init,
    Starting,
    Feedback,
    Stopping,
    Refilling,
}

/// The state machine's memory.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// "BBR.full_bw_reached".
    pub(super) full_reached: bool,
    full_now: bool,
    full_bw: f64,
    full_rounds: u32,
    ack_phase: AckPhase,
    samples_bandwidth: bool,
    cycle_since: Instant,
    probe_wait: Duration,
    rounds_since_probe: u64,
    up_rounds: u32,
    up_acked: usize,
    /// Bytes acknowledged for each byte that "BBR.inflight_hi" grows.
    up_cost: f64,
    probe_rtt_done: Option<Instant>,
    probe_rtt_round_done: bool,
    /// Whether the window held the sender back.
    pub(super) limited: bool,
}

impl State {
    pub(super) fn new() -> State {
        State {
            phase: Phase::Startup,
            full_reached: false,
            full_now: false,
            full_bw: 0.0,
            full_rounds: 0,
            ack_phase: AckPhase::Init,
            samples_bandwidth: false,
            cycle_since: Instant::ZERO,
            probe_wait: Duration::ZERO,
            rounds_since_probe: 0,
            up_rounds: 0,
            up_acked: 0,
            up_cost: f64::INFINITY,
            probe_rtt_done: None,
            probe_rtt_round_done: false,
            limited: false,
        }
    }

    /// "BBR.bw_probe_samples": whether losses tell about the probe.
    pub(super) fn samples_bandwidth(&self) -> bool {
        self.samples_bandwidth
    }

    /// "BBRResetFullBW".
    pub(super) fn reset_full(&mut self) {
        self.full_bw = 0.0;
        self.full_rounds = 0;
        self.full_now = false;
    }
}

impl Bbr {
    /// The part of "BBRUpdateModelAndState" that follows the signals.
    pub(super) fn update_state(&mut self, window: &mut Window, sample: &AckSample) {
        if self.model.round_start {
            self.state.rounds_since_probe += 1;
        }
        self.check_full(sample);
        self.check_startup(window, sample);
        if self.state.phase == Phase::Drain && sample.in_flight <= self.inflight(1.0, window) {
            self.start_down(sample.now);
        }
        self.update_cycle(window, sample);
        self.model.update_min_rtt(sample);
        self.check_probe_rtt(window, sample);
    }

    /// "BBRCheckFullBWReached".
    fn check_full(&mut self, sample: &AckSample) {
        let state = &mut self.state;
        if state.full_now || sample.rate.app_limited {
            return;
        }
        let Some(bandwidth) = sample.rate.rate() else { return };
        if bandwidth >= state.full_bw * FULL_GROWTH {
            state.reset_full();
            state.full_bw = bandwidth;
            return;
        }
        if !self.model.round_start {
            return;
        }
        state.full_rounds += 1;
        state.full_now = state.full_rounds >= FULL_ROUNDS;
        state.full_reached |= state.full_now;
    }

    /// "BBRCheckStartupDone", with "BBRCheckStartupHighLoss".
    fn check_startup(&mut self, window: &Window, sample: &AckSample) {
        if self.state.phase != Phase::Startup {
            return;
        }
        let too_high = Model::is_too_high(sample.rate.lost, sample.rate.in_flight, window.mss);
        if !self.state.full_reached
            && self.model.round_of_losses_ends()
            && self.model.loss_events >= STARTUP_FULL_LOSSES
            && too_high
        {
            self.state.full_reached = true;
            let bdp = self.inflight(1.0, window);
            self.model.inflight_hi = bdp.max(self.model.inflight_latest());
        }
        if self.state.full_reached {
            self.state.phase = Phase::Drain;
        }
    }

    /// "BBRUpdateProbeBWCyclePhase".
    fn update_cycle(&mut self, window: &Window, sample: &AckSample) {
        if !self.state.full_reached {
            return;
        }
        self.adapt_upper_bounds(window, sample);
        let phase = self.state.phase;
        match phase {
            Phase::Down
                if !self.probes_in_time(window, sample) && self.may_cruise(window, sample) =>
            {
                self.state.phase = Phase::Cruise;
            }
            Phase::Cruise => {
                self.probes_in_time(window, sample);
            }
            // "After one round of REFILL, start UP".
            Phase::Refill if self.model.round_start => {
                self.state.samples_bandwidth = true;
                self.start_up(window, sample);
            }
            Phase::Up if self.must_go_down(window, sample) => self.start_down(sample.now),
            _ => {}
        }
    }

    /// "BBRStartProbeBW_DOWN".
    fn start_down(&mut self, now: Instant) {
        self.model.reset_signals();
        self.model.start_round();
        // "BBRPickProbeWait: rounds_since_bw_probe = random_int_between(0, 1), bw_probe_wait = 2 + random_float(0, 1)":
        // any spread between flows will do, and the bytes that each delivered spread them.
        let spread =
            (self.model.delivered() ^ now.nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let state = &mut self.state;
        state.up_cost = f64::INFINITY;
        state.rounds_since_probe = spread & 1;
        state.probe_wait = Duration::from_millis(2000 + spread % 1000);
        state.cycle_since = now;
        state.ack_phase = AckPhase::Stopping;
        state.phase = Phase::Down;
    }

    /// "BBRStartProbeBW_REFILL".
    fn start_refill(&mut self) {
        self.model.reset_lower_bounds();
        self.model.start_round();
        self.state.up_rounds = 0;
        self.state.up_acked = 0;
        self.state.ack_phase = AckPhase::Refilling;
        self.state.phase = Phase::Refill;
    }

    /// "BBRStartProbeBW_UP".
    fn start_up(&mut self, window: &Window, sample: &AckSample) {
        self.model.start_round();
        let state = &mut self.state;
        state.ack_phase = AckPhase::Starting;
        state.reset_full();
        state.full_bw = sample.rate.rate().unwrap_or_default();
        state.cycle_since = sample.now;
        state.phase = Phase::Up;
        self.raise_slope(window);
    }

    /// "BBRIsTimeToProbeBW": the wait is over, or as many rounds passed as Reno would need to fill the same pipe.
    fn probes_in_time(&mut self, window: &Window, sample: &AckSample) -> bool {
        let target = self.target(window) / window.mss.max(1);
        let rounds = (target as u64).min(63);
        let waited = sample.now.since(self.state.cycle_since) > self.state.probe_wait;
        let due = waited || self.state.rounds_since_probe >= rounds;
        if due {
            self.start_refill();
        }
        due
    }

    /// "BBRTargetInflight".
    fn target(&self, window: &Window) -> usize {
        self.inflight(1.0, window).min(window.size)
    }

    /// "BBRIsTimeToCruise".
    fn may_cruise(&self, window: &Window, sample: &AckSample) -> bool {
        let drained = self.model.max_bdp().map_or(0, |bdp| self.budget(bdp, window));
        sample.in_flight <= self.model.with_headroom(window.mss) && sample.in_flight <= drained
    }

    /// "BBRIsTimeToGoDown".
    fn must_go_down(&mut self, window: &Window, sample: &AckSample) -> bool {
        if self.state.limited && window.size >= self.model.inflight_hi {
            self.state.reset_full();
            self.state.full_bw = sample.rate.rate().unwrap_or_default();
            return false;
        }
        self.state.full_now
    }

    /// "BBRAdaptLongTermModel".
    fn adapt_upper_bounds(&mut self, window: &Window, sample: &AckSample) {
        let round_start = self.model.round_start;
        if self.state.ack_phase == AckPhase::Starting && round_start {
            self.state.ack_phase = AckPhase::Feedback;
        }
        if self.state.ack_phase == AckPhase::Stopping && round_start {
            self.state.samples_bandwidth = false;
            self.state.ack_phase = AckPhase::Init;
            if self.state.phase.probes_bandwidth() && !sample.rate.app_limited {
                self.model.advance_max_bandwidth();
            }
        }
        if Model::is_too_high(sample.rate.lost, sample.rate.in_flight, window.mss) {
            if self.state.samples_bandwidth {
                let rate = sample.rate;
                self.handle_too_high(window, sample.now, rate.in_flight, rate.app_limited);
            }
            return;
        }
        if self.model.inflight_hi == usize::MAX {
            return;
        }
        self.model.inflight_hi = self.model.inflight_hi.max(sample.rate.in_flight);
        if self.state.phase == Phase::Up {
            self.probe_upward(window, sample);
        }
    }

    /// "BBRHandleInflightTooHigh".
    pub(super) fn handle_too_high(
        &mut self,
        window: &Window,
        now: Instant,
        inflight: usize,
        app_limited: bool,
    ) {
        self.state.samples_bandwidth = false;
        if !app_limited {
            let least = (BETA * self.target(window) as f64) as usize;
            self.model.inflight_hi = inflight.max(least);
        }
        if self.state.phase == Phase::Up {
            self.start_down(now);
        }
    }

    /// "BBRRaiseInflightHiSlope": the growth doubles with each round.
    fn raise_slope(&mut self, window: &Window) {
        let growth = (window.mss as f64) * f64::from(1u32 << self.state.up_rounds.min(30));
        self.state.up_rounds = (self.state.up_rounds + 1).min(30);
        self.state.up_cost = (window.size as f64 / growth).max(1.0);
    }

    /// "BBRProbeInflightHiUpward".
    fn probe_upward(&mut self, window: &Window, sample: &AckSample) {
        if !self.state.limited || window.size < self.model.inflight_hi {
            return;
        }
        self.state.up_acked += sample.acked;
        let delta = (self.state.up_acked as f64 / self.state.up_cost) as usize;
        if delta >= window.mss {
            self.state.up_acked = 0;
            self.model.inflight_hi = self.model.inflight_hi.saturating_add(delta);
        }
        if self.model.round_start {
            self.raise_slope(window);
        }
    }

    /// "BBRCheckProbeRTT".
    fn check_probe_rtt(&mut self, window: &mut Window, sample: &AckSample) {
        if self.state.phase != Phase::ProbeRtt && self.model.probe_expired && !self.idle_restart {
            self.save_window(window);
            self.state.phase = Phase::ProbeRtt;
            self.state.probe_rtt_done = None;
            self.state.ack_phase = AckPhase::Stopping;
            self.model.start_round();
        }
        if self.state.phase != Phase::ProbeRtt {
            return;
        }
        match self.state.probe_rtt_done {
            None if sample.in_flight <= self.probe_rtt_window(window) => {
                self.state.probe_rtt_done = Some(sample.now + PROBE_RTT_DURATION);
                self.state.probe_rtt_round_done = false;
                self.model.start_round();
            }
            Some(done) => {
                self.state.probe_rtt_round_done |= self.model.round_start;
                if self.state.probe_rtt_round_done && sample.now > done {
                    self.leave_probe_rtt(window, sample.now);
                }
            }
            None => {}
        }
    }

    /// "BBRExitProbeRTT".
    fn leave_probe_rtt(&mut self, window: &mut Window, now: Instant) {
        let min = self.model.min_rtt().unwrap_or_default();
        let delay = self.model.probe_min.map_or(min, |(delay, _)| delay);
        self.model.probe_min = Some((delay, now));
        self.model.reset_lower_bounds();
        window.size = window.size.max(self.prior_window);
        if self.state.full_reached {
            self.start_down(now);
            self.state.phase = Phase::Cruise;
        } else {
            self.state.phase = Phase::Startup;
        }
    }
}

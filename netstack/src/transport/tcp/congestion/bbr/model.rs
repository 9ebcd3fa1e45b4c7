//! The model of the path: bandwidth, least round-trip time, aggregation of acknowledgments, and the bounds that losses
//! teach (draft-ietf-ccwg-bbr section 5.5).

use super::super::{AckSample, Lost, Window};
use super::cycle::Phase;
use super::{BETA, Context};
use crate::time::{Duration, Instant};
use crate::transport::tcp::rate::RateSample;

/// "BBRLossThresh: 2%".
const LOSS_THRESH: f64 = 0.02;
/// "BBRHeadroom: 0.15".
const HEADROOM: f64 = 0.15;
/// "MinRTTFilterLen: 10 seconds".
const MIN_RTT_FILTER: Duration = Duration::from_secs(10);
/// "ProbeRTTInterval: 5 seconds".
pub(super) const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
/// "ExtraAckedFilterLen: 10" rounds.
const EXTRA_ACKED_ROUNDS: u64 = 10;

/// What is known of the path. Bandwidths are bytes a second.
#[derive(Clone, Debug)]
pub(super) struct Model {
    /// The largest bandwidths of the present and the last probing cycle ("BBR.MaxBwFilter").
    max_bw: [f64; 2],
    /// "BBR.bw_lo" and "BBR.inflight_lo": the short-term bounds; infinite when unknown.
    bw_lo: f64,
    pub(super) inflight_lo: usize,
    /// "BBR.inflight_hi": the long-term bound.
    pub(super) inflight_hi: usize,
    bw_latest: f64,
    inflight_latest: usize,
    lost_in_round: u64,
    loss_round_start: bool,
    loss_round_delivered: u64,
    /// Pieces lost in this round trip.
    pub(super) loss_events: u32,
    min_rtt: Option<(Duration, Instant)>,
    /// "BBR.probe_rtt_min_delay" and its stamp.
    pub(super) probe_min: Option<(Duration, Instant)>,
    pub(super) probe_expired: bool,
    /// Round trips, by what was delivered.
    next_round_delivered: u64,
    pub(super) round_start: bool,
    pub(super) rounds: u64,
    delivered: u64,
    aggregation_since: Option<Instant>,
    aggregated: u64,
    /// The most acknowledged beyond the bandwidth, in this window of rounds and the last.
    extra_acked: [usize; 2],
    extra_since: u64,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            max_bw: [0.0; 2],
            bw_lo: f64::INFINITY,
            inflight_lo: usize::MAX,
            inflight_hi: usize::MAX,
            bw_latest: 0.0,
            inflight_latest: 0,
            lost_in_round: 0,
            loss_round_start: false,
            loss_round_delivered: 0,
            loss_events: 0,
            min_rtt: None,
            probe_min: None,
            probe_expired: false,
            next_round_delivered: 0,
            round_start: false,
            rounds: 0,
            delivered: 0,
            aggregation_since: None,
            aggregated: 0,
            extra_acked: [0; 2],
            extra_since: 0,
        }
    }
}

impl Model {
    pub(super) fn max_bandwidth(&self) -> f64 {
        self.max_bw[0].max(self.max_bw[1])
    }

    /// "BBR.bw = min(BBR.max_bw, BBR.bw_lo)".
    pub(super) fn bandwidth(&self) -> f64 {
        self.max_bandwidth().min(self.bw_lo)
    }

    /// Bandwidth times the least round trip, in bytes; None before both are known.
    pub(super) fn bdp(&self) -> Option<f64> {
        self.bdp_of(self.bandwidth())
    }

    /// The same by the largest bandwidth known.
    pub(super) fn max_bdp(&self) -> Option<f64> {
        self.bdp_of(self.max_bandwidth())
    }

    fn bdp_of(&self, bandwidth: f64) -> Option<f64> {
        let (rtt, _) = self.min_rtt?;
        (bandwidth > 0.0).then_some(bandwidth * rtt.as_secs_f64())
    }

    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.map(|(rtt, _)| rtt)
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn extra_acked(&self) -> usize {
        self.extra_acked[0].max(self.extra_acked[1])
    }

    /// "BBRUpdateRound".
    pub(super) fn note_round(&mut self, rate: &RateSample) {
        self.delivered = rate.total_delivered;
        self.round_start = rate.delivered > 0 && rate.prior_delivered >= self.next_round_delivered;
        if self.round_start {
            self.start_round();
            self.rounds += 1;
        }
    }

    /// "BBRStartRound".
    pub(super) fn start_round(&mut self) {
        self.next_round_delivered = self.delivered;
    }

    /// "BBRUpdateLatestDeliverySignals" and "BBRUpdateCongestionSignals".
    pub(super) fn update_signals(&mut self, context: &Context<'_>, phase: Phase) {
        let rate = &context.sample.rate;
        self.loss_round_start = false;
        let bandwidth = rate.rate();
        if let Some(bandwidth) = bandwidth {
            self.bw_latest = self.bw_latest.max(bandwidth);
            // "BBRUpdateMaxBw".
            if bandwidth >= self.max_bandwidth() || !rate.app_limited {
                self.max_bw[0] = self.max_bw[0].max(bandwidth);
            }
        }
        self.inflight_latest = self.inflight_latest.max(rate.delivered as usize);
        if rate.delivered > 0 && rate.prior_delivered >= self.loss_round_delivered {
            self.loss_round_start = true;
        }
        self.lost_in_round += context.sample.lost as u64;
        if !self.loss_round_start {
            return;
        }
        let delivered = self.delivered - self.loss_round_delivered;
        self.loss_round_delivered = self.delivered;
        let lost = core::mem::take(&mut self.lost_in_round);
        // "BBRAdaptLowerBoundsFromCongestion: if BBRIsProbingBW() return". Unlike the draft, which takes each loss for a sign,
        // the short-term bounds heed the loss rate that the long-term one tolerates: with the pacing margin, a bound lowered to
        // what a round delivered would sink by a hundredth each round for as long as a path loses anything.
        let probing = matches!(phase, Phase::Refill | Phase::Up | Phase::Startup);
        let flight = usize::try_from(delivered.saturating_add(lost)).unwrap_or(usize::MAX);
        if !probing && Model::is_too_high(lost, flight, context.window.mss) {
            self.lower_bounds(context.window);
        }
    }

    fn lower_bounds(&mut self, window: &Window) {
        if self.bw_lo.is_infinite() {
            self.bw_lo = self.max_bandwidth();
        }
        if self.inflight_lo == usize::MAX {
            self.inflight_lo = window.size;
        }
        self.bw_lo = self.bw_latest.max(BETA * self.bw_lo);
        self.inflight_lo = self.inflight_latest.max((BETA * self.inflight_lo as f64) as usize);
    }

    /// "BBRAdvanceLatestDeliverySignals".
    pub(super) fn advance_signals(&mut self, rate: &RateSample) {
        if self.loss_round_start {
            self.bw_latest = rate.rate().unwrap_or_default();
            self.inflight_latest = rate.delivered as usize;
            self.loss_events = 0;
        }
    }

    /// Whether losses were seen in the round trip that ends now (for "BBRCheckStartupHighLoss").
    pub(super) fn round_of_losses_ends(&self) -> bool {
        self.loss_round_start
    }

    /// The most that was delivered in a round trip lately.
    pub(super) fn inflight_latest(&self) -> usize {
        self.inflight_latest
    }

    /// "BBRResetCongestionSignals".
    pub(super) fn reset_signals(&mut self) {
        self.lost_in_round = 0;
        self.loss_events = 0;
        self.bw_latest = 0.0;
        self.inflight_latest = 0;
    }

    /// "BBRResetLowerBounds".
    pub(super) fn reset_lower_bounds(&mut self) {
        self.bw_lo = f64::INFINITY;
        self.inflight_lo = usize::MAX;
    }

    /// "BBRAdvanceMaxBwFilter".
    pub(super) fn advance_max_bandwidth(&mut self) {
        if self.max_bw[0] > 0.0 {
            self.max_bw = [0.0, self.max_bw[0]];
        }
    }

    pub(super) fn note_loss(&mut self) {
        self.loss_events = self.loss_events.saturating_add(1);
    }

    /// A recovery was a mistake.
    pub(super) fn forget_losses(&mut self) {
        self.lost_in_round = 0;
        self.loss_events = 0;
        self.reset_lower_bounds();
    }

    /// "BBRIsInflightTooHigh: rs.lost > rs.tx_in_flight * BBRLossThresh", and more than chance explains: of a flight of
    /// seventy segments two are lost in every fourth round where the path loses one in a hundred, which the draft's words would
    /// take for a full queue and answer with a bound a seventh lower. What a path of half the threshold loses, and
    /// three times the spread of that, is no sign; from nine hundred segments on the threshold is the larger.
    pub(super) fn is_too_high(lost: u64, in_flight: usize, mss: usize) -> bool {
        let mss = mss.max(1) as f64;
        let (lost, in_flight) = (lost as f64 / mss, in_flight as f64 / mss);
        let chance = in_flight * LOSS_THRESH / 2.0;
        lost > (in_flight * LOSS_THRESH).max(chance + 3.0 * chance.sqrt())
    }

    /// "BBRInflightHiFromLostPacket": where the losses crossed the threshold.
    pub(super) fn inflight_at_loss(lost: &Lost) -> usize {
        let in_flight = lost.in_flight.saturating_sub(lost.len) as f64;
        let before = lost.lost.saturating_sub(lost.len as u64) as f64;
        let prefix = ((LOSS_THRESH * in_flight - before) / (1.0 - LOSS_THRESH)).max(0.0);
        (in_flight + prefix) as usize
    }

    /// "BBRInflightWithHeadroom".
    pub(super) fn with_headroom(&self, mss: usize) -> usize {
        if self.inflight_hi == usize::MAX {
            return usize::MAX;
        }
        let headroom = ((HEADROOM * self.inflight_hi as f64) as usize).max(mss);
        self.inflight_hi.saturating_sub(headroom).max(super::MIN_PIPE_SEGMENTS * mss)
    }

    /// "BBRUpdateMinRTT".
    pub(super) fn update_min_rtt(&mut self, sample: &AckSample) {
        let now = sample.now;
        self.probe_expired =
            self.probe_min.is_some_and(|(_, at)| now.since(at) > PROBE_RTT_INTERVAL);
        if let Some(rtt) = sample.rtt
            && (self.probe_expired || self.probe_min.is_none_or(|(min, _)| rtt < min))
        {
            self.probe_min = Some((rtt, now));
        }
        let expired = self.min_rtt.is_some_and(|(_, at)| now.since(at) > MIN_RTT_FILTER);
        if let Some((min, at)) = self.probe_min
            && (expired || self.min_rtt.is_none_or(|(old, _)| min < old))
        {
            self.min_rtt = Some((min, at));
        }
    }

    /// "BBRUpdateACKAggregation": how much is acknowledged at once beyond what the bandwidth explains.
    pub(super) fn update_aggregation(
        &mut self,
        window: &Window,
        sample: &AckSample,
        full_reached: bool,
    ) {
        let since = *self.aggregation_since.get_or_insert(sample.now);
        let mut expected = self.bandwidth() * sample.now.since(since).as_secs_f64();
        if self.aggregated as f64 <= expected {
            self.aggregated = 0;
            self.aggregation_since = Some(sample.now);
            expected = 0.0;
        }
        self.aggregated += sample.acked as u64;
        let extra = (self.aggregated as f64 - expected).max(0.0) as usize;
        let rounds = if full_reached { EXTRA_ACKED_ROUNDS } else { 1 };
        if self.rounds >= self.extra_since + rounds {
            self.extra_acked = [0, self.extra_acked[0]];
            self.extra_since = self.rounds;
        }
        self.extra_acked[0] = self.extra_acked[0].max(extra.min(window.size));
    }

    /// After idleness the aggregation begins anew.
    pub(super) fn restart_aggregation(&mut self, now: Instant) {
        self.aggregation_since = Some(now);
        self.aggregated = 0;
    }
}

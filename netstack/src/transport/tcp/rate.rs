//! Delivery-rate samples (draft-cheng-iccrg-delivery-rate-estimation): how fast the path delivered what was sent,
//! and whether the program rather than the path set that pace.

use super::sack::Sent;
use crate::time::{Duration, Instant};

/// What is remembered of a transmission for the sample that its delivery gives (section 3.1.2, "P").
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// "P.delivered": bytes that had been delivered.
    pub delivered: u64,
    /// "P.delivered_time".
    pub delivered_at: Instant,
    /// "P.first_sent_time": when the flight began that it belongs to.
    pub first_sent_at: Instant,
    /// Bytes that had been lost.
    pub lost: u64,
    /// Bytes in flight with it.
    pub in_flight: usize,
    /// "P.is_app_limited".
    pub app_limited: bool,
}

/// One sample ("rs"). Amounts are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSample {
    /// Delivered in the interval.
    pub delivered: u64,
    /// The interval; None where it is too short to mean anything.
    pub interval: Option<Duration>,
    /// What had been delivered when the newest delivered piece went out.
    pub prior_delivered: u64,
    /// What had been delivered by now.
    pub total_delivered: u64,
    /// In flight when that piece went out.
    pub in_flight: usize,
    /// Lost since it went out.
    pub lost: u64,
    /// Whether it went out while the program set the pace.
    pub app_limited: bool,
}

impl Stamp {
    /// Of nothing.
    pub const NEW: Stamp = Stamp {
        delivered: 0,
        delivered_at: Instant::ZERO,
        first_sent_at: Instant::ZERO,
        lost: 0,
        in_flight: 0,
        app_limited: false,
    };
}

impl RateSample {
    /// Bytes a second; None without a sample.
    pub fn rate(&self) -> Option<f64> {
        let interval = self.interval?.as_secs_f64();
        (interval > 0.0).then(|| self.delivered as f64 / interval)
    }
}

/// The connection's side ("C").
#[derive(Clone, Copy, Debug, Default)]
pub struct RateSampler {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    lost: u64,
    /// The latest sample that the path set the pace of, or a faster one: bytes and the time that they took.
    latest: Option<(u64, Duration)>,
    /// Whether the program set the pace of that.
    latest_app_limited: bool,
    /// "C.app_limited": the samples are the program's until more than this is delivered; 0 for none.
    app_limited: u64,
}

impl RateSampler {
    /// Nothing was sent.
    pub const NEW: RateSampler = RateSampler {
        delivered: 0,
        delivered_at: Instant::ZERO,
        first_sent_at: Instant::ZERO,
        lost: 0,
        latest: None,
        latest_app_limited: false,
        app_limited: 0,
    };

    /// Bytes lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Section 3.2: something of `len` bytes goes out while `in_flight` are under way.
    pub fn stamp(&mut self, now: Instant, in_flight: usize, len: usize) -> Stamp {
        // "If the flight was empty, the interval begins now".
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Stamp {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            in_flight: in_flight + len,
            app_limited: self.app_limited > 0,
        }
    }

    /// Section 3.4: the program has nothing to send though the window is open.
    pub fn on_app_limited(&mut self, in_flight: usize) {
        self.app_limited = (self.delivered + in_flight as u64).max(1);
    }

    /// Something was taken for lost.
    pub fn on_lost(&mut self, bytes: usize) {
        self.lost += bytes as u64;
    }

    /// Section 3.3: `bytes` were delivered, the most recently sent piece of which is `newest`.
    pub fn on_delivered(
        &mut self,
        now: Instant,
        bytes: usize,
        newest: Option<&Sent>,
        min_rtt: Duration,
    ) -> RateSample {
        self.delivered += bytes as u64;
        if bytes > 0 {
            self.delivered_at = now;
        }
        if self.app_limited > 0 && self.delivered > self.app_limited {
            self.app_limited = 0;
        }
        let mut sample = RateSample { total_delivered: self.delivered, ..RateSample::default() };
        let Some(newest) = newest else { return sample };
        let stamp = newest.stamp;
        self.first_sent_at = newest.sent_at;
        // "rs.interval = max(rs.send_elapsed, rs.ack_elapsed)".
        let interval = newest.sent_at.since(stamp.first_sent_at).max(now.since(stamp.delivered_at));
        sample.delivered = self.delivered - stamp.delivered;
        sample.prior_delivered = stamp.delivered;
        sample.in_flight = stamp.in_flight;
        sample.lost = self.lost - stamp.lost;
        sample.app_limited = stamp.app_limited;
        // "Normally we expect interval >= MinRTT", else "rs.interval = -1".
        sample.interval = (interval >= min_rtt && !interval.is_zero()).then_some(interval);
        self.keep(&sample);
        sample
    }

    /// What TCP_INFO shows is the last sample that the path set the pace of, or a faster one (Linux's tcp_rate_gen).
    fn keep(&mut self, sample: &RateSample) {
        let Some(interval) = sample.interval else { return };
        let faster = self.latest.is_none_or(|(bytes, time)| {
            u128::from(sample.delivered) * time.as_nanos()
                >= u128::from(bytes) * interval.as_nanos()
        });
        if !sample.app_limited || faster {
            self.latest = Some((sample.delivered, interval));
            self.latest_app_limited = sample.app_limited;
        }
    }

    /// Bytes a second as last delivered, and whether the program set that pace.
    pub fn delivery_rate(&self) -> Option<(u64, bool)> {
        let (bytes, time) = self.latest?;
        let rate = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
        Some((u64::try_from(rate).unwrap_or(u64::MAX), self.latest_app_limited))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sack::{Delivery, Scoreboard};
    use super::super::seq::Seq;
    use super::*;

    #[test]
    fn a_sample_is_the_rate_of_the_path_whatever_the_acknowledgments_do() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let (mut board, mut sampler) = (Scoreboard::default(), RateSampler::default());
        let send = |board: &mut Scoreboard, sampler: &mut RateSampler, ms, n: usize| {
            board.stamp = sampler.stamp(at(ms), board.in_flight(), 1000);
            board.sent(at(ms), Seq(0) + n * 1000, Seq(0) + (n + 1) * 1000, 1000);
        };
        // A segment a millisecond, and the acknowledgments of all ten at once after a round trip of 20 ms.
        (0..10).for_each(|n| send(&mut board, &mut sampler, n as u64, n));
        let mut delivery = Delivery::default();
        board.acknowledge(Seq(10_000), &mut delivery);
        let min = Duration::from_millis(20);
        let sample = sampler.on_delivered(at(30), delivery.bytes, delivery.last.as_ref(), min);
        assert_eq!((sample.delivered, sample.interval), (10_000, Some(at(30).since(at(0)))));
        assert!(!sample.app_limited);
        sampler.on_app_limited(board.in_flight());
        send(&mut board, &mut sampler, 30, 10);
        let mut delivery = Delivery::default();
        board.acknowledge(Seq(11_000), &mut delivery);
        let sample = sampler.on_delivered(at(50), delivery.bytes, delivery.last.as_ref(), min);
        assert_eq!((sample.delivered, sample.app_limited), (1000, true));
        assert_eq!(sample.rate(), Some(50_000.0));
    }
}

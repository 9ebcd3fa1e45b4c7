//! Packetization-layer path MTU discovery (RFC 4821, RFC 8899) in Linux's form: a path that swallows large segments
//! without a word is met by smaller ones, and now and then a larger one made of queued data asks for more.

use super::config::{MtuProbing, TcpConfig};
use super::seq::Seq;
use crate::time::{Duration, Instant};

/// Segments that a window must hold beyond the probe, so that its loss is found by duplicate acknowledgments.
const BEYOND: usize = 4;

/// A probe that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuProbe {
    /// Its first byte.
    pub start: Seq,
    /// Its payload.
    pub len: usize,
}

impl MtuProbe {
    /// The byte after its last.
    pub fn end(&self) -> Seq {
        self.start + self.len
    }
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtuVerdict {
    /// The path takes its size.
    Arrived,
    /// It was lost, and nothing else.
    Lost,
    /// It was lost or repaired among others, which says nothing.
    Unclear,
}

/// What the connection sends, as far as a probe needs it.
#[derive(Clone, Copy, Debug)]
pub struct Supply {
    /// Bytes that wait to be sent.
    pub unsent: usize,
    /// Bytes of the peer's window that are open.
    pub open: usize,
    /// The congestion window that is free.
    pub room: usize,
    /// The whole congestion window.
    pub congestion: usize,
    /// Payload of a segment now.
    pub mss: usize,
}

/// The search, in payload bytes of a segment.
#[derive(Debug)]
pub struct MtuSearch {
    enabled: bool,
    // In 32 bits, as every connection has them.
    low: u32,
    high: u32,
    /// The length of the probe that is on its way.
    probe: Option<u32>,
    since: Instant,
}

fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl MtuSearch {
    /// As the stack is configured.
    pub fn new(now: Instant, config: &TcpConfig) -> MtuSearch {
        MtuSearch {
            enabled: config.mtu_probing == MtuProbing::Always,
            low: narrow(config.base_mss),
            high: u32::MAX,
            probe: None,
            since: now,
        }
    }

    /// The segment size where `most` is what the path is known to take.
    pub fn bound(&mut self, most: usize) -> usize {
        self.high = self.high.min(narrow(most));
        self.low = self.low.min(narrow(most));
        if self.enabled { self.low as usize } else { most }
    }

    /// The path was asked anew, or is another: `most` is its limit again.
    pub fn reset_limit(&mut self, most: usize) {
        self.high = narrow(most);
    }

    /// Whether the search is on.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// A segment timed out again and again: perhaps because of its size. The first time the search begins at its base,
    /// then what it takes for safe is halved.
    pub fn on_black_hole(&mut self, now: Instant, config: &TcpConfig) {
        self.probe = None;
        if !self.enabled {
            self.enabled = true;
            self.since = now;
            return;
        }
        let least = narrow(config.mtu_probe_floor);
        self.low = (self.low / 2).min(narrow(config.base_mss)).max(least);
    }

    /// How large a probe should be sent now, if any. `most` is the limit of path and peer.
    pub fn wanted(&mut self, now: Instant, config: &TcpConfig, supply: &Supply) -> Option<usize> {
        if !self.enabled || self.probe.is_some() {
            return None;
        }
        let (low, high) = (self.low as usize, self.high as usize);
        let len = low + high.saturating_sub(low).div_ceil(2);
        if high.saturating_sub(low) < config.mtu_probe_threshold || len <= supply.mss {
            self.look_again(now, config, supply.mss);
            return None;
        }
        let needed = len + BEYOND * supply.mss;
        // RFC 4821 section 7.4: probing needs enough data, window and congestion window to find a loss by
        // acknowledgments alone.
        let fits = supply.unsent >= needed
            && supply.open >= needed
            && supply.congestion >= 11 * supply.mss
            && supply.room >= len + supply.mss;
        fits.then_some(len)
    }

    /// The search has ended; paths change, so after a while it begins anew (tcp_probe_interval).
    fn look_again(&mut self, now: Instant, config: &TcpConfig, mss: usize) {
        let every: Duration = config.mtu_probe_interval;
        if now.since(self.since) >= every {
            self.since = now;
            self.low = narrow(mss);
            self.high = u32::MAX;
        }
    }

    /// A probe of that length went out.
    pub fn sent(&mut self, len: usize) {
        self.probe = Some(narrow(len));
    }

    /// What became of the probe.
    pub fn judge(&mut self, verdict: MtuVerdict) {
        let Some(len) = self.probe.take() else { return };
        match verdict {
            MtuVerdict::Arrived => self.low = self.low.max(len),
            MtuVerdict::Lost => self.high = self.high.min(len.saturating_sub(1)),
            MtuVerdict::Unclear => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(mss: usize) -> Supply {
        Supply { unsent: 1 << 20, open: 1 << 20, room: 1 << 20, congestion: 1 << 20, mss }
    }

    #[test]
    fn the_search_ends_within_the_threshold_of_what_the_path_takes() {
        let config = TcpConfig { mtu_probing: MtuProbing::Always, ..TcpConfig::default() };
        let start = Instant::from_secs(1);
        let path = 3333;
        let mut search = MtuSearch::new(start, &config);
        let mut mss = search.bound(8948);
        assert_eq!(mss, 1024);
        let mut probes = 0;
        while let Some(len) = search.wanted(start, &config, &supply(mss)) {
            probes += 1;
            search.sent(len);
            search.judge(if len <= path { MtuVerdict::Arrived } else { MtuVerdict::Lost });
            mss = search.bound(8948);
        }
        assert!(mss <= path && mss > path - 2 * config.mtu_probe_threshold, "{mss}");
        assert!(probes <= 13, "{probes}");
        let later = start + config.mtu_probe_interval;
        assert_eq!(search.wanted(later, &config, &supply(mss)), None, "it is only begun");
        search.bound(8948);
        assert!(search.wanted(later, &config, &supply(mss)).is_some());
    }

    #[test]
    fn a_black_hole_halves_down_to_the_floor() {
        let config = TcpConfig { mtu_probing: MtuProbing::BlackHole, ..TcpConfig::default() };
        let mut search = MtuSearch::new(Instant::ZERO, &config);
        assert_eq!(search.bound(1448), 1448);
        let mut sizes = Vec::new();
        for _ in 0..7 {
            search.on_black_hole(Instant::ZERO, &config);
            sizes.push(search.bound(1448));
        }
        assert_eq!(sizes, [1024, 512, 256, 128, 64, 48, 48]);
    }

    #[test]
    fn a_probe_waits_for_data_and_windows() {
        let config = TcpConfig { mtu_probing: MtuProbing::Always, ..TcpConfig::default() };
        let mut search = MtuSearch::new(Instant::ZERO, &config);
        search.bound(1448);
        let full = supply(1024);
        for poor in [
            Supply { unsent: 5000, ..full },
            Supply { open: 5000, ..full },
            Supply { room: 2000, ..full },
            Supply { congestion: 11_000, ..full },
        ] {
            assert_eq!(search.wanted(Instant::ZERO, &config, &poor), None, "{poor:?}");
        }
        assert_eq!(search.wanted(Instant::ZERO, &config, &full), Some(1236));
    }
}

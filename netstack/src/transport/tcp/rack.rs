//! RACK: loss by time rather than by count of duplicates (RFC 8985), so that a lost retransmission is found
//! within a round trip and reordering is not taken for loss.

use super::rtt::Rtt;
use super::sack::{Delivery, Newest, Scoreboard, Sent};
use super::seq::Seq;
use crate::time::{Duration, Instant};

/// RFC 8985 section 6.2.4: recoveries for which a widened reordering window is kept.
const REO_WINDOW_PERSIST: u32 = 16;
/// Linux's bound on how far it widens.
const REO_WINDOW_STEPS: u32 = 0xff;
const DUPLICATE_THRESHOLD: usize = 3;
/// Linux's bound of what is measured of reordering, in segments (tcp_max_reordering).
const MAX_REORDERING: u32 = 300;

/// The state of RFC 8985 section 5.2.
#[derive(Clone, Debug, Default)]
pub struct Rack {
    newest: Option<Newest>,
    rtt: Duration,
    highest_delivered: Option<Seq>,
    /// How often a segment that was sent once arrived after a later one.
    reorderings: u32,
    /// By how many segments at most it was overtaken; 0 for less than is taken for loss anyhow.
    degree: u32,
    window_multiplier: u32,
    window_persist: u32,
    /// "RACK.dsack_round": no D-SACK counts before this is acknowledged.
    report_round: Option<Seq>,
}

/// What a pass over the scoreboard found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// Bytes newly marked as lost.
    pub lost: usize,
    /// Segments among them that had been sent again already.
    pub retransmissions: usize,
    /// When to look again, if what is in doubt is not delivered before.
    pub look_again_at: Option<Instant>,
}

impl Rack {
    /// Nothing was delivered.
    pub const NEW: Rack = Rack {
        newest: None,
        rtt: Duration::ZERO,
        highest_delivered: None,
        reorderings: 0,
        degree: 0,
        window_multiplier: 0,
        window_persist: 0,
        report_round: None,
    };

    /// Whether it has learned of the path what outlasts a flight.
    pub fn remembers(&self) -> bool {
        self.reorderings > 0 || self.window_multiplier > 0 || self.report_round.is_some()
    }

    /// Steps 1 to 3 of section 6.2: takes what an acknowledgment delivered. `echo_ms` is when what it answers was sent,
    /// by the echoed timestamp.
    pub fn update(
        &mut self,
        now: Instant,
        delivery: &Delivery,
        (min_rtt, echo_ms): (Option<Duration>, Option<u64>),
        mss: usize,
    ) {
        if let Some(newest) = delivery.newest {
            let rtt = now.since(newest.sent_at);
            // "If the Timestamping option shows that the ACK answers the original, or the packet was retransmitted within
            // the last minimum RTT, the ACK is ambiguous": it was the original that was acknowledged.
            let quick = min_rtt.is_some_and(|min| rtt < min);
            let older = echo_ms.is_some_and(|echo| echo < newest.sent_at.millis());
            if !(newest.retransmitted && (quick || older)) {
                self.rtt = rtt;
                if self.newest.is_none_or(|old| newest.is_after(&old)) {
                    self.newest = Some(newest);
                }
            }
        }
        let overtaken = self.highest_delivered;
        if let Some(newest) = delivery.newest {
            self.highest_delivered = Some(match self.highest_delivered {
                Some(high) => high.max(newest.end),
                None => newest.end,
            });
        }
        if let (Some(low), Some(before)) = (delivery.lowest_original, overtaken)
            && low < before
        {
            let high = self.highest_delivered.unwrap_or(before);
            let degree = u32::try_from(high.since(low).div_ceil(mss.max(1))).unwrap_or(u32::MAX);
            self.reorderings = self.reorderings.wrapping_add(1);
            self.degree = self.degree.max(degree).min(MAX_REORDERING);
        }
    }

    /// How often the path was seen to reorder (tcpi_reord_seen).
    pub fn reorderings(&self) -> u32 {
        self.reorderings
    }

    /// By how many segments the path was seen to reorder, or what is borne before any was (tcpi_reordering).
    pub fn reordering(&self) -> u32 {
        self.degree.max(DUPLICATE_THRESHOLD as u32)
    }

    /// A D-SACK arrived: something was sent again in vain, so wait longer (section 6.2.4). "The sender increases
    /// RACK.reo_wnd_mult once per round" only.
    pub fn on_duplicate_report(&mut self, una: Seq, nxt: Seq) {
        if self.report_round.is_some_and(|round| una < round) {
            return;
        }
        self.report_round = Some(nxt);
        self.window_multiplier = (self.window_multiplier + 1).min(REO_WINDOW_STEPS - 1);
        self.window_persist = REO_WINDOW_PERSIST;
    }

    /// A recovery was in vain: the window is kept for one more (as Linux).
    pub fn keep_window(&mut self) {
        self.window_persist = (self.window_persist + 1).min(REO_WINDOW_PERSIST);
    }

    /// A recovery ended that was not in vain.
    pub fn on_recovered(&mut self) {
        self.window_persist = self.window_persist.saturating_sub(1);
        if self.window_persist == 0 {
            self.window_multiplier = 0;
        }
    }

    /// How long a segment may be under way before it counts as lost (section 6.3); None before any delivery.
    pub fn patience(&self, board: &Scoreboard, recovering: bool, rtt: &Rtt) -> Option<Duration> {
        self.newest?;
        let min = rtt.min().unwrap_or_default();
        let smoothed = rtt.smoothed().unwrap_or(min);
        Some(self.rtt + self.reordering_window(board, recovering, min, smoothed))
    }

    fn reordering_window(
        &self,
        board: &Scoreboard,
        recovering: bool,
        min_rtt: Duration,
        smoothed: Duration,
    ) -> Duration {
        if self.reorderings == 0 && (recovering || board.sacked_segments() >= DUPLICATE_THRESHOLD) {
            return Duration::ZERO;
        }
        (min_rtt / 4 * (self.window_multiplier + 1)).min(smoothed)
    }

    /// Step 5: marks what was sent well before something that arrived.
    pub fn detect(
        &self,
        now: Instant,
        board: &mut Scoreboard,
        recovering: bool,
        min_rtt: Duration,
        smoothed: Duration,
        mut on_lost: impl FnMut(&Sent),
    ) -> Detected {
        let mut detected = Detected::default();
        let Some(newest) = self.newest else { return detected };
        if board.is_in_order() {
            return detected;
        }
        let patience = self.rtt + self.reordering_window(board, recovering, min_rtt, smoothed);
        detected.lost = board.mark_lost(|sent| {
            if !newest.is_after(&Newest::from(sent)) {
                return false;
            }
            let due = sent.sent_at + patience;
            if due <= now {
                if sent.retransmitted {
                    detected.retransmissions += sent.segments();
                }
                on_lost(sent);
                return true;
            }
            detected.look_again_at =
                Some(detected.look_again_at.map_or(due, |earlier| earlier.max(due)));
            false
        });
        detected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Instant {
        Instant::ZERO + MS * ms as u32
    }

    fn board_of(count: usize) -> Scoreboard {
        let mut board = Scoreboard::default();
        (0..count)
            .for_each(|n| board.sent(at(n as u64), Seq(0) + n * 100, Seq(100) + n * 100, 100));
        board
    }

    #[test]
    fn a_hole_below_delivered_data_waits_a_quarter_of_the_round_trip() {
        let (mut board, mut rack) = (board_of(2), Rack::default());
        let mut delivery = Delivery::default();
        board.sack(Seq(100), Seq(200), 100, &mut delivery);
        rack.update(at(41), &delivery, (Some(MS * 40), None), 100);
        let found = rack.detect(at(41), &mut board, false, MS * 40, MS * 40, |_| {});
        assert_eq!(found, Detected { look_again_at: Some(at(50)), ..Detected::default() });
        let found = rack.detect(at(50), &mut board, false, MS * 40, MS * 40, |_| {});
        assert_eq!(found, Detected { lost: 100, ..Detected::default() });
    }

    #[test]
    fn three_delivered_segments_or_a_later_retransmission_need_no_wait() {
        let (mut board, mut rack) = (board_of(4), Rack::default());
        let mut delivery = Delivery::default();
        board.sack(Seq(100), Seq(400), 100, &mut delivery);
        rack.update(at(43), &delivery, (Some(MS * 40), None), 100);
        assert_eq!(rack.detect(at(43), &mut board, false, MS * 40, MS * 40, |_| {}).lost, 100);
    }
}

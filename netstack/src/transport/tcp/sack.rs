//! The scoreboard: what was sent and not yet acknowledged, range by range, with what SACK told about it
//! (RFC 2018, RFC 6675). Loss marks are set by `rack`, by duplicate acknowledgments and by the timeout.

use super::rate::Stamp;
use super::seq::Seq;
use crate::time::{Duration, Instant};
use std::collections::VecDeque;

/// Where a sent range stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// On its way, as far as is known.
    InFlight,
    /// The peer has it, though it cannot acknowledge it cumulatively.
    Sacked,
    /// Taken for lost and to be sent again.
    Lost,
}

/// A range that went out as one.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// First sequence number.
    pub start: Seq,
    /// The one after the last.
    pub end: Seq,
    /// When it last went out.
    pub sent_at: Instant,
    /// Which transmission that was: tells ranges apart that went out at one instant.
    pub order: u64,
    /// Whether that was a retransmission.
    pub retransmitted: bool,
    /// What is known of it.
    pub fate: Fate,
    /// Payload of its segments.
    mss: u32,
    /// How the connection stood when it last went out.
    pub stamp: Stamp,
}

impl Sent {
    /// Its length in sequence numbers.
    pub fn len(&self) -> usize {
        self.end.since(self.start)
    }

    /// How many segments carried it.
    pub fn segments(&self) -> usize {
        self.len().div_ceil(self.mss.max(1) as usize)
    }
}

/// What one acknowledgment delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    /// Bytes newly known to have arrived.
    pub bytes: usize,
    /// The most recently sent range among them.
    pub newest: Option<Newest>,
    /// The same with all that is known of it.
    pub last: Option<Sent>,
    /// The least sequence number newly delivered that was never retransmitted, for reordering detection.
    pub lowest_original: Option<Seq>,
    /// When the earliest of it was sent.
    first_sent: Option<Instant>,
    /// Whether some of it was sent twice.
    retransmitted: bool,
}

/// The most recently sent range that an acknowledgment delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// When it went out.
    pub sent_at: Instant,
    /// Which transmission that was.
    pub order: u64,
    /// Its end.
    pub end: Seq,
    /// Whether it was a retransmission.
    pub retransmitted: bool,
}

impl From<&Sent> for Newest {
    fn from(sent: &Sent) -> Newest {
        let Sent { sent_at, order, end, retransmitted, .. } = *sent;
        Newest { sent_at, order, end, retransmitted }
    }
}

impl Newest {
    /// RFC 8985 section 6.1's RACK_sent_after, by the order of transmissions.
    pub fn is_after(&self, other: &Newest) -> bool {
        self.order > other.order || self.order == other.order && self.end > other.end
    }
}

impl Delivery {
    /// A round-trip sample by Karn's rule: only when all that was delivered was sent once.
    pub fn rtt(&self, now: Instant) -> Option<Duration> {
        self.first_sent.filter(|_| !self.retransmitted).map(|sent_at| now.since(sent_at))
    }

    fn add(&mut self, sent: &Sent) {
        self.bytes += sent.len();
        let newest = Newest::from(sent);
        if self.newest.is_none_or(|old| newest.is_after(&old)) {
            self.newest = Some(newest);
            self.last = Some(*sent);
        }
        self.retransmitted |= sent.retransmitted;
        self.first_sent = Some(self.first_sent.map_or(sent.sent_at, |at| at.min(sent.sent_at)));
        if !sent.retransmitted {
            self.lowest_original = Some(match self.lowest_original {
                Some(low) => low.min(sent.start),
                None => sent.start,
            });
        }
    }
}

/// All that is outstanding, in order of sequence and without gaps.
#[derive(Clone, Debug, Default)]
pub struct Scoreboard {
    ranges: VecDeque<Sent>,
    in_flight: usize,
    sacked: usize,
    sacked_segments: usize,
    lost: usize,
    /// No lost range starts before this one.
    lost_hint: Seq,
    retransmissions_out: usize,
    transmissions: u64,
    /// What is remembered with the next transmission.
    pub stamp: Stamp,
}

impl Scoreboard {
    /// Nothing is outstanding.
    pub const EMPTY: Scoreboard = Scoreboard {
        ranges: VecDeque::new(),
        in_flight: 0,
        sacked: 0,
        sacked_segments: 0,
        lost: 0,
        lost_hint: Seq(0),
        retransmissions_out: 0,
        transmissions: 0,
        stamp: Stamp::NEW,
    };

    /// Bytes that are on their way as far as is known (RFC 6675's pipe).
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Bytes that the peer reported by SACK.
    pub fn sacked(&self) -> usize {
        self.sacked
    }

    /// Bytes to be sent again.
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether loss detection has anything to compare: without SACKed or retransmitted ranges all is in order.
    pub fn is_in_order(&self) -> bool {
        self.sacked == 0 && self.retransmissions_out == 0
    }

    /// The ranges in order of sequence.
    #[cfg(test)]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Sent> + '_ {
        self.ranges.iter()
    }

    /// How many segments were reported by SACK.
    pub fn sacked_segments(&self) -> usize {
        self.sacked_segments
    }

    /// Bytes that were sent again and are on their way.
    pub fn retransmissions_out(&self) -> usize {
        self.retransmissions_out
    }

    /// When the first outstanding range was last sent.
    pub fn head_sent_at(&self) -> Option<Instant> {
        self.ranges.front().map(|front| front.sent_at)
    }

    /// New data went out.
    pub fn sent(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        self.in_flight += end.since(start);
        self.transmissions += 1;
        self.ranges.push_back(Sent {
            start,
            end,
            sent_at: now,
            order: self.transmissions,
            retransmitted: false,
            fate: Fate::InFlight,
            mss: u32::try_from(mss).unwrap_or(u32::MAX),
            stamp: self.stamp,
        });
    }

    fn discount(&mut self, sent: &Sent) {
        let counter = match sent.fate {
            Fate::InFlight => &mut self.in_flight,
            Fate::Sacked => &mut self.sacked,
            Fate::Lost => &mut self.lost,
        };
        *counter = counter.saturating_sub(sent.len());
        if sent.fate == Fate::Sacked {
            self.sacked_segments = self.sacked_segments.saturating_sub(sent.segments());
        }
        if sent.retransmitted && sent.fate == Fate::InFlight {
            self.retransmissions_out = self.retransmissions_out.saturating_sub(sent.len());
        }
    }

    fn count(&mut self, sent: &Sent) {
        match sent.fate {
            Fate::InFlight => self.in_flight += sent.len(),
            Fate::Sacked => {
                self.sacked += sent.len();
                self.sacked_segments += sent.segments();
            }
            Fate::Lost => self.lost += sent.len(),
        }
        if sent.retransmitted && sent.fate == Fate::InFlight {
            self.retransmissions_out += sent.len();
        }
    }

    /// Everything before `una` arrived.
    pub fn acknowledge(&mut self, una: Seq, delivery: &mut Delivery) {
        while let Some(front) = self.ranges.front().copied() {
            if front.start >= una {
                break;
            }
            let arrived = Sent { end: front.end.min(una), ..front };
            self.discount(&front);
            if front.fate != Fate::Sacked {
                delivery.add(&arrived);
            }
            self.ranges.pop_front();
            if front.end > una {
                let rest = Sent { start: una, ..front };
                self.count(&rest);
                self.ranges.push_front(rest);
            }
        }
    }

    fn index_at(&self, seq: Seq) -> usize {
        self.ranges.partition_point(|sent| sent.end <= seq)
    }

    /// Cuts the range at `index` after `len` bytes; the second part follows it.
    fn split(&mut self, index: usize, len: usize) {
        let Some(sent) = self.ranges.get_mut(index) else { return };
        if len == 0 || len >= sent.len() {
            return;
        }
        let middle = sent.start + len;
        let second = Sent { start: middle, ..*sent };
        sent.end = middle;
        self.ranges.insert(index + 1, second);
    }

    /// The peer has `[left, right)`. Ranges are cut only at multiples of `mss` from their start, so that a
    /// peer cannot make the scoreboard grow past a range for each segment.
    pub fn sack(&mut self, left: Seq, right: Seq, mss: usize, delivery: &mut Delivery) {
        let mut index = self.index_at(left);
        while let Some(sent) = self.ranges.get(index).copied() {
            if sent.start >= right {
                break;
            }
            if sent.fate == Fate::Sacked {
                index += 1;
                continue;
            }
            let skip = left.since(sent.start).div_ceil(mss) * mss;
            let keep = match right < sent.end {
                true => right.since(sent.start) / mss * mss,
                false => sent.len(),
            };
            if keep <= skip {
                index += 1;
                continue;
            }
            if skip > 0 {
                self.split(index, skip);
                index += 1;
            }
            self.split(index, keep - skip);
            self.set_fate(index, Fate::Sacked, |sent| delivery.add(sent));
            index += 1;
        }
    }

    fn set_fate(&mut self, index: usize, fate: Fate, then: impl FnOnce(&Sent)) {
        let Some(old) = self.ranges.get(index).copied() else { return };
        self.discount(&old);
        let new = Sent { fate, ..old };
        self.count(&new);
        if fate == Fate::Lost && (self.lost == new.len() || new.start < self.lost_hint) {
            self.lost_hint = new.start;
        }
        self.ranges[index] = new;
        then(&old);
    }

    /// Marks as lost whatever in flight `is_lost` says so of; returns the bytes. Stops where it says to.
    pub fn mark_lost(&mut self, mut is_lost: impl FnMut(&Sent) -> bool) -> usize {
        let before = self.lost;
        for index in 0..self.ranges.len() {
            let sent = self.ranges[index];
            if sent.fate == Fate::InFlight && is_lost(&sent) {
                self.set_fate(index, Fate::Lost, |_| {});
            }
        }
        self.lost - before
    }

    /// Marks the first segment as lost (a partial or the third duplicate acknowledgment without SACK).
    pub fn mark_head_lost(&mut self, mss: usize) -> usize {
        if self.ranges.front().is_none_or(|front| front.fate != Fate::InFlight) {
            return 0;
        }
        self.split(0, mss);
        let before = self.lost;
        self.set_fate(0, Fate::Lost, |_| {});
        self.lost - before
    }

    /// The timeout: what was not SACKed is taken for lost, but, where `patience` is given, what was sent within it. A peer
    /// that drops what it SACKed is found by the timeout of what is then first, so that its SACK is forgotten, too
    /// (RFC 2018 section 8).
    pub fn mark_timed_out(&mut self, now: Instant, patience: Option<Duration>) {
        let reneged = self.ranges.front().is_some_and(|front| front.fate == Fate::Sacked);
        for index in 0..self.ranges.len() {
            let sent = self.ranges[index];
            let recent = patience.is_some_and(|patience| sent.sent_at + patience > now);
            if reneged && sent.fate == Fate::Sacked
                || sent.fate == Fate::InFlight && (index == 0 || reneged || !recent)
            {
                self.set_fate(index, Fate::Lost, |_| {});
            }
        }
    }

    /// All that is outstanding is to be sent again.
    pub fn mark_all_lost(&mut self) {
        self.mark_timed_out(Instant::MAX, None);
    }

    /// What was taken for lost is on its way after all.
    pub fn unmark_lost(&mut self) {
        if self.lost == 0 {
            return;
        }
        for index in 0..self.ranges.len() {
            if self.ranges[index].fate == Fate::Lost {
                self.set_fate(index, Fate::InFlight, |_| {});
            }
        }
    }

    /// The first lost range.
    pub fn first_lost(&self) -> Option<Sent> {
        if self.lost == 0 {
            return None;
        }
        let from = self.index_at(self.lost_hint);
        self.ranges.range(from..).find(|sent| sent.fate == Fate::Lost).copied()
    }

    /// The last outstanding range, where it was not SACKed.
    pub fn last_unsacked(&self) -> Option<Sent> {
        self.ranges.iter().rev().find(|sent| sent.fate != Fate::Sacked).copied()
    }

    /// `len` bytes from `start`, which begins or lies in a range, went out again.
    pub fn retransmitted(&mut self, now: Instant, start: Seq, len: usize) {
        let mut index = self.index_at(start);
        let Some(sent) = self.ranges.get(index).copied() else { return };
        if start > sent.start {
            self.split(index, start.since(sent.start));
            index += 1;
        }
        self.split(index, len);
        let Some(old) = self.ranges.get(index).copied() else { return };
        self.discount(&old);
        self.transmissions += 1;
        let order = self.transmissions;
        let (fate, stamp) = (Fate::InFlight, self.stamp);
        let new = Sent { sent_at: now, order, retransmitted: true, fate, stamp, ..old };
        self.count(&new);
        self.ranges[index] = new;
        self.lost_hint = new.end;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Scoreboard::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 100;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn ten_segments() -> Scoreboard {
        let mut board = Scoreboard::default();
        for n in 0..10 {
            board.sent(at(n), Seq(0) + n as usize * MSS, Seq(0) + (n as usize + 1) * MSS, MSS);
        }
        board
    }

    #[test]
    fn sack_counts_each_byte_once() {
        let mut board = ten_segments();
        let mut delivery = Delivery::default();
        board.sack(Seq(200), Seq(400), MSS, &mut delivery);
        board.sack(Seq(200), Seq(500), MSS, &mut delivery);
        assert_eq!((delivery.bytes, board.sacked(), board.in_flight()), (300, 300, 700));
        let mut rest = Delivery::default();
        board.acknowledge(Seq(600), &mut rest);
        assert_eq!((rest.bytes, board.sacked(), board.in_flight()), (300, 0, 400));
        assert_eq!(rest.newest.map(|newest| newest.end), Some(Seq(600)));
    }

    #[test]
    fn lost_ranges_come_out_in_order_and_only_once() {
        let mut board = ten_segments();
        board.sack(Seq(900), Seq(1000), MSS, &mut Delivery::default());
        assert_eq!(board.mark_lost(|sent| sent.start < Seq(300)), 300);
        for start in [0, 100, 200] {
            let lost = board.first_lost().unwrap();
            assert_eq!(lost.start, Seq(start));
            board.retransmitted(at(30), lost.start, lost.len());
        }
        assert!(board.first_lost().is_none());
        assert_eq!((board.in_flight(), board.lost()), (900, 0));
        board.mark_all_lost();
        assert_eq!((board.in_flight(), board.lost(), board.sacked()), (0, 900, 100));
        assert_eq!(board.first_lost().unwrap().start, Seq(0));
    }

    #[test]
    fn a_large_range_is_cut_at_segment_borders_only() {
        let mut board = Scoreboard::default();
        board.sent(at(0), Seq(0), Seq(1000), MSS);
        board.sack(Seq(250), Seq(620), MSS, &mut Delivery::default());
        assert_eq!(board.sacked(), 300);
        assert_eq!(board.iter().count(), 3);
        (0..1000).for_each(|n| {
            board.sack(Seq(n), Seq(n + 1), MSS, &mut Delivery::default());
        });
        assert_eq!(board.iter().count(), 3);
    }

    #[test]
    fn a_partial_cumulative_acknowledgment_cuts_the_first_range() {
        let mut board = Scoreboard::default();
        board.sent(at(0), Seq(u32::MAX - 10), Seq(989), MSS);
        let mut delivery = Delivery::default();
        board.acknowledge(Seq(489), &mut delivery);
        assert_eq!((delivery.bytes, board.in_flight()), (500, 500));
        assert_eq!(delivery.rtt(at(3)), Some(Duration::from_millis(3)));
    }
}

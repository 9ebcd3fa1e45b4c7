//! The receiving half: in-order and out-of-order data, the window that is offered (RFC 9293 section 3.8.6.2.2,
//! never taken back), when to acknowledge, and the growth of the buffer with what the program reads.

use super::reassembly::{Inserted, Reassembly};
use super::segment::Segment;
use super::seq::Seq;
use crate::buffer::Chain;
use crate::time::{Duration, Instant};
use crate::wire::tcp::SackBlocks;

/// Linux's TCP_DELACK_MIN.
pub const DELAYED_ACK: Duration = Duration::from_millis(40);
/// Linux's TCP_MAX_QUICKACKS.
const QUICK_ACKS: u32 = 16;
/// Received pieces up to this length are copied together, so that small packets do not pin large slabs.
const COMPACT_BELOW: usize = 256;

/// Whether an acknowledgment is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckDue {
    /// No.
    No,
    /// At the latest then.
    At(Instant),
    /// At once.
    Now,
}

/// What became of a segment's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes that became readable.
    pub readable: usize,
    /// Whether the peer's FIN was reached.
    pub fin: bool,
    /// Whether some of it had come before.
    pub duplicate: bool,
    /// Whether it came out of order.
    pub out_of_order: bool,
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Receiver {
    /// The peer's initial sequence number.
    pub irs: Seq,
    /// RCV.NXT.
    pub nxt: Seq,
    /// The right edge of the window that was offered.
    pub edge: Seq,
    /// RCV.NXT as last acknowledged (Linux's rcv_wup).
    pub acked: Seq,
    /// Shift of the windows that we send.
    pub window_shift: u8,
    /// Bytes that may be held.
    pub capacity: usize,
    /// How far the capacity grows by itself; equal to it when the program set it.
    pub capacity_max: usize,
    /// The largest segment seen lately: what the peer sends.
    pub peer_mss: usize,
    /// What one segment on the wire can hold: a longer one is a train that the link has joined.
    pub mss_limit: usize,
    /// Whether an acknowledgment is owed.
    pub ack_due: AckDue,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    quick: u32,
    owed: usize,
    queue: Chain,
    reassembly: Reassembly,
    fin_at: Option<Seq>,
    finished: bool,
    duplicate: Option<(Seq, Seq)>,
    tuning_since: Instant,
    tuning_read: usize,
}

impl Receiver {
    /// A receiver before the peer's SYN.
    pub fn new(now: Instant, capacity: usize, capacity_max: usize) -> Receiver {
        Receiver {
            irs: Seq(0),
            nxt: Seq(0),
            edge: Seq(0),
            acked: Seq(0),
            window_shift: 0,
            capacity,
            capacity_max: capacity_max.max(capacity),
            peer_mss: 536,
            mss_limit: 536,
            ack_due: AckDue::No,
            bytes_received: 0,
            quick: QUICK_ACKS,
            owed: 0,
            queue: Chain::new(),
            reassembly: Reassembly::default(),
            fin_at: None,
            finished: false,
            duplicate: None,
            tuning_since: now,
            tuning_read: 0,
        }
    }

    /// The peer's SYN came.
    pub fn start(&mut self, irs: Seq) {
        self.irs = irs;
        self.nxt = irs + 1;
        self.acked = self.nxt;
        self.edge = self.nxt;
    }

    /// Bytes that can be read.
    pub fn readable(&self) -> usize {
        self.queue.len()
    }

    /// The readable bytes.
    pub fn queue(&self) -> &Chain {
        &self.queue
    }

    /// Whether the peer's FIN was reached.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes out of order.
    pub fn out_of_order(&self) -> usize {
        self.reassembly.len()
    }

    /// The offered window that is left.
    pub fn window(&self) -> usize {
        self.edge.since(self.nxt)
    }

    /// RFC 9293 section 3.10.7.4, table 6, in Linux's form: a segment is acceptable that ends at or after what
    /// was acknowledged and begins within the window or right at its edge.
    pub fn is_acceptable(&self, segment: &Segment) -> bool {
        segment.end() >= self.acked && segment.seq <= self.edge.max(self.nxt)
    }

    fn free(&self) -> usize {
        self.capacity.saturating_sub(self.queue.len() + self.reassembly.len())
    }

    /// The window field for a segment that goes out now; moves the edge. In a SYN the shift does not count.
    pub fn offer(&mut self, shift: u8) -> u16 {
        let window = self.next_window(shift);
        self.edge = self.nxt + window;
        (window >> shift).min(usize::from(u16::MAX)) as u16
    }

    fn next_window(&self, shift: u8) -> usize {
        let unit = 1usize << shift;
        let most = usize::from(u16::MAX) << shift;
        let free = (self.free() / unit * unit).min(most);
        let current = self.window();
        // "The receiver's SWS avoidance algorithm: advance the right edge only by at least
        // min(Fr * RCV.BUFF, Eff.snd.MSS)".
        let step = (self.capacity / 2).min(self.peer_mss);
        if free >= current + step { free } else { current.div_ceil(unit) * unit }.min(most)
    }

    /// Takes a segment's data and FIN, all of which the caller found acceptable.
    pub fn accept(&mut self, now: Instant, seq: Seq, data: Chain, fin: bool) -> Accepted {
        let mut accepted = Accepted::default();
        let end = seq + data.len();
        let full = data.len();
        let mut data = data;
        let mut start = seq;
        if start < self.nxt {
            let old = self.nxt.since(start).min(data.len());
            if old > 0 {
                self.note_duplicate(start, start + old);
                accepted.duplicate = true;
            }
            data.advance(old);
            start = self.nxt;
        }
        let room = self.edge.max(self.nxt).since(start);
        let cut = data.len() > room;
        data.truncate(room);
        if fin && !cut && self.fin_at.is_none() && end >= self.nxt {
            self.fin_at = Some(end);
        }
        if let Some(fin_at) = self.fin_at {
            // Data beyond the FIN is no data.
            data.truncate(fin_at.since(start));
        }
        if !data.is_empty() {
            if start == self.nxt {
                accepted.readable = self.take_in_order(data);
            } else {
                accepted.out_of_order = true;
                let (from, to) = (start, start + data.len());
                if self.reassembly.insert(start, data) == Inserted::Duplicate {
                    self.note_duplicate(from, to);
                    accepted.duplicate = true;
                }
            }
        }
        if self.fin_at == Some(self.nxt) && !self.finished {
            self.nxt += 1;
            self.finished = true;
            accepted.fin = true;
        }
        self.peer_mss = self.peer_mss.max(full.min(self.mss_limit));
        self.schedule_ack(now, full, &accepted);
        accepted
    }

    fn take_in_order(&mut self, data: Chain) -> usize {
        let before = self.nxt;
        self.append(data);
        while let Some(more) = self.reassembly.take_from(self.nxt) {
            self.append(more);
        }
        let readable = self.nxt.since(before);
        self.bytes_received += readable as u64;
        readable
    }

    fn append(&mut self, data: Chain) {
        self.nxt += data.len();
        if data.len() <= COMPACT_BELOW {
            data.iter().for_each(|bytes| self.queue.push_copy(bytes));
        } else {
            self.queue.append(data);
        }
    }

    fn note_duplicate(&mut self, from: Seq, to: Seq) {
        if self.duplicate.is_none() {
            self.duplicate = Some((from, to));
        }
    }

    fn schedule_ack(&mut self, now: Instant, len: usize, accepted: &Accepted) {
        // RFC 5681 section 4.2: "A TCP receiver SHOULD send an immediate ACK when it receives a segment that
        // fills in all or part of a gap, or is out of order"; RFC 9293: "at least every second full-sized segment".
        self.owed += len;
        if accepted.out_of_order || accepted.duplicate {
            // The sender is repairing losses with a small window: it must not wait for a delay.
            self.quick = QUICK_ACKS;
        }
        let hurry = accepted.out_of_order
            || accepted.duplicate
            || accepted.fin
            || accepted.readable > len
            || !self.reassembly.is_empty()
            || self.quick > 0
            || self.owed >= 2 * self.peer_mss;
        if hurry {
            self.ack_due = AckDue::Now;
        } else if len > 0 && self.ack_due == AckDue::No {
            self.ack_due = AckDue::At(now + DELAYED_ACK);
        }
    }

    /// An acknowledgment goes out; it may report up to `room` SACK blocks.
    pub fn acknowledged(&mut self, room: usize) -> SackBlocks {
        self.ack_due = AckDue::No;
        self.owed = 0;
        self.quick = self.quick.saturating_sub(1);
        self.acked = self.nxt;
        let mut blocks = SackBlocks::default();
        if let Some((from, to)) = self.duplicate.take().filter(|_| room > 0) {
            blocks.push(from.0, to.0);
        }
        self.reassembly.report(room, &mut blocks);
        blocks
    }

    /// Whether SACK blocks or a D-SACK wait to be told.
    pub fn has_blocks(&self) -> bool {
        self.duplicate.is_some() || !self.reassembly.is_empty()
    }

    /// Reports a segment that came again (RFC 2883) with an immediate acknowledgment.
    pub fn report_duplicate(&mut self, from: Seq, to: Seq) {
        if from < to && to <= self.nxt {
            self.note_duplicate(from, to);
        }
        self.ack_due = AckDue::Now;
    }

    /// The program answers what it reads: acknowledgments ride on its data from now on (Linux's pingpong).
    pub fn leave_quick_mode(&mut self) {
        self.quick = 0;
    }

    /// TCP_QUICKACK.
    pub fn enter_quick_mode(&mut self) {
        self.quick = QUICK_ACKS;
        if let AckDue::At(_) = self.ack_due {
            self.ack_due = AckDue::Now;
        }
    }

    /// Whether acknowledgments are sent at once.
    pub fn is_quick(&self) -> bool {
        self.quick > 0
    }

    /// The program read `n` bytes from the front.
    pub fn consume(&mut self, now: Instant, n: usize, rtt: Duration) {
        self.queue.advance(n);
        self.tune(now, n, rtt);
        // Linux's rule: tell of the window when it at least doubles.
        let current = self.window();
        let next = self.next_window(self.window_shift);
        if next > 0 && next >= 2 * current && next > current && !self.finished {
            self.ack_due = AckDue::Now;
        }
    }

    /// Dynamic right-sizing: a program that reads more than half a buffer in a round trip gets a larger one.
    fn tune(&mut self, now: Instant, read: usize, rtt: Duration) {
        self.tuning_read += read;
        if now.since(self.tuning_since) < rtt.max(Duration::from_micros(100)) {
            return;
        }
        let wanted = 2 * self.tuning_read + 16 * self.peer_mss;
        if wanted > self.capacity {
            self.capacity = wanted.min(self.capacity_max).max(self.capacity);
        }
        self.tuning_since = now;
        self.tuning_read = 0;
    }

    /// Nobody will read: drops what was received.
    pub fn discard(&mut self) {
        self.queue = Chain::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver() -> Receiver {
        let mut receiver = Receiver::new(Instant::ZERO, 100_000, 100_000);
        receiver.start(Seq(99));
        receiver.mss_limit = 1448;
        receiver.leave_quick_mode();
        receiver.offer(0);
        receiver
    }

    fn take(receiver: &mut Receiver, len: usize) -> AckDue {
        let seq = receiver.nxt;
        receiver.accept(Instant::ZERO, seq, Chain::from(vec![1; len]), false);
        receiver.ack_due
    }

    #[test]
    fn every_second_segment_is_acknowledged_at_once_and_one_alone_within_40_ms() {
        let mut receiver = receiver();
        assert_eq!(take(&mut receiver, 1448), AckDue::At(Instant::ZERO + DELAYED_ACK));
        assert_eq!(take(&mut receiver, 1448), AckDue::Now);
        receiver.acknowledged(3);
        assert_eq!(take(&mut receiver, 10), AckDue::At(Instant::ZERO + DELAYED_ACK));
    }

    #[test]
    fn a_train_that_the_link_joined_counts_as_its_segments() {
        let mut receiver = receiver();
        for _ in 0..3 {
            assert_eq!(take(&mut receiver, 14_480), AckDue::Now);
            receiver.acknowledged(3);
        }
    }

    #[test]
    fn the_window_never_shrinks_and_opens_in_large_steps() {
        let mut receiver = receiver();
        assert_eq!(receiver.offer(0), 65_535);
        take(&mut receiver, 60_000);
        assert_eq!(receiver.offer(0), 40_000);
        let edge = receiver.edge;
        // Rounding to the unit of a scaled window must not take anything back.
        receiver.offer(7);
        assert!(receiver.edge >= edge && receiver.edge.since(edge) < 128);
        receiver.consume(Instant::ZERO, 1000, Duration::ZERO);
        let small_step = receiver.edge;
        receiver.offer(0);
        assert_eq!(receiver.edge, small_step, "less than a segment is not worth telling");
        receiver.consume(Instant::ZERO, 50_000, Duration::ZERO);
        receiver.offer(0);
        assert!(receiver.edge.since(small_step) > 20_000);
    }
}
